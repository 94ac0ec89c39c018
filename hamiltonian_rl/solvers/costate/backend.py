"""Which code solves: machine code of the problem where it can be traced, torch where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.kernel_cache import Compiled, compiled, unchanged
from hamiltonian_rl.solvers.costate.lane_batches import solve_lanes
from hamiltonian_rl.solvers.costate.problem_check import check_functions, check_slopes
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.torch_backend import solve_torch
from hamiltonian_rl.tracing.trace import UntracedOperation

BACKENDS = ("auto", "compiled", "torch")


class Phase:
    """A call ``phase(rule, batch, settings, into)`` that solves one phase of a batch; `name` says by which code.

    Attributes:
        name: ``"compiled"`` or ``"torch"``.
        problem: What it solves.
        constraints: How many the problem has, of a step and of the end.
        near_kinks: Says which paths of a result come close to a kink; of functions that are not traced any may.
    """

    def __init__(
        self,
        name: str,
        problem: ControlProblem,
        constraints: tuple[int, int],
        solve: Callable[[str, Any, Settings, Any], Any],
        *,
        near_kinks: Callable[[Any, Any], np.ndarray] = lambda result, batch: np.ones(len(result.code), dtype=bool),
    ) -> None:
        self.name, self.problem, self.constraints, self._solve = name, problem, constraints, solve
        self.near_kinks = near_kinks

    def __call__(self, rule: str, batch: Any, settings: Settings, into: Any = None) -> Any:
        """Return a `lanes.Result`, which may use the arrays of another (`solve_lanes`)."""
        return self._solve(rule, batch, settings, into)


def prepare(problem: ControlProblem) -> Phase:
    """Return the compiled code of a problem, to be given to `solve_costate` as its ``backend`` again and again.

    Whether kept code is still that of the problem is checked in each call otherwise, which takes longer than a small
    problem's solution. Here the caller answers for it: what the problem's functions read must not change.

    Raises:
        UsageError: The problem cannot be compiled, or its functions fail.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> from hamiltonian_rl.solvers.costate import solve_costate
        >>> regulator = problem("hrl/LinearQuadratic-v0")
        >>> ready = prepare(regulator)
        >>> [round(float(solve_costate(regulator, [x, 0.0], backend=ready).value[0]), 3) for x in (1.0, 2.0)]
        [-9.078, -36.31]
    """
    space: Any = problem.state_space
    return choose_backend(problem, np.clip(np.zeros((1, *space.shape)), space.low, space.high), "compiled", "cpu")


def choose_backend(problem: ControlProblem, states: np.ndarray, backend: str, device: str) -> Phase:
    """Return the back end for a problem: compiled unless it would rather not; where it cannot be, say so once.

    Raises:
        UsageError: The name is unknown; ``"compiled"`` was asked for and cannot be; the problem's functions fail.
    """
    if backend not in BACKENDS:
        raise UsageError(f'backend = "{backend}"; expected one of {", ".join(BACKENDS)}.')
    if device != "cpu":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise UsageError(f"device = {device!r} cannot be used: {first_line(error)}") from error
        if backend == "compiled":
            raise UsageError(f"device = {device!r}; the compiled back end runs on the CPU. Take backend='torch'.")
    compile_it = device == "cpu" and (backend == "compiled" or (backend == "auto" and problem.compile_kernels))
    kept, tried = unchanged(problem) if compile_it else None, (problem.horizon, len(states))
    if kept is None or tried not in kept.checked:
        check_functions(problem, states)
    if compile_it:
        try:
            kept = kept or compiled(problem)
            kept.checked.add(tried)
            return _compiled(problem, kept)
        except UntracedOperation as error:
            if backend == "compiled":
                raise UsageError(f"{first_line(error)} Take backend='torch'.") from error
            warnings.warn(
                f"{type(problem).__name__}: {first_line(error)} Solved in torch instead: slower.", stacklevel=3
            )
    check_slopes(problem, states)  # what is traced has been checked
    stepwise, augmented = not takes_all_steps(problem, states), Augmented(problem)
    return Phase(
        "torch",
        problem,
        (augmented.sizes[2], augmented.end_sizes[2]),
        lambda rule, batch, settings, _: solve_torch(problem, rule, batch, settings, stepwise=stepwise, device=device),
    )


def _compiled(problem: ControlProblem, kept: Compiled) -> Phase:
    space: Any = problem.action_space
    bounds = space.low.astype(np.float64), space.high.astype(np.float64)
    return Phase(
        "compiled",
        problem,
        kept.constraints,
        lambda rule, batch, settings, into: solve_lanes(
            kept.library, rule, batch, bounds, float(problem.discount), settings, into
        ),
        near_kinks=kept.kinks.near,
    )


def takes_all_steps(problem: ControlProblem, states: np.ndarray) -> bool:
    """Whether the problem's functions take a tensor of steps, and mean the same by it as by whole numbers."""
    space: Any = problem.action_space
    horizon = min(problem.horizon or 0, 5)
    state = torch.as_tensor(states[:1, None]).expand(1, horizon, -1)
    action = torch.as_tensor(np.clip(np.zeros((1, horizon, *space.shape)), space.low, space.high))
    augmented = Augmented(problem)
    weights = torch.zeros(1, horizon, augmented.sizes[2], dtype=torch.float64)
    penalty = torch.ones(1, horizon, dtype=torch.float64)
    try:
        with torch.no_grad():
            together = augmented.step(state, action, torch.arange(horizon), weights, penalty)  # type: ignore[arg-type]
            single = [
                augmented.step(state[:, k], action[:, k], k, weights[:, k], penalty[:, k]) for k in range(horizon)
            ]
    except Exception:  # whatever a function does with a tensor that expects a number
        return False
    return (
        all(
            together[i].shape[:2] == (1, horizon) and torch.equal(together[i], torch.stack([x[i] for x in single], 1))
            for i in range(2)
        )
        if horizon
        else True
    )
