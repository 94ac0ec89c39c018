"""An agent that plans by costates (Eq. 13-15), on a model that it knows or one that it learns.

With the known model nothing is learnt: the ceiling where states are continuous. From the first state of an episode both
routes plan a path (`solve_control`: a grid for up to three coordinates, then costates from several starts), and the
path's feedback leads along it. Where actions are discrete the problem's relaxation is planned, and each action rounded.

With ``model="learned"`` it sees the environment alone, and plans on what it learns from its own transitions
(`learned_planner`).

Reference:
    Mayne (1966), "A second-order gradient method for determining optimal trajectories of non-linear discrete-time
    systems"; Rawlings, Mayne and Diehl (2017), "Model predictive control", section 1.4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.led_paths import Followed, LedPaths, PlannedPath
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.envs.behind import ProblemSource, problem_behind
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem

if TYPE_CHECKING:
    from hamiltonian_rl.agents.learned_planner import LearnedPlanner
    from hamiltonian_rl.solvers.grid_solution import GridSolution
    from hamiltonian_rl.tracking.checkpoint import Tree


MODELS = ("known", "learned")
ENDLESS = 10**9  # steps of an episode whose limit is not known
LEARNED_HORIZON, LEARNED_STRIDE = 50, 1  # where the settings say 0
VALUE_HORIZON = 100  # of the value at the end of a learned path


@dataclass(frozen=True)
class CostateSettings:
    """What a costate agent plans, and on which model."""

    model: str = setting("known", "known: the environment's own; learned: from the agent's own transitions")
    horizon: int = setting(0, "steps planned ahead (0: to the end of the episode; learned: 50)", least=0)
    stride: int = setting(0, "steps of a path gone before the next is planned (0: all; learned: 1)", least=0)
    points: int = setting(0, "points of the grid along each coordinate (0: as `hrl solve`)", least=0, most=10_000)
    search: bool = setting(True, "look for better optima by kicks, some eighty solutions a path more")
    tol: float = setting(1e-6, "of the paths' stationarity", above=0)
    random_steps: int = setting(20, "learned: random steps before the first model", least=2)
    relearn: int = setting(50, "learned: steps between two fits; there is one at each episode's end, too", least=1)
    waves: int = setting(64, "learned: random waves of the model", least=1, most=1000)
    memory: int = setting(5_000, "learned: latest transitions that are learnt from", least=2)


class CostateAgent(Agent):
    """Plans with the control problem behind its environment, or one that it learns, and acts by the paths' feedback.

    Attributes:
        problem: The known control problem, at the environment's time limit. A saved agent knows it again where it is
            one of `hamiltonian_rl.registry`; one of your own comes with its environment.

    Example:
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
    problem: ControlProblem | None = None

    def _build(self) -> None:
        if self.settings.model not in MODELS:
            raise UsageError(
                f'CostateAgent has no model "{self.settings.model}". {did_you_mean(self.settings.model, MODELS)}'
            )
        self.learns_from = "environment" if self.settings.model == "learned" else "model"
        self._learner: LearnedPlanner | None = None
        self._env_planned: Any = None
        self._source: ProblemSource | None = None
        self._training: LedPaths | None = None
        self._predicting: LedPaths | None = None
        self._told = False  # whether `predict` was told who begins an episode
        if self.settings.model == "learned":
            self._build_learner()
        self._meet(self.env)

    def _build_learner(self) -> None:
        """Begin with no model, and paths of training and of `predict`."""
        from hamiltonian_rl.agents.learned_planner import LearnedPlanner

        s = self.settings
        self._learner = learner = LearnedPlanner(
            self.observation_space,
            self.action_space,
            waves=s.waves,
            memory=s.memory,
            tol=s.tol,
            generator=self._rng,
        )
        self._began, self._last_fit = np.zeros(0, bool), 0
        self._training, self._predicting = (
            LedPaths(
                learner.problem,
                partial(learner.plan, exploring=exploring),
                steps=ENDLESS,
                stride=s.stride or LEARNED_STRIDE,
                ahead=s.horizon or LEARNED_HORIZON,
                allowed=learner.allowed,
            )
            for exploring in (True, False)
        )

    def _prepare(self) -> None:
        self._meet(self.env)
        if self._learner is not None and self._training is not None:
            self._training.forget_all()
            self._began, self._last_fit = np.ones(self.stepper.num_envs, bool), min(self._last_fit, self.num_timesteps)

    def _meet(self, env: Any) -> None:
        """Take the environment's problem, unless that is done."""
        if env is None or env is self._env_planned or self._learner is not None:
            return
        self._env_planned = env
        self._take(*problem_behind(env))

    def _take(self, problem: ControlProblem, source: ProblemSource | None) -> None:
        """Begin paths of training and of `predict`, which do not meet."""
        # Refuses a problem that does not say which state an observation shows.
        problem.state_of(self._tensor(np.zeros((1, *(self.observation_space.shape or ())))))
        steps = problem.horizon or self.settings.horizon
        if not steps:
            raise UsageError(
                f"Neither {type(problem).__name__} nor its environment has a limit of steps; expected horizon=N, how "
                "many are planned ahead."
            )
        self.problem, self._source = problem, source
        self._grids: dict[int, GridSolution] = {}
        self._training, self._predicting = (
            LedPaths(problem, self._plan, steps=steps, stride=self.settings.stride or None) for _ in range(2)
        )

    def _plan(self, states: np.ndarray, steps: int, so_far: list[Followed | None]) -> list[PlannedPath]:
        """Return paths to the end of the episode, or as far as is planned ahead."""
        from hamiltonian_rl.solvers.costate.following import along_paths
        from hamiltonian_rl.solvers.solve_control import solve_control

        s, problem = self.settings, self.problem
        assert problem is not None
        ahead = min(steps, s.horizon or steps)
        grid = self._grids.get(ahead)
        found = solve_control(
            problem,
            states,
            horizon=ahead,
            route="both" if grid or not self._grids else "hamiltonian",
            points=(s.points,) * states.shape[1] if s.points else None,
            grid=grid,
            search=s.search,
            tol=s.tol,
        )
        if found.grid is not None:
            self._grids[ahead] = found.grid
        if found.relaxed is not None:
            return [
                PlannedPath(*one) for one in zip(found.relaxed.followed.states, found.relaxed.policies, strict=True)
            ]
        if found.paths is None:
            raise UsageError(found.left_out)
        return [
            PlannedPath(found.paths.trajectory.states[i], along_paths(found.paths.one(i))) for i in range(len(states))
        ]

    def _follow(self, observations: np.ndarray, paths: LedPaths | None, *, told: bool) -> np.ndarray:
        if self.problem is None or paths is None:
            raise UsageError("This agent has no environment to plan for. Give it one with set_env(env).")
        states = self.problem.state_of(self._tensor(observations)).numpy()
        actions = paths.actions(states, told=told)
        if isinstance(self.action_space, gym.spaces.Discrete):
            return actions.astype(np.int64) + int(self.action_space.start)
        return np.asarray(actions, self.action_space.dtype)

    @staticmethod
    def _tensor(array: np.ndarray) -> Any:
        import torch

        return torch.as_tensor(np.asarray(array, np.float64))

    def _follow_learned(self, observations: np.ndarray, paths: LedPaths | None, *, told: bool) -> np.ndarray:
        learner = self._learner
        assert learner is not None
        assert paths is not None
        if not learner.ready:
            return learner.codes.actions(np.zeros((len(observations), len(learner.codes.low))))
        return learner.codes.actions(paths.actions(np.asarray(observations, np.float64), told=told))

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        if self._learner is None:
            return self._follow(observations, self._training, told=True)
        if not self._learner.ready:
            return self._learner.codes.draw(len(observations), self._rng)
        return self._follow_learned(observations, self._training, told=True)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        if self._learner is not None:
            return self._follow_learned(observations, self._predicting, told=self._told)
        self._meet(self.env)  # it may have been set since
        return self._follow(observations, self._predicting, told=self._told)

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
        if self._told and self._predicting is not None:
            self._predicting.forget(np.atleast_1d(np.asarray(episode_start, bool)))
        return super().predict(observation, state, episode_start, deterministic)

    def _learn_from(self, step: Transitions) -> None:
        if self._training is not None:
            self._training.forget(step.over)
        if self._learner is not None:
            self._relearn(step, self._learner)

    def _relearn(self, step: Transitions, learner: LearnedPlanner) -> None:
        """Remember the step, and fit the model anew where it is time."""
        learner.see(step, self._began)
        self._began = step.over | ~step.valid
        due = step.over.any() or self.num_timesteps - self._last_fit >= self.settings.relearn
        if self.num_timesteps < self.settings.random_steps or (learner.ready and not due):
            return
        self._last_fit = self.num_timesteps
        learner.learn(VALUE_HORIZON)
        for paths in (self._training, self._predicting):
            assert paths is not None
            paths.forget_all()

    def _log(self) -> None:
        self.logger.record("plan/paths", 0 if self._training is None else self._training.plans)
        if self._learner is not None:
            for name, number in self._learner.figures.items():
                self.logger.record(f"model/{name}", number)

    def _own_state(self) -> Tree:
        if (learner := self._learner) is not None:
            led = [paths.state(learner.path_state) for paths in (self._training, self._predicting) if paths is not None]
            return {"learner": learner.state(), "began": self._began, "last_fit": self._last_fit, "paths": led}
        return {"problem": None if self._source is None else asdict(self._source)}

    def _set_own_state(self, tree: Any) -> None:
        if (learner := self._learner) is not None:
            learner.set_state(tree["learner"])
            self._began, self._last_fit = tree["began"], tree["last_fit"]
            for paths, one in zip((self._training, self._predicting), tree["paths"], strict=True):
                assert paths is not None
                paths.set_state(one, learner.path)
            return
        if self.problem is None and tree["problem"] is not None:
            source = ProblemSource(**tree["problem"])
            self._take(source.make(), source)
