"""Pontryagin's conditions around optimal paths, linear: how a path answers a small change of the problem.

Notation, at one step: ``A, B`` Jacobians of f in state and action, ``P`` curvature of the value, ``K`` feedback,
``c`` constraints and ``C`` their Jacobian, ``z = (s, a)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from hamiltonian_rl.errors import SolverError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.backend import takes_all_steps
from hamiltonian_rl.solvers.costate.torch_derivatives import Expansion, Multipliers, expand, jacobian, run, slopes

Tensor = torch.Tensor

PENALTY = 1e5  # of constraints that bind; each pass leaves about so little of their error
NO_PENALTY = 1e-12  # in the problem's own reward: only the linear system is penalized, around what is exact
PASSES, ENOUGH = 30, 1e-12
PRESSING = 1e-7  # least multiplier, and least slack, that says beyond doubt whether a constraint binds


@dataclass(frozen=True)
class Residuals:
    """What is left of Eq. 13-15 and of the constraints that bind.

    Attributes:
        start: ``s_0`` as asked for less ``s_0``, ``(B, n)``.
        dynamics: ``f(z_k) - s_{k+1}``, ``(B, N, n)``.
        slope: ``∂H/∂s - λ_k`` and ``∂H/∂a``, ``(B, N, n + m)``.
        end_slope: ``∂h/∂s - λ_N``, ``(B, n)``.
        excess: ``c`` where it binds, else zero, ``(B, N, C)``.
        end_excess: ``c_N``, ``(B, C')``.
    """

    start: Tensor
    dynamics: Tensor
    slope: Tensor
    end_slope: Tensor
    excess: Tensor
    end_excess: Tensor


class LinearizedPath:
    """Paths that satisfy Eq. 13-15, and the linear system that those are for small changes.

    Attributes:
        undecided: Which paths have a constraint that neither presses nor has slack, ``(B,)``.
    """

    def __init__(
        self,
        problem: ControlProblem,
        states: Tensor,
        actions: Tensor,
        costates: Tensor,
        multipliers: Tensor,
        end_multipliers: Tensor,
    ) -> None:
        self.augmented, self.discount = Augmented(problem), float(problem.discount)
        self.states, self.actions, self.costates = states, actions, costates
        self.stepwise = not takes_all_steps(problem, states[:, 0].numpy())
        self.binding = multipliers >= PRESSING
        penalty = torch.full_like(states[:, 0, 0], NO_PENALTY)
        # A multiplier that is only nearly zero belongs to no constraint that binds.
        self.multipliers = Multipliers(torch.where(self.binding, multipliers, 0.0), end_multipliers, penalty)
        space: Any = problem.action_space
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in (space.low, space.high))
        self.free = (actions > low) & (actions < high)
        excess = self._constraints()[2]
        self.undecided = (~self.binding & (excess > -PRESSING)).flatten(1).any(1)
        self.C, self.end_C = (x.detach() for x in self._constraint_jacobians())
        self.expansion = expand(self.augmented, states, actions, self.multipliers, stepwise=self.stepwise)
        with torch.no_grad():
            self.values, self.gains, self.factors = self._sweep(self.expansion)
            self.passes = self._count_passes()

    def newton_step(self, start: Tensor) -> tuple[Tensor, ...]:
        """Return the steps of states, actions, costates and multipliers to where Eq. 13-15 hold again.

        They keep the graph of everything that the problem's functions use: the step is linear in the residuals of
        Eq. 13-15, and those depend on it.

        Args:
            start: By how much the initial states have moved, ``(B, n)``.
        """
        with torch.enable_grad():
            z, last, excess, end_excess = self._constraints()
            n = last.shape[-1]
            ahead, rewards = run(self.augmented, z[..., :n], z[..., n:], self.multipliers, stepwise=self.stepwise)
            H = rewards + self.augmented.problem.discount * (ahead * self.costates[:, 1:]).sum(-1)
            end = self.augmented.end(last, self.multipliers.end_weights, self.multipliers.penalty)
            held = torch.cat([self.costates[:, :-1], torch.zeros_like(self.actions)], -1)
            slope, end_slope = slopes(H, z) - held, slopes(end, last) - self.costates[:, -1]
            off = ahead - self.states[:, 1:]
            return self._solve_constrained(
                Residuals(start, off, slope, end_slope, torch.where(self.binding, excess, 0.0), end_excess), self.passes
            )[:5]

    def _constraints(self) -> tuple[Tensor, ...]:
        """Return z, the last state, and the constraints there, as functions of both."""
        z = torch.cat([self.states[:, :-1], self.actions], -1).detach().requires_grad_()
        last, n = self.states[:, -1].detach().requires_grad_(), self.states.shape[-1]
        problem = self.augmented.problem
        steps = [problem.constraints(z[:, k, :n], z[:, k, n:], k) for k in range(z.shape[1])]
        excess = torch.stack(steps, 1) if steps else z.new_zeros(len(z), 0, self.augmented.sizes[2])
        return z, last, excess, problem.terminal_constraints(last)

    def _constraint_jacobians(self) -> tuple[Tensor, Tensor]:
        """Return C where constraints bind, else zero, ``(B, N, C, n + m)``, and of the end ``(B, C', n)``."""
        with torch.enable_grad():
            z, last, excess, end_excess = self._constraints()
            C = jacobian(excess, z) if excess.shape[-1] else z.new_zeros(*z.shape[:2], 0, z.shape[-1])
            end_C = jacobian(end_excess, last) if end_excess.shape[-1] else z.new_zeros(len(z), 0, last.shape[-1])
        return torch.where(self.binding[..., None], C, 0.0), end_C

    def _sweep(self, expansion: Expansion) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return P of every time, and K and the factor of ``-Q_aa`` of every step: Riccati's recursion."""
        n = self.states.shape[-1]
        P = expansion.end_curvature - PENALTY * self.end_C.transpose(1, 2) @ self.end_C
        values, gains, factors = [P], [], []
        for k in reversed(range(self.actions.shape[1])):
            transposed, costate = expansion.jacobian[:, k].transpose(1, 2), self.costates[:, k + 1]
            bent = (expansion.next_curvature[:, k] * costate[:, :, None, None]).sum(1)
            Q = expansion.reward_curvature[:, k] + self.discount * (bent + transposed @ P @ expansion.jacobian[:, k])
            Q = Q - PENALTY * self.C[:, k].transpose(1, 2) @ self.C[:, k]
            free = self.free[:, k]
            both = free[:, :, None] & free[:, None, :]
            curvature = torch.where(both, -Q[:, n:, n:], torch.diag_embed((~free).double()))
            factor, failed = torch.linalg.cholesky_ex(curvature)
            if failed.any():
                raise SolverError(
                    f"Path {int(failed.nonzero()[0])} is no strict maximum at step {k} once the constraints that do "
                    "not bind are left out: it has no derivative."
                )
            K = torch.cholesky_solve(Q[:, n:, :n] * free[..., None], factor)
            P = Q[:, :n, :n] + Q[:, :n, n:] @ K
            P = 0.5 * (P + P.transpose(1, 2))
            values.append(P)
            gains.append(K)
            factors.append(factor)
        return values[::-1], gains[::-1], factors[::-1]

    def _solve(self, left: Residuals) -> tuple[Tensor, Tensor, Tensor]:
        """Return the steps of states, actions and costates that make residuals of Eq. 13-15 vanish, in first order."""
        n, p = self.states.shape[-1], left.end_slope
        slopes_ahead, d = [p], []
        for k in reversed(range(self.actions.shape[1])):
            transposed = self.expansion.jacobian[:, k].transpose(1, 2)
            ahead = _times(self.values[k + 1], left.dynamics[:, k]) + p
            q = left.slope[:, k] + self.discount * _times(transposed, ahead)
            q_a = q[:, n:] * self.free[:, k]
            d.append(torch.cholesky_solve(q_a[..., None], self.factors[k])[..., 0])
            p = q[:, :n] + _times(self.gains[k].transpose(1, 2), q_a)
            slopes_ahead.append(p)
        states, actions = [left.start], []
        for k in range(self.actions.shape[1]):
            actions.append(d[-1 - k] + _times(self.gains[k], states[k]))
            z = torch.cat([states[k], actions[k]], -1)
            states.append(_times(self.expansion.jacobian[:, k], z) + left.dynamics[:, k])
        costates = [_times(P, s) + p for P, s, p in zip(self.values, states, reversed(slopes_ahead), strict=True)]
        return (
            torch.stack(states, 1),
            torch.stack(actions, 1) if actions else torch.zeros_like(self.actions),
            torch.stack(costates, 1),
        )

    def _solve_constrained(self, left: Residuals, passes: int) -> tuple[Tensor, ...]:
        """Return those steps, of multipliers too, and what is left of the constraints (the method of multipliers)."""
        raised, end_raised = torch.zeros_like(left.excess), torch.zeros_like(left.end_excess)
        for _ in range(passes):
            pull, end_pull = raised + PENALTY * left.excess, end_raised + PENALTY * left.end_excess
            slope = left.slope - (self.C * pull[..., None]).sum(-2)
            end_slope = left.end_slope - (self.end_C * end_pull[..., None]).sum(-2)
            states, actions, costates = self._solve(replace(left, slope=slope, end_slope=end_slope))
            z = torch.cat([states[:, :-1], actions], -1)
            excess = left.excess + (self.C * z[..., None, :]).sum(-1)
            end_excess = left.end_excess + (self.end_C * states[:, -1, None, :]).sum(-1)
            raised, end_raised = raised + PENALTY * excess, end_raised + PENALTY * end_excess
        return states, actions, costates, raised, end_raised, excess, end_excess

    def _count_passes(self) -> int:
        """Return how many passes make any residual of the constraints vanish; one where there are none."""
        if not self.binding.any() and not self.end_C.numel():
            return 1
        generator = torch.Generator().manual_seed(0)
        states, z = self.states, torch.cat([self.states[:, :-1], self.actions], -1)
        shapes = states[:, 0], states[:, 1:], z, states[:, -1], self.C[..., 0], self.end_C[..., 0]
        probe = Residuals(*(torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in shapes))
        probe = replace(probe, excess=torch.where(self.binding, probe.excess, 0.0))
        for passes in range(1, PASSES + 1):
            found = self._solve_constrained(probe, passes)
            scale = 1.0 + max(float(x.abs().max()) for x in found[:2])
            if max(float(x.abs().max()) for x in found[5:] if x.numel()) <= ENOUGH * scale:
                return passes
        raise SolverError(
            "The constraints that bind depend on each other, so their multipliers are not unique: the path has no "
            "derivative."
        )


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
