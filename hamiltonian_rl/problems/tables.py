"""The tables that people have, as the sparse rows that an MDP keeps; what is wrong is named by its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError

SUM_TOLERANCE = 1e-8  # how far a row of probabilities may be from one: what is printed with eight digits


def as_matrix(transitions: Any) -> tuple[sparse.csr_array, int]:
    """Return the rows of all states and actions as one sparse matrix, and the number of states."""
    if isinstance(transitions, Sequence) and transitions and sparse.issparse(transitions[0]):
        return _stacked(transitions)
    table = np.asarray(transitions)
    if table.ndim == 2 and table.dtype.kind in "iu":
        n_states, n_actions = table.shape
        rows = np.arange(table.size, dtype=np.int64)
        successors = table.ravel().astype(np.int64)
        goes_on = successors != -1
        check_successors(successors[goes_on], rows[goes_on], n_states, n_actions)
        ones = np.ones(int(goes_on.sum()))
        first = np.concatenate([[0], np.cumsum(goes_on)])
        return sparse.csr_array((ones, successors[goes_on], first), shape=(table.size, n_states)), n_states
    if table.ndim != 3 or table.shape[0] != table.shape[2] or table.dtype.kind not in "iufb":
        raise UsageError(
            f"`transitions` has shape {table.shape} and type {table.dtype}; expected probabilities (S, A, S), a list "
            "of A sparse (S, S) matrices, or an integer table (S, A) of successors."
        )
    n_states, n_actions, _ = table.shape
    matrix = sparse.csr_array(table.reshape(n_states * n_actions, n_states).astype(float))
    _check_full_rows(matrix, n_actions)
    return matrix, n_states


def _stacked(matrices: Sequence[Any]) -> tuple[sparse.csr_array, int]:
    """Interleave the rows of A sparse (S, S) matrices."""
    n_actions, n_states = len(matrices), matrices[0].shape[0]
    for action, matrix in enumerate(matrices):
        if not sparse.issparse(matrix) or matrix.shape != (n_states, n_states):
            shape = getattr(matrix, "shape", type(matrix).__name__)
            raise UsageError(f"`transitions[{action}]` is {shape}; expected a sparse ({n_states}, {n_states}) matrix.")
    tall = sparse.csr_array(sparse.vstack(matrices, format="csr"), dtype=float)
    tall.sum_duplicates()
    order = np.arange(n_states * n_actions).reshape(n_actions, n_states).T.ravel()
    stacked = sparse.csr_array(tall[order])
    _check_full_rows(stacked, n_actions)
    return stacked, n_states


def expected_rewards(rewards: Any, matrix: sparse.csr_array, n_states: int, n_actions: int) -> np.ndarray:
    """Return r(s, a), the mean of r(s, a, s') where rewards depend on the successor."""
    if isinstance(rewards, Sequence) and rewards and sparse.issparse(rewards[0]):
        tall = sparse.csr_array(sparse.vstack(rewards, format="csr"), dtype=float)
        if tall.shape != matrix.shape:
            raise UsageError(f"`rewards` are {len(rewards)} matrices of {rewards[0].shape}; expected as `transitions`.")
        order = np.arange(n_states * n_actions).reshape(n_actions, n_states).T.ravel()
        return np.asarray(matrix.multiply(tall[order]).sum(axis=1), float).reshape(n_states, n_actions)
    try:
        table = np.asarray(rewards, float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"`rewards` are not an array of numbers: {error}.") from error
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


def _check_full_rows(matrix: sparse.csr_array, n_actions: int) -> None:
    """Check that the rows of a user's table are distributions."""
    totals = row_sums(matrix.indptr, matrix.data)
    if (bad := ~(np.abs(totals - 1.0) <= SUM_TOLERANCE)).any():
        row = int(bad.argmax())
        raise row_error(*divmod(row, n_actions), f"sums to {totals[row]:.12g}", "expected 1")


def check_successors(successors: np.ndarray, rows: np.ndarray, n_states: int, n_actions: int) -> None:
    """Check that all successors are states; ``rows`` says to which row each belongs."""
    bad = (successors < 0) | (successors >= n_states)
    if bad.any():
        entry = int(bad.argmax())
        state, action = divmod(int(rows[entry]), n_actions)
        raise row_error(state, action, f"leads to state {successors[entry]}", f"expected 0 to {n_states - 1}")


def row_error(state: int, action: int, got: str, expected: str) -> UsageError:
    """Return the error of one row."""
    return UsageError(f"Row (s={state}, a={action}) of `transitions` {got}; {expected}.")


def row_sums(first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum each row; empty rows sum to zero, which `np.add.reduceat` alone does not give."""
    sums = np.zeros(len(first) - 1)
    filled = np.flatnonzero(np.diff(first))
    if len(filled):
        sums[filled] = np.add.reduceat(values, first[filled])
    return sums


def state_vector(values: Any, n_states: int, name: str) -> np.ndarray:
    """Return an array with one entry a state."""
    array = np.asarray(values)
    if array.shape != (n_states,):
        raise UsageError(f"`{name}` has shape {array.shape}; expected ({n_states},).")
    return array


def distribution(initial: Any, n_states: int) -> np.ndarray:
    """Return a distribution over the states, the uniform one unless another is given."""
    if initial is None:
        return np.full(n_states, 1.0 / max(n_states, 1))
    shares = state_vector(initial, n_states, "initial").astype(float)
    if not (shares >= 0).all() or not abs(shares.sum() - 1.0) <= SUM_TOLERANCE:
        raise UsageError(f"`initial` sums to {shares.sum():.12g}, least {shares.min():.3g}; expected a distribution.")
    return shares
