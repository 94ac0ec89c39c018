"""What was read to tell one problem from another, kept so that microseconds tell whether all of it is as it was."""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import repeat
from operator import attrgetter, is_
from types import MethodType
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem

NO_PART = frozenset(("_abc_impl", "horizon", "spread", "start"))  # no kernel depends on these
_FIXED = (type(None), bool, int, float, complex, str, bytes, torch.dtype)
_ABSENT = object()  # what a name stands for that is not there
_NUMBERS = (np.ndarray, torch.Tensor, torch.nn.Parameter, gym.spaces.Box)
# What a class may define under such a name without being more than its attributes and functions.
_ORDINARY = frozenset(
    [
        "__module__",
        "__doc__",
        "__init__",
        "__annotations__",
        "__abstractmethods__",
        "__dict__",
        "__weakref__",
        "__qualname__",
        "__orig_bases__",
        "__parameters__",
        "__slotnames__",
        "__static_attributes__",
        "__firstlineno__",
    ]
)


class Snapshot:
    """All that a problem's functions read, as it was.

    What cannot change (a number, a name, a function's code) is compared by identity, which is cheap; what can (an
    array) by its content. Where anything was read of which neither tells all, such as an object with methods of its
    own, the snapshot is not `exact`, and says nothing.

    Args:
        problem: The problem, or its equal.
        key_of: Content as a key.
    """

    def __init__(self, problem: ControlProblem, key_of: Callable[[Any], Hashable]) -> None:
        self._kind, self._key_of = type(problem), key_of
        copy.copy(problem)  # the first copy leaves a note in the class, `__slotnames__`
        classes = [vars(kind) for kind in self._kind.__mro__ if kind not in (ABC, object)]
        self._classes = [(names, dict(names)) for names in classes]
        self.exact = all(_is_ordinary(names) for names in classes)
        self._own = vars(problem).keys() - NO_PART
        self._attributes: dict[str, tuple[Any, Hashable, bool]] = {}
        self._functions: dict[str, Any] = {}
        self._names: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}  # by the dictionary's identity: each once
        self._fields: dict[int, tuple[Callable[[Any], tuple[Any, ...]], Any, tuple[Any, ...]]] = {}
        self._content: list[tuple[Any, Hashable]] = []

    def add_attribute(self, name: str, value: Any, key: Hashable, *, fixed: bool = False) -> None:
        """Note an attribute of the problem that is no function, ``fixed`` where it is told by identity alone."""
        kept = True if fixed else _is_fixed(value)
        self._attributes[name] = value, key, bool(kept)
        self.exact = self.exact and kept is not None

    def add_function(self, name: str, own: Mapping[str, Any]) -> None:
        """Note a function that the problem has itself, not by its class."""
        if name in own:
            self._functions[name] = own[name]
            self.exact = self.exact and not isinstance(
                own[name], MethodType
            )  # bound to this problem, in its copies too

    def add_names(self, mapping: Mapping[str, Any], names: frozenset[str]) -> None:
        """Note what some names stand for in a dictionary, a module's globals, or that it does not have them."""
        if names:
            _, noted = self._names.setdefault(id(mapping), (mapping, {}))
            noted.update((name, mapping.get(name, _ABSENT)) for name in names)

    def add_fields(self, owner: Any, *names: str) -> None:
        """Note attributes of an object whose attributes are all that there is to it: a function, a cell."""
        look = attrgetter(*names, names[0])  # of two names at least it makes a tuple
        self._fields[id(owner)] = look, owner, look(owner)

    def add_value(self, value: Any, key: Hashable) -> None:
        """Note what a function reads beyond the problem."""
        fixed = _is_fixed(value)
        self.exact = self.exact and fixed is not None
        if not fixed:
            self._content.append((value, key))

    def is_of(self, problem: ControlProblem) -> bool:
        """Whether the problem's functions would read today what they read when this was made."""
        if not self.exact or type(problem) is not self._kind:
            return False
        own = vars(problem)
        try:
            return (
                own.keys() - NO_PART == self._own
                and all(now == before for now, before in self._classes)
                and all(own[name] is function for name, function in self._functions.items())
                and self._are_attributes_of(problem)
                and all(_are_same(look(owner), values) for look, owner, values in self._fields.values())
                and all(
                    _are_same(map(mapping.get, noted, repeat(_ABSENT)), noted.values())
                    for mapping, noted in self._names.values()
                )
                and all(self._key_of(value) == key for value, key in self._content)
            )
        except Exception:  # no longer there; or what cannot be compared, whatever that raises
            return False

    def _are_attributes_of(self, problem: ControlProblem) -> bool:
        for name, (before, key, fixed) in self._attributes.items():
            value = getattr(problem, name)
            if not (fixed and value is before) and self._key_of(value) != key:
                return False
        return True


def _are_same(now: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(map(is_, now, before))


def _is_fixed(value: Any) -> bool | None:
    """Return whether a value never changes; None where its content as numbers does not tell all of it."""
    kind = type(value)
    if kind in _FIXED or isinstance(value, np.generic):
        return True
    if kind in _NUMBERS:
        return False
    if kind not in (tuple, list, dict):
        return None
    parts = [_is_fixed(part) for part in (value.values() if kind is dict else value)]
    parts += [_is_fixed(part) for part in value] if kind is dict else []
    return None if None in parts else kind is tuple and all(parts)


def _is_ordinary(names: Mapping[str, Any]) -> bool:
    return all(name in _ORDINARY for name in names if name.startswith("__") and name.endswith("__"))
