"""What a path's conditions say a little beside it: second derivatives at a point are blind to a kink at that point.

At a kink torch's slope is one of many, and may be zero: of ``|s|`` and of its negative at 0. So a path that may be at
one is followed from actions a little beside its own, at two distances, and its conditions are asked there. Beside a
smooth stationary point the slope falls with the distance, beside a kink of first order it does not. Where the second
derivatives jump (``max(s, 0)²``), those of every piece must be those of a maximum. The same tells what an action at
its bound is worth that no slope presses there: inside its bounds it has the curvature of any other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.pivots import diagonal, smallest_curvature, without
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.tracing.expressions import Expression, Graph, evaluate, ordered
from hamiltonian_rl.tracing.trace import trace

CLOSE = 1e-4  # of a kink, in units of one plus what is compared there
FAR, NEAR = 1e-5, 1e-6  # from the path, of one plus the action, and less where the return is steep
ROOM = 0.25  # of the way from bound to bound, which is nearer where the bounds are
FALLS = 0.3  # a slope that falls with the distance is a tenth at a tenth
SETTLED = 0.4  # what must be left of the curvature nearer to the path; of a flat maximum (-a⁴) a hundredth is
RISE = 1e-9  # of the value, that is more than rounding
JUMP = 1e-2  # of the curvature, from one side to the other: a kink of second order
DIRECTIONS = 16  # looked in where several pieces may meet
MOST_ROWS = 4096  # paths followed at once
ROWS = 64  # paths looked at for kinks at once: what is computed of them stays in the processor's cache
SMOOTH = {"constant", "input", "add", "subtract", "multiply", "divide", "negative", "sin", "cos", "exp", "log", "tanh"}
SMOOTH |= {"atan", "where", "and", "or", "not"}  # those of conditions jump where what they compare is equal


class Kinks:
    """Where a problem's functions, which can be traced, are not smooth: at zeros of these expressions.

    Args:
        problem: The problem.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> [len(Kinks(problem(name)).step) for name in ("hrl/Quadrotor-v0", "hrl/SmoothMountainCar-v0")]
        [0, 2]
    """

    def __init__(self, problem: ControlProblem) -> None:
        augmented, graph = Augmented(problem), Graph()
        n, m, count = augmented.sizes
        weights = [("weights", count), ("penalty", None)]
        self.step = _zeros(trace(augmented.step, graph, [("s", n), ("a", m), ("step", None), *weights]))
        self.end = _zeros(
            trace(augmented.end, graph, [("s", n), ("weights", augmented.end_sizes[2]), ("penalty", None)])
        )

    def near(self, result: Any, batch: Any) -> np.ndarray:
        """Return which paths come close to a kink, ``(B,)``; arguments as of `curvature_beside`."""
        close = np.zeros(len(result.actions), dtype=bool)
        for first in range(0, len(close), ROWS):
            rows = slice(first, first + ROWS)
            states, last, penalty = result.states[rows, :-1], result.states[rows, -1:], batch.penalty[rows, None]
            steps = {"s": states, "a": result.actions[rows], "weights": batch.weights[rows]}
            ends = {"s": last, "weights": batch.end_weights[rows, None]}
            for zeros, given in ((self.step, steps), (self.end, ends)):
                close[rows] |= _any_close(zeros, given, penalty)
        return close


def _any_close(
    zeros: list[tuple[Expression, Expression]], given: dict[str, np.ndarray], penalty: np.ndarray
) -> np.ndarray:
    """Return which paths, of the blocks that are given, have a pair of expressions that are nearly equal, ``(B,)``."""
    rows, steps = given["s"].shape[:2]
    close = np.zeros(rows, dtype=bool)
    if zeros:
        inputs = {(name, i): block[..., i] for name, block in given.items() for i in range(block.shape[-1])}
        inputs |= {("penalty", 0): penalty, ("step", 0): np.arange(steps)[None]}
        found = iter(evaluate([side for pair in zeros for side in pair], inputs))
        for left, right in zip(found, found, strict=True):
            far = np.abs(left - right) > CLOSE * (1.0 + np.abs(left) + np.abs(right))
            close |= ~np.broadcast_to(far, (rows, steps)).all(1)
    return close


def _zeros(functions: list[np.ndarray]) -> list[tuple[Expression, Expression]]:
    """Return pairs of expressions which are equal wherever functions of them are not smooth."""
    pairs = []
    for node in ordered([entry for array in functions for entry in array.flat]):
        if node.operation in SMOOTH or not _moves(node):
            continue
        first, *others = node.arguments
        if node.operation == "power":
            exponent = others[0].value
            if others[0].operation != "constant" or exponent < 0.0 or not float(exponent).is_integer():
                pairs.append((first, first.graph.constant(0.0)))
        elif node.operation == "floor":
            pairs.append((first, (first + 0.5).apply("floor")))  # the nearest whole number
        else:
            pairs.append((first, others[0] if others else first.graph.constant(0.0)))
    return pairs


def _moves(node: Expression) -> bool:
    """Whether an expression depends on more than the step."""
    return any(x.operation == "input" and x.value[0] != "step" for x in ordered([node]))


def curvature_beside(result: Any, batch: Any, settings: Settings, solve_phase: Any, which: np.ndarray) -> np.ndarray:
    """Return the smallest curvature of some paths and beside them, zero where a kink or a rise is there.

    Args:
        result: Of the last phase, a `lanes.Result`.
        batch: Its multipliers, a `lanes.Batch`.
        settings: Its tolerance.
        solve_phase: The back end.
        which: Indices of the paths, ``(W,)``.

    Returns:
        Shape ``(W,)``.
    """
    beside = _Beside(result, batch, settings, solve_phase, which)
    generator = np.random.default_rng(0)
    shape = result.actions.shape[1:]
    first = generator.uniform(0.5, 1.0, shape) * generator.choice([-1.0, 1.0], shape)
    curvature, jumps = beside.look(np.arange(len(which)), [first, -first])
    pieces = np.flatnonzero((jumps | beside.held.any((1, 2))) & (curvature > 0.0))
    if len(pieces):
        further = list(generator.uniform(-1.0, 1.0, (DIRECTIONS, *shape)))
        curvature[pieces] = np.minimum(curvature[pieces], beside.look(pieces, further)[0])
    return curvature


class _Beside:
    """Paths, and their conditions a little beside them."""

    def __init__(self, result: Any, batch: Any, settings: Settings, solve_phase: Any, which: np.ndarray) -> None:
        self.batch = lanes.Batch(*(x[which] for x in batch))
        self.actions, self.states = result.actions[which], result.states[which]
        bends = diagonal(result.curvature[which], result.actions.shape[-1])
        self.held = np.isneginf(bends)
        # Where the return is steep (a penalty) a step is shorter, so that slopes do not reach across the bounds.
        self.scale = 1.0 / np.where(self.held, 1.0, np.abs(bends)).max((1, 2), keepdims=True, initial=1.0)
        self.settings, self.solve_phase = replace(settings, tol=1e-300, max_iterations=1), solve_phase
        self.tol, space = settings.tol, solve_phase.problem.action_space
        self.low, self.high = space.low.astype(float), space.high.astype(float)

    def look(self, which: np.ndarray, directions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return of some paths the smallest curvature beside them, zero beside a kink, and whether it jumps.

        Args:
            which: Of the paths.
            directions: Each ``(N, m)``; an action at its bound goes inside instead.
        """
        sides, count, m = len(directions), len(which), self.actions.shape[-1]
        steps = np.stack([self._step(which, d, far) for far in (FAR, NEAR) for d in directions])
        here, beside = self._followed(which, np.zeros_like(steps[:1])), self._followed(which, steps)
        # On the way to it the slope may be what the tolerance leaves, or what a constraint's multiplier moves.
        slope = 2.0 * (self.tol + here.residual)
        residual, value = beside.residual.reshape(2, sides, count), beside.value.reshape(2, sides, count)
        kinked = ~(residual[1] <= FALLS * residual[0] + slope)
        expected = slope * np.abs(steps).sum((-1, -2)).reshape(value.shape) + RISE * (1.0 + np.abs(here.value))
        rises = ~(value <= here.value + expected)
        blocks = without(beside.curvature, self.held[np.tile(which, len(steps))])
        least = smallest_curvature(blocks, m).reshape(2, sides, count)
        fades = (least[0] > 0.0) & ~(least[1] >= SETTLED * least[0])
        curvature = least.min((0, 1))
        curvature[(kinked | fades | rises[0] | rises[1]).any(0) & (curvature > 0.0)] = 0.0
        near = np.nan_to_num(blocks.reshape(2, sides, count, -1)[1], neginf=0.0)
        jumps = np.ptp(near, axis=0) > JUMP * np.abs(near).max(0)
        return curvature, jumps.any(-1)

    def _followed(self, which: np.ndarray, steps: np.ndarray) -> Any:
        """Return the conditions of the paths from which actions are some steps away, ``(steps, W, N, m)``."""
        rows = np.tile(which, len(steps))
        steps = steps.reshape(len(rows), *self.actions.shape[1:])
        parts = [slice(start, start + MOST_ROWS) for start in range(0, len(rows), MOST_ROWS)]
        found = [self._conditions(rows[part], steps[part]) for part in parts]
        return found[0] if len(found) == 1 else lanes.Result(*map(np.concatenate, zip(*found, strict=True)))

    def _conditions(self, rows: np.ndarray, steps: np.ndarray) -> Any:
        part = lanes.Batch(*(x[rows] for x in self.batch))
        there = part._replace(path=self.states[rows], guess=self.actions[rows] + steps)
        return self.solve_phase("box", there, self.settings)

    def _step(self, which: np.ndarray, direction: np.ndarray, distance: float) -> np.ndarray:
        """Return steps ``(W, N, m)`` in a direction, of actions at a bound inside."""
        actions = self.actions[which]
        at_low, at_high = actions <= self.low, actions >= self.high
        inward = np.where(at_low, np.abs(direction), np.where(at_high, -np.abs(direction), direction))
        size = self.scale[which] * distance * (1.0 + np.abs(actions))
        size = np.minimum(size, distance / FAR * ROOM * (self.high - self.low))
        return np.asarray(np.clip(actions + inward * size, self.low, self.high) - actions)
