"""Information kinematics (section 2, Eq. 1, Figure 1): how surprising a symbol is, given those before it.

* position ``I(x_<=t) = -log p(x_<=t)``, in nats;
* velocity ``v(t) = -log p(x_t | x_<t)``, in nats a symbol: the loss of a language model;
* acceleration ``a(t) = v(t + 1) - v(t)`` (Eq. 1, whose printed index is one ahead of its figure's).

The distance is the integral of the velocity, exactly: ``I(x_<=n) = Σ_t v(t)``, which is the chain rule.

Figure 1 is about ``E[v(t)]``. Averaging what a model says at each position compares different symbols at different
positions, and symbols differ far more than positions do. The paired estimator takes the *same* targets, once with each
context: ``L(c) = E[-log p(x | the c symbols before x)]``. For a stationary source and its own model
``L(c) = E[v(c + 1)]``. Errors are those of means of blocks, neighbours in the text, for neighbours are alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import stats

from hamiltonian_rl.errors import UsageError

LEVEL = 0.95  # of what is said about a single step
ROUNDING = 1e-12  # a standard error below it is none
WINDOWS_AT_ONCE = 256


class SequenceModel(Protocol):
    """What gives each symbol a probability given the symbols before it."""

    @property
    def least_context(self) -> int:
        """Symbols that must stand before one for it to have a probability: 0 or 1."""

    def log_probabilities(self, sequences: np.ndarray) -> np.ndarray:
        """Return ``log p(x_t | x_<t)`` of sequences ``(n, T)``, shape ``(n, T)``; NaN below `least_context`."""


def velocity(model: SequenceModel, sequences: np.ndarray) -> np.ndarray:
    """Return ``v(t) = -log p(x_t | x_<t)`` in nats, of sequences ``(n, T)``, shape ``(n, T)``.

    Example:
        >>> from hamiltonian_rl.principles.sources import CoinOfUnknownBias
        >>> heads = np.array([[1, 1, 1]])
        >>> np.exp(-velocity(CoinOfUnknownBias(), heads)).round(6).tolist()  # Laplace's rule of succession
        [[0.5, 0.666667, 0.75]]
    """
    return -model.log_probabilities(sequences)


def position(velocity: np.ndarray) -> np.ndarray:
    """Return ``I(x_<=t) = Σ_{s<=t} v(s)`` in nats, the integral of a velocity ``(..., T)``."""
    return np.cumsum(velocity, axis=-1)


def acceleration(velocity: np.ndarray) -> np.ndarray:
    """Return ``a(t) = v(t + 1) - v(t)`` (Eq. 1), shape ``(..., T - 1)``."""
    return np.diff(velocity, axis=-1)


def log_spaced_contexts(longest: int, least: int = 0) -> np.ndarray:
    """Return contexts a factor of two apart up to the longest, and no context where the model knows what to say.

    Example:
        >>> log_spaced_contexts(20).tolist(), log_spaced_contexts(8, least=1).tolist()
        ([0, 1, 2, 4, 8, 16, 20], [1, 2, 4, 8])
    """
    powers = 2 ** np.arange(math.floor(math.log2(longest)) + 1)
    return np.unique([least, *powers, longest])


def paired_velocities(
    model: SequenceModel,
    windows: np.ndarray,
    contexts: np.ndarray,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the velocity of each window's last symbol with its context cut, and of the symbol at each position.

    Args:
        model: Gives the log-probabilities.
        windows: Sequences ``(n, T)``; the targets are their last symbols.
        contexts: Increasing, shape ``(K,)``, the last below ``T``.
        progress: Is told how far it is.

    Returns:
        Two arrays ``(n, K)`` in nats. Paired: the last symbol given the ``c`` before it alone. Naive: the symbol that
        has ``c`` symbols before it in the window, another one for each context.
    """
    paired, naive = np.empty((2, len(windows), len(contexts)))
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        rows = slice(start, start + WINDOWS_AT_ONCE)
        for column, context in enumerate(contexts):
            progress(f"{start:,} of {len(windows):,} targets")
            at_each = velocity(model, windows[rows, windows.shape[1] - 1 - context :])
            paired[rows, column] = at_each[:, -1]
        naive[rows] = at_each[:, contexts]  # of the longest context, which comes last
    return paired, naive


@dataclass(frozen=True)
class Claim:
    """What the data say for "each of these numbers is above zero".

    Attributes:
        confidence: In all of them together: one minus the largest of their one-sided p-values (intersection-union).
        shown: How many are above zero, each by itself at `LEVEL`.
        against: How many are below zero, all of them together at `LEVEL` (Bonferroni).
        total: How many there are.
    """

    confidence: float
    shown: int
    against: int
    total: int


@dataclass(frozen=True)
class InformationCurve:
    """``E[v]`` against the context, its change and its bend, with standard errors, in nats.

    Attributes:
        contexts: Shape ``(K,)``.
        velocity: ``L(c)``, shape ``(K,)``.
        velocity_error: Standard error, shape ``(K,)``.
        change: ``L(c_{j+1}) - L(c_j)``, shape ``(K - 1,)``.
        change_error: Of the paired differences, shape ``(K - 1,)``.
        bend: Change a symbol of a step less that of the step before, ``(K - 2,)``; above zero where it decelerates.
        bend_error: Shape ``(K - 2,)``.
        n_blocks: Blocks whose means the errors come from.
    """

    contexts: np.ndarray
    velocity: np.ndarray
    velocity_error: np.ndarray
    change: np.ndarray
    change_error: np.ndarray
    bend: np.ndarray
    bend_error: np.ndarray
    n_blocks: int

    @property
    def slope(self) -> np.ndarray:
        """Change a symbol of context, the chord's slope, shape ``(K - 1,)``: the acceleration of Figure 1."""
        return self.change / np.diff(self.contexts)

    @property
    def slope_error(self) -> np.ndarray:
        """Its standard error, shape ``(K - 1,)``."""
        return self.change_error / np.diff(self.contexts)

    @property
    def log_slope(self) -> np.ndarray:
        """Change a unit of ``ln t``, where ``t = c + 1`` is the target's position, shape ``(K - 1,)``."""
        slope: np.ndarray = self.change / np.diff(np.log1p(self.contexts))
        return slope

    def falls(self) -> Claim:
        """Return what the data say for "it falls with every step"."""
        return _claim(-self.change, self.change_error, self.n_blocks - 1)

    def decelerates(self) -> Claim:
        """Return what the data say for "it falls less quickly with every step"."""
        return _claim(self.bend, self.bend_error, self.n_blocks - 1)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges of the intervals of the velocity, each by itself at `LEVEL`."""
        half = stats.t.ppf(0.5 + 0.5 * LEVEL, self.n_blocks - 1) * self.velocity_error
        return self.velocity - half, self.velocity + half


def information_curve(losses: np.ndarray, contexts: np.ndarray, n_blocks: int = 64) -> InformationCurve:
    """Return means of losses, of their differences and bends, with errors from the spread of block means.

    Args:
        losses: Nats, shape ``(n, K)``: targets in the order of their places, a column a context.
        contexts: Shape ``(K,)``, increasing.
        n_blocks: Blocks of equally many neighbouring targets; what does not fill one is left out at the end.

    Raises:
        UsageError: Fewer targets than blocks, or fewer than two blocks or contexts.

    Example:
        >>> curve = information_curve(np.array([[1.0, 0.5], [2.0, 1.0], [3.0, 2.0]]), np.array([0, 1]), n_blocks=3)
        >>> curve.velocity.round(3).tolist(), curve.change.round(3).tolist(), curve.change_error.round(3).tolist()
        ([2.0, 1.167], [-0.833], [0.167])
    """
    if not 2 <= n_blocks <= len(losses):
        raise UsageError(f"{len(losses):,} targets cannot make {n_blocks} blocks; expected a target a block at least.")
    if len(contexts) < 2:
        raise UsageError(f"One context of {contexts.tolist()} has no change. Give a longer text or --context.")
    means = losses[: len(losses) // n_blocks * n_blocks].reshape(n_blocks, -1, len(contexts)).mean(1)
    changes = np.diff(means)
    bends = np.diff(changes / np.diff(contexts))
    parts = [(part.mean(0), part.std(0, ddof=1) / math.sqrt(n_blocks)) for part in (means, changes, bends)]
    (level, level_error), (change, change_error), (bend, bend_error) = parts
    return InformationCurve(contexts, level, level_error, change, change_error, bend, bend_error, n_blocks)


def _claim(effect: np.ndarray, error: np.ndarray, freedom: int) -> Claim:
    """Return what effects with Student's distribution say for all of them being above zero."""
    sure = error <= ROUNDING
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(sure, np.where(np.abs(effect) <= ROUNDING, 0.0, np.sign(effect) * np.inf), effect / error)
    above, below = stats.t.sf(score, freedom), stats.t.cdf(score, freedom)
    nothing = sure & (score == 0.0)  # exactly zero: neither above nor below
    above, below = np.where(nothing, 1.0, above), np.where(nothing, 1.0, below)
    total = len(effect)
    return Claim(
        confidence=float(1.0 - above.max(initial=0.0)),
        shown=int((above < 1.0 - LEVEL).sum()),
        against=int((below < (1.0 - LEVEL) / max(total, 1)).sum()),
        total=total,
    )
