"""Information kinematics against joint probabilities, closed forms and enumeration; the estimator's errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.language.measurement import measure_source
from hamiltonian_rl.principles.information import (
    acceleration,
    information_curve,
    log_spaced_contexts,
    paired_velocities,
    position,
    velocity,
)
from hamiltonian_rl.principles.sources import (
    SOURCES,
    CoinOfUnknownBias,
    HiddenMarkovChain,
    MarkovChain,
    repeating,
)

HIDDEN = np.array([[0.9, 0.1], [0.3, 0.7]])
SEEN = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
SECOND_ORDER = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]])


def coin_joint(symbols):
    """The integral of p^k (1 - p)^(n - k) over the unit interval, k!(n - k)!/(n + 1)!."""
    heads, n = sum(symbols), len(symbols)
    return math.factorial(heads) * math.factorial(n - heads) / math.factorial(n + 1)


def hidden_joint(symbols):
    """The sum over all paths of the hidden state; the stationary distribution of HIDDEN is (3/4, 1/4)."""
    total = 0.0
    for path in itertools.product(range(2), repeat=len(symbols)):
        term = (0.75, 0.25)[path[0]]
        for now, then in itertools.pairwise(path):
            term *= HIDDEN[now, then]
        total += term * math.prod(SEEN[state, symbol] for state, symbol in zip(path, symbols, strict=True))
    return total


def chain_joint(symbols):
    """The chain from a distribution of pairs that a thousand steps of it have settled."""
    pairs = np.full((2, 2), 0.25)
    for _ in range(1000):
        pairs = np.einsum("ab,abc->bc", pairs, SECOND_ORDER)
    if len(symbols) == 1:
        return float(pairs.sum(1)[symbols[0]])
    tail = [SECOND_ORDER[symbols[t - 2], symbols[t - 1], symbols[t]] for t in range(2, len(symbols))]
    return float(pairs[symbols[0], symbols[1]]) * math.prod(tail)


KNOWN = {
    "coin": (CoinOfUnknownBias(), coin_joint, 2),
    "hidden": (HiddenMarkovChain(HIDDEN, SEEN), hidden_joint, 3),
    "chain": (MarkovChain(SECOND_ORDER), chain_joint, 2),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_distance_is_the_integral_of_the_velocity_whatever_the_sequence(name, length):
    source, joint, n_symbols = KNOWN[name]
    sequences = np.array(list(itertools.product(range(n_symbols), repeat=length)))
    distance = position(velocity(source, sequences))[:, -1]
    expected = [-math.log(joint(tuple(sequence))) for sequence in sequences.tolist()]
    np.testing.assert_allclose(distance, expected, atol=1e-12)
    assert np.exp(-distance).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", KNOWN)
def test_the_exact_curve_is_the_mean_velocity_over_all_sequences(name):
    source, joint, n_symbols = KNOWN[name]
    sequences = np.array(list(itertools.product(range(n_symbols), repeat=5)))
    weights = np.array([joint(tuple(sequence)) for sequence in sequences.tolist()])
    np.testing.assert_allclose(source.expected_velocity(5), weights @ velocity(source, sequences), atol=1e-12)


def test_the_acceleration_adds_up_to_the_velocity_gained():
    at_each = velocity(CoinOfUnknownBias(), np.array([[1, 0, 0, 1, 1]]))
    np.testing.assert_allclose(acceleration(at_each).sum(-1), at_each[:, -1] - at_each[:, 0], atol=1e-15)
    assert acceleration(at_each)[0, 0] == pytest.approx(math.log(3) - math.log(2))  # 1/2 first, then 1 - 2/3


def test_the_coin_begins_at_ln_2_and_falls_to_one_half_as_one_over_2t():
    curve = CoinOfUnknownBias().expected_velocity(3000)
    assert curve[0] == pytest.approx(math.log(2), abs=1e-12)
    third = math.log(3) - 2 / 3 * math.log(2)  # the entropy of 1/3
    assert curve[1] == pytest.approx(third, abs=1e-12)
    assert 2 * 3000 * (curve[-1] - 0.5) == pytest.approx(1.0, abs=2e-3)  # the next term is of order ln t/t


def test_what_repeats_never_rises_and_does_not_fall_less_quickly():
    curve = repeating(4, n_symbols=3).expected_velocity(8)
    np.testing.assert_allclose(curve, [math.log(3)] * 4 + [0.0] * 4, atol=1e-12)
    gained = acceleration(curve)
    assert (gained < 1e-12).all()
    assert (np.diff(gained) < -1.0).any()  # convex it would be nowhere below zero


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n_states=st.integers(1, 4), n_symbols=st.integers(2, 3))
def test_a_stationary_source_never_rises_under_its_own_model(seed, n_states, n_symbols):
    generator = np.random.default_rng(seed)
    hidden = generator.dirichlet(np.ones(n_states), size=n_states)
    curve = HiddenMarkovChain(hidden, generator.dirichlet(np.ones(n_symbols), size=n_states)).expected_velocity(6)
    assert (acceleration(curve) < 1e-12).all()
    assert (curve >= 0.0).all()


# The estimator


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_meets_its_exact_curve_within_the_error_bars(name):
    source = SOURCES[name]()
    found = measure_source(source, 16, 4096, 3, lambda text: None)
    assert np.abs(found.deviations()).max() < 4.0  # of five or so contexts by chance once in thousands
    far = np.abs(found.naive.velocity - found.exact) > 4.0 * found.naive.velocity_error + 1e-12
    assert not far.any()


def test_a_context_that_is_cut_is_a_sequence_of_its_own():
    source = SOURCES["hidden-markov"]()
    windows = source.sample(300, 9, np.random.default_rng(0))
    contexts = log_spaced_contexts(8)
    paired, naive = paired_velocities(source, windows, contexts)
    for row, column in itertools.product((0, 255, 256, 299), range(len(contexts))):
        cut = windows[row : row + 1, 8 - contexts[column] :]
        assert paired[row, column] == pytest.approx(velocity(source, cut)[0, -1], abs=1e-12)
    np.testing.assert_allclose(naive, velocity(source, windows)[:, contexts], atol=1e-12)


def test_at_long_contexts_of_the_coin_the_naive_curve_is_ten_times_noisier():
    found = measure_source(CoinOfUnknownBias(), 256, 4096, 0, lambda text: None)
    assert found.noise_ratios()[-1] > 7.0
    true = np.diff(found.exact)[-1]
    assert abs(found.paired.change[-1] - true) < 4.0 * found.paired.change_error[-1]


def test_errors_are_those_of_the_mean_though_neighbours_are_alike():
    generator = np.random.default_rng(0)
    means, errors, plain = [], [], []
    for _ in range(400):
        noise = generator.standard_normal(4096)
        alike = np.convolve(noise, np.ones(8), mode="same")[:, None] * [1.0, 0.5]  # each eight neighbours share
        curve = information_curve(alike, np.array([0, 1]))
        means.append(curve.velocity[0])
        errors.append(curve.velocity_error[0])
        plain.append(alike[:, 0].std() / 64)
        assert curve.change_error[0] == pytest.approx(0.5 * curve.velocity_error[0])
    spread = np.std(means)
    assert np.mean(errors) == pytest.approx(spread, rel=0.12)  # 400 repeats know a spread to 3.5 %
    assert np.mean(plain) < 0.5 * spread  # as if they were independent: far too sure


def test_the_verdicts_are_those_of_the_exact_curves():
    coin = measure_source(SOURCES["coin"](), 32, 16_384, 0, lambda text: None).paired
    assert coin.falls().confidence > 0.99
    assert coin.decelerates().confidence > 0.95
    repeat = measure_source(SOURCES["repeat"](), 16, 256, 0, lambda text: None).paired
    assert (repeat.falls().shown, repeat.falls().against, repeat.falls().total) == (1, 0, 5)
    assert repeat.decelerates().against == 1
    assert repeat.falls().confidence == repeat.decelerates().confidence == 0.0


def test_a_curve_that_stands_still_at_one_step_is_said_to_fall_at_each_in_one_case_of_twenty():
    generator = np.random.default_rng(0)
    falls = [1.0, 0.0, 0.0] + generator.standard_normal((1000, 64, 3)) * [0.01, 0.1, 0.1]
    sure = [information_curve(losses, np.array([0, 1, 2])).falls().confidence >= 0.95 for losses in falls]
    assert np.mean(sure) == pytest.approx(0.05, abs=0.025)  # three and a half standard errors


def test_contexts_are_a_factor_of_two_apart_and_end_at_the_longest():
    assert log_spaced_contexts(256).tolist() == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert log_spaced_contexts(100, least=1).tolist() == [1, 2, 4, 8, 16, 32, 64, 100]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MarkovChain(np.array([[0.9, 0.2], [0.1, 0.9]])), "sums to 1.1"),
        (lambda: MarkovChain(np.array([[1.1, -0.1], [0.1, 0.9]])), "no probability"),
        (lambda: MarkovChain(np.array([[np.nan, 1.0], [0.1, 0.9]])), "no probability"),
        (lambda: MarkovChain(np.eye(2)), "more than one stationary"),
        (lambda: MarkovChain(HIDDEN, start=np.array([0.5, 0.5])), "not stationary"),
        (lambda: HiddenMarkovChain(HIDDEN, SEEN[:, :2]), "emission"),
        (lambda: HiddenMarkovChain(HIDDEN, SEEN).expected_velocity(40), "too many to enumerate"),
        (lambda: information_curve(np.zeros((5, 2)), np.array([0, 1])), "cannot make 64 blocks"),
        (lambda: information_curve(np.zeros((64, 1)), np.array([0])), "has no change"),
        (lambda: measure_source(repeating(2), 300, 64, 0, lambda text: None), "up to a context of 256"),
    ],
)
def test_what_is_no_source_or_no_curve_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(UsageError, match=sentence):
        make()
