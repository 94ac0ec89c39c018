"""Whether a return depends on a parameter as far as torch can see: a zero that is none must not pass in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem


def check_reached(problem: ControlProblem, total: torch.Tensor, parameters: Mapping[str, Any]) -> None:
    """Check that a return was computed from each of some parameters.

    Args:
        problem: Whose attributes they are.
        total: The return, of any shape.
        parameters: By name, tensors that require a gradient, or modules of which one parameter at least must be met.

    Raises:
        UsageError: A parameter was not used; the message names it.
    """
    seen: set[Any] = set()
    todo: list[Any] = [total.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    leaves = {id(node.variable) for node in seen if hasattr(node, "variable")}
    for name, value in parameters.items():
        tensors = list(value.parameters()) if isinstance(value, torch.nn.Module) else [value]
        if not any(id(x) in leaves or x.grad_fn in seen for x in tensors if x.requires_grad):
            raise UsageError(
                f"The return does not depend on {type(problem).__name__}.{name}, as far as torch can see: dynamics, "
                "reward and the rest do not read that attribute of `self`, or take it out of torch (float, NumPy, "
                "detach). A number of another object, or one worked out in __init__, must be read through `self`."
            )


def tensors_of(problem: ControlProblem) -> dict[str, Any]:
    """Return a problem's own attributes that require a gradient: tensors, and modules with such parameters."""
    found = {}
    for name, value in vars(problem).items():
        inside = value.parameters() if isinstance(value, torch.nn.Module) else [value]
        if any(isinstance(x, torch.Tensor) and x.requires_grad for x in inside):
            found[name] = value
    return found
