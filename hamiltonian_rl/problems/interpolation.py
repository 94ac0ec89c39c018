"""V between the points of a uniform grid: multilinear, or a tensor product of cubic splines.

Multilinear weights are not negative and sum to one: Bellman's operator stays monotone and contracts, and the
error falls with the square of the spacing where V is smooth. A cubic spline's error falls with the fourth power,
up to the border (its end condition is not-a-knot; angles wrap), but some of its weights are negative: nothing
guarantees that a sweep contracts, and at kinks of V it rings.

Reference:
    de Boor (2001), "A practical guide to splines", chapters IV and IX; Kushner and Dupuis (2001), chapter 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hamiltonian_rl.errors import UsageError

DEGREES = {"multilinear": 1, "cubic": 3}
LEAST_CUBIC = 4  # points along a coordinate
MOST = 4  # coordinates


class Interpolant:
    """A function on a uniform grid, extended to all states.

    Outside the grid it takes the value of the nearest border point; periodic coordinates wrap.

    Args:
        value: On the grid points, shape ``(P_1, ..., P_n)``; finite.
        low: First point along each coordinate, shape ``(n,)``.
        spacing: Distance of points along each, shape ``(n,)``.
        periodic: Which coordinates wrap: there the point after the last is the first.
        degree: 1, multilinear, or 3, cubic.

    Raises:
        UsageError: If there are more than four coordinates.

    Example:
        >>> cube = Interpolant(np.arange(6.0) ** 3, np.zeros(1), np.ones(1), (False,), degree=3)
        >>> round(float(cube(np.array([2.5]))), 9), cube.gradient(np.array([2.0])).round(9).tolist()
        (15.625, [12.0])
    """

    def __init__(
        self, value: np.ndarray, low: np.ndarray, spacing: np.ndarray, periodic: Sequence[bool], degree: int
    ) -> None:
        if value.ndim > MOST:
            raise UsageError(
                f"The grid has {value.ndim} coordinates; interpolation takes 1 to {MOST}. Take solve(grid.mdp), whose "
                "table may be large, or solve_costate."
            )
        self._width = degree + 1
        self._place = (low, spacing, np.array(value.shape, np.int64), np.array(periodic, np.bool_))
        found = np.asarray(value, float)
        for axis, wraps in enumerate(periodic):
            lines = np.moveaxis(found, axis, 0)
            if degree == 3:
                lines = _periodic_spline(lines) if wraps else _spline(lines)
            elif wraps:
                lines = np.concatenate([lines, lines[:1]])
            found = np.moveaxis(lines, 0, axis)
        padded = (1,) * (MOST - found.ndim) + found.shape
        self._strides = np.array(np.cumprod((1, *padded[:0:-1]))[::-1], np.int64)
        self._coefficients = np.ascontiguousarray(found).ravel()
        self._size = found.ndim

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return the value at states of shape ``(..., n)``, shape ``(...)``; NaN where a state is not finite."""
        return self._at(states, slopes=False).reshape(np.shape(states)[:-1])

    def gradient(self, states: np.ndarray) -> np.ndarray:
        """Return the gradient at states of shape ``(..., n)``, of the same shape; zero along where V is cut off."""
        return self._at(states, slopes=True).reshape(np.shape(states))

    def _at(self, states: np.ndarray, *, slopes: bool) -> np.ndarray:
        from hamiltonian_rl.problems.interpolation_kernels import interpolation_kernel  # numba takes a moment

        rows = np.ascontiguousarray(states, float).reshape(-1, self._size)
        out = np.empty((len(rows), self._size if slopes else 1))
        kernel = interpolation_kernel(self._size, self._width, slopes)
        kernel(self._coefficients, self._strides, *self._place, rows, out)
        return out


def _spline(values: np.ndarray) -> np.ndarray:
    """Return B-spline coefficients ``c_-1 ... c_P`` along the first axis, not-a-knot at both ends.

    With ``f_i = (c_{i-1} + 4 c_i + c_{i+1}) / 6`` and M the second difference of c, not-a-knot says
    ``M_0 - 2 M_1 + M_2 = 0``; hence M_1 is the second difference of f, and ``c_1 = f_1 - M_1 / 6`` is known.
    """
    from scipy.linalg import solve_banded

    count = len(values)
    c = np.empty((count + 2, *values.shape[1:]))  # c[i + 1] holds c_i
    for edge, to in ((values[:3], 2), (values[-3:], count - 1)):
        c[to] = edge[1] - (edge[0] - 2.0 * edge[1] + edge[2]) / 6.0
    if count > LEAST_CUBIC:
        right = 6.0 * values[2:-2]
        right[0] -= c[2]
        right[-1] -= c[count - 1]
        bands = np.tile([[1.0], [4.0], [1.0]], (1, count - 4))
        c[3 : count - 1] = solve_banded((1, 1), bands, right.reshape(count - 4, -1)).reshape(right.shape)
    for here, step, first in ((1, 1, 0), (count, -1, count - 1)):
        c[here] = 6.0 * values[first + step] - 4.0 * c[here + step] - c[here + 2 * step]
        c[here - step] = 6.0 * values[first] - 4.0 * c[here] - c[here + step]
    return c


def _periodic_spline(values: np.ndarray) -> np.ndarray:
    """Return B-spline coefficients ``c_-1 ... c_{P+1}`` along the first axis, periodic: a circulant system."""
    from scipy import fft

    count = len(values)
    symbol = (4.0 + 2.0 * np.cos(2.0 * np.pi * np.arange(count // 2 + 1) / count)) / 6.0
    turned = fft.rfft(values, axis=0) / symbol.reshape(-1, *(1,) * (values.ndim - 1))
    c = fft.irfft(turned, n=count, axis=0)
    padded: np.ndarray = np.concatenate([c[-1:], c, c[:2]])
    return padded
