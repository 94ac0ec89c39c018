"""A diagonal Fisher matrix: RMSprop and Adam (Eq. 31-32), and the least-action step at their price.

The order of operations is that of `torch.optim.Adam`, so that with ``κ = 0`` the two agree to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Diagonals(NamedTuple):
    """Lists over parameters; ``momentum`` is empty where there is none. Changed in place.

    Example:
        >>> lists = Diagonals([torch.zeros(2)], [torch.ones(2)], [], [torch.zeros(2)])
        >>> len(lists.params), lists.momentum
        (1, [])
    """

    params: list[Tensor]
    gradients: list[Tensor]
    momentum: list[Tensor]
    fisher: list[Tensor]


def diagonal_step(
    lists: Diagonals,
    *,
    new_fisher: list[Tensor] | None,
    length: float,
    newton: float,
    betas: tuple[float, float],
    eps: float,
    corrections: tuple[float, float],
) -> None:
    """Take one step in place.

    Args:
        lists: What to change.
        new_fisher: Second moments to take into the running average, ``g²`` where it is None; empty to leave it.
        length: ``α``.
        newton: ``κ``.
        betas: Decays of the averages of ``g`` and of the Fisher diagonal.
        eps: ``ε``.
        corrections: ``1 - β^t`` of the two averages; ones where they are not bias-corrected.

    Example:
        >>> lists = Diagonals([torch.zeros(2)], [torch.tensor([3.0, -5.0])], [], [torch.zeros(2)])
        >>> diagonal_step(
        ...     lists, new_fisher=None, length=0.5, newton=0.0, betas=(0.0, 0.75), eps=0.0, corrections=(1.0, 0.25)
        ... )
        >>> lists.params[0]  # the first step of RMSprop, with its bias corrected, is a sign
        tensor([-0.5000,  0.5000])
    """
    params, gradients, momentum, fisher = lists
    beta1, beta2 = betas
    if momentum:
        torch._foreach_lerp_(momentum, gradients, 1 - beta1)
    if new_fisher is None:
        torch._foreach_mul_(fisher, beta2)
        torch._foreach_addcmul_(fisher, gradients, gradients, 1 - beta2)
    elif new_fisher:
        torch._foreach_lerp_(fisher, new_fisher, 1 - beta2)
    first, second = corrections
    root = second**0.5
    if newton == 0.0:
        scales = list(torch._foreach_sqrt(fisher))
        torch._foreach_div_(scales, root)
        _damp(scales, eps)
        torch._foreach_addcdiv_(params, momentum or gradients, scales, -(length / first))
        return
    # κφ + √(φ + κ²φ²) for φ = v / second, times √second: one division less.
    share = newton / root
    scales = list(torch._foreach_addcmul(fisher, fisher, fisher, share**2))
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, fisher, alpha=share)
    _damp(scales, eps * root)
    torch._foreach_addcdiv_(params, momentum or gradients, scales, -(length / first) * root)


def _damp(scales: list[Tensor], eps: float) -> None:
    """Add the damping; without any, nothing moves where nothing is known."""
    if eps:
        torch._foreach_add_(scales, eps)
    else:
        for scale in scales:
            scale.masked_fill_(scale == 0.0, torch.inf)
