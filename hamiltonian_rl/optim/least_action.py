"""The least-action step: the optimal control of an estimation task, as a `torch.optim.Optimizer`."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from hamiltonian_rl.optim.fisher_optimizer import FisherOptimizer
from hamiltonian_rl.optim.model_fisher import ModelFisher
from hamiltonian_rl.optim.options import Options, Params


class LeastAction(FisherOptimizer):
    """Step by the optimal control of ``dt (ℓ - ½ m |u|²)``: from RMSprop's direction to Newton's in one parameter.

    ``θ ← θ + F⁻¹ (I - exp(-2 asinh(½ dt √(F/m)))) ∇ℓ``: ``dt F^(-1/2) ∇ℓ / √m`` where ``dt √(φ/m)`` is small,
    ``F⁻¹ ∇ℓ`` where it is large. A mode's distance to the maximum contracts by ``exp(-2 asinh(½ dt √(φ/m)))``,
    so that it never overshoots. Only ``dt/√m`` matters.

    Args:
        params: Parameters, named ones or groups, as every optimizer takes them.
        dt: Length of a step; kept as ``lr`` of a group, where schedulers look for it.
        mass: ``m``.
        structure: Of the Fisher information: ``"dense"``, ``"block"`` (a matrix a parameter, or a watched linear
            layer), ``"kronecker"`` or ``"diagonal"``.
        fisher: Where it comes from; None for the mini-batches' gradients (see `FisherOptimizer`).
        betas: Decays of the averages of gradient (0 for none) and Fisher information.
        eps: Damping ``ε`` (`hamiltonian_rl.optim.gains`), in units of a gradient; None for 1e-8 with the diagonal of
            mini-batches and 1e-2 otherwise.
        weight_decay: Decoupled; a step shrinks parameters by ``dt/√m`` times it.
        bias_correction: Whether averages are unbiased from the first step on; the Fisher information's always is where
            there is an eigenbasis.
        refresh: Looks at the Fisher information between two eigenbases.
        corrected: Whether ``"kronecker"`` measures its eigenvalues in the eigenbasis, or takes the factors' products.
        maximize: Whether parameters climb.
        foreach: Whether ``"diagonal"`` updates all parameters at once, or one by one in less memory.

    Raises:
        UsageError: An option is of another type or out of its range, or there is nothing to move.

    Example:
        >>> import torch
        >>> theta = torch.nn.Parameter(torch.tensor([3.0]))
        >>> optimizer = LeastAction([theta], dt=1.5, structure="diagonal", betas=(0.0, 0.9), eps=0.0)
        >>> (0.5 * theta**2).sum().backward()
        >>> optimizer.step()  # of mini-batches F = g² = 9, so that it moves by (1 - exp(-2 asinh(9/4))) g / 9
        >>> round(theta.item(), 4)
        2.6817
        >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)  # of dt
    """

    length_name: ClassVar[str] = "dt"

    def __init__(
        self,
        params: Params,
        dt: float = 0.1,
        mass: float = 1.0,
        structure: str = "kronecker",
        fisher: ModelFisher | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": dt, "mass": mass, "structure": structure}, fisher, options)

    def length_and_newton(self, group: dict[str, Any]) -> tuple[float, float]:
        """Return ``dt/√m`` and its half.

        Example:
            >>> import torch
            >>> optimizer = LeastAction([torch.nn.Parameter(torch.zeros(2))], dt=0.5, mass=4.0)
            >>> optimizer.length_and_newton(optimizer.param_groups[0])
            (0.25, 0.125)
        """
        length = float(group["lr"]) / float(group["mass"]) ** 0.5
        return length, 0.5 * length
