"""Interpolation at many points as compiled loops; neither corners nor weights are stored.

Notation: ``n`` coordinates, up to `MOST`; ``c`` coefficients on the padded grid, flat; ``w`` weights along each
coordinate of the ``width`` coefficients around a point: 2 of a broken line, 4 of a cubic spline. Coordinates that a
problem has not come first, with one coefficient of weight one.

Kernels capture numbers alone, no other kernel: so they are found in the cache of compiled code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from hamiltonian_rl.problems.interpolation import MOST

compiled = numba.njit(cache=True, nogil=True, fastmath=False)


@cache
def interpolation_kernel(n: int, width: int, slopes: bool) -> Callable[..., Any]:
    """Return ``(c, strides, low, spacing, counts, wraps, states, out)``, for ``states (M, n)``.

    It writes V into ``out (M, 1)``, or its gradient into ``out (M, n)``; NaN where a state is not finite. Outside the
    grid V is that of the border, its slope zero.
    """
    first = MOST - n
    cubic, outputs = width == 4, n if slopes else 1
    width_0, width_1, width_2 = (width if d >= first else 1 for d in range(3))

    @compiled
    def interpolate(c, strides, low, spacing, counts, wraps, states, out):  # type: ignore[no-untyped-def]
        w, dw, used = np.ones((4, width)), np.zeros((4, width)), np.ones((4, width))
        for row in range(len(states)):
            start, finite = 0, True
            for d in range(n):
                x = (states[row, d] - low[d]) / spacing[d]
                if not np.isfinite(x):
                    finite = False
                    break
                slope = 1.0 / spacing[d]
                if wraps[d]:
                    x -= np.floor(x / counts[d]) * counts[d]
                    cell = min(int(x), counts[d] - 1)
                else:
                    if x < 0.0 or x > counts[d] - 1.0:
                        x, slope = min(max(x, 0.0), counts[d] - 1.0), 0.0
                    cell = min(int(x), counts[d] - 2)
                t = x - cell
                u, e = 1.0 - t, d + first
                start += cell * strides[e]
                if cubic:
                    w[e, 0], w[e, 3] = u * u * u / 6.0, t * t * t / 6.0
                    w[e, 1] = (4.0 - 3.0 * t * t * (1.0 + u)) / 6.0
                    w[e, 2] = (4.0 - 3.0 * u * u * (1.0 + t)) / 6.0
                    dw[e, 0], dw[e, 3] = -0.5 * u * u * slope, 0.5 * t * t * slope
                    dw[e, 1] = (1.5 * t - 2.0) * t * slope
                    dw[e, 2] = (2.0 - 1.5 * u) * u * slope
                else:
                    w[e, 0], w[e, 1] = u, t
                    dw[e, 0], dw[e, 1] = -slope, slope
            for output in range(outputs):
                for e in range(4):
                    for i in range(width):
                        used[e, i] = dw[e, i] if slopes and e == output + first else w[e, i]
                total = 0.0
                for i in range(width_0 if finite else 0):
                    at_0, sum_1 = start + i * strides[0], 0.0
                    for j in range(width_1):
                        at_1, sum_2 = at_0 + j * strides[1], 0.0
                        for k in range(width_2):
                            at_2, sum_3 = at_1 + k * strides[2], 0.0
                            for m in range(width):
                                sum_3 += used[3, m] * c[np.uint64(at_2 + m)]
                            sum_2 += used[2, k] * sum_3
                        sum_1 += used[1, j] * sum_2
                    total += used[0, i] * sum_1
                out[row, output] = total if finite else np.nan

    return interpolate
