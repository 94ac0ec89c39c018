"""The adapter from the Lagrangian side to the Hamiltonian one: estimation as a control problem (**ours**, section 5).

The particle's action ``∫ (½ m |θ̇|² - ℓ) dt`` is least where ``∫ (ℓ - ½ m |θ̇|²) dt`` is greatest: a control problem
whose state is ``θ`` and whose action is the velocity ``u = θ̇``. Near the maximum, where ``ℓ ≈ ℓ* - ½ δᵀ F δ``, it is
the linear-quadratic one. Its costate is the momentum ``m u``, and its optimal step is
``dt u = F⁻¹ (I - exp(-2 asinh(½ dt √(F/m)))) ∇ℓ``: the direction ``F^(-1/2) ∇ℓ`` of RMSprop and Adam for small ``dt``
(Eq. 31-32), Newton's for large ones.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.control_problem import ControlProblem
from hamiltonian_rl.problems.estimation.task import EstimationTask

MOST_TERMS = 50  # observations times parameters that are compiled: 10 of 5 parameters take a second, torch half of it


class EstimationControl(ControlProblem):
    """Move the parameters of an estimation task: ``θ' = θ + dt u``, ``r = dt (ℓ(θ) - ℓ_0 - ½ m |u|²)``.

    The log-likelihood ``ℓ`` is the mean one of an observation, as everywhere. Compiled code would write out its sum, so
    costates of more than a few observations are computed in torch unless asked otherwise.

    Args:
        task: What is estimated.
        mass: ``m``, the price of speed.
        dt: Time that a step takes.
        horizon: Number of steps N, or None.
        discount: ``γ`` of a step.
        start: First parameters, shape ``(P,)``; the task's own when None.
        spread: First parameters are drawn uniformly within this distance of them.
        reference: ``ℓ_0``, which changes no action. With the greatest log-likelihood an endless horizon without
            discount has a finite value.
        max_speed: ``|u_i|`` at the most.
        radius: The state space, which limits grids, is the box within this distance of the start.

    Raises:
        UsageError: A number is out of range, or the start is no vector of the task's parameters.

    Example:
        >>> from hamiltonian_rl.problems.estimation import GaussianMean
        >>> problem = GaussianMean([1.0, 3.0]).control_problem(mass=1.0, dt=0.1, horizon=20)
        >>> problem.dynamics(torch.tensor([0.0]), torch.tensor([2.0]), 0)
        tensor([0.2000])
    """

    def __init__(
        self,
        task: EstimationTask,
        *,
        mass: float = 1.0,
        dt: float = 0.1,
        horizon: int | None = None,
        discount: float = 1.0,
        start: Any = None,
        spread: float = 1.0,
        reference: float = 0.0,
        max_speed: float = math.inf,
        radius: float = math.inf,
    ) -> None:
        for name, number in (("mass", mass), ("dt", dt), ("max_speed", max_speed), ("radius", radius)):
            if not (_is_number(number) and number > 0.0) or (name in ("mass", "dt") and math.isinf(number)):
                raise UsageError(f"{name} = {number!r}; expected a positive number.")
        if not (_is_number(spread) and 0.0 <= spread < math.inf):
            raise UsageError(f"spread = {spread!r}; expected a finite number, 0 or more.")
        if not (_is_number(reference) and math.isfinite(reference)):
            raise UsageError(f"reference = {reference!r}; expected a finite number.")
        if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
            raise UsageError(f"horizon = {horizon!r}; expected a whole number of at least 1, or None.")
        if not (_is_number(discount) and 0.0 <= discount <= 1.0):
            raise UsageError(f"discount = {discount!r}; expected a number from 0 to 1.")
        self.task, self.mass, self.dt, self.reference = task, float(mass), float(dt), float(reference)
        self.horizon, self.discount = horizon, float(discount)
        center = task.checked(task.start if start is None else start).numpy()
        self.start, self.spread = tuple(center.tolist()), (float(spread),) * len(center)
        self.state_space = gym.spaces.Box(center - radius, center + radius, dtype=np.float64)
        self.action_space = gym.spaces.Box(-max_speed, max_speed, center.shape, np.float64)
        self.state_names = task.names
        self.action_names = tuple(f"speed of {name}" for name in task.names)
        self.compile_kernels = len(task.data) * len(center) <= MOST_TERMS
        if len(center) == 1:
            self.phase_plane = (0, 0)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``θ + dt u``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> problem = GaussianMean([1.0, 3.0]).control_problem(dt=0.5)
            >>> problem.dynamics(torch.tensor([1.0]), torch.tensor([4.0]), 0)
            tensor([3.])
        """
        return state + self.dt * action

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``dt (ℓ(θ) - ℓ_0 - ½ m |u|²)``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> task = GaussianMean([2.0])
            >>> problem = task.control_problem(mass=2.0, dt=0.5, reference=float(task.mean_log_likelihood(task.start)))
            >>> problem.reward(torch.tensor([0.0]), torch.tensor([3.0]), 0)  # dt (-½ (2 - 0)² - ½ m 3²)
            tensor(-5.5000, dtype=torch.float64)
        """
        gain = self.task.mean_log_likelihood(state) - self.reference
        return self.dt * (gain - 0.5 * self.mass * (action**2).sum(-1))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
