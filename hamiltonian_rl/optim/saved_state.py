"""Whether a saved state is that of this optimizer: found out before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim.options import DEFAULTS, check_options

Groups = list[dict[str, Any]]


def check_saved(saved: Any, groups: Groups, units: list[list[list[Tensor]]], owner: str, length: str) -> None:
    """Say why a state cannot be loaded.

    Args:
        saved: What `state_dict` returned, or what came in its place.
        groups: Of the optimizer.
        units: For each group the parameters that share a Fisher matrix; the state stands with the first of each.
        owner: Class of the optimizer.
        length: What it calls a group's ``lr``.

    Raises:
        UsageError: It is another optimizer's, of another structure, or of other parameters.

    Example:
        >>> import torch
        >>> from hamiltonian_rl.optim import FisherRoot
        >>> param = torch.nn.Parameter(torch.zeros(2))
        >>> state = torch.optim.SGD([param]).state_dict()
        >>> check_saved(state, FisherRoot([param]).param_groups, [[[param]]], "FisherRoot", "lr")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: FisherRoot: the state is another optimizer's: a group of it lacks "str ...
    """
    if not isinstance(saved, Mapping) or not {"param_groups", "state"} <= saved.keys():
        raise UsageError(f"{owner}: the state is {type(saved).__name__}; expected what state_dict() returned.")
    found = saved["param_groups"]
    if [len(group["params"]) for group in found] != [len(group["params"]) for group in groups]:
        raise UsageError(
            f"{owner}: the state is of groups of {_sizes(found)} parameters, the optimizer of {_sizes(groups)}. Make "
            "it of the same groups."
        )
    for group, here in zip(found, groups, strict=True):
        _check_options_of(group, here, owner, length)
    names = [name for group in found for name in group["params"]]
    params = [param for group in groups for param in group["params"]]
    name_of = dict(zip(params, names, strict=True))
    for group, parts in zip(groups, units, strict=True):
        for unit in parts:
            state = saved["state"].get(name_of[unit[0]], {})
            _check_shape(state, unit, group["structure"], owner)


def _check_options_of(group: dict[str, Any], here: dict[str, Any], owner: str, length: str) -> None:
    lacking = [name for name in ("structure", "refresh", "corrected", "mass") if (name in group) != (name in here)]
    if lacking:
        has = "has" if lacking[0] in group else "lacks"
        raise UsageError(
            f'{owner}: the state is another optimizer\'s: a group of it {has} "{lacking[0]}". Load it into one of the '
            "class that saved it."
        )
    if group["structure"] != here["structure"]:
        raise UsageError(
            f'{owner}: the state is of structure "{group["structure"]}", the optimizer of "{here["structure"]}". Make '
            "it with that."
        )
    missing = [name for name in ("lr", *DEFAULTS) if name not in group]
    if missing:
        raise UsageError(f'{owner}: the state lacks "{missing[0]}" in a group. Was it altered?')
    check_options(group, owner, length)


def _check_shape(state: Mapping[str, Any], unit: list[Tensor], structure: str, owner: str) -> None:
    """Refuse the Fisher information of a parameter of another shape."""
    size = sum(param.numel() for param in unit)
    if structure == "kronecker":
        rows = len(unit[0]) if unit[0].ndim else 1
        name, shape = "eigenvalues", torch.Size((rows, size // max(rows, 1)))
    else:
        name, shape = "fisher", unit[0].shape if structure == "diagonal" else torch.Size((size, size))
    found = state.get(name)
    if found is not None and tuple(found.shape) != tuple(shape):
        raise UsageError(
            f"{owner}: the state holds {name} of shape {tuple(found.shape)} where parameters of shapes "
            f"{[tuple(param.shape) for param in unit]} need {tuple(shape)}. It is of another model."
        )


def _sizes(groups: Groups) -> str:
    return ", ".join(str(len(group["params"])) for group in groups) or "no"
