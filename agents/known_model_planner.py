"""Plans with the control problem behind an environment: nothing is learnt, and nothing is better."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.agents.led_paths import Followed, LedPaths, PlannedPath
from hamiltonian_rl.agents.planner import Planner
from hamiltonian_rl.envs.behind import ProblemSource, problem_behind
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem

if TYPE_CHECKING:
    from hamiltonian_rl.solvers.grid_solution import GridSolution
    from hamiltonian_rl.tracking.checkpoint import Tree


class KnownModelPlanner(Planner):
    """From the first state of an episode both routes plan a path, whose feedback leads along it.

    Args:
        observation_space: The environment's.
        action_space: The same.
        horizon: Steps planned ahead; 0 for all.
        stride: Steps of a path that are gone before another is planned; 0 for all.
        points: Of the grid along each coordinate; 0 as `solve_control` chooses.
        search: Whether better optima are looked for.
        tol: Of the paths' stationarity.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        horizon: int,
        stride: int,
        points: int,
        search: bool,
        tol: float,
    ) -> None:
        self._observation_space, self._action_space = observation_space, action_space
        self._horizon, self._stride, self._points, self._search, self._tol = horizon, stride, points, search, tol
        self._source: ProblemSource | None = None
        self._met: Any = None
        self._grids: dict[int, GridSolution] = {}

    def meet(self, env: Any) -> None:
        """Take the environment's problem, unless that is done.

        Raises:
            UsageError: There is none behind it, it does not say which state an observation shows, or nothing says how
                many steps to plan.
        """
        if env is not None and env is not self._met:
            self._met = env
            self._take(*problem_behind(env))

    def _take(self, problem: ControlProblem, source: ProblemSource | None) -> None:
        # Refuses a problem that does not say which state an observation shows.
        problem.state_of(torch.zeros(1, *(self._observation_space.shape or ()), dtype=torch.float64))
        steps = problem.horizon or self._horizon
        if not steps:
            raise UsageError(
                f"Neither {type(problem).__name__} nor its environment has a limit of steps; expected horizon=N, how "
                "many are planned ahead."
            )
        self.problem, self._source, self._grids = problem, source, {}
        self.training, self.predicting = (
            LedPaths(problem, self._plan, steps=steps, stride=self._stride or None) for _ in range(2)
        )

    def act(self, observations: np.ndarray, *, told: bool) -> np.ndarray:
        """Return the actions of the paths' feedback.

        Raises:
            UsageError: No environment was met.
        """
        return self._led(self.predicting, observations, told=told)

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return the same: there is nothing to find out."""
        return self._led(self.training, observations, told=True)

    def _led(self, paths: LedPaths | None, observations: np.ndarray, *, told: bool) -> np.ndarray:
        if self.problem is None or paths is None:
            raise UsageError("This agent has no environment to plan for. Give it one with set_env(env).")
        states = self.problem.state_of(torch.as_tensor(np.asarray(observations, np.float64))).numpy()
        actions = paths.actions(states, told=told)
        if isinstance(self._action_space, gym.spaces.Discrete):
            return actions.astype(np.int64) + int(self._action_space.start)
        return np.asarray(actions, self._action_space.dtype)

    def _plan(self, states: np.ndarray, steps: int, so_far: list[Followed | None]) -> list[PlannedPath]:
        """Return paths to the end of the episode, or as far as is planned ahead."""
        from hamiltonian_rl.solvers.costate.following import along_paths
        from hamiltonian_rl.solvers.solve_control import solve_control

        problem = self.problem
        assert problem is not None
        ahead = min(steps, self._horizon or steps)
        grid = self._grids.get(ahead)
        found = solve_control(
            problem,
            states,
            horizon=ahead,
            route="both" if grid or not self._grids else "hamiltonian",
            points=(self._points,) * states.shape[1] if self._points else None,
            grid=grid,
            search=self._search,
            tol=self._tol,
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

    def state(self) -> Tree:
        """Return which problem it is, where it is one of `hamiltonian_rl.registry`."""
        return {"problem": None if self._source is None else asdict(self._source)}

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
        if self.problem is None and tree["problem"] is not None:
            source = ProblemSource(**tree["problem"])
            self._take(source.make(), source)
