"""Bellman's equation on a learned model, by fitted value iteration: where the costates' paths begin.

Which of several optima a path ends in is decided by its start. A value fitted at the states seen so far is rough, but
it knows how many swings it takes.

Reference:
    Munos and Szepesvári (2008), "Finite-time bounds for fitted value iteration".
"""

from __future__ import annotations

import itertools
from typing import Any, Self

import numpy as np

from hamiltonian_rl.agents.learned_model import Features
from hamiltonian_rl.agents.learned_problem import LearnedProblem
from hamiltonian_rl.agents.led_starts import HOLD, LedStarts

STATES = 1000  # that the value is fitted at, at the most
WAVES, LENGTH, RIDGE = 200, 0.5, 1e-2
DRAWS, TRIALS = 3, 30  # of the waves, and states that tell by a path which draw is best
LONGEST = 10  # holds that a first action is tried for
MOST_SWITCHED = 24  # paths that switch once
MOST_ACTIONS = 27  # that are compared: see `compared_actions`


class FittedValue:
    """``V_k(s) = max_a Σ r + V_{k-1}(s')``, an action being held for `HOLD` steps, fitted by least squares on waves.

    Args:
        problem: The learned one.
        states: Where the value is fitted, ``(N, n)``.
        actions: That are compared, ``(k, m)``.
        horizon: Steps.
        generator: Of the waves, and of what is left out.
    """

    def __init__(
        self,
        problem: LearnedProblem,
        states: np.ndarray,
        actions: np.ndarray,
        horizon: int,
        generator: np.random.Generator,
    ) -> None:
        self._problem, self._actions, n = problem, actions, states.shape[1]
        if len(states) > STATES:
            states = states[generator.choice(len(states), STATES, replace=False)]
        spread = np.where(states.std(0) > 0.0, states.std(0), 1.0)
        directions = generator.normal(size=(WAVES, n)) / (LENGTH * np.sqrt(n) * spread)
        self.features = Features(directions, generator.uniform(0.0, 2.0 * np.pi, WAVES))
        here = self.features(states)
        self.weights = np.zeros(here.shape[1])
        after, paid = self._ahead(states)
        there = self.features(after)
        solve = np.linalg.solve(here.T @ here + RIDGE * np.eye(here.shape[1]), here.T)
        least, most = paid.min() / HOLD * horizon, paid.max() / HOLD * horizon
        for _ in range(-(-horizon // HOLD)):
            best = (paid + (there @ self.weights).reshape(paid.shape)).max(1)
            self.weights = solve @ np.clip(best, min(least, 0.0), max(most, 0.0))

    @classmethod
    def draws(
        cls,
        problem: LearnedProblem,
        states: np.ndarray,
        actions: np.ndarray,
        horizon: int,
        generator: np.random.Generator,
    ) -> list[Self]:
        """Return values of some draws of waves, first the one whose greedy paths return most: one in five is bad.

        Args:
            problem: See above, as for all.
            states: ``(N, n)``.
            actions: ``(k, m)``.
            horizon: Steps.
            generator: Of the draws.
        """
        values = [cls(problem, states, actions, horizon, generator) for _ in range(DRAWS)]
        trials = states[generator.choice(len(states), min(TRIALS, len(states)), replace=False)]
        nothing = np.zeros(len(trials), np.int64)
        returns = [value._paths.led(trials, horizon, nothing, nothing)[1].mean() for value in values]
        return [values[i] for i in np.argsort(-np.nan_to_num(returns, nan=-np.inf))]

    def state(self) -> dict[str, np.ndarray]:
        """Return the value, for a checkpoint."""
        waves = {"directions": self.features.directions, "phases": self.features.phases}
        return {**waves, "weights": self.weights, "actions": self._actions}

    @classmethod
    def from_state(cls, problem: LearnedProblem, tree: Any) -> Self:
        """Return the value of what `state` returned."""
        value = cls.__new__(cls)
        value._problem, value._actions, value.weights = problem, tree["actions"], tree["weights"]
        value.features = Features(tree["directions"], tree["phases"])
        return value

    def _ahead(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where each action leads ``(N k, n)``, and what it pays on the way, ``(N, k)``."""
        k = len(self._actions)
        state, action = np.repeat(states, k, 0), np.tile(self._actions, (len(states), 1))
        paid = np.zeros(len(state))
        for _ in range(HOLD):
            state, reward = self._problem.ahead(state, action)
            paid = paid + reward
        return state, paid.reshape(len(states), k)

    def greedy(self, states: np.ndarray, horizon: int) -> np.ndarray:
        """Return the actions of the greedy path from each state, ``(B, horizon, m)``."""
        return self._paths.greedy(states, horizon)

    def best_led(self, states: np.ndarray, horizon: int) -> np.ndarray:
        """Return the actions of the best of many paths from each state (`LedStarts.best`), ``(B, horizon, m)``."""
        return self._paths.best(states, horizon, np.arange(1, LONGEST + 1))

    def many_led(self, states: np.ndarray, horizon: int) -> list[np.ndarray]:
        """Return the actions of many paths from each state, each ``(B, horizon, m)``.

        Those that `best_led` compares, fewer of them where actions are many, and some that switch once: the value does
        not know which of them are the best when they are polished.
        """
        holds = np.arange(1, LONGEST + 1, max(1, len(self._actions) // 3))
        return self._paths.all(states, horizon, holds) + self._paths.switched(states, horizon, MOST_SWITCHED)

    @property
    def _paths(self) -> LedStarts:
        return LedStarts(self._ahead, lambda states: self.features(states) @ self.weights, self._actions)


def compared_actions(low: np.ndarray, high: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return actions to compare, ``(k, m)``: middle, least and greatest in each coordinate, or draws where m is large.

    Example:
        >>> compared_actions(np.array([-2.0]), np.array([2.0]), np.random.default_rng(0)).tolist()
        [[0.0], [-2.0], [2.0]]
    """
    if 3 ** len(low) <= MOST_ACTIONS:
        return np.array(list(itertools.product(*np.stack([0.5 * (low + high), low, high], 1))))
    return generator.uniform(low, high, (MOST_ACTIONS, len(low)))
