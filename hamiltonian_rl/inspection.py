"""Looking at what there is: trained models, environments, agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents import AGENTS, agent_class
from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.evaluation import STEPS_WITHOUT_LIMIT, Evaluator, mean_and_error
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.making import env_spec, make_env
from hamiltonian_rl.errors import UsageError
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
    if not path.exists():
        raise UsageError(f"There is no {path}. Give a run's folder or a saved agent.")
    if path.is_file() and is_sb3_file(path):
        from hamiltonian_rl.agents.sb3 import SB3Agent

        if env is None:
            raise UsageError(f"{path} does not say which environment it was trained in. Name it with --env.")
        made = make_env(env, settings=env_settings)
        name = None if algorithm is None else algorithm.removeprefix("sb3:")
        return OpenedModel(SB3Agent.from_sb3(path, made, algorithm=name, trust=trust), env, env_settings or {}, 0)
    tree = RunFolder.open(path).read_latest_checkpoint()[1] if path.is_dir() else read_checkpoint(path)
    agent = Agent.from_tree(tree, where=str(path))
    run = tree.get("run", {"config": {}})["config"]
    env_id = env or run.get("env")
    if env_id is None:
        raise UsageError(f"{path} does not say which environment it was trained in. Name it with --env.")
    chosen = env_settings or (run.get("env_settings", {}) if env_id == run.get("env") else {})
    _check_spaces(agent, make_env(env_id, settings=chosen), env_id)
    return OpenedModel(agent, env_id, chosen, run.get("seed", 0))


def _check_spaces(agent: Agent, env: gym.Env, env_id: str) -> None:
    for kind in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, kind), getattr(env, kind)
        if ours != theirs:
            raise UsageError(f"The {kind} of {env_id} is {theirs}; the agent was trained with {ours}.")
    env.close()


def evaluate_model(
    model: OpenedModel,
    episodes: int,
    *,
    render: bool = False,
    video: Path | None = None,
    progress: Callable[[str], None] = lambda sentence: None,
) -> dict[str, str]:
    """Run greedy episodes and return what a person wants to know, as rows of a table."""
    seed = FINAL_SEED + 1000 * model.seed
    if render or video is not None:
        returns = _shown_episodes(model, episodes, seed, video)
    else:
        evaluator = Evaluator(model.env_id, model.env_settings)
        returns = evaluator.returns(model.agent, episodes=episodes, seed=seed)
        evaluator.close()
    mean, error = mean_and_error(returns)
    threshold = env_spec(model.env_id).reward_threshold
    rows = {
        f"Return, {episodes} greedy episode{'s' * (episodes > 1)}": (
            f"{mean:.2f} ± {error:.2f} (standard error)" if episodes > 1 else f"{mean:.2f}"
        ),
        "Lowest, median, highest": f"{returns.min():.2f}, {np.median(returns):.2f}, {returns.max():.2f}",
        "Trained for": f"{model.agent.num_timesteps:,} steps",
    }
    if threshold is not None:
        rows["Threshold"] = f"{threshold:g}, {'reached' if mean >= threshold else 'not reached'}"
    if video is not None:
        rows["Video"] = str(video)
    return rows


def _shown_episodes(model: OpenedModel, episodes: int, seed: int, video: Path | None) -> np.ndarray:
    """Run episodes one after the other, in a window or into a video file."""
    mode = "human" if video is None else "rgb_array"
    modes = _render_modes(model)
    if mode not in modes:
        raise UsageError(f"{model.env_id} cannot render as {mode}; it offers {', '.join(modes) or 'nothing'}.")
    env = make_env(model.env_id, mode, model.env_settings)
    writer = None if video is None else _video_writer(video, int(env.metadata.get("render_fps", 30)))
    returns = []
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            total, over, steps = 0.0, False, 0
            while not over and steps < STEPS_WITHOUT_LIMIT:
                if writer is not None:
                    writer.append_data(_even(np.asarray(env.render())))
                action, _ = model.agent.predict(observation, deterministic=True)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, over, steps = total + float(reward), bool(terminated or truncated), steps + 1
            returns.append(total)
    finally:
        if writer is not None:
            writer.close()
        env.close()
    return np.array(returns)


def _render_modes(model: OpenedModel) -> list[str]:
    """Return the ways in which the model's environment can be seen."""
    env = make_env(model.env_id, settings=model.env_settings)
    modes = [str(mode) for mode in env.metadata.get("render_modes", [])]
    env.close()
    return modes


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
        if spec.entry_point is None or env_id.startswith(("GymV", "phys2d/", "tabular/")):
            continue
        tuned = [agent for agent in AGENTS if tuned_settings(agent, env_id)]
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
    rows = []
    for name, (_, _, summary) in AGENTS.items():
        if name.startswith("sb3:"):
            settings = f"all arguments of Stable-Baselines3's {name[4:].upper()}"
        else:
            fields = dataclasses.fields(agent_class(name).Settings)
            settings = "\n".join(f"{f.name} = {f.default}: {f.metadata.get('help', '')}" for f in fields) or "none"
        rows.append({"Agent": name, "What it is": summary, "Settings (--set)": settings})
    return rows
