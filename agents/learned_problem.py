"""A learned model as a control problem: its weights may change without compiling anything."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.agents.learned_model import Features
from hamiltonian_rl.problems import ControlProblem

ON_CIRCLE = 1e-5  # how far a sum of squares may be from constant, relative: observations are of single precision


class LearnedProblem(ControlProblem):
    """``s' = clip(s + W φ(s, a))`` put on its circles, ``r = w φ(s, a) - Σ_i p_i (s_i - g_i)² - e |a|²``.

    φ are those of `learned_model.Features`. The state is the observation. W, w and the waves are those of a posterior;
    what stops coordinates, such as a limit of speed, is ``least`` and ``most``, infinite for none; two coordinates that
    are an angle's cosine and sine are put back on their circle, ``s_i / √(Σ_j c_ij s_j² + d_i)`` (`set_circles`), off
    which nothing was learnt; the pull p towards g stands for what a reward does not say: that an episode should go on,
    or end.

    Args:
        low: Of the actions, ``(m,)``.
        high: ``(m,)``.
        states: Their number of coordinates n.
        waves: M.

    Example:
        >>> problem = LearnedProblem(np.array([-1.0]), np.array([1.0]), states=2, waves=4)
        >>> problem.weights[0, 1] = 0.5  # of s_0, in the change of s_0
        >>> problem.dynamics(torch.tensor([1.0, 3.0]).double(), torch.zeros(1).double(), 0).tolist()
        [1.5, 3.0]
    """

    parameters = (
        "directions",
        "phases",
        "weights",
        "squares",
        "pull",
        "goal",
        "effort",
        "least",
        "most",
        "circles",
        "rest",
    )

    def __init__(self, low: np.ndarray, high: np.ndarray, *, states: int, waves: int) -> None:
        inputs = states + len(low)
        self.state_space = gym.spaces.Box(-np.inf, np.inf, (states,), np.float64)
        self.action_space = gym.spaces.Box(low.astype(np.float64), high.astype(np.float64), dtype=np.float64)
        self.directions = torch.zeros(waves, inputs, dtype=torch.float64)
        self.phases = torch.zeros(waves, dtype=torch.float64)
        self.weights = torch.zeros(states + 1, 1 + inputs + waves, dtype=torch.float64)
        self.squares = torch.zeros(inputs * (inputs + 1) // 2, dtype=torch.float64)
        self.pull, self.goal = (torch.zeros(states, dtype=torch.float64) for _ in range(2))
        self.least, self.most = (torch.full((states,), bound, dtype=torch.float64) for bound in (-np.inf, np.inf))
        self.circles, self.rest = (
            torch.zeros(states, states, dtype=torch.float64),
            torch.ones(states, dtype=torch.float64),
        )
        self.effort = torch.zeros((), dtype=torch.float64)

    def set_model(self, features: Features, weights: np.ndarray) -> None:
        """Take the features and weights ``(n + 1, F)`` of a model; the reward's, which alone have squares, are last."""
        self.directions.copy_(torch.as_tensor(features.directions))
        self.phases.copy_(torch.as_tensor(features.phases))
        count = self.weights.shape[1]
        self.weights.copy_(torch.as_tensor(weights[:, :count]))
        self.squares.copy_(torch.as_tensor(weights[-1, count:]))

    def set_circles(self, states: np.ndarray) -> None:
        """Find the pairs of coordinates whose squares have the same sum in all states ``(N, n)``."""
        squares = states**2
        varies = squares.std(0) > 0.0
        circles = np.zeros(self.circles.shape)
        for i, j in itertools.combinations(np.flatnonzero(varies), 2):
            both = squares[:, i] + squares[:, j]
            if np.ptp(both) <= ON_CIRCLE * both.max():
                circles[np.ix_([i, j], [i, j])] = 1.0 / both.mean()
        self.circles.copy_(torch.as_tensor(circles))
        self.rest.copy_(torch.as_tensor((circles == 0.0).all(1).astype(np.float64)))

    def ahead(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return next states ``(B, n)`` and rewards ``(B,)``: in NumPy, for paths of many steps."""
        x = np.concatenate([states, actions], 1)
        waves = np.cos(x @ self.directions.numpy().T + self.phases.numpy()) * np.sqrt(2.0 / len(self.phases))
        changed = np.concatenate([np.ones((len(x), 1)), x, waves], 1) @ self.weights.numpy().T
        matrix = np.zeros((x.shape[1], x.shape[1]))
        matrix[np.tril_indices(x.shape[1])] = self.squares.numpy()
        paid = changed[:, -1] + ((x @ matrix) * x).sum(1) - (states - self.goal.numpy()) ** 2 @ self.pull.numpy()
        arrived = np.clip(states + changed[:, :-1], self.least.numpy(), self.most.numpy())
        arrived /= np.sqrt(arrived**2 @ self.circles.numpy().T + self.rest.numpy())
        return arrived, paid - self.effort.item() * (actions**2).sum(1)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``clip(s + W φ)``, put on its circles."""
        x = torch.cat([state, action], -1)
        arrived = state + _times(self.weights[:-1], _linear(x, self.directions, self.phases))
        arrived = torch.minimum(torch.maximum(arrived, self.least), self.most)
        return arrived / (_times(self.circles, arrived**2) + self.rest).sqrt()

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``w φ - Σ_i p_i (s_i - g_i)² - e |a|²``."""
        x = torch.cat([state, action], -1)
        paid = (self.weights[-1] * _linear(x, self.directions, self.phases)).sum(-1) + _squares(self.squares, x)
        away = (self.pull * (state - self.goal) ** 2).sum(-1)
        return paid - away - self.effort * (action**2).sum(-1)


def _linear(x: torch.Tensor, directions: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """Return the features but for the squares: ``(1, x, waves)``."""
    waves = (_times(directions, x) + phases).cos() * (2.0 / len(phases)) ** 0.5
    return torch.cat([torch.ones_like(x[..., :1]), x, waves], -1)


def _squares(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    rows, columns = (index.tolist() for index in np.tril_indices(x.shape[-1]))
    return (weights * x[..., rows] * x[..., columns]).sum(-1)


def _times(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return (matrix * vector.unsqueeze(-2)).sum(-1)
