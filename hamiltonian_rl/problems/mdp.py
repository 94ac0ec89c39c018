"""Finite Markov decision processes, stated once and checked once.

Notation: ``S`` states, ``A`` actions, ``Z`` successors with positive probability, over all rows. Row
``s A + a`` of the tables belongs to state s and action a.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.checks import (
    SUM_TOLERANCE,
    check_full_rows,
    check_horizon,
    check_last_rewards,
    check_tables,
    checked_discount,
    distribution,
    plain_table,
    row_error,
)
from hamiltonian_rl.problems.graph import absorbing_states, reachable_states
from hamiltonian_rl.problems.gymnasium_table import gymnasium_table
from hamiltonian_rl.problems.mdp_file import read_fields, write_fields
from hamiltonian_rl.problems.rows import row_sum_range, row_sums, successor_counts
from hamiltonian_rl.problems.tables import Outcome, as_matrix, end_at, expected_rewards, rows_of_outcomes

TABLES: dict[str, type] = {"rewards": float, "first": np.int64, "next_states": np.int32, "probabilities": float}


@dataclasses.dataclass(frozen=True, eq=False)
class MDP:
    """A finite Markov decision process: maximise ``E Σ_k γ^k r(s_k, a_k)`` (Eq. 19).

    Tables are sparse. What a row's probabilities lack to one is the probability that the episode ends
    with that step; a terminal state is one whose rows are empty and whose rewards are zero.

    Attributes:
        rewards: Expected reward of each state and action, shape ``(S, A)``; -inf where an action is not
            available.
        first: Where each row begins in the next two, and where the last one ends, shape ``(S A + 1,)``.
        next_states: Successors, shape ``(Z,)``, int32.
        probabilities: Their probabilities, shape ``(Z,)``.
        discount: ``γ`` in [0, 1].
        initial: Distribution of the first state, shape ``(S,)``.
        horizon: Number of steps after which an episode is cut off, or None. The optimum under a limit
            differs from the one without: its policy depends on the step.
        last_rewards: Expected rewards of the last step before the horizon, shape ``(S, A)``, where they differ from
            the others; such as ``r(s, a) + γ Σ_s' P(s' | s, a) h(s')`` where the last state is worth ``h``.

    Raises:
        UsageError: If a table is not what it should be; the message names the state and the action.

    Example:
        >>> mdp = MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], discount=0.9)
        >>> mdp  # staying at 0 pays 1, staying at 1 pays 2, and 5 is paid for leaving from there
        MDP(2 states, 2 actions, 3 successors, discount 0.9)
    """

    rewards: np.ndarray
    first: np.ndarray
    next_states: np.ndarray
    probabilities: np.ndarray
    discount: float
    initial: np.ndarray
    horizon: int | None = None
    last_rewards: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, kind in TABLES.items():
            object.__setattr__(self, name, plain_table(getattr(self, name), kind, name))
        check_tables(self.rewards, self.first, self.next_states, self.probabilities)
        if self.last_rewards is not None:
            object.__setattr__(self, "last_rewards", plain_table(self.last_rewards, float, "last_rewards"))
            check_last_rewards(self.last_rewards, self.rewards)
        if self.row_sum_range[1] > 1.0 + SUM_TOLERANCE:
            sums = np.where(self.rewards > -np.inf, self.row_sums, 0.0)
            state, action = divmod(int(sums.argmax()), self.n_actions)
            got = f"sums to {sums[state, action]:.12g}"
            raise row_error(state, action, got, "expected 1 (less where it may end)")
        object.__setattr__(self, "initial", distribution(self.initial, self.n_states))
        object.__setattr__(self, "discount", checked_discount(self.discount))
        check_horizon(self.horizon)

    def __repr__(self) -> str:
        limit = f", horizon {self.horizon}" if self.horizon is not None else ""
        size = f"{self.n_states:,} states, {self.n_actions:,} actions, {len(self.next_states):,} successors"
        return f"MDP({size}, discount {self.discount:g}{limit})"

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return len(self.rewards)

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return int(self.rewards.shape[1])

    @cached_property
    def transition_matrix(self) -> sparse.csr_array:
        """The tables as one sparse matrix, shape ``(S A, S)``; it shares their memory."""
        shape = (self.n_states * self.n_actions, self.n_states)
        return sparse.csr_array((self.probabilities, self.next_states, self.first), shape=shape)

    @cached_property
    def row_sums(self) -> np.ndarray:
        """Probability that the episode goes on after each state and action, shape ``(S, A)``."""
        return row_sums(self.first, self.probabilities).reshape(self.rewards.shape)

    @cached_property
    def row_sum_range(self) -> tuple[float, float]:
        """Least and largest sum of the probabilities of a row whose action is available."""
        return row_sum_range(self)

    @cached_property
    def largest_reward(self) -> float:
        """Largest size of an expected reward."""
        finite = self.rewards > -np.inf
        return float(max(self.rewards.max(), -self.rewards.min(where=finite, initial=np.inf), 0.0))

    @cached_property
    def successor_counts(self) -> tuple[int, int]:
        """Least and largest number of successors of a row."""
        return successor_counts(self)

    @property
    def branching(self) -> int | None:
        """Number of successors of every row where all have as many, else None."""
        least, most = self.successor_counts
        return least if least == most else None

    @cached_property
    def reachable(self) -> np.ndarray:
        """Which states an episode can come to, boolean ``(S,)``.

        Example:
            >>> MDP.from_arrays([[0], [0]], [[1.0], [1.0]], 0.9, initial=[1.0, 0.0]).reachable
            array([ True, False])
        """
        return reachable_states(self)

    @cached_property
    def absorbing(self) -> np.ndarray:
        """Which states are never left, boolean ``(S,)``: terminal ones, and those that lead to themselves alone."""
        return absorbing_states(self)

    def under(self, policy: np.ndarray) -> tuple[np.ndarray, sparse.csr_array]:
        """Return the Markov chain of a policy: ``r_π``, shape ``(S,)``, and the sparse ``P_π``, shape ``(S, S)``.

        Args:
            policy: An action a state, shape ``(S,)``.

        Raises:
            UsageError: If it is not one action for each state.
        """
        policy, states = np.asarray(policy), np.arange(self.n_states)
        if policy.shape != states.shape or not 0 <= policy.min() <= policy.max() < self.n_actions:
            raise UsageError(
                f"`policy` has shape {policy.shape} and actions from {policy.min()} to {policy.max()}; expected shape "
                f"({self.n_states},) and 0 to {self.n_actions - 1}."
            )
        return self.rewards[states, policy], self.transition_matrix[states * self.n_actions + policy]

    def finite_horizon(self, n_steps: int | None) -> MDP:
        """Return the same process cut off after ``n_steps`` (None: never)."""
        return dataclasses.replace(self, horizon=n_steps)

    def with_discount(self, discount: float) -> MDP:
        """Return the same process with another discount."""
        return dataclasses.replace(self, discount=discount)

    @classmethod
    def from_arrays(
        cls,
        transitions: Any,
        rewards: Any,
        discount: float,
        *,
        terminal: Any = None,
        initial: Any = None,
        horizon: int | None = None,
    ) -> MDP:
        """Return an MDP from arrays.

        Args:
            transitions: ``P(s' | s, a)`` as an array ``(S, A, S)``, or as a list of A sparse ``(S, S)``
                matrices; or an integer table ``(S, A)`` of successors, -1 where the episode ends.
            rewards: ``(S, A)``, or ``(S,)`` for every action, or of the shape of ``transitions`` for
                rewards that depend on the successor. -inf: the action is not available, and its row may be empty.
            discount: ``γ``.
            terminal: States where the episode is over, boolean ``(S,)``. Their value is zero.
            initial: Distribution of the first state, shape ``(S,)``; uniform unless given.
            horizon: Steps after which an episode is cut off.
        """
        matrix, n_states, may_end = as_matrix(transitions)
        if n_states == 0 or matrix.shape[0] == 0:
            raise UsageError(f"`transitions` has {n_states} states and no rows; expected at least one of each.")
        n_actions = matrix.shape[0] // n_states
        expected = expected_rewards(rewards, matrix, n_states, n_actions)
        if not may_end:
            check_full_rows(matrix, expected)
        if terminal is not None:
            expected = end_at(terminal, matrix, expected)
        matrix.eliminate_zeros()
        return cls(
            expected,
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            matrix.data,
            discount,
            distribution(initial, n_states),
            horizon,
        )

    @classmethod
    def from_function(
        cls,
        n_states: int,
        n_actions: int,
        outcomes: Callable[[int, int], Iterable[Outcome]],
        discount: float,
        *,
        initial: Any = None,
        horizon: int | None = None,
    ) -> MDP:
        """Return an MDP from a function of state and action.

        Args:
            n_states: S.
            n_actions: A.
            outcomes: Returns ``(probability, next state, reward, terminated)`` of every outcome, as in the
                ``P`` tables of Gymnasium's toy-text environments; outcomes of equal successors are summed.
            discount: ``γ``.
            initial: Distribution of the first state, shape ``(S,)``; uniform unless given.
            horizon: Steps after which an episode is cut off.
        """
        rewards, matrix = rows_of_outcomes(n_states, n_actions, outcomes)
        return cls(
            rewards,
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            matrix.data.astype(float),
            discount,
            distribution(initial, n_states),
            horizon,
        )

    @classmethod
    def from_gymnasium(cls, env: gym.Env | str, discount: float = 0.99, horizon: int | str | None = "auto") -> MDP:
        """Return the model of a Gymnasium environment that has a ``P`` table, as the toy-text ones have.

        Args:
            env: The environment or its id.
            discount: ``γ``; Gymnasium's returns have none.
            horizon: Steps after which an episode is cut off; "auto" is the environment's own limit.

        Raises:
            UsageError: If the environment has no table.

        Example:
            >>> MDP.from_gymnasium("FrozenLake-v1")
            MDP(16 states, 4 actions, 98 successors, discount 0.99, horizon 100)
        """
        table, start, limit = gymnasium_table(env, horizon)
        return cls.from_function(
            len(table),
            len(table.get(0, ())),
            lambda state, action: table[state][action],
            discount,
            initial=start,
            horizon=limit,
        )

    def save(self, path: str | Path) -> None:
        """Write the tables to an ``.npz`` file; the file is whole or absent.

        Raises:
            RunStorageError: If it cannot be written.
        """
        write_fields(path, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> MDP:
        """Read what `save` wrote; no code in the file can run.

        Raises:
            UsageError: If the file is not such a one.
        """
        return cls(**read_fields(path, [field.name for field in dataclasses.fields(cls)]))
