"""Deterministic control problems in discrete time, stated once for every solver, environment and agent.

Notation: ``s`` state ``(..., n)``, ``a`` action ``(..., m)`` (``(...)`` where actions are discrete), ``k`` step,
``N`` horizon. Leading dimensions are a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError

if TYPE_CHECKING:
    import torch

    from hamiltonian_rl.problems.relaxation import Relaxation


class ControlProblem(ABC):
    """Maximise ``Σ_k γ^k r(s_k, a_k, k) + γ^N h(s_N)`` subject to ``s_{k+1} = f(s_k, a_k, k)`` (Eq. 8-9).

    Optional constraints are ``c(s_k, a_k, k) <= 0`` at each step and ``c_N(s_N) = 0`` at the end.

    A subclass sets the attributes and writes `dynamics` and `reward` with torch operations, batched over
    leading dimensions and differentiable: the derivatives come from them. They are also traced and mapped, so
    that they may neither write into a tensor nor branch on its values: `torch.where`, not ``if``. Its
    parameters (a mass, a matrix) are plain attributes; one replaced by a tensor that requires a gradient gives
    the derivative with respect to it.

    Attributes:
        state_space: A Box of shape ``(n,)``; its bounds limit a grid, and a solver's states where it asks.
        action_space: A Box of shape ``(m,)``, or Discrete.
        horizon: Number of steps N, or None.
        discount: ``γ`` in [0, 1].
        periodic: Which coordinates are angles: their two bounds are the same place; shape ``(n,)``.
        start: The nominal first state, shape ``(n,)``; empty for none.
        spread: First states are drawn uniformly within this distance of it, shape ``(n,)``; empty for zero.
        state_names: Of the coordinates, a unit in brackets behind: "angle (rad)"; shape ``(n,)`` or empty.
        action_names: Of the actions' coordinates, in the same way; shape ``(m,)`` or empty.
        reward_bound: What no step's reward is above, wherever that is known; infinite where it is not. An episode that
            earns it at every step is certainly optimal.
        phase_plane: The two coordinates that a picture shows.
        parameters: Which attributes are tensors (float64, on the CPU) whose numbers may be changed in place without
            compiling anew: compiled code reads them at each call, the tensors themselves or views of them.
        compile_kernels: Whether solvers that compile do so unasked. Compiled code writes every sum out: False where
            the functions sum over so many terms that torch has solved the problem before it is compiled.
        driven: The coordinate of the velocity that a single action pushes along, so that action times velocity is
            power; None for none.
    """

    state_space: gym.spaces.Box
    action_space: gym.spaces.Box | gym.spaces.Discrete
    horizon: int | None = None
    discount: float = 1.0
    periodic: tuple[bool, ...] = ()
    start: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    reward_bound: float = np.inf
    phase_plane: tuple[int, int] = (0, 1)
    driven: int | None = None
    parameters: tuple[str, ...] = ()
    compile_kernels: bool = True

    @abstractmethod
    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return the next state ``f(s, a, k)``, shape ``(..., n)``."""

    @abstractmethod
    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return ``r(s, a, k)``, shape ``(...)``."""

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """Return ``h`` of an episode's last state, shape ``(...)``; zero unless a problem says otherwise.

        The last state is ``s_N``, or an earlier one where the episode is over (`terminated`), N then being its step.
        """
        return state[..., 0] * 0.0

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """Return whether an episode that arrives at the state is over, shape ``(...)``; never unless said."""
        return (state != state).any(-1)

    def constraints(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return ``c(s, a, k)``, feasible where ``<= 0``, shape ``(..., C)``; none unless said."""
        return state[..., :0]

    def terminal_constraints(self, state: torch.Tensor) -> torch.Tensor:
        """Return ``c_N(s_N)``, feasible where ``= 0``, shape ``(..., C_N)``; none unless said."""
        return state[..., :0]

    def parameter_tensors(self) -> list[torch.Tensor]:
        """Return the tensors that ``parameters`` names.

        Raises:
            UsageError: One of them is none, or not of float64 on the CPU.
        """
        import torch  # takes seconds to load

        tensors = [getattr(self, name, None) for name in self.parameters]
        for name, tensor in zip(self.parameters, tensors, strict=True):
            if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float64 or tensor.device.type != "cpu":
                raise UsageError(
                    f'{type(self).__name__}.parameters names "{name}", which is {type(tensor).__name__}; expected a '
                    "tensor of float64 on the CPU."
                )
        return tensors  # type: ignore[return-value]

    def initial_states(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw n first states, shape ``(n, state size)``.

        Uniform within ``spread`` of ``start``; in the state space where there is no ``start``.

        Raises:
            UsageError: ``start`` or ``spread`` is of another length than the state; or there is no ``start``, and the
                state space has no bounds to draw within.
        """
        low, high = self.state_space.low, self.state_space.high
        if len(self.start):
            center = np.asarray(self.start, float)
            spread = np.asarray(self.spread, float) if len(self.spread) else np.zeros_like(center)
            if not center.shape == spread.shape == low.shape:
                raise UsageError(
                    f"start = {self.start} and spread = {self.spread}; expected {low.size} numbers each, one a "
                    "coordinate of the state, or no spread."
                )
            return center + spread * generator.uniform(-1.0, 1.0, (n, *center.shape))
        if not np.isfinite([low, high]).all():
            raise UsageError(
                f"{type(self).__name__} has no start, and its state space no bounds to draw one within. Give it a "
                "start (and a spread), or a bounded state_space."
            )
        return generator.uniform(low, high, (n, *low.shape))

    def relaxed(self) -> Relaxation | None:
        """Return the problem in a form that has slopes, where its own has none; None unless said."""
        return None

    def observation(self, state: torch.Tensor) -> torch.Tensor:
        """Return what an agent sees of the state; all of it unless said."""
        return state

    def state_of(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the state that an observation shows, the inverse of `observation`; to be said where that is.

        Raises:
            UsageError: What agents see is not all of the state, and the problem says no inverse.
        """
        if type(self).observation is not ControlProblem.observation:
            raise UsageError(
                f"{type(self).__name__} does not say which state an observation shows. Write its `state_of`, the "
                "inverse of `observation`."
            )
        return observation


def nominal_state(problem: ControlProblem) -> np.ndarray:
    """Return ``start``, or the first state that the problem draws where it has none; shape ``(n,)``."""
    drawn = problem.initial_states(1, np.random.default_rng(0))[0]
    return np.array(problem.start if len(problem.start) else drawn, dtype=float)


def can_end(problem: ControlProblem) -> bool:
    """Return whether the problem says of any state that an episode is over there."""
    return type(problem).terminated is not ControlProblem.terminated


def standing_step(
    problem: ControlProblem, state: torch.Tensor, action: torch.Tensor, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return next state and reward of a step; where the episode is over the state stands and nothing is paid."""
    import torch  # takes seconds to load

    next_state, reward = problem.dynamics(state, action, step), problem.reward(state, action, step)
    if can_end(problem):
        over = problem.terminated(state)
        next_state, reward = torch.where(over[..., None], state, next_state), torch.where(over, 0.0, reward)
    return next_state, reward
