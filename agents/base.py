"""What every agent shares: Stable-Baselines3's interface, the learning loop, saving and loading."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.agent_file import FILE_MARK, reading_agent, with_suffix
from hamiltonian_rl.agents.callbacks import Callbacks, as_callbacks
from hamiltonian_rl.agents.device import resolve_device
from hamiltonian_rl.agents.episodes import EpisodeCounter
from hamiltonian_rl.agents.settings import checked_seed, is_count, make_settings, plain_settings
from hamiltonian_rl.agents.spaces import space_from_tree, space_to_tree
from hamiltonian_rl.envs.stepping import Stepper, Transitions
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.tracking.checkpoint import Tree, read_checkpoint, write_checkpoint
from hamiltonian_rl.tracking.logger import Logger
from hamiltonian_rl.tracking.snapshot import capture, restore


class Agent(ABC):
    """An agent that learns from an environment and acts in it, spelled as Stable-Baselines3 spells it.

    Args:
        env: A Gymnasium environment, a Gymnasium vector environment, or an SB3 VecEnv.
        seed: Of every random choice that the agent makes, and of the environment's first reset; None draws one.
        device: "cpu", "cuda", "cuda:1" ... or "auto": the CPU, which is faster at these sizes.
        tensorboard_log: Folder for TensorBoard events; None for none.
        settings: Hyper-parameters; each agent lists its own in `Settings`.

    Raises:
        UsageError: A setting is unknown or out of range, or the agent cannot handle a space.
    """

    name: ClassVar[str]
    Settings: ClassVar[type]
    # Whether the agent learns from vector environments of Gymnasium's own making, the fastest kind.
    native_vector_envs: ClassVar[bool] = True
    # Whether it learns from steps of the environment, or from the model behind it, which it asks instead.
    learns_from: Literal["environment", "model"] = "environment"
    tensorboard_log: Path | None = None
    # Whether a loaded agent goes on in the episode that it was saved in, or had to start another.
    resumed_exactly = True

    def __init__(
        self,
        env: Any,
        *,
        seed: int | None = 0,
        device: str | None = "auto",
        tensorboard_log: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self.stepper = Stepper(env)
        self._start(self.stepper.observation_space, self.stepper.action_space, seed, device, settings)
        self.tensorboard_log = None if tensorboard_log is None else Path(tensorboard_log)

    def _start(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        seed: int | None,
        device: str | None,
        settings: dict[str, Any],
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.seed = checked_seed(seed)
        self.device = resolve_device(device)
        self.settings = self._make_settings(settings)
        self.logger = Logger()
        # Two streams, so that predict() never disturbs what is learnt.
        root = np.random.SeedSequence(self.seed)
        self._rng, self._predict_rng = (np.random.default_rng(s) for s in root.spawn(2))
        self.num_timesteps = 0
        self._episodes = EpisodeCounter()
        self._total_timesteps = 0
        self._running = False  # an episode is under way in the environment
        self._seeded = False  # the environment has had its seed
        self._env_state: Tree = None
        self._build()

    def _make_settings(self, given: dict[str, Any]) -> Any:
        return make_settings(self.Settings, given, type(self).__name__)

    @classmethod
    def resolve_settings(cls, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return all settings with their values, checked, for an agent that is yet to be made.

        Raises:
            UsageError: One of them is unknown or out of range.
        """
        settings: Any = make_settings(cls.Settings, given, name)
        return plain_settings(settings)

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return everything learnt, as arrays in a fixed order."""
        return []

    # What an agent fills in

    @abstractmethod
    def _build(self) -> None:
        """Make everything that depends on the spaces and settings but not on the environment."""

    def _prepare(self) -> None:
        """Make ready for new episodes in ``self.stepper.num_envs`` environments."""

    @abstractmethod
    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the best known actions, shape ``(n, ...)``."""

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions to learn from, drawn with ``self._rng``."""
        return self._sample(observations, self._rng)

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return actions of the stochastic policy, for `predict` with ``deterministic=False``."""
        return self._greedy(observations)

    def _learn_from(self, step: Transitions) -> None:
        """Learn from one step of every environment."""

    def _own_state(self) -> Tree:
        """Return all that the agent adds to the state of the loop, as plain data and arrays."""
        return {}

    def _set_own_state(self, tree: Any) -> None:
        """Take back what `_own_state` returned, in place."""

    def _log(self) -> None:
        """Record what the agent has to report besides the loop's own tags."""

    # Stable-Baselines3's interface

    @property
    def env(self) -> Any:
        """The environment that was given, or None."""
        return self.stepper.env if hasattr(self, "stepper") else None

    def get_env(self) -> Any:
        """Return the environment as an SB3 VecEnv, which is what SB3's callbacks expect."""
        from hamiltonian_rl.envs.vec_env import as_vec_env

        return None if self.env is None else as_vec_env(self.env)

    def get_vec_normalize_env(self) -> Any:
        """Return the running normalisation of observations, if there is one."""
        return None

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Change the environment; it must have the same spaces.

        Raises:
            UsageError: The spaces differ.
        """
        stepper = Stepper(env)
        for kind in ("observation_space", "action_space"):
            ours, theirs = getattr(self, kind), getattr(stepper, kind)
            if ours != theirs:
                raise UsageError(f"The environment's {kind} is {theirs}; this agent was made for {ours}.")
        if env is self.env and self._running and not force_reset:
            stepper.set_state(self.stepper.state())  # the episode goes on
        else:
            self._running = self._seeded = False
        self.stepper = stepper

    def set_logger(self, logger: Logger) -> None:
        """Use the given logger from now on."""
        self.logger = logger

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for a number of environment steps.

        Args:
            total_timesteps: Environment steps of this call, over all environments together.
            callback: An SB3 callback, a list of them, or a function ``(locals, globals) -> bool``.
            log_interval: Finished episodes between two records; None for no records.
            tb_log_name: Name of the run below ``tensorboard_log``; the agent's name unless given.
            reset_num_timesteps: Count from zero, with a new episode. False continues where the last
                call stopped: learning for N steps twice is then the same as learning for 2N.
            progress_bar: Show one.

        Returns:
            The agent.

        Raises:
            EnvironmentContractError: The environment raised or broke Gymnasium's contract.
            TrainingError: The learning diverged.
        """
        total_timesteps = self._checked_timesteps(total_timesteps, log_interval)
        callbacks = as_callbacks(callback, progress_bar)
        self._begin(total_timesteps, reset_num_timesteps, tb_log_name)
        callbacks.start(self, {"total_timesteps": total_timesteps, "self": self, "log_interval": log_interval})
        while self.num_timesteps < self._total_timesteps and self._iterate(callbacks, log_interval):
            pass
        callbacks.end()
        return self

    def _checked_timesteps(self, total_timesteps: Any, log_interval: Any) -> int:
        """Return the number of steps to learn for, or refuse to learn."""
        if self.env is None:
            raise UsageError("This agent has no environment to learn from. Give it one with set_env(env).")
        if log_interval is not None and not is_count(log_interval, least=1):
            raise UsageError(
                f"log_interval = {log_interval!r}; expected a whole number from 1, or None for no records."
            )
        if not is_count(total_timesteps, least=0):
            raise UsageError(f"total_timesteps = {total_timesteps!r}; expected a whole number from 0, such as 10_000.")
        return int(total_timesteps)

    def _begin(self, total_timesteps: int, reset_num_timesteps: bool, tb_log_name: str | None) -> None:
        if reset_num_timesteps:
            self.num_timesteps = 0
            self._episodes = EpisodeCounter()
        self._open_log(tb_log_name, reset_num_timesteps)
        self._total_timesteps = self.num_timesteps + total_timesteps
        self._clock = (time.perf_counter(), self.num_timesteps)
        if reset_num_timesteps or not self._running:
            self._episodes.start(self.stepper.num_envs)
            self._prepare()
            self.stepper.reset(seed=None if self._seeded else self.seed + self.num_timesteps)
            self._running = self._seeded = True

    def _open_log(self, tb_log_name: str | None, new: bool) -> None:
        """Log to a new folder below ``tensorboard_log``, if the agent was given one."""
        if self.tensorboard_log is None or (self.logger.sinks and not new):
            return
        from hamiltonian_rl.tracking.tensorboard import TensorBoardSink, next_run_folder

        self.logger.close()
        sink = TensorBoardSink(next_run_folder(self.tensorboard_log, tb_log_name or self.name))
        sink.write_hparams({"agent": self.name, "seed": self.seed, **self._settings_tree()})
        self.logger = Logger(sink)

    def _iterate(self, callbacks: Callbacks, log_interval: int | None) -> bool:
        """Act, step and learn once; return whether to go on."""
        callbacks.rollout_start()
        finished, seen = self._take_step()
        go_on = callbacks.step(seen)
        callbacks.rollout_end()
        if (
            finished
            and log_interval is not None
            and self.episodes // log_interval > ((self.episodes - finished) // log_interval)
        ):
            self.dump_logs()
        return go_on

    def _take_step(self) -> tuple[int, dict[str, Any]]:
        """Step every environment and learn from it; return how many episodes ended, and what callbacks see."""
        actions = self._explore(self.stepper.observations)
        step = self.stepper.step(actions)
        self.num_timesteps += int(step.valid.sum())
        finished = self._episodes.count(step)
        self._learn_from(step)
        return finished, {
            "new_obs": step.next_observations,
            "actions": actions,
            "rewards": step.rewards,
            "dones": step.over,
            "infos": self._episodes.infos(step),
        }

    def dump_logs(self) -> None:
        """Write a record now; the loop does so every ``log_interval`` episodes."""
        seconds, steps = time.perf_counter() - self._clock[0], self.num_timesteps - self._clock[1]
        if self.episodes:  # there are none where a model is asked instead of the environment
            self.logger.record("rollout/ep_rew_mean", self._episodes.mean_return)
            self.logger.record("rollout/ep_len_mean", self._episodes.mean_length)
        self.logger.record("time/episodes", self.episodes)
        self.logger.record("time/fps", int(steps / max(seconds, 1e-9)))
        self.logger.record("time/time_elapsed", int(seconds))
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self._log()
        self.logger.dump(self.num_timesteps)

    @property
    def episodes(self) -> int:
        """Training episodes finished so far."""
        return self._episodes.finished

    @property
    def mean_episode_return(self) -> float | None:
        """Mean return of the last 100 finished training episodes; None before the first."""
        return self._episodes.mean_return

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or the actions for a batch.

        Args:
            observation: Shape ``(...)`` of the space, or ``(n, ...)``.
            state: Passed through; these agents have no memory.
            episode_start: Ignored, for the same reason.
            deterministic: The greedy action; otherwise the stochastic policy's.
        """
        try:
            array = np.asarray(observation)
        except ValueError as error:
            raise UsageError(f"The observation {observation!r} is no array: {error}") from error
        expected = self.observation_space.shape or ()
        single = array.shape == expected
        if not single and (array.shape[1:] != expected or len(array) == 0):
            raise UsageError(f"The observation has shape {array.shape}; expected {expected} or (n, *{expected}).")
        if array.dtype.kind not in "biuf" or not (np.abs(array) < np.finfo(np.float32).max).all():
            raise UsageError(f"The observation is {observation!r}; expected finite numbers.")
        batch = array[None] if single else array
        actions = np.asarray(self._greedy(batch) if deterministic else self._sample(batch, self._predict_rng))
        return (actions[0] if single else actions), state

    def to_tree(self) -> Tree:
        """Return everything needed to go on exactly, as plain data and arrays (see `save`)."""
        return {
            **FILE_MARK,
            "agent": self.name,
            "seed": self.seed,
            "settings": self._settings_tree(),
            "observation_space": space_to_tree(self.observation_space),
            "action_space": space_to_tree(self.action_space),
            "loop": self._loop_state(),
            "own": self._own_state(),
            "env": self._env_tree(),
        }

    def save(self, path: str | Path) -> None:
        """Save everything needed to go on exactly: parameters, optimizer, memory, generators, environment.

        The file holds no pickle; loading it runs no code. ".zip" is added where the name has no suffix.

        Raises:
            RunStorageError: The file cannot be written.
        """
        write_checkpoint(with_suffix(path), self.to_tree())

    @classmethod
    def load(cls, path: str | Path, env: Any = None, device: str = "auto") -> Self:
        """Load an agent that `save` wrote. ``Agent.load`` loads any, ``DQN.load`` only a DQN.

        Args:
            path: The file.
            env: Environment to go on learning in. Its state is put back as it was saved, where the
                environment keeps its state in plain attributes; otherwise a new episode starts.
            device: As for a new agent.

        Raises:
            CheckpointError: The file is damaged, of another kind, or of another agent.
        """
        return cls.from_tree(read_checkpoint(with_suffix(path)), env, device, where=str(path))

    @classmethod
    def from_tree(cls, tree: Any, env: Any = None, device: str = "auto", *, where: str = "The file") -> Self:
        """Make the agent that `to_tree` wrote down; see `load`."""
        with reading_agent(tree, where):
            if "name" not in cls.__dict__:
                from hamiltonian_rl.agents import agent_class

                found: Any = agent_class(tree["agent"])
                return found.from_tree(tree, env, device, where=where)  # type: ignore[no-any-return]
            if tree["agent"].partition(":")[0] != cls.name:
                raise CheckpointError(f"{where} holds the agent {tree['agent']}, not {cls.name}. Use Agent.load.")
            agent = cls._blank(tree)
            if env is not None:
                agent.stepper = Stepper(env)
            spaces = space_from_tree(tree["observation_space"]), space_from_tree(tree["action_space"])
            agent._start(*spaces, tree["seed"], device, tree["settings"])
            agent._env_state = tree["env"]
            if env is not None:
                agent.set_env(env)
            agent._set_loop_state(tree["loop"])
            agent._set_own_state(tree["own"])
            return agent

    @classmethod
    def _blank(cls, tree: Any) -> Self:
        return cls.__new__(cls)

    def _env_tree(self) -> Tree:
        return capture(self.env) if self._running else self._env_state

    def _settings_tree(self) -> dict[str, Any]:
        return plain_settings(self.settings)

    def _loop_state(self) -> Tree:
        return {
            "num_timesteps": self.num_timesteps,
            "episodes": self._episodes.state(),
            "running": self._running,
            "rng": self._rng.bit_generator.state,
            "predict_rng": self._predict_rng.bit_generator.state,
            "stepper": self.stepper.state() if self.env is not None else None,
        }

    def _set_loop_state(self, tree: Any) -> None:
        self.num_timesteps = tree["num_timesteps"]
        self._episodes.set_state(tree["episodes"])
        self._rng.bit_generator.state = tree["rng"]
        self._predict_rng.bit_generator.state = tree["predict_rng"]
        same_size = self.env is not None and self._episodes.n_envs in (0, self.stepper.num_envs)
        self.resumed_exactly = not tree["running"]
        if tree["running"] and same_size and self._restore_env():
            self.resumed_exactly = True
            self._running = self._seeded = True
            self.stepper.set_state(tree["stepper"])

    def _restore_env(self) -> bool:
        return restore(self.env, self._env_state)
