"""The tables that people have, as the sparse rows that an MDP keeps."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.checks import (
    SUM_TOLERANCE,
    check_successors,
    row_error,
    state_vector,
)
from hamiltonian_rl.problems.rows import row_sums

Outcome = tuple[float, int, float, bool]  # Gymnasium's (probability, next state, reward, terminated)


def as_matrix(transitions: Any) -> tuple[sparse.csr_array, int, bool]:
    """Return the rows of all states and actions as one sparse matrix, the number of states, and whether rows may end.

    Rows of a table of successors may be empty, where the episode ends; those of probabilities are distributions.
    """
    if isinstance(transitions, Sequence) and any(sparse.issparse(matrix) for matrix in transitions):
        return *_stacked(transitions, "transitions"), False
    try:
        table = np.asarray(transitions)
    except ValueError as error:
        raise UsageError(f"`transitions` are no array: {first_line(error)}") from error
    if table.ndim == 2 and table.dtype.kind in "iu":
        n_states, n_actions = table.shape
        rows = np.arange(table.size, dtype=np.int64)
        # What does not fit would come out negative, perhaps as -1: the end of the episode.
        successors = np.minimum(table.ravel(), np.iinfo(np.int64).max).astype(np.int64)
        goes_on = successors != -1
        check_successors(successors[goes_on], rows[goes_on], n_states, n_actions)
        ones = np.ones(int(goes_on.sum()))
        first = np.concatenate([[0], np.cumsum(goes_on)])
        return sparse.csr_array((ones, successors[goes_on], first), shape=(table.size, n_states)), n_states, True
    if table.ndim != 3 or table.shape[0] != table.shape[2] or table.dtype.kind not in "iufb":
        raise UsageError(
            f"`transitions` has shape {table.shape} and type {table.dtype}; expected probabilities (S, A, S), a list "
            "of A sparse (S, S) matrices, or an integer table (S, A) of successors."
        )
    n_states, n_actions, _ = table.shape
    matrix = sparse.csr_array(table.reshape(n_states * n_actions, n_states).astype(float))
    return matrix, n_states, False


def _stacked(matrices: Sequence[Any], name: str) -> tuple[sparse.csr_array, int]:
    """Interleave the rows of A sparse (S, S) matrices."""
    n_actions, n_states = len(matrices), next(matrix.shape[0] for matrix in matrices if sparse.issparse(matrix))
    for action, matrix in enumerate(matrices):
        if not sparse.issparse(matrix) or matrix.shape != (n_states, n_states) or matrix.dtype.kind not in "iufb":
            shape, dtype = getattr(matrix, "shape", "none"), getattr(matrix, "dtype", "none")
            raise UsageError(
                f"`{name}[{action}]` is of class {type(matrix).__name__}, shape {shape} and type {dtype}; expected "
                f"a sparse ({n_states}, {n_states}) matrix of numbers, as all the others."
            )
    tall = sparse.csr_array(sparse.vstack(matrices, format="csr"), dtype=float)
    tall.sum_duplicates()
    order = np.arange(n_states * n_actions).reshape(n_actions, n_states).T.ravel()
    return sparse.csr_array(tall[order]), n_states


def expected_rewards(rewards: Any, matrix: sparse.csr_array, n_states: int, n_actions: int) -> np.ndarray:
    """Return r(s, a), the mean of r(s, a, s') where rewards depend on the successor."""
    if isinstance(rewards, Sequence) and rewards and sparse.issparse(rewards[0]):
        stacked, size = _stacked(rewards, "rewards")
        if (len(rewards), size) != (n_actions, n_states):
            raise UsageError(
                f"`rewards` are {len(rewards)} matrices of shape {rewards[0].shape}; expected {n_actions} of shape "
                f"({n_states}, {n_states}), as `transitions`."
            )
        return np.asarray(matrix.multiply(stacked).sum(axis=1), float).reshape(n_states, n_actions)
    try:
        table = np.asarray(rewards)
        if table.dtype.kind == "c":
            raise TypeError("they are complex")
        table = table.astype(float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"`rewards` are not an array of numbers: {first_line(error)}") from error
    if table.shape == (n_states, n_actions, n_states):
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        parts = matrix.data * table.reshape(-1, n_states)[rows, matrix.indices]
        return row_sums(matrix.indptr, parts).reshape(n_states, n_actions)
    if table.shape == (n_states,):
        table = np.repeat(table[:, None], n_actions, axis=1)
    if table.shape != (n_states, n_actions):
        raise UsageError(
            f"`rewards` has shape {table.shape}; expected ({n_states}, {n_actions}), ({n_states},) "
            f"or ({n_states}, {n_actions}, {n_states})."
        )
    return np.array(table)


def end_at(terminal: Any, matrix: sparse.csr_array, rewards: np.ndarray) -> np.ndarray:
    """Empty the rows of terminal states and cut what leads to them, in place; return the rewards without theirs."""
    n_states, n_actions = rewards.shape
    ends = state_vector(terminal, n_states, "terminal")
    if ends.dtype != bool:
        raise UsageError(f"`terminal` is of type {ends.dtype}; expected True or False for each state.")
    keep = np.repeat(~ends, n_actions)[np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))]
    keep &= ~ends[matrix.indices]
    matrix.data[~keep] = 0.0
    return np.where(ends[:, None], 0.0, rewards)


def rows_of_outcomes(
    n_states: int, n_actions: int, outcomes: Callable[[int, int], Iterable[Outcome]]
) -> tuple[np.ndarray, sparse.csr_array]:
    """Return r(s, a) and the rows of transitions from a function that lists what may happen."""
    for count, name in ((n_states, "n_states"), (n_actions, "n_actions")):
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise UsageError(f"{name} = {count!r}; expected a whole number from 1 up.")
    rewards = np.zeros((n_states, n_actions))
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for state in range(n_states):
        for action in range(n_actions):
            total = 0.0
            for probability, successor, reward, terminated in _outcomes(outcomes, state, action):
                total += probability
                rewards[state, action] += probability * reward if probability else 0.0
                if not terminated:
                    rows.append(state * n_actions + action)
                    columns.append(successor)
                    values.append(probability)
            if not abs(total - 1.0) <= SUM_TOLERANCE:
                raise row_error(state, action, f"sums to {total:.12g}", "expected 1")
    check_successors(np.array(columns, np.int64), np.array(rows, np.int64), n_states, n_actions)
    matrix = sparse.csr_array((np.array(values, float), (rows, columns)), shape=(n_states * n_actions, n_states))
    matrix.eliminate_zeros()
    return rewards, matrix


def _outcomes(outcomes: Callable[[int, int], Iterable[Outcome]], state: int, action: int) -> list[Outcome]:
    """Return what may happen after an action, checked."""
    found = []
    try:
        for probability, successor, reward, terminated in outcomes(state, action):
            found.append((float(probability), operator.index(successor), float(reward), bool(terminated)))
    except (TypeError, ValueError, LookupError) as error:
        raise row_error(
            state,
            action,
            f"cannot be read ({type(error).__name__}: {first_line(error)[:-1]})",
            "expected a list of (probability, next state, reward, terminated)",
        ) from error
    for probability, *_ in found:
        if not 0.0 <= probability <= 1.0 + SUM_TOLERANCE:
            raise row_error(state, action, f"has the probability {probability:g}", "expected 0 to 1")
    return found
