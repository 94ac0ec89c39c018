"""Bellman sweeps as compiled loops: one pass over the tables, nothing stored between.

Notation: ``S, A`` states, actions; ``r (S, A)``, ``p (Z,)``, ``z (Z,)`` rewards, probabilities, successors;
``first (S A + 1,)`` where rows begin; ``v (S,)`` values; ``g`` discount; ``B`` successors a row.

The numbers of actions and of successors a row are constants to the compiler, which unrolls the inner loops. Kernels
capture numbers alone, no other kernel: so they are found in the cache of compiled code. They work on states
``[start, stop)`` and release the interpreter, so that threads share a sweep.
Indices are unsigned: for signed ones numba would ask of each whether it counts from the end, which costs up to 40 %.
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
def backup_kernel(n_actions: int, branching: int | None) -> Kernel:
    """Return ``(r, first, z, p, g, v, out, policy, start, stop) -> (min d, max d)`` with ``d = out - v``."""
    constant = np.uint64(branching or 0)

    @compiled
    def backup(r, first, z, p, g, v, out, policy, start, stop):  # type: ignore[no-untyped-def]
        lowest, highest = np.inf, -np.inf
        for s in range(np.uint64(start), np.uint64(stop)):
            best, chosen = -np.inf, np.uint64(0)
            for a in range(np.uint64(n_actions)):
                q = r[s, a] + g * _row_value(first, z, p, v, s * np.uint64(n_actions) + a, constant)
                if q > best:
                    best, chosen = q, np.uint64(a)
            out[s] = best
            policy[s] = chosen
            lowest, highest = min(lowest, best - v[s]), max(highest, best - v[s])
        return lowest, highest

    return backup


@cache
def policy_rows_kernel(n_actions: int, branching: int | None) -> Kernel:
    """Return ``(r, first, z, p, policy, r_out, first_out, z_out, p_out, start, stop)``, which copies a policy's rows.

    Side by side they are read several times faster than with the other actions' rows between them.
    """
    constant = branching or 0

    @compiled
    def copy(r, first, z, p, policy, r_out, first_out, z_out, p_out, start, stop):  # type: ignore[no-untyped-def]
        for s in range(np.uint64(start), np.uint64(stop)):
            row = s * np.uint64(n_actions) + np.uint64(policy[s])
            r_out[s] = r[s, np.uint64(policy[s])]
            begin, to = np.uint64(first[row]), np.uint64(first_out[s])
            for j in range(np.uint64(first[row + np.uint64(1)]) - begin):
                z_out[to + j], p_out[to + j] = z[begin + j], p[begin + j]

    @compiled
    def copy_constant(r, first, z, p, policy, r_out, first_out, z_out, p_out, start, stop):  # type: ignore[no-untyped-def]
        for s in range(np.uint64(start), np.uint64(stop)):
            row = s * np.uint64(n_actions) + np.uint64(policy[s])
            r_out[s] = r[s, np.uint64(policy[s])]
            begin, to = row * np.uint64(constant), s * np.uint64(constant)
            for j in range(np.uint64(constant)):
                z_out[to + j], p_out[to + j] = z[begin + j], p[begin + j]

    return copy_constant if constant else copy


@cache
def evaluation_kernel(branching: int | None) -> Kernel:
    """Return ``(r, first, z, p, g, v, out, start, stop) -> (min d, max d)``: a sweep of a policy's own rows."""
    constant = np.uint64(branching or 0)

    @compiled
    def evaluate(r, first, z, p, g, v, out, start, stop):  # type: ignore[no-untyped-def]
        lowest, highest = np.inf, -np.inf
        for s in range(np.uint64(start), np.uint64(stop)):
            out[s] = r[s] + g * _row_value(first, z, p, v, s, constant)
            lowest, highest = min(lowest, out[s] - v[s]), max(highest, out[s] - v[s])
        return lowest, highest

    return evaluate


@cache
def gauss_seidel_kernel(n_actions: int, branching: int | None) -> Kernel:
    """Return ``(r, first, z, p, g, v, backwards)``: one sweep in place, each state seeing those before it."""
    constant = np.uint64(branching or 0)

    @compiled
    def sweep(r, first, z, p, g, v, backwards):  # type: ignore[no-untyped-def]
        for i in range(len(v)):
            s = np.uint64(len(v) - 1 - i if backwards else i)
            best = -np.inf
            for a in range(np.uint64(n_actions)):
                best = max(best, r[s, a] + g * _row_value(first, z, p, v, s * np.uint64(n_actions) + a, constant))
            v[s] = best

    return sweep


@compiled
def _row_value(first, z, p, v, row, branching):  # type: ignore[no-untyped-def]
    """Return ``Σ p v`` over the successors of a row: ``branching`` of them, or those of ``first`` where it is zero."""
    if branching:
        begin, count = row * branching, branching
    else:
        begin = np.uint64(first[row])
        count = np.uint64(first[row + np.uint64(1)]) - begin
    total = 0.0
    for j in range(count):
        total += p[begin + j] * v[np.uint32(z[begin + j])]
    return total


@compiled
def predecessors(first, z, n_actions, into, sources):  # type: ignore[no-untyped-def]
    """Fill in the predecessors of each state s, ``sources[into[s] : into[s + 1]]``, from ``into`` all zero."""
    for j in range(len(z)):
        into[np.uint32(z[j])] += 1
    total = 0
    for s in range(len(into)):
        total += into[s]
        into[s] = total
    for s in range(len(into) - 2, -1, -1):  # from behind: each list is filled from its end
        row = np.uint64(s * n_actions)
        for entry in range(np.uint64(first[row]), np.uint64(first[row + np.uint64(n_actions)])):
            place = into[np.uint32(z[entry])] - 1
            into[np.uint32(z[entry])] = place
            sources[np.uint32(place)] = s


@cache
def work_list_kernel(n_actions: int) -> Kernel:
    """Return ``(r, first, z, g, into, sources, v, told, queue, waiting, left, least, most) -> backups``.

    For rows of one successor at most, from below. ``into (S + 1,)`` and ``sources`` are the predecessors of
    each state; ``told (S,)`` is the value that they have seen, ``queue (S,)`` a ring whose first ``left`` entries
    wait, ``waiting (S,)`` which states do; ``least`` the rise that is passed on, ``most`` backups at the most.
    """

    @compiled
    def work(r, first, z, g, into, sources, v, told, queue, waiting, left, least, most):  # type: ignore[no-untyped-def]
        head, backups = 0, 0
        while left and backups < most:
            s = queue[head]
            head = head + 1 if head + 1 < len(queue) else 0
            left -= 1
            waiting[s] = False
            backups += 1
            best = v[s]
            for a in range(n_actions):
                row = s * n_actions + a
                if first[row] == first[row + 1]:
                    best = max(best, r[s, a])
                elif z[first[row]] == s:
                    best = max(best, r[s, a] / (1.0 - g))
                else:
                    best = max(best, r[s, a] + g * v[z[first[row]]])
            v[s] = best
            if best - told[s] > least + 1e-15 * abs(best):
                told[s] = best
                for j in range(into[s], into[s + 1]):
                    before = sources[j]
                    if not waiting[before]:
                        waiting[before] = True
                        queue[(head + left) % len(queue)] = before
                        left += 1
        return backups

    return work
