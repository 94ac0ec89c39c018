"""Which states follow which: what an episode can come to, and where it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

if TYPE_CHECKING:
    from hamiltonian_rl.problems.mdp import MDP


def reachable_states(mdp: MDP) -> np.ndarray:
    """Return which states an episode can come to from its first one, boolean ``(S,)``."""
    possible = _possible(mdp)
    edges = np.concatenate([[0], np.cumsum(possible)])[mdp.first[:: mdp.n_actions]]
    graph = sparse.csr_array(
        (np.ones(int(edges[-1])), mdp.next_states[possible], edges), shape=(mdp.n_states, mdp.n_states)
    )
    starts = np.flatnonzero(mdp.initial > 0)
    steps = csgraph.dijkstra(graph, indices=starts, unweighted=True, min_only=True)
    reached: np.ndarray = np.isfinite(steps)
    return reached


def absorbing_states(mdp: MDP) -> np.ndarray:
    """Return which states are never left, boolean ``(S,)``."""
    rows = np.repeat(np.arange(mdp.rewards.size), np.diff(mdp.first))
    elsewhere = (mdp.next_states != rows // mdp.n_actions) & _possible(mdp)
    leaves = np.zeros(mdp.n_states, bool)
    leaves[rows[elsewhere] // mdp.n_actions] = True
    return ~leaves


def _possible(mdp: MDP) -> np.ndarray:
    """Return which successors can follow, boolean ``(Z,)``: of positive probability, by an available action."""
    available = np.repeat(mdp.rewards.ravel() > -np.inf, np.diff(mdp.first))
    possible: np.ndarray = available & (mdp.probabilities > 0)
    return possible
