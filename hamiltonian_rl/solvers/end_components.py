"""End components: sets of states in which a policy can stay for ever, and reach each state from each.

Every endless episode ends up in one. Where staying is worth nothing, Bellman's equation without discount has
many solutions: any constant added to the values of such a set is another one. A set made one state leaves one.

Reference:
    de Alfaro (1997), "Formal verification of probabilistic systems"; Haddad and Monmege (2018), "Interval
    iteration algorithm for MDPs and IMDPs".
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from hamiltonian_rl.solvers.row_process import RowProcess


def end_components(process: RowProcess, usable: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Find the maximal end components.

    Args:
        process: The process.
        usable: Rows that may be taken, boolean ``(R,)``; all unless given.

    Returns:
        The component of each state, from 0 up and -1 for none, shape ``(S,)``, and whether a row is usable and
        stays inside its owner's component, shape ``(R,)``.

    Example:
        >>> from hamiltonian_rl.problems import MDP
        >>> mdp = MDP.from_arrays([[1, 2], [0, 0], [-1, -1]], [0.0, 0.0, 1.0], 1.0)  # 0 and 1, or on to 2
        >>> label, inside = end_components(RowProcess.from_mdp(mdp))
        >>> label.tolist(), inside.tolist()
        ([0, 0, -1], [True, False, True, True, False, False])
    """
    inside = ~process.ends if usable is None else usable & ~process.ends
    lengths = np.diff(process.matrix.indptr)
    while True:
        inside = _without_dead_ends(process, inside)
        entries = np.repeat(inside, lengths)
        sources = np.repeat(process.owner, lengths)[entries]
        targets = process.matrix.indices[entries]
        shape = (process.n_states, process.n_states)
        graph = sparse.csr_array((np.ones(len(sources)), (sources, targets)), shape=shape)
        _, label = csgraph.connected_components(graph, directed=True, connection="strong")
        leaving = label[sources] != label[targets]
        if not leaving.any():
            break
        inside[np.repeat(np.arange(len(inside)), lengths)[entries][leaving]] = False
    members = np.zeros(process.n_states, bool)
    members[process.owner[inside]] = True
    found = np.full(process.n_states, -1)
    found[members] = np.unique(label[members], return_inverse=True)[1]
    return found, inside


def _without_dead_ends(process: RowProcess, inside: np.ndarray) -> np.ndarray:
    """Drop rows that may lead to a state without rows, until there is none."""
    inside = inside.copy()
    left = np.bincount(process.owner[inside], minlength=process.n_states)
    dead = np.flatnonzero(left == 0)
    while len(dead):
        rows = process.rows_into(dead)
        rows = rows[inside[rows]]
        inside[rows] = False
        np.subtract.at(left, process.owner[rows], 1)
        touched = np.unique(process.owner[rows])
        dead = touched[left[touched] == 0]
    return inside


def rows_towards(process: RowProcess, allowed: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of each state that leads nearer to the targets with positive probability.

    If all that can happen under these rows stays among the states reached, they reach the targets with
    probability one.

    Args:
        process: The process.
        allowed: Rows that may be taken, boolean ``(R,)``.
        targets: States to reach, boolean ``(S,)``.

    Returns:
        The rows, -1 at targets and where there is none, shape ``(S,)``, and the states that are reached.
    """
    row = np.full(process.n_states, -1)
    reached = targets.copy()
    frontier = np.flatnonzero(targets)
    while len(frontier):
        rows = process.rows_into(frontier)
        rows = rows[allowed[rows] & ~reached[process.owner[rows]]]
        frontier, places = np.unique(process.owner[rows], return_index=True)
        row[frontier] = rows[places]
        reached[frontier] = True
    return row, reached


def collapse(
    process: RowProcess, label: np.ndarray, inside: np.ndarray, staying: np.ndarray
) -> tuple[RowProcess, np.ndarray]:
    """Make each component one state, with the rows that leave it and one more: stay for ever, which ends.

    Args:
        process: The process.
        label: Component of each state or -1, shape ``(S,)``.
        inside: Rows inside the components, which vanish, boolean ``(R,)``.
        staying: What staying is worth, one number a component.

    Returns:
        The smaller process, whose ``source`` are rows of this one and -1 for staying, and the state of it that
        each state of this one became, shape ``(S,)``.
    """
    n_components = len(staying)
    group = np.where(label >= 0, label, n_components + np.cumsum(label < 0) - 1)
    size = n_components + int((label < 0).sum())
    merge = sparse.csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), size))
    kept = np.flatnonzero(~inside)
    owner = np.concatenate([group[process.owner[kept]], np.arange(n_components)])
    stay = sparse.csr_array((n_components, size))
    matrix = sparse.csr_array(sparse.vstack([process.matrix[kept] @ merge, stay], format="csr"))
    order = np.argsort(owner, kind="stable")
    smaller = RowProcess(
        owner[order],
        np.concatenate([process.rewards[kept], staying])[order],
        sparse.csr_array(matrix[order]),
        np.concatenate([process.ends[kept], np.ones(n_components, bool)])[order],
        np.concatenate([kept, np.full(n_components, -1)])[order],
    )
    return smaller, group


def expand(process: RowProcess, inside: np.ndarray, exits: np.ndarray, staying: np.ndarray) -> np.ndarray:
    """Return a row a state from the rows chosen in the collapsed process.

    A component that is left is left by one row of one state; the others go there first, by rows inside.

    Args:
        process: The process before its components were collapsed.
        inside: Rows inside the components, boolean ``(R,)``.
        exits: Chosen rows of the collapsed process as rows of this one, -1 for staying.
        staying: The row of each state where its component is not left, shape ``(S,)``; anything elsewhere.
    """
    exits = exits[exits >= 0]
    targets = np.zeros(process.n_states, bool)
    targets[process.owner[exits]] = True
    nearer, _ = rows_towards(process, inside, targets)
    row = np.where(nearer >= 0, nearer, staying)
    row[process.owner[exits]] = exits
    return row
