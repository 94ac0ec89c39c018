"""One way to step every kind of environment: Gymnasium's single and vector ones, and SB3's VecEnv.

The kinds differ in what they return when an episode ends. `Stepper` hides that and yields the same
`Transitions` for all: the true next observation, termination and truncation apart, and a mask that
leaves out the pseudo-step with which a NEXT_STEP vector environment resets. It also checks what comes
back, because a wrong shape or a NaN is cheap to name here and expensive to find later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from hamiltonian_rl.envs.checking import check_finite, checked_flags, env_name
from hamiltonian_rl.errors import EnvironmentContractError, UsageError


@dataclass
class Transitions:
    """One step of ``n`` environments.

    Attributes:
        observations: What the actions answered to, shape ``(n, ...)``.
        actions: Shape ``(n, ...)``.
        rewards: Shape ``(n,)``, float64.
        next_observations: The true successors, also at the end of an episode, shape ``(n, ...)``.
        terminated: The successor is terminal; its value is zero.
        truncated: A limit cut the episode off; the successor's value counts.
        valid: False for pseudo-steps that only reset an environment.
        infos: What the environment told besides: one dict an environment where it keeps such.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    infos: list[dict[str, Any]] = field(default_factory=list)

    @property
    def over(self) -> np.ndarray:
        """Episodes that ended with this step."""
        over: np.ndarray = self.terminated | self.truncated
        return over


def is_sb3_vec_env(env: object) -> bool:
    """Return whether ``env`` is a Stable-Baselines3 VecEnv (told by its methods, without importing it)."""
    return hasattr(env, "step_async") and hasattr(env, "step_wait") and not isinstance(env, VectorEnv)


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """Return when a vector environment starts new episodes; NEXT_STEP, Gymnasium's own, unless it says."""
    mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)


class Stepper:
    """Step any environment and see the same `Transitions`.

    Attributes:
        env: The environment as it was given.
        num_envs: Number n of environments in it.
        observation_space: Of one environment.
        action_space: Of one environment.
        observations: What the next actions answer to, shape ``(n, ...)``.

    Raises:
        UsageError: ``env`` is none of the three kinds.
        EnvironmentContractError: The environment raised, or returned what Gymnasium does not allow.

    Example:
        >>> stepper = Stepper(gym.make("CartPole-v1"))
        >>> stepper.reset(seed=0)
        >>> step = stepper.step(np.array([1]))
        >>> step.next_observations.shape, float(step.rewards[0]), bool(step.over[0])
        ((1, 4), 1.0, False)
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._seed: int | None = None
        self.name = env_name(env)
        if is_sb3_vec_env(env):
            self.num_envs = int(env.num_envs)
            self.observation_space, self.action_space = env.observation_space, env.action_space
            self._reset, self._step = self._reset_vec_env, self._step_vec_env
        elif isinstance(env, VectorEnv):
            self.num_envs = env.num_envs
            self.observation_space = env.single_observation_space
            self.action_space = env.single_action_space
            self._mode = autoreset_mode(env)
            self._reset, self._step = self._reset_vector, self._step_vector
        elif isinstance(env, gym.Env):
            self.num_envs = 1
            self.observation_space, self.action_space = env.observation_space, env.action_space
            self._reset, self._step = self._reset_single, self._step_single
        else:
            raise UsageError(
                f"Cannot step a {type(env).__name__}. Expected a gymnasium.Env, a "
                "gymnasium.vector.VectorEnv or a Stable-Baselines3 VecEnv: make one with "
                'gymnasium.make("CartPole-v1").'
            )
        self.observations = np.zeros((self.num_envs, 0))
        self.n_steps = 0
        self._resetting = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None = None) -> None:
        """Start new episodes everywhere."""
        self._resetting = np.zeros(self.num_envs, bool)
        try:
            observations = self._reset(seed)
        except (Exception, SystemExit) as error:
            raise self._blame("reset", error) from error
        self.observations = self._checked_observations(observations, "reset")

    def step(self, actions: np.ndarray) -> Transitions:
        """Take one step in every environment; where an episode ends, the next one is started."""
        self.n_steps += 1
        before = self.observations
        try:
            result = self._step(actions)
        except (Exception, SystemExit) as error:
            raise self._blame("step", error) from error
        observations, rewards, terminated, truncated, successors, infos = result
        self.observations = self._checked_observations(observations, "step")
        if successors is not observations:
            successors = self._checked_observations(successors, "step")
        else:
            successors = self.observations
        rewards = self._checked_rewards(rewards)
        valid = ~self._resetting
        over = terminated | truncated
        if isinstance(self.env, VectorEnv) and self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = over & valid
        return Transitions(before, actions, rewards, successors, terminated & valid, truncated & valid, valid, infos)

    def state(self) -> dict[str, Any]:
        """Return what is kept here between steps; the environment's own state is not part of it."""
        return {"observations": self.observations, "n_steps": self.n_steps, "resetting": self._resetting}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.observations, self.n_steps = state["observations"], state["n_steps"]
        self._resetting = state["resetting"]

    # One reset and one step a kind. Each step returns what comes next, rewards, terminated,
    # truncated, the true successors, and infos.

    def _reset_single(self, seed: int | None) -> Any:
        result = self.env.reset(seed=seed)
        observation, _ = self._unpack(result, 2, "reset")
        return self._lift(observation)

    def _step_single(self, actions: np.ndarray) -> tuple[Any, ...]:
        action = actions[0]
        if isinstance(self.action_space, gym.spaces.Discrete):
            action = int(action)
        result = self._unpack(self.env.step(action), 5, "step")
        observation, reward, terminated, truncated, info = result
        successors = self._lift(observation)
        upcoming = successors
        if np.ndim(reward) != 0:
            raise EnvironmentContractError(
                f"{self.name}.step() returned the reward {reward!r} at step {self.n_steps}; expected one number. "
                "Correct the environment."
            )
        flags = self._flags(terminated, truncated)
        if flags[0][0] or flags[1][0]:
            upcoming = self._reset_between_episodes()
        return upcoming, [reward], *flags, successors, [info]

    def _reset_between_episodes(self) -> np.ndarray:
        try:
            return self._checked_observations(self._reset_single(None), "reset")
        except (Exception, SystemExit) as error:
            raise self._blame("reset", error) from error

    def _reset_vector(self, seed: int | None) -> Any:
        return self._unpack(self.env.reset(seed=seed), 2, "reset")[0]

    def _step_vector(self, actions: np.ndarray) -> tuple[Any, ...]:
        result = self._unpack(self.env.step(actions), 5, "step")
        observations, rewards, terminated, truncated, infos = result
        terminated, truncated = self._flags(terminated, truncated)
        successors = observations
        over = terminated | truncated
        if over.any() and self._mode is not AutoresetMode.NEXT_STEP:
            successors = _with_finals(observations, infos.get("final_obs"), over)
            if self._mode is not AutoresetMode.SAME_STEP:
                observations, _ = self.env.reset(options={"reset_mask": over})
        return observations, rewards, terminated, truncated, successors, []

    def _reset_vec_env(self, seed: int | None) -> Any:
        if seed is not None:
            self.env.seed(seed)
        return self.env.reset()

    def _step_vec_env(self, actions: np.ndarray) -> tuple[Any, ...]:
        observations, rewards, dones, infos = self._unpack(self.env.step(actions), 4, "step")
        dones = np.array(dones, bool)
        truncated = np.array([bool(info.get("TimeLimit.truncated")) for info in infos]) & dones
        successors = observations
        if dones.any():
            successors = np.array(observations)
            for index in np.nonzero(dones)[0]:
                successors[index] = infos[index]["terminal_observation"]
        return observations, rewards, dones & ~truncated, truncated, successors, list(infos)

    # Checks

    def _flags(self, terminated: Any, truncated: Any) -> tuple[np.ndarray, np.ndarray]:
        if type(terminated) is bool and type(truncated) is bool and self.num_envs == 1:  # the common case, fast
            return np.array([terminated]), np.array([truncated])
        return (
            checked_flags(terminated, self.num_envs, self.name, "terminated"),
            checked_flags(truncated, self.num_envs, self.name, "truncated"),
        )

    def _lift(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return {name: self._lift(part) for name, part in observation.items()}
        return np.array(observation)[None]  # a copy: the environment may go on writing into its buffer

    def _unpack(self, result: Any, length: int, call: str) -> tuple[Any, ...]:
        if not isinstance(result, tuple) or len(result) != length:
            got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            expected = {
                2: "(observation, info)",
                4: "(observations, rewards, dones, infos)",
                5: "(observation, reward, terminated, truncated, info)",
            }[length]
            raise EnvironmentContractError(
                f"{self.name}.{call}() returned {got}; expected {expected}. "
                "Check the environment with gymnasium.utils.env_checker.check_env."
            )
        return result

    def _checked_observations(self, observations: Any, call: str) -> np.ndarray:
        if isinstance(observations, dict):  # composite observations pass through unchecked
            return observations  # type: ignore[return-value]
        array = np.array(observations)  # a copy: environments may reuse their buffers
        expected = (self.num_envs, *(self.observation_space.shape or ()))
        if array.shape != expected:
            raise EnvironmentContractError(
                f"{self.name}.{call}() returned an observation of shape {array.shape[1:]} at step "
                f"{self.n_steps}; its observation_space says {expected[1:]}. Correct the environment or its space."
            )
        self._finite(array, "observation", call)
        space = self.observation_space
        if array.dtype.kind == "f" and space.dtype is not None and space.dtype.kind in "biu":
            raise EnvironmentContractError(
                f"{self.name}.{call}() returned observations of type {array.dtype} at step {self.n_steps}; its "
                f"observation_space holds {space.dtype}. Correct the environment or its space."
            )
        if isinstance(space, gym.spaces.Discrete) and not (
            array.dtype.kind in "iu" and (array >= space.start).all() and (array < space.start + space.n).all()
        ):
            raise EnvironmentContractError(
                f"{self.name}.{call}() returned the observation {array.tolist()} at step {self.n_steps}; its "
                f"observation_space is {space}. Correct the environment or its space."
            )
        return array

    def _checked_rewards(self, rewards: Any) -> np.ndarray:
        self._finite(rewards, "reward", "step")
        try:
            array = np.array(rewards, np.float64).reshape(self.num_envs)
        except (TypeError, ValueError):
            raise EnvironmentContractError(
                f"{self.name}.step() returned the reward {rewards!r} at step {self.n_steps}; "
                f"expected {self.num_envs} number(s). Correct the environment."
            ) from None
        return array

    def _finite(self, array: Any, what: str, call: str) -> None:
        try:
            check_finite(array, what)
        except EnvironmentContractError as error:
            raise EnvironmentContractError(f"{self.name}.{call}() {error} (at step {self.n_steps}).") from None

    def _blame(self, call: str, error: BaseException) -> EnvironmentContractError:
        if isinstance(error, EnvironmentContractError):
            return error
        return EnvironmentContractError(
            f"{self.name}.{call}() raised {type(error).__name__}: {error} (at step {self.n_steps}). "
            "The fault lies in the environment, or in an action that it does not accept."
        )


def _with_finals(observations: Any, finals: Any, over: np.ndarray) -> Any:
    """Return a copy of the observations, with the final ones of finished episodes where they are told."""
    if isinstance(observations, dict):
        parts = {
            name: [None if f is None else f[name] for f in (() if finals is None else finals)] for name in observations
        }
        return {name: _with_finals(part, parts[name], over) for name, part in observations.items()}
    array: np.ndarray = np.array(observations)
    if finals is not None and len(finals):
        for index in np.nonzero(over)[0]:
            array[index] = finals[index]
    return array
