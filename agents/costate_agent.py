"""An agent that plans by costates (Eq. 13-15), on a model that it knows or one that it learns.

With the known model nothing is learnt: the ceiling where states are continuous. From the first state of an episode both
routes plan a path (`solve_control`: a grid for up to three coordinates, then costates from several starts), and the
path's feedback leads along it. Where actions are discrete the problem's relaxation is planned, and each action rounded.

With ``model="learned"`` it sees the environment alone, and plans on what it learns from its own transitions
(`model_learner`).

Reference:
    Mayne (1966), "A second-order gradient method for determining optimal trajectories of non-linear discrete-time
    systems"; Rawlings, Mayne and Diehl (2017), "Model predictive control", section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.planner import Planner
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


MODELS = ("known", "learned")


@dataclass(frozen=True)
class CostateSettings:
    """What a costate agent plans, and on which model."""

    model: str = setting("known", "known: the environment's own; learned: from the agent's own transitions")
    horizon: int = setting(0, "steps planned ahead (0: to the end of the episode; learned: 70)", least=0)
    stride: int = setting(0, "steps of a path gone before the next is planned (0: all; learned: 5)", least=0)
    points: int = setting(0, "points of the grid along each coordinate (0: as `hrl solve`)", least=0, most=10_000)
    search: bool = setting(True, "look for better optima by kicks, some eighty solutions a path more")
    tol: float = setting(1e-6, "of the paths' stationarity", above=0)
    random_steps: int = setting(20, "learned: random steps before the first model", least=2)
    relearn: int = setting(50, "learned: steps between two fits; there is one at each episode's end, too", least=1)
    waves: int = setting(64, "learned: random waves of the model", least=1, most=1000)
    memory: int = setting(5_000, "learned: latest transitions that are learnt from", least=2)


class CostateAgent(Agent):
    """Plans with the control problem behind its environment, or one that it learns, and acts by the paths' feedback.

    Example:
        >>> import gymnasium as gym
        >>> agent = CostateAgent(gym.make("hrl/DoubleIntegrator-v0"))
        >>> observation, _ = agent.env.reset(seed=0)
        >>> agent.predict(observation, deterministic=True)[0].shape
        (1,)
        >>> learner = CostateAgent(gym.make("CartPole-v1"), model="learned").learn(20)
        >>> bool(learner.predict(np.zeros(4), deterministic=True)[0] in (0, 1))
        True
    """

    name = "costate"
    Settings = CostateSettings
    settings: CostateSettings

    def _build(self) -> None:
        if self.settings.model not in MODELS:
            raise UsageError(
                f'CostateAgent has no model "{self.settings.model}". {did_you_mean(self.settings.model, MODELS)}'
            )
        learned = self.settings.model == "learned"
        self.learns_from = "environment" if learned else "model"
        self._planner = self._learning() if learned else self._knowing()
        self._told = False  # whether `predict` was told who begins an episode
        self._planner.meet(self.env)

    def _knowing(self) -> Planner:
        from hamiltonian_rl.agents.known_model_planner import KnownModelPlanner

        s = self.settings
        return KnownModelPlanner(
            self.observation_space,
            self.action_space,
            horizon=s.horizon,
            stride=s.stride,
            points=s.points,
            search=s.search,
            tol=s.tol,
        )

    def _learning(self) -> Planner:
        from hamiltonian_rl.agents.learned_model_planner import LearnedModelPlanner
        from hamiltonian_rl.agents.model_learner import ModelLearner

        s = self.settings
        learner = ModelLearner(
            self.observation_space,
            self.action_space,
            waves=s.waves,
            memory=s.memory,
            tol=s.tol,
            generator=self._rng,
        )
        return LearnedModelPlanner(
            learner,
            horizon=s.horizon,
            stride=s.stride,
            random_steps=s.random_steps,
            relearn=s.relearn,
            generator=self._rng,
        )

    @property
    def problem(self) -> ControlProblem | None:
        """The control problem that is planned with: the environment's own at its time limit, or the learned one.

        A saved agent knows the environment's again where it is one of `hamiltonian_rl.registry`; one of your own comes
        with its environment.
        """
        return self._planner.problem

    def _prepare(self) -> None:
        self._planner.meet(self.env)
        self._planner.begin(self.stepper.num_envs, self.num_timesteps)

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        return self._planner.explore(observations)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        self._planner.meet(self.env)  # it may have been set since
        return self._planner.act(observations, told=self._told)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or the actions for a batch, each row an environment of its own.

        Args:
            observation: As for every agent.
            state: Passed through.
            episode_start: Of bool, ``(n,)``: who begins an episode. Without it, who is off the path that was planned.
            deterministic: Both are the same.
        """
        self._told = episode_start is not None
        if self._told and self._planner.predicting is not None:
            self._planner.predicting.forget(np.atleast_1d(np.asarray(episode_start, bool)))
        return super().predict(observation, state, episode_start, deterministic)

    def _learn_from(self, step: Transitions) -> None:
        self._planner.see(step, self.num_timesteps)

    def _log(self) -> None:
        for name, number in self._planner.figures().items():
            self.logger.record(name, number)

    def _own_state(self) -> Tree:
        return self._planner.state()

    def _set_own_state(self, tree: Any) -> None:
        self._planner.set_state(tree)
