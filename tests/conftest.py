"""Running `hrl` inside the test process, a text to learn, and environments that misbehave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from hamiltonian_rl import cli
from hamiltonian_rl.principles.sources import SOURCES

MISBEHAVING = '''
import gymnasium as gym
import numpy as np


class Misbehaving(gym.Env):
    """Balances for 20 steps an episode; misbehaves from a chosen step on."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how="not", at=300):
        self.how, self.at, self.steps = how, at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def close(self):
        if self.how == "close":
            raise OSError("the door is stuck")

    def step(self, action):
        self.steps += 1
        how = self.how if self.steps >= self.at else "not"
        if how == "raise":
            raise RuntimeError("the motor is on fire")
        if how == "exit":
            raise SystemExit(0)
        observation = np.full(2, np.nan if how == "nan_observation" else 0.0, np.float32)
        if how == "wrong_shape":
            observation = np.zeros(3, np.float32)
        reward = {"nan_reward": float("nan"), "none_reward": None}.get(how, 1.0)
        if how == "four_values":
            return observation, reward, False, {}
        terminated = "False" if how == "text_flag" else False
        return observation, reward, terminated, self.steps % 20 == 0, {}


gym.register("Misbehaving-v0", entry_point=Misbehaving)
'''


@dataclass
class Outcome:
    """What a call of `hrl` printed and returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def hrl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call `hrl` with arguments, as a shell would."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["hrl", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capfd.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Markov chain of order two says, in letters: a text whose every entropy is known. Only to be read."""
    symbols = SOURCES["markov"]().sample(1, 60_000, np.random.default_rng(0))[0]
    path = tmp_path_factory.mktemp("text") / "chain.txt"
    path.write_bytes(bytes((symbols + ord("a")).astype(np.uint8)))
    return path


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of an environment of a third party's module, importable for this test."""
    (tmp_path / "misbehaving_module.py").write_text(MISBEHAVING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "misbehaving_module", raising=False)
    gym.registry.pop("Misbehaving-v0", None)
    return "misbehaving_module:Misbehaving-v0"


@pytest.fixture(autouse=True)
def _same_warnings_for_everyone() -> None:
    np.seterr(all="warn")
