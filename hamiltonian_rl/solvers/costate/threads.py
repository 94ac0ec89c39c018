"""Initial states shared among threads, each of which goes the whole way with its own: no phase waits for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.path_solution import ARRAYS, PATH_ARRAYS, PathSolution
from hamiltonian_rl.tracing.vector_code import LANES
from hamiltonian_rl.trajectory import Trajectory

SHARES, FEWEST = 4, 8 * LANES  # a thread has so many, of no fewer states: what one's slow paths take the next makes up


def in_threads(solve: Callable[[slice], PathSolution], count: int, threads: int) -> PathSolution:
    """Return the solution for all states, every thread having solved its share of them.

    Args:
        solve: For the states of a slice.
        count: Of the states.
        threads: No more than there are eights of states are begun.
    """
    threads = min(threads, -(-count // LANES))
    if threads == 1:
        return solve(slice(None))
    number = max(threads, min(SHARES * threads, count // FEWEST))
    shares = [slice(first, None, number) for first in range(number)]  # not blocks: neighbours are alike, all hard
    with ThreadPoolExecutor(threads) as pool:
        return _joined(list(pool.map(solve, shares)), shares, pool)


def _joined(parts: Sequence[PathSolution], shares: Sequence[slice], pool: ThreadPoolExecutor) -> PathSolution:
    """Return the solutions for some states each as one, the arrays put together by the threads of a pool."""
    runs = max(len(part.from_all_starts) for part in parts)
    # Mirrored starts are tried as long as one share's paths need them: the others' places hold the path before.
    by_run = [[part.from_all_starts[min(i, len(part.from_all_starts) - 1)] for part in parts] for i in range(runs)]
    groups, names = [parts, *by_run], [*ARRAYS, *(f"trajectory.{name}" for name in PATH_ARRAYS)]

    def whole(group: Sequence[PathSolution], name: str) -> np.ndarray:
        pieces = [attrgetter(name)(part) for part in group]
        array = np.empty((sum(map(len, pieces)), *pieces[0].shape[1:]), pieces[0].dtype)
        for share, piece in zip(shares, pieces, strict=True):
            array[share] = piece
        return array

    asked = [(group, name) for group in groups for name in names]
    arrays = iter(pool.map(whole, *zip(*asked, strict=True)))
    best, *each = (_with_arrays(group, shares, {name: next(arrays) for name in names}) for group in groups)
    return replace(best, from_all_starts=each)


def _with_arrays(group: Sequence[PathSolution], shares: Sequence[slice], arrays: dict[str, Any]) -> PathSolution:
    """Return one solution of the joined arrays of several."""
    status = list(group[0].status[:1]) * len(arrays["residual"])
    for share, part in zip(shares, group, strict=True):
        status[share] = part.status
    return replace(
        group[0],
        trajectory=Trajectory(**{name: arrays.pop(f"trajectory.{name}") for name in PATH_ARRAYS}),
        status=status,
        from_all_starts=[],
        **arrays,
    )
