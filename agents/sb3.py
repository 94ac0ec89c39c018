"""Stable-Baselines3's algorithms behind this toolkit's interface.

So that a comparison is fair, SB3 runs with its own code and with rl-zoo3's published settings; so that
its runs are safe and resumable, they are saved as this toolkit saves its own: without pickle, and whole.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.callbacks import Callbacks, as_callbacks
from hamiltonian_rl.agents.sb3_settings import EXTRA_SETTINGS, NOISE_TYPES, algorithm_of_file, check_settings, schedule
from hamiltonian_rl.envs.vec_env import as_vec_env
from hamiltonian_rl.errors import CheckpointError, UntrustedFileError, UsageError, did_you_mean, first_line
from hamiltonian_rl.tracking.checkpoint import Tree
from hamiltonian_rl.tracking.snapshot import capture, capture_global_generators, restore, restore_global_generators

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "a2c": A2C,
    "ddpg": DDPG,
    "dqn": DQN,
    "ppo": PPO,
    "sac": SAC,
    "td3": TD3,
}


class SB3Agent(Agent):
    """A Stable-Baselines3 algorithm as an agent of this toolkit.

    Args:
        env: As for every agent.
        algorithm: "a2c", "ddpg", "dqn", "ppo", "sac" or "td3".
        settings: The algorithm's own arguments, and three more: ``normalize`` (running normalisation of
            observations and rewards), ``noise_type`` ("normal" or "ornstein-uhlenbeck") and
            ``noise_std``. As in rl-zoo3, the text "lin_0.001" is a value that falls linearly to zero.

    Attributes:
        model: The Stable-Baselines3 model itself.

    Example:
        >>> agent = SB3Agent(gym.make("CartPole-v1"), algorithm="ppo", seed=0, n_steps=32, batch_size=32)
        >>> agent.learn(64).num_timesteps
        64
    """

    name = "sb3"
    native_vector_envs = False  # SB3 cannot tell a transition from the pseudo-step of a native reset
    model: BaseAlgorithm
    _n_envs = 1  # of the environment that stands in for none

    def __init__(self, env: Any, *, algorithm: str = "ppo", **arguments: Any) -> None:
        self._choose(algorithm)
        super().__init__(env, **arguments)

    def _choose(self, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise UsageError(f'There is no algorithm "{algorithm}". {did_you_mean(algorithm, ALGORITHMS)}')
        self.name = f"sb3:{algorithm}"  # type: ignore[misc]
        self._algorithm = ALGORITHMS[algorithm]

    def _make_settings(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.resolve_settings(self.name, given)

    @classmethod
    def resolve_settings(cls, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the settings given, checked; what is not given stays the algorithm's own default."""
        algorithm = ALGORITHMS[name.partition(":")[2]]
        return check_settings(name, given, set(inspect.signature(algorithm).parameters))

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the policy's parameters and buffers."""
        return [value.detach().cpu().numpy() for value in self.model.policy.state_dict().values()]

    def _settings_tree(self) -> dict[str, Any]:
        return dict(self.settings)

    def _build(self) -> None:
        env = getattr(self, "stepper", None)
        vec_env = _SpacesOnly.vec_env(self) if env is None else as_vec_env(env.env, learning=True)
        try:
            arguments = _constructor_arguments(self.settings, self.action_space)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.name} cannot use the settings {self.settings}: {error}.") from error
        if self.settings.get("normalize") and not isinstance(vec_env, VecNormalize):
            vec_env = VecNormalize(vec_env, gamma=arguments.get("gamma", 0.99))
        policy = arguments.pop("policy", None) or _policy_name(self.observation_space)
        try:
            self.model = self._algorithm(policy, vec_env, seed=self.seed, device=self.device, **arguments)
        except Exception as error:  # SB3 checks by assertions, and torch chokes on what these let through
            raise UsageError(
                f"{self.name} cannot be made for observations {self.observation_space}, actions {self.action_space} "
                f"and {self.settings}: {type(error).__name__}: {first_line(error)}"
            ) from error
        self.model.set_logger(self.logger)  # type: ignore[arg-type]

    def set_logger(self, logger: Any) -> None:
        """Use the given logger from now on."""
        super().set_logger(logger)
        self.model.set_logger(logger)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Change the environment; it must have the same spaces."""
        super().set_env(env, force_reset)
        vec_env = as_vec_env(env, learning=True)
        old = self.model.get_vec_normalize_env()
        if old is not None and not isinstance(vec_env, VecNormalize):
            vec_env = VecNormalize(vec_env, gamma=old.gamma)
            vec_env.obs_rms, vec_env.ret_rms = old.obs_rms, old.ret_rms
        if vec_env.num_envs != self.model.n_envs:
            raise UsageError(
                f"{self.name} was made for {self.model.n_envs} environments; got {vec_env.num_envs}. "
                "Give it a vector of that many, or train a new agent."
            )
        self.model.set_env(vec_env, force_reset)

    def get_vec_normalize_env(self) -> Any:
        """Return the running normalisation, if the agent uses one."""
        return self.model.get_vec_normalize_env()

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for a number of environment steps; see `Agent.learn`.

        ``log_interval`` counts rollouts for PPO and A2C, episodes for the others.
        """
        total_timesteps = self._checked_timesteps(total_timesteps, log_interval)
        callbacks = as_callbacks(callback, progress_bar)
        noise = None if reset_num_timesteps else capture(self.model.action_noise)
        self._open_log(tb_log_name, reset_num_timesteps)
        self.set_logger(self.logger)
        self._running = True
        with _whole_states(self.model, callbacks):
            self.model.learn(
                total_timesteps,
                callback=_Forward(callbacks, self, noise),
                log_interval=sys.maxsize if log_interval is None else log_interval,
                reset_num_timesteps=reset_num_timesteps,
            )
        return self

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far."""
        return int(self.model.num_timesteps) if hasattr(self, "model") else 0

    @num_timesteps.setter
    def num_timesteps(self, value: int) -> None:
        if hasattr(self, "model"):
            self.model.num_timesteps = value

    @property
    def mean_episode_return(self) -> float | None:
        """Mean return of the last 100 finished training episodes; None before the first."""
        infos = self.model.ep_info_buffer
        return float(np.mean([info["r"] for info in infos])) if infos else None

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return the actions of SB3's policy; observations may also be dicts of arrays."""
        actions, state = self.model.predict(self._normalized(observation), state, episode_start, deterministic)
        return np.asarray(actions), state

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        return self._sample(observations, self._predict_rng)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self.predict(observations, deterministic=True)[0]

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self.predict(observations)[0]

    def _normalized(self, observations: Any) -> Any:
        normalization = self.model.get_vec_normalize_env()
        return observations if normalization is None else normalization.normalize_obs(observations)

    def _own_state(self) -> Tree:
        normalization = self.model.get_vec_normalize_env()
        with _detached(self.model):
            tree = {"model": capture(self.model), "globals": capture_global_generators()}
        tree["env"] = capture(self.model.env) if self._running else None
        tree["n_envs"] = self.model.n_envs
        tree["normalization"] = None if normalization is None else capture(normalization.obs_rms)
        return tree

    # The model's wrappers belong to the environment's state, so that `_own_state` captures all of them.

    def _env_tree(self) -> Tree:
        return None

    def _restore_env(self) -> bool:
        return True

    def _set_own_state(self, tree: Any) -> None:
        with _detached(self.model):
            restore(self.model, tree["model"])
        normalization = self.model.get_vec_normalize_env()
        if normalization is not None and tree["normalization"] is not None:
            restore(normalization.obs_rms, tree["normalization"])
        self.resumed_exactly = not self._running or (tree["env"] is not None and restore(self.model.env, tree["env"]))
        if self._running and self.resumed_exactly:
            restore_global_generators(tree["globals"])
        else:
            self._running = False
            self.model._last_obs = None  # so that the next learn() starts new episodes

    @classmethod
    def _blank(cls, tree: Any) -> Self:
        agent = cls.__new__(cls)
        agent._choose(tree["agent"].partition(":")[2])
        agent._n_envs = tree["own"]["n_envs"]
        return agent

    @classmethod
    def from_sb3(cls, path: str | Path, env: Any, *, algorithm: str | None = None, trust: bool = False) -> Self:
        """Wrap a model that Stable-Baselines3 itself saved.

        Args:
            path: SB3's zip.
            env: Environment with the model's spaces.
            algorithm: Its algorithm; found out from the file unless given.
            trust: Such a file holds pickles, and loading a pickle runs whatever code it contains. True
                says that you know where the file comes from.

        Raises:
            UntrustedFileError: ``trust`` is False.
            CheckpointError: The file is no SB3 model, or damaged.
        """
        if not trust:
            raise UntrustedFileError(
                f"{path} is a Stable-Baselines3 file. It holds pickles, which run code when they are loaded. "
                "If you know where it comes from, say so with --trust (trust=True)."
            )
        algorithm = algorithm or algorithm_of_file(Path(path))
        agent = cls(env, algorithm=algorithm)
        try:
            agent.model = ALGORITHMS[algorithm].load(path, env=as_vec_env(env), device="cpu")
        except Exception as error:
            raise CheckpointError(f"{path} cannot be loaded as sb3:{algorithm}: {error}") from error
        return agent


class _Forward(BaseCallback):
    """Runs this toolkit's callbacks, and SB3's, inside SB3's own loop."""

    def __init__(self, callbacks: Callbacks, agent: SB3Agent, noise: Tree) -> None:
        super().__init__()
        self.callbacks, self.agent, self.noise = callbacks, agent, noise

    def _on_training_start(self) -> None:
        if self.noise is not None:  # SB3 resets the action noise at each learn(), also when it goes on
            restore(self.model.action_noise, self.noise)
        # SB3 adds the steps of earlier calls to its local; ours count from here.
        left = self.locals["total_timesteps"] - self.model.num_timesteps
        self.callbacks.start(self.agent, {**self.locals, "total_timesteps": left}, native_model=self.model)

    def _on_step(self) -> bool:
        return self.callbacks.step(self.locals)

    def _on_rollout_end(self) -> None:
        self.callbacks.rollout_end()

    def _on_training_end(self) -> None:
        self.callbacks.end()


@contextlib.contextmanager
def _whole_states(model: BaseAlgorithm, callbacks: Callbacks) -> Iterator[None]:
    """Call ``on_rollout_start`` before SB3 begins to collect, not after it has drawn exploration noise.

    Between training and collecting, all of the algorithm's state is in its attributes: only there can a
    checkpoint be exact.
    """
    collect = model.collect_rollouts  # type: ignore[attr-defined]

    def announced(*arguments: Any, **named: Any) -> Any:
        callbacks.rollout_start()
        return collect(*arguments, **named)

    model.collect_rollouts = announced  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del model.collect_rollouts  # type: ignore[attr-defined]


class _SpacesOnly(gym.Env[Any, Any]):
    """Stands in for the environment of an agent that was loaded to act, not to learn."""

    def __init__(self, agent: Agent) -> None:
        self.observation_space, self.action_space = agent.observation_space, agent.action_space

    @classmethod
    def vec_env(cls, agent: SB3Agent) -> VecEnv:
        return DummyVecEnv([lambda: cls(agent)] * agent._n_envs)


def _policy_name(space: gym.Space) -> str:
    if isinstance(space, gym.spaces.Dict):
        return "MultiInputPolicy"
    image = isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8
    return "CnnPolicy" if image else "MlpPolicy"


def _constructor_arguments(settings: dict[str, Any], action_space: gym.Space) -> dict[str, Any]:
    """Return the arguments of the algorithm: schedules and noise made from their names."""
    settings = copy.deepcopy(settings)  # SB3 writes into the policy_kwargs that it is given
    arguments = {name: schedule(value) for name, value in settings.items() if name not in EXTRA_SETTINGS}
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    kind = settings.get("noise_type")
    if kind is not None:
        noise = dict(zip(NOISE_TYPES, (NormalActionNoise, OrnsteinUhlenbeckActionNoise), strict=True))[kind]
        size = action_space.shape or (1,)
        arguments["action_noise"] = noise(np.zeros(size), np.full(size, float(settings.get("noise_std", 0.1))))
    return arguments


@contextlib.contextmanager
def _detached(model: BaseAlgorithm) -> Iterator[None]:
    """Take the environment off the model for a moment: its state is captured by itself."""
    env, normalization = model.env, model._vec_normalize_env
    model.env = model._vec_normalize_env = None
    try:
        yield
    finally:
        model.env, model._vec_normalize_env = env, normalization
