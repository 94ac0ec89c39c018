"""A Fisher information in blocks: dense ones, diagonals, and Kronecker products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hamiltonian_rl.principles.lagrangian.matrices import matrix_power, powers


@dataclass(frozen=True, eq=False)
class FisherBlock:
    """What a Fisher information says of some of the parameters.

    Attributes:
        index: Where they lie, ``(k,)``; of the shape of a layer's weights, ``(outputs, inputs)``, where the block is a
            Kronecker product.
        factors: One diagonal ``(k,)``; or one matrix ``(k, k)``; or ``G`` and ``A`` of ``G ⊗ A``, of shapes
            ``(outputs, outputs)`` and ``(inputs, inputs)``.
    """

    index: torch.Tensor
    factors: tuple[torch.Tensor, ...]

    def matrix(self) -> torch.Tensor:
        """Return the block, shape ``(k, k)``."""
        if len(self.factors) == 2:
            return torch.kron(self.factors[0].contiguous(), self.factors[1].contiguous())
        return torch.diag(self.factors[0]) if self.factors[0].ndim == 1 else self.factors[0]

    def times(self, vector: torch.Tensor, power: float, damping: float) -> torch.Tensor:
        """Return ``(block + damping I)^power vector``, of the shape of ``index``."""
        if len(self.factors) == 2:
            (g, u), (a, v) = (torch.linalg.eigh(factor) for factor in self.factors)
            scales = powers(g.clamp(min=0.0)[:, None] * a.clamp(min=0.0), power, damping)
            turned: torch.Tensor = u @ (scales * (u.T @ vector @ v)) @ v.T
            return turned
        if self.factors[0].ndim == 1:
            return powers(self.factors[0], power, damping) * vector
        return matrix_power(self.factors[0], power, damping) @ vector


@dataclass(frozen=True, eq=False)
class Fisher:
    """A Fisher information of P parameters, in blocks that cover them.

    Attributes:
        blocks: Of which no two share a parameter.
        n_params: P.
    """

    blocks: tuple[FisherBlock, ...]
    n_params: int

    def matrix(self) -> torch.Tensor:
        """Return it as a dense matrix, shape ``(P, P)``."""
        dense = torch.zeros(self.n_params, self.n_params, dtype=torch.float64)
        for block in self.blocks:
            at = block.index.reshape(-1)
            dense[at[:, None], at] = block.matrix()
        return dense

    def times(self, vector: torch.Tensor, power: float = 1.0, damping: float = 0.0) -> torch.Tensor:
        """Return ``(F + damping I)^power vector``, shape ``(P,)``; without damping by the pseudo-inverse.

        Each block by its own eigenvalues, so that of a Kronecker product no matrix larger than its factors is made.
        """
        result = torch.zeros_like(vector)
        for block in self.blocks:
            result[block.index] = block.times(vector[block.index], power, damping)
        return result
