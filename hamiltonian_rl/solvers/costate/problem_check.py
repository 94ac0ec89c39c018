"""Whether a problem's functions do what the costate solver relies on: shapes, types, no state of their own, slopes."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems import ControlProblem

NEAR = 0.1  # how far from the first states slopes are compared, so that no kink lies there but by chance
STEP = 1e-6  # of the differences that they are compared with
POINTS = 3
LINE = 257  # points of a line along which jumps are looked for
INSIDE = 0.9  # of the way to the bounds, where a logarithm may begin
looked_at: weakref.WeakSet[type] = weakref.WeakSet()  # classes whose jumps have been told


def check_functions(problem: ControlProblem, states: np.ndarray) -> None:
    """Run the problem's functions once on all initial states ``(B, n)``, and check what they return.

    Raises:
        UsageError: A function fails, returns another shape or type, writes into what it is given, or returns
            something else for the same state; or the discount is no number.
    """
    discount: Any = problem.discount
    if not isinstance(discount, int | float | np.number | torch.Tensor) or not 0.0 <= discount < np.inf:
        raise UsageError(f"discount = {problem.discount!r}; expected a number of at least 0, usually at most 1.")
    for name, step, function in _functions(problem):
        state, action = _inputs(problem, states)
        found = _called(name, step, function, state, action)
        inner = () if name.endswith("reward") else (states.shape[1] if name == "dynamics" else "C",)
        _check_returned(name, found, (len(states), *inner))
        if state._version or action._version:
            raise UsageError(f"The problem's {name} writes into a tensor that it is given; expected a new tensor.")
        pair = [torch.cat([x[:1], x[:1] + NEAR]) for x in (state, action)]
        beside = _called(name, step, function, *pair)
        _check_returned(name, beside, (2, *inner))
        if not torch.allclose(beside[:1], found[:1], rtol=1e-9, atol=1e-9, equal_nan=True):
            raise UsageError(
                f"The problem's {name} returns another thing for the same state when others are beside it: it mixes "
                "the states of a batch, or depends on chance or on what was called before."
            )
    if type(problem) not in looked_at:
        looked_at.add(type(problem))
        tell_jumps(problem, states)


def tell_jumps(problem: ControlProblem, states: np.ndarray) -> None:
    """Warn of a function that jumps along a line through the first state: costates know nothing of what that is worth.

    To torch the derivative of ``round``, ``floor``, ``sign`` and comparisons is zero. A jump is a change from one of
    `LINE` points to the next that is more than three times what the slopes at both explain. The line goes to
    ``1 + |s|`` to both sides, and the actions from -1 to 1, as far as the bounds let them.
    """
    space: Any = problem.action_space
    low, high = (torch.as_tensor(np.clip(bound, -1.0, 1.0), dtype=torch.float64) for bound in (space.low, space.high))
    first = torch.as_tensor(states[0])
    room = np.minimum(states[0] - problem.state_space.low, problem.state_space.high - states[0]).clip(0.0)
    length = torch.as_tensor(np.minimum(1.0 + np.abs(states[0]), INSIDE * room) * np.linspace(1.0, 0.7, len(room)))
    for name, step, function in _functions(problem):
        if name.endswith("constraints"):
            continue
        with torch.enable_grad():
            at = torch.linspace(-1.0, 1.0, LINE, dtype=torch.float64, requires_grad=True)
            state = first + at[:, None] * length
            action = 0.5 * (low + high) + at[:, None] * INSIDE * 0.5 * (high - low)
            value = _called(name, step, function, state, action).reshape(LINE, -1)
            slopes = [_gradient(name, value[:, i], [at])[0] for i in range(value.shape[1])]
        slope, value = torch.stack(slopes, -1).abs(), value.detach()
        change, apart = value.diff(dim=0).abs(), 2.0 / (LINE - 1)
        jump = change > 3.0 * apart * torch.maximum(slope[1:], slope[:-1]) + 1e-6 * (1.0 + value[1:].abs())
        jump &= change.isfinite()
        if name == "dynamics":
            jump[:, torch.tensor(problem.periodic, dtype=torch.bool).nonzero().ravel()] = False  # a full turn is none
        if jump.any():
            where = jump.any(1).nonzero()[0, 0]
            warnings.warn(
                f"{type(problem).__name__}: the {name} jumps near the state {state[where].tolist()} (by "
                f"{change[jump].max():.3g}), as round, floor, sign and comparisons do. Costates follow slopes, and "
                "torch's are zero there: what lies beyond a jump they do not see. A grid does, or state a smooth form.",
                stacklevel=2,
            )
            return


def check_slopes(problem: ControlProblem, states: np.ndarray) -> None:
    """Hold torch's derivatives of the problem's functions against differences of their values near the first states.

    Raises:
        UsageError: A function cannot be differentiated, or its derivative is another one everywhere.
    """
    generator = np.random.default_rng(0)
    state, action = _inputs(problem, np.repeat(states[:1], POINTS, axis=0))
    space: Any = problem.action_space
    low, high = (torch.as_tensor(np.clip(bound, -1.0, 1.0), dtype=torch.float64) for bound in (space.low, space.high))
    state = state + NEAR * (1.0 + state.abs()) * torch.as_tensor(generator.normal(size=state.shape))
    action = low + (high - low) * torch.as_tensor(generator.uniform(0.1, 0.9, action.shape))
    along = [torch.as_tensor(generator.normal(size=x.shape)) * (1.0 + x.abs()) for x in (state, action)]
    for name, step, function in _functions(problem):
        with torch.enable_grad():
            here = [x.clone().requires_grad_() for x in (state, action)]
            value = _called(name, step, function, *here)
            weights = torch.as_tensor(generator.normal(size=value.shape))
            total = (value * weights).flatten(1).sum(1) if value.ndim > 1 else value * weights
            slopes = _gradient(name, total, here)
        slope = (torch.cat(slopes, -1) * torch.cat(along, -1)).sum(-1)
        moved = [
            _called(name, step, function, *(x + sign * STEP * d for x, d in zip((state, action), along, strict=True)))
            for sign in (1.0, -1.0)
        ]
        change = ((moved[0] - moved[1]) * weights).reshape(POINTS, -1).sum(1) / (2.0 * STEP)
        rounding = 1e-9 * value.detach().abs().reshape(POINTS, -1).sum(1) / STEP
        apart = (slope - change).abs() > 1e-3 * (slope.abs() + change.abs()) + rounding
        if apart.all() and torch.isfinite(slope + change).all():
            raise UsageError(
                f"The derivative that torch finds of the problem's {name} is not that of its values ({slope[0]:.6g} "
                f"against {change[0]:.6g}): part of it leaves torch (detach, NumPy, a float), or is chance."
            )


def _functions(problem: ControlProblem) -> list[tuple[str, int | None, Callable[..., Any]]]:
    """Return name, step and function of all that are tried: those of a step at the first and at the last."""
    steps = sorted({0, max((problem.horizon or 0) - 1, 0)})
    found: list[tuple[str, int | None, Callable[..., Any]]] = [
        (name, step, getattr(problem, name)) for name in ("dynamics", "reward", "constraints") for step in steps
    ]
    return found + [(name, None, getattr(problem, name)) for name in ("terminal_reward", "terminal_constraints")]


def _inputs(problem: ControlProblem, states: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    space: Any = problem.action_space
    action = np.clip(np.zeros((len(states), *space.shape)), space.low, space.high)
    return torch.tensor(states), torch.tensor(action)


def _called(
    name: str, step: int | None, function: Callable[..., Any], state: torch.Tensor, action: torch.Tensor
) -> Any:
    try:
        with torch.set_grad_enabled(state.requires_grad):
            return function(state) if step is None else function(state, action, step)
    except Exception as error:  # whatever a user's function may raise
        where = "" if step is None else f" at step {step}"
        raise UsageError(
            f"The problem's {name} fails for {len(state)} states{where}: {type(error).__name__}: {first_line(error)}"
        ) from error


def _gradient(name: str, total: torch.Tensor, variables: list[torch.Tensor]) -> list[torch.Tensor]:
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in variables]
    try:
        found = torch.autograd.grad(total.sum(), variables, allow_unused=True, retain_graph=True)
    except RuntimeError as error:
        raise UsageError(f"The problem's {name} cannot be differentiated: {first_line(error)}") from error
    return [torch.zeros_like(x) if slope is None else slope for x, slope in zip(variables, found, strict=True)]


def _check_returned(name: str, found: Any, shape: tuple[int | str, ...]) -> None:
    got: Any = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    fits = isinstance(got, tuple) and len(got) == len(shape)
    if not fits or any(want not in ("C", have) for want, have in zip(shape, got, strict=True)):
        expected = "({})".format(", ".join(map(str, shape)) + "," * (len(shape) == 1))
        raise UsageError(f"The problem's {name} returned {got} for {shape[0]} states; expected a tensor {expected}.")
    if found.dtype != torch.float64:
        raise UsageError(f"The problem's {name} returned {found.dtype} for float64 states; expected float64.")
