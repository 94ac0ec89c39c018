"""Sources whose information is known: exact models, what they emit, and the exact curve ``E[v(t)]`` of each.

They are what Figure 1 is measured against. A theorem: for a stationary source and its own model ``E[v(t)]`` is the
entropy of a symbol given ``t - 1`` before it, and never rises with t. That it falls *less quickly* is no theorem:
`repeating` holds still for ``k`` symbols and then falls to zero at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.special import entr, xlogy

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.information import SequenceModel

MOST_SEQUENCES = 2**18  # that are enumerated
TOLERANCE = 1e-9  # of probabilities that sum to one


class Source(SequenceModel, Protocol):
    """A source of sequences and its own model."""

    @property
    def longest_context(self) -> int:
        """Up to which its exact curve is to be had."""

    def sample(self, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Return ``n`` independent sequences, shape ``(n, length)``."""

    def expected_velocity(self, length: int) -> np.ndarray:
        """Return the exact ``E[v(t)]`` in nats for ``t = 1 .. length``, shape ``(length,)``."""


class CoinOfUnknownBias:
    """A coin whose bias is drawn from [0, 1], uniformly, for each sequence; its model is Laplace's rule of succession.

    ``E[v(t)] = (1/t) Σ_{k=0}^{t-1} h((k + 1)/(t + 1))`` with the binary entropy h: after ``t - 1`` tosses every number
    of heads is as likely. It falls to ``∫ h(p) dp = 1/2`` as ``1/2 + 1/(2t)``.

    Example:
        >>> CoinOfUnknownBias().expected_velocity(3).round(6).tolist()
        [0.693147, 0.636514, 0.605939]
    """

    n_symbols, least_context, longest_context = 2, 0, 256

    def log_probabilities(self, sequences: np.ndarray) -> np.ndarray:
        """Return ``log p(x_t | x_<t)``, shape ``(n, T)``: heads have ``(heads so far + 1)/(t + 1)``."""
        before = np.arange(sequences.shape[-1])
        heads = (np.cumsum(sequences, axis=-1) - sequences + 1.0) / (before + 2.0)
        chosen: np.ndarray = np.log(np.where(sequences == 1, heads, 1.0 - heads))
        return chosen

    def sample(self, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Return ``n`` sequences, each of a coin of its own, shape ``(n, length)``."""
        return (generator.random((n, length)) < generator.random((n, 1))).astype(np.int64)

    def expected_velocity(self, length: int) -> np.ndarray:
        """Return the exact ``E[v(t)]``, shape ``(length,)``."""
        heads = [np.arange(1, t + 1) / (t + 1) for t in range(1, length + 1)]
        return np.array([(entr(p) + entr(1.0 - p)).mean() for p in heads])


class MarkovChain:
    """A stationary Markov chain of order k: ``p(x_t | x_<t) = p(x_t | x_{t-k} .. x_{t-1})``.

    ``E[v(t)] = H_t - H_{t-1}`` with the entropies ``H_j`` of blocks of j symbols, and constant from ``t = k + 1`` on.

    Args:
        transition: Probabilities of the next symbol given the last k, oldest first, ``k + 1`` axes of length S.
        start: Stationary distribution of blocks of k symbols, k axes of length S; computed where it is the only one.

    Raises:
        UsageError: Something does not sum to one, or the start is not stationary, or not the only one.

    Example:
        >>> MarkovChain(np.array([[0.9, 0.1], [0.1, 0.9]])).expected_velocity(3).round(6).tolist()
        [0.693147, 0.325083, 0.325083]
    """

    least_context, longest_context = 0, 256

    def __init__(self, transition: np.ndarray, start: np.ndarray | None = None) -> None:
        self.transition = np.asarray(transition, dtype=float)
        self.n_symbols, self.order = self.transition.shape[-1], self.transition.ndim - 1
        _check_distributions(self.transition, "transition")
        start = self._stationary() if start is None else np.asarray(start, dtype=float)
        _check_distributions(start.reshape(1, -1), "start")
        if np.abs(self._shifted(start) - start).max() > TOLERANCE:
            raise UsageError("The start of the Markov chain is not stationary. Leave it out to have it computed.")
        # Of blocks of 0 .. k symbols.
        self.blocks = [start.sum(axis=tuple(range(length, self.order))) for length in range(self.order + 1)]

    def _shifted(self, start: np.ndarray) -> np.ndarray:
        """Return the distribution of blocks one symbol later."""
        shifted: np.ndarray = (start[..., None] * self.transition).sum(0)
        return shifted

    def _stationary(self) -> np.ndarray:
        blocks = np.eye(self.n_symbols**self.order).reshape(-1, *self.transition.shape[:-1])
        step = np.stack([self._shifted(block).ravel() for block in blocks], axis=1)
        _, sizes, right = np.linalg.svd(step - np.eye(len(step)))
        if (sizes < TOLERANCE).sum() != 1:
            raise UsageError("The Markov chain has more than one stationary distribution. Say which: start=.")
        start: np.ndarray = (right[-1] / right[-1].sum()).clip(0.0)
        return start.reshape(self.transition.shape[:-1])

    def log_probabilities(self, sequences: np.ndarray) -> np.ndarray:
        """Return ``log p(x_t | x_<t)``, shape ``(n, T)``."""
        found = np.empty(sequences.shape)
        with np.errstate(divide="ignore"):
            for t in range(sequences.shape[-1]):
                past = tuple(sequences[..., max(0, t - self.order) : t + 1].T)
                if t < self.order:
                    found[..., t] = np.log(self.blocks[t + 1][past]) - np.log(self.blocks[t][past[:-1]])
                else:
                    found[..., t] = np.log(self.transition[past])
        return found

    def sample(self, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Return ``n`` independent sequences, shape ``(n, length)``."""
        first = generator.choice(self.blocks[-1].size, size=n, p=self.blocks[-1].ravel())
        drawn = list(np.unravel_index(first, self.blocks[-1].shape))
        while len(drawn) < length:
            drawn.append(_drawn(self.transition[tuple(drawn[len(drawn) - self.order :])], generator))
        return np.stack(drawn[:length], axis=1)

    def expected_velocity(self, length: int) -> np.ndarray:
        """Return the exact ``E[v(t)]``, shape ``(length,)``."""
        joint = [*self.blocks, self.blocks[-1][..., None] * self.transition]
        rises = np.diff([float(entr(block).sum()) for block in joint])
        return rises[np.minimum(np.arange(length), self.order)]


class HiddenMarkovChain:
    """A stationary Markov chain that is seen through noise; its model is the forward algorithm.

    ``E[v(t)]`` by enumeration of all sequences of ``t`` symbols.

    Args:
        transition: Probabilities of the next hidden state, shape ``(K, K)``; one stationary distribution.
        emission: Probabilities of a symbol in each hidden state, shape ``(K, S)``.

    Example:
        >>> chain = HiddenMarkovChain(np.array([[0.9, 0.1], [0.1, 0.9]]), np.eye(2))  # without noise
        >>> chain.expected_velocity(3).round(6).tolist()
        [0.693147, 0.325083, 0.325083]
    """

    least_context, longest_context = 0, 16

    def __init__(self, transition: np.ndarray, emission: np.ndarray) -> None:
        hidden = MarkovChain(transition)
        self.transition, self.start = hidden.transition, hidden.blocks[-1]
        self.emission = np.asarray(emission, dtype=float)
        self.n_symbols = self.emission.shape[-1]
        _check_distributions(self.emission, "emission")

    def log_probabilities(self, sequences: np.ndarray) -> np.ndarray:
        """Return ``log p(x_t | x_<t)``, shape ``(n, T)``, by the forward algorithm."""
        found = np.empty(sequences.shape)
        state = np.broadcast_to(self.start, (len(sequences), len(self.start)))  # p(z_t | x_<t)
        for t, symbols in enumerate(sequences.T):
            joint = state * self.emission.T[symbols]
            total = joint.sum(-1)
            found[:, t] = np.log(total)
            state = joint / total[:, None] @ self.transition
        return found

    def sample(self, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Return ``n`` independent sequences, shape ``(n, length)``."""
        state = generator.choice(len(self.start), size=n, p=self.start)
        drawn = []
        for _ in range(length):
            drawn.append(_drawn(self.emission[state], generator))
            state = _drawn(self.transition[state], generator)
        return np.stack(drawn, axis=1)

    def expected_velocity(self, length: int) -> np.ndarray:
        """Return the exact ``E[v(t)]``, shape ``(length,)``.

        Raises:
            UsageError: There are too many sequences to enumerate.
        """
        if self.n_symbols**length > MOST_SEQUENCES:
            raise UsageError(
                f"{self.n_symbols}^{length} sequences are too many to enumerate; at most {MOST_SEQUENCES:,} are. "
                f"Take a shorter --context."
            )
        joint, entropies = self.start[None], [0.0]  # p(x_<t, z_t), a row for each x_<t
        for _ in range(length):
            seen = joint[:, None] * self.emission.T
            entropies.append(-float(xlogy(seen.sum(-1), seen.sum(-1)).sum()))
            joint = (seen @ self.transition).reshape(-1, len(self.start))
        return np.diff(entropies)


def repeating(lag: int, n_symbols: int = 2) -> MarkovChain:
    """Return the chain ``X_t = X_{t-lag}`` from random first symbols: what never rises, and yet falls all at once.

    Example:
        >>> repeating(2).expected_velocity(4).round(6).tolist()
        [0.693147, 0.693147, 0.0, 0.0]
    """
    copied = np.eye(n_symbols).reshape(n_symbols, *(1,) * (lag - 1), n_symbols)  # the oldest of the last symbols
    shape = (n_symbols,) * lag
    return MarkovChain(np.broadcast_to(copied, (*shape, n_symbols)), np.full(shape, float(n_symbols) ** -lag))


def _second_order() -> MarkovChain:
    """A symbol is likely to be the one before last; how likely depends on the last."""
    return MarkovChain(np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]]))


def _noisy_switch() -> HiddenMarkovChain:
    """A slow switch, seen through noise: what is remembered keeps helping for long."""
    return HiddenMarkovChain(np.array([[0.95, 0.05], [0.05, 0.95]]), np.array([[0.8, 0.2], [0.2, 0.8]]))


SOURCES: dict[str, Callable[[], Source]] = {
    "coin": CoinOfUnknownBias,
    "hidden-markov": _noisy_switch,
    "markov": _second_order,
    "repeat": lambda: repeating(4),
}


def _check_distributions(rows: np.ndarray, name: str) -> None:
    """Refuse rows that are no distributions."""
    sums = rows.sum(-1)
    if not np.isfinite(rows).all() or (rows < 0.0).any() or np.abs(sums - 1.0).max() > TOLERANCE:
        wrong = sums.ravel()[np.abs(np.nan_to_num(sums.ravel()) - 1.0).argmax()]
        raise UsageError(f"A row of `{name}` sums to {wrong:.9g} or holds what is no probability; expected 1.")


def _drawn(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a symbol for each row of probabilities."""
    below = np.cumsum(probabilities, axis=-1) < generator.random((len(probabilities), 1))
    symbol: np.ndarray = below.sum(-1)
    return symbol.clip(max=probabilities.shape[-1] - 1)
