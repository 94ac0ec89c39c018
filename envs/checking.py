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
    if array.dtype.kind in "OUS":
        raise EnvironmentContractError(f"returned the {what} {value!r}; expected numbers. Correct the environment")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EnvironmentContractError(
            f"returned the {what} {array[~np.isfinite(array)][0]}; expected finite numbers. Correct the environment"
        )


def check_flags(terminated: Any, truncated: Any, name: str) -> None:
    """Raise where an end-of-episode flag is neither true nor false: the text "False" would count as true.

    Raises:
        EnvironmentContractError: The message names the flag and the value.
    """
    for flag, value in (("terminated", terminated), ("truncated", truncated)):
        if type(value) is bool:
            continue
        array = np.asarray(value)
        if array.size != 1 or not (array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.item() in (0, 1))):
            raise EnvironmentContractError(
                f"{name}.step() returned {flag} = {value!r}; expected True or False. Correct the environment."
            )


@contextlib.contextmanager
def _blame(env: Any, call: str) -> Iterator[None]:
    """Turn whatever an environment raises into one sentence that names it.

    Raises:
        EnvironmentContractError: Something was raised inside.
    """
    try:
        yield
    except EnvironmentContractError as error:
        raise EnvironmentContractError(f"{env_name(env)}.{call}() {error}.") from None
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
        check_flags(terminated, truncated, env_name(self.env))
        return observation, reward, terminated, truncated, info
