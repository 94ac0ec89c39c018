"""Settings of Stable-Baselines3's algorithms: checked before SB3 sees them, and read out of its files.

SB3 itself takes a discount of 2, or a memory of -1 transitions, without a word.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hamiltonian_rl.agents.settings import make_settings, setting
from hamiltonian_rl.errors import CheckpointError, UsageError, did_you_mean

NOISE_TYPES = ("normal", "ornstein-uhlenbeck")
# Settings of ours on top of the algorithm's own: running normalisation, and action noise by name.
EXTRA_SETTINGS = {"normalize", "noise_type", "noise_std"}
NOT_SETTINGS = {"self", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model", "action_noise"}


def _bounded(**bounds: float) -> Any:
    return setting(None, "", **bounds)


@dataclass(frozen=True)
class _Checks:
    """Types and bounds of the arguments that SB3's algorithms share; others are left to SB3."""

    learning_rate: float | str = _bounded(above=0)
    gamma: float = _bounded(least=0, most=1)
    gae_lambda: float = _bounded(least=0, most=1)
    tau: float = _bounded(above=0, most=1)
    n_steps: int = _bounded(least=1)
    n_epochs: int = _bounded(least=1)
    batch_size: int = _bounded(least=1)
    buffer_size: int = _bounded(least=1)
    learning_starts: int = _bounded(least=0)
    gradient_steps: int = _bounded(least=-1)
    target_update_interval: int = _bounded(least=1)
    policy_delay: int = _bounded(least=1)
    clip_range: float | str = _bounded(above=0)
    ent_coef: float | str = _bounded()
    vf_coef: float = _bounded(least=0)
    max_grad_norm: float = _bounded(above=0)
    target_kl: float = _bounded(above=0)
    exploration_fraction: float = _bounded(least=0, most=1)
    exploration_initial_eps: float = _bounded(least=0, most=1)
    exploration_final_eps: float = _bounded(least=0, most=1)
    target_policy_noise: float = _bounded(least=0)
    target_noise_clip: float = _bounded(least=0)
    use_sde: bool = _bounded()
    sde_sample_freq: int = _bounded(least=-1)
    normalize_advantage: bool = _bounded()
    optimize_memory_usage: bool = _bounded()
    policy: str = _bounded()
    normalize: bool = _bounded()
    noise_type: str = _bounded()
    noise_std: float = _bounded(least=0)


def check_settings(name: str, given: Mapping[str, Any], parameters: set[str]) -> dict[str, Any]:
    """Return the settings given, checked.

    Args:
        name: The agent's, for the messages.
        given: Names and values.
        parameters: Names that the algorithm's constructor takes.

    Raises:
        UsageError: A setting is unknown, of the wrong type, or out of range.

    Example:
        >>> check_settings("sb3:ppo", {"gamma": 2}, {"gamma"})
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: sb3:ppo: gamma = 2.0 is out of range; expected at most 1.
    """
    known = parameters - NOT_SETTINGS | EXTRA_SETTINGS
    for key, value in given.items():
        if key not in known:
            raise UsageError(f'{name} has no setting "{key}". {did_you_mean(key, known)}')
        if key in _Checks.__dataclass_fields__ and value is not None and not callable(value):
            make_settings(_Checks, {key: value}, name)
    if given.get("noise_type") not in (None, *NOISE_TYPES):
        raise UsageError(
            f'There is no noise_type "{given["noise_type"]}". {did_you_mean(given["noise_type"], NOISE_TYPES)}'
        )
    if "noise_std" in given and "noise_type" not in given:
        raise UsageError(f"{name}: noise_std without noise_type has no effect. Add noise_type=normal, or leave it out.")
    return dict(given)


def schedule(value: Any) -> Any:
    """Return the value, or for the text "lin_0.001" a function of the share of the budget left, as rl-zoo3 has it."""
    if not (isinstance(value, str) and value.startswith("lin_")):
        return value
    start = float(value.removeprefix("lin_"))

    def falling(remaining: float) -> float:
        return remaining * start

    return falling


def algorithm_of_file(path: Path) -> str:
    """Find out, without unpickling anything, which algorithm a file holds."""
    marks: dict[str, Callable[[dict[str, Any]], bool]] = {
        "ppo": lambda data: "clip_range" in data,
        "dqn": lambda data: "exploration_final_eps" in data,
        "sac": lambda data: "ent_coef" in data and "target_entropy" in data,
        "a2c": lambda data: "gae_lambda" in data,
        "td3": lambda data: "target_policy_noise" in data,
    }
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no Stable-Baselines3 model: {error}") from error
    for name, mark in marks.items() if isinstance(data, dict) else ():
        if mark(data):
            return name
    raise CheckpointError(f"Cannot tell which algorithm {path} holds; name it with --agent sb3:NAME.")
