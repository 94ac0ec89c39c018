"""Starts whose states do not fit their actions: multiple shooting for unstable dynamics.

Where dynamics are unstable, actions that know nothing lead nowhere, but one often knows where a path should pass.
Between given states and actions there are gaps ``d_k = f(s_k, a_k) - s_{k+1}``. Newton's method on states and actions
together takes them into Riccati's recursion (the slope of the value ahead is ``λ + P d``), and a step of size α
leaves ``(1 - α) d_k`` of them (Giftthaler et al. 2018; Mastalli et al. 2020). With a full step they are closed, and
the path, one of the dynamics now, goes on to the solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.augmented_loop import FIRST_PENALTY
from hamiltonian_rl.solvers.costate.backend import takes_all_steps
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.torch_backend import TorchSolver
from hamiltonian_rl.solvers.costate.torch_derivatives import Multipliers, run
from hamiltonian_rl.trajectory import Trajectory, as_numbers

ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Guess:
    """A first path as it is imagined: its states need not follow from its actions.

    Attributes:
        states: ``(N + 1, n)`` or ``(B, N + 1, n)``; the first is replaced by each initial state.
        actions: ``(N, m)`` or ``(B, N, m)``; zero (within the bounds) when None.

    Example:
        >>> from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
        >>> from hamiltonian_rl.solvers.costate import solve_costate
        >>> doubling = LinearQuadratic([[2.0]], [[1.0]], horizon=200)  # 2^200 without action
        >>> solution = solve_costate(doubling, np.array([1.0]), initial_actions=Guess(np.zeros((201, 1))))
        >>> round(float(solution.value[0]), 9)  # P = 2 + √5
        -4.236067977
    """

    states: np.ndarray
    actions: np.ndarray | None = None


def close_gaps(problem: ControlProblem, initial_states: np.ndarray, guess: Guess) -> Trajectory:
    """Return first paths near a guess that obey the dynamics, as far as the gaps can be closed.

    Raises:
        UsageError: The guess does not fit.
    """
    space: Any = problem.action_space
    count, n = initial_states.shape
    horizon = problem.horizon or 0
    states = _fitting("The guessed states", guess.states, (count, horizon + 1, n)).copy()
    given = np.zeros((horizon, *space.shape)) if guess.actions is None else guess.actions
    actions = np.clip(_fitting("The guessed actions", given, (count, horizon, *space.shape)), space.low, space.high)
    states[:, 0] = initial_states
    with torch.no_grad():
        shooting = MultipleShooting(problem, count, stepwise=not takes_all_steps(problem, initial_states))
        states, actions = shooting.close(torch.tensor(states), torch.tensor(actions))
    return Trajectory(states, actions, np.empty((count, 0)), np.empty(count))


def _fitting(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    numbers = as_numbers(name, values)
    if numbers.shape not in (shape, shape[1:]):
        raise UsageError(f"{name} have shape {numbers.shape}; expected {shape[1:]} or {shape}.")
    if not np.isfinite(numbers).all():
        raise UsageError(f"{name} are not all finite.")
    return np.broadcast_to(numbers, shape)


class MultipleShooting(TorchSolver):
    """The reference solver on paths with gaps, until they are closed."""

    def __init__(self, problem: ControlProblem, count: int, *, stepwise: bool) -> None:
        sizes = Augmented(problem)
        weights = torch.zeros((count, problem.horizon or 0, sizes.sizes[2]), dtype=torch.float64)
        end_weights = torch.zeros((count, sizes.end_sizes[2]), dtype=torch.float64)
        penalty = torch.full((count,), FIRST_PENALTY, dtype=torch.float64)
        multipliers = Multipliers(weights, end_weights, penalty)
        super().__init__(problem, "box", multipliers, Settings(), stepwise=stepwise)

    def close(self, states: torch.Tensor, actions: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return states and actions whose gaps are closed, or the smallest gaps that were reached.

        A step is taken where it raises the return less ``μ Σ γ^k |gap|``, with μ above the costates (an exact
        penalty), as soon as its size allows.
        """
        paths, _ = self._start(states[:, 0], torch.full_like(states, torch.nan), actions)
        paths = replace(paths, states=states, actions=actions)
        weights = self.discount ** torch.arange(actions.shape[1], dtype=torch.float64)
        next_states, rewards = run(self.augmented, states[:, :-1], actions, self.multipliers, stepwise=self.stepwise)
        gaps = next_states - states[:, 1:]
        end = self.augmented.end(states[:, -1], self.multipliers.end_weights, self.multipliers.penalty)
        paths.value = (weights * rewards).sum(1) + self.discount ** actions.shape[1] * end
        for _ in range(ROUNDS):
            open_ = (gaps != 0.0).flatten(1).any(1) & (paths.shift < lanes.LARGEST_FIRST_SHIFT)
            if not open_.any():
                break
            model = self._backward(paths, gaps)
            usable = model.sound & torch.isfinite(model.first)
            waiting, size = open_ & usable, torch.ones_like(paths.value)
            d, K = torch.nan_to_num(model.d), torch.nan_to_num(model.K)
            missed = (weights * gaps.abs().sum(-1)).sum(1)
            price = 2.0 * model.costates.abs().flatten(1).amax(1)
            for _ in range(lanes.TRIALS):
                trial = self._forward(paths, d, K, size, gaps)
                gain = trial.value - paths.value + price * size * missed
                taken = waiting & torch.isfinite(trial.value) & (gain >= 0.0)
                for name in ("states", "actions", "rewards", "value"):
                    old, new = getattr(paths, name), getattr(trial, name)
                    setattr(paths, name, torch.where(taken.view(-1, *[1] * (new.ndim - 1)), new, old))
                gaps = torch.where(taken[:, None, None], (1.0 - size[:, None, None]) * gaps, gaps)
                paths.shift = torch.where(taken, 0.0, paths.shift)
                waiting, size = waiting & ~taken, size * lanes.SHORTER
                if not waiting.any():
                    break
            self._raise_shift(paths, waiting | (open_ & ~usable))
        return paths.states.numpy(), paths.actions.numpy()
