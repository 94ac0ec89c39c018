"""What determines a run, and filling in what nobody said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

from hamiltonian_rl.agents import agent_class
from hamiltonian_rl.agents.device import resolve_device
from hamiltonian_rl.agents.q_table import MOST_ENTRIES
from hamiltonian_rl.agents.settings import make_settings, setting
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.making import close_env, env_spec, make_env
from hamiltonian_rl.envs.optimum import is_tabulated
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.tracking.checkpoint import Tree
from hamiltonian_rl.tracking.run_folder import read_config

DEFAULT_STEPS = 100_000
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run. Two runs of one configuration on one machine's CPU are equal."""

    env: str = setting("CartPole-v1", "environment id")
    agent: str = setting("dqn", "agent name")
    steps: int = setting(DEFAULT_STEPS, "environment steps", least=1)
    seed: int = setting(0, "seed", least=0, most=2**32 - 1)
    n_envs: int = setting(1, "environments stepped together", least=1, most=100_000)
    device: str = setting("cpu", "cpu or cuda")
    threads: int = setting(1, "threads of the linear algebra; results depend on it to the last bit", least=1, most=1024)
    eval_every: int = setting(1000, "environment steps between evaluations", least=1)
    eval_episodes: int = setting(20, "greedy episodes in one evaluation", least=1, most=1_000_000)
    final_episodes: int = setting(100, "greedy episodes at the end", least=1, most=1_000_000)
    optimality: bool = setting(False, "log the optimum and the regret beside each evaluation")
    env_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def choose_agent(env_id: str, env_settings: dict[str, Any]) -> tuple[str, str]:
    """Return the agent that suits an environment's spaces, and the reason in half a sentence."""
    env = make_env(env_id, settings=env_settings)
    observations, actions = env.observation_space, env.action_space
    close_env(env)
    image = isinstance(observations, gym.spaces.Box) and len(observations.shape) == 3
    simple = isinstance(observations, gym.spaces.Box | gym.spaces.Discrete)
    if (
        isinstance(observations, gym.spaces.Discrete)
        and isinstance(actions, gym.spaces.Discrete)
        and (entries := int(observations.n) * int(actions.n)) <= MOST_ENTRIES
    ):
        return "q-learning", f"discrete observations and actions: a table of {entries:,} values holds the answer"
    if isinstance(actions, gym.spaces.Discrete) and simple and not image:
        return "dqn", "discrete actions"
    if isinstance(actions, gym.spaces.Box) and simple and not image:
        return "sb3:sac", "continuous actions"
    ppo_observations = gym.spaces.Dict | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary
    ppo_actions = gym.spaces.MultiDiscrete | gym.spaces.MultiBinary | gym.spaces.Discrete | gym.spaces.Box
    if isinstance(actions, ppo_actions) and (simple or isinstance(observations, ppo_observations)):
        kinds = f"{type(actions).__name__} actions and {type(observations).__name__} observations"
        return "sb3:ppo", "image observations" if image else kinds
    raise UsageError(
        f"No agent handles the spaces of {env_id}: observations {observations}, actions {actions}. "
        "Wrap the environment so that they are Box, Discrete, MultiDiscrete, MultiBinary or Dict."
    )


def resolve(
    env: str,
    *,
    agent: str | None = None,
    steps: int | None = None,
    n_envs: int | None = None,
    settings: dict[str, Any] | None = None,
    env_settings: dict[str, Any] | None = None,
    optimality: bool | None = None,
    say: Say = lambda sentence: None,
    **others: Any,
) -> RunConfig:
    """Fill in what was not given: the agent that suits the spaces, tuned settings, the budget.

    Args:
        env: Environment id.
        agent: Agent name; chosen by the environment's spaces unless given.
        steps: Environment steps; the tuned budget unless given.
        n_envs: Environments stepped together; the tuned number unless given.
        settings: Hyper-parameters that differ from the tuned ones.
        env_settings: Keyword arguments of the environment.
        optimality: Whether evaluations stand beside the optimum; where it costs nothing unless given.
        say: Is told what was chosen, and why.
        others: Further fields of `RunConfig`.

    Raises:
        UsageError: Something is unknown, out of range, or does not fit together.
    """
    spec = env_spec(env)
    if agent is None:
        agent, reason = choose_agent(env, env_settings or {})
        say(f"Agent: {agent}, because {env} has {reason}. Others with --agent; `hrl list agents` names them.")
    kind = agent_class(agent)
    tuned = tuned_settings(agent, spec.id)
    budget, copies = tuned.pop("steps", DEFAULT_STEPS), tuned.pop("n_envs", 1)
    if tuned:
        shown = ", ".join(f"{name} = {value}" for name, value in tuned.items())
        say(f"Tuned settings of {agent} for {spec.id}: {shown}.")
    else:
        say(f"Settings: the defaults of {agent}; none are tuned for {spec.id}.")
    if settings:
        say(f"Set by you: {', '.join(f'{name} = {value}' for name, value in settings.items())}.")
    config = check_config(
        {
            **others,
            "env": env,
            "agent": agent,
            "steps": budget if steps is None else steps,
            "n_envs": copies if n_envs is None else n_envs,
            "env_settings": env_settings or {},
            "optimality": is_tabulated(env, env_settings) if optimality is None else optimality,
            "settings": {**tuned, **(settings or {})},
        }
    )
    return dataclasses.replace(config, settings=kind.resolve_settings(agent, config.settings))


def check_config(given: dict[str, Any]) -> RunConfig:
    """Check a configuration as it comes from a file or a command line."""
    missing = [name for name in ("env", "agent", "steps", "settings") if name not in given]
    if missing:
        raise UsageError(f"The configuration of the run lacks {', '.join(missing)}. Was its config.toml edited?")
    config = make_settings(RunConfig, given, "The run")
    env_spec(config.env)
    resolve_device(config.device)
    return config


def repeat_config(path: Path) -> RunConfig:
    """Return the configuration of an earlier run (its folder or its config.toml), checked."""
    return check_config(read_config(path))


@dataclasses.dataclass(frozen=True)
class PastOfRun:
    """What a checkpoint tells of the run that wrote it.

    Attributes:
        config: Its configuration, as it was then.
        evaluations: Its evaluations so far: step, seconds and mean_reward of each.
        seconds: CPU seconds of training so far.
        num_timesteps: Environment steps so far.
    """

    config: RunConfig
    evaluations: list[dict[str, float]]
    seconds: float
    num_timesteps: int


def past_of_run(tree: Tree, where: str = "The checkpoint") -> PastOfRun:
    """Read and check what a checkpoint tells of its run.

    Raises:
        CheckpointError: It is no checkpoint of a run, or something in it is not what a run writes.
    """
    if not isinstance(tree, dict) or not isinstance(tree.get("run"), dict):
        raise CheckpointError(f"{where} is no checkpoint of a run.")
    run, loop = tree["run"], tree.get("loop")
    past = {**run, "num_timesteps": loop.get("num_timesteps") if isinstance(loop, dict) else None}
    rules: dict[str, Callable[[Any], bool]] = {
        "config": lambda value: isinstance(value, dict),
        "evaluations": lambda value: isinstance(value, list) and all(map(_is_evaluation, value)),
        "seconds": lambda value: _is_number(value) and value >= 0,
        "num_timesteps": lambda value: type(value) is int and value >= 0,
    }
    for name, holds in rules.items():
        if not holds(past.get(name)):
            raise CheckpointError(f"{where} was altered: its {name} is not what a run writes. Use another checkpoint.")
    try:
        config = make_settings(RunConfig, past["config"], where)
    except UsageError as error:
        raise CheckpointError(f"{where} was altered: {error}") from error
    return PastOfRun(config, past["evaluations"], float(past["seconds"]), past["num_timesteps"])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_evaluation(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(value.get(name)) for name in ("step", "seconds", "mean_reward"))


def check_same_config(config: RunConfig, past: PastOfRun, where: str) -> None:
    """Refuse to go on under a configuration that is not the checkpoint's own, but for the budget.

    Raises:
        UsageError: Names what differs.
    """
    theirs = dataclasses.asdict(past.config)
    for name, value in dataclasses.asdict(config).items():
        if name != "steps" and repr(value) != repr(theirs[name]):  # as text, for NaN is not equal to itself
            raise UsageError(
                f"The config.toml of {where} says {name} = {value}; the checkpoint was trained with "
                f"{theirs[name]}. Undo the edit, or start a new run with --config."
            )
