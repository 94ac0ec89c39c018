"""Environments are made from ids, and whether their state can be saved is found out by trying."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hamiltonian_rl.envs.making import env_spec, is_restorable, make_env, make_training_env, make_vector_env
from hamiltonian_rl.errors import UsageError

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Planted-v0", entry_point=CartPoleEnv, max_episode_steps=7)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that nobody has imported yet and that registers Planted-v0."""
    (tmp_path / "planted_envs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "planted_envs"
    gym.registry.pop("Planted-v0", None)
    sys.modules.pop("planted_envs", None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("Pendulum-v9", "Pendulum-v1"),
        ("CartPole", "CartPole-v1"),
    ],
)
@pytest.mark.parametrize("call", [env_spec, make_env, lambda env_id: make_vector_env(env_id, 2)])
def test_an_unknown_id_is_answered_with_the_nearest_known_one(call: Any, typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f'There is no environment "{typed}". Did you mean "{meant}"'):
        call(typed)


def test_an_id_with_a_module_imports_that_module(module: str) -> None:
    assert "Planted-v0" not in gym.registry
    assert env_spec(f"{module}:Planted-v0").max_episode_steps == 7
    env = make_env(f"{module}:Planted-v0")
    assert env.reset(seed=0)[0].shape == (4,)
    assert make_vector_env(f"{module}:Planted-v0", 2).num_envs == 2


def test_an_unknown_id_of_a_known_module_is_answered_with_the_nearest(module: str) -> None:
    with pytest.raises(UsageError, match='Did you mean "Planted-v0"'):
        env_spec(f"{module}:Plantd-v0")


@pytest.mark.parametrize("name", ["no_such_module", "gymnasium.no_such_part"])
def test_a_missing_module_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f'Cannot import "{name}" of "{name}:Env-v0"'):
        make_env(f"{name}:Env-v0")


@pytest.mark.parametrize("env_id", [":CartPole-v1", "..:CartPole-v1", "", "CartPole-v1:"])
def test_an_id_that_is_no_id_is_a_usage_error(env_id: str) -> None:
    with pytest.raises(UsageError):
        env_spec(env_id)


@pytest.mark.parametrize(
    "make",
    [
        lambda settings: make_env("CartPole-v1", settings=settings),
        lambda settings: make_vector_env("CartPole-v1", 2, settings),
        lambda settings: make_training_env("CartPole-v1", 2, settings),
    ],
)
def test_an_argument_that_the_environment_does_not_take_is_named(make: Any) -> None:
    with pytest.raises(UsageError, match=r"CartPole-v1 could not be made with .*gravitation"):
        make({"gravitation": 3})


def test_settings_reach_every_copy() -> None:
    settings = {"sutton_barto_reward": True}
    assert make_env("CartPole-v1", settings=settings).unwrapped._sutton_barto_reward
    copies = make_vector_env("CartPole-v1", 2, settings)
    assert all(env.unwrapped._sutton_barto_reward for env in copies.envs)


def test_a_vector_is_the_native_one_where_there_is_one_with_its_time_limit() -> None:
    native = make_vector_env("CartPole-v1", 2)
    assert isinstance(native.unwrapped, CartPoleVectorEnv)
    assert native.unwrapped.max_episode_steps == 500
    for other in (make_vector_env("CartPole-v1", 2, native=False), make_vector_env("Pendulum-v1", 2)):
        assert isinstance(other, SyncVectorEnv)
        assert other.autoreset_mode is AutoresetMode.SAME_STEP


def test_one_environment_is_no_vector() -> None:
    assert isinstance(make_training_env("CartPole-v1", 1), gym.Env)
    assert make_training_env("CartPole-v1", 3).num_envs == 3


# Whether a state can be saved


@pytest.mark.parametrize(("n_envs", "native"), [(1, True), (3, True), (3, False)], ids=["single", "native", "sync"])
@pytest.mark.parametrize(
    "env_id", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4"]
)
def test_the_state_of_gymnasiums_own_environments_can_be_saved(env_id: str, n_envs: int, native: bool) -> None:
    assert is_restorable(env_id, n_envs, native=native, steps=10)


class Keeper(gym.Env):
    """Keeps its count in an attribute, where it can be seen; shows it above a threshold."""

    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, shown_from: int = 0) -> None:
        self.count, self.shown_from = 0, shown_from

    def advance(self) -> int:
        self.count += 1
        return self.count

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        count = self.advance()
        return np.array([max(0.0, count - self.shown_from)]), 0.0, False, False, {}


class InClosure(Keeper):
    """Hides the count in a closure."""

    def __init__(self, shown_from: int = 0) -> None:
        super().__init__(shown_from)
        count = 0

        def advance() -> int:
            nonlocal count
            count += 1
            return count

        self.advance = advance  # type: ignore[method-assign]


class InGenerator(Keeper):
    """Hides the count in a running generator."""

    def __init__(self, shown_from: int = 0) -> None:
        super().__init__(shown_from)
        self._numbers = iter(number for number in range(1, 10**9))

    def advance(self) -> int:
        return next(self._numbers)


class InSlots(Keeper):
    """Hides the count in an object without a dictionary."""

    class Slots:
        __slots__ = ("count",)

    def __init__(self, shown_from: int = 0) -> None:
        super().__init__(shown_from)
        self._slots = self.Slots()
        self._slots.count = 0

    def advance(self) -> int:
        self._slots.count += 1
        return self._slots.count


class LateGenerator(Keeper):
    """Comes to hold, on its way, a generator that no fresh copy has, and does not use it for a long time."""

    def __init__(self, shown_from: int = 0) -> None:
        super().__init__(shown_from)
        self.generator: random.Random | None = None

    def advance(self) -> int:
        self.generator = self.generator or random.Random(self.count)
        self.count += 1
        return self.count


@pytest.fixture
def registered() -> Iterator[None]:
    for kind in (Keeper, InClosure, InGenerator, InSlots, LateGenerator):
        gym.register(f"tests/{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in (Keeper, InClosure, InGenerator, InSlots, LateGenerator):
        del gym.registry[f"tests/{kind.__name__}-v0"]


# One copy is `steps` = 20 ahead of the other in the hidden count. Both then take 200 steps: a difference that
# begins at a count of 150 shows in the 131st of them.
@pytest.mark.parametrize("shown_from", [0, 150], ids=["at once", "late"])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", [InClosure, InGenerator, InSlots])
@pytest.mark.usefixtures("registered")
def test_a_state_that_cannot_be_seen_cannot_be_saved(kind: type, n_envs: int, shown_from: int) -> None:
    assert not is_restorable(f"tests/{kind.__name__}-v0", n_envs, {"shown_from": shown_from})


@pytest.mark.parametrize("shown_from", [0, 150])
@pytest.mark.usefixtures("registered")
def test_the_same_count_in_an_attribute_can_be_saved(shown_from: int) -> None:
    assert is_restorable("tests/Keeper-v0", 1, {"shown_from": shown_from})


@pytest.mark.usefixtures("registered")
def test_what_found_no_place_in_a_fresh_copy_cannot_be_saved_even_if_no_difference_shows() -> None:
    assert not is_restorable("tests/LateGenerator-v0", 1)
