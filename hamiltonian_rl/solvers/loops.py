"""The two loops that sweeping methods share: on until the bounds are close, and back from a horizon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers.sweeper import TINY, UNIT, Sweeper, check_count, check_mdp

MOST_ACTIONS = 2**32  # 16 GB
PATIENCE = 200  # rounds in which the bounds come no closer
NOISE = 1_000.0  # bounds farther apart than this many times their rounding may wait for news
Improve = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
Progress = Callable[[int, float], None]  # called with the number of sweeps and the gap of the bounds


def check_tol(tol: float) -> None:
    """Check the largest distance of the bounds."""
    if not (isinstance(tol, int | float | np.number) and not isinstance(tol, bool) and tol > 0):
        raise UsageError(f"tol = {tol!r}; expected a number above 0.")


@np.errstate(under="ignore")
def sweep_from_horizon(
    mdp: MDP,
    step_back: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    *,
    method: str,
    tol: float,
    progress: Progress | None,
) -> Solution:
    """Go from the last step of an MDP with a horizon to the first.

    Args:
        mdp: The process.
        step_back: Returns the value of a step and its best actions from the value of the next step.
        method: Name of the method.
        tol: Largest distance of the bounds, which rounding alone keeps apart.
        progress: Called after each step.
    """
    check_tol(tol)
    check_mdp(mdp)
    if mdp.horizon is None:
        raise UsageError("This MDP has no horizon. Give one: mdp.finite_horizon(n); or take value_iteration.")
    if mdp.horizon * mdp.n_states > MOST_ACTIONS:
        raise UsageError(
            f"A policy of {mdp.horizon:,} steps in {mdp.n_states:,} states does not fit into memory. Shorten the "
            "horizon, or leave it out: mdp.finite_horizon(None)."
        )
    largest, terms, last = mdp.largest_reward, mdp.successor_counts[1] + 4, mdp.last_rewards
    if last is not None:
        largest = max(largest, float(np.abs(last, where=last > -np.inf, out=np.zeros_like(last)).max()))
    value, error, left = np.zeros(mdp.n_states), 0.0, mdp.horizon
    later = value  # the value of a step later
    policy = np.zeros((mdp.horizon, mdp.n_states), np.int32)
    try:
        while left:
            with np.errstate(over="ignore"):
                if left == mdp.horizon and last is not None:
                    before, actions = last.max(axis=1), last.argmax(axis=1)
                else:
                    before, actions = step_back(value)
            if not np.isfinite(before).all():
                raise UsageError(
                    f"Rewards as large as {largest:.3g} add up to more than double precision holds in "
                    f"{mdp.horizon - left + 1} steps; scale them down."
                )
            # Twice the rounding of one step: the action that is best by a computed Q may be off by as much again.
            error += 2.0 * terms * (UNIT * (largest + 2.0 * float(np.abs(value).max())) + TINY)
            policy[left - 1] = actions
            later, value, left = value, before, left - 1
            if progress is not None:
                progress(mdp.horizon - left, 2.0 * error)
    except KeyboardInterrupt:
        if mdp.horizon - left < (1 if last is None else 2):
            raise  # there is nothing yet: one change from step to step by the same rewards
        return _stopped_early(mdp, value, later, policy, error, left, method)
    status = Status.CONVERGED if 2.0 * error <= tol else Status.STAGNATED
    return Solution(value, value - error, value + error, policy, mdp.horizon, status, method)


def _stopped_early(
    mdp: MDP, value: np.ndarray, later: np.ndarray, policy: np.ndarray, error: float, left: int, method: str
) -> Solution:
    """Return bounds on the first step's value from that of a later one, ``left`` steps on.

    With ``d = V_n - V_(n-1)`` for n steps to go, each step more adds at least ``c min d`` and at most ``c max d``,
    with c between the least and the largest discount times a row's sum; repeating the actions attains the former.
    """
    least, most = (mdp.discount * total for total in mdp.row_sum_range)
    change = value - later
    lowest, highest = float(change.min()) - 4.0 * error, float(change.max()) + 4.0 * error
    with np.errstate(over="ignore"):
        down = lowest * _series(most if lowest < 0 else least, left)
        up = highest * _series(most if highest > 0 else least, left)
        slack = 4.0 * UNIT * (left + 4.0) * (mdp.successor_counts[1] + 4.0)  # rounding of c, and of its powers
        down, up = down - slack * abs(down) - 2.0 * error, up + slack * abs(up) + 2.0 * error
    policy[:left] = policy[left]
    lower, upper = value + down, value + up
    middle = value + 0.5 * (down + up)
    return Solution(middle.clip(lower, upper), lower, upper, policy, len(policy) - left, Status.INTERRUPTED, method)


def _series(factor: float, terms: int) -> float:
    """Return ``c + c² + ... + c^n``."""
    if factor in (0.0, 1.0):
        return factor * terms
    return float(factor * np.expm1(terms * np.log(factor)) / (factor - 1.0))


@np.errstate(under="ignore")
def sweep_to_bounds(
    sweeper: Sweeper,
    initial_value: np.ndarray | None,
    improve: Improve,
    *,
    method: str,
    tol: float,
    max_iterations: int,
    progress: Progress | None,
) -> Solution:
    """Back up and improve until the bounds are within ``tol``: the loop that sweeping methods share.

    Args:
        sweeper: The MDP's operator.
        initial_value: First iterate.
        improve: Returns the next iterate and the array left over, from ``(V, TV, greedy policy, shift of the
            lower bound)``; the first two are its own to write into.
        method: Name of the method.
        tol: Largest distance of the bounds.
        max_iterations: Calls of ``improve`` at the most.
        progress: Called after each backup.
    """
    check_tol(tol)
    check_count(max_iterations, "max_iterations", least=0)
    value = sweeper.start(initial_value)
    backed_up = np.empty_like(value)
    policy = np.zeros(len(value), np.int32)
    iterations, status = 0, Status.MAX_ITERATIONS
    patience = _Patience(len(value))
    try:
        while True:
            down, up, rounding = sweeper.certify(value, backed_up, policy)
            if progress is not None:
                progress(iterations, up - down)
            if up - down <= tol:
                status = Status.CONVERGED
            elif up - down <= 4.0 * rounding and _far_below(backed_up + down, backed_up):
                # What rounds is a size that V* has not, from a first iterate far from it: go on from the bound.
                np.add(backed_up, down, out=value)
                continue
            elif up - down <= 4.0 * rounding or patience.is_over(iterations, up - down, rounding):
                status = Status.STAGNATED
            if status is not Status.MAX_ITERATIONS or iterations >= max_iterations:
                break
            # Without its allowance for rounding the bound is where exact sums would have it: an iterate that
            # were pushed down by it each round would never come to rest.
            value, backed_up = improve(value, backed_up, policy, down + 0.5 * rounding)
            iterations += 1
    except KeyboardInterrupt:
        # Any V certifies: one more sweep turns what there is into bounds.
        down, up, _ = sweeper.certify(value, backed_up, policy)
        status = Status.INTERRUPTED
    sweeper.forget_policy()
    lower, upper = backed_up + down, backed_up + up
    return Solution(0.5 * (lower + upper), lower, upper, policy, iterations, status, method)


class _Patience:
    """Tells bounds that come closer slowly, or not yet, from those that rounding keeps apart."""

    def __init__(self, n_states: int) -> None:
        self._n_states, self._closest, self._since, self._last_stall = n_states, np.inf, 0, np.inf

    def is_over(self, iterations: int, apart: float, rounding: float) -> bool:
        """Return whether the bounds have come no closer for long enough."""
        if apart < self._closest:
            self._closest, self._since = apart, iterations
        near = apart <= NOISE * rounding
        # Far from rounding they may have to wait for news, which may travel only a state a round ...
        if iterations - self._since <= (PATIENCE if near else PATIENCE + self._n_states):
            return False
        if near or apart >= self._last_stall:
            return True
        # ... or may first have moved far apart: judge anew from here.
        self._closest, self._since, self._last_stall = apart, iterations, apart
        return False


def _far_below(bound: np.ndarray, value: np.ndarray) -> bool:
    """Return whether the sizes of one are less than half of the other's."""
    return bool(np.abs(bound).max() < 0.5 * np.abs(value).max())
