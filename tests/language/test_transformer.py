"""The transformer against a brute-force one, and what must not matter to it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.language.model import LanguageModel
from hamiltonian_rl.language.transformer import Block, Transformer, rotated
from hamiltonian_rl.principles.information import log_spaced_contexts, paired_velocities, velocity


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Transformer(5, width=16, heads=2, layers=3, starts=True).double()


@pytest.fixture(scope="module")
def model(network):
    return LanguageModel("five", network, 5, 32, 5, lambda raw: np.zeros(0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 12), data=st.data())
def test_a_later_symbol_changes_no_earlier_output(network, seed, length, data):
    symbols = np.random.default_rng(seed).integers(5, size=(1, length))
    at = data.draw(st.integers(1, length - 1))
    other = symbols.copy()
    other[0, at] = (symbols[0, at] + 1) % 5
    before, after = network(torch.from_numpy(symbols)), network(torch.from_numpy(other))
    torch.testing.assert_close(before[:, :at], after[:, :at], rtol=0, atol=1e-12)
    assert (before[:, at:] - after[:, at:]).abs().max() > 1e-6


def test_products_of_queries_and_keys_depend_on_how_far_apart_they_are_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    many = [rotated(vector.expand(1, 1, 20, 8))[0, 0] for vector in (query, key)]
    products = many[0] @ many[1].T
    for offset in range(-19, 20):
        along = products.diagonal(offset)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-5)  # angles are single
    assert products[0].std() > 0.1  # and on that they do depend


def test_a_block_is_the_attention_of_the_textbook():
    """By loops, with rotations as complex numbers (Su et al., 2021, Eq. 16)."""
    torch.manual_seed(1)
    block, x = Block(8, 2).double(), torch.randn(1, 5, 8, dtype=torch.double)
    with torch.no_grad():
        parts = block.query_key_value(block.before_mixing(x))[0].numpy().reshape(5, 3, 2, 4)
        turned = parts[:, :2, :, :2] + 1j * parts[:, :2, :, 2:]
        turned = turned * np.exp(1j * np.arange(5)[:, None] * 10_000.0 ** (-np.arange(2) / 2))[:, None, None]
        seen = np.zeros((5, 2, 4))
        for at, head in itertools.product(range(5), range(2)):
            scores = [(turned[at, 0, head] * turned[past, 1, head].conj()).real.sum() / 2.0 for past in range(at + 1)]
            weights = np.exp(scores) / np.exp(scores).sum()
            seen[at, head] = weights @ parts[: at + 1, 2, head]
        mixed = x + block.mixed(torch.from_numpy(seen.reshape(1, 5, 8)))
        expected = mixed + block.back(torch.nn.functional.gelu(block.hidden(block.before_hidden(mixed))))
        torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-6)  # the angles are of single precision


def test_probabilities_of_all_sequences_add_up_to_one(model):
    sequences = np.array(list(itertools.product(range(5), repeat=4)))
    assert np.exp(model.log_probabilities(sequences).sum(1)).sum() == pytest.approx(1.0, abs=1e-10)


def test_a_context_that_is_cut_gives_what_a_fresh_text_gives(model):
    windows = np.random.default_rng(0).integers(5, size=(8, 33))
    contexts = log_spaced_contexts(32)
    paired, naive = paired_velocities(model, windows, contexts)
    for column, context in enumerate(contexts):
        fresh = [velocity(model, window[None, 32 - context :])[0, -1] for window in windows]
        np.testing.assert_allclose(paired[:, column], fresh, atol=1e-10)
        fresh = [velocity(model, window[None, : context + 1])[0, -1] for window in windows]
        np.testing.assert_allclose(naive[:, column], fresh, atol=1e-10)


def test_without_a_sign_for_the_start_nothing_is_said_of_the_first_symbol(network, model):
    blind = LanguageModel("blind", network, 5, 32, None, lambda raw: np.zeros(0))
    sequences = np.random.default_rng(0).integers(5, size=(3, 6))
    found = blind.log_probabilities(sequences)
    assert np.isnan(found[:, 0]).all()
    logits = network(torch.from_numpy(sequences))
    expected = logits.log_softmax(-1)[:, :-1].gather(-1, torch.from_numpy(sequences[:, 1:, None])).squeeze(-1)
    np.testing.assert_allclose(found[:, 1:], expected.detach(), atol=1e-10)
    assert np.isnan(blind.log_probabilities(sequences[:, :1])).all()
    assert np.isfinite(model.log_probabilities(sequences[:, :1])).all()


def test_a_context_longer_than_the_models_is_refused(model):
    with pytest.raises(UsageError, match=r"A context of 33 is longer than the 32 of five\. Take --context 32 or less"):
        model.log_probabilities(np.zeros((1, 34), dtype=np.int64))
