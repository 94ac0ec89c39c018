"""A language model as what it says of each symbol, whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hamiltonian_rl.errors import UsageError

NUMBERS_AT_ONCE = 2**20  # logits that are held together: few enough for a processor's cache


@dataclass(frozen=True)
class LanguageModel:
    """A `SequenceModel` that asks a network.

    Attributes:
        name: What to call it.
        logits: From symbols ``(B, T)`` to logits ``(B, T, >= n_symbols)`` of the one that comes next.
        n_symbols: Of its vocabulary.
        longest_context: Symbols that it can look back upon, or was trained to.
        start: The symbol that says that a text starts; None where it has none.
        encode: From bytes to symbols.
        text_sha256: Of the text that it learnt from, where that is known.
    """

    name: str
    logits: Callable[[Tensor], Tensor]
    n_symbols: int
    longest_context: int
    start: int | None
    encode: Callable[[bytes], np.ndarray]
    text_sha256: str | None = None

    @property
    def least_context(self) -> int:
        """One where it says nothing of a first symbol."""
        return 1 if self.start is None else 0

    def log_probabilities(self, sequences: np.ndarray) -> np.ndarray:
        """Return ``log p(x_t | x_<t)`` of sequences ``(n, T)``, shape ``(n, T)``; NaN below `least_context`.

        Raises:
            UsageError: The sequences are longer than the model's context and a symbol.
        """
        length = sequences.shape[1]
        if length > self.longest_context + 1:
            raise UsageError(
                f"A context of {length - 1:,} is longer than the {self.longest_context:,} of {self.name}. "
                f"Take --context {self.longest_context} or less."
            )
        found = np.full(sequences.shape, np.nan)
        rows_at_once = max(1, NUMBERS_AT_ONCE // (length * self.n_symbols))
        for at in range(0, len(sequences), rows_at_once):
            rows = torch.as_tensor(sequences[at : at + rows_at_once], dtype=torch.int64)
            found[at : at + rows_at_once, self.least_context :] = self._of_rows(rows)
        return found

    @torch.inference_mode()
    def _of_rows(self, rows: Tensor) -> np.ndarray:
        if self.start is not None:
            rows = torch.cat([rows.new_full((len(rows), 1), self.start), rows], dim=1)
        if rows.shape[1] < 2:
            return np.empty((len(rows), 0))
        logits, targets = self.logits(rows[:, :-1]), rows[:, 1:, None]
        chosen = logits.gather(-1, targets).squeeze(-1) - logits.logsumexp(-1)
        return chosen.double().numpy()
