"""Running averages that are unbiased from the first value on, and when an eigenbasis is due."""

from __future__ import annotations

import torch
from torch import Tensor


def weight_of_new(beta: float, count: int) -> float:
    """Return ``(1 - β)/(1 - β^n)``: with it ``v ← v + w (new - v)`` is Adam's bias-corrected average.

    Example:
        >>> weight_of_new(0.9, 1), round(weight_of_new(0.9, 2), 4)
        (1.0, 0.5263)
    """
    return (1.0 - beta) / (1.0 - beta**count)


def averaged(average: Tensor | None, new: Tensor, beta: float, count: int) -> Tensor:
    """Return the running average with a new value in it, the old one's memory used again.

    Example:
        >>> first = averaged(None, torch.tensor([4.0]), 0.5, 1)
        >>> averaged(first, torch.tensor([1.0]), 0.5, 2)  # (½·4 + 1)/(½ + 1)
        tensor([2.])
    """
    return new.clone() if average is None else average.lerp_(new.to(average.dtype), weight_of_new(beta, count))


def basis_is_due(count: int, refresh: int) -> bool:
    """Say whether the n-th look renews the eigenbasis: every `refresh`-th, and early ones at powers of two.

    Example:
        >>> [n for n in range(1, 31) if basis_is_due(n, 10)]
        [1, 2, 4, 8, 10, 20, 30]
    """
    return count % refresh == 0 or (count < refresh and count & (count - 1) == 0)


def eigenbasis(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, rounded up to zero, and eigenvectors of a symmetric matrix.

    Half precision is computed in single, and single in double where LAPACK does not converge.

    Example:
        >>> eigenbasis(torch.tensor([[2.0, 0.0], [0.0, -1.0]]))[0]
        tensor([0., 2.])
    """
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    try:
        values, vectors = torch.linalg.eigh(wide)
    except RuntimeError:  # torch.linalg.LinAlgError, which torch does not export to type checkers
        values, vectors = torch.linalg.eigh(wide.double())
    return values.clamp_(min=0.0).to(matrix.dtype), vectors.to(matrix.dtype)
