"""What the tabular agents share: the table of action values, its step sizes, its traces, the exploration.

Notation: ``S`` observations, ``A`` actions, ``n(s, a)`` visits so far, ``δ`` temporal-difference error,
``e(s, a)`` eligibility trace. Observations and actions are counted from zero inside, wherever their spaces start.

Reference:
    Sutton and Barto (2018), "Reinforcement learning", chapters 6 and 12; Even-Dar and Mansour (2003), "Learning
    rates for Q-learning", for step sizes that fall like ``n^-ω``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.settings import linear_schedule, setting
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import CheckpointError, TrainingError, UsageError

MOST_ENTRIES = 50_000_000  # 400 MB of values
KINDS_OF_TRACES = ("replacing", "accumulating")
FORGOTTEN = 1e-12  # an update by less than this part of an error is lost in rounding


@dataclass(frozen=True)
class TableSettings:
    """Hyper-parameters that every learner of a table has. The step size is ``step_size / n(s, a)^count_exponent``.

    Schedules count environment steps, so that learning for N steps and then for N more is the same as for 2N.
    """

    gamma: float = setting(0.99, "discount", least=0, most=1)
    step_size: float = setting(0.1, "share of an error that is corrected at the first visit", above=0, most=1)
    count_exponent: float = setting(0.0, "the step size falls as visits to this power (0: constant)", least=0, most=1)
    initial_value: float = setting(0.0, "value of what was never tried; a high one has everything tried")
    exploration_initial_eps: float = setting(1.0, "share of random actions at first", least=0, most=1)
    exploration_final_eps: float = setting(0.05, "share of random actions in the end", least=0, most=1)
    exploration_steps: int = setting(5_000, "steps over which that share falls", least=0)

    def exploration_rate(self, step: int) -> float:
        """Return the share of random actions after ``step`` environment steps."""
        return linear_schedule(self.exploration_initial_eps, self.exploration_final_eps, step, self.exploration_steps)


class Sample(NamedTuple):
    """One step of one environment; ``discount`` is zero where the episode terminated."""

    env: int
    state: int
    action: int
    reward: float
    discount: float
    successor: int
    over: bool


def table_shape(observations: gym.Space, actions: gym.Space, owner: str) -> tuple[int, int]:
    """Return ``(S, A)``.

    Raises:
        UsageError: A space is not Discrete, or the table would be too large.

    Example:
        >>> table_shape(gym.spaces.Discrete(16), gym.spaces.Discrete(4, start=1), "QLearning")
        (16, 4)
    """
    for kind, space in (("observations", observations), ("actions", actions)):
        if not isinstance(space, gym.spaces.Discrete):
            raise UsageError(
                f"{owner} keeps a table and needs Discrete {kind}; got {space}. Take dqn for Box observations, "
                "sb3:sac for continuous actions, sb3:ppo for others."
            )
    shape = int(observations.n), int(actions.n)  # type: ignore[attr-defined]
    if shape[0] * shape[1] > MOST_ENTRIES:
        raise UsageError(
            f"{owner} would keep a table of {shape[0]:,} x {shape[1]:,} values; expected at most {MOST_ENTRIES:,}. "
            "Take dqn, or wrap the environment so that it tells fewer observations apart."
        )
    return shape


class QTables:
    """Tables of action values; their mean is what an agent acts by.

    Attributes:
        values: ``Q``, shape ``(K, S, A)`` for K tables.
        visits: ``n``, shape ``(K, S, A)``.

    Example:
        >>> table = QTables(gym.spaces.Discrete(2, start=5), gym.spaces.Discrete(2), TableSettings(), "QLearning")
        >>> table.move(0, 1, error=10.0)
        >>> table.q_values(np.array([5, 6])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(
        self, observations: gym.Space, actions: gym.Space, settings: TableSettings, owner: str, n_tables: int = 1
    ) -> None:
        self.shape = table_shape(observations, actions, owner)
        self.first_state, self.first_action = int(observations.start), int(actions.start)  # type: ignore[attr-defined]
        self._settings = settings
        self.values = np.full((n_tables, *self.shape), settings.initial_value)
        self.visits = np.zeros(self.values.shape, np.int64)

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Return ``Q(s, ·)``, shape ``(..., A)``.

        Raises:
            UsageError: An observation is none of the space.
        """
        states = np.asarray(observations)
        if states.dtype.kind not in "iu":
            raise UsageError(f"The observations are of type {states.dtype}; expected whole numbers.")
        states = states.astype(np.int64) - self.first_state
        if not ((states >= 0) & (states < self.shape[0])).all():
            last = self.first_state + self.shape[0] - 1
            raise UsageError(f"The observation {observations!r} is not from {self.first_state} to {last}.")
        return self._mean(states)

    def _mean(self, states: np.ndarray) -> np.ndarray:
        values: np.ndarray = self.values[0, states] if len(self.values) == 1 else self.values[:, states].mean(axis=0)
        return values

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the best known actions, the first of equals, shape ``(n,)``."""
        best: np.ndarray = self.q_values(observations).argmax(axis=-1)
        return best + self.first_action

    def epsilon_greedy(self, observations: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        """Return each environment's best action, or with probability ``rate`` any, shape ``(n,)``."""
        random = generator.random(len(observations)) < rate
        actions = generator.integers(0, self.shape[1], len(observations)) + self.first_action
        return np.where(random, actions, self.greedy(observations))

    def samples(self, step: Transitions, gamma: float) -> Iterator[Sample]:
        """Yield the true steps of a round, one environment after the other; pseudo-steps are left out."""
        for env in np.nonzero(step.valid)[0].tolist():
            yield Sample(
                env,
                int(step.observations[env]) - self.first_state,
                int(step.actions[env]) - self.first_action,
                float(step.rewards[env]),
                0.0 if step.terminated[env] else gamma,
                int(step.next_observations[env]) - self.first_state,
                bool(step.terminated[env] or step.truncated[env]),
            )

    def move(self, state: int, action: int, *, error: float, table: int = 0, trace: np.ndarray | None = None) -> None:
        """Count a visit, and correct the error: ``Q += step_size / n^count_exponent δ e``.

        Args:
            state: s.
            action: a.
            error: ``δ``.
            table: Which of the K tables.
            trace: ``e``, shape ``(S, A)``; one at (s, a) and zero elsewhere unless given.

        Raises:
            TrainingError: The error is not finite.
        """
        if not math.isfinite(error):
            raise TrainingError(
                f"Learning diverged: the error at observation {state + self.first_state}, action "
                f"{action + self.first_action} is {error}. Lower step_size or trace_decay, or scale the rewards down."
            )
        values, visits = self.values[table], self.visits[table]
        visits[state, action] += 1
        if trace is None:
            values[state, action] += self._step_sizes(visits[state, action]) * error
        else:
            marked = np.nonzero(trace)
            values[marked] += self._step_sizes(visits[marked]) * error * trace[marked]

    def _step_sizes(self, visits: Any) -> Any:
        s = self._settings
        return s.step_size if s.count_exponent == 0 else s.step_size * visits**-s.count_exponent

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learnt, for a checkpoint."""
        return {"values": self.values, "visits": self.visits}

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned, in place.

        Raises:
            CheckpointError: An array is of another shape or type, or not finite.
        """
        for name, ours in self.state().items():
            ours[...] = checked_array(tree[name], name, ours.shape, ours.dtype)


class Traces:
    """Eligibility traces, a table for each environment: how far an error reaches back (TD(λ)).

    Args:
        shape: ``(S, A)``.
        decay: ``γ λ``; with zero nothing is kept.
        kind: "replacing": a visit sets a trace to one; "accumulating": it adds one, which is the forward view's.

    Raises:
        UsageError: The kind is neither.
    """

    def __init__(self, shape: tuple[int, int], decay: float, kind: str = "replacing") -> None:
        if kind not in KINDS_OF_TRACES:
            raise UsageError(f"traces = {kind!r}; expected {' or '.join(KINDS_OF_TRACES)}.")
        self.decay, self._shape, self._accumulating = decay, shape, kind == "accumulating"
        self.start(0)

    def start(self, n_envs: int) -> None:
        """Begin new episodes."""
        self.weights = np.zeros((n_envs if self.decay else 0, *self._shape))

    def visit(self, sample: Sample, *, keep: bool = True) -> np.ndarray | None:
        """Let the traces decay (or cut them) and mark the step; return them, shape ``(S, A)``, None without any."""
        if not self.decay:
            return None
        trace: np.ndarray = self.weights[sample.env]
        trace *= self.decay if keep else 0.0
        trace[trace < FORGOTTEN] = 0.0
        trace[sample.state, sample.action] = 1.0 + self._accumulating * trace[sample.state, sample.action]
        return trace

    def end(self, sample: Sample) -> None:
        """Forget the episode if it is over."""
        if self.decay and sample.over:
            self.weights[sample.env] = 0.0

    def set_state(self, weights: Any, n_envs: int) -> None:
        """Take back the ``weights`` of ``n_envs`` environments.

        Raises:
            CheckpointError: They are of another shape or type, or not finite.
        """
        self.start(n_envs)
        self.weights[...] = checked_array(weights, "traces", self.weights.shape, self.weights.dtype)


def checked_array(array: Any, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a saved array if it is what was saved.

    Raises:
        CheckpointError: It is of another shape or type, or not finite.
    """
    fits = isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype
    if not fits or not np.isfinite(array).all():
        raise CheckpointError(
            f"The saved array {name} is not {shape} finite numbers of type {dtype}. Use another file."
        )
    return array  # type: ignore[no-any-return]
