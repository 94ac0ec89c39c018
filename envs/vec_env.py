"""Gymnasium's environments seen as Stable-Baselines3's VecEnv, which is what its code and callbacks expect."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from hamiltonian_rl.envs.checking import CheckedEnv
from hamiltonian_rl.envs.making import close_env
from hamiltonian_rl.envs.stepping import Stepper, autoreset_mode
from hamiltonian_rl.errors import UsageError


class GymnasiumVecEnv(VecEnv):
    """A Gymnasium vector environment seen as an SB3 VecEnv."""

    def __init__(self, env: VectorEnv) -> None:
        self.stepper = Stepper(env)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Start new episodes everywhere."""
        self.stepper.reset(self._seeds[0])
        self._reset_seeds()
        return self.stepper.observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; the last observation of a finished episode is in its info, as SB3 expects."""
        step = self.stepper.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.nonzero(step.over)[0]:
            infos[index]["terminal_observation"] = step.next_observations[index]
            infos[index]["TimeLimit.truncated"] = bool(step.truncated[index] and not step.terminated[index])
        return self.stepper.observations, step.rewards.astype(np.float32), step.over, infos

    def close(self) -> None:
        """Close the environment."""
        close_env(self.stepper.env)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for every copy."""
        return [getattr(self.stepper.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment."""
        setattr(self.stepper.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment."""
        return [getattr(self.stepper.env, method_name)(*method_args, **method_kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that no copy is wrapped one by one."""
        return [False] * self.num_envs


def as_vec_env(env: Any, *, learning: bool = False) -> VecEnv:
    """Return any environment as an SB3 VecEnv.

    Raises:
        UsageError: ``learning`` from a native vector environment that resets in the step after an
            episode's end. SB3 would take that pseudo-step for a transition.
    """
    if isinstance(env, VecEnv):
        return env
    if isinstance(env, SyncVectorEnv):
        return DummyVecEnv([lambda copy=copy: _watched(copy) for copy in env.envs])  # type: ignore[misc]
    if isinstance(env, VectorEnv):
        if learning and autoreset_mode(env) is AutoresetMode.NEXT_STEP:
            raise UsageError(
                f"{type(env).__name__} resets in the step after an episode's end, which Stable-Baselines3 cannot "
                'learn from. Make it with gymnasium.make_vec(..., vectorization_mode="sync").'
            )
        return VecMonitor(GymnasiumVecEnv(env))
    return DummyVecEnv([lambda: _watched(env)])


def _watched(env: gym.Env) -> Monitor:
    return env if isinstance(env, Monitor) else Monitor(CheckedEnv(env))
