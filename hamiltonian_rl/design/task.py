"""What is asked: candidates, how many of them, by which criterion; checked, and made well conditioned.

The columns are made orthonormal over the candidates first, ``x -> R⁻ᵀ x √N`` with ``X = QR``. That changes neither the
order of designs nor, with the target transformed alike, the criterion, and polynomials of a temperature around 300 K
are as good as any columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import check_criterion, criterion_values

BLOCK = 65_536  # candidates worked on at once
LARGEST_SCALE = 1e60  # of a column, and one over it: their fourth powers are numbers still
LEAST_PIVOT = 1e-11  # of a column of unit length, the others projected out: below it is rounding


@dataclass(frozen=True, eq=False)
class DesignTask:
    """Choose n of N candidates; coordinates are orthonormal over the candidates.

    Attributes:
        columns: Candidates, a column each, shape ``(p, N)``.
        n_rows: n.
        criterion: A, D or I.
        target: ``M`` in these coordinates, shape ``(p, p)``.
        fixed: Information that is there before: included rows and prior, shape ``(p, p)``.
        repeat: Whether a candidate may be chosen more than once.
        transform: ``W`` with ``columns = Wᵀ xᵢ``, shape ``(p, p)``.
    """

    columns: np.ndarray
    n_rows: int
    criterion: str
    target: np.ndarray
    fixed: np.ndarray
    repeat: bool
    transform: np.ndarray

    @property
    def most(self) -> int:
        """How often a candidate may be chosen."""
        return self.n_rows if self.repeat else 1

    @cached_property
    def scale(self) -> float:
        """What the criterion in these coordinates is multiplied with, to be that of the columns as given."""
        return float(np.exp(2.0 * np.log(np.abs(np.diag(self.transform))).mean())) if self.criterion == "D" else 1.0

    def values_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the criterion of some choices of n candidates, shapes ``(B, n)`` and ``(B,)``."""
        chosen = np.ascontiguousarray(self.columns.T[rows])
        return self._values(self.fixed + chosen.swapaxes(1, 2) @ chosen)

    def information(self, counts: np.ndarray) -> np.ndarray:
        """Return ``S``, with what is fixed, of weights or counts of the candidates, shape ``(p, p)``."""
        used = np.flatnonzero(counts)
        rows = self.columns[:, used]
        found: np.ndarray = self.fixed + (rows * counts[used]) @ rows.T
        return found

    def value(self, counts: np.ndarray) -> float:
        """Return the criterion, in the units of the columns as they were given."""
        return float(self._values(self.information(counts)[None])[0])

    def _values(self, information: np.ndarray) -> np.ndarray:
        return self.scale * criterion_values(information, "D" if self.criterion == "D" else "I", self.target)

    def among(self, candidates: np.ndarray) -> DesignTask:
        """Return the task with fewer candidates."""
        columns = np.ascontiguousarray(self.columns[:, candidates])
        return DesignTask(columns, self.n_rows, self.criterion, self.target, self.fixed, self.repeat, self.transform)


def design_task(
    candidates: np.ndarray,
    n_rows: int,
    *,
    criterion: str = "A",
    target: np.ndarray | None = None,
    include: np.ndarray | None = None,
    prior: float | np.ndarray = 0.0,
    repeat: bool = False,
    names: Sequence[str] = (),
) -> DesignTask:
    """Check what is asked, and return it in orthonormal coordinates.

    Args:
        candidates: Shape ``(N, p)``.
        n_rows: How many are to be chosen.
        criterion: ``"A"``, ``"D"`` or ``"I"``.
        target: ``M = E[xxᵀ]`` where predictions are wanted, shape ``(p, p)``; for I, whose default is the candidates'.
        include: Rows that are measured already or will be, shape ``(m, p)``.
        prior: Information before any row: of a ridge, ``prior`` times the identity, or a matrix.
        repeat: Whether a candidate may be chosen more than once.
        names: Of the columns, for messages.

    Raises:
        UsageError: What is wrong, and what to change.
    """
    check_criterion(criterion)
    if not isinstance(repeat, bool | np.bool_):
        raise UsageError(f"repeat = {repeat!r}; expected True or False.")
    rows = _matrix("candidates", candidates)
    n_candidates, p = rows.shape
    fixed_rows = np.empty((0, p)) if include is None else _matrix("include", include, p)
    known = _symmetric("prior", np.diag([prior] * p) if np.ndim(prior) == 0 else prior, p)
    _check_counts(n_rows, n_candidates, p, len(fixed_rows), bool(known.any()), repeat)
    if target is not None and criterion != "I":
        raise UsageError(f'A target is given, which criterion "{criterion}" does not have; take criterion "I".')
    lengths = _lengths(rows)
    names = tuple(names) or tuple(f"column {i}" for i in range(p))
    for name, length in zip(names, lengths, strict=True):
        if length == 0.0:
            raise UsageError(
                f"{name} is zero in every candidate, so that its parameter cannot be learned. Leave it out."
            )
        if not 1.0 / LARGEST_SCALE <= (size := length / np.sqrt(n_candidates)) <= LARGEST_SCALE:
            raise UsageError(
                f"{name} is of size {size:.0e}; the criterion, in its units, would be no number that double precision "
                f"holds. Take units in which it is between {1.0 / LARGEST_SCALE:.0e} and {LARGEST_SCALE:.0e}."
            )
    asked = None if target is None else _symmetric("target", target, p)
    if asked is not None and not asked.any():
        raise UsageError("target is zero: no prediction is wanted anywhere. Give E[xxᵀ] of where some are.")
    triangle = _triangle(rows, lengths)
    _check_collinear(triangle, names)
    transform = solve_triangular(triangle, np.eye(p)) * np.sqrt(n_candidates) / lengths[:, None]
    columns = np.empty((p, n_candidates))
    for start in range(0, n_candidates, BLOCK):
        columns[:, start : start + BLOCK] = transform.T @ rows[start : start + BLOCK].T
    wanted = np.eye(p)
    if criterion == "A":
        wanted = transform.T @ transform
    elif asked is not None:
        wanted = transform.T @ asked @ transform
    included = fixed_rows @ transform
    fixed = included.T @ included + transform.T @ known @ transform
    if not np.abs(fixed).max() <= LARGEST_SCALE:
        raise UsageError(
            f"Prior and included rows say {np.abs(fixed).max():.0e} times as much as a candidate, so that no candidate "
            f"matters. Take such as say less than {LARGEST_SCALE:.0e} times as much."
        )
    return DesignTask(columns, n_rows, criterion, wanted, fixed, repeat, transform)


def _numbers(name: str, given: Any) -> np.ndarray:
    """Return an array of real numbers as floats; what is masked is nan."""
    try:
        if np.iscomplexobj(given):
            raise UsageError(f"{name} holds complex numbers. Expected a table of real ones.")
        if isinstance(given, np.ma.MaskedArray):
            given = np.ma.filled(np.ma.asarray(given, dtype=float), np.nan)
        return np.asarray(given, dtype=float)
    except UsageError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # the last of a tensor with a gradient
        reason = str(error).rstrip(".")
        raise UsageError(f"{name} holds what is no number: {reason}. Expected a table of numbers.") from None


def _matrix(name: str, given: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return a table of numbers as floats."""
    rows = _numbers(name, given)
    if rows.ndim != 2 or 0 in rows.shape:
        raise UsageError(f"{name} has shape {rows.shape}; expected (rows, columns), one of each at least.")
    if width is not None and rows.shape[1] != width:
        raise UsageError(f"{name} has {rows.shape[1]} columns; expected {width}, as the candidates have.")
    for start in range(0, len(rows), BLOCK):
        bad = np.argwhere(~np.isfinite(rows[start : start + BLOCK]))
        if len(bad):
            i, j = bad[0] + (start, 0)
            raise UsageError(f"Row {i} of {name} holds {rows[i, j]} in column {j}; expected a finite number.")
    return rows


def _symmetric(name: str, given: np.ndarray | float, p: int) -> np.ndarray:
    matrix = _numbers(name, given)
    if matrix.shape != (p, p) or not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise UsageError(f"{name} has shape {matrix.shape}; expected a symmetric matrix of {p} x {p} finite numbers.")
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < -1e-9 * np.abs(matrix).max():
        raise UsageError(f"{name} has an eigenvalue {least:.3g}; expected none below zero.")
    return matrix


def _check_counts(n_rows: int, n_candidates: int, p: int, n_fixed: int, with_prior: bool, repeat: bool) -> None:
    if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
        raise UsageError(f"n_rows = {n_rows!r}; expected a whole number from 1 up.")
    if n_rows > n_candidates and not repeat:
        raise UsageError(
            f"n_rows = {n_rows}, and there are {n_candidates} candidates. Choose fewer, or let rows repeat: repeat."
        )
    if n_rows + n_fixed < p and not with_prior:
        raise UsageError(
            f"{n_rows + n_fixed} rows cannot determine {p} parameters. Choose {p - n_fixed} rows at least, include "
            "rows that are measured already, or give a ridge prior above zero."
        )


def _lengths(rows: np.ndarray) -> np.ndarray:
    """Return the length of each column, without overflow, shape ``(p,)``."""
    largest = np.abs(rows).max(0)
    safe = np.where(largest > 0.0, largest, 1.0)
    squares = sum(((rows[i : i + BLOCK] / safe) ** 2).sum(0) for i in range(0, len(rows), BLOCK))
    found: np.ndarray = safe * np.sqrt(squares)
    return found


def _triangle(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return R of ``X = QR``, its columns scaled to unit length first, block by block; shape ``(p, p)``."""
    p = rows.shape[1]
    triangle = np.zeros((p, p))
    for start in range(0, len(rows), BLOCK):
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, rows[start : start + BLOCK] / lengths]), mode="r"))
    return triangle


def _check_collinear(triangle: np.ndarray, names: Sequence[str]) -> None:
    """Refuse columns of which one is a combination of those before it, and name them."""
    small = np.flatnonzero(np.abs(np.diag(triangle)) < LEAST_PIVOT)
    if not len(small):
        return
    j = int(small[0])
    weights = np.linalg.lstsq(triangle[:j, :j], triangle[:j, j], rcond=None)[0] if j else np.empty(0)
    others = [names[int(i)] for i in np.flatnonzero(np.abs(weights) > 1e-6)]
    raise UsageError(
        f"{names[j]} is a combination of {', '.join(others) or 'the others'} in every candidate (collinear), so that "
        "their parameters cannot be told apart. Leave one of them out, or add candidates."
    )
