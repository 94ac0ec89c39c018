"""Fermat's side (section 3, Eq. 5-7): the least time to learn, and the data that take it.

Notation: ``X`` design, rows ``x_i`` of shape ``(p,)``; ``S = XᵀX`` information matrix; ``M = E[xxᵀ]`` target, where
predictions are wanted; ``n`` rows. A linear regression ``y = xᵀβ + ξ`` with noise ``σ²`` predicts with the mean
squared error ``ε = σ² + σ² tr(S⁻¹ M)``. Of unit rows ``tr S = n`` (Eq. 6), and by Jensen's inequality
``tr(S⁻¹ M) >= (tr M^½)² / n``: that is ``p / n`` for rows to be predicted uniformly on the sphere, ``M = I/p``, where
``S = (n/p) I`` reaches it, a unit-norm tight frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hamiltonian_rl.errors import UsageError

CRITERIA = ("A", "D", "I")


def learning_time(errors: Sequence[float], threshold: float, durations: Sequence[float] | None = None) -> float:
    """Return how long the error is above a threshold, ``T(θ) = ∫ Θ(ε[s] - θ) dt`` (Eq. 5) for a given sequence ``s``.

    Where the error never rises again it is ``T_sample``, the samples until the threshold is reached; with the seconds
    of each as ``durations`` it is ``T_compute``. Infinite where the last error is still above: the run is censored.

    Args:
        errors: ``ε`` before each step and after the last, length ``T + 1``.
        threshold: ``θ``; an error that equals it is not above.
        durations: Of the steps, length ``T``; one each if left out.

    Raises:
        UsageError: There are not as many durations as steps.

    Example:
        >>> learning_time([3.0, 2.0, 1.5, 1.2, 1.1], 1.5)
        2.0
        >>> learning_time([3.0, 2.0], 1.5)
        inf
    """
    steps = len(errors) - 1
    if steps < 0 or (durations is not None and len(durations) != steps):
        got = "none" if durations is None else len(durations)
        raise UsageError(
            f"learning_time got {len(errors)} errors and {got} durations; expected an error before each step and one "
            "after the last, so one error more than durations."
        )
    above = ~(np.asarray(errors, float) <= threshold)  # what is no number is not reached
    if above[-1]:
        return float("inf")
    return float(above[:-1] @ (np.ones(steps) if durations is None else np.asarray(durations, float)))


def criterion_value(information: np.ndarray, criterion: str = "A", target: np.ndarray | None = None) -> float:
    """Return what a design is worth, the smaller the better; twice the rows have half of it.

    ======  ====================  =================================================
    ``A``   ``tr(S⁻¹)``           variances of the p parameters, added up
    ``I``   ``tr(S⁻¹ M)``         variance of a prediction, in the mean over ``M``
    ``D``   ``det(S)^(-1/p)``     volume of the confidence ellipsoid, per axis
    ======  ====================  =================================================

    Args:
        information: ``S``, shape ``(p, p)``.
        criterion: ``"A"``, ``"D"`` or ``"I"``.
        target: ``M``, shape ``(p, p)``, which I needs.

    Returns:
        The value over ``σ²``; infinite where ``S`` is singular.

    Example:
        >>> three = np.array([[1.0, -1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        >>> round(criterion_value(three.T @ three / 4), 12)  # a parabola on [-1, 1], weights 1/4, 1/2, 1/4
        8.0
    """
    return float(criterion_values(information[None], criterion, target)[0])


def criterion_values(information: np.ndarray, criterion: str = "A", target: np.ndarray | None = None) -> np.ndarray:
    """Return what some designs are worth, shape ``(B,)``: `criterion_value` of each matrix of ``(B, p, p)``.

    Example:
        >>> criterion_values(np.stack([np.eye(2), 2.0 * np.eye(2), np.ones((2, 2))])).tolist()
        [2.0, 1.0, inf]
    """
    check_criterion(criterion)
    spectrum = np.linalg.eigvalsh(information)
    regular = spectrum[:, 0] > spectrum[:, -1] * spectrum.shape[1] * np.finfo(float).eps
    found = np.full(len(information), np.inf)
    if criterion == "D":
        found[regular] = np.exp(-np.log(spectrum[regular]).mean(1))
    elif criterion == "A":
        found[regular] = (1.0 / spectrum[regular]).sum(1)
    elif target is None:
        raise UsageError('criterion = "I" needs a target, E[xxᵀ] of where predictions are wanted.')
    else:
        found[regular] = np.trace(np.linalg.solve(information[regular], target), axis1=1, axis2=2)
    return found


def check_criterion(criterion: str) -> None:
    """Refuse what is no criterion.

    Raises:
        UsageError: It is none.
    """
    if criterion not in CRITERIA:
        raise UsageError(f'There is no criterion "{criterion}". Known: {", ".join(CRITERIA)}.')


def criterion_bound(n_rows: int, target: np.ndarray) -> float:
    """Return ``(tr M^½)² / n``, below which ``tr(S⁻¹ M)`` of n unit rows cannot be (Eq. 6).

    Example:
        >>> criterion_bound(20, np.eye(10)), round(criterion_bound(20, np.eye(10) / 10), 12)  # p²/n of A, p/n of ε
        (5.0, 0.5)
    """
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(target), 0.0, None))
    return float(roots.sum() ** 2 / n_rows)


def expected_error(information: np.ndarray, target: np.ndarray, noise_variance: float = 1.0) -> float:
    """Return ``ε = σ² + σ² tr(S⁻¹ M)``, the mean squared error of a prediction after learning.

    Example:
        >>> expected_error(2 * np.eye(3), np.eye(3) / 3)  # n = 2p: the error 1.5 σ²
        1.5
    """
    return noise_variance * (1.0 + criterion_value(information, "I", target))


def row_norm_defect(design: np.ndarray) -> float:
    """Return ``max_i | |x_i|² - 1 |``, zero where all rows are of unit length.

    Orthonormal columns are not enough for an optimal design: of a Stiefel matrix ``V``, ``√(n/p) V`` is a design of
    unit rows only where the rows of ``V`` have equal norms.

    Example:
        >>> stiefel = np.vstack([np.eye(2), np.zeros((2, 2))])  # its columns are orthonormal
        >>> round(row_norm_defect(np.sqrt(4 / 2) * stiefel), 12), row_norm_defect(tight_frame(4, 2)) < 1e-15
        (1.0, True)
    """
    return float(np.abs((design**2).sum(1) - 1.0).max())


def tightness_defect(design: np.ndarray) -> float:
    """Return ``max | S - (n/p) I |``, zero where the design is a tight frame: with unit rows, an optimal one."""
    n, p = design.shape
    return float(np.abs(design.T @ design - n / p * np.eye(p)).max())


def tight_frame(n_rows: int, n_columns: int) -> np.ndarray:
    """Return a unit-norm tight frame, the real harmonic one: n rows that reach the bound ``p/n`` exactly.

    Row k holds ``√(2/p) (cos 2πjk/n, sin 2πjk/n)`` for ``p/2`` frequencies j; of the constant and, where n = p, of
    the alternating one a single column of ``1/√p``. It is there for every ``n >= p``.

    Returns:
        Shape ``(n, p)``.

    Raises:
        UsageError: ``n < p``, or ``p < 1``, or one is no whole number.

    Reference:
        Goyal, Kovačević and Kelner (2001), "Quantized frame expansions with erasures", section 2.

    Example:
        >>> frame = tight_frame(7, 3)
        >>> bool(np.allclose(frame.T @ frame, 7 / 3 * np.eye(3)) and np.allclose((frame**2).sum(1), 1.0))
        True
    """
    n, p = n_rows, n_columns
    if not (isinstance(n, int | np.integer) and isinstance(p, int | np.integer)):
        raise UsageError(f"A tight frame of {n!r} rows and {p!r} columns: expected two whole numbers.")
    if not n >= p >= 1:
        raise UsageError(f"There is no tight frame of {n} rows and {p} columns; expected at least as many rows.")
    k = np.arange(n)
    columns = [np.full(n, 1.0 / np.sqrt(p))] if p % 2 or n == p else []
    if n == p and p % 2 == 0:
        columns.append(np.where(k % 2, -1.0, 1.0) / np.sqrt(p))
    for j in range(1, (p - len(columns)) // 2 + 1):
        angle = 2.0 * np.pi * (j * k % n) / n
        columns += [np.sqrt(2.0 / p) * np.cos(angle), np.sqrt(2.0 / p) * np.sin(angle)]
    return np.stack(columns, 1)


def unit_rows(information: np.ndarray, n_rows: int) -> np.ndarray:
    """Return n rows of unit length whose information matrix ``XᵀX`` is the given one, of trace n and rank n at most.

    Schur and Horn's theorem says that there are such rows. They are built from rows ``√μ_i e_i`` of the eigenvectors:
    a rotation of one that is too long with one that is too short makes one of them a unit, and leaves ``XᵀX``.

    Returns:
        Shape ``(n, p)``.

    Raises:
        UsageError: The trace is not n, an eigenvalue is negative, or the rank is above n.

    Example:
        >>> rows = unit_rows(np.diag([2.5, 0.5]), 3)
        >>> bool(np.allclose(rows.T @ rows, np.diag([2.5, 0.5])) and np.allclose((rows**2).sum(1), 1.0))
        True
    """
    spectrum, vectors = np.linalg.eigh(information)
    spectrum, vectors = spectrum[::-1], vectors[:, ::-1]
    slack = 1e-9 * max(n_rows, 1)
    if abs(spectrum.sum() - n_rows) > slack or spectrum[-1] < -slack or (spectrum[n_rows:] > slack).any():
        raise UsageError(
            f"No {n_rows} unit rows have an information matrix of eigenvalues {spectrum}; expected none below zero, "
            f"{n_rows} above zero at most, and the sum {n_rows}."
        )
    rows = np.zeros((n_rows, len(spectrum)))
    kept = min(rows.shape)
    rows[:kept] = np.sqrt(np.clip(spectrum[:kept], 0.0, None))[:, None] * vectors.T[:kept]
    for _ in range(n_rows - 1):
        excess = (rows**2).sum(1) - 1.0
        long, short = int(excess.argmax()), int(excess.argmin())
        if excess[long] <= 1e-15 or excess[short] >= -1e-15:
            break
        rows[[long, short]] = _rotated_to_unit(rows[long], rows[short])
    rows /= np.sqrt((rows**2).sum(1, keepdims=True))
    return rows


def _rotated_to_unit(long: np.ndarray, short: np.ndarray) -> np.ndarray:
    """Return ``c a + s b`` of unit length and ``c b - s a``, for ``|a| >= 1 >= |b|``; shape ``(2, p)``."""
    a, b, both = long @ long - 1.0, short @ short - 1.0, long @ short
    tangent = (-both + np.sqrt(max(both**2 - a * b, 0.0))) / b  # t = s/c with a + 2 t (a·b) + t² b = 0
    cosine = 1.0 / np.hypot(1.0, tangent)
    sine = tangent * cosine
    return np.stack([cosine * long + sine * short, cosine * short - sine * long])


def filled_spectrum(spectrum: np.ndarray, amount: float, n_rows: int | None = None) -> np.ndarray:
    """Return the eigenvalues that minimise ``Σ 1/λ_i`` when ``amount`` is added to those given: filled up like water.

    The least are raised to one level τ. It is what the best unit rows, ``amount`` of them, do to ``S`` when they are
    planned together: any positive semidefinite matrix of that trace is a sum of ``amount`` unit rows, of rank at most
    ``amount`` (`unit_rows`).

    Args:
        spectrum: Eigenvalues of ``S``, any order, shape ``(p,)``.
        amount: What is added up to.
        n_rows: How many eigenvalues may be raised; all if left out.

    Example:
        >>> filled_spectrum(np.array([1.0, 4.0, 2.0]), 2.0)
        array([2.5, 4. , 2.5])
    """
    lowest = np.argsort(spectrum)[: len(spectrum) if n_rows is None else min(n_rows, len(spectrum))]
    counts = np.arange(1, len(lowest) + 1)
    levels = (np.cumsum(spectrum[lowest]) + amount) / counts
    level = levels[np.flatnonzero(levels >= spectrum[lowest])[-1]]  # the last that is filled at all
    filled = np.array(spectrum, float)
    filled[lowest] = np.maximum(filled[lowest], level)
    return filled


def greedy_excess(n_rows: int, n_columns: int) -> float:
    """Return ``tr(S⁻¹)`` of greedy over the bound ``p²/n``: ``(k+a)(k+1-a) / (k(k+1))`` for ``n = p(k+a)``.

    Greedy starts from p orthonormal rows and adds the eigenvector of the smallest eigenvalue: optimal at every
    ``n = kp``, and between two of them at most 12.5 % worse (Insight 2 is half true).

    Raises:
        UsageError: ``n < p``.

    Example:
        >>> greedy_excess(20, 10), greedy_excess(15, 10)
        (1.0, 1.125)
    """
    if not n_rows >= n_columns >= 1:
        raise UsageError(f"greedy_excess needs n >= p >= 1; got n = {n_rows}, p = {n_columns}.")
    k, rest = divmod(n_rows, n_columns)
    a = rest / n_columns
    return (k + a) * (k + 1 - a) / (k * (k + 1))
