"""Interpolation at many points as compiled loops; neither corners nor weights are stored.

Notation: ``n`` coordinates, ``c`` coefficients on the padded grid, flat; ``w (n, width)`` weights along each
coordinate of the ``width`` coefficients around a point: 2 of a broken line, 4 of a cubic spline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

Kernel = Callable[..., Any]
compiled = numba.njit(cache=True, nogil=True, fastmath=False)


@cache
def value_kernel(n: int, width: int) -> Kernel:
    """Return ``(c, strides, low, spacing, counts, wraps, states, out)``, which writes V at ``states (M, n)``."""
    place, total = _place(n, width), _total(n, width)

    @compiled
    def value(c, strides, low, spacing, counts, wraps, states, out):  # type: ignore[no-untyped-def]
        w, slopes = np.empty((n, width)), np.empty((n, width))
        for i in range(len(states)):
            start = place(strides, low, spacing, counts, wraps, states[i], w, slopes)
            out[i] = total(c, start, strides, w, 0) if start >= 0 else np.nan

    return value


@cache
def gradient_kernel(n: int, width: int) -> Kernel:
    """Return the same with ``out (M, n)``, which writes the gradient of the interpolated V."""
    place, total = _place(n, width), _total(n, width)

    @compiled
    def gradient(c, strides, low, spacing, counts, wraps, states, out):  # type: ignore[no-untyped-def]
        w, slopes, mixed = np.empty((n, width)), np.empty((n, width)), np.empty((n, width))
        for i in range(len(states)):
            start = place(strides, low, spacing, counts, wraps, states[i], w, slopes)
            for d in range(n):
                mixed[:, :] = w
                mixed[d, :] = slopes[d, :]
                out[i, d] = total(c, start, strides, mixed, 0) if start >= 0 else np.nan

    return gradient


@cache
def _place(n: int, width: int) -> Kernel:
    """Return the function that writes a state's weights and their slopes, and returns where its coefficients begin.

    It returns -1 for a state that is not finite. Outside the grid V is that of the border, its slope zero.
    """
    cubic = width == 4

    @compiled
    def place(strides, low, spacing, counts, wraps, state, w, slopes):  # type: ignore[no-untyped-def]
        start = 0
        for d in range(n):
            x = (state[d] - low[d]) / spacing[d]
            if not np.isfinite(x):
                return -1
            inside = 1.0
            if wraps[d]:
                x -= np.floor(x / counts[d]) * counts[d]
                cell = min(int(x), counts[d] - 1)
            else:
                if x < 0.0 or x > counts[d] - 1.0:
                    x, inside = min(max(x, 0.0), counts[d] - 1.0), 0.0
                cell = min(int(x), counts[d] - 2)
            t = x - cell
            start += cell * strides[d]
            unit = inside / spacing[d]
            if cubic:
                u = 1.0 - t
                w[d, 0], w[d, 3] = u * u * u / 6.0, t * t * t / 6.0
                w[d, 1] = (4.0 - 3.0 * t * t * (1.0 + u)) / 6.0
                w[d, 2] = (4.0 - 3.0 * u * u * (1.0 + t)) / 6.0
                slopes[d, 0], slopes[d, 3] = -0.5 * u * u * unit, 0.5 * t * t * unit
                slopes[d, 1] = (1.5 * t - 2.0) * t * unit
                slopes[d, 2] = (2.0 - 1.5 * u) * u * unit
            else:
                w[d, 0], w[d, 1] = 1.0 - t, t
                slopes[d, 0], slopes[d, 1] = -unit, unit
        return start

    return place


@cache
def _total(n: int, width: int) -> Kernel:
    """Return ``(c, start, strides, w, d) -> Σ w c`` over the coefficients around a point, loops nested n deep."""
    if n == 0:

        @compiled
        def one(c, start, strides, w, d):  # type: ignore[no-untyped-def]
            return c[np.uint64(start)]

        return one
    inner = _total(n - 1, width)

    @compiled
    def total(c, start, strides, w, d):  # type: ignore[no-untyped-def]
        found = 0.0
        for i in range(width):
            found += w[d, i] * inner(c, start + i * strides[d], strides, w, d + 1)
        return found

    return total
