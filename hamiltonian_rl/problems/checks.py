"""What every solver relies on in an MDP, checked once; what is wrong is named by its place."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from scipy import sparse

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.rows import row_sums

MOST_STEPS = 2**31 - 1
SINGLE = 1e-5  # what rounding to single precision may take from a row's sum, or add to it
SUM_TOLERANCE = 1e-8  # how far a row of probabilities may be from one: what is printed with eight digits


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
    # Those of an action that is not available play no part, but times a value they must not become infinite.
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1.0 + SUM_TOLERANCE):
        entry = int(np.argmin((probabilities >= 0) & (probabilities <= 1.0 + SUM_TOLERANCE)))
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


def check_full_rows(matrix: sparse.csr_array, rewards: np.ndarray) -> None:
    """Check that the rows of a user's table are distributions; that of an action not available may be empty."""
    totals = row_sums(matrix.indptr, matrix.data)
    empty = (rewards.ravel() == -np.inf) & (totals == 0.0)
    if (bad := ~((np.abs(totals - 1.0) <= SUM_TOLERANCE) | empty)).any():
        state, action = np.argwhere(bad.reshape(rewards.shape))[0]
        total = totals[bad][0]
        single = f" within {SUM_TOLERANCE:g}; divide the rows by their sums, in double precision"
        raise row_error(
            state, action, f"sums to {total:.12g}", f"expected 1{single if abs(total - 1.0) < SINGLE else ''}"
        )


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


def checked_discount(discount: Any) -> float:
    """Return ``γ`` as a float."""
    number = isinstance(discount, numbers.Real) and not isinstance(discount, bool)
    if not (number and 0.0 <= discount <= 1.0):
        raise UsageError(f"discount = {discount!r}; expected a number from 0 to 1.")
    return float(discount)


def check_horizon(horizon: Any) -> None:
    """Check the number of steps after which an episode is cut off, or None."""
    whole = isinstance(horizon, int | np.integer) and not isinstance(horizon, bool)
    if horizon is not None and not (whole and 1 <= horizon <= MOST_STEPS):
        raise UsageError(f"horizon = {horizon!r}; expected a whole number of steps from 1 to {MOST_STEPS:,}, or None.")
