"""A comparison: several agents, several seeds, one environment, one way of measuring.

It has a folder of its own, ``runs/compare/<env>/``, with a run folder for each agent and seed. What is compared is
written down there; the same call finds it again and goes on where it stopped, and a call with more agents or more seeds
adds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from hamiltonian_rl.agents import agent_class
from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.settings import parse_assignment
from hamiltonian_rl.envs.making import close_env, env_spec, make_training_env
from hamiltonian_rl.errors import CheckpointError, HamiltonianRLError, RunStorageError, UsageError
from hamiltonian_rl.files import write_text
from hamiltonian_rl.run_config import RunConfig, Say, past_of_run, repeat_config, resolve
from hamiltonian_rl.tracking.run_folder import RunFolder, file_name
from hamiltonian_rl.training import made_agent

SHARED = "comparison.toml"  # in the comparison's folder: what all of its runs share


@dataclasses.dataclass(frozen=True)
class AgentChoice:
    """An agent to compare: its name, and settings that differ from the tuned ones.

    Attributes:
        label: As it was written, and as tables and pictures call it.
        name: Of the agent.
        settings: By name.
    """

    label: str
    name: str
    settings: dict[str, Any]


def parse_agents(text: str) -> list[AgentChoice]:
    """Read "dqn,sb3:ppo,dqn:gamma=0.9:hidden=[64,64]": names with commas between, settings behind colons.

    Raises:
        UsageError: There is none, or one stands there twice.

    Example:
        >>> [(agent.name, agent.settings) for agent in parse_agents("sb3:ppo,dqn:gamma=0.9:hidden=[64,64]")]
        [('sb3:ppo', {}), ('dqn', {'gamma': 0.9, 'hidden': [64, 64]})]
    """
    labels = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]  # commas in brackets belong to a setting
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"--agents names {label} twice; settings tell two of a kind apart: {label}:gamma=0.9.")
    choices = []
    for label in labels:
        parts = label.split(":")
        names = list(itertools.takewhile(lambda part: "=" not in part, parts))
        name, assignments = ":".join(names), parts[len(names) :]
        if not re.fullmatch(r"[\w:.-]*\w", name):
            raise UsageError(
                f'--agents has "{label}"; expected names with commas between and settings behind colons, for instance '
                "dqn,sb3:ppo,dqn:gamma=0.9."
            )
        choices.append(AgentChoice(label, name, dict(map(parse_assignment, assignments))))
    return choices


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        label: Of the agent.
        config: Of the run.
        folder: Of the comparison.
    """

    label: str
    config: RunConfig
    folder: Path

    @property
    def name(self) -> str:
        """What a person calls it: agent and seed."""
        return f"{self.label}, seed {self.config.seed}"

    def run_folder(self) -> RunFolder | None:
        """Return the newest run of exactly this configuration; None where there is none yet."""
        runs = (self.folder / file_name(self.label)).glob(f"{self.config.seed}-*")
        for path in sorted(runs, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            try:
                if repeat_config(path) == self.config:
                    return RunFolder(path)
            except HamiltonianRLError:  # cut off while it was made, or of another version
                continue
        return None

    def result(self) -> dict[str, Any] | None:
        """Return what the run did, or as much of it as its last checkpoint tells; None before it began."""
        run = self.run_folder()
        return None if run is None else run.read_result() or _result_so_far(run)

    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.result() or {}).get("status") == "finished"


def _result_so_far(run: RunFolder) -> dict[str, Any]:
    """Return the result of a run that had no time to write one."""
    steps, seconds, evaluations = 0, 0.0, []
    with contextlib.suppress(CheckpointError):  # none yet, or damaged
        past = past_of_run(run.read_latest_checkpoint()[1])
        steps, seconds, evaluations = past.num_timesteps, past.seconds, past.evaluations
    return {"status": "died", "steps": steps, "training_cpu_seconds": seconds, "evaluations": evaluations}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared, and where.

    Attributes:
        env: Environment id.
        labels: Of the agents.
        folder: Of the comparison.
        jobs: A run for each agent and seed; the first seed of all agents comes first.
        planners: Labels of the agents that ask the model behind the environment and take no sample of it.
    """

    env: str
    labels: tuple[str, ...]
    folder: Path
    jobs: tuple[Job, ...]
    planners: frozenset[str] = frozenset()

    def of_agent(self, label: str) -> list[Job]:
        """Return the runs of an agent, by seed."""
        return [job for job in self.jobs if job.label == label]


def plan_comparison(
    env: str,
    agents: Sequence[AgentChoice],
    seeds: int,
    root: Path,
    *,
    env_settings: dict[str, Any] | None = None,
    say: Say = lambda sentence: None,
    **shared: Any,
) -> Comparison:
    """Resolve every agent's configuration and find or make the comparison's folder.

    Args:
        env: Environment id.
        agents: What to compare.
        seeds: How many: 0 to ``seeds - 1``.
        root: Where comparisons are kept.
        env_settings: Arguments of the environment.
        say: Is told what was chosen.
        shared: What all runs share: ``steps`` (None: as each agent is tuned), ``eval_every``, ``eval_episodes``,
            ``final_episodes``.

    Raises:
        UsageError: An agent is unknown or does not suit the environment.
        RunStorageError: The folder cannot be made.
    """
    shared = {
        "env_settings": env_settings or {},
        **{name: value for name, value in shared.items() if value is not None},
    }
    configs, planners = {}, set()
    for agent in agents:
        notes = [f"{agent.label}:"]  # said once the agent is known to be one
        configs[agent.label] = resolve(env, agent=agent.name, settings=agent.settings, say=notes.append, **shared)
        say("\n  ".join(notes))
        if _checked_agent(configs[agent.label]).learns_from == "model":
            planners.add(agent.label)
    folder = _comparison_folder(root, {"env": env, **shared})
    jobs = tuple(
        Job(label, dataclasses.replace(config, seed=seed), folder)
        for seed in range(seeds)
        for label, config in configs.items()
    )
    return Comparison(env, tuple(configs), folder, jobs, frozenset(planners))


def _checked_agent(config: RunConfig) -> Agent:
    """Return the agent, made once: what does not fit is told before hours of computing, not after.

    Raises:
        UsageError: It does not suit the environment.
    """
    native = agent_class(config.agent).native_vector_envs
    env = make_training_env(config.env, config.n_envs, config.env_settings, native=native)
    try:
        return made_agent(config, env)
    finally:
        close_env(env)


def _comparison_folder(root: Path, shared: dict[str, Any]) -> Path:
    """Return the folder of the comparison with just this in common, made if there is none."""
    name = file_name(env_spec(shared["env"]).id)
    for number in range(1, 1000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            if _shared_by(path) == shared:
                return path
            if path.is_dir() and any(path.iterdir()):
                continue  # another comparison, or something else
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunStorageError(
                f"Cannot use the folder {path}: {error.strerror}. Choose another with --run-dir."
            ) from error
        write_text(path / SHARED, tomli_w.dumps(shared))
        return path
    raise RunStorageError(f"Cannot make a folder below {root}: a thousand comparisons of {name} are there already.")


def _shared_by(folder: Path) -> dict[str, Any] | None:
    """Return what the runs of a comparison share; None where the folder is none."""
    try:
        return tomllib.loads((folder / SHARED).read_text())
    except (FileNotFoundError, ValueError):
        return None
