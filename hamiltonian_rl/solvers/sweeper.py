"""Sweeps over an MDP's tables and the bounds that they certify, for the solvers that sweep."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.bellman import backup, span_shifts
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status

SMALL = 50_000  # table entries below which NumPy is done before a kernel would be loaded
SHARED = 2_000_000  # entries from which threads pay
UNIT = float(np.finfo(float).eps) / 2  # rounding error of one operation
Improve = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
Progress = Callable[[int, float], None]  # called with the number of sweeps and the gap of the bounds


def available_threads() -> int:
    """Return how many threads a sweep may take: the cores of this process, or OMP_NUM_THREADS if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) > 0 else cores


class Sweeper:
    """Bellman's operator of one MDP without a horizon, on NumPy for small tables and compiled for large ones.

    Args:
        mdp: The process; its discount must be below one.
        compiled: Whether to take the compiled kernels; by size unless given.
        threads: Threads that share a sweep; by size unless given.
    """

    def __init__(self, mdp: MDP, *, compiled: bool | None = None, threads: int | None = None) -> None:
        check_discounted(mdp)
        self.mdp = mdp
        entries = len(mdp.next_states) + mdp.rewards.size
        self.compiled = entries > SMALL if compiled is None else compiled
        self.threads = threads or (available_threads() if entries > SHARED else 1)
        self._tables = (mdp.rewards, mdp.first, mdp.next_states, mdp.probabilities, float(mdp.discount))
        # At least one sum of a row is the least or the most; rounding of the sums is part of `rounding`.
        sums = mdp.row_sums[mdp.rewards > -np.inf]
        self._least = mdp.discount * float(sums.min())
        self._most = mdp.discount * float(sums.max())
        if self._most >= 1.0:
            raise UsageError(
                f"discount {mdp.discount!r} times the largest sum of a row, {sums.max()!r}, is not below 1; "
                "lower the discount a little."
            )

    def start(self, initial_value: np.ndarray | None) -> np.ndarray:
        """Return the first iterate: a copy of the one given, or zeros."""
        if initial_value is None:
            return np.zeros(self.mdp.n_states)
        value = np.array(initial_value, float)
        if value.shape != (self.mdp.n_states,) or not np.isfinite(value).all():
            raise UsageError(
                f"`initial_value` has shape {value.shape}; expected ({self.mdp.n_states},), all of it finite."
            )
        return value

    def backup(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """Write ``TV`` and its greedy policy; return the least and the largest entry of ``TV - V``."""
        if self.compiled:
            return self._share(self._backup_kernel, value, out, policy)
        q = backup(self.mdp, value)
        policy[...] = q.argmax(axis=1)
        out[...] = q.max(axis=1)
        return float((out - value).min()), float((out - value).max())

    def evaluate(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """Write ``T_π V``; return the least and the largest entry of ``T_π V - V``."""
        if self.compiled:
            return self._share(self._evaluation_kernel, value, out, policy)
        rewards, matrix = self.under(policy)
        out[...] = rewards + self.mdp.discount * (matrix @ value)
        return float((out - value).min()), float((out - value).max())

    def under(self, policy: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return ``r_π``, shape ``(S,)``, and the sparse ``P_π``, shape ``(S, S)``."""
        states = np.arange(self.mdp.n_states)
        rows = states * self.mdp.n_actions + policy
        return self.mdp.rewards[states, policy], self.mdp.transition_matrix[rows]

    def certify(self, value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray) -> tuple[float, float, float]:
        """Back up, and return the shifts that bound V* around TV, and the part of their distance that is rounding.

        ``TV + down <= V_π <= V* <= TV + up`` for the greedy policy π. A computed sum of B products differs
        from the true one by at most ``(B + 2) u`` times the sum of sizes, u being the rounding error of one
        operation; the rewards and the result add two more.
        """
        lowest, highest = self.backup(value, backed_up, policy)
        size = max(float(array.max()) for array in (value, -value, backed_up, -backed_up))
        error = (self._terms + 4) * UNIT * (self._largest_reward + 2.0 * size)
        rounding = error + 2.0 * error / (1.0 - self._most) + 4.0 * UNIT * size
        down, up = span_shifts(lowest, highest, self._least, self._most)
        slack = 8.0 * UNIT / (1.0 - self._most)  # rounding of the series' own factors
        return down - slack * abs(down) - rounding, up + slack * abs(up) + rounding, 2.0 * rounding

    @cached_property
    def _largest_reward(self) -> float:
        rewards = self.mdp.rewards
        return float(np.abs(rewards[rewards > -np.inf]).max())

    @cached_property
    def _terms(self) -> int:
        return int(np.diff(self.mdp.first).max())

    @cached_property
    def _backup_kernel(self) -> Callable[..., Any]:
        from hamiltonian_rl.solvers.kernels import backup_kernel

        return backup_kernel(self.mdp.n_actions, self.mdp.branching)

    @cached_property
    def _evaluation_kernel(self) -> Callable[..., Any]:
        from hamiltonian_rl.solvers.kernels import evaluation_kernel

        return evaluation_kernel(self.mdp.n_actions, self.mdp.branching)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)

    def _share(
        self, kernel: Callable[..., tuple[float, float]], value: np.ndarray, out: np.ndarray, policy: np.ndarray
    ) -> tuple[float, float]:
        """Run a kernel on all states, each thread on a part of them; return the extremes of all parts."""
        if self.threads == 1:
            return kernel(*self._tables, value, out, policy, 0, self.mdp.n_states)
        edges = np.linspace(0, self.mdp.n_states, self.threads + 1).astype(int)
        parts = [
            self._pool.submit(kernel, *self._tables, value, out, policy, start, stop) for start, stop in pairwise(edges)
        ]
        try:
            extremes = [part.result() for part in parts]
        finally:
            wait(parts)  # also after Ctrl-C: nobody may write into these arrays any more
        return min(low for low, _ in extremes), max(high for _, high in extremes)


def check_discounted(mdp: MDP) -> None:
    """Check what methods need that find one value for all times.

    Raises:
        UsageError: If the MDP has a horizon, or no discount.
    """
    if mdp.horizon is not None:
        raise UsageError(
            f"This MDP ends after {mdp.horizon} steps, so that its optimum depends on the step. "
            "Take backward_induction, or mdp.finite_horizon(None) for the optimum without a limit."
        )
    if mdp.discount == 1.0:
        raise UsageError(
            "discount = 1 without a horizon: the value may be infinite. Take undiscounted, which finds out, or give a "
            "horizon (mdp.finite_horizon(n)) or a discount below 1 (mdp.with_discount(0.999))."
        )
    rewards = mdp.rewards[mdp.rewards > -np.inf]
    largest = float(np.abs(rewards).max())
    with np.errstate(over="ignore"):
        reach = np.float64(largest) / (1.0 - mdp.discount) * 8.0
    if not np.isfinite(reach):
        raise UsageError(
            f"Rewards as large as {largest:.3g} add up to more than double precision holds at discount "
            f"{mdp.discount:g}; scale them down."
        )


def check_tol(tol: float) -> None:
    """Check the largest distance of the bounds."""
    if not tol > 0:
        raise UsageError(f"tol = {tol}; expected a number above 0.")


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
    if mdp.horizon is None:
        raise UsageError("This MDP has no horizon. Give one: mdp.finite_horizon(n); or take value_iteration.")
    largest = float(np.abs(mdp.rewards[mdp.rewards > -np.inf]).max())
    terms = int(np.diff(mdp.first).max()) + 4
    value, error = np.zeros(mdp.n_states), 0.0
    policy = np.zeros((mdp.horizon, mdp.n_states), np.int32)
    for step in range(mdp.horizon - 1, -1, -1):
        # Twice the rounding of one step: the action that is best by a computed Q may be off by as much again.
        error += 2.0 * terms * UNIT * (largest + 2.0 * float(np.abs(value).max()))
        with np.errstate(over="ignore"):
            value, policy[step] = step_back(value)
        if not np.isfinite(value).all():
            raise UsageError(
                f"Rewards as large as {largest:.3g} add up to more than double precision holds in "
                f"{mdp.horizon - step} steps; scale them down."
            )
        if progress is not None:
            progress(mdp.horizon - step, 2.0 * error)
    status = Status.CONVERGED if 2.0 * error <= tol else Status.STAGNATED
    return Solution(value, value - error, value + error, policy, mdp.horizon, status, method)


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
    value = sweeper.start(initial_value)
    backed_up = np.empty_like(value)
    policy = np.zeros(len(value), np.int32)
    iterations, status = 0, Status.MAX_ITERATIONS
    try:
        while True:
            down, up, rounding = sweeper.certify(value, backed_up, policy)
            if progress is not None:
                progress(iterations, up - down)
            if up - down <= tol:
                status = Status.CONVERGED
            elif up - down <= 4.0 * rounding:
                status = Status.STAGNATED
            if status is not Status.MAX_ITERATIONS or iterations >= max_iterations:
                break
            value, backed_up = improve(value, backed_up, policy, down)
            iterations += 1
    except KeyboardInterrupt:
        # Any V certifies: one more sweep turns what there is into bounds.
        down, up, _ = sweeper.certify(value, backed_up, policy)
        status = Status.INTERRUPTED
    lower, upper = backed_up + down, backed_up + up
    return Solution(0.5 * (lower + upper), lower, upper, policy, iterations, status, method)
