"""Replay memory: a ring of transitions that yields n-step samples, uniformly or by priority.

Transitions of many environments share one ring. Each slot links to the next transition of the same
episode, so that n-step returns walk along an episode however the environments interleave, stop at its
end, and never cross from one episode into another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.checkpoint import Tree

NO_SLOT = -1
RING_NUMBERS = ("size", "position", "largest_priority", "lowest_reward", "highest_reward")
RING_ARRAYS = ("observations", "next_observations", "actions", "rewards", "terminated", "link")


@dataclass
class Batch:
    """A batch of n-step samples; every array has the shape that was asked for as leading shape."""

    slots: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    returns: np.ndarray  # Σ γ^k r_k over the steps taken
    discounts: np.ndarray  # γ^steps, zero where the episode terminated
    next_observations: np.ndarray  # where the walk stopped
    weights: np.ndarray  # importance weights; ones for uniform sampling


class SumTree:
    """Priorities in a binary tree of partial sums: update and draw in O(log capacity).

    Example:
        >>> tree = SumTree(4)
        >>> tree.set(np.array([0, 2]), np.array([1.0, 3.0]))
        >>> tree.find(np.array([0.5, 1.5, 3.9])).tolist()  # priorities 1, 0, 3, 0 laid end to end
        [0, 2, 2]
    """

    def __init__(self, capacity: int) -> None:
        self.n_leaves = 1 << max(capacity - 1, 1).bit_length()
        self.sums = np.zeros(2 * self.n_leaves)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self.sums[1])

    def get(self, slots: np.ndarray) -> np.ndarray:
        """Return the priorities of the slots."""
        priorities: np.ndarray = self.sums[slots + self.n_leaves]
        return priorities

    def set(self, slots: np.ndarray, priorities: np.ndarray) -> None:
        """Set the priorities of the slots (the last one counts where a slot comes twice)."""
        nodes = slots + self.n_leaves
        self.sums[nodes] = priorities
        while (nodes := np.unique(nodes >> 1))[-1] >= 1:
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def find(self, positions: np.ndarray) -> np.ndarray:
        """Return the slot in which each position of ``[0, total)`` lies."""
        nodes = np.ones(positions.shape, np.int64)
        left_over = positions.copy()
        while nodes.flat[0] < self.n_leaves:
            left = self.sums[2 * nodes]
            # An empty right-hand side is never entered, even where rounding points into it.
            right = (left_over >= left) & (self.sums[2 * nodes + 1] > 0)
            left_over -= np.where(right, left, 0.0)
            nodes = 2 * nodes + right
        return nodes - self.n_leaves


class ReplayBuffer:
    """Ring of transitions with n-step sampling.

    Args:
        capacity: Transitions kept.
        observation_shape: Shape of one stored observation.
        observation_dtype: Its type; kept as is, so images stay bytes.
        n_step: Steps of the return.
        gamma: Discount.
        priority_exponent: ``α`` of prioritised replay (Schaul et al. 2016); zero is uniform.
    """

    def __init__(
        self,
        capacity: int,
        observation_shape: tuple[int, ...],
        observation_dtype: np.dtype[Any],
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        priority_exponent: float = 0.0,
    ) -> None:
        self.capacity = capacity
        self.n_step = n_step
        self.gamma = gamma
        self.priority_exponent = priority_exponent
        self.size = self.position = 0
        try:
            self.observations = np.zeros((capacity, *observation_shape), observation_dtype)
            self.next_observations = np.zeros_like(self.observations)
            self.actions = np.zeros(capacity, np.int64)
            self.rewards = np.zeros(capacity, np.float32)
            self.terminated = np.zeros(capacity, bool)
            self.link = np.full(capacity, NO_SLOT)
        except (MemoryError, ValueError) as error:
            raise UsageError(
                f"A memory of {capacity:,} transitions does not fit into this machine ({error}). Lower buffer_size."
            ) from error
        self.newest = np.full(1, NO_SLOT)  # of each environment: slot of the running episode's last transition
        self.tree = SumTree(capacity) if priority_exponent else None
        self.largest_priority = 1.0
        self.lowest_reward = self.highest_reward = 0.0  # of all rewards ever seen, and of none

    def __len__(self) -> int:
        return self.size

    def start_episodes(self, n_envs: int) -> None:
        """Say that ``n_envs`` environments start new episodes; what is remembered stays."""
        self.newest = np.full(n_envs, NO_SLOT)

    def add(self, step: Transitions, cut: np.ndarray | None = None) -> None:
        """Store one step of every environment (the pseudo-steps of a vector's autoreset are left out).

        Args:
            step: The step.
            cut: Environments whose n-step returns are not to run on into this step, shape ``(n,)``.
        """
        over = step.terminated | step.truncated
        observations, successors = step.observations, step.next_observations
        actions, rewards, terminated, before = step.actions, step.rewards, step.terminated, self.newest
        every = bool(step.valid.all())
        if not every:
            valid = step.valid
            observations, successors, actions = observations[valid], successors[valid], actions[valid]
            rewards, terminated, over, before = rewards[valid], terminated[valid], over[valid], before[valid]
        slots = self._take_slots(len(actions))
        self.observations[slots] = observations
        self.next_observations[slots] = successors
        self.actions[slots] = actions
        self.rewards[slots] = rewards
        if len(rewards):
            self.lowest_reward = min(self.lowest_reward, float(rewards.min()))
            self.highest_reward = max(self.highest_reward, float(rewards.max()))
        self.terminated[slots] = terminated
        self.link[slots] = NO_SLOT
        continues = before != NO_SLOT
        if cut is not None:
            continues &= ~(cut if every else cut[step.valid])
        self.link[before[continues]] = slots[continues]
        self.newest[slice(None) if every else step.valid] = np.where(over, NO_SLOT, slots)
        if self.tree is not None and len(slots):
            self.tree.set(slots, np.full(len(slots), self.largest_priority))

    def _take_slots(self, n: int) -> np.ndarray:
        """Return the next n slots of the ring, the oldest ones."""
        slots = np.arange(self.position, self.position + n) % self.capacity
        self.position = (self.position + n) % self.capacity
        self.size = min(self.size + n, self.capacity)
        return slots

    def sample(self, shape: tuple[int, ...], generator: np.random.Generator, *, beta: float = 1.0) -> Batch:
        """Draw samples with replacement.

        Args:
            shape: Leading shape of the batch, for instance ``(updates, batch_size)``.
            generator: Source of randomness.
            beta: Strength of the importance weights ``(N p)^-β``, divided by their largest.
        """
        weights: np.ndarray = np.ones(shape, np.float32)
        if self.tree is None:
            slots = generator.integers(0, self.size, shape)
        else:
            slots = self.tree.find(generator.random(shape) * self.tree.total)
            weights = (self.size * self.tree.get(slots) / self.tree.total) ** -beta
            weights = (weights / weights.max()).astype(np.float32)
        last, returns, discounts = self._walk(slots)
        return Batch(
            slots=slots,
            observations=self.observations[slots],
            actions=self.actions[slots],
            returns=returns,
            discounts=discounts,
            next_observations=self.next_observations[last],
            weights=weights,
        )

    def _walk(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow each episode for up to n steps; return the last slot, the return and the discount."""
        last = slots
        returns = self.rewards[slots]
        discounts = np.full(slots.shape, self.gamma, np.float32)
        for _ in range(1, self.n_step):
            following = self.link[last]
            goes_on = following != NO_SLOT
            if not goes_on.any():
                break
            returns = returns + np.where(goes_on, discounts * self.rewards[following], 0)
            discounts = np.where(goes_on, discounts * np.float32(self.gamma), discounts)
            last = np.where(goes_on, following, last)
        return last, returns.astype(np.float32), discounts * ~self.terminated[last]

    def update_priorities(self, slots: np.ndarray, errors: np.ndarray) -> None:
        """Set priorities to ``(|error| + 0.001)^α``."""
        if self.tree is not None:
            priorities = (np.abs(errors) + 1e-3) ** self.priority_exponent
            self.largest_priority = max(self.largest_priority, float(priorities.max()))
            self.tree.set(slots.ravel(), priorities.ravel())

    def state(self) -> Tree:
        """Return the filled part of the ring, for a checkpoint."""
        arrays = {name: getattr(self, name)[: self.size] for name in RING_ARRAYS}
        tree = self.tree.sums if self.tree is not None else None
        numbers = {name: getattr(self, name) for name in RING_NUMBERS}
        return {**arrays, **numbers, "newest": self.newest, "sums": tree}

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned, into a ring of the same capacity."""
        for name in RING_NUMBERS:
            setattr(self, name, tree[name])
        self.newest = np.array(tree["newest"])
        for name in RING_ARRAYS:
            getattr(self, name)[: self.size] = tree[name]
        if self.tree is not None:
            self.tree.sums[...] = tree["sums"]
