"""Adam (Eq. 32) on one flat vector.

Notation: ``θ`` parameters, ``g = ∇_θ loss`` gradient, ``v`` running diagonal of the empirical Fisher
information ``E[g gᵀ]``. The stationary path ``θ̇ = F^(-1/2) ∇ℓ`` with ``F`` replaced by ``diag(v)`` is
RMSprop (Eq. 31) and, with momentum and bias correction, Adam (Eq. 32).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or torch.Tensor: the functions use only what both understand


@np.errstate(under="ignore")  # averages of what has become zero fall below the smallest number
def adam_step(
    params: Array,
    gradient: Array,
    momentum: Array,
    fisher_diagonal: Array,
    *,
    step: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Take one step of Adam (Eq. 32) in place: ``θ ← θ - α m̂ / (√v̂ + ε)``.

    Works on one flat vector, so that a network of any depth costs a dozen array operations.

    Args:
        params: ``θ``, shape ``(P,)``; changed in place, as are the two running averages.
        gradient: ``g``, shape ``(P,)``.
        momentum: ``m``, running average of ``g``, shape ``(P,)``.
        fisher_diagonal: ``v``, running average of ``g²``, shape ``(P,)``.
        step: Number of this step, from one (bias correction).
        learning_rate: ``α``.
        betas: Decay of the two averages.
        eps: ``ε``.

    Reference:
        Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.

    Example:
        >>> params, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
        >>> adam_step(params, np.array([3.0]), m, v, step=1, learning_rate=0.1)
        >>> params.round(6)  # the first step has length α, whatever the scale of the gradient
        array([-0.1])
    """
    beta1, beta2 = betas
    momentum *= beta1
    momentum += (1.0 - beta1) * gradient
    fisher_diagonal *= beta2
    fisher_diagonal += (1.0 - beta2) * gradient * gradient
    scale = fisher_diagonal**0.5
    scale *= (1.0 - beta2**step) ** -0.5
    scale += eps
    params -= (learning_rate / (1.0 - beta1**step)) * momentum / scale
