"""Plans with a model that is learnt while training goes on, fitted anew from time to time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.led_paths import LedPaths
from hamiltonian_rl.agents.model_learner import ModelLearner
from hamiltonian_rl.agents.planner import Planner
from hamiltonian_rl.envs.stepping import Transitions

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree

ENDLESS = 10**9  # steps of an episode whose limit is not known
HORIZON, STRIDE = 70, 5  # where 0 is asked for
VALUE_HORIZON = 100  # of the value at the end of a path


class LearnedModelPlanner(Planner):
    """Random steps first; then paths on the model, on its mean for `predict` and on one drawn from it in training.

    Args:
        learner: What learns the model.
        horizon: Steps planned ahead; 0 for 70.
        stride: Steps of a path that are gone before another is planned; 0 for 5.
        random_steps: Before the first model.
        relearn: Steps between two fits; there is one at each episode's end, too.
        generator: Of the random steps.
    """

    training: LedPaths
    predicting: LedPaths

    def __init__(
        self,
        learner: ModelLearner,
        *,
        horizon: int,
        stride: int,
        random_steps: int,
        relearn: int,
        generator: np.random.Generator,
    ) -> None:
        self.learner, self._random_steps, self._relearn, self._generator = learner, random_steps, relearn, generator
        self.problem, self._began, self._last_fit = learner.problem, np.zeros(0, bool), 0
        self.training, self.predicting = (
            LedPaths(
                learner.problem,
                partial(learner.plan, exploring=exploring),
                steps=ENDLESS,
                stride=stride or STRIDE,
                ahead=horizon or HORIZON,
                allowed=learner.allowed,
            )
            for exploring in (True, False)
        )

    def begin(self, count: int, step: int) -> None:
        """Begin episodes."""
        self.training.forget_all()
        self._began, self._last_fit = np.ones(count, bool), min(self._last_fit, step)

    def act(self, observations: np.ndarray, *, told: bool) -> np.ndarray:
        """Return the actions of the paths' feedback; none, or the first of several, before there is a model."""
        codes = self.learner.codes
        if not self.learner.ready:
            return codes.actions(np.zeros((len(observations), len(codes.low))))
        return codes.actions(self.predicting.actions(np.asarray(observations, np.float64), told=told))

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions of the paths' feedback, random ones before there is a model."""
        codes = self.learner.codes
        if not self.learner.ready:
            return codes.draw(len(observations), self._generator)
        return codes.actions(self.training.actions(np.asarray(observations, np.float64), told=True))

    def see(self, step: Transitions, taken: int) -> None:
        """Remember the transitions, and fit the model anew where it is time."""
        super().see(step, taken)
        self.learner.see(step, self._began)
        self._began = step.over | ~step.valid
        due = step.over.any() or taken - self._last_fit >= self._relearn
        if taken < self._random_steps or (self.learner.ready and not due):
            return
        self._last_fit = taken
        self.learner.learn(VALUE_HORIZON)
        for paths in (self.training, self.predicting):
            paths.forget_all()

    def figures(self) -> dict[str, float]:
        """Return what is to be logged."""
        return super().figures() | {f"model/{name}": number for name, number in self.learner.figures.items()}

    def state(self) -> Tree:
        """Return what was seen and learnt, and where the environments are on their paths."""
        led = [paths.state(self.learner.path_state) for paths in (self.training, self.predicting)]
        return {"learner": self.learner.state(), "began": self._began, "last_fit": self._last_fit, "paths": led}

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
        self.learner.set_state(tree["learner"])
        self._began, self._last_fit = tree["began"], tree["last_fit"]
        for paths, one in zip((self.training, self.predicting), tree["paths"], strict=True):
            paths.set_state(one, self.learner.path)
