"""Sums and sizes of an MDP's rows, looked at in parts, so that what is computed of them takes little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hamiltonian_rl.problems.mdp import MDP

CHUNK = 1_000_000  # rows looked at together


def row_sums(first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum each row; empty rows sum to zero, which `np.add.reduceat` alone does not give."""
    sums = np.zeros(len(first) - 1)
    filled = np.flatnonzero(first[1:] > first[:-1])
    if len(filled):
        sums[filled] = np.add.reduceat(values, first[filled], dtype=float)
    return sums


def row_sum_range(mdp: MDP) -> tuple[float, float]:
    """Return the least and the largest sum of the probabilities of a row whose action is available."""
    least, most = np.inf, -np.inf
    for rows in _chunks(mdp.rewards.size):
        first = mdp.first[rows.start : rows.stop + 1]
        sums = row_sums(first - first[0], mdp.probabilities[first[0] : first[-1]])
        sums = sums[mdp.rewards.reshape(-1)[rows] > -np.inf]
        if len(sums):
            least, most = min(least, float(sums.min())), max(most, float(sums.max()))
    return least, most


def successor_counts(mdp: MDP) -> tuple[int, int]:
    """Return the least and the largest number of successors of a row."""
    least, most = len(mdp.next_states), 0
    for rows in _chunks(mdp.rewards.size):
        counts = np.diff(mdp.first[rows.start : rows.stop + 1])
        least, most = min(least, int(counts.min())), max(most, int(counts.max()))
    return least, most


def _chunks(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, CHUNK):
        yield slice(start, min(start + CHUNK, n_rows))
