"""How a step respects the bounds of the actions: exactly, or by a barrier that keeps away from them.

`BoxRule` solves the quadratic model of a step within its bounds and clips what the feedback adds. `BarrierRule`
is the primal-dual interior point: from far away it sees the bounds before it meets them, and so finds better
optima; near the end it is slower and less exact, which is when the box rule takes over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.tracing.expressions import Expression, Graph

Array = np.ndarray[Any, np.dtype[np.object_]]

SMALLEST_PIVOT = 1e-12
TO_THE_BOUND = 0.995  # largest part of the way to a bound that one step of the barrier goes
LEANING = 1e-8  # least slope that holds an action at its bound beyond doubt
DUAL_RANGE = 1e4  # how far a dual variable may be from barrier / slack, as a factor


class BoxRule:
    """Bounds held exactly: the step's quadratic programme, active sets found by clipping and solving again."""

    def __init__(self, graph: Graph, problem: ControlProblem) -> None:
        self.graph, self.shift = graph, graph.input("shift", 0)
        self.low, self.high = _bounds(problem)

    def model(self, a: Array, Q_a: Array, Q_aa: Array) -> tuple[Array, Array]:
        """Return slope and curvature as they are."""
        return Q_a, Q_aa

    def residual(self, a: Array, slope: Array) -> Expression:
        """Return how far an ascent step moves within the bounds: zero where Eq. 15 holds with them."""
        moved = [(x + y).clip(low, high) - x for x, y, low, high in zip(a, slope, self.low, self.high, strict=True)]
        return _largest(self.graph, [x.apply("absolute") for x in moved])

    def solve(self, a: Array, slope: Array, Q_a: Array, Q_as: Array, Q_aa: Array) -> tuple[Array, Array, Expression]:
        """Return the step, its feedback, and whether the model is concave in the free actions."""
        held = np.array(
            [
                x.apply("less_equal", low)
                .apply("and", y.apply("less_equal", 0.0))
                .apply(
                    "or",
                    _constant(x, high).apply("less_equal", x).apply("and", _constant(x, 0.0).apply("less_equal", y)),
                )
                for x, y, low, high in zip(a, slope, self.low, self.high, strict=True)
            ],
            dtype=object,
        )
        place = np.array([self.graph.constant(0.0)] * len(a), dtype=object)
        curvature = -Q_aa + _diagonal(self.graph, [self.shift] * len(a))
        d, K, solved = _solve_free(held, place, Q_a, Q_as, curvature)
        if np.isinf(self.low).all() and np.isinf(self.high).all():
            return d, K, solved
        for _ in range(1 if len(a) == 1 else 2):
            held, place = self._clipped(a, d, held, place)
            d, K, solved = _solve_free(held, place, Q_a, Q_as, curvature)
        return d, K, solved

    def judged(self, a: Array, slope: Array, Q_aa: Array) -> Array:
        """Return the curvature by which a maximum is told: -inf for an action that leans on its bound, which drops out.

        Of one that is at its bound and does not lean on it, zero: first and second derivatives do not tell.
        """
        judged = Q_aa.copy()
        for i, (x, y, low, high) in enumerate(zip(a, slope, self.low, self.high, strict=True)):
            if low == high:
                leaning = at_bound = self.graph.constant(1.0)
            else:
                at_low, at_high = x.apply("less_equal", low), _constant(x, high).apply("less_equal", x)
                at_bound = at_low.apply("or", at_high)
                below, above = y.apply("less", -LEANING), _constant(y, LEANING).apply("less", y)
                leaning = at_low.apply("and", below).apply("or", at_high.apply("and", above))
            for j in range(len(a)):
                judged[i, j] = at_bound.where(0.0, judged[i, j])
                judged[j, i] = at_bound.where(0.0, judged[j, i])
            judged[i, i] = leaning.where(-np.inf, judged[i, i])
        return judged

    def _clipped(self, a: Array, d: Array, held: Array, place: Array) -> tuple[Array, Array]:
        """Hold at their bound the actions that the step would carry beyond it."""
        now, where = held.copy(), place.copy()
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            below, above = d[i].apply("less", low - a[i]), (high - a[i]).apply("less", d[i])
            now[i] = held[i].apply("or", below.apply("or", above))
            where[i] = held[i].where(place[i], below.where(low - a[i], above.where(high - a[i], 0.0)))
        return now, where

    def move(self, a: Array, change: Array) -> tuple[Array, Array, Array]:
        """Return the action after a change, clipped."""
        moved = [(x + y).clip(low, high) for x, y, low, high in zip(a, change, self.low, self.high, strict=True)]
        return np.array(moved, dtype=object), *_duals(self.graph, len(a))

    def reward(self, a: Array) -> Expression:
        """Return zero: the bounds cost nothing."""
        return self.graph.constant(0.0)


class BarrierRule(BoxRule):
    """Bounds held away by ``b Σ log(slack)``, with dual variables for the bounds below and above."""

    def __init__(self, graph: Graph, problem: ControlProblem) -> None:
        super().__init__(graph, problem)
        self.barrier = graph.input("barrier", 0)
        self.below, self.above = _duals(graph, len(self.low))

    def _slacks(self, a: Array) -> list[tuple[int, Expression, Expression, float]]:
        """Return of each finite bound: the action's index, the slack, its dual, and the slack's slope in a."""
        found = []
        for i, (x, low, high) in enumerate(zip(a, self.low, self.high, strict=True)):
            if np.isfinite(low):
                found.append((i, x - low, self.below[i], 1.0))
            if np.isfinite(high):
                found.append((i, high - x, self.above[i], -1.0))
        return found

    def model(self, a: Array, Q_a: Array, Q_aa: Array) -> tuple[Array, Array]:
        """Return slope and curvature with the barrier's own."""
        Q_a, Q_aa = Q_a.copy(), Q_aa.copy()
        for i, slack, dual, sign in self._slacks(a):
            Q_a[i] = Q_a[i] + self.barrier / slack * sign
            Q_aa[i, i] = Q_aa[i, i] - dual / slack
        return Q_a, Q_aa

    def residual(self, a: Array, slope: Array) -> Expression:
        """Return the largest violation of stationarity and of ``dual · slack = barrier``."""
        total = slope.copy()
        parts = []
        for i, slack, dual, sign in self._slacks(a):
            total[i] = total[i] + dual * sign
            parts.append((dual * slack - self.barrier).apply("absolute"))
        return _largest(self.graph, [*parts, *(x.apply("absolute") for x in total)])

    def solve(self, a: Array, slope: Array, Q_a: Array, Q_as: Array, Q_aa: Array) -> tuple[Array, Array, Expression]:
        """Return the step, its feedback, and whether the model is concave."""
        nothing = np.array([self.graph.constant(0.0)] * len(a), dtype=object)
        return _solve_free(nothing, nothing, Q_a, Q_as, -Q_aa + _diagonal(self.graph, [self.shift] * len(a)))

    def move(self, a: Array, change: Array) -> tuple[Array, Array, Array]:
        """Return the action after a change, short of its bounds, and the dual variables."""
        moved = a + change
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if np.isfinite(low):
                moved[i] = moved[i].apply("maximum", a[i] - (a[i] - low) * TO_THE_BOUND)
            if np.isfinite(high):
                moved[i] = moved[i].apply("minimum", a[i] + (high - a[i]) * TO_THE_BOUND)
        below, above = self.below.copy(), self.above.copy()
        for (i, slack, dual, sign), (_, new_slack, _, _) in zip(self._slacks(a), self._slacks(moved), strict=True):
            stepped = (self.barrier - dual * (moved[i] - a[i]) * sign) / slack
            stepped = stepped.apply("maximum", dual * (1.0 - TO_THE_BOUND))
            central = self.barrier / new_slack
            (below if sign > 0 else above)[i] = stepped.clip(central * (1.0 / DUAL_RANGE), central * DUAL_RANGE)
        return moved, below, above

    def reward(self, a: Array) -> Expression:
        """Return ``b Σ log(slack)``, one logarithm for both bounds of an action."""
        products: dict[int, Expression] = {}
        for i, slack, _, _ in self._slacks(a):
            products[i] = products[i] * slack if i in products else slack
        zero = self.graph.constant(0.0)
        return sum((self.barrier * product.apply("log") for product in products.values()), zero)


def _bounds(problem: ControlProblem) -> tuple[list[float], list[float]]:
    space: Any = problem.action_space
    return space.low.astype(float).tolist(), space.high.astype(float).tolist()


def _constant(x: Expression, value: float) -> Expression:
    return x.graph.constant(value)


def _duals(graph: Graph, size: int) -> tuple[Array, Array]:
    below, above = ([graph.input(name, i) for i in range(size)] for name in ("below", "above"))
    return np.array(below, dtype=object), np.array(above, dtype=object)


def _diagonal(graph: Graph, entries: list[Expression]) -> Array:
    matrix = np.full((len(entries),) * 2, graph.constant(0.0), dtype=object)
    np.fill_diagonal(matrix, entries)
    return matrix


def _largest(graph: Graph, values: list[Expression]) -> Expression:
    largest = values[0] if values else graph.constant(0.0)
    for value in values[1:]:
        largest = largest.apply("maximum", value)
    return largest


def _solve_free(
    held: Array, place: Array, Q_a: Array, Q_as: Array, curvature: Array
) -> tuple[Array, Array, Expression]:
    """Solve ``curvature d = Q_a`` and ``curvature K = Q_as`` over the free actions; the held ones stay in place."""
    graph = Q_a[0].graph
    zero, one = graph.constant(0.0), graph.constant(1.0)
    m = len(held)
    matrix, right = np.empty((m, m), dtype=object), np.empty((m, 1 + Q_as.shape[1]), dtype=object)
    for i in range(m):
        pull = sum((held[j].where(curvature[i, j] * place[j], zero) for j in range(m) if j != i), zero)
        right[i, 0] = held[i].where(place[i], Q_a[i] - pull)
        for j in range(Q_as.shape[1]):
            right[i, 1 + j] = held[i].where(zero, Q_as[i, j])
        for j in range(m):
            inside = curvature[i, j] if i == j else held[j].where(zero, curvature[i, j])
            matrix[i, j] = held[i].where(one if i == j else zero, inside)
    solution, solved = _cholesky_solve(matrix, right)
    return solution[:, 0], solution[:, 1:], solved


def _cholesky_solve(matrix: Array, right: Array) -> tuple[Array, Expression]:
    """Return ``matrix⁻¹ right``, and whether the matrix is positive definite, without branches."""
    graph = matrix[0, 0].graph
    zero, one = graph.constant(0.0), graph.constant(1.0)
    size = len(matrix)
    factor, inverse = np.empty_like(matrix), np.empty(size, dtype=object)
    sound = one
    for j in range(size):
        pivot = matrix[j, j] - sum((factor[j, k] * factor[j, k] for k in range(j)), zero)
        good = graph.constant(SMALLEST_PIVOT).apply("less", pivot)
        sound = sound.apply("and", good)
        inverse[j] = one / good.where(pivot, one).apply("sqrt")
        for i in range(j + 1, size):
            rest = matrix[i, j] - sum((factor[i, k] * factor[j, k] for k in range(j)), zero)
            factor[i, j] = rest * inverse[j]
    result = right.copy()
    for i in range(size):
        result[i] = (result[i] - sum((factor[i, k] * result[k] for k in range(i)), zero)) * inverse[i]
    for i in reversed(range(size)):
        result[i] = (result[i] - sum((factor[k, i] * result[k] for k in range(i + 1, size)), zero)) * inverse[i]
    return result, sound
