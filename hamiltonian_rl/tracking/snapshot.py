"""The state of a live object as plain data, and back, in place.

An environment (or a Stable-Baselines3 model) is a graph of objects whose changing state sits in
attributes: numbers, arrays, tensors, random generators. `capture` walks the graph and writes that state
down; `restore` walks a like graph, made by the same constructor, and puts it back. What cannot be written
down (a window, a physics engine's memory) is left alone; whether that matters is for the caller to try.

No object of a class named in the data is ever made, so restoring runs no code that the data could choose.
"""

from __future__ import annotations

import enum
import random
import sys
import types
from collections import deque
from typing import Any

import numpy as np

from hamiltonian_rl.tracking.checkpoint import Tree

OPAQUE = "opaque"
NOT_STATE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
# Values without an identity that matters: one may take the other's place.
PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic, list, tuple, deque)
# Attributes that are not state of the process: how it was made, where it reports to, what is made anew
# at each use (SB3's distributions, its table of class members).
SKIPPED_NAMES = frozenset(
    {"spec", "_cached_spec", "metadata", "logger", "_logger", "tensorboard_log", "action_dist", "class_attributes"}
)
BIT_GENERATORS = {kind.__name__: kind for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox)}


def capture(obj: Any) -> Tree:
    """Return the state of ``obj`` and of all that it holds, as a tree for `write_checkpoint`.

    Example:
        >>> class Counter:
        ...     def __init__(self):
        ...         self.count = 0
        >>> one, other = Counter(), Counter()
        >>> one.count = 5
        >>> restore(other, capture(one)), other.count
        (True, 5)
    """
    return _capture(obj, {})


def restore(obj: Any, tree: Tree) -> bool:
    """Put a captured state back into a like object; return whether all of it found its place.

    Args:
        obj: Made by the same constructor with the same arguments as the captured one.
        tree: What `capture` returned.
    """
    restorer = _Restorer()
    restorer.restored(obj, tree)
    return not restorer.misfit


def capture_global_generators() -> Tree:
    """Return the state of the generators that a whole process shares: Python's, NumPy's, torch's."""
    import torch

    tree = {
        "python": capture(random._inst),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy(),
    }
    if torch.cuda.is_available():
        tree["cuda"] = [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return tree


def restore_global_generators(tree: Any) -> None:
    """Put back what `capture_global_generators` returned."""
    import torch

    restore(random._inst, tree["python"])
    np.random.set_state(tree["numpy"])  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(tree["torch"]))
    if "cuda" in tree and torch.cuda.device_count() == len(tree["cuda"]):
        torch.cuda.set_rng_state_all([torch.from_numpy(state) for state in tree["cuda"]])


def _capture(value: Any, seen: dict[int, tuple[int, Any]]) -> Tree:
    """Return the tree of a value; what was met before is a reference to the first meeting."""
    if type(value) in (bool, int, float, str, type(None)):
        return {"is": value}
    if isinstance(value, enum.Enum):
        return {"member": value.name}
    if isinstance(value, np.generic):
        return {"array": value} if _is_storable(value.dtype) else OPAQUE
    if isinstance(value, NOT_STATE):
        return OPAQUE
    if isinstance(value, tuple) and not value:  # Python has only one: it is shared by chance
        return {"tuple": []}
    if id(value) in seen:
        return {"same": seen[id(value)][0]}
    seen[id(value)] = (len(seen), value)  # the reference also keeps the id from being given to another object
    found = _capture_new(value, seen)
    return found if found == OPAQUE else {**found, "number": seen[id(value)][0]}


def _capture_new(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.copy()} if _is_storable(value.dtype) else OPAQUE
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {"random_state": value.get_state(legacy=False)}
    if isinstance(value, random.Random):
        version, internal, gauss = value.getstate()
        return {"random": [version, list(internal), gauss]}
    if (found := _capture_torch(value)) is not None:
        return found
    if isinstance(value, tuple):
        return {"tuple": [_capture(item, seen) for item in value]}
    if isinstance(value, deque):
        return {"deque": {"items": [_capture(item, seen) for item in value], "maxlen": value.maxlen}}
    if isinstance(value, list):
        return {"list": [_capture(item, seen) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_capture(key, {}), _capture(item, seen)] for key, item in value.items()]}
    if isinstance(getattr(value, "__dict__", None), dict):
        attributes = {name: item for name, item in vars(value).items() if name not in SKIPPED_NAMES}
        return {"object": {name: _capture(item, seen) for name, item in attributes.items()}}
    return OPAQUE


def _is_storable(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _capture_torch(value: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        return {"tensor": tensor.numpy().copy()} if tensor.dtype != torch.bfloat16 else OPAQUE
    if isinstance(value, torch.Generator):
        return {"torch_generator": value.get_state().numpy()}
    if isinstance(value, torch.optim.Optimizer):
        return {"optimizer": {"kind": type(value).__name__, "state": capture(value.state_dict())}}
    return None


class _Misfit(Exception):
    """The data do not fit what stands in their place."""


class _Restorer:
    """Walks a tree and a live object side by side.

    Attributes:
        misfit: Something found no place.
    """

    def __init__(self) -> None:
        self.misfit = False
        self._met: dict[int, Any] = {}

    def restored(self, current: Any, tree: Tree) -> Any:
        """Return what should stand where ``current`` stands; objects are changed in place."""
        if tree == OPAQUE:
            return current
        kind, data = next(iter(tree.items()))
        if kind == "same":
            return self._met.get(data, current)
        try:
            result = getattr(self, f"_{kind}")(current, data, tree.get("number"))
        except (_Misfit, TypeError, ValueError, KeyError, RuntimeError, AttributeError, OverflowError):
            self.misfit = True
            return current
        if "number" in tree:
            self._met[tree["number"]] = result
        return result

    def _is(self, current: Any, data: Any, number: int | None) -> Any:
        return data

    def _member(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, enum.Enum):
            raise _Misfit
        return type(current)[data]

    def _array(self, current: Any, data: Any, number: int | None) -> Any:
        if isinstance(current, np.ndarray) and isinstance(data, np.ndarray):
            if current.flags.writeable and current.shape == data.shape and current.dtype == data.dtype:
                current[...] = data  # in place: other objects may look at the same memory
                return current
        elif not isinstance(current, PLAIN):
            raise _Misfit
        return data.copy()

    def _generator(self, current: Any, data: Any, number: int | None) -> Any:
        kind = data["bit_generator"]
        if current is None:
            current = np.random.Generator(BIT_GENERATORS[kind]())
        if not isinstance(current, np.random.Generator) or type(current.bit_generator).__name__ != kind:
            raise _Misfit
        current.bit_generator.state = data
        return current

    def _random_state(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, np.random.RandomState):
            raise _Misfit
        current.set_state(data)
        return current

    def _random(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, random.Random):
            raise _Misfit
        current.setstate((data[0], tuple(data[1]), data[2]))
        return current

    def _tuple(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, PLAIN):
            raise _Misfit
        items = self._items(current if isinstance(current, tuple) else (), data)
        named: Any = type(current) if hasattr(current, "_fields") else None
        return tuple(items) if named is None else named(*items)

    def _list(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, PLAIN):
            raise _Misfit
        return self._refilled(current if isinstance(current, list) else [], data, number)

    def _deque(self, current: Any, data: Any, number: int | None) -> Any:
        if not isinstance(current, PLAIN):
            raise _Misfit
        if not isinstance(current, deque) or current.maxlen != data["maxlen"]:
            current = deque(maxlen=data["maxlen"])
        return self._refilled(current, data["items"], number)

    def _refilled(self, current: Any, data: Any, number: int | None) -> Any:
        self._note(number, current)
        items = self._items(current, data)
        current.clear()
        current.extend(items)
        return current

    def _items(self, current: Any, data: Any) -> list[Any]:
        known = [*current, *[None] * len(data)]
        return [self.restored(old, item) for old, item in zip(known, data, strict=False)]

    def _dict(self, current: Any, data: Any, number: int | None) -> Any:
        if current is None:
            current = {}
        if not isinstance(current, dict):
            raise _Misfit
        self._note(number, current)
        pairs = [(_Restorer().restored(None, key), item) for key, item in data if key != OPAQUE]
        restored = {
            key: self.restored(current.get(key), item) for key, item in pairs if item != OPAQUE or key in current
        }
        if len(pairs) == len(data):  # with keys that could not be written down, nothing may be removed
            current.clear()
        current.update(restored)
        return current

    def _object(self, current: Any, data: Any, number: int | None) -> Any:
        attributes = getattr(current, "__dict__", None)
        if not isinstance(attributes, dict) or isinstance(current, NOT_STATE):
            raise _Misfit
        self._note(number, current)
        for name, item in data.items():
            if item != OPAQUE:
                attributes[name] = self.restored(attributes.get(name), item)
        return current

    def _note(self, number: int | None, current: Any) -> None:
        """Note what stands in a place before what it holds is visited, which may refer back to it."""
        if number is not None:
            self._met[number] = current

    def _tensor(self, current: Any, data: Any, number: int | None) -> Any:
        import torch

        if current is None:
            return torch.from_numpy(data.copy())
        if not isinstance(current, torch.Tensor) or tuple(current.shape) != data.shape:
            raise _Misfit
        with torch.no_grad():
            current.copy_(torch.from_numpy(data))
        return current

    def _torch_generator(self, current: Any, data: Any, number: int | None) -> Any:
        import torch

        if not isinstance(current, torch.Generator):
            raise _Misfit
        current.set_state(torch.from_numpy(data))
        return current

    def _optimizer(self, current: Any, data: Any, number: int | None) -> Any:
        import torch

        if not isinstance(current, torch.optim.Optimizer) or type(current).__name__ != data["kind"]:
            raise _Misfit
        state = _Restorer().restored(None, data["state"])
        params = [param for group in current.param_groups for param in group["params"]]
        for index, values in state["state"].items():
            for value in values.values():
                if isinstance(value, torch.Tensor) and value.ndim and value.shape != params[index].shape:
                    raise _Misfit
        current.load_state_dict(state)
        return current
