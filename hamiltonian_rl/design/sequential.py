"""Unit rows chosen one after the other, greedily or planned ahead, in closed form (section 3.1, Insight 2)."""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import filled_spectrum, unit_rows


def plan_rows(information: np.ndarray, n_rows: int, ahead: int | None = None) -> np.ndarray:
    """Return unit rows to measure next, planned ``ahead`` at a time; each plan has the least ``tr(S⁻¹)`` at its end.

    One ahead is greedy: always the eigenvector of the least eigenvalue. All at once is the optimum of N rows. Between,
    p ahead is what Insight 2 asks for. A plan fills the eigenvalues of S up like water, and rows that do so are built.

    Args:
        information: ``S`` so far, shape ``(p, p)``.
        n_rows: N.
        ahead: Rows planned together; all of them if left out.

    Returns:
        Shape ``(N, p)``, in the order of measuring.

    Raises:
        UsageError: ``n_rows`` or ``ahead`` is below one.

    Example:
        >>> errors = []
        >>> for ahead in (1, 2, 3):
        ...     rows = plan_rows(np.eye(2), 3, ahead)
        ...     errors.append(round(float(np.trace(np.linalg.inv(np.eye(2) + rows.T @ rows))), 6))
        >>> errors  # p²/n = 0.8 for three planned together, 2.5²/6 times that for greedy
        [0.833333, 0.833333, 0.8]
    """
    ahead = n_rows if ahead is None else ahead
    if n_rows < 1 or ahead < 1:
        raise UsageError(f"n_rows = {n_rows}, ahead = {ahead}; expected both from 1 up.")
    information, blocks = np.array(information, float), []
    for start in range(0, n_rows, ahead):
        count = min(ahead, n_rows - start)
        spectrum, vectors = np.linalg.eigh(information)
        added = filled_spectrum(spectrum, float(count), count) - spectrum
        blocks.append(unit_rows((vectors * added) @ vectors.T, count))
        information += blocks[-1].T @ blocks[-1]
    return np.concatenate(blocks)
