"""The search: greedy starts, swaps of single rows to a local optimum, and weights moved between candidates.

A `Search` holds the inverse information matrix and the two quadratic forms of every candidate that the kernels carry
along with each change; they are computed anew before each pass, so that rounding does not add up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hamiltonian_rl.design import kernels
from hamiltonian_rl.design.task import DesignTask

START_RIDGE = 0.1  # rows' worth of every direction, while the first rows are chosen
REPAIR_RIDGE = 1e-3  # the same, while a design that is singular is repaired
WORK_PER_CALL = 2e8  # multiplications between two looks at the keyboard
MOST_PASSES = 200
TOGETHER = 128  # rows for which all candidates are looked at together
TOLERANCE = 1e-10  # relative gain that a swap has to bring
LARGEST_CONDITION = 1e12
Progress = Callable[[str], None]


class Search:
    """A design of a task, and what is needed to change it.

    Attributes:
        counts: How often each candidate is in the design, or its weight, shape ``(N,)``.
    """

    def __init__(self, task: DesignTask) -> None:
        self.task, self.is_d = task, task.criterion == "D"
        p, n_candidates = task.columns.shape
        self.a, self.b = np.empty(n_candidates), np.empty(n_candidates)
        self.inverse, self.slope = np.empty((p, p)), np.empty((p, p))

    def prepare(self, counts: np.ndarray, ridge: float = 0.0) -> float:
        """Compute all that belongs to a design, with a ridge; return the criterion that swaps improve, or ``log det``.

        A design that is singular is infinite, and nothing is computed.
        """
        information = self.task.information(counts) + ridge * np.eye(len(self.inverse))
        spectrum, vectors = np.linalg.eigh(information)
        if not spectrum[0] * LARGEST_CONDITION > spectrum[-1]:
            return np.inf
        self.inverse[:] = (vectors / spectrum) @ vectors.T
        self.slope[:] = self.inverse if self.is_d else self.inverse @ self.task.target @ self.inverse
        kernels.quadratic_forms(self.task.columns, self.inverse, self.a)
        if self.is_d:
            self.b[:] = self.a
            return -float(np.log(spectrum).sum())
        kernels.quadratic_forms(self.task.columns, self.slope, self.b)
        return float((self.inverse * self.task.target).sum())

    def greedy(self, some: np.ndarray) -> np.ndarray:
        """Add rows to some, each time the best one, until there are n; return all, shape ``(n,)``."""
        if len(some) == self.task.n_rows:
            return some
        counts = np.bincount(some, minlength=len(self.a))
        self.prepare(counts, START_RIDGE)
        added = np.empty(self.task.n_rows - len(some), np.int64)
        task = self.task
        kernels.add_rows(task.columns, self.a, self.b, counts, task.most, self.is_d, self.inverse, self.slope, added)
        return np.concatenate([some, added])

    def exchange(self, rows: np.ndarray, progress: Progress) -> tuple[np.ndarray, float, bool]:
        """Swap rows until no swap of one improves; return rows, the criterion as given, and whether that was reached.

        A singular design is repaired with a ridge first.
        """
        rows = rows.copy()
        counts = np.bincount(rows, minlength=len(self.a))
        settled = self._passes(rows, counts, 0.0, progress)
        if settled is None:
            self._passes(rows, counts, REPAIR_RIDGE, progress)
            settled = self._passes(rows, counts, 0.0, progress)
        return rows, self.task.value(counts), bool(settled)

    def better(self, rows: np.ndarray, progress: Progress) -> np.ndarray:
        """Return the candidates for which rows would best be swapped, one at a time; none where no swap improves."""
        counts = np.bincount(rows, minlength=len(self.a))
        value, task, found = self.prepare(counts), self.task, []
        tol = TOLERANCE if self.is_d else TOLERANCE * value
        for start in range(0, len(rows), TOGETHER):
            progress(f"a look at all candidates, row {start + 1} of {len(rows)}")
            some = rows[start : start + TOGETHER]
            there, gains = kernels.best_swaps(
                task.columns, self.a, self.b, counts, task.most, self.is_d, self.inverse, self.slope, some
            )
            found.append(there[gains > tol])
        return np.unique(np.concatenate(found))

    def _passes(self, rows: np.ndarray, counts: np.ndarray, ridge: float, progress: Progress) -> bool | None:
        """Pass over the rows until none is swapped, in place; return whether that was reached, None if singular."""
        task, at_once = self.task, max(1, int(WORK_PER_CALL / self.task.columns.size / 4))
        for number in range(MOST_PASSES):
            value, swaps = self.prepare(counts, ridge), 0
            if not np.isfinite(value):
                return None
            tol = TOLERANCE if self.is_d else TOLERANCE * value
            for start in range(0, len(rows), at_once):
                stop = min(start + at_once, len(rows))
                progress(f"pass {number + 1} of swaps, row {start + 1} of {len(rows)}")
                swaps += kernels.swap_rows(
                    *(task.columns, self.a, self.b, counts, task.most, self.is_d),
                    *(self.inverse, self.slope, rows, start, stop, tol),
                )
            if swaps == 0:
                return True
        return False

    def move(self, weights: np.ndarray, moves: int) -> int:
        """Move weights between candidates, in place, after `prepare`; return how often."""
        task = self.task
        made = kernels.move_weights(
            *(task.columns, self.a, self.b, weights, float(task.most), self.is_d, self.inverse, self.slope, moves)
        )
        return int(made)
