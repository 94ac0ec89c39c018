"""The costate equation for a Q network over observations, from the control problem behind its environment.

For every action, greedy or not, ``∂Q(s, a)/∂s = r_s + γ f_sᵀ ∇V(f(s, a))`` (Eq. 14, 17), with no ``∇V`` where f ends
the episode. Networks see ``x``, made of an observation of s: slopes in x become slopes in s by the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch.func import jacrev, vmap

from hamiltonian_rl.envs.behind import problem_behind
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.hamiltonian import costate_equation
from hamiltonian_rl.problems.control_problem import can_end

PROBED = 100  # states at which a slope of the reward is looked for


class ModelSlopes:
    """Slopes of Q in the states of the problem behind an environment.

    Args:
        env: With a control problem whose states can be told from observations.
        encode: What the network sees of observations; an affine function of each coordinate.

    Raises:
        UsageError: There is no such problem, or its reward has no slopes: then its costates are zero almost everywhere.
    """

    def __init__(self, env: Any, encode: Callable[[np.ndarray], np.ndarray]) -> None:
        self._problem, _ = problem_behind(env)
        space = self._problem.state_space
        states = np.random.default_rng(0).uniform(space.low, space.high, (PROBED, *space.shape))
        self._width = 0.5 * (space.high - space.low).astype(float)
        name = type(self._problem).__name__
        if not np.isfinite(self._width).all():
            raise UsageError(f"{name}.state_space is {space}; expected finite bounds, the units of its slopes.")
        observation = np.asarray(self._problem.observation(torch.as_tensor(states[:1])))
        ones = np.ones_like(observation)
        self._units = torch.as_tensor((encode(ones) - encode(0.0 * ones)).astype(float))[0]
        self._states(observation)
        actions: Any = self._problem.action_space
        assert isinstance(actions, gym.spaces.Discrete)
        drawn = torch.as_tensor(states)
        chosen = torch.as_tensor(np.random.default_rng(1).integers(actions.start, actions.start + actions.n, PROBED))
        if not self._slope_of(lambda s: self._problem.reward(s, chosen, 0), drawn).abs().sum() > 0:
            raise UsageError(
                f"The reward of {name} has no slopes: its costates are zero almost everywhere and say nothing. Set "
                "costate_weight = 0."
            )

    def in_states(self, observations: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Return slopes in x ``(B, I)`` as slopes in s, each per half width of the state space, ``(B, n)``."""
        chain = self._chain(self._states(observations))
        return np.asarray((chain.mT @ torch.as_tensor(slopes.astype(float))[..., None]).squeeze(-1))

    def in_inputs(self, observations: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Return the transpose of `in_states`, from ``(B, n)`` to ``(B, I)``: the slope of a loss of it."""
        chain = self._chain(self._states(observations))
        return np.asarray((chain @ torch.as_tensor(errors)[..., None]).squeeze(-1))

    def targets(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        discount: float,
        value_slope: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Return ``r_s + γ f_sᵀ ∇V(f)``, each per half width, shape ``(B, n)``.

        Args:
            observations: ``(B, ...)``.
            actions: ``(B,)``.
            discount: ``γ``.
            value_slope: Takes observations and returns the slope of V in x, ``(B, I)``.
        """
        states, chosen, problem = self._states(observations), torch.as_tensor(actions), self._problem
        with torch.no_grad():
            successors = problem.dynamics(states, chosen, 0)
            seen = problem.observation(successors).numpy().astype(np.float32)
        later = torch.as_tensor(self.in_states(seen, value_slope(seen)) / self._width)
        if can_end(problem):
            later = torch.where(problem.terminated(successors)[:, None], 0.0, later)

        def hamiltonian(s: torch.Tensor) -> torch.Tensor:
            return problem.reward(s, chosen, 0) + discount * (problem.dynamics(s, chosen, 0) * later).sum(-1)

        return np.asarray(self._slope_of(hamiltonian, states)) * self._width

    def _states(self, observations: np.ndarray) -> torch.Tensor:
        return self._problem.state_of(torch.as_tensor(np.asarray(observations, float)))

    def _chain(self, states: torch.Tensor) -> torch.Tensor:
        """Return ``∂x/∂s`` per half width, shape ``(B, I, n)``."""
        seen = vmap(jacrev(self._problem.observation))(states)
        chain: torch.Tensor = self._units[:, None] * seen * torch.as_tensor(self._width)
        return chain

    @staticmethod
    def _slope_of(function: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
        states = states.detach().requires_grad_()
        return costate_equation(function(states), states).detach()
