"""A small causal transformer: rotary positions, and a normalisation before each part."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rotated(x: Tensor) -> Tensor:
    """Return queries or keys ``(B, H, T, D)`` turned by their positions (Su et al., 2021).

    Pair ``i`` of the coordinates is turned by ``t 10000^(-2i/D)`` at position t, so that the product of a query and a
    key depends on how far apart they are, and not on where.

    Example:
        >>> turned = rotated(torch.ones(1, 1, 4, 2))[0, 0]
        >>> products = turned @ turned.T
        >>> torch.allclose(products.diagonal(1), products[0, 1])
        True
    """
    half = x.shape[-1] // 2
    speeds = 10_000.0 ** (-torch.arange(half) / half)
    angle = torch.arange(x.shape[-2])[:, None] * speeds
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * angle.cos() - right * angle.sin(), left * angle.sin() + right * angle.cos()], -1)


class Block(nn.Module):
    """Attention and a hidden layer, each behind a normalisation, each added.

    Args:
        width: Of what goes in and comes out.
        heads: Of the attention; they divide the width into an even number each.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_mixing, self.before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next layer's inputs, ``(B, T, width)``, of this one's."""
        parts = self.query_key_value(self.before_mixing(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        seen = nn.functional.scaled_dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        x = x + self.mixed(seen.transpose(1, 2).flatten(2))
        added: Tensor = self.back(nn.functional.gelu(self.hidden(self.before_hidden(x))))
        return x + added


class Transformer(nn.Sequential):
    """From symbols ``(B, T)`` to logits ``(B, T, n_symbols)`` of the one that comes next.

    Args:
        n_symbols: That are predicted.
        width: Of the layers.
        heads: Of each layer's attention.
        layers: How many.
        starts: Whether there is one more symbol to put in, `n_symbols`, which says that a text starts here.

    Example:
        >>> model = Transformer(5, width=8, heads=2, layers=1, starts=True)
        >>> model(torch.tensor([[5, 0, 1]])).shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, n_symbols: int, *, width: int, heads: int, layers: int, starts: bool = False) -> None:
        blocks = [Block(width, heads) for _ in range(layers)]
        embedding = nn.Embedding(n_symbols + starts, width)
        super().__init__(embedding, *blocks, nn.LayerNorm(width), nn.Linear(width, n_symbols))
