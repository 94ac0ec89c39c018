"""A network for V over the states of a problem, as a function of one flat vector of parameters.

``V(s) = scale · max_p [ w_pᵀ h(x) + b_pᵀ φ(x) ]`` with ``x`` the state in units of its box, ``h`` layers of tanh, and
``φ(x)`` one, x and its products: so that a quadratic V, which is what every smooth V is around its maximum, is exact
whatever the layers do. V is the best over several ways to go on (one swing or two), each smooth by itself: hence the
maximum over ``pieces``, which has V's ridges, where a smooth network would round them off.

Reference:
    Goodfellow et al. (2013), "Maxout networks"; van Hasselt et al. (2016), "Learning values across many orders of
    magnitude", for the scale.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class ValueNetwork:
    """V as a function of parameters and states.

    Args:
        low: Bounds of the states, shape ``(n,)``; they give the units of x.
        high: The same.
        hidden: Widths of the layers.
        pieces: Smooth functions that V is the maximum of.
        periodic: Which coordinates are angles; the network sees their cosine and sine. ``(n,)``, or empty for none.
        products: Whether φ holds the products of x.

    Attributes:
        half_width: Of the box, shape ``(n,)``: the unit of each coordinate.
        scale: Unit of V.

    Example:
        >>> network = ValueNetwork(np.array([-1.0]), np.array([3.0]), (8,))
        >>> parameters = network.initial(np.random.default_rng(0))
        >>> network(parameters, torch.zeros(5, 1).double()).shape
        torch.Size([5])
    """

    def __init__(
        self,
        low: np.ndarray,
        high: np.ndarray,
        hidden: Sequence[int],
        pieces: int = 1,
        periodic: Sequence[bool] = (),
        *,
        products: bool = True,
    ) -> None:
        self._middle, self.half_width = (torch.as_tensor(part) for part in (0.5 * (low + high), 0.5 * (high - low)))
        turns = np.array(list(periodic) or [False] * len(low))
        self._angles, self._others = (torch.as_tensor(np.flatnonzero(which)) for which in (turns, ~turns))
        self.scale = 1.0
        width = len(low) + len(self._angles)
        self._left, self._right = torch.triu_indices(width, width) if products else torch.zeros(2, 0, dtype=torch.int64)
        widths = [width, *hidden]
        self._layers = [(after, before + 1) for before, after in itertools.pairwise(widths)]
        self._head = (pieces, (widths[-1] if hidden else 0) + 1 + width + len(self._left))
        self.size = sum(math.prod(shape) for shape in [*self._layers, self._head])

    def initial(self, generator: np.random.Generator) -> torch.Tensor:
        """Draw parameters, shape ``(size,)``: as `torch.nn.Linear` does; a single piece begins at zero."""
        shapes = [*self._layers, self._head]
        parts = [generator.uniform(-1.0, 1.0, shape) / shape[1] ** 0.5 for shape in shapes]
        parts[-1] *= self._head[0] > 1
        return torch.as_tensor(np.concatenate([part.ravel() for part in parts]))

    def __call__(self, parameters: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return V of states ``(..., n)``, shape ``(...)``."""
        return self.scale * self.in_units(parameters, states)

    def in_units(self, parameters: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return V in units of `scale`, of states ``(..., n)``, shape ``(...)``: this is compiled."""
        shapes = [*self._layers, self._head]
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        *layers, head = (parameters[end - math.prod(s) : end].reshape(s) for s, end in zip(shapes, ends, strict=True))
        x = self._coordinates(states)
        h = x
        for weight in layers:
            h = torch.tanh(h @ weight[:, :-1].T + weight[:, -1])
        smooth = [h] if layers else []
        features = torch.cat([*smooth, torch.ones_like(x[..., :1]), x, x[..., self._left] * x[..., self._right]], -1)
        return (features @ head.T).amax(-1)

    def slope(self, parameters: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return V and its gradient in the states, shapes ``(...)`` and ``(..., n)``, both with their graph."""
        states = states.detach().requires_grad_()
        value = self(parameters, states)
        (gradient,) = torch.autograd.grad(value.sum(), states, create_graph=True)
        return value, gradient

    def rescale(self, parameters: torch.Tensor, scale: float) -> None:
        """Change the unit of V, in place and without a change of V."""
        parameters[-math.prod(self._head) :] *= self.scale / scale
        self.scale = scale

    def shift(self, parameters: torch.Tensor, amount: float) -> None:
        """Add a constant to V, in place."""
        constant = self._head[1] - 1 - len(self._left) - len(self.half_width) - len(self._angles)
        parameters[-math.prod(self._head) :].reshape(self._head)[:, constant] += amount / self.scale

    def _coordinates(self, states: torch.Tensor) -> torch.Tensor:
        """Return x: within ±1 in the box, angles by cosine and sine."""
        x = (states - self._middle) / self.half_width
        turns = torch.pi * x[..., self._angles]
        return torch.cat([x[..., self._others], turns.cos(), turns.sin()], -1)


class LearntValue(NamedTuple):
    """V: a network and its parameters."""

    network: ValueNetwork
    parameters: torch.Tensor

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return V of states ``(..., n)``, shape ``(...)``."""
        return self.network(self.parameters, states)
