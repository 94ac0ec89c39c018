"""A text in a file, its parts, and windows into it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError

LEAST_BLOCKS, MOST_BLOCKS = 8, 64  # whose means errors come from
HELD_OUT = 10  # the last of so many parts is not learnt from


def read_text(path: Path) -> bytes:
    """Return a text's bytes.

    Raises:
        UsageError: There is no such file, it is empty, or it is no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read the text {path}: {error.strerror}.") from None
    if not raw:
        raise UsageError(f"The text {path} is empty; expected some hundred kilobytes to learn from.")
    if (zero := raw.find(b"\0")) >= 0:
        raise UsageError(f"{path} is no text: byte {zero:,} is zero. Give plain text, in any encoding of bytes.")
    return raw


def digest(raw: bytes) -> str:
    """Return the SHA-256 by which a text is known again."""
    return hashlib.sha256(raw).hexdigest()


def parts(raw: bytes) -> tuple[bytes, bytes]:
    """Return what of a text is learnt from, and the last tenth, which is held out."""
    cut = len(raw) - len(raw) // HELD_OUT
    return raw[:cut], raw[cut:]


def check_length(n_symbols: int, context: int, what: str) -> None:
    """Refuse a text that is not some windows long: from fewer places nothing can be said about errors.

    Raises:
        UsageError: It is shorter than `LEAST_BLOCKS` windows of the context and a symbol.
    """
    least = LEAST_BLOCKS * (context + 1)
    if n_symbols < least:
        raise UsageError(
            f"{what} has {n_symbols:,} symbols, too few for a context of {context:,}; expected {least:,} at least. "
            "Give a longer text, or a smaller --context."
        )


def windows_at(symbols: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return windows into a text, shape ``(n, length)``, of whole numbers."""
    return symbols[np.asarray(starts)[:, None] + np.arange(length)].astype(np.int64)


def spread_windows(symbols: np.ndarray, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return windows spread over a text in the order of their places: one at random in each of n equal stretches.

    Args:
        symbols: Shape ``(T,)``.
        n: How many; fewer where the text has not so many places.
        length: Of each window, at most ``T``.
        generator: Of the places.

    Example:
        >>> spread_windows(np.arange(6), 2, 3, np.random.default_rng(0))
        array([[1, 2, 3],
               [3, 4, 5]])
    """
    places = len(symbols) - length + 1
    edges = np.linspace(0, places, min(n, places) + 1).round().astype(np.int64)
    return windows_at(symbols, generator.integers(edges[:-1], edges[1:]), length)
