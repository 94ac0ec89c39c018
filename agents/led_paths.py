"""Environments led along planned paths, and along new ones where a path is over or was left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.following import apart
from hamiltonian_rl.trajectory import Policy

# How far from its path a state may be, as shares of the state space's width: where all ends of episodes are told a path
# is left by a disturbance alone; where they are not, another episode may begin nearby, and rounding is far less.
NEAR, NEAR_UNTOLD = 1e-2, 1e-4


@dataclass(frozen=True)
class PlannedPath:
    """A path that is to be followed.

    Attributes:
        states: Along it, ``(N + 1, n)``.
        policy: Of one state, leads along it, asked step by step.
    """

    states: np.ndarray
    policy: Policy


Followed = tuple[PlannedPath, int]  # a path, and how many steps of it are gone


class LedPaths:
    """Leads each of some environments along a path of its own.

    An environment that is not where its path has it next has left it, such as by a reset that nobody told of: then an
    episode has begun. Where every end is told (`forget`), what is planned anew ends when the episode does.

    Args:
        problem: Whose states these are.
        plan: Finds paths of some steps from states ``(B, n)``, given the paths so far, each with the steps gone of it:
            None where an episode begins or the path was left.
        steps: Of an episode that begins.
        stride: Steps of a path that are gone before another is planned; all of it when None.
        ahead: Steps planned at the most; to the end of the episode when None.
        allowed: Returns how far from its path a state may be, ``(n,)``; by the state space when None.
    """

    def __init__(
        self,
        problem: ControlProblem,
        plan: Callable[[np.ndarray, int, list[Followed | None]], Sequence[PlannedPath]],
        *,
        steps: int,
        stride: int | None,
        ahead: int | None = None,
        allowed: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self._problem, self._plan, self._steps, self._stride = problem, plan, steps, stride or steps
        self._ahead, self._allowed = ahead or steps, allowed
        self._paths: list[PlannedPath | None] = []
        self._gone = np.zeros(0, np.int64)  # steps along each path
        self._left = np.zeros(0, np.int64)  # steps of each episode that are left
        self.plans = 0  # paths planned so far

    def forget(self, which: np.ndarray) -> None:
        """Leave the paths of some environments, ``(n,)`` of bool: their episodes are over."""
        for index in np.flatnonzero(which[: len(self._paths)]):
            self._paths[index], self._left[index] = None, self._steps

    def forget_all(self) -> None:
        """Plan anew for every environment; its episode goes on."""
        self._paths = [None] * len(self._paths)

    def state(self, write: Callable[[PlannedPath], Any]) -> dict[str, Any]:
        """Return where each environment is on its path, for a checkpoint."""
        paths = [None if path is None else write(path) for path in self._paths]
        return {"paths": paths, "gone": self._gone, "left": self._left, "plans": self.plans}

    def set_state(self, tree: Any, read: Callable[[Any], PlannedPath]) -> None:
        """Take back what `state` returned."""
        self._paths = [None if path is None else read(path) for path in tree["paths"]]
        self._gone, self._left, self.plans = tree["gone"], tree["left"], tree["plans"]

    def actions(self, states: np.ndarray, *, told: bool) -> np.ndarray:
        """Return the next actions in these states, ``(n, m)`` of ``(n, state size)``, one row an environment.

        Args:
            states: Where the environments are.
            told: Whether every end of an episode is told by `forget`; otherwise who left a path begins an episode.
        """
        if len(states) != len(self._paths):
            self._paths = [None] * len(states)
            self._gone, self._left = np.zeros(len(states), np.int64), np.full(len(states), self._steps)
        share = NEAR if told else NEAR_UNTOLD
        near = np.array([self._is_near(i, state, share) for i, state in enumerate(states)])
        if not told:
            self._left[~near] = self._steps
        self._left[self._left == 0] = self._steps
        over = self._gone >= np.minimum(self._stride, [0 if p is None else len(p.states) - 1 for p in self._paths])
        due = ~near | over
        if self._ahead < self._steps and due.any():  # some more together cost less than each alone
            due |= self._gone >= self._stride // 2
        length = np.minimum(self._left, self._ahead)
        for steps in np.unique(length[due]):
            rows = np.flatnonzero(due & (length == steps))
            self.plans += len(rows)
            so_far = [
                None if path is None or not near[i] else (path, int(self._gone[i]))
                for i, path in zip(rows, (self._paths[i] for i in rows), strict=True)
            ]
            for index, planned in zip(rows, self._plan(states[rows], int(steps), so_far), strict=True):
                self._paths[index], self._gone[index] = planned, 0
        chosen = []
        for path, step, state in zip(self._paths, self._gone, states, strict=True):
            assert path is not None
            chosen.append(path.policy(state[None], int(step))[0])
        self._gone += 1
        self._left -= 1
        return np.array(chosen)

    def _is_near(self, index: int, state: np.ndarray, share: float) -> bool:
        path, step = self._paths[index], self._gone[index]
        if path is None or step >= len(path.states):
            return False
        away = np.abs(apart(self._problem, state[None], path.states[step : step + 1])[0])
        if self._allowed is not None:
            return bool((away <= self._allowed()).all())
        width = self._problem.state_space.high - self._problem.state_space.low
        reached = 1.0 + np.abs(path.states).max(0)
        return bool((away <= share * np.where(np.isfinite(width), width, reached)).all())
