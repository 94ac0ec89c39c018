"""Looking at what there is: trained models, environments, agents."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents import AGENTS, agent_class
from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.evaluation import STEPS_WITHOUT_LIMIT, Episodes, Evaluator, mean_and_error
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.making import close_env, env_spec, make_env
from hamiltonian_rl.errors import (
    EnvironmentContractError,
    HamiltonianRLError,
    RunStorageError,
    TrainingError,
    UsageError,
    first_line,
)
from hamiltonian_rl.run_config import past_of_run
from hamiltonian_rl.tracking.checkpoint import is_sb3_file, read_checkpoint
from hamiltonian_rl.tracking.run_folder import RunFolder
from hamiltonian_rl.training import FINAL_SEED


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A trained agent and the environment that it is to be measured in."""

    agent: Agent
    env_id: str
    env_settings: dict[str, Any]
    seed: int

    def with_seed(self, seed: int | None) -> OpenedModel:
        """Return the same with other start states, unless None."""
        return self if seed is None else dataclasses.replace(self, seed=seed)


def open_model(
    path: Path,
    *,
    env: str | None = None,
    env_settings: dict[str, Any] | None = None,
    algorithm: str | None = None,
    trust: bool = False,
) -> OpenedModel:
    """Open a run's folder, a checkpoint, a saved agent, or a Stable-Baselines3 zip.

    Raises:
        UsageError: Nothing is there, or the environment is not known.
        UntrustedFileError: The file holds pickles and ``trust`` is False.
        CheckpointError: The file is damaged.
    """
    if not (path.is_dir() or path.is_file()):
        raise UsageError(f"There is no file or folder {path}. Give a run's folder or a saved agent.")
    if path.is_file() and is_sb3_file(path):
        from hamiltonian_rl.agents.sb3 import SB3Agent

        if env is None:
            raise UsageError(f"{path} does not say which environment it was trained in. Name it with --env.")
        made = make_env(env, settings=env_settings)
        name = None if algorithm is None else algorithm.removeprefix("sb3:")
        return OpenedModel(SB3Agent.from_sb3(path, made, algorithm=name, trust=trust), env, env_settings or {}, 0)
    if algorithm is not None:
        raise UsageError(f"{path} says itself which agent it holds: leave --agent out. It is for SB3's own files.")
    tree = RunFolder.open(path).read_latest_checkpoint()[1] if path.is_dir() else read_checkpoint(path)
    agent = Agent.from_tree(tree, where=str(path))
    run = past_of_run(tree, str(path)).config if "run" in tree else None
    env_id = env or (run.env if run else None)
    if env_id is None:
        raise UsageError(f"{path} does not say which environment it was trained in. Name it with --env.")
    chosen = env_settings or (run.env_settings if run and env_id == run.env else {})
    _check_spaces(agent, make_env(env_id, settings=chosen), env_id)
    return OpenedModel(agent, env_id, chosen, run.seed if run else 0)


def _check_spaces(agent: Agent, env: gym.Env, env_id: str) -> None:
    for kind in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, kind), getattr(env, kind)
        if ours != theirs:
            raise UsageError(f"The {kind} of {env_id} is {theirs}; the agent was trained with {ours}.")
    close_env(env)


def evaluate_model(
    model: OpenedModel,
    episodes: int,
    *,
    render: bool = False,
    video: Path | None = None,
    progress: Callable[[int], None] = lambda finished: None,
) -> Episodes:
    """Run greedy episodes.

    Args:
        model: The agent and its environment.
        episodes: How many.
        render: Show them in a window.
        video: Film them into this file.
        progress: Is told the number of finished episodes before each step.
    """
    mode = "rgb_array" if video is not None else "human" if render else None
    _check_render_mode(model, mode)
    evaluator = Evaluator(model.env_id, model.env_settings, render_mode=mode)
    with contextlib.closing(evaluator), _film(evaluator, video) as film:

        def before_step(finished: int) -> None:
            progress(finished)
            film()

        seed = FINAL_SEED + 1000 * model.seed
        try:
            return evaluator.run(model.agent, episodes=episodes, seed=seed, before_step=before_step)
        except HamiltonianRLError:
            raise
        except Exception as error:  # from inside a model that somebody else saved
            raise TrainingError(
                f"{model.agent.name} failed in {model.env_id} with {type(error).__name__}: {first_line(error)}"
            ) from error


def evaluation_rows(model: OpenedModel, episodes: Episodes, video: Path | None = None) -> dict[str, str]:
    """Return what a person wants to know of a model's greedy episodes, as rows of a table."""
    returns = episodes.returns
    mean, error = mean_and_error(returns)
    threshold, several = env_spec(model.env_id).reward_threshold, len(returns) > 1
    rows = {
        f"Return, {len(returns)} greedy episode{'s' * several}": (
            f"{mean:.2f} ± {error:.2f} (standard error)" if several else f"{mean:.2f}"
        ),
        "Lowest, median, highest": f"{returns.min():.2f}, {np.median(returns):.2f}, {returns.max():.2f}",
        "Trained for": f"{model.agent.num_timesteps:,} steps",
    }
    if episodes.n_cut:
        rows["Cut off"] = f"{episodes.n_cut} of them after {STEPS_WITHOUT_LIMIT:,} steps: there is no time limit"
    if threshold is not None:
        rows["Threshold"] = f"{threshold:g}, {'reached' if mean >= threshold else 'not reached'}"
    if video is not None:
        rows["Video"] = str(video)
    return rows


def _check_render_mode(model: OpenedModel, mode: str | None) -> None:
    """Refuse a render mode that the model's environment does not offer."""
    if mode is None:
        return
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
        if mode == "human":
            raise UsageError("There is no screen to show a window on (DISPLAY is not set). Use --video FILE.mp4.")
        os.environ["SDL_VIDEODRIVER"] = "dummy"  # else SDL looks for a screen, and complains
    env = make_env(model.env_id, settings=model.env_settings)
    modes = [str(offered) for offered in env.metadata.get("render_modes") or []]
    close_env(env)
    if mode not in modes:
        raise UsageError(f"{model.env_id} cannot render as {mode}; it offers {', '.join(modes) or 'nothing'}.")


@contextlib.contextmanager
def _film(evaluator: Evaluator, path: Path | None) -> Iterator[Callable[[], None]]:
    """Yield a function that adds what the environment shows now to a video file; nothing without a path."""
    if path is None:
        yield lambda: None
        return
    writer = _video_writer(path, evaluator.frames_per_second)

    def add_frame() -> None:
        frame = np.asarray(evaluator.render())
        if frame.ndim != 3:
            raise EnvironmentContractError(
                f"{evaluator.env_id}.render() returned no picture (shape {frame.shape}); expected (height, width, 3)."
            )
        try:
            writer.append_data(_even(frame))
        except Exception as error:  # whatever the codec makes of strange pictures, or a full disk
            raise RunStorageError(f"Cannot film into {path}: {type(error).__name__}: {first_line(error)}") from error

    try:
        yield add_frame
    finally:
        with contextlib.suppress(OSError):  # an earlier error names the cause
            writer.close()


def _video_writer(path: Path, fps: int) -> Any:
    import imageio.v2

    if path.suffix.lower() != ".mp4" or path.is_dir():
        raise UsageError(f"{path} is no .mp4 file name; give --video name.mp4.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return imageio.v2.get_writer(path, fps=fps, macro_block_size=1)
    except OSError as error:
        raise UsageError(f"Cannot write the video {path}: {error}.") from error


def _even(frame: np.ndarray) -> np.ndarray:
    """Return the frame with even width and height, as the codec wants them."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


def env_rows() -> list[dict[str, str]]:
    """Return a row for each registered environment."""
    rows = []
    for env_id, spec in sorted(gym.registry.items()):
        retired = isinstance(spec.entry_point, str) and re.search(r"mujoco.*-v[23]$", f"{spec.entry_point} {env_id}")
        if spec.entry_point is None or retired or env_id.startswith(("GymV", "phys2d/", "tabular/")):
            continue
        tuned = [agent for agent in AGENTS if tuned_settings(agent, env_id).keys() - {"steps"}]
        rows.append(
            {
                "Environment": env_id,
                "Time limit": "none" if spec.max_episode_steps is None else f"{spec.max_episode_steps:,}",
                "Threshold": "none" if spec.reward_threshold is None else f"{spec.reward_threshold:g}",
                "Tuned for": ", ".join(tuned),
            }
        )
    return rows


def agent_rows() -> list[dict[str, str]]:
    """Return a row for each agent."""
    return [{"Agent": name, "What it is": summary} for name, (_, _, summary) in AGENTS.items()]


def setting_rows() -> list[dict[str, str]]:
    """Return a row for each setting that ``--set`` takes, agent by agent."""
    rows = []
    for name in AGENTS:
        if name.startswith("sb3:"):
            continue
        for field in dataclasses.fields(agent_class(name).Settings):
            default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
            rows.append({"Agent": name, "Setting": field.name, "Default": default, "What": field.metadata["help"]})
    extra = "running normalisation of observations and rewards"
    rows += [
        {"Agent": "sb3:*", "Setting": "...", "Default": "", "What": "the algorithm's own arguments, as SB3 names them"},
        {"Agent": "sb3:*", "Setting": "normalize", "Default": "False", "What": extra},
        {"Agent": "sb3:*", "Setting": "noise_type", "Default": "", "What": "normal or ornstein-uhlenbeck action noise"},
        {"Agent": "sb3:*", "Setting": "noise_std", "Default": "0.1", "What": "its standard deviation"},
    ]
    return rows
