"""How a step of the reference solver respects the bounds of the actions: `step_rules` once more, in batched torch.

Notation as in `kernels`, with a batch in front: B paths, n state, m action.
"""

from __future__ import annotations

from typing import Any

import torch

from hamiltonian_rl.solvers.costate.step_rules import DUAL_RANGE, LEANING, SMALLEST_PIVOT, TO_THE_BOUND

Tensor = torch.Tensor


class TorchRule:
    """Bounds held exactly, as by `BoxRule`; or held away by a barrier, as by `BarrierRule`.

    Args:
        space: The actions' Box.
        device: Where the tensors lie.
        has_barrier: Whether they are held away.
    """

    def __init__(self, space: Any, device: torch.device, *, has_barrier: bool) -> None:
        self.low, self.high = (torch.as_tensor(x, dtype=torch.float64, device=device) for x in (space.low, space.high))
        self.has_barrier = has_barrier

    def start(self, guess: Tensor, barrier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return first actions ``(B, N, m)`` within the bounds, a barrier's a hundredth away, and their duals."""
        if not self.has_barrier:
            return guess.clamp(self.low, self.high), torch.zeros_like(guess), torch.zeros_like(guess)
        margin = 0.01 * (self.high - self.low).clamp(max=100.0)
        actions = torch.minimum(torch.maximum(guess, self.low + margin), self.high - margin)
        weight = barrier[:, None, None]
        return actions, weight / (actions - self.low), weight / (self.high - actions)

    def moved(self, action: Tensor, change: Tensor) -> Tensor:
        """Return actions after a change: clipped, or of the barrier short of their bounds."""
        if not self.has_barrier:
            return (action + change).clamp(self.low, self.high)
        lowest = action - TO_THE_BOUND * (action - self.low)
        highest = action + TO_THE_BOUND * (self.high - action)
        return torch.minimum(torch.maximum(action + change, lowest), highest)

    def reward(self, action: Tensor, barrier: Tensor) -> Tensor | float:
        """Return ``b Σ log(slack)``; zero without a barrier."""
        if not self.has_barrier:
            return 0.0
        below = torch.where(torch.isfinite(self.low), action - self.low, 1.0)
        above = torch.where(torch.isfinite(self.high), self.high - action, 1.0)
        return barrier * (below.log() + above.log()).sum(-1)

    def moved_duals(
        self, actions: Tensor, below: Tensor, above: Tensor, barrier: Tensor, moved: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the dual variables of the bounds below and above after actions ``(B, N, m)`` have moved."""
        if not self.has_barrier:
            return below, above
        barrier, change = barrier[:, None, None], moved - actions
        found = []
        for dual, slack, new_slack, sign in (
            (below, actions - self.low, moved - self.low, 1.0),
            (above, self.high - actions, self.high - moved, -1.0),
        ):
            stepped = torch.maximum((barrier - dual * change * sign) / slack, (1.0 - TO_THE_BOUND) * dual)
            central = barrier / new_slack
            found.append(torch.minimum(torch.maximum(stepped, central / DUAL_RANGE), central * DUAL_RANGE))
        return found[0], found[1]

    def model(self, part: list[Tensor], slope: Tensor, Q_aa: Tensor, barrier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return slope and curvature in the action, with the barrier's own, and the residual of Eq. 15."""
        action, below, above = part
        if not self.has_barrier:
            moved = (action + slope).clamp(self.low, self.high) - action
            return slope, Q_aa, moved.abs().amax(-1)
        Q_a, total, residual = slope, slope.clone(), torch.zeros_like(barrier)
        for dual, slack, sign in ((below, action - self.low, 1.0), (above, self.high - action, -1.0)):
            Q_a = Q_a + sign * barrier[:, None] / slack
            Q_aa = Q_aa - torch.diag_embed(dual / slack)
            total = total + sign * dual
            finite = torch.isfinite(slack)
            off = torch.where(finite, dual * torch.where(finite, slack, 0.0) - barrier[:, None], 0.0)
            residual = torch.maximum(residual, off.abs().amax(-1))
        return Q_a, Q_aa, torch.maximum(residual, total.abs().amax(-1))

    def solve(
        self, action: Tensor, slope: Tensor, Q_a: Tensor, Q_as: Tensor, Q_aa: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the step within its bounds, its feedback, and whether the model is concave in the free actions."""
        m = action.shape[-1]
        curvature = -Q_aa + shift[:, None, None] * torch.eye(m, dtype=Q_aa.dtype, device=Q_aa.device)
        held, place = torch.zeros_like(action, dtype=torch.bool), torch.zeros_like(action)
        if self.has_barrier:
            return _solve_free(held, place, Q_a, Q_as, curvature)
        held = ((action <= self.low) & (slope <= 0.0)) | ((action >= self.high) & (slope >= 0.0))
        d, K, solved = _solve_free(held, place, Q_a, Q_as, curvature)
        for _ in range(1 if m == 1 else 2):
            below, above = d < self.low - action, d > self.high - action
            bound = torch.where(below, self.low - action, torch.where(above, self.high - action, 0.0))
            place, held = torch.where(held, place, bound), held | below | above
            d, K, solved = _solve_free(held, place, Q_a, Q_as, curvature)
        return d, K, solved

    def judged(self, action: Tensor, slope: Tensor, Q_aa: Tensor) -> Tensor:
        """Return the curvature by which a maximum is told, as `BoxRule.judged`."""
        at_low, at_high, fixed = action <= self.low, action >= self.high, self.low == self.high
        at_bound = at_low | at_high
        leaning = (at_low & (slope < -LEANING)) | (at_high & (slope > LEANING)) | fixed
        judged = torch.where(at_bound[:, :, None] | at_bound[:, None, :], 0.0, Q_aa)
        return torch.where(torch.diag_embed(leaning), -torch.inf, judged)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return ``matrix @ vector`` of each path."""
    return (matrix @ vector[..., None])[..., 0]


def _solve_free(
    held: Tensor, place: Tensor, Q_a: Tensor, Q_as: Tensor, curvature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve ``curvature d = Q_a`` and ``curvature K = Q_as`` over the free actions; the held ones stay in place."""
    free = ~held
    pull = times(curvature, torch.where(held, place, 0.0))
    right = torch.cat([torch.where(held, place, Q_a - pull)[..., None], Q_as * free[..., None]], -1)
    both = free[:, :, None] & free[:, None, :]
    matrix = torch.where(both, curvature, torch.diag_embed(held.to(curvature.dtype)))
    solution, sound = _cholesky_solve(matrix, right)
    return solution[..., 0], solution[..., 1:], sound


def _cholesky_solve(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``matrix⁻¹ right`` and whether the matrix is positive definite; where it is not, as `step_rules` does.

    What an unsound solve returns still says which actions go to their bounds, and without those it may be sound:
    another factorization would take other paths.
    """
    size = matrix.shape[-1]
    factor, inverse, result = torch.zeros_like(matrix), torch.empty_like(matrix[..., 0]), right.clone()
    sound = torch.ones_like(matrix[:, 0, 0], dtype=torch.bool)
    for j in range(size):
        pivot = matrix[:, j, j] - (factor[:, j, :j] ** 2).sum(-1)
        good = pivot > SMALLEST_PIVOT
        sound, inverse[:, j] = sound & good, 1.0 / torch.where(good, pivot, 1.0).sqrt()
        rest = matrix[:, j + 1 :, j] - (factor[:, j + 1 :, :j] * factor[:, j, None, :j]).sum(-1)
        factor[:, j + 1 :, j] = rest * inverse[:, j, None]
    for i in range(size):
        result[:, i] = (result[:, i] - (factor[:, i, :i, None] * result[:, :i]).sum(1)) * inverse[:, i, None]
    for i in reversed(range(size)):
        below = (factor[:, i + 1 :, i, None] * result[:, i + 1 :]).sum(1)
        result[:, i] = (result[:, i] - below) * inverse[:, i, None]
    return result, sound
