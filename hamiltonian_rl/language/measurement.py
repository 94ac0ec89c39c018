"""Figure 1 measured: the velocity of a text or a source against the context, beside the exact curve of the latter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.language.model import LanguageModel
from hamiltonian_rl.language.text import MOST_BLOCKS, check_length, spread_windows
from hamiltonian_rl.principles.information import (
    ROUNDING,
    InformationCurve,
    SequenceModel,
    information_curve,
    log_spaced_contexts,
    paired_velocities,
)
from hamiltonian_rl.principles.sources import Source

Show = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        paired: From the same targets with each context.
        naive: From other targets for each context, those at that position of the windows.
        n_targets: How many targets.
        bytes_a_symbol: Of a text, in the mean; None of a source, which has no bytes.
        exact: The exact ``E[v]`` at each context, of a source; None of a text.
    """

    paired: InformationCurve
    naive: InformationCurve
    n_targets: int
    bytes_a_symbol: float | None = None
    exact: np.ndarray | None = None

    def noise_ratios(self) -> np.ndarray:
        """Return how many times larger the naive changes' standard errors are, ``(K - 1,)``; NaN where both are 0."""
        paired, naive = self.paired.change_error, self.naive.change_error
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(naive > ROUNDING, naive / np.where(paired > ROUNDING, paired, 0.0), np.nan)

    def deviations(self) -> np.ndarray:
        """Return how many standard errors the paired curve is from the exact one, shape ``(K,)``.

        Raises:
            UsageError: No exact curve is known.
        """
        if self.exact is None:
            raise UsageError("Of a text nobody knows the exact curve; only sources have one.")
        apart, error = self.paired.velocity - self.exact, self.paired.velocity_error
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.abs(apart) <= ROUNDING, 0.0, apart / np.where(error > ROUNDING, error, 0.0))


def measure_symbols(
    model: LanguageModel, symbols: np.ndarray, n_bytes: int, context: int, n_targets: int, seed: int, show: Show
) -> Measurement:
    """Measure a model on a text.

    Args:
        model: Whose log-probabilities count.
        symbols: Of the text, shape ``(T,)``.
        n_bytes: That they stand for.
        context: The longest one.
        n_targets: Symbols whose velocity is taken, spread over the text.
        seed: Of their places.
        show: Is told how far it is.

    Raises:
        UsageError: The text is too short, or the context longer than the model's.
    """
    if context > model.longest_context:
        raise UsageError(
            f"A context of {context:,} is longer than the {model.longest_context:,} of {model.name}. "
            f"Take --context {model.longest_context} or less."
        )
    check_length(len(symbols), context, "The text to measure")
    n_blocks = min(MOST_BLOCKS, len(symbols) // (context + 1))
    windows = spread_windows(symbols, n_targets, context + 1, np.random.default_rng(seed))
    curves = _curves(model, windows, context, n_blocks, show)
    return Measurement(*curves, len(windows), n_bytes / len(symbols))


def measure_source(source: Source, context: int, n_targets: int, seed: int, show: Show) -> Measurement:
    """Measure a source's own model on independent sequences of it, beside its exact curve.

    Raises:
        UsageError: The context is longer than its exact curve is known for.
    """
    if context > source.longest_context:
        raise UsageError(
            f"The exact curve of this source is known up to a context of {source.longest_context}; got {context}. "
            f"Take --context {source.longest_context} or less."
        )
    exact = source.expected_velocity(context + 1)
    windows = source.sample(n_targets, context + 1, np.random.default_rng(seed))
    paired, naive = _curves(source, windows, context, MOST_BLOCKS, show)
    return Measurement(paired, naive, len(windows), exact=exact[paired.contexts])


def _curves(
    model: SequenceModel, windows: np.ndarray, context: int, n_blocks: int, show: Show
) -> tuple[InformationCurve, InformationCurve]:
    contexts = log_spaced_contexts(context, model.least_context)
    paired, naive = paired_velocities(model, windows, contexts, show)
    if not np.isfinite(paired).all():
        raise UsageError(
            f"The model gives {int((~np.isfinite(paired)).any(1).sum()):,} of {len(windows):,} targets no finite "
            "log-probability. Its weights or its vocabulary are not sound for this text."
        )
    return information_curve(paired, contexts, n_blocks), information_curve(naive, contexts, n_blocks)
