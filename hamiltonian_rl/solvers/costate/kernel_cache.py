"""Compiled kernels are kept: the same problem, with the same numbers in it, is compiled once in a process."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.fingerprint import fingerprint
from hamiltonian_rl.solvers.costate.kernels import FORWARD, compile_kernels
from hamiltonian_rl.solvers.costate.kinks import Kinks
from hamiltonian_rl.solvers.costate.snapshot import Snapshot
from hamiltonian_rl.tracing.vector_code import LANES, Library

MOST = 64  # problems kept


@dataclass(frozen=True)
class Compiled:
    """A problem's kernels, and what is known of the problem.

    Attributes:
        library: The kernels.
        constraints: How many, of a step and of the end.
        kinks: Where its functions are not smooth.
        checked: Pairs of horizon and number of states that the problem's functions have been tried with.
    """

    library: Library
    constraints: tuple[int, int]
    kinks: Kinks
    checked: set[tuple[int | None, int]] = field(default_factory=set)


@dataclass
class _Kept:
    compiled: Compiled
    snapshot: Snapshot


# By key, the latest last. No OrderedDict: one that is gone through hashes every key anew, and these are long.
_kept: dict[Hashable, _Kept] = {}


def unchanged(problem: ControlProblem) -> Compiled | None:
    """Return what was compiled of a problem if a look at all that it reads shows that nothing has changed."""
    for kept in reversed([*_kept.values()]):
        if kept.snapshot.is_of(problem):
            return kept.compiled
    return None


def compiled(problem: ControlProblem) -> Compiled:
    """Return the compiled kernels of a problem, from before if there is nothing that could have changed.

    Raises:
        UntracedOperation: The problem's functions perform an operation that has no expression.
    """
    found = fingerprint(problem)
    if found is None:
        return _compile(problem)
    kept = _kept.pop(found.key, None)
    if kept is None or not _still_true(kept.compiled.library, problem):
        kept = _Kept(_compile(problem), found.snapshot)
    kept.snapshot = found.snapshot
    _kept[found.key] = kept
    while len(_kept) > MOST:
        del _kept[next(iter(_kept))]
    return kept.compiled


def _compile(problem: ControlProblem) -> Compiled:
    augmented = Augmented(problem)
    return Compiled(compile_kernels(problem), (augmented.sizes[2], augmented.end_sizes[2]), Kinks(problem))


def _still_true(library: Library, problem: ControlProblem) -> bool:
    """Whether kept kernels and the problem agree at some points, should its fingerprint have overlooked a number."""
    augmented = Augmented(problem)
    n, m, constraints = augmented.sizes
    ends = augmented.end_sizes[2]
    generator = np.random.default_rng(0)
    state, action = (_drawn(space, generator) for space in (problem.state_space, problem.action_space))
    one = np.ones((1, LANES))
    given = {"s": state, "path": state, "a": action, "step": one, "weights": np.ones((constraints, LANES))}
    sizes = {"d": m, "K": m * n, "size": 1, "sums": 2, "barrier": 1, "below": m, "above": m, "penalty": 1}
    blocks = [given[name] if name in given else np.zeros((sizes[name], LANES)) for name in FORWARD]
    blocks[FORWARD.index("penalty")] = one
    made = library("box_forward", blocks)
    ended = library("terminal", [state, np.ones((ends, LANES)), one])
    here, there, weight = torch.as_tensor(state.T.copy()), torch.as_tensor(action.T.copy()), torch.ones(LANES).double()
    with torch.no_grad():
        next_state, reward = augmented.step(here, there, 1, torch.ones(LANES, constraints).double(), weight)
        end = augmented.end(here, torch.ones(LANES, ends).double(), weight)
    want = torch.cat([next_state, reward[:, None], end[:, None]], -1).numpy().T
    got = np.concatenate([made[1], made[4], ended[0]])
    return bool(np.allclose(got, want, rtol=1e-9, atol=1e-9, equal_nan=True))


def _drawn(space: Any, generator: np.random.Generator) -> np.ndarray:
    """Draw a point of the space for each lane, within 10 of zero; the first is near zero."""
    low, high = (np.clip(bound, -10.0, 10.0).astype(np.float64) for bound in (space.low, space.high))
    points = generator.uniform(low, high, (LANES, *low.shape))
    points[0] = np.clip(generator.uniform(0.1, 0.5, low.shape), low, high)
    return points.T
