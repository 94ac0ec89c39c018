"""`solve_costate` against the plainest method there is: the first-order forward-backward sweep.

It rolls out, computes costates backwards (Eq. 14) and moves the actions along ∂H/∂a. Nothing in it is shared with
the solver. Its adjoint is held against finite differences, for random smooth problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.costate.certificate import certify
from hamiltonian_rl.trajectory import Trajectory


def _forward(asked: ControlProblem, state: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states ``(N + 1, n)`` of actions ``(N, m)``, and their return."""
    states, value = [state], torch.zeros((), dtype=torch.float64)
    for k, action in enumerate(actions):
        value = value + asked.discount**k * asked.reward(states[k][None], action[None], k)[0]
        states.append(asked.dynamics(states[k][None], action[None], k)[0])
    last = asked.discount ** len(actions) * asked.terminal_reward(states[-1][None])[0]
    return torch.stack(states), value + last


def _adjoint(asked: ControlProblem, states: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the costates ``λ_k = ∂H/∂s`` from ``λ_N = ∂h/∂s`` on, ``(N + 1, n)``, and ``∂H/∂a``, ``(N, m)``."""
    last = states[-1].clone().requires_grad_()
    (costate,) = torch.autograd.grad(asked.terminal_reward(last[None])[0], last)
    costates, slopes = [costate], []
    for k in reversed(range(len(actions))):
        state, action = states[k].clone().requires_grad_(), actions[k].clone().requires_grad_()
        next_state = asked.dynamics(state[None], action[None], k)[0]
        H = asked.reward(state[None], action[None], k)[0] + asked.discount * next_state @ costate
        costate, slope = torch.autograd.grad(H, (state, action))
        costates.append(costate)
        slopes.append(slope)
    return torch.stack(costates[::-1]), torch.stack(slopes[::-1])


@dataclass
class _Swept:
    states: torch.Tensor
    actions: torch.Tensor
    costates: torch.Tensor
    value: float
    residual: float


def _sweep(asked: ControlProblem, state: torch.Tensor, actions: torch.Tensor, tol: float) -> _Swept:
    """Move the actions by ``clip(a + α ∂H/∂a)`` until nothing is gained, α by Barzilai and Borwein, then halved."""
    low, high = (torch.as_tensor(x, dtype=torch.float64) for x in (asked.action_space.low, asked.action_space.high))  # type: ignore[union-attr]
    weights = asked.discount ** torch.arange(len(actions), dtype=torch.float64)[:, None]
    states, value = _forward(asked, state, actions)
    costates, slopes = _adjoint(asked, states, actions)
    size = 1.0
    for _ in range(500):
        residual = float(((actions + slopes).clamp(low, high) - actions).abs().max())
        if residual < tol:
            break
        while True:
            trial = (actions + size * slopes).clamp(low, high)
            trial_states, trial_value = _forward(asked, state, trial)
            if trial_value >= value + 1e-4 * (weights * slopes * (trial - actions)).sum() or size < 1e-12:
                break
            size *= 0.5
        change, before = trial - actions, slopes
        states, actions, value = trial_states, trial, trial_value
        costates, slopes = _adjoint(asked, states, actions)
        bend = -(weights * change * (slopes - before)).sum()
        size = float((weights * change**2).sum() / bend) if bend > 0.0 else 2.0 * size
    return _Swept(states, actions, costates, float(value), residual)


def _smooth(
    seed: int, n: int, m: int, horizon: int, discount: float
) -> tuple[ControlProblem, torch.Tensor, torch.Tensor]:
    """Return a random smooth problem that varies in time and couples state and action, with a state and actions."""
    generator = torch.Generator().manual_seed(seed)
    A, B, C, q = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((n, n), (n, m), (n, n), n))

    class Smooth(ControlProblem):
        state_space = gym.spaces.Box(-1.0, 1.0, (n,), np.float64)
        action_space = gym.spaces.Box(-np.inf, np.inf, (m,), np.float64)

        def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
            pushed = 0.5 * state @ A.T + action @ B.T
            return pushed.sin() + 0.3 * (state @ C.T).tanh() * action[..., :1] + 0.1 * step

        def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
            return (state @ q + step).cos() - (action**2).sum(-1) + 0.2 * state[..., 0] * action[..., 0].exp()

        def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
            return state[..., 0].tanh() - (state**2).sum(-1)

    asked = Smooth()
    asked.horizon, asked.discount = horizon, discount
    state, actions = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (n, (horizon, m)))
    return asked, state, actions.clamp(-2.0, 2.0)


def _error_bounds(asked: ControlProblem, state: torch.Tensor, swept: _Swept) -> tuple[float, float]:
    """Return how far the sweep's actions and its value may be from the optimum, by its slope and curvature.

    Where ``-∂²J/∂a² >= μ`` around it, ``|a - a*| <= |g| / μ`` and ``J* - J <= |g|² / 2μ`` over the free actions.
    """
    flat = swept.actions.flatten()

    def total(actions: torch.Tensor) -> torch.Tensor:
        return _forward(asked, state, actions.reshape(swept.actions.shape))[1]

    space = asked.action_space
    low, high = (np.tile(x, len(swept.actions)) for x in (space.low, space.high))  # type: ignore[union-attr]
    free = torch.as_tensor((flat.numpy() > low) & (flat.numpy() < high))
    variable = flat.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(variable), variable)
    bend = -torch.autograd.functional.hessian(total, flat)[free][:, free]  # type: ignore[no-untyped-call]
    least = float(torch.linalg.eigvalsh(bend).min())
    assert least > 0.0, "the sweep did not end in a maximum"
    size = float(slope[free].norm())
    return size / least, size**2 / (2.0 * least)


def _pendulum() -> ControlProblem:
    asked = problem("Pendulum-v1")
    asked.horizon = 12
    return asked


@pytest.mark.parametrize(
    ("asked", "state", "guess"),
    [
        (LinearQuadratic(horizon=15), [1.0, 0.0], 0.0),
        (LinearQuadratic(horizon=15, action_bound=0.5, discount=0.95), [1.0, 0.0], 0.0),
        (problem("hrl/BrockMirman-v0", horizon=20), [0.1], 0.5),
        (problem("hrl/CakeEating-v0"), [1.0], 0.2),
        (problem("hrl/VanDerPol-v0", horizon=15), [0.0, 1.0], 0.0),
        (_pendulum(), [0.3, 0.2], 0.0),
    ],
    ids=["regulator", "bounded regulator", "growth", "cake", "Van der Pol", "pendulum"],
)
def test_the_solver_finds_what_the_first_order_sweep_converges_to(
    asked: ControlProblem, state: list[float], guess: float
) -> None:
    solution = solve_costate(asked, np.array(state)).unwrap()
    start = torch.tensor(state, dtype=torch.float64)
    first = torch.full(solution.trajectory.actions.shape[1:], guess, dtype=torch.float64)
    swept = _sweep(asked, start, first, tol=1e-6)
    assert swept.residual < 1e-6
    # Twice what its own slope and curvature allow, for both are taken where it ended, and rounding.
    far, lost = (2.0 * bound for bound in _error_bounds(asked, start, swept))
    path = solution.trajectory
    assert np.linalg.norm(path.actions[0] - swept.actions.numpy()) <= far + 1e-7
    assert -1e-10 <= path.value[0] - swept.value <= lost + 1e-10
    # The costates' error is of first order in the actions'; each of these problems has slopes below 100.
    np.testing.assert_allclose(path.costates[0], swept.costates.numpy(), rtol=0, atol=100.0 * (far + 1e-7))


@st.composite
def _smooth_problems(draw: st.DrawFn) -> tuple[int, int, int, int, float]:
    sizes = (draw(st.integers(1, most)) for most in (3, 2, 5))
    return draw(st.integers(0, 2**32 - 1)), *sizes, draw(st.floats(0.0, 1.0))


@given(_smooth_problems())
@settings(max_examples=25, deadline=None)
def test_the_adjoint_of_random_smooth_problems_is_their_gradient_by_finite_differences(
    drawn: tuple[int, int, int, int, float],
) -> None:
    asked, state, actions = _smooth(*drawn)
    states, _ = _forward(asked, state, actions)
    costates, slopes = _adjoint(asked, states, actions)
    weights = asked.discount ** torch.arange(len(actions), dtype=torch.float64)[:, None]
    step = 1e-5  # the differences' own error: step² times third derivatives, rounding / step, both about 1e-10
    by_state = [
        (_forward(asked, state + h, actions)[1] - _forward(asked, state - h, actions)[1]) / (2.0 * step)
        for h in step * torch.eye(len(state), dtype=torch.float64)
    ]
    np.testing.assert_allclose(costates[0], np.array(by_state), rtol=1e-6, atol=1e-7)
    moves = step * torch.eye(actions.numel(), dtype=torch.float64).reshape(-1, *actions.shape)
    by_action = [
        (_forward(asked, state, actions + h)[1] - _forward(asked, state, actions - h)[1]) / (2.0 * step) for h in moves
    ]
    np.testing.assert_allclose((weights * slopes).flatten(), np.array(by_action), rtol=1e-6, atol=1e-7)
    # And the certificate, which computes Eq. 14 and 15 of its own, agrees that these costates are the path's.
    path = Trajectory(
        *(x[None].numpy() for x in (states, actions)), np.empty((1, 0)), np.empty(1), costates[None].numpy()
    )
    certificate = certify(asked, path, np.zeros((1, len(actions), 0)), np.zeros((1, 0)))
    assert certificate.costate[0] < 1e-12
    assert certificate.stationarity[0] == pytest.approx(float(slopes.abs().max()), rel=1e-12)
