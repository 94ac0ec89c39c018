"""What a solver returns: the answer, the bounds that certify it, and whether it is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from hamiltonian_rl.errors import SolverError


class Status(Enum):
    """How a solver ended; each member is a sentence that says what to do."""

    CONVERGED = "The bounds are as close as was asked for."
    STAGNATED = (
        "Rounding of double precision keeps the bounds apart; they hold, and no further sweep brings them closer. "
        "Raise tol, lower the discount, or scale the rewards down."
    )
    MAX_ITERATIONS = (
        "The iterations were used up before the bounds were as close as was asked for; the bounds hold. "
        "Raise max_iterations or tol, or take another method."
    )
    INEXACT = (
        "The method ended with an answer less exact than was asked for; the bounds hold. Raise tol, or take another "
        "method."
    )
    UNCERTIFIED = (
        "Done as was asked, without a certificate: the iterates came to rest or all steps were taken, but no bound of "
        "the error is known. Compare with more points."
    )
    UNSETTLED = (
        "The iterates do not come to rest, or lie beyond what rewards can add up to, as can happen where a sweep need "
        "not contract; the best is returned. Raise tol, or take multilinear interpolation or more points."
    )
    DIVERGED = (
        "The iterates grew a hundred times beyond what rewards can add up to; what is returned is no solution. Take "
        "multilinear interpolation or more points."
    )
    INTERRUPTED = (
        "Interrupted; the bounds hold. Where the method takes initial_value, value given to it goes on from here."
    )


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal value between certified bounds, with a policy and its certified loss.

    A bound that nothing certifies is infinite.

    Attributes:
        value: Estimate of V* between the bounds, shape ``(S,)``.
        lower: ``lower <= V_π <= V*`` for the returned policy π, shape ``(S,)``.
        upper: ``V* <= upper``, shape ``(S,)``.
        policy: An action a state, shape ``(S,)``; with a horizon N one a step and state, ``(N, S)``.
        iterations: Sweeps over all states, or steps of the method where it does not sweep.
        status: How the solver ended.
        method: Name of the solver.
        reason: Why it was taken, half a sentence, where `solve` took it.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray
    iterations: int
    status: Status
    method: str
    reason: str = ""

    @property
    def converged(self) -> bool:
        """Whether the solver reached what it was asked for; certified or, where its method has no bounds, not."""
        return self.status in (Status.CONVERGED, Status.UNCERTIFIED)

    @property
    def gap(self) -> float:
        """Largest distance of the bounds: no state loses more by following the policy."""
        return float((self.upper - self.lower).max())

    def unwrap(self) -> Solution:
        """Return this solution.

        Raises:
            SolverError: If the solver did not converge; the message says how far it came and what to change.
        """
        if not self.converged:
            raise SolverError(
                f"{self.method}: {self.status.value} Reached after {self.iterations}: gap {self.gap:.3g}."
            )
        return self
