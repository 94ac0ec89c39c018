"""One Fisher matrix for several parameters together: the structures ``dense`` and ``block``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim.gains import step_gain
from hamiltonian_rl.optim.running import averaged, basis_is_due, eigenbasis

LARGEST = 16_384  # parameters of a block: a matrix of a gigabyte in single precision


def look_at_block(state: dict[str, Any], rows: Tensor, beta: float, refresh: int) -> None:
    """Take ``F = Σ g gᵀ`` of gradients into the running average, and renew the eigenbasis when it is due.

    Args:
        state: Of the block; ``fisher`` is ``(P, P)``, ``basis`` its eigenvectors, ``eigenvalues`` ``(P,)``.
        rows: ``g``, shape ``(S, P)``, with the root of their weight.
        beta: Decay of the average.
        refresh: Looks between two eigenbases.

    Example:
        >>> state = {}
        >>> look_at_block(state, torch.tensor([[3.0, 0.0], [0.0, 1.0]]), beta=0.9, refresh=10)
        >>> state["eigenvalues"]
        tensor([1., 9.])
    """
    if rows.shape[1] > LARGEST:
        raise UsageError(
            f"A block of {rows.shape[1]} parameters needs a matrix of {rows.shape[1] ** 2:.0e} numbers; the limit is "
            f'{LARGEST} parameters. Use structure="kronecker", or "block" with smaller layers.'
        )
    new = rows.mT @ rows
    if not bool(torch.isfinite(new).all()):
        return
    count = state["looks"] = state.get("looks", 0) + 1
    state["fisher"] = averaged(state.get("fisher"), new, beta, count)
    if basis_is_due(count, refresh):
        state["eigenvalues"], state["basis"] = eigenbasis(state["fisher"])


def block_step(state: dict[str, Any], gradient: Tensor, length: float, newton: float, eps: float) -> Tensor:
    """Return the step along a gradient ``(P,)``: each mode times its gain.

    Example:
        >>> state = {"eigenvalues": torch.tensor([4.0, 1.0]), "basis": torch.eye(2)}
        >>> block_step(state, torch.tensor([2.0, 2.0]), length=1.0, newton=0.0, eps=0.0)  # F^(-1/2) g
        tensor([1., 2.])
    """
    basis: Tensor = state["basis"]
    return basis @ (step_gain(state["eigenvalues"], length, newton, eps) * (basis.mT @ gradient))
