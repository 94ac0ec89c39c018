"""What a text is made of: its bytes, or pairs of bytes that were merged because they often stand together (BPE)."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from hamiltonian_rl.errors import CheckpointError, UsageError

BYTES = 256
MOST_SYMBOLS = 65_536  # of 16 bits
# Where a text is cut before it is merged: a word with the space before it, a number, signs, white space. Every byte
# belongs to one piece, and no piece is so long that merging it takes long.
PIECE = re.compile(rb" ?[A-Za-z\x80-\xff]{1,48}| ?[0-9]{1,48}| ?[^\sA-Za-z0-9\x80-\xff]{1,48}|\s{1,48}")
Pair = tuple[int, int]


class Symbols:
    """Bytes, and merged pairs of symbols; without merges the bytes alone (Gage, 1994; Sennrich et al., 2016).

    Args:
        merges: Pairs of symbols; the i-th is symbol ``256 + i``, and is merged before all later ones.

    Example:
        >>> symbols = Symbols([(97, 98), (256, 99)])
        >>> symbols.encode(b"abc ab").tolist(), symbols.decode(np.array([257, 32, 256]))
        ([257, 32, 256], b'abc ab')
    """

    def __init__(self, merges: list[Pair] | None = None) -> None:
        self.merges = merges or []
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._bytes = [bytes([byte]) for byte in range(BYTES)]
        for left, right in self.merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])

    @property
    def n_symbols(self) -> int:
        """How many there are."""
        return BYTES + len(self.merges)

    def encode(self, raw: bytes) -> np.ndarray:
        """Return a text's symbols, unsigned, shape ``(T,)``."""
        if not self.merges:
            return np.frombuffer(raw, np.uint8)
        known: dict[bytes, list[int]] = {}
        found: list[int] = []
        for piece in PIECE.findall(raw):
            if piece not in known:
                known[piece] = self._merged(piece)
            found += known[piece]
        return np.array(found, dtype=np.uint16)

    def decode(self, symbols: np.ndarray) -> bytes:
        """Return the bytes that symbols stand for."""
        return b"".join(self._bytes[symbol] for symbol in symbols.tolist())

    def _merged(self, piece: bytes) -> list[int]:
        word = list(piece)
        while len(word) > 1:
            pair = min(itertools.pairwise(word), key=lambda pair: self._rank.get(pair, len(self.merges)))
            if pair not in self._rank:
                break
            word = _with_pair_merged(word, pair, BYTES + self._rank[pair])
        return word

    def to_array(self) -> np.ndarray:
        """Return the merges, shape ``(M, 2)``, for a checkpoint."""
        return np.array(self.merges, dtype=np.int64).reshape(-1, 2)

    @classmethod
    def from_array(cls, merges: np.ndarray, where: str) -> Symbols:
        """Return the symbols of a checkpoint.

        Raises:
            CheckpointError: A merge is of symbols that there are not before it.
        """
        if (merges.ndim, merges.shape[-1]) != (2, 2) or merges.dtype != np.int64:
            raise CheckpointError(f"{where} was altered: its merges are no pairs of symbols. Use another checkpoint.")
        if ((merges < 0) | (merges >= BYTES + np.arange(len(merges))[:, None])).any():
            raise CheckpointError(f"{where} was altered: a merge is of unknown symbols. Use another checkpoint.")
        return cls([(left, right) for left, right in merges.tolist()])


def train_symbols(raw: bytes, vocabulary: int, progress: Callable[[str], None] = lambda text: None) -> Symbols:
    """Return the bytes and the pairs that are most frequent, merged one after the other; ties go to the lower numbers.

    Args:
        raw: The text to learn from.
        vocabulary: How many symbols there shall be at most; fewer where no pair occurs twice any more.
        progress: Is told how far it is.

    Raises:
        UsageError: The vocabulary has no room for the bytes, or is too large.

    Example:
        >>> train_symbols(b"aaab aaab", 258).merges
        [(97, 97), (97, 98)]
    """
    if not BYTES < vocabulary <= MOST_SYMBOLS:
        raise UsageError(f"A vocabulary of {vocabulary:,} is out of range; expected {BYTES + 1} to {MOST_SYMBOLS:,}.")
    pieces = Counter(PIECE.findall(raw))
    words, counts = [list(piece) for piece in pieces], list(pieces.values())
    totals: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)  # words that may hold the pair

    def count(index: int, sign: int) -> None:
        for pair in itertools.pairwise(words[index]):
            totals[pair] += sign * counts[index]
            places[pair].add(index)

    for index in range(len(words)):
        count(index, 1)
    merges: list[Pair] = []
    while len(merges) < vocabulary - BYTES and totals:
        best = min(totals, key=lambda pair: (-totals[pair], pair))
        if totals[best] < 2:
            break
        for index in places.pop(best):
            count(index, -1)
            words[index] = _with_pair_merged(words[index], best, BYTES + len(merges))
            count(index, 1)
        merges.append(best)
        del totals[best]
        places.pop(best, None)
        progress(f"{len(merges):,} of {vocabulary - BYTES:,} pairs merged")
    return Symbols(merges)


def _with_pair_merged(word: list[int], pair: Pair, symbol: int) -> list[int]:
    """Return the word with each occurrence of the pair, from the left, replaced by the symbol."""
    merged: list[int] = []
    at = 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            merged.append(symbol)
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return merged
