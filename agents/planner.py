"""What a planning agent asks for paths: for the environments that it trains in, and for those that it is asked in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.led_paths import LedPaths
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.problems import ControlProblem

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


class Planner(ABC):
    """Plans paths and leads environments along them.

    Attributes:
        problem: What is planned with; None before it is known.
        training: Paths of the environments that are trained in; None before there is anything to plan with.
        predicting: Paths of `predict`, which do not meet those.
    """

    problem: ControlProblem | None = None
    training: LedPaths | None = None
    predicting: LedPaths | None = None

    def meet(self, env: Any) -> None:
        """Take what is to be known from an environment, unless that is done."""

    def begin(self, count: int, step: int) -> None:
        """Begin episodes in so many environments, some steps into the training."""

    @abstractmethod
    def act(self, observations: np.ndarray, *, told: bool) -> np.ndarray:
        """Return actions of `predict`, one row an environment; ``told`` as of `LedPaths.actions`."""

    @abstractmethod
    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return actions of training."""

    def see(self, step: Transitions, taken: int) -> None:
        """Take the transitions of a step of training, after so many steps."""
        if self.training is not None:
            self.training.forget(step.over)

    def figures(self) -> dict[str, float]:
        """Return what is to be logged."""
        return {"plan/paths": 0.0 if self.training is None else float(self.training.plans)}

    @abstractmethod
    def state(self) -> Tree:
        """Return what a checkpoint needs."""

    @abstractmethod
    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
