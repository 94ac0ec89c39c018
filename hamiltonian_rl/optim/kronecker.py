"""A Fisher matrix that is a Kronecker product: the structure ``kronecker``, a factor a side of a matrix of parameters.

Notation: ``M`` gradient of a layer as a matrix ``(out, in)``, a bias being its last column; ``A`` and ``G`` factors
of the inputs' and outputs' side, ``U_A``, ``U_G`` their eigenvectors, ``φ_ij`` eigenvalue of ``F`` on mode
``(i, j)`` of ``U_Gᵀ M U_A``.

Where ``F = A ⊗ G`` the eigenvalues are the products ``γ_i α_j``. Otherwise the second moments of ``U_Gᵀ M U_A``
are the best that this basis can do (``corrected``; George et al., 2018). A side longer than `LONGEST` keeps the
diagonal of its factor, and no basis.

Reference:
    Martens and Grosse (2015); George et al. (2018), "Fast approximate natural gradient descent in a Kronecker-factored
    eigenbasis"; Vyas et al. (2024), "SOAP".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamiltonian_rl.optim.gains import step_gain
from hamiltonian_rl.optim.model_fisher import Rows
from hamiltonian_rl.optim.running import averaged, basis_is_due, eigenbasis

LONGEST = 4096  # of a side with an eigenbasis


class Moments(NamedTuple):
    """New factors, and the second moments in given bases: ``(U_A, U_G) -> (out, in)``.

    Example:
        >>> matrix = torch.tensor([[1.0, 2.0]])
        >>> moments_of_gradient(matrix, 1).in_basis(None, None)  # the squares, where no basis turns them
        tensor([[1., 4.]])
    """

    inputs: Tensor
    outputs: Tensor
    in_basis: Callable[[Tensor | None, Tensor | None], Tensor]


def moments_of_rows(rows: Rows) -> Moments:
    """Return the factors of a linear layer that was looked at: ``A = E[aaᵀ]``, ``G = E[ggᵀ]``.

    Example:
        >>> moments = moments_of_rows(Rows(inputs=torch.tensor([[1.0, 2.0]]), gradients=torch.tensor([[3.0]])))
        >>> moments.inputs, moments.outputs  # A = a aᵀ and G = g gᵀ
        (tensor([[1., 2.],
                [2., 4.]]), tensor([[9.]]))
    """
    inputs, gradients = rows
    count = len(inputs)

    def in_basis(input_basis: Tensor | None, output_basis: Tensor | None) -> Tensor:
        squares = _turned(gradients, output_basis).square_().reshape(-1, count, gradients.shape[1]).sum(0)
        return squares.mT @ _turned(inputs, input_basis).square_()

    return Moments(_second_moment(inputs) / count, _second_moment(gradients), in_basis)


def moments_of_gradient(matrix: Tensor, observations: int) -> Moments:
    """Return the factors of which nothing is known but the mini-batch's gradient, as Shampoo and SOAP take them.

    Near the maximum the mean over N observations has the Fisher information over N as its second moment.

    Example:
        >>> matrix = torch.tensor([[3.0, 4.0]])
        >>> moments = moments_of_gradient(matrix, 2)
        >>> moments.inputs.trace(), moments.outputs  # of trace one, and N |M|²
        (tensor(1.), tensor([[50.]]))
    """
    norm = matrix.square().sum().clamp_(min=torch.finfo(matrix.dtype).tiny)

    def in_basis(input_basis: Tensor | None, output_basis: Tensor | None) -> Tensor:
        return _turned(_turned(matrix, input_basis).mT, output_basis).mT.square() * observations

    return Moments(_second_moment(matrix) / norm, observations * _second_moment(matrix.mT), in_basis)


def look_at_matrix(state: dict[str, Any], moments: Moments, beta: float, refresh: int, corrected: bool) -> None:
    """Take new moments into the running averages, and renew the eigenbases when they are due.

    Example:
        >>> state = {}
        >>> moments = moments_of_gradient(torch.tensor([[3.0, 4.0]]), 1)
        >>> look_at_matrix(state, moments, beta=0.9, refresh=10, corrected=True)
        >>> state["eigenvalues"].sum()  # |M|²
        tensor(25.)
    """
    if not all(bool(torch.isfinite(factor).all()) for factor in moments[:2]):
        return
    count = state["looks"] = state.get("looks", 0) + 1
    for side in ("inputs", "outputs"):
        state[side] = averaged(state.get(side), getattr(moments, side), beta, count)
    if basis_is_due(count, refresh):
        spectra = {}
        for side in ("inputs", "outputs"):
            factor = state[side]
            spectra[side], state[f"{side}_basis"] = eigenbasis(factor) if factor.ndim == 2 else (factor, None)
        if not corrected:
            state["eigenvalues"] = torch.outer(spectra["outputs"], spectra["inputs"])
    if corrected:
        new = moments.in_basis(state["inputs_basis"], state["outputs_basis"])
        state["eigenvalues"] = averaged(state.get("eigenvalues"), new, beta, count)


def matrix_step(state: dict[str, Any], matrix: Tensor, length: float, newton: float, eps: float) -> Tensor:
    """Return the step along a gradient ``(out, in)``: turned into the eigenbasis, times the gains, and back.

    Example:
        >>> state = {"inputs_basis": None, "outputs_basis": None, "eigenvalues": torch.tensor([[4.0, 1.0]])}
        >>> matrix_step(state, torch.tensor([[2.0, 2.0]]), length=1.0, newton=0.0, eps=0.0)  # F^(-1/2) g
        tensor([[1., 2.]])
    """
    U_A, U_G = state["inputs_basis"], state["outputs_basis"]
    modes = _turned(_turned(matrix, U_A).mT, U_G).mT
    modes = modes * step_gain(state["eigenvalues"], length, newton, eps)
    modes = modes if U_A is None else modes @ U_A.mT
    return modes if U_G is None else U_G @ modes


def _turned(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows.clone() if basis is None else rows @ basis


def _second_moment(rows: Tensor) -> Tensor:
    """Return ``Σ r rᵀ`` over rows ``(R, n)``, or its diagonal where n is large."""
    return rows.mT @ rows if rows.shape[1] <= LONGEST else rows.square().sum(0)
