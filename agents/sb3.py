"""Stable-Baselines3's algorithms behind this toolkit's interface. The only file that imports it.

So that a comparison is fair, SB3 runs with its own code and with rl-zoo3's published settings; so that
its runs are safe and resumable, they are saved as this toolkit saves its own: without pickle, and whole.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.callbacks import Callbacks, as_callbacks
from hamiltonian_rl.envs.stepping import CheckedEnv, Stepper, autoreset_mode
from hamiltonian_rl.errors import CheckpointError, UntrustedFileError, UsageError, did_you_mean
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
# Settings of ours on top of the algorithm's own: running normalisation, and action noise by name.
EXTRA_SETTINGS = {"normalize", "noise_type", "noise_std"}
NOT_SETTINGS = {"self", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model", "action_noise"}


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
        known = set(inspect.signature(algorithm).parameters) - NOT_SETTINGS | EXTRA_SETTINGS
        for setting in given:
            if setting not in known:
                raise UsageError(f'{name} has no setting "{setting}". {did_you_mean(setting, known)}')
        return dict(given)

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
        except (AssertionError, TypeError, ValueError, KeyError) as error:
            raise UsageError(
                f"{self.name} cannot be made for {self.action_space} with {self.settings}: {error}"
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
        if self.env is None:
            raise UsageError("This agent has no environment to learn from. Give it one with set_env(env).")
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
        if self._running and tree["env"] is not None and restore(self.model.env, tree["env"]):
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
        algorithm = algorithm or _sb3_algorithm(Path(path))
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
        self.callbacks.start(self.agent, self.locals, native_model=self.model)

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


class GymnasiumVecEnv(VecEnv):
    """A Gymnasium vector environment seen as an SB3 VecEnv."""

    def __init__(self, env: VectorEnv) -> None:
        self.stepper = Stepper(env)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Start new episodes everywhere."""
        self.stepper.reset(self._seeds[0])
        self._reset_seeds()
        return self.stepper.observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; the last observation of a finished episode is in its info, as SB3 expects."""
        step = self.stepper.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.nonzero(step.over)[0]:
            infos[index]["terminal_observation"] = step.next_observations[index]
            infos[index]["TimeLimit.truncated"] = bool(step.truncated[index] and not step.terminated[index])
        return self.stepper.observations, step.rewards.astype(np.float32), step.over, infos

    def close(self) -> None:
        """Close the environment."""
        self.stepper.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for every copy."""
        return [getattr(self.stepper.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment."""
        setattr(self.stepper.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment."""
        return [getattr(self.stepper.env, method_name)(*method_args, **method_kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that no copy is wrapped one by one."""
        return [False] * self.num_envs


def as_vec_env(env: Any, *, learning: bool = False) -> VecEnv:
    """Return any environment as an SB3 VecEnv.

    Raises:
        UsageError: ``learning`` from a native vector environment that resets in the step after an
            episode's end. SB3 would take that pseudo-step for a transition.
    """
    if isinstance(env, VecEnv):
        return env
    if isinstance(env, SyncVectorEnv):
        return DummyVecEnv([lambda copy=copy: _watched(copy) for copy in env.envs])  # type: ignore[misc]
    if isinstance(env, VectorEnv):
        if learning and autoreset_mode(env) is AutoresetMode.NEXT_STEP:
            raise UsageError(
                f"{type(env).__name__} resets in the step after an episode's end, which Stable-Baselines3 cannot "
                'learn from. Make it with gymnasium.make_vec(..., vectorization_mode="sync").'
            )
        return VecMonitor(GymnasiumVecEnv(env))
    return DummyVecEnv([lambda: _watched(env)])


def _watched(env: gym.Env) -> Monitor:
    return env if isinstance(env, Monitor) else Monitor(CheckedEnv(env))


def _policy_name(space: gym.Space) -> str:
    if isinstance(space, gym.spaces.Dict):
        return "MultiInputPolicy"
    image = isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8
    return "CnnPolicy" if image else "MlpPolicy"


def _constructor_arguments(settings: dict[str, Any], action_space: gym.Space) -> dict[str, Any]:
    """Return the arguments of the algorithm: schedules and noise made from their names."""
    arguments = {name: _schedule(value) for name, value in settings.items() if name not in EXTRA_SETTINGS}
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    kind = settings.get("noise_type")
    if kind is not None:
        noises = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}
        if kind not in noises:
            raise UsageError(f'There is no noise_type "{kind}". {did_you_mean(str(kind), noises)}')
        size = action_space.shape or (1,)
        arguments["action_noise"] = noises[kind](np.zeros(size), np.full(size, float(settings.get("noise_std", 0.1))))
    return arguments


def _schedule(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith("lin_")):
        return value
    start = float(value.removeprefix("lin_"))

    def falling(remaining: float) -> float:
        return remaining * start

    return falling


@contextlib.contextmanager
def _detached(model: BaseAlgorithm) -> Iterator[None]:
    """Take the environment off the model for a moment: its state is captured by itself."""
    env, normalization = model.env, model._vec_normalize_env
    model.env = model._vec_normalize_env = None
    try:
        yield
    finally:
        model.env, model._vec_normalize_env = env, normalization


def _sb3_algorithm(path: Path) -> str:
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
    for name, mark in marks.items():
        if mark(data):
            return name
    raise CheckpointError(f"Cannot tell which algorithm {path} holds; name it with --agent sb3:NAME.")
