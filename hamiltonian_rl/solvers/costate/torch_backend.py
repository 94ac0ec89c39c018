"""The reference solver: differential dynamic programming in plain batched torch, for any problem.

It does what `lanes` does, written once more and independently: every path of the batch takes its trial, its
backward pass and its step at the same time, on the CPU or a GPU.

Notation as in `kernels`, with a batch in front: B paths, N steps, n state, m action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.torch_derivatives import Expansion, Multipliers, expand, expand_end
from hamiltonian_rl.solvers.costate.torch_rule import TorchRule, times

Tensor = torch.Tensor


@dataclass
class _Paths:
    """The state of the iteration: one entry a path."""

    states: Tensor
    actions: Tensor
    below: Tensor
    above: Tensor
    rewards: Tensor
    value: Tensor
    barrier: Tensor
    shift: Tensor
    growth: Tensor
    bent: Tensor
    far: Tensor


@dataclass
class _Model:
    """What a backward pass finds."""

    costates: Tensor
    d: Tensor
    K: Tensor
    curvature: Tensor
    first: Tensor
    second: Tensor
    residual: Tensor
    sound: Tensor
    plain: Tensor


class TorchSolver:
    """One problem's solver; `solve` has the interface of `lane_batches.solve_lanes`."""

    def __init__(
        self, problem: Any, rule: str, multipliers: Multipliers, settings: Settings, *, stepwise: bool
    ) -> None:
        self.augmented, self.settings, self.multipliers, self.stepwise = (
            Augmented(problem),
            settings,
            multipliers,
            stepwise,
        )
        self.discount, device = problem.discount, multipliers.penalty.device
        self.rule = TorchRule(problem.action_space, device, has_barrier=rule == "barrier")

    def solve(self, initial: Tensor, path: Tensor, guess: Tensor) -> Any:
        """Return a `lanes.Result` of tensors."""
        paths, extra = self._start(initial, path, guess)
        count, _, m = guess.shape
        running = torch.isfinite(paths.value)
        code = torch.where(running, lanes.OUT_OF_ITERATIONS, lanes.NOT_FINITE)
        iterations = torch.zeros(count, dtype=torch.int64, device=guess.device)
        before, stalled = torch.full_like(paths.value, -torch.inf), torch.zeros_like(iterations)
        model = self._backward(paths)
        for iteration in range(self.settings.max_iterations):
            iterations[running] = iteration + 1 + extra[running]
            done = running & self._done(paths, model)
            # Stationary by a shifted model: once more without the shift, whose curvature certifies nothing.
            again = running & ~done & self._stationary(model)
            gained = paths.value - before > lanes.SMALL_GAIN * (1.0 + paths.value.abs())
            stalled = torch.where(again, stalled, torch.where(gained, 0, stalled + 1))
            before = torch.where(again, before, paths.value)
            stuck = running & ~again & (stalled >= lanes.PATIENCE)
            code[done], code[stuck & ~done] = lanes.DONE, lanes.STUCK
            running = running & ~done & ~stuck
            if not running.any() or iteration + 1 == self.settings.max_iterations:
                break
            lowered = self._lower_barrier(paths, model, running)
            before, stalled = torch.where(lowered, -torch.inf, before), torch.where(lowered, 0, stalled)
            paths.shift = torch.where(again, 0.0, paths.shift)
            self._search(paths, model, running & ~lowered & ~again)
            found = self._backward(paths)
            for name in vars(model):
                old, new = getattr(model, name), getattr(found, name)
                setattr(model, name, torch.where(running.view(-1, *[1] * (new.ndim - 1)), new, old))
        code[~torch.isfinite(paths.states).flatten(1).all(1)] = lanes.NOT_FINITE  # of states that count for nothing
        rows, columns = np.tril_indices(m)
        return lanes.Result(
            states=paths.states,
            actions=paths.actions,
            rewards=paths.rewards,
            costates=model.costates,
            feedback=model.K.flatten(2),
            curvature=model.curvature[..., rows, columns],
            value=paths.value,
            residual=model.residual,
            iterations=iterations,
            code=code,
        )

    def _start(self, initial: Tensor, path: Tensor, guess: Tensor) -> tuple[_Paths, Tensor]:
        """Return the first paths, followed by feedback where their states are given, and the passes that took."""
        first = torch.full_like(initial[:, 0], self.settings.first_barrier)
        actions, below, above = self.rule.start(guess, first)
        count, horizon, m = guess.shape
        blank = initial.new_zeros
        paths = _Paths(
            initial[:, None].repeat(1, horizon + 1, 1),
            actions,
            below,
            above,
            blank(count, horizon),
            blank(count),
            first,
            blank(count),
            blank(count) + 1.0,
            torch.zeros_like(first, dtype=torch.bool),
            blank(count, initial.shape[1]),
        )
        K, passes = blank(count, horizon, m, initial.shape[1]), blank(count, dtype=torch.int64)
        follow = torch.isfinite(path).flatten(1).all(1)
        paths.states = torch.where(follow[:, None, None], path, paths.states)
        paths.states[:, 0] = initial
        while follow.any():
            model = self._backward(paths)
            passes += follow
            sound = model.sound & torch.isfinite(model.first)
            K = torch.where((follow & sound)[:, None, None, None], model.K, K)
            follow = follow & ~sound & (paths.shift < lanes.LARGEST_FIRST_SHIFT)
            self._raise_shift(paths, follow)
        paths.shift, paths.growth = blank(count), blank(count) + 1.0
        trial = self._forward(paths, blank(count, horizon, m), K, blank(count))
        paths.states, paths.rewards, paths.value = trial.states, trial.rewards, trial.value
        return paths, passes

    def _forward(self, paths: _Paths, d: Tensor, K: Tensor, size: Tensor, gaps: Tensor | None = None) -> _Paths:
        """Return the trial paths ``a + α d + K (s - path)`` and their values; of gaps ``1 - α`` is left."""
        state, total, weight = paths.states[:, 0], torch.zeros_like(paths.value), 1.0
        states, moved, paid = [state], torch.empty_like(paths.actions), torch.zeros_like(paths.actions[..., 0])
        for k in range(d.shape[1]):
            change = size[:, None] * d[:, k] + (K[:, k] @ (state - paths.states[:, k])[..., None])[..., 0]
            action = self.rule.moved(paths.actions[:, k], change)
            weights = self.multipliers.weights[:, k]
            state, reward = self.augmented.step(state, action, k, weights, self.multipliers.penalty)
            total = total + weight * (reward + self.rule.reward(action, paths.barrier))
            weight *= self.discount
            state = state if gaps is None else state - (1.0 - size[:, None]) * gaps[:, k]
            states.append(state)
            moved[:, k], paid[:, k] = action, reward
        total = total + weight * self.augmented.end(state, self.multipliers.end_weights, self.multipliers.penalty)
        below, above = self.rule.moved_duals(paths.actions, paths.below, paths.above, paths.barrier, moved)
        return replace(
            paths, states=torch.stack(states, 1), actions=moved, below=below, above=above, rewards=paid, value=total
        )

    def _backward(self, paths: _Paths, gaps: Tensor | None = None) -> _Model:
        """Return costates (Eq. 14), Riccati's model of V, and the steps to take, over gaps ``f(s, a) - s'`` if any."""
        expansion = expand(self.augmented, paths.states, paths.actions, self.multipliers, stepwise=self.stepwise)
        n, horizon = paths.states.shape[-1], paths.actions.shape[1]
        costate, (P, p, plain) = expansion.end_slope, self._end_model(paths, expansion)
        zero = torch.zeros_like(paths.value)
        first, second, residual, sound = zero, zero, zero, torch.ones_like(zero, dtype=torch.bool)
        count, _, m = paths.actions.shape
        costates, d, K = [costate], torch.empty_like(paths.actions), zero.new_empty(count, horizon, m, n)
        bends = zero.new_empty(count, horizon, m, m)
        for k in reversed(range(horizon)):
            p = p if gaps is None else p + times(P, gaps[:, k])
            slope, ahead, curvature = self._quadratic(expansion, k, costate, P, p)
            Q_ss, Q_as, Q_aa = curvature[:, :n, :n], curvature[:, n:, :n], curvature[:, n:, n:]
            part = [x[:, k] for x in (paths.actions, paths.below, paths.above)]
            here, Q_aa, off = self.rule.model(part, slope[:, n:], Q_aa, paths.barrier)
            Q_a = here + ahead[:, n:]
            step, gain, solved = self.rule.solve(part[0], slope[:, n:], Q_a, Q_as, Q_aa, paths.shift)
            transposed = gain.transpose(1, 2)
            P = Q_ss + transposed @ Q_aa @ gain + transposed @ Q_as + Q_as.transpose(1, 2) @ gain
            P = 0.5 * (P + P.transpose(1, 2))
            p = ahead[:, :n] + times(transposed, ahead[:, n:])
            p = p + times(transposed @ Q_aa + Q_as.transpose(1, 2), step)
            costate = slope[:, :n] + times(transposed, here)
            first = first * self.discount + (step * Q_a).sum(-1)
            second = second * self.discount + 0.5 * (step * times(Q_aa, step)).sum(-1)
            residual, sound = torch.maximum(residual, off), sound & solved
            costates.append(costate)
            d[:, k], K[:, k], bends[:, k] = step, gain, self.rule.judged(part[0], slope[:, n:], Q_aa)
        return _Model(torch.stack(costates[::-1], 1), d, K, bends, first, second, residual, sound, plain)

    def _end_model(self, paths: _Paths, expansion: Expansion) -> tuple[Tensor, Tensor, Tensor]:
        """Return curvature and slope (beyond λ) of the end's model, after a failed full step as `lanes` does.

        And whether the model is the path's own, neither shifted nor bent.
        """
        P, p, plain = expansion.end_curvature, torch.zeros_like(expansion.end_slope), paths.shift == 0.0
        if paths.bent.any():
            slope, far_P = expand_end(self.augmented, paths.far, self.multipliers)
            bent = paths.bent & (_trace(far_P) < _trace(P))
            use, plain = bent[:, None], plain & ~bent
            far_p = slope - expansion.end_slope + times(far_P, paths.states[:, -1] - paths.far)
            P, p = torch.where(use[..., None], far_P, P), torch.where(use, far_p, p)
            paths.bent = torch.zeros_like(paths.bent)
        return P, p, plain

    def _quadratic(self, expansion: Expansion, k: int, costate: Tensor, P: Tensor, p: Tensor) -> tuple[Tensor, ...]:
        """Return the slope of H, what the model ahead adds to it, and the curvature, in z = (s, a)."""
        jacobian = expansion.jacobian[:, k]
        transposed = jacobian.transpose(1, 2)
        slope = expansion.reward_slope[:, k] + self.discount * times(transposed, costate)
        bent = (expansion.next_curvature[:, k] * (costate + p)[:, :, None, None]).sum(1)
        curvature = expansion.reward_curvature[:, k] + self.discount * (bent + transposed @ P @ jacobian)
        return slope, self.discount * times(transposed, p), curvature

    def _done(self, paths: _Paths, model: _Model) -> Tensor:
        if self.rule.has_barrier:
            last = self.settings.last_barrier
            return (paths.barrier <= last) & (model.residual < 10.0 * last)
        return self._stationary(model) & model.plain

    def _stationary(self, model: _Model) -> Tensor:
        return (model.residual < self.settings.tol) & (not self.rule.has_barrier)

    def _lower_barrier(self, paths: _Paths, model: _Model, running: Tensor) -> Tensor:
        """Lower the barrier of the paths that are done with theirs, and say which those are."""
        if not self.rule.has_barrier:
            return torch.zeros_like(running)
        lower = running & (model.residual < 10.0 * paths.barrier) & (paths.barrier > self.settings.last_barrier)
        next_barrier = torch.minimum(0.2 * paths.barrier, paths.barrier**1.5).clamp(min=self.settings.last_barrier)
        paths.barrier = torch.where(lower, next_barrier, paths.barrier)
        if lower.any():
            still = torch.zeros_like(model.d), torch.zeros_like(model.K), torch.zeros_like(paths.value)
            paths.value = torch.where(lower, self._forward(paths, *still).value, paths.value)
        return lower

    def _search(self, paths: _Paths, model: _Model, running: Tensor) -> None:
        """Search every path's line; raise the shift where the model is not concave, or no step serves."""
        usable = model.sound & torch.isfinite(model.first)
        self._raise_shift(paths, running & ~usable)
        waiting, size = running & usable, torch.ones_like(paths.value)
        d, K = torch.nan_to_num(model.d), torch.nan_to_num(model.K)
        for number in range(lanes.TRIALS):
            if not waiting.any():
                return
            trial = self._forward(paths, d, K, size)
            taken = waiting & self._accepted(paths, model, size, trial.value)
            if number == 0:
                paths.bent, paths.far = waiting & ~taken, trial.states[:, -1]
            calmer = taken & (size >= 0.5)
            growth = torch.where(calmer, (paths.growth / 2.0).clamp(max=0.5), paths.growth)
            shift = torch.where(calmer, paths.shift * growth, paths.shift)
            paths.growth, paths.shift = growth, torch.where(shift >= lanes.LEAST_SHIFT, shift, 0.0)
            for name in ("states", "actions", "below", "above", "rewards", "value"):
                old, new = getattr(paths, name), getattr(trial, name)
                setattr(paths, name, torch.where(taken.view(-1, *[1] * (new.ndim - 1)), new, old))
            waiting = waiting & ~taken
            size = torch.where(waiting, size * lanes.SHORTER, size)
        self._raise_shift(paths, waiting)

    def _accepted(self, paths: _Paths, model: _Model, size: Tensor, value: Tensor) -> Tensor:
        expected = size * model.first + size * size * model.second
        gain, scale = value - paths.value, 1.0 + paths.value.abs()
        near = expected.abs() < 1e-13 * scale
        enough = torch.where(near, gain >= -1e-14 * scale, gain >= lanes.SUFFICIENT * expected.clamp(min=0.0))
        return torch.isfinite(value) & enough

    def _raise_shift(self, paths: _Paths, which: Tensor) -> None:
        growth = torch.where(which, (paths.growth * 2.0).clamp(min=2.0), paths.growth)
        paths.shift = torch.where(which, (paths.shift * growth).clamp(min=lanes.FIRST_SHIFT), paths.shift)
        paths.growth = growth


def _trace(matrix: Tensor) -> Tensor:
    return torch.diagonal(matrix, dim1=1, dim2=2).sum(-1)


def solve_torch(problem: Any, rule: str, batch: Any, settings: Settings, *, stepwise: bool, device: str = "cpu") -> Any:
    """Solve a `lanes.Batch`, and return a `lanes.Result` of NumPy arrays."""

    def tensor(x: np.ndarray) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float64, device=device)

    multipliers = Multipliers(tensor(batch.weights), tensor(batch.end_weights), tensor(batch.penalty))
    with torch.no_grad():
        solver = TorchSolver(problem, rule, multipliers, settings, stepwise=stepwise)
        result = solver.solve(tensor(batch.initial), tensor(batch.path), tensor(batch.guess))
    return lanes.Result(*(x.cpu().numpy() for x in result))
