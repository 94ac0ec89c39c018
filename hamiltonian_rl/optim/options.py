"""The options that `FisherRoot` and `LeastAction` share, and what is asked of an option, a group and its parameters."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from hamiltonian_rl.errors import UsageError, did_you_mean

STRUCTURES = ("dense", "block", "kronecker", "diagonal")
ALIKE = 0.85  # of a key of a group, from where on it is a misspelt option and no note of the user's own
Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class Options(TypedDict, total=False):
    """What follows the step's length, its structure and its Fisher information; see `hamiltonian_rl.optim.LeastAction`.

    Example:
        >>> options: Options = {"betas": (0.0, 0.99), "refresh": 20}
        >>> completed(options, "FisherRoot")["weight_decay"]
        0.0
    """

    betas: tuple[float, float]
    eps: float | None
    weight_decay: float
    bias_correction: bool
    refresh: int
    corrected: bool
    maximize: bool
    foreach: bool


DEFAULTS: Options = {
    "betas": (0.9, 0.95),
    "eps": None,
    "weight_decay": 0.0,
    "bias_correction": True,
    "refresh": 10,
    "corrected": True,
    "maximize": False,
    "foreach": True,
}
FLAGS = ("bias_correction", "corrected", "maximize", "foreach")


def completed(options: Options, owner: str) -> dict[str, Any]:
    """Return the options with the defaults of those that are not given.

    Raises:
        UsageError: There is no such option.

    Example:
        >>> completed({"refersh": 3}, "FisherRoot")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: FisherRoot has no option "refersh". Did you mean "refresh"?
    """
    for name in options:
        if name not in DEFAULTS:
            raise UsageError(f'{owner} has no option "{name}". {did_you_mean(name, DEFAULTS)}')
    return {**DEFAULTS, **options}


def listed(params: Any) -> list[Any]:
    """Return the parameters, named ones, or groups as a list.

    Raises:
        UsageError: They are no iterable of any, or empty.

    Example:
        >>> len(listed(torch.nn.Linear(2, 3).parameters()))
        2
    """
    if isinstance(params, Tensor | str | bytes | Mapping) or not isinstance(params, Iterable):
        raise UsageError(
            f"params is {type(params).__name__}; expected an iterable of tensors or of groups, such as "
            "model.parameters()."
        )
    found = list(params)
    if not found:
        raise UsageError("params is empty; expected one tensor at least, such as those of model.parameters().")
    return found


def check_tensors(params: Any, owner: str) -> None:
    """Say what is wrong with the parameters of a group.

    Raises:
        UsageError: One is no tensor of real floating-point numbers, or there are none.

    Example:
        >>> check_tensors([torch.zeros(2, dtype=torch.complex64)], "FisherRoot")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: FisherRoot: params[0], of shape (2,), is of torch.complex64; expected ...
    """
    for place, given in enumerate([params] if isinstance(params, Tensor) else listed(params)):
        param = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if not isinstance(param, Tensor):
            raise UsageError(f"{owner}: params[{place}] is {type(param).__name__}; expected a tensor.")
        if not param.is_floating_point():
            raise UsageError(
                f"{owner}: params[{place}], of shape {tuple(param.shape)}, is of {param.dtype}; expected real "
                "floating-point numbers. Write complex ones as their two parts (torch.view_as_real)."
            )


def check_options(group: Mapping[str, Any], owner: str, length: str) -> None:
    """Say what is wrong with a group's options.

    Args:
        group: A group with all its options.
        owner: Class of the optimizer, for messages.
        length: What the class calls a group's ``lr``.

    Raises:
        UsageError: One is of another type, or out of its range.

    Example:
        >>> group = {**DEFAULTS, "structure": "block", "lr": 0.1, "eps": 0.01, "betas": 0.9}
        >>> check_options(group, "FisherRoot", "lr")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: FisherRoot: betas is 0.9; expected two numbers in [0, 1), such as (0.9 ...
    """
    _check_structure(group["structure"], owner)
    for name in ("lr", "eps", "weight_decay"):
        if not (_is_number(group[name]) and 0.0 <= float(group[name]) < math.inf):
            named = f"{length} (lr of a group)" if name == "lr" and length != "lr" else name
            raise UsageError(f"{owner}: {named} is {group[name]!r}; expected a finite number, 0 or more.")
    if "mass" in group and not (_is_number(group["mass"]) and 0.0 < float(group["mass"]) < math.inf):
        raise UsageError(f"{owner}: mass is {group['mass']!r}; expected a finite positive number.")
    betas = group["betas"]
    if not (
        isinstance(betas, tuple | list)
        and len(betas) == 2
        and all(_is_number(beta) and 0.0 <= float(beta) < 1.0 for beta in betas)
    ):
        raise UsageError(f"{owner}: betas is {betas!r}; expected two numbers in [0, 1), such as (0.9, 0.95).")
    if not is_whole(group["refresh"]):
        raise UsageError(f"{owner}: refresh is {group['refresh']!r}; expected a whole number of at least 1.")
    for name in FLAGS:
        if not isinstance(group[name], bool):
            raise UsageError(f"{owner}: {name} is {group[name]!r}; expected True or False.")


def check_keys(group: Mapping[str, Any], known: Iterable[str], owner: str) -> None:
    """Refuse what a group says of an option that would be passed over in silence; notes of one's own may stay.

    Raises:
        UsageError: A key is a misspelt option, or LeastAction's ``dt``, which a group calls ``lr``.

    Example:
        >>> check_keys({"params": [], "name": "head", "beta": (0.9, 0.9)}, ["betas"], "FisherRoot")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: FisherRoot: a group has "beta", which is no option. Did you mean "betas"?
    """
    options = tuple(known)
    for key in (key for key in group if key not in options and key not in ("params", "param_names")):
        near = ["lr"] if key == "dt" else difflib.get_close_matches(str(key), options, 1, ALIKE)
        if near:
            raise UsageError(f'{owner}: a group has "{key}", which is no option. Did you mean "{near[0]}"?')


def is_whole(value: Any) -> bool:
    """Return whether the value is a whole number of at least 1; True is none.

    Example:
        >>> is_whole(3), is_whole(0), is_whole(1.5), is_whole(True)
        (True, False, False, False)
    """
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= 1


def _check_structure(structure: Any, owner: str) -> None:
    if not isinstance(structure, str):
        raise UsageError(f"{owner}: structure is {structure!r}; expected one of {', '.join(STRUCTURES)}.")
    if structure not in STRUCTURES:
        raise UsageError(f'{owner} has no structure "{structure}". {did_you_mean(structure, STRUCTURES)}')


def _is_number(value: Any) -> bool:
    """Return whether the value is one real number, be it a tensor's; True and False are none."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.dtype != torch.bool and not value.is_complex()
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
