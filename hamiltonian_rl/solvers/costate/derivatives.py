"""Derivatives of optimal paths and of their value with respect to what the problem is made of.

Notation: B paths, N steps, ``z = (s, a)``, γ discount, λ costate, ν multiplier of a constraint, p any parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from hamiltonian_rl.errors import SolverError, UsageError, did_you_mean, first_line
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.control_problem import standing_step
from hamiltonian_rl.solvers.costate.infinite_horizon import SteadyEnd
from hamiltonian_rl.solvers.costate.linearized_path import LinearizedPath
from hamiltonian_rl.solvers.costate.path_solution import PathSolution
from hamiltonian_rl.solvers.costate.reached import check_reached, tensors_of

Tensor = torch.Tensor

ENDLESS = (
    "The horizon is infinite: what its end is worth depends on the parameters too, in a way that is not "
    "differentiated. Solve a long finite one: horizon=N."
)


def value_gradient(solution: PathSolution, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``∂V/∂p`` of each path with respect to attributes of its problem, by the envelope theorem.

    ``∂V/∂p = Σ_k γ^k (∂r/∂p + γ λ_{k+1}ᵀ ∂f/∂p - νᵀ ∂c/∂p) + γ^N (∂h/∂p - ν_Nᵀ ∂c_N/∂p)``, the derivative of Eq. 9
    with path, costates and multipliers held: at a stationary path it does not matter, in first order, that they
    move. With respect to the initial state the same is ``λ_0``. Of a path that is not stationary it is the
    derivative of the return along the path's feedback.

    Args:
        solution: Of `solve_costate`.
        names: Attributes that are numbers or arrays of numbers, ``discount`` among them.

    Returns:
        For each name an array of shape ``(B, *shape of the attribute)``.

    Raises:
        UsageError: An attribute is missing, is no number, cannot be differentiated, or is not what the problem's
            functions read; or the horizon is infinite.

    Example:
        A heavier quadrotor flies worse: what one more kilogram costs.

        >>> from hamiltonian_rl.envs.problems import problem
        >>> from hamiltonian_rl.solvers.costate import solve_costate
        >>> def fly(mass):
        ...     quadrotor = problem("hrl/Quadrotor-v0", mass=mass, horizon=20)
        ...     return solve_costate(quadrotor, np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0]))
        >>> slope = value_gradient(fly(1.0), ["mass"])["mass"]
        >>> difference = (fly(1.0 + 1e-4).value - fly(1.0 - 1e-4).value) / 2e-4
        >>> bool(np.allclose(slope, difference, rtol=1e-6))
        True
    """
    problem = copy.copy(solution.problem)
    if isinstance(problem, SteadyEnd):
        raise UsageError(ENDLESS)
    count = len(solution.value)
    parameters = {name: _numbers(problem, name).expand(count, *np.shape(getattr(problem, name))) for name in names}

    def of_one(parameters: dict[str, Tensor], *path: Tensor) -> Tensor:
        for name, parameter in parameters.items():
            setattr(problem, name, parameter)
        return lagrangian(problem, *(x[None] for x in path))[0]

    try:
        found = torch.func.vmap(torch.func.grad(of_one))(parameters, *_tensors(solution))
        first = {name: parameter[0].clone().requires_grad_() for name, parameter in parameters.items()}
        total = of_one(first, *(x[0] for x in _tensors(solution)))
    except Exception as error:  # whatever a user's function may raise
        raise UsageError(
            f"The problem's functions cannot be differentiated with respect to {', '.join(names)}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    check_reached(problem, total, first)
    return {name: gradient.detach().numpy() for name, gradient in found.items()}


@dataclass(frozen=True, eq=False)
class DifferentiablePath:
    """Paths as torch tensors whose derivatives are those of the optimum.

    Attributes:
        states: ``(B, N + 1, n)``, once differentiable.
        actions: ``(B, N, m)``, once differentiable.
        costates: ``(B, N + 1, n)``, once differentiable.
        value: ``(B,)``, twice differentiable.
    """

    states: Tensor
    actions: Tensor
    costates: Tensor
    value: Tensor


def differentiable(solution: PathSolution, initial_states: Tensor | None = None) -> DifferentiablePath:
    """Return the paths as tensors that know how the optimum moves (implicit function theorem).

    Gradients flow to every tensor that the problem's functions use and that requires one (an attribute, a network),
    and to ``initial_states``. Where Eq. 13-15 hold, as ``F(s, a, λ; p) = 0``, they hold on along
    ``-(∂F/∂(s, a, λ))⁻¹ ∂F/∂p``: Newton's step, one Riccati sweep and one sweep forward, whose reverse is one of
    each again, for any number of iterations that the solver took. An action that leans on its bound stays there:
    its derivative is zero. Constraints that bind stay binding.

    Args:
        solution: Of `solve_costate`; every path a strict local optimum. Errors of the derivatives are of the order
            of its ``tol``.
        initial_states: Those of the solution, ``(B, n)``, as a tensor that requires a gradient; None for none.

    Raises:
        SolverError: A path is no strict local optimum, or a constraint holds without pressing: there the optimum
            has a kink, or several branches, and no derivative.
        UsageError: The initial states are others, an attribute that requires a gradient is not used, or the horizon is
            infinite and anything but the initial states requires a gradient.

    Example:
        Inverse optimal control: which penalty on actions explains an observed path? (Machine code would have to be
        compiled anew at every step.)

        >>> from hamiltonian_rl.envs.problems import problem
        >>> from hamiltonian_rl.solvers.costate import solve_costate
        >>> asked, start = problem("hrl/LinearQuadratic-v0", R=[[0.37]], horizon=20), np.array([1.0, 0.0])
        >>> observed = torch.as_tensor(solve_costate(asked, start).trajectory.states)
        >>> logarithm = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        >>> adam = torch.optim.Adam([logarithm], lr=0.2, betas=(0.5, 0.9))
        >>> for _ in range(40):
        ...     adam.zero_grad()
        ...     asked.R = logarithm.exp()
        ...     path = differentiable(solve_costate(asked, start, backend="torch"))
        ...     ((path.states - observed) ** 2).sum().backward()
        ...     _ = adam.step()
        >>> round(float(asked.R), 2)
        0.37
    """
    solution.unwrap()
    states, actions, costates, multipliers, end_multipliers = _tensors(solution)
    if isinstance(solution.problem, SteadyEnd):
        _check_parameterless(solution.problem, lagrangian(solution.problem, *_tensors(solution)))
    start = _same_start(states[:, 0] if initial_states is None else initial_states, states[:, 0])
    path = LinearizedPath(solution.problem, states, actions, costates, multipliers, end_multipliers)
    if path.undecided.any():
        raise SolverError(
            f"A constraint of path {int(path.undecided.nonzero()[0])} holds with equality and does not press: "
            "the optimum has a kink there, and no derivative."
        )
    steps = path.newton_step(start - states[:, 0])
    moved = [
        at + (step - step.detach())
        for at, step in zip((states, actions, costates, multipliers, end_multipliers), steps, strict=True)
    ]
    # With the path's own motion in it its derivative is the second one of the value; the first is the same.
    value = lagrangian(solution.problem, *moved)
    check_reached(solution.problem, value, tensors_of(solution.problem))
    value = torch.as_tensor(solution.value) + (value - value.detach())
    return DifferentiablePath(_once(moved[0]), _once(moved[1]), _once(moved[2]), value)


def lagrangian(
    problem: ControlProblem,
    states: Tensor,
    actions: Tensor,
    costates: Tensor,
    multipliers: Tensor,
    end_multipliers: Tensor,
) -> Tensor:
    """Return ``Σ γ^k [r + γ λ_{k+1}ᵀ (f - s_{k+1}) - νᵀ c] + γ^N [h - ν_Nᵀ c_N]`` of each path (Eq. 9), ``(B,)``.

    Args:
        problem: The problem.
        states: ``(B, N + 1, n)``.
        actions: ``(B, N, m)``.
        costates: ``(B, N + 1, n)``.
        multipliers: ``(B, N, C)``.
        end_multipliers: ``(B, C')``.
    """
    discount: Any = problem.discount
    total: Tensor = states.new_zeros(len(states))
    for k in range(actions.shape[1]):
        next_state, reward = standing_step(problem, states[:, k], actions[:, k], k)
        off = (costates[:, k + 1] * (next_state - states[:, k + 1])).sum(-1)
        pressed = (multipliers[:, k] * problem.constraints(states[:, k], actions[:, k], k)).sum(-1)
        total = total + discount**k * (reward + discount * off - pressed)
    last = states[:, -1]
    end = problem.terminal_reward(last) - (end_multipliers * problem.terminal_constraints(last)).sum(-1)
    return cast(Tensor, total + discount ** actions.shape[1] * end)


class _Once(torch.autograd.Function):
    """The identity, which refuses second derivatives: they would lack how the Riccati sweep itself changes."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise UsageError(
                "States, actions and costates of an optimal path can be differentiated once, without "
                "create_graph=True; its value twice."
            )
        return gradient


def _once(tensor: Tensor) -> Tensor:
    apply: Any = _Once.apply  # untyped in torch
    return cast(Tensor, apply(tensor))


def _check_parameterless(ending: SteadyEnd, value: Tensor) -> None:
    """Refuse an infinite horizon's derivatives with respect to anything but the state where it begins."""
    if value.requires_grad or tensors_of(ending.problem):
        raise UsageError(ENDLESS)


def _same_start(given: Any, expected: Tensor) -> Tensor:
    """Return the initial states that were given, which must be the path's own."""
    if not isinstance(given, Tensor):
        raise UsageError(f"initial_states is a {type(given).__name__}; expected a tensor that requires a gradient.")
    if given.shape != expected.shape or not torch.equal(given.detach().double(), expected):
        raise UsageError(
            f"initial_states, of shape {tuple(given.shape)}, are not those of the solution, of shape "
            f"{tuple(expected.shape)}."
        )
    return given


def _tensors(solution: PathSolution) -> list[Tensor]:
    """Return states, actions, costates and both kinds of multipliers."""
    path = solution.trajectory
    arrays = path.states, path.actions, path.costates, solution.multipliers, solution.end_multipliers
    return [torch.as_tensor(x) for x in arrays]


def _numbers(problem: ControlProblem, name: str) -> Tensor:
    """Return an attribute as a tensor."""
    if not hasattr(problem, name):
        known = sorted(key for key, value in vars(problem).items() if not callable(value))
        raise UsageError(f'{type(problem).__name__} has no attribute "{name}". {did_you_mean(name, known)}')
    value = getattr(problem, name)
    if name == "horizon" or isinstance(value, bool | str | bytes) or value is None:
        raise UsageError(f"{type(problem).__name__}.{name} = {value!r}; expected a real number, or an array of such.")
    try:
        return torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{type(problem).__name__}.{name} = {value!r}; expected a number, or an array.") from error
