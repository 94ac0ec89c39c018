"""The blocks ``Q_aa`` along a path, of which each lies as the lower triangle of its rows, one after the other."""

from __future__ import annotations

import numpy as np


def smallest_curvature(curvature: np.ndarray, m: int) -> np.ndarray:
    """Return the smallest eigenvalue of ``-Q_aa`` along each path; infinite where no action is free.

    Args:
        curvature: Of P paths, ``(P, N, m (m + 1) / 2)``, as `BoxRule.judged` leaves it.
        m: Number of actions.
    """
    if m == 1:
        values = -curvature
    else:
        rows, columns = np.tril_indices(m)
        matrix = np.empty((*curvature.shape[:2], m, m))
        matrix[..., rows, columns] = matrix[..., columns, rows] = -curvature
        held = np.isposinf(np.diagonal(matrix, axis1=-2, axis2=-1))
        finite = np.nan_to_num(matrix, posinf=0.0)
        # Held actions get an eigenvalue above all others, and so drop out.
        above = 1.0 + np.abs(finite).sum((-1, -2))
        values = _smallest_eigenvalue(finite + np.eye(m) * np.where(held, above[..., None], 0.0)[..., None])[..., None]
        values = np.where(held.all(-1, keepdims=True), np.inf, values)
    return np.asarray(values.min((-1, -2), initial=np.inf))


def diagonal(curvature: np.ndarray, m: int) -> np.ndarray:
    """Return the diagonals of the blocks, ``(P, N, m)``."""
    return np.asarray(curvature[..., np.cumsum(np.arange(1, m + 1)) - 1])


def without(curvature: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return the blocks where some actions drop out, ``left_out`` of shape ``(P, N, m)``, as held ones do."""
    rows, columns = np.tril_indices(left_out.shape[-1])
    out = left_out[..., rows] | left_out[..., columns]
    return np.asarray(np.where(out, np.where(rows == columns, -np.inf, 0.0), curvature))


def _smallest_eigenvalue(matrix: np.ndarray) -> np.ndarray:
    """Return the smallest eigenvalue of symmetric matrices; of 2 x 2 without LAPACK's call for each."""
    if matrix.shape[-1] != 2:
        return np.asarray(np.linalg.eigvalsh(matrix)[..., 0])
    first, second = matrix[..., 0, 0], matrix[..., 1, 1]
    return np.asarray(0.5 * (first + second) - np.hypot(0.5 * (first - second), matrix[..., 0, 1]))
