"""Deep Q-learning (DQN): Bellman's optimality equation (Eq. 18-20) solved by samples.

A network ``Q(s, a)`` is fitted to the sampled right-hand side of Eq. 19,
``r_0 + γ r_1 + ... + γ^n V(s_n)``, from replayed transitions. Everything that later work added and that
pays is a setting: double Q-learning, dueling heads, n-step returns, prioritised replay, LayerNorm, soft
or hard targets. The update rules are in `hamiltonian_rl.principles`; the network in `agents.networks`.

Reference:
    Mnih et al. (2015), "Human-level control through deep reinforcement learning"; Hessel et al. (2018),
    "Rainbow: combining improvements in deep reinforcement learning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.encoding import observation_encoder
from hamiltonian_rl.agents.networks import Perceptron, PerceptronSpec
from hamiltonian_rl.agents.replay import Batch, ReplayBuffer
from hamiltonian_rl.agents.settings import linear_schedule, setting
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import CheckpointError, TrainingError, UsageError
from hamiltonian_rl.principles.bellman import (
    bellman_target,
    double_q_value,
    greedy_value,
    huber,
    huber_slope,
)
from hamiltonian_rl.principles.lagrangian import adam_step

if TYPE_CHECKING:
    from torch import nn

    from hamiltonian_rl.agents.model_slopes import ModelSlopes
    from hamiltonian_rl.tracking.checkpoint import Tree

LEARNT_ARRAYS = ("_params", "_target_params", "_policy_params", "_momentum", "_fisher")
Array = Any  # numpy.ndarray on the CPU, torch.Tensor on a GPU
quiet = np.errstate(all="ignore")  # averages fall to zero in the end; what is not finite is found by own checks


@dataclass(frozen=True)
class DQNSettings:
    """Hyper-parameters of DQN. Schedules count environment steps, not shares of a budget.

    So learning for N steps and then for N more is the same as learning for 2N.
    """

    learning_rate: float = setting(1e-3, "step size of Adam", above=0)
    learning_rate_final: float = setting(1e-3, "step size after learning_rate_steps", least=0)
    learning_rate_steps: int = setting(0, "steps over which the step size falls (0: constant)", least=0)
    batch_size: int = setting(64, "samples in one gradient step", least=1, most=1_000_000)
    buffer_size: int = setting(100_000, "transitions remembered", least=1)
    learning_starts: int = setting(500, "random steps before learning", least=0)
    train_freq: int = setting(4, "environment steps between trainings", least=1)
    gradient_steps: int = setting(4, "gradient steps in one training", least=1, most=100_000)
    gamma: float = setting(0.99, "discount", least=0, most=1)
    n_step: int = setting(3, "steps of the n-step return", least=1, most=10_000)
    tau: float = setting(0.05, "share of the online network that a target update takes over", above=0, most=1)
    target_update_interval: int = setting(4, "environment steps between target updates", least=1)
    exploration_initial_eps: float = setting(1.0, "share of random actions at first", least=0, most=1)
    exploration_final_eps: float = setting(0.05, "share of random actions in the end", least=0, most=1)
    exploration_steps: int = setting(5_000, "steps over which that share falls", least=0)
    hidden: tuple[int, ...] = setting((64, 64), "widths of the hidden layers", least=1, most=10_000)
    double: bool = setting(True, "one network chooses the next action, the other judges it")
    dueling: bool = setting(False, "separate heads for state value and advantage")
    layer_norm: bool = setting(False, "LayerNorm after each hidden layer")
    priority_exponent: float = setting(0.0, "prioritised replay (0: uniform)", least=0, most=10)
    priority_beta: float = setting(0.4, "strength of its importance weights", least=0, most=1)
    max_grad_norm: float = setting(10.0, "longest gradient; longer ones are shortened", above=0)
    huber_threshold: float = setting(0.0, "error beyond which the loss grows linearly (0: squared loss)", least=0)
    reward_scale: float = setting(1.0, "factor on rewards inside the network; q_values are in true units", above=0)
    clip_values: bool = setting(True, "keep bootstrapped values within what the rewards seen allow")
    cut_exploration: bool = setting(False, "end n-step returns before a random action")
    costate_weight: float = setting(
        0.0, "share of the loss that is the costate equation's, of the model behind the environment", least=0, most=1
    )
    policy_average: float = setting(1.0, "share of the online network that the acting one takes over", above=0, most=1)


class DQN(Agent):
    """Deep Q-network agent for discrete actions and Box or Discrete observations.

    Example:
        >>> agent = DQN(gym.make("CartPole-v1"), seed=0, learning_starts=32)
        >>> agent.learn(64).num_timesteps
        64
    """

    name = "dqn"
    Settings = DQNSettings
    settings: DQNSettings

    def _build(self) -> None:
        s = self.settings
        if not isinstance(self.action_space, gym.spaces.Discrete):
            raise UsageError(
                f"DQN needs a Discrete action space; got {self.action_space}. "
                "For continuous actions use sb3:sac, for several discrete ones sb3:ppo."
            )
        self._n_actions, self._first_action = int(self.action_space.n), int(self.action_space.start)
        self._encode, n_inputs = observation_encoder(self.observation_space)
        self.spec = PerceptronSpec(n_inputs, s.hidden, self._n_actions, layer_norm=s.layer_norm, dueling=s.dueling)
        initial = self.spec.initial(self._rng)
        self._params, self._target_params, self._gradient = (
            self._on_device(values) for values in (initial, initial.copy(), np.zeros_like(initial))
        )
        self._momentum = self._on_device(np.zeros_like(initial))
        self._fisher = self._on_device(np.zeros_like(initial))
        self.online = Perceptron(self.spec, self._params)
        self.target = Perceptron(self.spec, self._target_params)
        self._gradients = self.spec.split(self._gradient)
        self._costate_gradient = np.zeros_like(initial)
        self._policy_params = self._params if s.policy_average == 1 else self._on_device(initial.copy())
        self.policy = Perceptron(self.spec, self._policy_params)
        self._slopes: tuple[Any, ModelSlopes] | None = None
        self._check_slopes()
        self.n_updates = self._rounds = self._steps_at_target_update = 0
        self.replay = ReplayBuffer(
            s.buffer_size,
            self.observation_space.shape or (),
            self.observation_space.dtype or np.dtype(np.float32),
            n_step=s.n_step,
            gamma=s.gamma,
            priority_exponent=s.priority_exponent,
        )

    def _check_slopes(self) -> None:
        """Refuse what the costate equation is not written for, before anything is learnt."""
        if not self.settings.costate_weight:
            return
        if self.settings.layer_norm or self.device != "cpu":
            raise UsageError(
                "costate_weight needs layer_norm = false and the CPU; expected these, or costate_weight = 0."
            )
        if self.env is not None:
            self._model_slopes()

    def _model_slopes(self) -> ModelSlopes:
        """Return the slopes of the model behind the environment, made once for it."""
        if self._slopes is None or self._slopes[0] is not self.env:
            from hamiltonian_rl.agents.model_slopes import ModelSlopes  # torch takes seconds to load

            self._slopes = self.env, ModelSlopes(self.env, self._encode)
        return self._slopes[1]

    def _prepare(self) -> None:
        n_envs = self.stepper.num_envs
        if self.settings.buffer_size < 2 * n_envs:
            raise UsageError(
                f"buffer_size = {self.settings.buffer_size} is too small for {n_envs} environments; "
                f"set at least {2 * n_envs}."
            )
        self.replay.start_episodes(n_envs)
        # Counting may start again from zero, with what was learnt before.
        self._rounds = min(self._rounds, self._rounds_due())
        self._steps_at_target_update = min(self._steps_at_target_update, self.num_timesteps)

    @property
    def exploration_rate(self) -> float:
        """Share of random actions now."""
        s = self.settings
        return linear_schedule(
            s.exploration_initial_eps, s.exploration_final_eps, self.num_timesteps, s.exploration_steps
        )

    @property
    def learning_rate(self) -> float:
        """Step size of Adam now."""
        s = self.settings
        if s.learning_rate_steps == 0:
            return s.learning_rate
        return linear_schedule(s.learning_rate, s.learning_rate_final, self.num_timesteps, s.learning_rate_steps)

    @quiet
    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Return Q(s, ·) of the greedy policy's network, in units of the reward, shape ``(..., A)``."""
        return self._to_numpy(self.policy(self._on_device(self._encode(observations)))) / self.settings.reward_scale

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        best: np.ndarray = self.q_values(observations).argmax(axis=-1)
        return best + self._first_action

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        warm_up = self.num_timesteps < self.settings.learning_starts
        rate = 1.0 if warm_up else self.exploration_rate
        actions, self._random_actions = self._epsilon_greedy(observations, self.online, rate, self._rng)
        return actions

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self._epsilon_greedy(observations, self.policy, self.exploration_rate, generator)[0]

    @quiet
    def _epsilon_greedy(
        self, observations: np.ndarray, network: Perceptron, rate: float, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each environment's best action, or with probability ``rate`` any, and which were drawn."""
        random = generator.random(len(observations)) < rate
        actions = generator.integers(0, self._n_actions, len(observations))
        if not random.all():
            best = self._to_numpy(network(self._on_device(self._encode(observations))).argmax(-1))
            actions = np.where(random, actions, best)
        return actions + self._first_action, random

    @quiet
    def _learn_from(self, step: Transitions) -> None:
        s = self.settings
        step.actions = step.actions - self._first_action
        self.replay.add(step, self._random_actions if s.cut_exploration else None)
        due = self._rounds_due() - self._rounds
        if due:
            self._rounds += due
            self._train(due * s.gradient_steps)
            if s.policy_average < 1:
                self._policy_params += s.policy_average * (self._params - self._policy_params)
        if self.num_timesteps - self._steps_at_target_update >= s.target_update_interval:
            self._steps_at_target_update = self.num_timesteps
            self._target_params += s.tau * (self._params - self._target_params)

    def _rounds_due(self) -> int:
        s = self.settings
        return max(0, self.num_timesteps - s.learning_starts) // s.train_freq

    def _train(self, n_updates: int) -> None:
        """Take gradient steps on samples drawn together, with targets computed together."""
        s = self.settings
        batch = self.replay.sample((n_updates, s.batch_size), self._rng, beta=s.priority_beta)
        observations = self._on_device(self._encode(batch.observations))
        actions, weights = self._on_device(batch.actions), self._on_device(batch.weights)
        targets = self._targets(batch)
        self._check_finite(float(targets.sum()), "sum of the targets")
        losses, errors = [], []
        costates = self._costates(batch) if s.costate_weight else None
        rows = self._on_device(np.arange(s.batch_size))
        threshold = s.huber_threshold or float("inf")
        for update in range(n_updates):
            q, tape = self.online.forward(observations[update])
            chosen = rows, actions[update]
            error = q[chosen] - targets[update]
            slope = q * 0.0
            slope[chosen] = weights[update] * huber_slope(error, threshold) / s.batch_size
            self.online.gradient(tape, slope, self._gradients)
            if costates is not None:
                self._mix_costates(tape, batch.observations[update], actions[update], costates[update], weights[update])
            self._descend()
            errors.append(error)
            losses.append((weights[update] * huber(error, threshold)).mean())
        if s.priority_exponent:
            self.replay.update_priorities(batch.slots, np.stack([self._to_numpy(error) for error in errors]))
        self.logger.record("train/loss", float(losses[-1]))
        self.logger.record("train/q_mean", float(targets.mean()) / s.reward_scale)

    def _costates(self, batch: Batch) -> np.ndarray:
        """Return what the slopes of Q at the taken actions should be (Eq. 17), in the network's units."""
        s, shape = self.settings, batch.actions.shape

        def value_slope(observations: np.ndarray) -> np.ndarray:
            x = self._encode(observations)
            q, tape = self.target.forward(x)
            best = (self.online(x) if s.double else q).argmax(-1)
            slope: np.ndarray = self.target.input_slope(tape, self._one_hot(best) / np.float32(s.reward_scale))
            return slope

        observations = batch.observations.reshape(-1, *batch.observations.shape[len(shape) :])
        actions = batch.actions.ravel() + self._first_action
        slopes = self._model_slopes().targets(observations, actions, s.gamma, value_slope)
        costates: np.ndarray = slopes.reshape(*shape, -1) * s.reward_scale
        return costates

    def _mix_costates(
        self, tape: list[tuple[Array, ...]], observations: np.ndarray, actions: Array, costates: Array, weights: Array
    ) -> None:
        """Take the costate equation's share into the gradient: of half the square of each slope's error."""
        model, share, taken = self._model_slopes(), self.settings.costate_weight, self._one_hot(actions)
        error = model.in_states(observations, self.online.input_slope(tape, taken)) - costates
        direction = model.in_inputs(observations, error * weights[:, None] / len(error)).astype(np.float32)
        self.online.input_slope_gradient(tape, taken, direction, self.spec.split(self._costate_gradient))
        self._gradient *= 1.0 - share
        self._gradient += share * self._costate_gradient

    def _one_hot(self, actions: np.ndarray) -> np.ndarray:
        rows: np.ndarray = np.eye(self._n_actions, dtype=np.float32)[actions]
        return rows

    def _targets(self, batch: Batch) -> Array:
        """Return the sampled right-hand side of Eq. 19, in the network's units."""
        s = self.settings
        successors = self._on_device(self._encode(batch.next_observations))
        q_target = self.target(successors)
        values = double_q_value(self.online(successors), q_target) if s.double else greedy_value(q_target)
        if s.clip_values and s.gamma < 1:
            # No policy can earn more than the best reward at every step, nor less than the worst; or nothing.
            horizon = s.reward_scale / (1.0 - s.gamma)
            values = values.clip(self.replay.lowest_reward * horizon, self.replay.highest_reward * horizon)
        returns = self._on_device(batch.returns * np.float32(s.reward_scale))
        return bellman_target(returns, self._on_device(batch.discounts), values)

    def _descend(self) -> None:
        norm = float(self._gradient @ self._gradient) ** 0.5
        self._check_finite(norm, "length of the gradient")
        if norm > self.settings.max_grad_norm:
            self._gradient *= self.settings.max_grad_norm / norm
        self.n_updates += 1
        adam_step(
            self._params,
            self._gradient,
            self._momentum,
            self._fisher,
            step=self.n_updates,
            learning_rate=self.learning_rate,
        )

    def _check_finite(self, value: float, what: str) -> None:
        if not abs(value) < float("inf"):
            raise TrainingError(
                f"Learning diverged: the {what} is {value} at step {self.num_timesteps}. Lower learning_rate "
                f"(now {self.learning_rate:g}) or scale the rewards down."
            )

    def _log(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("train/learning_rate", self.learning_rate)
        self.logger.record("train/n_updates", self.n_updates)

    @property
    def q_network(self) -> nn.Module:
        """The greedy policy's network as a torch module, sharing memory on the CPU; its Q are times reward_scale."""
        return self.spec.as_torch(self._policy_params)

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the parameters of the networks and the optimizer's two averages."""
        return [self._to_numpy(getattr(self, name)) for name in LEARNT_ARRAYS]

    def _own_state(self) -> Tree:
        return {
            **{name: self._to_numpy(getattr(self, name)) for name in LEARNT_ARRAYS},
            "counters": [self.n_updates, self._rounds, self._steps_at_target_update],
            "replay": self.replay.state(),
        }

    def _set_own_state(self, tree: Any) -> None:
        for name in LEARNT_ARRAYS:
            if tree[name].shape != (self.spec.n_params,) or not np.isfinite(tree[name]).all():
                raise CheckpointError(f"The saved array {name} does not fit the network, or is not finite.")
            getattr(self, name)[...] = self._on_device(tree[name])
        self.n_updates, self._rounds, self._steps_at_target_update = tree["counters"]
        self.replay.set_state(tree["replay"])

    # Arrays are NumPy's on the CPU and torch's elsewhere; the code between uses what both understand.

    def _on_device(self, array: np.ndarray) -> Array:
        if self.device == "cpu":
            return array
        import torch

        return torch.as_tensor(array, device=self.device)

    def _to_numpy(self, array: Array) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()
