"""Initial states shared among threads, each of which goes the whole way with its own: no phase waits for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.path_solution import ARRAYS, PATH_ARRAYS, PathSolution, overwrite
from hamiltonian_rl.tracing.vector_code import LANES
from hamiltonian_rl.trajectory import Trajectory


def in_threads(
    solve: Callable[[np.ndarray, list[Trajectory]], PathSolution],
    states: np.ndarray,
    firsts: list[Trajectory],
    threads: int,
) -> PathSolution:
    """Return the solution for all states, every thread having solved its share of them.

    Args:
        solve: From initial states and the first paths of each start.
        states: ``(B, n)``.
        firsts: Of every start.
        threads: No more than there are eights of states are begun.
    """
    threads = min(threads, -(-len(states) // LANES))
    if threads == 1:
        return solve(states, firsts)
    shares = [slice(first, None, threads) for first in range(threads)]  # not blocks: neighbours are alike, all hard
    whole: list[PathSolution] = []
    lock = Lock()

    def solve_share(share: slice) -> PathSolution:
        part = solve(np.ascontiguousarray(states[share]), [_share_of(first, share) for first in firsts])
        with lock:
            if not whole:
                whole.append(_empty(part, len(states)))
        overwrite(whole[0], share, part)
        return part

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(solve_share, shares))
    return replace(whole[0], from_all_starts=_JoinedRuns(parts, shares))


def _share_of(path: Trajectory, share: slice) -> Trajectory:
    """Return the first paths of a share; they have no costates yet."""
    arrays = path.states, path.actions, path.rewards, path.value
    return Trajectory(*(np.ascontiguousarray(array[share]) for array in arrays))


class _JoinedRuns(Sequence[PathSolution]):
    """The paths of every start, put together when they are asked for: most callers want the best ones alone.

    Mirrored starts are tried as long as one share's paths need them: the others' places hold the path before.
    """

    def __init__(self, parts: Sequence[PathSolution], shares: Sequence[slice]) -> None:
        self._runs, self._shares = [part.from_all_starts for part in parts], shares
        self._joined: dict[int, PathSolution] = {}

    def __len__(self) -> int:
        return max(map(len, self._runs))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._joined:
            parts = [runs[min(place, len(runs) - 1)] for runs in self._runs]
            self._joined[place] = _empty(parts[0], sum(len(part.status) for part in parts))
            for share, part in zip(self._shares, parts, strict=True):
                overwrite(self._joined[place], share, part)
        return self._joined[place]


def _empty(part: PathSolution, count: int) -> PathSolution:
    """Return a solution for so many states, to be filled: its arrays are like those of a part."""

    def empty(array: np.ndarray) -> Any:
        return np.empty((count, *array.shape[1:]), array.dtype)

    return replace(
        part,
        trajectory=Trajectory(**{name: empty(getattr(part.trajectory, name)) for name in PATH_ARRAYS}),
        status=list(part.status[:1]) * count,
        from_all_starts=[],
        **{name: empty(getattr(part, name)) for name in ARRAYS},
    )
