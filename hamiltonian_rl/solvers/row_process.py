"""A process as a list of rows, so that states may have different numbers of actions; undiscounted solvers need it.

Notation: ``S`` states, ``R`` rows, each an action of its owner; ``q (R,)`` the right-hand side of Bellman's
equation for each. A row *ends* if the episode may be over after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.problems.checks import SUM_TOLERANCE
from hamiltonian_rl.solvers.sweeper import LARGEST, UNIT


@dataclass(frozen=True, eq=False)
class RowProcess:
    """A finite process without discount.

    Attributes:
        owner: State of each row, rising, shape ``(R,)``; every state owns one at least.
        rewards: Expected reward of each row, finite, shape ``(R,)``.
        matrix: Probabilities of the successors, sparse, shape ``(R, S)``.
        ends: Whether the episode may end with a row, shape ``(R,)``.
        source: The row that it stands for in the process it was made from, or -1, shape ``(R,)``.
    """

    owner: np.ndarray
    rewards: np.ndarray
    matrix: sparse.csr_array
    ends: np.ndarray
    source: np.ndarray

    @classmethod
    def from_mdp(cls, mdp: MDP) -> RowProcess:
        """Return the available rows of an MDP; sums that are one but for rounding are made one.

        Without a discount the difference counts: a row of 0.99999999 would end, sooner or later.

        Raises:
            UsageError: If sums of the rewards may not fit into double precision.
        """
        if mdp.largest_reward > LARGEST:
            raise UsageError(
                f"Rewards as large as {mdp.largest_reward:.3g} add up to more than double precision holds; scale them "
                "down."
            )
        source = np.flatnonzero(mdp.rewards.ravel() > -np.inf)
        matrix = sparse.csr_array(mdp.transition_matrix[source])
        sums = mdp.row_sums.ravel()[source]
        ends = np.abs(sums - 1.0) > SUM_TOLERANCE
        matrix.data /= np.repeat(np.where(ends, 1.0, sums), np.diff(matrix.indptr))
        matrix.eliminate_zeros()
        return cls(source // mdp.n_actions, mdp.rewards.ravel()[source], matrix, ends, source)

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return int(self.matrix.shape[1])

    def q(self, value: np.ndarray) -> np.ndarray:
        """Return ``r + P V``, shape ``(R,)``."""
        expected: np.ndarray = self.rewards + self.matrix @ value
        return expected

    def best(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest entry of each state and the first row that has it, both of shape ``(S,)``."""
        value = np.maximum.reduceat(q, self._begin)
        hits = np.flatnonzero(q == value[self.owner])
        return value, hits[np.searchsorted(self.owner[hits], np.arange(self.n_states))]

    def rounding(self, value: np.ndarray) -> float:
        """Return how far a computed ``r + P V``, compared with V, may be from the true one; as in `Sweeper.certify`."""
        terms = int(np.diff(self.matrix.indptr).max()) + 6  # two more than there, for sums that were made one
        return terms * UNIT * (float(np.abs(self.rewards).max()) + 2.0 * float(np.abs(value).max()))

    def rows_into(self, states: np.ndarray) -> np.ndarray:
        """Return the rows that may lead to one of the states, rising."""
        first, into = self._columns.indptr, self._columns.indices
        counts = np.diff(first)[states]
        shifts = np.repeat(first[states] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return np.unique(into[shifts + np.arange(len(shifts))])

    def restricted(self, rows: np.ndarray) -> tuple[RowProcess, np.ndarray]:
        """Return the process of some rows, closed among their owners, and those owners."""
        kept = np.flatnonzero(rows)
        states = np.unique(self.owner[kept])
        owner = np.searchsorted(states, self.owner[kept])
        matrix = sparse.csr_array(self.matrix[kept][:, states])
        return RowProcess(owner, self.rewards[kept], matrix, self.ends[kept], kept), states

    @cached_property
    def _begin(self) -> np.ndarray:
        return np.searchsorted(self.owner, np.arange(self.n_states))

    @cached_property
    def _columns(self) -> sparse.csc_array:
        return sparse.csc_array(self.matrix)
