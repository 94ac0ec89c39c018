"""The relaxation: weights instead of counts, a convex problem whose dual bounds every design from below.

Minimise ``φ(S_0 + Σ wᵢ xᵢxᵢᵀ)`` over ``0 <= w <= w_max``, ``Σ w = n``. Of whatever weights, with the slope ``B`` there
and ``c = tr(B S_0) + max_v Σ vᵢ xᵢᵀB xᵢ`` over the same weights v, which sorting finds,

* ``tr(S⁻¹M) >= tr(S_w⁻¹M)² / c`` for every S that there is: ``tr(S⁻¹M) + t tr(BS) >= 2 √t tr(M^½BM^½)^½`` and t chosen,
* ``det(S)^(-1/p) >= det(S_w)^(-1/p) p / c``, by the means of the eigenvalues of ``S_w⁻¹S``.

The bound is certified: it holds for weights however far from the best. At the best it equals the criterion there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.design.search import Progress, Search
from hamiltonian_rl.design.task import DesignTask

ROUNDING = 1e-10  # relative; taken off the bound
MOST_ROUNDS = 60
ADDED = 2000  # candidates of the largest slope that come to those worked with, at once


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Weights, and the bound that they certify.

    Attributes:
        weights: Shape ``(N,)``, n in total.
        value: The criterion of the weights.
        lower_bound: No design of the task is below it.
        slopes: ``xᵢᵀB xᵢ`` of every candidate, shape ``(N,)``.
    """

    weights: np.ndarray
    value: float
    lower_bound: float
    slopes: np.ndarray


def relax(task: DesignTask, rows: np.ndarray, tol: float, progress: Progress) -> Relaxed:
    """Improve weights from a design until value and bound are within ``tol`` of each other, relatively.

    Of many candidates a few are worked with: those in use and those of the largest slopes; the bound asks all.

    Args:
        task: With all candidates.
        rows: A design to begin with, shape ``(n,)``.
        tol: Relative gap.
        progress: Is told how it goes.
    """
    weights = np.bincount(rows, minlength=task.columns.shape[1]).astype(float)
    everywhere, best, last = Search(task), None, np.inf
    for number in range(MOST_ROUNDS):
        found = certify(everywhere, weights)
        if best is None or found.lower_bound > best.lower_bound:
            best = found
        gap = 1.0 - best.lower_bound / found.value
        progress(f"round {number + 1} of the bound: {gap:.1e} apart")
        if gap <= tol or (number > 5 and gap > 0.999 * last):
            break
        last = gap
        weights = _improved(task, found)
    assert best is not None
    return Relaxed(found.weights, found.value, best.lower_bound, best.slopes)


def certify(search: Search, weights: np.ndarray) -> Relaxed:
    """Return weights with the bound that they certify."""
    task = search.task
    search.prepare(weights)
    slopes, p = search.b.copy(), len(search.slope)
    value = task.value(weights)
    if task.repeat:
        reachable = task.n_rows * slopes.max()
    else:
        reachable = np.partition(slopes, len(slopes) - task.n_rows)[len(slopes) - task.n_rows :].sum()
    largest = float((search.slope * task.fixed).sum() + reachable)
    own = p if task.criterion == "D" else value / task.scale
    return Relaxed(weights.copy(), value, value * own / largest * (1.0 - ROUNDING), slopes)


def _improved(task: DesignTask, found: Relaxed) -> np.ndarray:
    """Return better weights, moved among those in use and those of the largest slopes."""
    used, count = np.flatnonzero(found.weights), len(found.weights)
    some = max(ADDED, 4 * task.n_rows)
    steepest = np.argpartition(found.slopes, count - some)[count - some :] if count > some else np.arange(count)
    working = np.union1d(used, steepest)
    part = task if len(working) == count else task.among(working)
    search, weights = Search(part), found.weights[working]
    search.prepare(weights)
    search.move(weights, 4 * (task.n_rows + len(task.target) ** 2))
    weights *= task.n_rows / weights.sum()  # rounding of many moves
    improved = np.zeros(count)
    improved[working] = np.minimum(weights, task.most)
    return improved
