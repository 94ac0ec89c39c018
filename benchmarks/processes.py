"""The finite processes that the benchmarks solve: random ones, a pendulum on a grid, a maze."""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.problems import MDP


def garnet(n_states: int, discount: float) -> MDP:
    """Random process: 4 actions, 5 successors each, rewards uniform in [0, 1]."""
    generator = np.random.default_rng(0)
    rows = n_states * 4
    shares = generator.random((rows, 5))
    shares /= shares.sum(axis=1, keepdims=True)
    return MDP(
        rewards=generator.random((n_states, 4)),
        first=np.arange(rows + 1, dtype=np.int64) * 5,
        next_states=generator.integers(0, n_states, rows * 5).astype(np.int32),
        probabilities=shares.ravel(),
        discount=discount,
        initial=np.full(n_states, 1 / n_states),
    )


def pendulum(discount: float, size: int = 201, n_actions: int = 15) -> MDP:
    """Pendulum-v1's step and cost on a bilinear grid of angle (periodic) and speed (clipped)."""
    angle, speed = np.linspace(-np.pi, np.pi, size, endpoint=False), np.linspace(-8, 8, size)
    torque = np.linspace(-2, 2, n_actions)
    th, om, u = np.meshgrid(angle, speed, torque, indexing="ij")
    rewards = -(th**2 + 0.1 * om**2 + 0.001 * u**2)
    new_om = np.clip(om + (15 * np.sin(th) + 3 * u) * 0.05, -8, 8)
    new_th = th + new_om * 0.05
    column, share_column = np.divmod((new_th + np.pi) / (2 * np.pi / size), 1.0)
    row, share_row = np.divmod((new_om + 8) / (16 / (size - 1)), 1.0)
    left, right = column.astype(int) % size, (column.astype(int) + 1) % size
    low = np.minimum(row.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    corners = [(left, low), (left, high), (right, low), (right, high)]
    shares = [(1 - share_column) * (1 - share_row), (1 - share_column) * share_row]
    shares += [share_column * (1 - share_row), share_column * share_row]
    n_states = size * size
    return MDP(
        rewards=rewards.reshape(n_states, n_actions),
        first=np.arange(n_states * n_actions + 1, dtype=np.int64) * 4,
        next_states=np.stack([x * size + y for x, y in corners], axis=-1).astype(np.int32).ravel(),
        probabilities=np.stack(shares, axis=-1).ravel(),
        discount=discount,
        initial=np.full(n_states, 1 / n_states),
    )


def maze(discount: float, size: int = 1000) -> MDP:
    """A maze of 30 % walls, a step costs 1, the goal in a corner ends it."""
    generator = np.random.default_rng(0)
    free = generator.random((size, size)) > 0.3
    free[0, 0] = True
    row, column = np.divmod(np.arange(size * size), size)
    table = np.empty((size * size, 4), np.int64)
    for action, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        new_row, new_column = np.clip(row + down, 0, size - 1), np.clip(column + right, 0, size - 1)
        target = new_row * size + new_column
        table[:, action] = np.where(free.ravel()[target], target, np.arange(size * size))
    table[table == 0] = -1  # the goal
    return MDP.from_arrays(table, np.full(table.shape, -1.0), discount)
