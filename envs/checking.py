"""Checks on what an environment returns, so that a wrong value is named where it arises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import EnvironmentContractError


def env_name(env: Any) -> str:
    """Return the id that the environment is registered under, or its class."""
    for candidate in (env, *getattr(env, "envs", [])):
        spec = getattr(candidate, "spec", None)
        if spec is not None:
            return str(spec.id)
    return type(getattr(env, "unwrapped", env)).__name__


def check_finite(value: Any, what: str) -> None:
    """Raise where a number, or an array of floats, holds NaN or infinity.

    Raises:
        EnvironmentContractError: The message names the value.
    """
    if isinstance(value, dict | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            check_finite(part, what)
        return
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise EnvironmentContractError(f"returned the {what} {value!r}; expected numbers. Correct the environment")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EnvironmentContractError(
            f"returned the {what} {array[~np.isfinite(array)][0]}; expected finite numbers. Correct the environment"
        )


def checked_flags(flags: Any, n_envs: int, name: str, what: str) -> np.ndarray:
    """Return end-of-episode flags as booleans; raise where they are none: the text "False" would count as true.

    Args:
        flags: As the environment returned them.
        n_envs: How many there should be.
        name: Of the environment.
        what: "terminated" or "truncated".

    Raises:
        EnvironmentContractError: The message names the flag and the value.
    """
    array: np.ndarray = np.array(flags)  # a copy: some vector environments go on writing into their arrays
    shaped = array.size == 1 if n_envs == 1 else array.shape == (n_envs,)
    if not shaped or not (array.dtype.kind == "b" or (array.dtype.kind in "iu" and np.isin(array, (0, 1)).all())):
        expected = "True or False" if n_envs == 1 else f"{n_envs} booleans"
        raise EnvironmentContractError(
            f"{name}.step() returned {what} = {flags!r}; expected {expected}. Correct the environment."
        )
    return array.astype(bool).reshape(n_envs)


@contextlib.contextmanager
def _blame(env: Any, call: str) -> Iterator[None]:
    """Turn whatever an environment raises into one sentence that names it.

    Raises:
        EnvironmentContractError: Something was raised inside.
    """
    try:
        yield
    except EnvironmentContractError as error:
        raise EnvironmentContractError(f"{env_name(env)}.{call}() {str(error).rstrip('.')}.") from None
    except (Exception, SystemExit) as error:
        raise EnvironmentContractError(
            f"{env_name(env)}.{call}() raised {type(error).__name__}: {error}. "
            "The fault lies in the environment, or in an action that it does not accept."
        ) from error


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Names the environment, the call and the value when an environment raises or returns NaN."""

    def reset(self, **arguments: Any) -> Any:
        """Reset, checking what comes back."""
        with _blame(self.env, "reset"):
            observation, info = self.env.reset(**arguments)
            check_finite(observation, "observation")
        return observation, info

    def step(self, action: Any) -> Any:
        """Step, checking what comes back."""
        with _blame(self.env, "step"):
            observation, reward, terminated, truncated, info = self.env.step(action)
            check_finite(observation, "observation")
            check_finite(reward, "reward")
        flags: dict[str, Any] = {"terminated": terminated, "truncated": truncated}
        for what, flag in flags.items():
            if type(flag) is not bool:
                checked_flags(flag, 1, env_name(self.env), what)
        return observation, reward, terminated, truncated, info
