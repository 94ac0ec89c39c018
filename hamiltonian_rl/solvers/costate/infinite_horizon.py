"""Paths without end: a long horizon whose end is paid what a steady state's neighborhood is worth.

An optimal path of an infinite horizon comes to a steady state and stays (the turnpike). Where it is near, the value
is quadratic to second order (`steady_state`), and that is the terminal reward of a horizon N. What the quadratic
misses is of third order in the distance that is left after N steps, and discounted: N is doubled until the value, the
first action and the first costate no longer change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.following import along
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.solvers.costate.problem_check import looked_at
from hamiltonian_rl.solvers.costate.steady_state import SteadyState, check_timeless, steady_state
from hamiltonian_rl.trajectory import Policy

FIRST_HORIZON, LONGEST_HORIZON = 32, 4096
LONGEST_GUESS = 256  # half of the longest path in whose middle a steady state is looked for
STATIONARY = PathStatus.LOCAL_OPTIMUM, PathStatus.STATIONARY
NEAR, PATIENCE = 1e-3, 16  # of steady states: what counts as the same; searches in vain


class SteadyEnd(ControlProblem):
    """A problem whose last state is worth what the neighborhood of the nearest steady state is, for ever.

    ``h(s) = V(s̄) + λ̄ᵀ(s - s̄) + ½ (s - s̄)ᵀ P (s - s̄)`` (`SteadyState`), where the difference of an angle is the
    shorter one; all else is the problem's own.

    Args:
        problem: The problem.
        rests: Its steady states, those that paths come to; one at least.
        horizon: N.
    """

    def __init__(self, problem: ControlProblem, rests: Sequence[SteadyState], horizon: int = FIRST_HORIZON) -> None:
        self.problem, self.rests, self.horizon = problem, tuple(rests), horizon
        for name in ("state_space", "action_space", "discount", "periodic", "start", "spread", "state_names"):
            setattr(self, name, getattr(problem, name))
        self.phase_plane, self.compile_kernels = problem.phase_plane, problem.compile_kernels

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """The problem's own."""
        return self.problem.dynamics(state, action, step)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """The problem's own."""
        return self.problem.reward(state, action, step)

    def constraints(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """The problem's own."""
        return self.problem.constraints(state, action, step)

    def initial_states(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """The problem's own."""
        return self.problem.initial_states(n, generator)

    def observation(self, state: torch.Tensor) -> torch.Tensor:
        """The problem's own."""
        return self.problem.observation(state)

    @property
    def rest(self) -> SteadyState:
        """The steady state of the first path."""
        return self.rests[0]

    def away(self, state: torch.Tensor, rest: SteadyState) -> torch.Tensor:
        """Return ``s - s̄``, of an angle the shorter way round."""
        away = state - torch.as_tensor(rest.state)
        if not any(self.periodic):
            return away
        low, high = (torch.as_tensor(x, dtype=torch.float64) for x in (self.state_space.low, self.state_space.high))
        turn = torch.where(torch.tensor(self.periodic), high - low, 1.0)
        return torch.where(torch.tensor(self.periodic), torch.remainder(away + 0.5 * turn, turn) - 0.5 * turn, away)

    def of_nearest(
        self, state: torch.Tensor, what: Callable[[SteadyState, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return something of the nearest steady state and of the way from it."""
        away = self.away(state, self.rest)
        found, distance = what(self.rest, away), (away**2).sum(-1, keepdim=True)
        for rest in self.rests[1:]:
            away = self.away(state, rest)
            further, other = (away**2).sum(-1, keepdim=True), what(rest, away)
            found, distance = torch.where(further < distance, other, found), torch.minimum(further, distance)
        return found

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``V(s̄) + λ̄ᵀ(s - s̄) + ½ (s - s̄)ᵀ P (s - s̄)``, of the nearest steady state."""

        def worth(rest: SteadyState, away: torch.Tensor) -> torch.Tensor:
            bent = (torch.as_tensor(rest.curvature) * away.unsqueeze(-2)).sum(-1)
            return rest.value + (away * (torch.as_tensor(rest.costate) + 0.5 * bent)).sum(-1, keepdim=True)

        return self.of_nearest(state, worth)[..., 0]


looked_at.add(SteadyEnd)  # from one steady state to the next it jumps, where no path ends


def solve_endless(
    problem: ControlProblem,
    starts: list[Policy | None],
    tol: float,
    solve: Callable[[ControlProblem, int, list[Any], bool], PathSolution],
) -> PathSolution:
    """Return optimal paths of an infinite horizon; `PathSolution.problem` is the `SteadyEnd` at the N it took.

    Args:
        problem: Whose functions do not depend on the step, and whose end, if it has one, counts for nothing.
        starts: Policies to begin with.
        tol: Relative change of value, first action and first costate that counts as none.
        solve: Solves a problem at a horizon from starts, with or without the barrier.

    Raises:
        UsageError: The problem cannot go on without end, or is infinite there.
        SolverError: It has no steady state, as far as was found.
    """
    check_timeless(problem)
    if problem.terminal_constraints(torch.zeros(1, *problem.state_space.shape, dtype=torch.float64)).shape[-1]:
        raise UsageError("The problem has terminal constraints, and an infinite horizon has no end; give horizon=N.")
    horizon = FIRST_HORIZON
    while True:
        guess = solve(problem, 2 * horizon, starts, True)
        try:
            rests = _rests(problem, guess)
            break
        except (SolverError, UsageError):
            if horizon == LONGEST_GUESS:
                raise
        horizon *= 2  # it may take longer to come near a place to rest
    before = None
    settled = np.zeros(len(guess.value), dtype=bool)
    while horizon <= LONGEST_HORIZON and not settled.all():
        ending = SteadyEnd(problem, rests, horizon)
        if before is None:
            # Of the guess the first half: what comes later is drawn to an end that is none. Or the feedback alone.
            found = solve(ending, horizon, [_along(guess, known, ending) for known in (horizon, 0)], True)
        else:
            found = solve(ending, horizon, [_along(before, horizon // 2, ending)], False)
            settled = np.all([_same(x, y, tol) for x, y in zip(_first(before), _first(found), strict=True)], axis=0)
            settled |= ~np.isfinite(found.value)
        before, horizon = found, 2 * horizon
    status = [
        PathStatus.UNSETTLED if state in STATIONARY and not still else state
        for state, still in zip(found.status, settled, strict=True)
    ]
    return replace(found, status=status)


def _rests(problem: ControlProblem, guess: PathSolution) -> list[SteadyState]:
    """Return the different steady states near the middles of long paths, or near the nominal state.

    Newton's method is not asked again where a path is near one that is known, nor after it has found no other
    ``PATIENCE`` times. One that pays something for ever, undiscounted, is no place to rest.

    Raises:
        SolverError: None was found.
        UsageError: One alone, which pays something.
    """
    path, middle = guess.trajectory, guess.trajectory.actions.shape[1] // 2
    found: list[SteadyState] = []
    in_vain = 0
    for state, action in zip(path.states[:, middle], path.actions[:, middle], strict=True):
        if in_vain == PATIENCE:
            break
        if not np.isfinite(state).all() or (found and _is_one_of(SteadyEnd(problem, found), state)):
            continue
        in_vain += 1
        try:
            other = _inside(problem, steady_state(problem, state, action))
        except (SolverError, UsageError):
            continue
        if not found or not _is_one_of(SteadyEnd(problem, found), other.state):
            found.append(other)
            in_vain = 0
    return found or [_inside(problem, steady_state(problem))]


def _is_one_of(ending: SteadyEnd, state: np.ndarray) -> bool:
    """Whether a state is near a known steady state."""
    near = [ending.away(torch.tensor(state), rest).abs().max() for rest in ending.rests]
    return bool(min(near) <= NEAR * (1.0 + np.abs(state).max()))


def _inside(problem: ControlProblem, rest: SteadyState) -> SteadyState:
    """Return a steady state that no constraint touches.

    Raises:
        SolverError: One does.
    """
    held = problem.constraints(torch.tensor(rest.state[None]), torch.tensor(rest.action[None]), 0)
    if held.numel() and float(held.max()) > -1e-9:
        raise SolverError(
            f"The steady state {rest.state.tolist()} is at or beyond a constraint ({float(held.max()):.3g}; expected "
            "below 0): its value is no smooth function there. Give a horizon."
        )
    return rest


def _along(path: PathSolution, known: int, ending: SteadyEnd) -> Policy:
    """Return the policy that follows a path by its feedback for the known steps, then the nearest steady state's."""
    ran = path.trajectory

    def at_rest(state: np.ndarray, step: int) -> np.ndarray:
        def held(rest: SteadyState, away: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(rest.action + away.numpy() @ rest.feedback.T)

        return np.asarray(ending.of_nearest(torch.tensor(state), held))

    return along(ending, ran.states, ran.actions[:, :known], path.feedback, at_rest)


def _first(path: PathSolution) -> tuple[np.ndarray, ...]:
    costates: Any = path.trajectory.costates
    return path.value[:, None], path.trajectory.actions[:, 0], costates[:, 0]


def _same(old: np.ndarray, new: np.ndarray, tol: float) -> np.ndarray:
    return np.asarray((np.abs(new - old) <= tol * (1.0 + np.abs(new))).all(-1))
