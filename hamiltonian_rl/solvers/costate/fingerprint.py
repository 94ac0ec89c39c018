"""What a problem's functions depend on, as a key: two problems with the same key have the same kernels."""

from __future__ import annotations

import builtins
import dis
import types
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.snapshot import NO_PART, Snapshot

_FUNCTIONS = ("dynamics", "reward", "terminal_reward", "terminated", "constraints", "terminal_constraints")
_LIBRARIES = ("torch", "numpy", "gymnasium", "math", "builtins")  # taken not to change
_DEEPEST = 8  # objects in objects, functions that call functions
# Built-in functions whose result their arguments tell; not so `open`, `getattr`, `super`.
_PURE = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "complex",
        "dict",
        "enumerate",
        "float",
        "int",
        "isinstance",
        "len",
        "list",
        "map",
        "max",
        "min",
        "pow",
        "range",
        "reversed",
        "round",
        "slice",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    ]
)


@dataclass(frozen=True)
class Fingerprint:
    """A problem's key, and what it was made of.

    Attributes:
        key: The problem's class, all its numbers, and what its functions read beyond it: globals, closures, defaults,
            and the same of the functions that they call.
        snapshot: Tells in microseconds whether a problem would have the same key again, where it is exact.
    """

    key: Hashable
    snapshot: Snapshot


def fingerprint(problem: ControlProblem) -> Fingerprint | None:
    """Return what tells a problem from others; None where a number could hide: in an unknown kind, or too deep."""
    try:
        walk = _Walk(problem)
    except _Unknown:
        return None
    return Fingerprint(tuple(walk.parts), walk.snapshot)


class _Unknown(Exception):
    """A value that cannot be told from another."""


class _Walk:
    """Reads all that a problem's functions read, makes a key of it, and takes it down."""

    def __init__(self, problem: ControlProblem) -> None:
        self.problem, self.snapshot = problem, Snapshot(problem, _known)
        self.attributes: dict[str, Hashable] = {}
        for name, tensor in zip(problem.parameters, problem.parameter_tensors(), strict=True):
            # Told by where its numbers are: they are read at each call, so what they are does not matter.
            self.attributes[name] = ("parameter", tensor.data_ptr(), tuple(tensor.shape))
            self.snapshot.add_attribute(name, tensor, self.attributes[name], fixed=True)
        for name in dir(problem):
            if not name.startswith("__") and name not in NO_PART and name not in problem.parameters:
                self._read_attribute(name, getattr(problem, name))
        self.parts: list[Hashable] = [type(problem), *self.attributes.items()]
        self.parts += [self._read_by(getattr(problem, name), _DEEPEST, frozenset()) for name in _FUNCTIONS]

    def _read_attribute(self, name: str, value: Any) -> None:
        if isinstance(value, types.FunctionType | types.MethodType | types.BuiltinMethodType):
            self.snapshot.add_function(name, vars(self.problem))
            return
        inner = fingerprint(value) if isinstance(value, ControlProblem) else None
        known = _known(value) if inner is None else inner.key
        if known is None:
            raise _Unknown
        self.snapshot.add_attribute(name, value, known)
        self.attributes[name] = known

    def _read_by(self, function: Any, depth: int, seen: frozenset[int]) -> Hashable:
        """Return a key of a function's code and of what it reads: by name, so that a value may be there in vain."""
        owner, plain = getattr(function, "__self__", None), getattr(function, "__func__", function)
        code = getattr(plain, "__code__", None)
        if code is None:
            self.snapshot.exact = False
        if code is None or id(plain) in seen:
            return str(getattr(plain, "__qualname__", type(plain)))
        if depth == 0:
            raise _Unknown
        seen = seen | {id(plain)}
        names = _names_in(code)
        found = {name: plain.__globals__[name] for name in names if name in plain.__globals__}
        cells = list(zip(code.co_freevars, plain.__closure__ or (), strict=True))
        filled = {name: cell for name, cell in cells if _is_filled(cell)}
        found |= {name: cell.cell_contents for name, cell in filled.items()}
        found |= {f"default {i}": value for i, value in enumerate(plain.__defaults__ or ())}
        found |= plain.__kwdefaults__ or {}
        self.snapshot.add_fields(plain, "__code__", "__defaults__", "__kwdefaults__")
        self.snapshot.add_names(plain.__globals__, names)
        self.snapshot.add_names(plain.__kwdefaults__ or {}, frozenset(plain.__kwdefaults__ or ()))
        for cell in filled.values():
            self.snapshot.add_fields(cell, "cell_contents")
        self.snapshot.exact &= _reads_by_name(code) and len(filled) == len(cells) and not vars(plain)
        parts = [(name, self._key(value, names, depth - 1, seen)) for name, value in found.items()]
        if owner is self.problem:
            parts.append(("self", self._named_in(owner, names, depth - 1, seen)))
        elif owner is not None:
            parts.append(("self", self._key(owner, names, depth - 1, seen)))
        return (code, *parts)

    def _key(self, value: Any, names: frozenset[str], depth: int, seen: frozenset[int]) -> Hashable:
        """Return a key of a value that a function reads; of an object, of those attributes that the function names."""
        if isinstance(value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
            home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
            if (home or "builtins").split(".")[0] in _LIBRARIES:
                inside = getattr(value, "__self__", None)  # of a built-in method, the object that it reads
                self.snapshot.exact &= isinstance(inside, types.ModuleType | type | None)
                return value.__name__
        if isinstance(value, types.FunctionType | types.MethodType):
            return self._read_by(value, depth, seen)
        known = None if isinstance(value, type | types.ModuleType) else _known(value)
        if known is not None:
            self.snapshot.add_value(value, known)
            return known
        if isinstance(value, types.ModuleType):
            self.snapshot.add_names(vars(value), names)
        else:  # an object may do more than its attributes say; and a problem that is met here is not that of `self`
            self.snapshot.exact = False
        return self._named_in(value, names, depth, seen)

    def _named_in(self, value: Any, names: frozenset[str], depth: int, seen: frozenset[int]) -> Hashable:
        """Return a key of those attributes of an object that a function names."""
        named = isinstance(value, type | types.ModuleType)
        attributes = sorted(name for name in names if hasattr(value, name))
        if depth == 0 or not (attributes or named or isinstance(value, ControlProblem)):
            raise _Unknown
        own = self.attributes if value is self.problem else {}
        found = [
            (name, own[name] if name in own else self._key(getattr(value, name), names, depth - 1, seen))
            for name in attributes
        ]
        return (value if named else type(value), *found)


def _known(value: Any) -> Hashable | None:
    """Return a key of a value that is made of numbers; None of any other."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        return None if value.dtype == object else (value.shape, value.dtype, value.tobytes())
    if isinstance(value, gym.spaces.Box):
        return (value.low.tobytes(), value.high.tobytes(), value.dtype)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic | torch.dtype):
        return (type(value).__name__, repr(value))
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


@cache
def _reads_by_name(code: types.CodeType) -> bool:
    """Whether all that a function reads it reads by names that `_names_in` sees: no file, no import of its own."""
    for step in dis.get_instructions(code):
        name = str(step.argval)
        if step.opname == "IMPORT_NAME" and name.split(".")[0] not in _LIBRARIES:
            return False
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and hasattr(builtins, name) and name not in _PURE:
            return False
    return all(_reads_by_name(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))
