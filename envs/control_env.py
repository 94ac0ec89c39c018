"""Any control problem as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.envs.control_batch import ControlBatch
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem


class ControlEnv(gym.Env[np.ndarray, Any]):
    """A control problem, played step by step.

    The return of an episode is the plain sum of its rewards, as in Gymnasium: ``problem.discount`` is for the
    agent's γ. The terminal reward is paid with the last step: the one that terminates, or the N-th, which
    truncates. Constraints cost ``penalty`` for each unit of their violation, ``Σ_i max(c_i, 0)`` at each step
    and ``Σ_i |c_N,i|`` at the end; above the multipliers of the constraints such a penalty is exact: the best
    return is that of the constrained problem (Nocedal and Wright, theorem 17.3). What was violated is in
    ``info["constraint_violation"]``. Actions are clipped to the bounds.

    Args:
        problem: The problem, or its id: ``"hrl/Quadrotor-v0"``.
        render_mode: None or ``"rgb_array"``, the path so far in the phase plane.
        penalty: Of violated constraints.
        action_limit: Bound of actions that have none in the problem, for agents draw from finite boxes.
        parameters: Of the problem's class, where it is given by its id.

    Raises:
        UsageError: The problem, or a number, is not what is expected.

    Example:
        >>> import hamiltonian_rl
        >>> env = ControlEnv(hamiltonian_rl.problem("hrl/DoubleIntegrator-v0", horizon=2))
        >>> observation, info = env.reset(options={"state": [-1.0, 0.0]})
        >>> env.step(np.array([4.0]))
        (array([-0.5,  2. ], dtype=float32), -4.0, False, False, {'constraint_violation': 0.0})
        >>> env.step(np.array([-4.0]))
        (array([0., 0.], dtype=float32), -4.0, False, True, {'constraint_violation': 0.0})
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        problem: ControlProblem | str,
        render_mode: str | None = None,
        *,
        penalty: float = 100.0,
        action_limit: float = 20.0,
        **parameters: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f'render_mode is {render_mode!r}; expected None or "rgb_array".')
        self._batch = ControlBatch(problem, 1, penalty=penalty, action_limit=action_limit, parameters=parameters)
        self.problem = self._batch.problem
        self.render_mode = render_mode
        self.observation_space, self.action_space = self._batch.observation_space, self._batch.action_space
        self._path: list[np.ndarray] = []
        self._running = False

    @property
    def state(self) -> np.ndarray:
        """The state, shape ``(n,)``, float64."""
        now: np.ndarray = self._batch.states[0]
        return now

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode: at ``options["state"]``, or at a state drawn by the problem."""
        super().reset(seed=seed)
        self._batch.begin(np.ones(1, bool), self.np_random, options)
        self._running = True
        self._path = [self.state.copy()]
        return self._batch.observations()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ResetNeeded: No episode has begun, or the last one is over.
            UsageError: The action is none.
            EnvironmentContractError: The problem returned NaN, infinity, or another shape.
        """
        if not self._running:
            raise gym.error.ResetNeeded("No episode is running: call reset() before step().")
        outcome = self._batch.advance(np.asarray(action)[None])
        terminated, truncated = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        self._running = not (terminated or truncated)
        if self.render_mode is not None:
            self._path.append(self.state.copy())
        info = {"constraint_violation": float(outcome.violations[0])} if self._batch.constrained else {}
        return self._batch.observations()[0], float(outcome.rewards[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return the path so far as a picture, shape ``(height, width, 3)``; None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn('render() needs a render mode: make the environment with render_mode="rgb_array".')
            return None
        if not self._path:
            raise gym.error.ResetNeeded("There is nothing to show: call reset() before render().")
        from hamiltonian_rl.tracking.pictures import path_picture, pixels  # matplotlib takes a second to load

        problem = self.problem
        return pixels(
            path_picture(
                np.array(self._path),
                (problem.state_space.low, problem.state_space.high),
                problem.state_names,
                problem.phase_plane,
                title=f"{type(problem).__name__}, step {len(self._path) - 1}",
            )
        )
