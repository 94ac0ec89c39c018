"""``F^(-1/2) ∇ℓ``: the stationary path of the Lagrangian (26), as a `torch.optim.Optimizer`."""

from __future__ import annotations

from typing import Any, Unpack

from hamiltonian_rl.optim.fisher_optimizer import FisherOptimizer
from hamiltonian_rl.optim.model_fisher import ModelFisher
from hamiltonian_rl.optim.options import Options, Params


class FisherRoot(FisherOptimizer):
    """Step by ``θ ← θ + α F^(-1/2) ∇ℓ``, the continuous path of least action with ``α = dt/√m``.

    With the diagonal of the mini-batches' second moments this is RMSprop (Eq. 31) and Adam (Eq. 32), to the last bit:
    ``FisherRoot(params, lr, "diagonal", betas=(0.0, 0.99), bias_correction=False)`` and
    ``FisherRoot(params, lr, "diagonal", betas=(0.9, 0.999))``; with ``weight_decay`` it is AdamW.

    Args:
        params: Parameters, named ones or groups, as every optimizer takes them.
        lr: ``α``.
        structure: See `hamiltonian_rl.optim.LeastAction`, as for all that follows.
        fisher: Where the Fisher information comes from.
        betas: Decays of the averages.
        eps: Damping, added to ``√φ``.
        weight_decay: Decoupled; a step shrinks parameters by ``α`` times it.
        bias_correction: Whether averages are unbiased from the first step on.
        refresh: Looks between two eigenbases.
        corrected: Whether eigenvalues are measured in Kronecker's eigenbasis.
        maximize: Whether parameters climb.
        foreach: Whether ``"diagonal"`` updates all parameters at once.

    Raises:
        UsageError: An option is of another type or out of its range, or there is nothing to move.

    Example:
        >>> import torch
        >>> theta = torch.nn.Parameter(torch.tensor([3.0]))
        >>> optimizer = FisherRoot([theta], lr=0.1, structure="diagonal")
        >>> (theta**2).sum().backward()
        >>> optimizer.step()
        >>> round(theta.item(), 6)  # Adam's first step has length α
        2.9
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        structure: str = "kronecker",
        fisher: ModelFisher | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "structure": structure}, fisher, options)

    def length_and_newton(self, group: dict[str, Any]) -> tuple[float, float]:
        """Return ``α`` and zero.

        Example:
            >>> import torch
            >>> optimizer = FisherRoot([torch.nn.Parameter(torch.zeros(2))], lr=0.25)
            >>> optimizer.length_and_newton(optimizer.param_groups[0])
            (0.25, 0.0)
        """
        return float(group["lr"]), 0.0
