"""The state of a live object as plain data, and back, in place.

An environment (or a Stable-Baselines3 model) is a graph of objects whose changing state sits in
attributes: numbers, arrays, tensors, random generators. `capture` walks the graph and writes that state
down; `restore` walks a like graph, made by the same constructor, and puts it back. What cannot be written
down (a window, a physics engine's memory) is left alone; whether that matters is for the caller to try.

No object of a class named in the data is ever made, so restoring runs no code that the data could choose.
"""

from __future__ import annotations

import random
import sys
import types
from collections import deque
from typing import Any

import numpy as np

from hamiltonian_rl.tracking.checkpoint import Tree

OPAQUE = "opaque"
NOT_STATE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
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
    misfits: list[str] = []
    _restored(obj, tree, misfits, "")
    return not misfits


def capture_global_generators() -> Tree:
    """Return the state of the generators that a whole process shares: Python's, NumPy's, torch's."""
    import torch

    tree = {
        "python": _capture(random._inst, {}),  # type: ignore[attr-defined]
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy(),
    }
    if torch.cuda.is_available():
        tree["cuda"] = [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return tree


def restore_global_generators(tree: Any) -> None:
    """Put back what `capture_global_generators` returned."""
    import torch

    _restored(random._inst, tree["python"], [], "")
    np.random.set_state(tree["numpy"])  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(tree["torch"]))
    if "cuda" in tree and torch.cuda.device_count() == len(tree["cuda"]):
        torch.cuda.set_rng_state_all([torch.from_numpy(state) for state in tree["cuda"]])


def _capture(value: Any, seen: dict[int, Any]) -> Tree:
    if value is None or isinstance(value, bool | int | float | str):
        return {"is": value}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": value.copy()} if value.dtype.kind in "biuf" else OPAQUE
    if isinstance(value, NOT_STATE) or id(value) in seen:
        return OPAQUE
    seen[id(value)] = value  # the reference also keeps the id from being given to another object
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {"generator": value.get_state(legacy=False)}
    if isinstance(value, random.Random):
        version, internal, gauss = value.getstate()
        return {"random": [version, list(internal), gauss]}
    if (found := _capture_torch(value)) is not None:
        return found
    if isinstance(value, list | tuple | deque):
        return {"items": [_capture(item, seen) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_capture(key, {}), _capture(item, seen)] for key, item in value.items()]}
    if isinstance(getattr(value, "__dict__", None), dict):
        attributes = {name: item for name, item in vars(value).items() if name not in SKIPPED_NAMES}
        return {"object": {name: _capture(item, seen) for name, item in attributes.items()}}
    return OPAQUE


def _capture_torch(value: Any) -> Tree:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().cpu().numpy().copy()}
    if isinstance(value, torch.Generator):
        return {"tensor": value.get_state().numpy()}
    if isinstance(value, torch.optim.Optimizer):
        return {"optimizer": _capture(value.state_dict(), {})}
    return None


def _restored(current: Any, tree: Tree, misfits: list[str], where: str) -> Any:
    """Return what should stand where ``current`` stands; objects are changed in place."""
    if tree == OPAQUE:
        return current
    ((kind, data),) = tree.items()
    if kind == "is":
        return data
    if kind == "array":
        if isinstance(current, np.ndarray) and current.flags.writeable and _alike(current, data):
            current[...] = data  # in place: other objects may look at the same memory
            return current
        return data
    if kind == "generator":
        return _restored_generator(current, data)
    if kind == "random" and isinstance(current, random.Random):
        current.setstate((data[0], tuple(data[1]), data[2]))
        return current
    if kind in ("tensor", "optimizer"):
        return _restored_torch(current, kind, data, misfits, where)
    if kind == "items":
        return _restored_items(current, data, misfits, where)
    if kind == "dict" and isinstance(current, dict | None):
        return _restored_dict(current, data, misfits, where)
    if kind == "object" and isinstance(getattr(current, "__dict__", None), dict):
        attributes = vars(current)
        for name, item in data.items():
            if item == OPAQUE:
                continue
            attributes[name] = _restored(attributes.get(name), item, misfits, f"{where}.{name}")
        return current
    misfits.append(where)
    return current


def _alike(one: np.ndarray, other: Any) -> bool:
    return isinstance(other, np.ndarray) and one.shape == other.shape and one.dtype == other.dtype


def _restored_generator(current: Any, state: Any) -> Any:
    if isinstance(current, np.random.RandomState):
        current.set_state(state)
        return current
    if not isinstance(current, np.random.Generator):
        current = np.random.Generator(BIT_GENERATORS[state["bit_generator"]]())
    current.bit_generator.state = state
    return current


def _restored_items(current: Any, data: Any, misfits: list[str], where: str) -> Any:
    known = list(current) if isinstance(current, list | tuple | deque) else []
    known += [None] * (len(data) - len(known))
    items = [
        _restored(old, item, misfits, f"{where}[{index}]")
        for index, (old, item) in enumerate(zip(known, data, strict=False))
    ]
    if isinstance(current, list):
        current[:] = items
        return current
    if isinstance(current, deque):
        current.clear()
        current.extend(items)
        return current
    if hasattr(current, "_fields"):  # a named tuple
        return type(current)(*items)
    return tuple(items) if isinstance(current, tuple) else items


def _restored_dict(current: Any, data: Any, misfits: list[str], where: str) -> Any:
    known = {} if current is None else current
    pairs = [(_restored(None, key, misfits, where), item) for key, item in data if key != OPAQUE]
    restored = {
        key: _restored(known.get(key), item, misfits, f"{where}[{key!r}]")
        for key, item in pairs
        if item != OPAQUE or key in known
    }
    if len(pairs) == len(data):  # with keys that could not be written down, nothing may be removed
        known.clear()
    known.update(restored)
    return known


def _restored_torch(current: Any, kind: str, data: Any, misfits: list[str], where: str) -> Any:
    import torch

    if kind == "optimizer" and isinstance(current, torch.optim.Optimizer):
        current.load_state_dict(_restored(None, data, misfits, where))
    elif isinstance(current, torch.Generator):
        current.set_state(torch.from_numpy(data))
    elif isinstance(current, torch.Tensor) and tuple(current.shape) == data.shape:
        with torch.no_grad():
            current.copy_(torch.from_numpy(data))
    elif current is None:
        return torch.from_numpy(data)
    else:
        misfits.append(where)
    return current
