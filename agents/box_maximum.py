"""The largest value of many functions at once, each over a box: Newton's method, projected on the bounds.

Reference:
    Bertsekas (1982), "Projected Newton methods for optimization problems with simple constraints".
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Function = Callable[[torch.Tensor], torch.Tensor]
SHARES = (1.0, 0.3, 0.1, 0.03)  # of a Newton step, tried in turn


def box_maximum(
    function: Function, low: torch.Tensor, high: torch.Tensor, starts: torch.Tensor, *, iterations: int = 8
) -> torch.Tensor:
    """Return where each of B functions is largest within bounds, shape ``(B, m)``.

    The best of the starts is improved by Newton's method with the curvature made negative, on the coordinates that no
    bound holds; the bounds themselves are met exactly. What is returned is at least as good as every start, and
    stationary where it converged: of functions with several maxima it is the one above the best start.

    Args:
        function: Takes points ``(B, m)`` and returns values ``(B,)``, each of its own row alone.
        low: Bounds, finite, shape ``(m,)``.
        high: The same.
        starts: Points that are tried first, shape ``(K, B, m)``.
        iterations: Newton steps at the most.

    Example:
        >>> peak = torch.tensor([[0.25], [5.0]]).double()
        >>> starts = torch.tensor([-1.0, 1.0]).double().reshape(2, 1, 1).expand(2, 2, 1)
        >>> box_maximum(lambda a: -((a - peak) ** 2)[:, 0], torch.tensor([-1.0]), torch.tensor([1.0]), starts).tolist()
        [[0.25], [1.0]]
    """
    with torch.no_grad():
        values = torch.stack([function(start) for start in starts])
        best, which = values.max(0)
        point = starts[which, torch.arange(starts.shape[1])].clone()
    for _ in range(iterations):
        step = _newton_step(function, point, low, high)
        for share in SHARES:
            if step.abs().amax() <= 1e-9 * (high - low).max():
                break
            with torch.no_grad():
                tried = torch.maximum(torch.minimum(point + share * step, high), low)
                value = function(tried)
            better = value > best
            point, best = torch.where(better[:, None], tried, point), torch.where(better, value, best)
            step = torch.where(better[:, None], 0.0, step)  # these rows have moved
    return point


def _newton_step(function: Function, point: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return ``|∂²F/∂a²|⁻¹ ∂F/∂a`` over the coordinates that no bound holds; zero along the others."""
    point = point.detach().requires_grad_()
    value = function(point)
    if not value.requires_grad:
        return torch.zeros_like(point)
    (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
    if slope.requires_grad:
        rows = [torch.autograd.grad(column.sum(), point, retain_graph=True)[0] for column in slope.unbind(-1)]
        curvature = torch.stack(rows, -2)
    else:  # linear
        curvature = torch.zeros(*point.shape, point.shape[-1], dtype=point.dtype)
    slope, point = slope.detach(), point.detach()
    free = ~((point <= low) & (slope < 0) | (point >= high) & (slope > 0))
    curvature = torch.where(free[:, :, None] & free[:, None, :], curvature, 0.0)
    bends, axes = torch.linalg.eigh(curvature)
    along = (axes.mT @ (slope * free)[..., None]).squeeze(-1) / bends.abs().clamp(min=1e-9)
    step = (axes @ along[..., None]).squeeze(-1)
    # Beyond the box is nothing to be found, and a flat function would send the step to infinity.
    return torch.where(free, step, 0.0).clamp(low - high, high - low)
