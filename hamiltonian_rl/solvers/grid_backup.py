"""Bellman's operator on a grid, where nothing is stored that can be computed: best actions, block by block.

The best of the grid's actions is refined: along one coordinate of the action after the other, and along what they moved
together, by parabolas through three points and golden sections in turn (Brent 1973, chapter 5, on all states at once).
An action gives way only to a strictly better one, so that ties and rounding do not make policies go round in circles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.problems.interpolation import Interpolant
from hamiltonian_rl.problems.outcomes import outcomes

BLOCK = 16_384  # pairs of state and action evaluated together: they stay in the cache
# Points tried along a line, and after how many golden sections comes a parabola, or the other way round: at the kinks
# of multilinear interpolation golden sections leave 0.62 of the line each, where a parabola says little.
TRIALS = {"multilinear": 22, "cubic": 9}
ROUNDS = 3  # times that all coordinates of an action of several are gone through
REACH = 3.0  # times as far as a round moved, the line along that move is looked at
GOLDEN = 0.3819660112501051
STENCIL = 1e-3  # of the range of an action: what `polished` takes differences over
KINK = 1e-3  # of what q falls within a stencil: a loss beyond rounding, which no smooth maximum knows
Evaluate = Callable[[np.ndarray], np.ndarray]  # actions (M, m) to q (M,), the states being fixed


class GridBackup:
    """``max_a r(s, a, k) + γ V_{k+1}(f(s, a, k))`` of a grid's problem, at any states.

    Args:
        grid: The grid.
        refine: Whether a Box action is refined beyond the grid's actions.

    Attributes:
        refines: Whether actions are refined.
        size: Numbers in an action.
        rewards: Least and largest reward so far.
        may_end: Whether an episode has ended so far.
    """

    def __init__(self, grid: Grid, *, refine: bool = True) -> None:
        self.grid, self.problem = grid, grid.problem
        self.refines = bool(refine) and grid.actions.ndim == 2
        self.size = int(np.prod(grid.actions.shape[1:]))
        self.rewards, self.may_end = (np.inf, -np.inf), False

    @property
    def largest_reward(self) -> float:
        """Largest size of a reward so far."""
        return max(map(abs, self.rewards))

    def q(
        self, later: Interpolant | None, states: np.ndarray, actions: np.ndarray, step: int, *, last: bool = False
    ) -> np.ndarray:
        """Return ``r + γ V(f)`` of states ``(M, n)`` and their actions ``(M, m)`` or ``(M,)``, shape ``(M,)``.

        Args:
            later: V of the next step; not looked at in the last step of a horizon.
            states: States.
            actions: An action a state.
            step: The step k.
            last: Whether the horizon ends with it.
        """
        found = outcomes(self.problem, states, actions, step, last=last)
        least, largest = self.rewards
        least = float(found.rewards.min(where=found.rewards > -np.inf, initial=least))
        self.rewards = least, float(found.rewards.max(initial=largest))
        self.may_end = self.may_end or not found.goes_on.all()
        if last or later is None:
            return found.rewards
        q: np.ndarray = found.rewards + self.problem.discount * np.where(found.goes_on, later(found.successors), 0.0)
        return q

    def best(
        self,
        later: Interpolant | None,
        states: np.ndarray,
        step: int,
        *,
        last: bool = False,
        kept: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best actions that were found, and their q.

        Args:
            later: V of the next step.
            states: Shape ``(M, n)``, M up to `BLOCK`.
            step: The step k.
            last: Whether the horizon ends with it.
            kept: Actions that stay unless another is strictly better.

        Raises:
            UsageError: If no action is allowed at a state.
        """
        chosen, best = self._best_of_grid(later, states, step, last)
        if kept is not None:
            old = self.q(later, states, kept, step, last=last)
            stays = old >= best
            chosen[stays], best = kept[stays], np.maximum(old, best)
        if (best == -np.inf).any():
            raise UsageError(f"No action satisfies the constraints at state {states[int(best.argmin())].tolist()}.")
        if self.refines:
            self._refine(chosen, best, lambda actions: self.q(later, states, actions, step, last=last))
            if self.grid.interpolation == "cubic":
                there, q = self.polished(later, states, chosen, step, last=last)
                better = q > best
                chosen[better], best[better] = there[better], q[better]
        return chosen, best

    @np.errstate(invalid="ignore")  # beside an action that is not allowed
    def polished(
        self, later: Interpolant | None, states: np.ndarray, actions: np.ndarray, step: int, *, last: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return actions ``(M, m)`` moved to where the differences of q vanish, by one step of Newton, and their q.

        A maximum that is found by values is known to the root of their rounding; where q is smooth, differences tell
        it to rounding. Coordinates near a limit stay; so does an action where q is not concave, from which the step
        leads away, or loses.
        """
        space: Any = self.problem.action_space
        low, high = space.low.astype(float), space.high.astype(float)
        spacing = STENCIL * (high - low)
        free = (actions - low > 2.0 * spacing) & (high - actions > 2.0 * spacing)

        def q(*moves: tuple[int, float]) -> np.ndarray:
            shift = np.zeros(self.size)
            for coordinate, share in moves:
                shift[coordinate] += share * spacing[coordinate]
            return self.q(later, states, actions + free * shift, step, last=last)

        middle, slope = q(), np.zeros_like(actions)
        bend = np.broadcast_to(-np.eye(self.size), (len(actions), self.size, self.size)).copy()
        for i in range(self.size):
            near, far = (q((i, -1.0)), q((i, 1.0))), (q((i, -2.0)), q((i, 2.0)))
            slope[:, i] = (8.0 * (near[1] - near[0]) - (far[1] - far[0])) / 12.0
            bend[:, i, i] = np.where(free[:, i], near[0] - 2.0 * middle + near[1], -1.0)
            for j in range(i):
                alike = q((i, 1.0), (j, 1.0)) + q((i, -1.0), (j, -1.0))
                bend[:, i, j] = bend[:, j, i] = 0.25 * (alike - q((i, 1.0), (j, -1.0)) - q((i, -1.0), (j, 1.0)))
        concave = np.isfinite(bend).all((1, 2)) & np.isfinite(slope).all(1)
        concave[concave] = np.linalg.eigvalsh(bend[concave])[:, -1] < 0.0
        bend[~concave], slope[~concave] = -np.eye(self.size), 0.0
        moved = -np.linalg.solve(bend, slope[..., None])[..., 0]
        moved[(np.abs(moved) > 1.0).any(1)] = 0.0  # farther than the differences saw
        there = actions + free * moved * spacing
        reached = self.q(later, states, there, step, last=last)
        lost = reached < middle - KINK * np.abs(bend).max((1, 2))
        there[lost], reached[lost] = actions[lost], middle[lost]
        return there, reached

    def _best_of_grid(
        self, later: Interpolant | None, states: np.ndarray, step: int, last: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        actions, count = self.grid.actions, len(states)
        together = max(1, BLOCK // count)
        best, index = np.full(count, -np.inf), np.zeros(count, np.int64)
        for first in range(0, len(actions), together):
            part = actions[first : first + together]
            tiled = np.tile(states, (len(part), 1))
            q = self.q(later, tiled, np.repeat(part, count, axis=0), step, last=last).reshape(len(part), count)
            top = q.argmax(axis=0)
            value = q[top, np.arange(count)]
            better = value > best
            best[better], index[better] = value[better], first + top[better]
        return actions[index], best

    def _refine(self, actions: np.ndarray, best: np.ndarray, evaluate: Evaluate) -> None:
        """Move actions ``(M, m)`` and their q to better ones nearby, in place.

        After all coordinates, along what the round moved, from one top along the last coordinate to the next (Powell
        1964): without it, coordinates that act on each other would need many rounds.
        """
        space: Any = self.problem.action_space
        limits = space.low.astype(float), space.high.astype(float)
        steps = np.diag((limits[1] - limits[0]) / (self.grid.n_actions - 1))
        trials, kinked = TRIALS[self.grid.interpolation], self.grid.interpolation == "multilinear"
        before = actions.copy()
        for _ in range(ROUNDS if len(steps) > 1 else 1):
            for step in steps:
                _search_line(actions, best, np.broadcast_to(step, actions.shape), limits, evaluate, trials, kinked)
            if len(steps) > 1:
                found = actions.copy()
                _search_line(actions, best, REACH * (actions - before), limits, evaluate, trials, kinked)
                before = found


def _search_line(
    actions: np.ndarray,
    best: np.ndarray,
    direction: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    evaluate: Evaluate,
    trials: int,
    kinked: bool,
) -> None:
    """Move actions to better places along ``a + t d`` with t within ±1 and a within its limits, in place."""

    def moved(t: np.ndarray) -> np.ndarray:
        shifted: np.ndarray = (actions + t[:, None] * direction).clip(*limits)
        return shifted

    middle = np.zeros(len(actions))
    left, right = _reach(actions, -direction, limits), _reach(actions, direction, limits)
    left *= -1.0
    q_left, q_right = evaluate(moved(left)), evaluate(moved(right))
    for end, q_end in ((left, q_left), (right, q_right)):  # the top lies beyond the middle: look between them
        beyond = q_end > best
        start, q_start = middle.copy(), best.copy()
        middle[beyond], best[beyond] = end[beyond], q_end[beyond]
        other, q_other = (right, q_right) if end is left else (left, q_left)
        other[beyond], q_other[beyond] = start[beyond], q_start[beyond]
    for trial in range(trials):
        place = _golden(left, middle, right)
        if (trial % 3 == 0) == kinked:
            vertex = _vertex(left, middle, right, q_left, best, q_right)
            inside = (vertex > left) & (vertex < right) & (np.abs(vertex - middle) > 1e-9)
            place = np.where(inside, vertex, place)
        q = evaluate(moved(place))
        up, after = q > best, place > middle
        rises, falls = up & after, ~up & after
        left = np.where(rises, middle, np.where(~up & ~after, place, left))
        q_left = np.where(rises, best, np.where(~up & ~after, q, q_left))
        right = np.where(up & ~after, middle, np.where(falls, place, right))
        q_right = np.where(up & ~after, best, np.where(falls, q, q_right))
        middle[up], best[up] = place[up], q[up]
    actions[...] = moved(middle)


def _reach(actions: np.ndarray, direction: np.ndarray, limits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how far t may go, up to 1, before an action meets its limits; shape ``(M,)``."""
    room = np.where(direction > 0, limits[1] - actions, actions - limits[0])
    share = np.divide(room, np.abs(direction), out=np.ones_like(actions), where=direction != 0)
    reach: np.ndarray = share.min(axis=-1).clip(0.0, 1.0)
    return reach


def _golden(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the golden section of the longer side."""
    longer = right - middle > middle - left
    section: np.ndarray = middle + GOLDEN * np.where(longer, right - middle, left - middle)
    return section


def _vertex(a: np.ndarray, b: np.ndarray, c: np.ndarray, qa: np.ndarray, qb: np.ndarray, qc: np.ndarray) -> np.ndarray:
    """Return the top of the parabola through three points; NaN where they are on no such parabola."""
    with np.errstate(divide="ignore", invalid="ignore"):
        toward, away = (b - a) * (qb - qc), (b - c) * (qb - qa)
        bend = toward - away
        top: np.ndarray = np.where(bend > 0, b - 0.5 * ((b - a) * toward - (b - c) * away) / bend, np.nan)
    return top
