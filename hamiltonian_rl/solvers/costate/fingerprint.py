"""What a problem's functions depend on, as a key: two problems with the same key have the same kernels."""

from __future__ import annotations

import types
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem

_FUNCTIONS = ("dynamics", "reward", "terminal_reward", "terminated", "constraints", "terminal_constraints")
_NO_PART = ("_abc_impl", "horizon", "spread", "start")  # no kernel depends on these
_LIBRARIES = ("torch", "numpy", "gymnasium", "math", "builtins")  # taken not to change
_DEEPEST = 8  # objects in objects, functions that call functions


def fingerprint(problem: ControlProblem) -> Hashable | None:
    """Return the problem's class, all its numbers, and what its functions read beyond it.

    That is globals, closures, defaults, and the same of the functions that they call.

    Returns:
        None where a number could hide from it: an attribute of an unknown kind, or what is nested too deep.
    """
    parts: list[Hashable] = [type(problem)]
    for name in dir(problem):
        if name.startswith("__") or name in _NO_PART:
            continue
        value = getattr(problem, name)
        if isinstance(value, types.FunctionType | types.MethodType | types.BuiltinMethodType):
            continue
        known = fingerprint(value) if isinstance(value, ControlProblem) else _known(value)
        if known is None:
            return None
        parts.append((name, known))
    try:
        parts += [_read_by(getattr(problem, name), _DEEPEST, frozenset()) for name in _FUNCTIONS]
    except _Unknown:
        return None
    return tuple(parts)


class _Unknown(Exception):
    """A value that cannot be told from another."""


def _known(value: Any) -> Hashable | None:
    """Return a key of a value that is made of numbers; None of any other."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic | torch.dtype):
        return (type(value).__name__, repr(value))
    if isinstance(value, np.ndarray | torch.Tensor):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return None if array.dtype == object else (array.shape, str(array.dtype), array.tobytes())
    if isinstance(value, gym.spaces.Box):
        return (value.low.tobytes(), value.high.tobytes(), str(value.dtype))
    if isinstance(value, torch.nn.Module):
        value = [type(value).__name__, repr(value), value.training, *value.state_dict().values()]
    if is_dataclass(value) and not isinstance(value, type):
        value = [type(value).__name__, *(getattr(value, field.name) for field in fields(value))]
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item]
    if isinstance(value, tuple | list):
        parts = tuple(_known(part) for part in value)
        return None if any(part is None for part in parts) else (type(value).__name__, *parts)
    return None


def _read_by(function: Any, depth: int, seen: frozenset[int]) -> Hashable:
    """Return a key of a function's code and of what it reads: by name, so that a value may be there in vain."""
    owner, plain = getattr(function, "__self__", None), getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    if code is None or id(plain) in seen:
        return str(getattr(plain, "__qualname__", type(plain)))
    if depth == 0:
        raise _Unknown
    seen = seen | {id(plain)}
    names = _names_in(code)
    found = {name: plain.__globals__[name] for name in names if name in plain.__globals__}
    cells = zip(code.co_freevars, plain.__closure__ or (), strict=True)
    found |= {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    found |= {f"default {i}": value for i, value in enumerate(plain.__defaults__ or ())}
    found |= plain.__kwdefaults__ or {}
    if owner is not None:
        found["self"] = owner
    return (code, *((name, _key(value, names, depth - 1, seen)) for name, value in found.items()))


def _key(value: Any, names: frozenset[str], depth: int, seen: frozenset[int]) -> Hashable:
    """Return a key of a value that a function reads; of an object, of those attributes that the function names."""
    if isinstance(value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
        home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
        if (home or "builtins").split(".")[0] in _LIBRARIES:
            return value.__name__
    if isinstance(value, types.FunctionType | types.MethodType):
        return _read_by(value, depth, seen)
    named = isinstance(value, type | types.ModuleType)
    known = None if named else _known(value)
    if known is not None:
        return known
    attributes = sorted(name for name in names if hasattr(value, name))
    if depth == 0 or not (attributes or named or isinstance(value, ControlProblem)):
        raise _Unknown
    kind = value if named else type(value)
    return (kind, *((name, _key(getattr(value, name), names, depth - 1, seen)) for name in attributes))


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


@cache
def _names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names of globals and attributes in a function, and in the functions that it defines."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return frozenset(names)
