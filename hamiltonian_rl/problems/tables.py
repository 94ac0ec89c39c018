"""The tables that people have, as the sparse rows that an MDP keeps; what is wrong is named by its place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError, first_line

Outcome = tuple[float, int, float, bool]  # Gymnasium's (probability, next state, reward, terminated)
SUM_TOLERANCE = 1e-8  # how far a row of probabilities may be from one: what is printed with eight digits


def as_matrix(transitions: Any) -> tuple[sparse.csr_array, int]:
    """Return the rows of all states and actions as one sparse matrix, and the number of states."""
    if isinstance(transitions, Sequence) and transitions and sparse.issparse(transitions[0]):
        return _stacked(transitions)
    try:
        table = np.asarray(transitions)
    except ValueError as error:
        raise UsageError(f"`transitions` are no array: {first_line(error)}") from error
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


def rows_of_outcomes(
    n_states: int, n_actions: int, outcomes: Callable[[int, int], Iterable[Outcome]]
) -> tuple[np.ndarray, sparse.csr_array]:
    """Return r(s, a) and the rows of transitions from a function that lists what may happen."""
    for count, name in ((n_states, "n_states"), (n_actions, "n_actions")):
        if not isinstance(count, int | np.integer) or count < 1:
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


def plain_table(table: Any, kind: type, name: str) -> np.ndarray:
    """Return a table as a contiguous array of the one type that kernels and factorizations are made for."""
    try:
        given = np.asarray(table)
        if given.dtype.kind not in "biuf" or (kind is not float and given.dtype.kind == "f"):
            raise TypeError(f"it is of type {given.dtype}")
        plain: np.ndarray = np.ascontiguousarray(given, kind)
        if kind is not float and (plain != given).any():
            raise ValueError(f"its entries do not fit into {np.dtype(kind)}")
    except (TypeError, ValueError, OverflowError) as error:
        kinds = "numbers" if kind is float else "whole numbers"
        raise UsageError(f"`{name}` cannot be used: {first_line(error)} Expected an array of {kinds}.") from error
    dimensions = 2 if name.endswith("rewards") else 1
    if plain.ndim != dimensions:
        raise UsageError(f"`{name}` has shape {plain.shape}; expected {dimensions} dimension(s).")
    return plain


def check_tables(rewards: np.ndarray, first: np.ndarray, successors: np.ndarray, probabilities: np.ndarray) -> None:
    """Check the tables of an MDP, on which every solver relies; each failure names its place."""
    if 0 in rewards.shape:
        raise UsageError(f"`rewards` has shape {rewards.shape}; expected (S, A) with at least one of each.")
    n_states, n_actions = rewards.shape
    if len(first) != rewards.size + 1 or len(successors) != len(probabilities) or first[-1] != len(successors):
        raise UsageError(
            f"`first`, `next_states` and `probabilities` have {first.shape}, {successors.shape} and "
            f"{probabilities.shape}; expected ({rewards.size + 1},) and twice as many as the last of `first` says."
        )
    if first[0] != 0 or (first[1:] < first[:-1]).any():
        raise UsageError("`first` does not rise from 0; it holds where each row begins.")
    if (bad := ~(rewards < np.inf)).any():
        state, action = np.argwhere(bad)[0]
        raise UsageError(f"`rewards[{state}, {action}]` is {rewards[state, action]}; expected a number, or -inf.")
    if (none := (rewards == -np.inf).all(axis=1)).any():
        raise UsageError(f"State {int(none.argmax())} has no action: all its rewards are -inf. Expected one at least.")
    if successors.size and not 0 <= successors.min() <= successors.max() < n_states:
        check_successors(successors, np.repeat(np.arange(rewards.size), np.diff(first)), n_states, n_actions)
    if not (probabilities >= 0).all():
        entry = int(np.argmin(probabilities >= 0))
        state, action = divmod(int(np.searchsorted(first, entry, side="right")) - 1, n_actions)
        raise row_error(state, action, f"has the probability {probabilities[entry]}", "expected 0 to 1")


def check_last_rewards(last: np.ndarray, rewards: np.ndarray) -> None:
    """Check the rewards of the last step against those of the others: the same actions are available."""
    if last.shape != rewards.shape:
        raise UsageError(f"`last_rewards` has shape {last.shape}; expected that of `rewards`, {rewards.shape}.")
    if (bad := ~(last < np.inf) | ((last == -np.inf) != (rewards == -np.inf))).any():
        state, action = np.argwhere(bad)[0]
        raise UsageError(
            f"`last_rewards[{state}, {action}]` is {last[state, action]}; expected a number, and -inf just where "
            "`rewards` is."
        )


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
    filled = np.flatnonzero(first[1:] > first[:-1])
    if len(filled):
        sums[filled] = np.add.reduceat(values, first[filled], dtype=float)
    return sums


def state_vector(values: Any, n_states: int, name: str) -> np.ndarray:
    """Return an array with one entry a state."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"`{name}` is no array: {first_line(error)}") from error
    if array.shape != (n_states,):
        raise UsageError(f"`{name}` has shape {array.shape}; expected ({n_states},).")
    return array


def distribution(initial: Any, n_states: int) -> np.ndarray:
    """Return a distribution over the states, the uniform one unless another is given."""
    if initial is None:
        return np.full(n_states, 1.0 / max(n_states, 1))
    shares = state_vector(initial, n_states, "initial")
    if shares.dtype.kind not in "biuf":
        raise UsageError(f"`initial` is of type {shares.dtype}; expected a distribution over the states.")
    shares = np.ascontiguousarray(shares, float)
    if not (shares >= 0).all() or not abs(shares.sum() - 1.0) <= SUM_TOLERANCE:
        raise UsageError(f"`initial` sums to {shares.sum():.12g}, least {shares.min():.3g}; expected a distribution.")
    return shares
