"""Changing a design by one or two rows, as compiled loops over the candidates in blocks that fit the cache.

Notation: ``xs (p, N)`` candidates, a column each; ``S`` information matrix, ``A = S⁻¹``; ``B = A M A``, the slope of
``tr(S⁻¹M)`` downwards (``B = A`` for D, whose slope of ``log det S`` it is); ``a_i = xᵢᵀA xᵢ``, ``b_i = xᵢᵀB xᵢ``
``(N,)``; ``used (N,)`` how often a candidate is in the design, at most ``most``.

Everything is one change, ``S' = S + U C Uᵀ`` with ``U = [x, y]`` and ``C = diag(c, d)``: (1, -1) swaps y for x,
(1, 0) adds x, (δ, -δ) moves weight. With ``K = UᵀAU``, ``L = UᵀBU`` and ``Q = (I + CK)⁻¹C``,

* ``det S' / det S = det(I + CK) = (1 + c a_x)(1 + d a_y) - c d a_xy²``,
* ``tr(S'⁻¹M) = tr(S⁻¹M) - tr(QL)``,
* ``a' = a - uᵀQu`` with ``u = UᵀA x``, and ``b' = b - 2 uᵀQ w + uᵀQLQu`` with ``w = UᵀB x``.

A swap in one step needs no design without y, which at ``n = p`` would be singular (``a_y = 1``): there the determinant
changes by ``a_xy²``, and the search is not stuck.
"""

from __future__ import annotations

import numba
import numpy as np

from hamiltonian_rl.compilation import announce_compiling

BLOCK = 1024  # candidates whose four running sums stay in the first cache
LEAST_DETERMINANT = 1e-8  # of a swap: what is nearer to a singular design is not taken
compiled = numba.njit(cache=True, nogil=True, fastmath=False)


@compiled
def quadratic_forms(xs, matrix, out):  # type: ignore[no-untyped-def]
    """Write ``xᵢᵀ matrix xᵢ`` into ``out``."""
    p, n = xs.shape
    row = np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        out[start : start + size] = 0.0
        for k in range(p):
            row[:size] = 0.0
            for j in range(p):
                scale = matrix[k, j]
                for i in range(size):
                    row[i] += scale * xs[j, start + i]
            for i in range(size):
                out[start + i] += row[i] * xs[k, start + i]


@compiled
def swap_gain(a_x, b_x, a_y, b_y, a_xy, b_xy, is_d):  # type: ignore[no-untyped-def]
    """Return by how much a swap of y for x lowers ``tr(S⁻¹M)``, or by what share it raises ``det S``."""
    ratio = (1.0 + a_x) * (1.0 - a_y) + a_xy * a_xy
    if is_d:
        return ratio - 1.0
    gain = (1.0 - a_y) * b_x - (1.0 + a_x) * b_y + 2.0 * a_xy * b_xy
    return gain / ratio if ratio > LEAST_DETERMINANT else 0.0


@compiled
def best_swaps(xs, a, b, used, most, is_d, inverse, slope, ys):  # type: ignore[no-untyped-def]
    """Return for some rows ys at once what `best_swap` returns for each; nothing is swapped.

    A block of candidates is read once for all rows: of a million candidates reading takes longer than computing.
    """
    n, count = xs.shape[1], len(ys)
    rows = np.ascontiguousarray(xs[:, ys])
    along_a, along_b = np.ascontiguousarray((inverse @ rows).T), np.ascontiguousarray((slope @ rows).T)
    best, chosen = np.zeros(count), np.full(count, -1)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        block = np.ascontiguousarray(xs[:, start : start + size])
        a_xy = along_a @ block
        b_xy = a_xy if is_d else along_b @ block
        for r in range(count):
            a_y, b_y = a[ys[r]], b[ys[r]]
            for i in range(size):
                x = start + i
                gain = swap_gain(a[x], b[x], a_y, b_y, a_xy[r, i], b_xy[r, i], is_d)
                if gain > best[r] and used[x] < most:
                    best[r], chosen[r] = gain, x
    return chosen, np.log1p(best) if is_d else best


@compiled
def best_swap(xs, a, b, used, most, is_d, inverse, slope, y):  # type: ignore[no-untyped-def]
    """Return the candidate x to swap y for, and by how much it lowers ``tr(S⁻¹M)``, or raises ``log det S``."""
    p, n = xs.shape
    along_a, along_b = inverse @ np.ascontiguousarray(xs[:, y]), slope @ np.ascontiguousarray(xs[:, y])
    a_y, b_y = a[y], b[y]
    a_xy, b_xy = np.empty(BLOCK), np.empty(BLOCK)
    best, chosen = 0.0, -1
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        a_xy[:size] = 0.0
        b_xy[:size] = 0.0
        for k in range(p):
            scale_a, scale_b = along_a[k], along_b[k]
            for i in range(size):
                a_xy[i] += scale_a * xs[k, start + i]
            if not is_d:
                for i in range(size):
                    b_xy[i] += scale_b * xs[k, start + i]
        for i in range(size):
            gain = swap_gain(a[start + i], b[start + i], a_y, b_y, a_xy[i], b_xy[i], is_d)
            if gain > best and used[start + i] < most:
                best, chosen = gain, start + i
    return chosen, np.log1p(best) if is_d else best


@compiled
def change(xs, a, b, is_d, inverse, slope, x, y, c, d):  # type: ignore[no-untyped-def]
    """Carry out ``S' = S + c xxᵀ + d yyᵀ`` on ``inverse``, ``slope``, ``a`` and ``b``; return ``tr(QL)``, ``log det``.

    The criterion falls by the first, and ``log det S`` rises by the second.
    """
    p, n = xs.shape
    x_row, y_row = np.ascontiguousarray(xs[:, x]), np.ascontiguousarray(xs[:, y])
    ax, ay, bx, by = inverse @ x_row, inverse @ y_row, slope @ x_row, slope @ y_row
    k_xx, k_yy, k_xy = x_row @ ax, y_row @ ay, x_row @ ay
    l_xx, l_yy, l_xy = x_row @ bx, y_row @ by, x_row @ by
    det = (1.0 + c * k_xx) * (1.0 + d * k_yy) - c * d * k_xy * k_xy
    q_xx, q_yy, q_xy = c * (1.0 + d * k_yy) / det, d * (1.0 + c * k_xx) / det, -c * d * k_xy / det
    m_xx, m_xy = q_xx * l_xx + q_xy * l_xy, q_xx * l_xy + q_xy * l_yy  # QL, then R = QLQ
    m_yx, m_yy = q_xy * l_xx + q_yy * l_xy, q_xy * l_xy + q_yy * l_yy
    r_xx, r_xy, r_yy = m_xx * q_xx + m_xy * q_xy, m_xx * q_xy + m_xy * q_yy, m_yx * q_xy + m_yy * q_yy
    u_x, u_y, w_x, w_y = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        for sums in (u_x, u_y, w_x, w_y):
            sums[:size] = 0.0
        for k in range(p):
            for i in range(size):
                u_x[i] += ax[k] * xs[k, start + i]
                u_y[i] += ay[k] * xs[k, start + i]
            if not is_d:
                for i in range(size):
                    w_x[i] += bx[k] * xs[k, start + i]
                    w_y[i] += by[k] * xs[k, start + i]
        for i in range(size):
            along_x, along_y = q_xx * u_x[i] + q_xy * u_y[i], q_xy * u_x[i] + q_yy * u_y[i]
            a[start + i] -= u_x[i] * along_x + u_y[i] * along_y
            if is_d:
                b[start + i] = a[start + i]
            else:
                square = r_xx * u_x[i] * u_x[i] + 2.0 * r_xy * u_x[i] * u_y[i] + r_yy * u_y[i] * u_y[i]
                b[start + i] += square - 2.0 * (w_x[i] * along_x + w_y[i] * along_y)
    for i in range(p):
        for j in range(p):
            along_x, along_y = q_xx * ax[j] + q_xy * ay[j], q_xy * ax[j] + q_yy * ay[j]
            if not is_d:
                square = r_xx * ax[i] * ax[j] + r_xy * (ax[i] * ay[j] + ay[i] * ax[j]) + r_yy * ay[i] * ay[j]
                back_x, back_y = q_xx * ax[i] + q_xy * ay[i], q_xy * ax[i] + q_yy * ay[i]
                slope[i, j] += square - bx[i] * along_x - by[i] * along_y - back_x * bx[j] - back_y * by[j]
            inverse[i, j] -= ax[i] * along_x + ay[i] * along_y
    if is_d:
        slope[:] = inverse
    return m_xx + m_yy, np.log(det)


@compiled
def add_rows(xs, a, b, used, most, is_d, inverse, slope, chosen):  # type: ignore[no-untyped-def]
    """Fill ``chosen`` greedily: each time the candidate that improves the criterion most."""
    n = xs.shape[1]
    for r in range(len(chosen)):
        best, x = -1.0, -1
        for i in range(n):
            gain = a[i] if is_d else b[i] / (1.0 + a[i])
            if gain > best and used[i] < most:
                best, x = gain, i
        chosen[r] = x
        used[x] += 1
        change(xs, a, b, is_d, inverse, slope, x, x, 1.0, 0.0)


@compiled
def swap_rows(xs, a, b, used, most, is_d, inverse, slope, chosen, start, stop, tol):  # type: ignore[no-untyped-def]
    """Swap each of the rows ``chosen[start:stop]`` in turn for what improves most; return how many were swapped.

    A swap has to improve the criterion, or ``log det S``, by ``tol`` at least.
    """
    swaps = 0
    for r in range(start, stop):
        y = chosen[r]
        x, gain = best_swap(xs, a, b, used, most, is_d, inverse, slope, y)
        if gain > tol:
            change(xs, a, b, is_d, inverse, slope, x, y, 1.0, -1.0)
            chosen[r] = x
            used[y] -= 1
            used[x] += 1
            swaps += 1
    return swaps


@compiled
def best_move(a_x, a_y, a_xy, b_x, b_y, b_xy, is_d, most):  # type: ignore[no-untyped-def]
    """Return the weight δ in [0, most] to move from y to x: the exact maximum of what it gains.

    A gains ``(α δ + β δ²) / (1 + κ δ - η δ²)``, stationary where ``(βκ + αη) δ² + 2β δ + α = 0``; D the logarithm of
    the denominator.
    """
    kappa, eta = a_x - a_y, max(a_x * a_y - a_xy * a_xy, 0.0)
    if is_d:
        return min(most, kappa / (2.0 * eta)) if 2.0 * eta * most > kappa else most
    alpha, beta = b_x - b_y, 2.0 * a_xy * b_xy - a_y * b_x - a_x * b_y
    square = beta * kappa + alpha * eta
    inner = beta * beta - square * alpha
    if inner < 0.0:
        return most
    # The smallest positive root, in the form that does not cancel: beta is negative wherever there is one.
    denominator = -beta + np.sqrt(inner)
    return min(most, alpha / denominator) if denominator * most > alpha else most


@compiled
def move_weights(xs, a, b, weights, most, is_d, inverse, slope, moves):  # type: ignore[no-untyped-def]
    """Move weight from the candidate with the least slope to that with the largest, ``moves`` times; return how often.

    Each move is the best for its two candidates (vertex exchange, Böhning 1986), with weights in [0, most].
    """
    n = xs.shape[1]
    for move in range(moves):
        x, y, top, low = -1, -1, -1.0, np.inf
        for i in range(n):
            if b[i] > top and weights[i] < most:
                top, x = b[i], i
            if b[i] < low and weights[i] > 0.0:
                low, y = b[i], i
        if x < 0 or y < 0 or x == y or top <= low * (1.0 + 1e-12):
            return move
        x_row, y_row = np.ascontiguousarray(xs[:, x]), np.ascontiguousarray(xs[:, y])
        a_xy, b_xy = x_row @ (inverse @ y_row), x_row @ (slope @ y_row)
        limit = min(weights[y], most - weights[x])
        delta = best_move(a[x], a[y], a_xy, b[x], b[y], b_xy, is_d, limit)
        change(xs, a, b, is_d, inverse, slope, x, y, delta, -delta)
        emptied, filled = delta >= weights[y], delta >= most - weights[x]
        weights[x] = most if filled else weights[x] + delta
        weights[y] = 0.0 if emptied else weights[y] - delta
    return moves


announce_compiling(add_rows, "the search for designs", 15)
