"""Making environments by id: one, many, and whether their state can be saved."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FlattenObservation

from hamiltonian_rl.envs.checking import env_name
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import (
    EnvironmentContractError,
    EnvironmentWarning,
    HamiltonianRLError,
    UsageError,
    did_you_mean,
)
from hamiltonian_rl.tracking.snapshot import capture, restore


def env_spec(env_id: str) -> EnvSpec:
    """Return the registered specification of an environment, importing "module:" where the id has one.

    Raises:
        UsageError: There is no such environment; the message names the nearest one.

    Example:
        >>> env_spec("CartPole-v1").max_episode_steps
        500
        >>> env_spec("CartPol-v1")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: There is no environment "CartPol-v1". Did you mean "CartPole-v1"?
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
            raise UsageError(
                f'Cannot import "{module}" of "{env_id}": {type(error).__name__}: {error}. Is it installed, and sound?'
            ) from error
    if name in gym.registry:
        return gym.registry[name]
    try:
        return gym.spec(env_id)  # also finds "CartPole" without a version
    except gym.error.Error:
        raise UsageError(f'There is no environment "{name}". {did_you_mean(name, gym.registry)}') from None


def make_env(env_id: str, render_mode: str | None = None, settings: Mapping[str, Any] | None = None) -> gym.Env:
    """Make one environment.

    Args:
        env_id: A registered id, "module:Env-v0" for one that a module registers.
        render_mode: As for `gymnasium.make`.
        settings: Keyword arguments of the environment.

    Returns:
        The environment; Tuple observations are flattened.

    Raises:
        UsageError: No such environment, an unknown argument, or a missing dependency.
    """
    env_spec(env_id)
    try:
        # Not every environment takes a render mode.
        mode: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        env = gym.make(env_id, **mode, **dict(settings or {}))
        # No agent here takes tuples (Blackjack's, say); their parts side by side say the same.
        return FlattenObservation(env) if isinstance(env.observation_space, gym.spaces.Tuple) else env
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(f"{env_id} needs a package that is not installed: {error}") from error
    except HamiltonianRLError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{env_id} could not be made with {dict(settings or {})}: {type(error).__name__}: {error}"
        ) from error


def make_vector_env(
    env_id: str, n_envs: int, settings: Mapping[str, Any] | None = None, *, native: bool = True
) -> VectorEnv:
    """Make ``n_envs`` copies that step together.

    Args:
        env_id: As for `make_env`.
        n_envs: Number of copies.
        settings: Keyword arguments of the environment.
        native: Use the environment's own vector implementation where it has one (ten times faster and
            more); otherwise copies that step one after the other and reset themselves in the same step.
    """
    spec = env_spec(env_id)
    if native and spec.vector_entry_point is not None and not settings:
        limit: dict[str, Any] = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}
        with contextlib.suppress(TypeError):  # a native implementation need not take the limit
            return _checked_vector(env_id, n_envs, limit)
    return SyncVectorEnv(
        [lambda: make_env(env_id, settings=settings) for _ in range(n_envs)], autoreset_mode=AutoresetMode.SAME_STEP
    )


def _checked_vector(env_id: str, n_envs: int, limit: dict[str, Any]) -> VectorEnv:
    """Make an environment's own vector implementation, and see that it is what was asked for."""
    try:
        env: Any = gym.make_vec(env_id, num_envs=n_envs, vectorization_mode="vector_entry_point", **limit)
    except TypeError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"The vector of {env_id} could not be made: {type(error).__name__}: {error}") from error
    if not isinstance(env, VectorEnv) or env.num_envs != n_envs:
        got = f"{env.num_envs} environments" if isinstance(env, VectorEnv) else type(env).__name__
        raise UsageError(f"The vector_entry_point of {env_id} made {got}; expected a VectorEnv of {n_envs}.")
    return env


def make_training_env(
    env_id: str, n_envs: int, settings: Mapping[str, Any] | None = None, *, native: bool = True
) -> gym.Env | VectorEnv:
    """Make one environment, or a vector of several."""
    if n_envs == 1:
        return make_env(env_id, settings=settings)
    return make_vector_env(env_id, n_envs, settings, native=native)


def close_env(env: Any) -> None:
    """Close an environment; one that raises here is named in a warning, for nothing is lost by it."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        warnings.warn(
            f"{env_name(env)}.close() raised {type(error).__name__}: {error}. Nothing is lost by it; "
            "what it holds may stay open until the program ends.",
            EnvironmentWarning,
            stacklevel=2,
        )


def is_restorable(
    env_id: str, n_envs: int, settings: Mapping[str, Any] | None = None, *, native: bool = True, steps: int = 20
) -> bool:
    """Find out by trying whether the environment's state can be saved and put back.

    One copy runs for some steps and is captured; a fresh copy takes over its state; both then take the
    same actions. Only when they agree to the last bit is the state restorable.

    Example:
        >>> is_restorable("CartPole-v1", 1)
        True
    """

    def make() -> Stepper:
        return Stepper(make_training_env(env_id, n_envs, settings, native=native))

    one, other = make(), make()
    generator = np.random.default_rng(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one.reset(seed=1)
            other.reset(seed=2)
            for _ in range(steps):
                one.step(_random_actions(one, generator))
            if not restore(other.env, capture(one.env)):
                return False
            for _ in range(steps * 10):
                actions = _random_actions(one, generator)
                if not _same(one.step(actions), other.step(actions)):
                    return False
    except (EnvironmentContractError, HamiltonianRLError, TypeError, ValueError, KeyError, RecursionError):
        return False
    finally:
        close_env(one.env)
        close_env(other.env)
    return True


def _random_actions(stepper: Stepper, generator: np.random.Generator) -> np.ndarray:
    stepper.action_space.seed(int(generator.integers(2**31)))
    return np.stack([np.asarray(stepper.action_space.sample()) for _ in range(stepper.num_envs)])


def _same(one: Any, other: Any) -> bool:
    names = ("next_observations", "rewards", "terminated", "truncated")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
