"""The Lagrangian side (Eq. 22-32): parameter estimation and the optimizers that fall out of it.

Notation: ``θ`` params, ``P`` their number, ``ℓ`` log-likelihood *per observation*, ``g = ∇ℓ``, ``F`` Fisher information
per observation, ``J = -E[∇²ℓ]``, ``K = E[g gᵀ]``, expectations over the data.

`adam_step` asks for no torch, which takes seconds to load; the others are loaded when they are named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hamiltonian_rl.principles.lagrangian.adam import adam_step

if TYPE_CHECKING:
    from hamiltonian_rl.principles.lagrangian.euler_lagrange import (
        field_residual,
        information_residual,
        lagrangian,
        particle_residual,
    )
    from hamiltonian_rl.principles.lagrangian.fisher import (
        cramer_rao_bound,
        curvature,
        fisher_information,
        outer_information,
        unexplained,
    )
    from hamiltonian_rl.principles.lagrangian.legendre import kinetic_hamiltonian, legendre_transform
    from hamiltonian_rl.principles.lagrangian.matrices import inverse_root, matrix_power, matrix_rank
    from hamiltonian_rl.principles.lagrangian.structured import Fisher
    from hamiltonian_rl.principles.lagrangian.white_test import InformationTest, information_test

_MODULES = ("euler_lagrange", "fisher", "legendre", "matrices", "structured", "white_test")

__all__ = [
    "Fisher",
    "InformationTest",
    "adam_step",
    "cramer_rao_bound",
    "curvature",
    "field_residual",
    "fisher_information",
    "information_residual",
    "information_test",
    "inverse_root",
    "kinetic_hamiltonian",
    "lagrangian",
    "legendre_transform",
    "matrix_power",
    "matrix_rank",
    "outer_information",
    "particle_residual",
    "unexplained",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
