"""The largest mean reward a step inside each end component, by relative value iteration.

With ``d = max_a (r + P h) - h`` on a component, ``min d <= g* <= max d`` for any h, and the greedy policy's mean
is ``min d`` at the least. Half steps ``h <- h + d / 2`` bring both together: they break every period.

Reference:
    Puterman (2005), "Markov decision processes", sections 8.5 and 9.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.loops import Progress
from hamiltonian_rl.solvers.row_process import RowProcess


@dataclass(frozen=True, eq=False)
class Gains:
    """Bounds on the largest mean reward of each component.

    Attributes:
        lower: What the policy attains, one number a component.
        upper: What no policy exceeds, one number a component.
        row: The policy's row of each state, -1 outside of the components, shape ``(S,)``.
        iterations: Sweeps.
        status: Whether the bounds were enough.
    """

    lower: np.ndarray
    upper: np.ndarray
    row: np.ndarray
    iterations: int
    status: Status


@np.errstate(under="ignore")
def component_gains(
    process: RowProcess,
    label: np.ndarray,
    inside: np.ndarray,
    enough: Callable[[np.ndarray, np.ndarray], bool],
    *,
    max_iterations: int,
    progress: Progress | None = None,
) -> Gains:
    """Sweep the components until the bounds on their gains are enough.

    Args:
        process: The process.
        label: Component of each state, -1 for none, shape ``(S,)``.
        inside: Rows inside the components, boolean ``(R,)``.
        enough: Says from the lower and the upper bounds whether they are.
        max_iterations: Sweeps at the most.
        progress: Called after each sweep with their number and the largest distance of the bounds.
    """
    part, states = process.restricted(inside)
    component = label[states]
    order = np.argsort(component, kind="stable")
    begin = np.searchsorted(component[order], np.arange(component.max() + 1))
    bias = np.zeros(len(states))

    def certify() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        best, chosen = part.best(part.q(bias))
        gain = best - bias
        rounding = part.rounding(bias)
        lower = np.minimum.reduceat(gain[order], begin) - rounding
        upper = np.maximum.reduceat(gain[order], begin) + rounding
        return lower, upper, gain, chosen, rounding

    iterations, status = 0, Status.MAX_ITERATIONS
    try:
        while True:
            lower, upper, gain, chosen, rounding = certify()
            apart = float((upper - lower).max())
            if progress is not None:
                progress(iterations, apart)
            if enough(lower, upper):
                status = Status.CONVERGED
            elif apart <= 4.0 * rounding:
                status = Status.STAGNATED
            if status is not Status.MAX_ITERATIONS or iterations >= max_iterations:
                break
            moved = bias + 0.5 * gain
            bias = moved - moved[order[begin]][component]
            iterations += 1
    except KeyboardInterrupt:
        lower, upper, _, chosen, _ = certify()  # any bias does
        status = Status.INTERRUPTED
    row = np.full(process.n_states, -1)
    row[states] = part.source[chosen]
    return Gains(lower, upper, row, iterations, status)
