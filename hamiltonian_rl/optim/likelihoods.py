"""What a model's output says of the data: scores drawn from it, and the root of its Fisher information.

A model maps inputs to the parameters ``z`` of a distribution of the label. Its Fisher information is
``F = E[Jᵀ H J]`` with ``J = ∂z/∂θ`` and ``H`` that of ``z`` alone. A *direction* is a vector ``s`` to pull back
through the model, ``g = Jᵀ s``: either the score ``∂ log p(y|z)/∂z`` of a label drawn from the model itself,
``E[s sᵀ] = H`` (Monte Carlo, one direction), or all columns of a root of ``H``, ``Σ s sᵀ = H`` (exact, as many
directions as outputs). The labels of the data are not used: their ``E[g gᵀ]`` is the empirical Fisher information,
which is another matrix away from the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hamiltonian_rl.errors import UsageError, did_you_mean

Scores = Callable[[Tensor, Generator], Tensor]  # outputs (..., O), generator -> scores (..., O)


def _categorical(logits: Tensor, generator: Generator) -> Tensor:
    chances = logits.softmax(-1)
    labels = torch.multinomial(chances.reshape(-1, chances.shape[-1]), 1, generator=generator)
    return torch.zeros_like(chances).reshape(-1, chances.shape[-1]).scatter_(1, labels, 1.0).view_as(chances) - chances


def _categorical_root(logits: Tensor) -> Tensor:
    chances = logits.softmax(-1)
    unit = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return chances.mT.sqrt()[..., None] * (unit[:, None] - chances)


def _gaussian(means: Tensor, generator: Generator) -> Tensor:
    return torch.randn(means.shape, generator=generator, dtype=means.dtype, device=means.device)


def _bernoulli(logits: Tensor, generator: Generator) -> Tensor:
    chances = logits.sigmoid()
    return torch.bernoulli(chances, generator=generator) - chances


def _poisson(log_rates: Tensor, generator: Generator) -> Tensor:
    rates = log_rates.exp()
    return torch.poisson(rates, generator=generator) - rates


def _independent(variance: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the root of a diagonal ``H``: a direction an output."""
    return lambda outputs: torch.diag_embed(variance(outputs).sqrt()).transpose(0, 1)


SCORES: dict[str, Scores] = {
    "categorical": _categorical,
    "gaussian": _gaussian,
    "bernoulli": _bernoulli,
    "poisson": _poisson,
}
ROOTS: dict[str, Callable[[Tensor], Tensor]] = {
    "categorical": _categorical_root,
    "gaussian": _independent(torch.ones_like),
    "bernoulli": _independent(lambda logits: logits.sigmoid() * (1.0 - logits.sigmoid())),
    "poisson": _independent(torch.exp),
}


def directions(likelihood: str | Scores, outputs: Tensor, samples: int | str, generator: Generator) -> Tensor:
    """Return the directions to pull back through the model.

    Args:
        likelihood: ``"categorical"`` (outputs are logits, classes last), ``"gaussian"`` (means, unit variance),
            ``"bernoulli"`` (logits), ``"poisson"`` (log rates), or a function of outputs and generator that draws
            scores.
        outputs: ``z``, shape ``(..., O)``, the last axis within an observation.
        samples: Number of draws, or ``"exact"``.
        generator: Of the draws.

    Returns:
        Shape ``(S, *outputs.shape)``; the sum over S of ``s sᵀ`` is ``H``, in the mean or exactly.

    Raises:
        UsageError: The likelihood is unknown, or exact directions are asked where there are none.

    Example:
        >>> z = torch.tensor([[0.0, 1.0, 2.0]])
        >>> s = directions("categorical", z, "exact", torch.Generator())[:, 0]
        >>> p = z.softmax(-1)[0]
        >>> bool(torch.allclose(s.T @ s, p.diag() - torch.outer(p, p)))
        True
    """
    if isinstance(likelihood, str) and likelihood not in SCORES:
        raise UsageError(f'There is no likelihood "{likelihood}". {did_you_mean(likelihood, SCORES)}')
    if samples != "exact":
        draw = SCORES[likelihood] if isinstance(likelihood, str) else likelihood
        drawn = torch.stack([draw(outputs, generator) for _ in range(int(samples))])
        return drawn if samples == 1 else drawn / int(samples) ** 0.5
    if not isinstance(likelihood, str) or outputs.ndim != 2:
        raise UsageError(
            f'samples="exact" needs a named likelihood and outputs of shape (batch, outputs), got '
            f"{tuple(outputs.shape)}; draw instead, samples=1."
        )
    return ROOTS[likelihood](outputs)
