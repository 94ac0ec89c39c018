"""Compiled kernels are kept: the same problem, with the same numbers in it, is compiled once in a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.kernels import FORWARD, compile_kernels
from hamiltonian_rl.tracing.vector_code import LANES, Library

MOST = 64  # problems kept
_NO_PART = ("_abc_impl", "horizon", "spread", "start")  # no kernel depends on these
_kept: OrderedDict[Hashable, Library] = OrderedDict()


def kernels_of(problem: ControlProblem) -> Library:
    """Return the compiled kernels of a problem, from before if there is nothing that could have changed.

    Raises:
        UntracedOperation: The problem's functions perform an operation that has no expression.
    """
    key = _fingerprint(problem)
    if key is None:
        return compile_kernels(problem)
    library = _kept.get(key)
    if library is None or not _still_true(library, problem):
        library = compile_kernels(problem)
    _kept[key] = library
    _kept.move_to_end(key)
    while len(_kept) > MOST:
        _kept.popitem(last=False)
    return library


def _fingerprint(problem: ControlProblem) -> Hashable | None:
    """Return the problem's class and all its numbers; None where an attribute is of a kind that could hide some."""
    parts: list[Hashable] = [type(problem)]
    for name in dir(problem):
        if name.startswith("__") or name in _NO_PART:
            continue
        value = getattr(problem, name)
        if callable(value) and not isinstance(value, torch.Tensor | np.ndarray):
            continue
        known = _hashed(value)
        if known is None:
            return None
        parts.append((name, known))
    return tuple(parts)


def _hashed(value: Any) -> Hashable | None:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return (type(value).__name__, repr(value))
    if isinstance(value, np.ndarray | torch.Tensor):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return None if array.dtype == object else (array.shape, str(array.dtype), array.tobytes())
    if isinstance(value, gym.spaces.Box):
        return (value.low.tobytes(), value.high.tobytes(), str(value.dtype))
    if isinstance(value, tuple | list):
        parts = tuple(_hashed(part) for part in value)
        return None if any(part is None for part in parts) else (type(value).__name__, *parts)
    if isinstance(value, ControlProblem):
        return _fingerprint(value)
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), _hashed([getattr(value, part.name) for part in fields(value)]))
    return None


def _still_true(library: Library, problem: ControlProblem) -> bool:
    """Whether kept kernels and the problem agree at a point: a global that its functions read may have changed."""
    augmented = Augmented(problem)
    n, m, constraints = augmented.sizes
    generator = np.random.default_rng(0)
    state, action = generator.uniform(0.1, 0.5, n), generator.uniform(0.1, 0.5, m)
    action = np.clip(action, problem.action_space.low, problem.action_space.high)  # type: ignore[union-attr]
    given = {"s": state, "path": state, "a": action, "step": [1.0], "weights": np.ones(constraints), "penalty": [1.0]}
    sizes = {"d": m, "K": m * n, "size": 1, "sums": 2, "barrier": 1, "below": m, "above": m}
    blocks = [np.asarray(given.get(name, np.zeros(sizes.get(name, 0)))) for name in FORWARD]
    made = library("box_forward", [np.repeat(block[:, None], LANES, axis=1) for block in blocks])
    with torch.no_grad():
        next_state, reward = augmented.step(
            torch.as_tensor(state[None]),
            torch.as_tensor(action[None]),
            1,
            torch.ones(1, constraints, dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
        )
        ends = augmented.end_sizes[2]
        end = augmented.end(
            torch.as_tensor(state[None]), torch.ones(1, ends, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        )
    terminal = [np.repeat(block[:, None], LANES, axis=1) for block in (state, np.ones(ends), np.ones(1))]
    want = np.concatenate([next_state[0].numpy(), reward.numpy(), end.numpy()])
    got = np.concatenate([made[1][:, 0], made[4][0, :1], library("terminal", terminal)[0][0, :1]])
    return bool(np.allclose(got, want, rtol=1e-9, atol=1e-12, equal_nan=True))
