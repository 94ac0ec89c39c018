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

    Example:
        >>> FisherBlock(torch.arange(2), (torch.tensor([4.0, 9.0]),)).matrix()
        tensor([[4., 0.],
                [0., 9.]])
    """

    index: torch.Tensor
    factors: tuple[torch.Tensor, ...]

    def matrix(self) -> torch.Tensor:
        """Return the block, shape ``(k, k)``.

        Example:
            >>> g, a = torch.tensor([[2.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
            >>> FisherBlock(torch.arange(2)[None], (g, a)).matrix()  # G ⊗ A
            tensor([[2., 1.],
                    [1., 2.]])
        """
        if len(self.factors) == 2:
            return torch.kron(self.factors[0].contiguous(), self.factors[1].contiguous())
        return torch.diag(self.factors[0]) if self.factors[0].ndim == 1 else self.factors[0]

    def times(self, vector: torch.Tensor, power: float, damping: float) -> torch.Tensor:
        """Return ``(block + damping I)^power vector``, of the shape of ``index``.

        Example:
            >>> block = FisherBlock(torch.arange(2), (torch.tensor([4.0, 0.0]),))
            >>> block.times(torch.tensor([2.0, 2.0]), power=-0.5, damping=0.0)  # the pseudo-inverse's root
            tensor([1., 0.])
        """
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

    Example:
        >>> one = FisherBlock(torch.tensor([0]), (torch.tensor([[4.0]]),))
        >>> other = FisherBlock(torch.tensor([1, 2]), (torch.tensor([1.0, 9.0]),))
        >>> Fisher((one, other), n_params=3).times(torch.ones(3), power=0.5)
        tensor([2., 1., 3.])
    """

    blocks: tuple[FisherBlock, ...]
    n_params: int

    def matrix(self) -> torch.Tensor:
        """Return it as a dense matrix, shape ``(P, P)``.

        Example:
            >>> block = FisherBlock(torch.tensor([1]), (torch.tensor([9.0], dtype=torch.float64),))
            >>> Fisher((block,), n_params=2).matrix()
            tensor([[0., 0.],
                    [0., 9.]], dtype=torch.float64)
        """
        dense = torch.zeros(self.n_params, self.n_params, dtype=torch.float64)
        for block in self.blocks:
            at = block.index.reshape(-1)
            dense[at[:, None], at] = block.matrix()
        return dense

    def times(self, vector: torch.Tensor, power: float = 1.0, damping: float = 0.0) -> torch.Tensor:
        """Return ``(F + damping I)^power vector``, shape ``(P,)``; without damping by the pseudo-inverse.

        Each block by its own eigenvalues, so that of a Kronecker product no matrix larger than its factors is made.

        Example:
            >>> block = FisherBlock(torch.arange(2), (torch.tensor([4.0, 1.0]),))
            >>> Fisher((block,), n_params=2).times(torch.ones(2), power=-1.0)
            tensor([0.2500, 1.0000])
        """
        result = torch.zeros_like(vector)
        for block in self.blocks:
            result[block.index] = block.times(vector[block.index], power, damping)
        return result
