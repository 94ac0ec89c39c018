"""Byte pairs against a brute-force trainer, and round trips of any bytes."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.language.symbols import PIECE, Symbols, train_symbols

TEXT = b"the cat sat on the mat, the cat ate the rat; then they sat there. 1999 and 2019 \xc3\xa4\xc3\xa4\xc3\xb6"
TRAINED = train_symbols(TEXT, 290)


def replaced(word, pair, symbol):
    """The word with the pair replaced, by hand."""
    out = []
    for value in word:
        out.append(value)
        if len(out) > 1 and (out[-2], out[-1]) == pair:
            out[-2:] = [symbol]
    return out


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_come_back(raw):
    for symbols in (Symbols(), TRAINED):
        encoded = symbols.encode(raw)
        assert symbols.decode(encoded) == raw
        assert encoded.max(initial=0) < symbols.n_symbols
    assert b"".join(PIECE.findall(raw)) == raw


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.text("abc ", max_size=6), max_size=30), vocabulary=st.integers(257, 275))
def test_what_was_learnt_comes_back_too(words, vocabulary):
    raw = " ".join(words).encode()
    symbols = train_symbols(raw, vocabulary)
    assert symbols.decode(symbols.encode(raw)) == raw
    assert symbols.n_symbols <= vocabulary


def test_the_merges_are_those_of_counting_all_pairs_anew_each_time():
    words = [list(piece) for piece in PIECE.findall(TEXT)]
    merges = []
    for symbol in range(256, 290):
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        merges.append(best)
        words = [replaced(word, best, symbol) for word in words]
    assert merges == TRAINED.merges
    assert [symbol for word in words for symbol in word] == TRAINED.encode(TEXT).tolist()


def test_merged_pairs_make_a_text_shorter_and_bytes_stay_bytes():
    raw = TEXT * 20
    assert Symbols().encode(raw).tolist() == list(raw)
    assert len(TRAINED.encode(raw)) < 0.7 * len(raw)


def test_symbols_come_back_from_an_array_and_a_false_one_is_refused():
    assert Symbols.from_array(TRAINED.to_array(), "here").merges == TRAINED.merges
    assert Symbols.from_array(Symbols().to_array(), "here").n_symbols == 256
    for false in ([[256, 1]], [[-1, 1]], [[1, 2, 3]], [1, 2]):
        with pytest.raises(CheckpointError, match="was altered"):
            Symbols.from_array(np.array(false, dtype=np.int64), "the checkpoint")
    with pytest.raises(CheckpointError, match="was altered"):
        Symbols.from_array(np.array([[1.0, 2.0]]), "the checkpoint")


@pytest.mark.parametrize("vocabulary", [0, 256, 65_537])
def test_a_vocabulary_without_room_is_refused(vocabulary):
    with pytest.raises(UsageError, match="out of range; expected 257 to 65,536"):
        train_symbols(TEXT, vocabulary)
