"""Where an optimal path without end comes to rest, and the value around that place.

At a steady state ``(s̄, ā, λ̄)`` Eq. 13-15 hold with nothing changing: ``s = f(s, a)``, ``λ = r_s + γ f_sᵀ λ`` and
``a = clip(a + r_a + γ f_aᵀ λ)`` (the modified golden rule of growth theory; the turnpike of long horizons). Around it
the value is ``V(s) = r̄ / (1 - γ) + λ̄ᵀ(s - s̄) + ½ (s - s̄)ᵀ P (s - s̄)`` to second order, P by Riccati's equation.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.principles.hamiltonian import hamiltonian, projected_stationarity
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.control_problem import can_end
from hamiltonian_rl.trajectory import as_numbers

Tensor = torch.Tensor
jacobian: Any = torch.autograd.functional.jacobian  # which torch leaves without types
hessian: Any = torch.autograd.functional.hessian
NEWTON_STEPS, RICCATI_STEPS, SMALLEST_STEP = 100, 100_000, 1e-6


@dataclass(frozen=True, eq=False)
class SteadyState:
    """A steady state of Eq. 13-15, and the value around it.

    Attributes:
        state: ``s̄``, shape ``(n,)``.
        action: ``ā``, shape ``(m,)``.
        costate: ``λ̄``, the gradient of the value there, shape ``(n,)``.
        value: ``V(s̄) = r̄ / (1 - γ)``; zero where γ is one.
        curvature: P, the value's second derivative there, shape ``(n, n)``.
        feedback: ``∂a/∂s`` of the optimal action there, shape ``(m, n)``; zero for an action at its bound.
        multipliers: Eigenvalues of the state's own motion under that feedback, shape ``(n,)``: how much of a
            distance is left a step later. Below one in size the steady state attracts; below ``1 / √γ`` all are.
    """

    state: np.ndarray
    action: np.ndarray
    costate: np.ndarray
    value: float
    curvature: np.ndarray
    feedback: np.ndarray
    multipliers: np.ndarray


def steady_state(
    problem: ControlProblem, state: np.ndarray | None = None, action: np.ndarray | None = None, *, tol: float = 1e-10
) -> SteadyState:
    """Find a steady state near a guess by Newton's method, and the value around it by Riccati's equation.

    Args:
        problem: With a Box of actions; its functions may not depend on the step.
        state: First guess of the state ``(n,)``; the problem's nominal first state when None.
        action: First guess of the action ``(m,)``; the middle of the bounds, or zero, when None.
        tol: Largest residual of the three equations, of one plus what they equate.

    Raises:
        UsageError: An argument does not fit, the functions depend on the step, episodes can end, or γ is one and
            the steady state pays something, so that the value is infinite.
        SolverError: No steady state was found; or the one found is not alone, its value is not strictly concave in
            the action or has no limit, or optimal paths run away from it.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> found = steady_state(problem("hrl/BrockMirman-v0"))
        >>> found.state.round(6).tolist(), found.action.round(6).tolist(), found.costate.round(6).tolist()
        ([0.187032], [0.658], [2.925235])
        >>> found.multipliers.round(6).tolist()  # capital's logarithm contracts by α a period
        [0.36]
    """
    check_timeless(problem)
    space: Any = problem.action_space
    low, high = np.asarray(space.low, float), np.asarray(space.high, float)
    given = problem.start if state is None else state
    s = as_numbers("state", given if len(given) else np.zeros(problem.state_space.shape))
    with np.errstate(invalid="ignore"):  # of bounds that are none
        middle = np.where(np.isfinite(low) & np.isfinite(high), 0.5 * (low + high), np.clip(0.0, low, high))
    a = np.clip(as_numbers("action", middle if action is None else action), low, high)
    for name, guess, shape in (("state", s, problem.state_space.shape), ("action", a, space.shape)):
        if guess.shape != shape or not np.isfinite(guess).all():
            raise UsageError(f"{name} = {guess.tolist()} is no guess; expected finite numbers of shape {shape}.")
    return _around(problem, _newton(problem, torch.tensor(s), torch.tensor(a), tol))


def check_timeless(problem: ControlProblem) -> None:
    """Check that a problem can go on without end.

    Raises:
        UsageError: Its actions are discrete, its functions depend on the step, or its episodes can end.
    """
    if not isinstance(problem.action_space, gym.spaces.Box):
        raise UsageError(f"The action space is {problem.action_space}; a steady state of costates needs a Box.")
    if can_end(problem):
        raise UsageError("The problem's episodes can end, so that there is no infinite horizon; give one: horizon=N.")
    generator = np.random.default_rng(0)
    states, actions = (
        np.clip(generator.uniform(-1.0, 1.0, (5, *space.shape)), space.low, space.high)
        for space in (problem.state_space, problem.action_space)
    )
    with contextlib.suppress(UsageError):  # nothing says where episodes begin
        states = problem.initial_states(5, generator)
    state, action = torch.as_tensor(states), torch.as_tensor(actions)
    with torch.no_grad():
        for name in ("dynamics", "reward", "constraints"):
            values = [getattr(problem, name)(state, action, step) for step in (0, 1, 2, 10, 1000)]
            if not all(torch.equal(value.nan_to_num(), values[0].nan_to_num()) for value in values):
                raise UsageError(
                    f"The problem's {name} depends on the step, so that nothing is steady; give horizon=N."
                )


def _bounds(problem: ControlProblem) -> tuple[np.ndarray, np.ndarray]:
    space: Any = problem.action_space
    return np.asarray(space.low, float), np.asarray(space.high, float)


def _conditions(problem: ControlProblem, z: Tensor) -> Tensor:
    """Return ``f - s``, ``∂H/∂s - λ`` and ``clip(a + ∂H/∂a) - a`` of ``z = (s, λ, a)``: zero at a steady state."""
    n = problem.state_space.shape[0]
    state, costate, action = z[:n], z[n : 2 * n], z[2 * n :]
    next_state = problem.dynamics(state[None], action[None], 0)[0]
    H = hamiltonian(problem.reward(state[None], action[None], 0)[0], next_state, costate, problem.discount)
    low, high = (torch.as_tensor(x) for x in _bounds(problem))
    slopes = torch.autograd.grad(H, (state, action), create_graph=True, allow_unused=True, materialize_grads=True)
    off = projected_stationarity(action, slopes[1], low, high)
    return torch.cat([next_state - state, slopes[0] - costate, off])


def _newton(problem: ControlProblem, state: Tensor, action: Tensor, tol: float) -> Tensor:
    """Return ``z = (s, λ, a)`` where the conditions vanish.

    The clipped equation of an action that would leave its bounds reads ``a = bound``, so that Newton's method holds
    it there by itself (it is semismooth).

    Raises:
        SolverError: There is none near the guess.
    """
    n, conditions = len(state), partial(_conditions, problem)

    def off_and_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
        return conditions(z.clone().requires_grad_()).detach(), jacobian(conditions, z)

    z = torch.cat([state, torch.zeros_like(state), action])
    off, slopes = off_and_slopes(z)
    costates = slice(n, 2 * n)  # their equation is linear in them
    z[costates] = torch.linalg.lstsq(slopes[costates, costates], -off[costates, None], driver="gelsd").solution[:, 0]
    off, slopes = off_and_slopes(z)
    for _ in range(NEWTON_STEPS):
        # Each equation by the size of what it equates: of states, of costates, of actions.
        sizes = [n, n, len(action)]
        parts = zip(torch.split(off, sizes), torch.split(z, sizes), strict=True)
        if all(bool(part.abs().max() <= tol * (1.0 + of.abs().max())) for part, of in parts):
            _check_isolated(z[:n], slopes)
            return z
        if not (slopes.isfinite().all() and off.isfinite().all()):
            break
        change, size, here = torch.linalg.lstsq(slopes, -off[:, None], driver="gelsd").solution[:, 0], 1.0, off.norm()
        while size >= SMALLEST_STEP:
            trial = z + size * change
            trial[2 * n :] = trial[2 * n :].clamp(*(torch.as_tensor(x) for x in _bounds(problem)))
            off, slopes = off_and_slopes(trial)
            if bool(off.norm() <= (1.0 - 1e-4 * size) * here):
                break
            size *= 0.5
        else:
            break
        z = trial
    raise SolverError(
        f"No steady state was found: Newton's method ends at the state {_told(z[:n])}, where the conditions are "
        f"missed by {float(off.abs().max()):.2g}. Give another guess or a horizon: there may be none."
    )


def _told(state: Tensor) -> list[float]:
    """Return a state as a sentence tells it, without what rounding left beside zero."""
    return list((state.round(decimals=6) + 0.0).tolist())


def _check_isolated(state: Tensor, slopes: Tensor) -> None:
    """Check that there are no other steady states beside this one: nothing would say which of them is optimal."""
    sizes = torch.linalg.svdvals(slopes)
    if bool(sizes[-1] <= 1e-10 * sizes[0]):
        raise SolverError(
            f"The steady state {_told(state)} is one of a continuum: some state or costate stays whatever it is. "
            "Give a horizon; or make what is constant a parameter of the problem."
        )


def _around(problem: ControlProblem, z: Tensor) -> SteadyState:
    """Return the steady state with the value's second derivatives, by Riccati's equation.

    The equation is iterated from zero, as horizons grow: its limit, where there is one, is the value's, also where
    another solution of the algebraic equation would stabilise what need not be.

    Raises:
        UsageError: γ is one and the steady state pays something.
        SolverError: The model is not concave in the free actions, its value has no limit, or its path runs away.
    """
    n = problem.state_space.shape[0]
    discount = torch.as_tensor(problem.discount, dtype=torch.float64).item()  # it may wait for a gradient
    costate, variable = z[n : 2 * n], torch.cat([z[:n], z[2 * n :]])

    def H(x: Tensor) -> Tensor:
        next_state, reward = (f(x[None, :n], x[None, n:], 0)[0] for f in (problem.dynamics, problem.reward))
        return hamiltonian(reward, next_state, costate, problem.discount)

    motion = jacobian(lambda x: problem.dynamics(x[None, :n], x[None, n:], 0)[0], variable).numpy()
    bend, slope = hessian(H, variable).numpy(), jacobian(H, variable)[n:].numpy()
    reward = problem.reward(z[None, :n], z[None, 2 * n :], 0)[0].item()
    if discount == 1.0 and abs(reward) > 1e-9:
        raise UsageError(
            f"Without discount the steady state at {_told(z[:n])} pays {reward:.3g} for ever, which is infinite; "
            "expected a reward of zero there, or a discount below 1. Or give a horizon: its path finds a better place "
            "to rest, where there is one."
        )
    low, high = _bounds(problem)
    wanted = z[2 * n :].numpy() + slope
    P, K = _riccati(motion, bend, discount, n, (low < wanted) & (wanted < high))
    left = np.linalg.eigvals(motion[:, :n] + motion[:, n:] @ K)
    if np.abs(left).max() * discount**0.5 >= 1.0:
        raise SolverError(
            f"From the steady state {_told(z[:n])} the optimal path runs away, by {np.abs(left).max():.3g} a step: "
            "it is no end of a path. Give a horizon."
        )
    return SteadyState(
        state=z[:n].numpy(),
        action=z[2 * n :].numpy(),
        costate=costate.numpy(),
        value=0.0 if discount == 1.0 else reward / (1.0 - discount),
        curvature=P,
        feedback=K,
        multipliers=left,
    )


def _riccati(
    motion: np.ndarray, bend: np.ndarray, discount: float, n: int, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return P and the feedback K over the free actions, of ``∂f/∂z`` ``(n, n + m)`` and ``∂²H/∂z²``, z = (s, a)."""
    m = len(free)
    P, K, keep = np.zeros((n, n)), np.zeros((m, n)), n + np.flatnonzero(free)
    for _ in range(RICCATI_STEPS):
        Q = bend + discount * motion.T @ P @ motion
        Q_aa, Q_as = Q[np.ix_(keep, keep)], Q[keep, :n]
        if len(keep) and np.linalg.eigvalsh(Q_aa).max() >= 0.0:
            raise SolverError(
                "At the steady state the return is not strictly concave in the action: it is no optimum, or flat. "
                "Give another guess, or a horizon."
            )
        K[free] = -np.linalg.solve(Q_aa, Q_as)
        new = Q[:n, :n] + Q_as.T @ K[free]
        new = 0.5 * (new + new.T)
        change, size = np.abs(new - P).max(), np.abs(new).max()
        P = new
        if not np.isfinite(size) or size > 1e15:
            break
        if change <= 1e-15 * size:
            return P, K
    raise SolverError(
        "The value around the steady state has no limit as the horizon grows: nothing brings the state there, or "
        "a state that runs away is not discounted enough. Give a horizon."
    )
