"""Sweeps over an MDP's tables and the bounds that they certify, for the solvers that sweep."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.principles.bellman import backup, span_shifts
from hamiltonian_rl.problems import MDP

SMALL = 50_000  # table entries below which NumPy is done before a kernel would be loaded
SHARED = 2_000_000  # entries from which threads pay
# States from which V fills the cache, so that blocks are faster: of a backup, and of a policy's sweep, which does less.
BACKUP_BLOCKS, POLICY_BLOCKS = 80_000, 200_000
LARGEST = 1e300  # beyond, sums of values may overflow
TINY = float(np.finfo(float).smallest_subnormal)  # rounding error of what is too small for UNIT to hold
UNIT = float(np.finfo(float).eps) / 2  # rounding error of one operation


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
        if threads is not None:
            check_count(threads, "threads", least=1)
        self.threads = threads or (available_threads() if entries > SHARED else 1)
        self._room: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._tables = (mdp.rewards, mdp.first, mdp.next_states, mdp.probabilities, float(mdp.discount))
        self._least, self._most = (mdp.discount * total for total in mdp.row_sum_range)
        if self._most >= 1.0:
            raise UsageError(
                f"discount {mdp.discount!r} times the largest sum of a row, {mdp.row_sum_range[1]!r}, is not below 1; "
                "lower the discount a little."
            )

    def start(self, initial_value: np.ndarray | None) -> np.ndarray:
        """Return the first iterate: a copy of the one given, or zeros."""
        if initial_value is None:
            return np.zeros(self.mdp.n_states)
        try:
            value = np.array(initial_value, float)
        except (TypeError, ValueError) as error:
            raise UsageError(f"`initial_value` is no array of numbers: {first_line(error)}") from error
        if value.shape != (self.mdp.n_states,) or not (np.abs(value) < LARGEST).all():
            raise UsageError(
                f"`initial_value` has shape {value.shape}; expected ({self.mdp.n_states},), sizes below {LARGEST:g}."
            )
        return value

    def backup(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """Write ``TV`` and its greedy policy; return the least and the largest entry of ``TV - V``."""
        if self.compiled:
            extremes = self._share(self._backup_kernel, *self._tables, value, out, policy)
            return min(low for low, _ in extremes), max(high for _, high in extremes)
        q = backup(self.mdp, value)
        policy[...] = q.argmax(axis=1)
        out[...] = q.max(axis=1)
        return float((out - value).min()), float((out - value).max())

    def policy_sweep(self, policy: np.ndarray) -> Callable[[np.ndarray, np.ndarray], tuple[float, float]]:
        """Return the function that writes ``T_π V`` and returns the extremes of ``T_π V - V``.

        It takes V and where to write, both of shape ``(S,)``, and holds until the next call of this method.
        """
        if self.compiled:
            return self._compiled_policy_sweep(policy)
        rewards, matrix = self.mdp.under(policy)

        def sweep(value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
            out[...] = rewards + self.mdp.discount * (matrix @ value)
            return float((out - value).min()), float((out - value).max())

        return sweep

    def _compiled_policy_sweep(self, policy: np.ndarray) -> Callable[[np.ndarray, np.ndarray], tuple[float, float]]:
        from hamiltonian_rl.solvers.kernels import evaluation_kernel, policy_rows_kernel

        mdp = self.mdp
        kernel = evaluation_kernel(mdp.branching)
        if mdp.branching and mdp.n_states >= POLICY_BLOCKS:
            from hamiltonian_rl.solvers import block_kernels

            kernel = block_kernels.evaluation_kernel(mdp.branching)
        first = self._policy_first
        if mdp.branching is None:
            rows = np.arange(mdp.n_states) * mdp.n_actions + policy
            np.cumsum(mdp.first[rows + 1] - mdp.first[rows], out=first[1:])
        entries = int(first[-1]) if mdp.branching is None else mdp.n_states * mdp.branching
        tables = self._policy_tables(entries)
        rewards, successors, probabilities = tables
        copy = policy_rows_kernel(mdp.n_actions, mdp.branching)
        self._share(copy, *self._tables[:-1], policy, rewards, first, successors, probabilities)

        def sweep(value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
            parts = self._share(kernel, rewards, first, successors, probabilities, self._tables[-1], value, out)
            return min(low for low, _ in parts), max(high for _, high in parts)

        return sweep

    def forget_policy(self) -> None:
        """Give back the memory of the last policy's rows."""
        self._room = None

    @cached_property
    def _policy_first(self) -> np.ndarray:
        constant = self.mdp.branching is not None  # then nobody asks where a row begins
        return np.zeros(1 if constant else self.mdp.n_states + 1, np.int64)

    def _policy_tables(self, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return room for a policy's rewards, successors and probabilities, kept from one policy to the next."""
        if self._room is None or len(self._room[1]) < entries:
            self._room = np.empty(self.mdp.n_states), np.empty(entries, np.int32), np.empty(entries)
        return self._room

    def certify(self, value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray) -> tuple[float, float, float]:
        """Back up, and return the shifts that bound V* around TV, and the part of their distance that is rounding.

        ``TV + down <= V_π <= V* <= TV + up`` for the greedy policy π.
        """
        lowest, highest = self.backup(value, backed_up, policy)
        size = max(float(max(array.max(), -array.min())) for array in (value, backed_up))
        terms = self.mdp.successor_counts[1] + 4
        return certified_shifts(lowest, highest, self._least, self._most, terms, self.mdp.largest_reward, size)

    @cached_property
    def _backup_kernel(self) -> Callable[..., Any]:
        mdp = self.mdp
        if mdp.branching and mdp.n_states >= BACKUP_BLOCKS:
            from hamiltonian_rl.solvers import block_kernels

            return block_kernels.backup_kernel(mdp.n_actions, mdp.branching)
        from hamiltonian_rl.solvers.kernels import backup_kernel

        return backup_kernel(mdp.n_actions, mdp.branching)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)

    def _share(self, kernel: Callable[..., Any], *arrays: Any) -> list[Any]:
        """Run a kernel on all states, each thread on a part of them; return what each part returned."""
        if self.threads == 1:
            return [kernel(*arrays, 0, self.mdp.n_states)]
        edges = np.linspace(0, self.mdp.n_states, self.threads + 1).astype(int)
        parts = [self._pool.submit(kernel, *arrays, start, stop) for start, stop in pairwise(edges)]
        try:
            return [part.result() for part in parts]
        finally:
            wait(parts)  # also after Ctrl-C: nobody may write into these arrays any more


def certified_shifts(
    lowest: float, highest: float, least: float, most: float, terms: int, largest_reward: float, size: float
) -> tuple[float, float, float]:
    """Return `span_shifts` with an allowance for rounding, and the part of their distance that it is.

    A computed sum of B products differs from the true one by at most ``(B + 2) u`` times the sum of sizes, u being
    the rounding error of one operation; the rewards and the result add two more.

    Args:
        lowest: ``min (TV - V)``, as computed.
        highest: ``max (TV - V)``.
        least: ``γ`` times the smallest sum of a row's probabilities.
        most: ``γ`` times the largest, below one.
        terms: ``B + 4``.
        largest_reward: Largest size of a reward.
        size: Largest size of V and TV.
    """
    error = terms * (UNIT * (largest_reward + 2.0 * size) + TINY)
    rounding = error + 2.0 * error / (1.0 - most) + 4.0 * UNIT * size
    down, up = span_shifts(lowest, highest, least, most)
    # Rounding of the series' own factors, and of the sums of rows, which it magnifies.
    slack = (8.0 + 2.0 * terms) * UNIT / (1.0 - most)
    return down - slack * abs(down) - rounding, up + slack * abs(up) + rounding, 2.0 * rounding


def check_count(count: Any, name: str, *, least: int) -> None:
    """Check a number of things."""
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not (whole and count >= least):
        raise UsageError(f"{name} = {count!r}; expected a whole number from {least} up.")


def check_mdp(mdp: Any) -> None:
    """Check that what is to be solved is an MDP, not what one is made of.

    Raises:
        UsageError: If it is something else.
    """
    if not isinstance(mdp, MDP):
        raise UsageError(
            f"What is to be solved is of class {type(mdp).__name__}; expected an MDP. Make one: MDP.from_arrays, "
            "MDP.from_function, MDP.from_gymnasium, or the mdp of a Grid. A ControlProblem is for solve."
        )


def check_endless(mdp: MDP) -> None:
    """Check that there is one value for all times.

    Raises:
        UsageError: If the MDP has a horizon, or is none.
    """
    check_mdp(mdp)
    if mdp.horizon is not None:
        raise UsageError(
            f"This MDP ends after {mdp.horizon} steps, so that its optimum depends on the step. "
            "Take backward_induction, or mdp.finite_horizon(None) for the optimum without a limit."
        )


def check_discounted(mdp: MDP) -> None:
    """Check what methods need that rest on the discount.

    Raises:
        UsageError: If the MDP has a horizon, or no discount, or rewards that add up to more than fits.
    """
    check_endless(mdp)
    if mdp.discount == 1.0:
        raise UsageError(
            "discount = 1 without a horizon: the value may be infinite. Take undiscounted, which finds out, or give a "
            "horizon (mdp.finite_horizon(n)) or a discount below 1 (mdp.with_discount(0.999))."
        )
    largest = mdp.largest_reward
    with np.errstate(over="ignore", under="ignore"):
        reach = np.float64(largest) / (1.0 - mdp.discount) * 8.0
    if not np.isfinite(reach):
        raise UsageError(
            f"Rewards as large as {largest:.3g} add up to more than double precision holds at discount "
            f"{mdp.discount:g}; scale them down."
        )
