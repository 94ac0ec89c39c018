"""The statistics of a comparison, by hand and by trying all cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hamiltonian_rl.comparison.estimates import (
    bootstrap_interval,
    estimate,
    interquartile_mean,
    mean_curve,
)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # fewer than four: all of them
        ([0.0, 10.0, 20.0, 1000.0], 15.0),
        ([-1000.0, 1.0, 2.0, 3.0, 1000.0], 2.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 80.0], 4.5),  # two off either end
        ([5.0, 5.0, 5.0, 5.0, 9.0], 5.0),
    ],
)
def test_the_interquartile_mean_is_the_mean_of_the_middle_half(values, mean):
    assert interquartile_mean(np.array(values)) == mean
    assert interquartile_mean(np.array([values, values])).tolist() == [mean, mean]
    assert interquartile_mean(np.array(values[::-1])) == mean


def quantile(values: list[float], share: float) -> float:
    """Return the least value that at least such a share of the values does not exceed."""
    return sorted(values)[int(np.ceil(share * len(values))) - 1]


@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [0.0, 1.0, 1.0, 50.0], [3.0, 8.0, 1.0, 0.5, 90.0]])
def test_the_bootstrap_interval_is_that_of_all_ways_to_draw_the_runs_again(values):
    n = len(values)
    every = [float(interquartile_mean(np.array(drawn))) for drawn in itertools.product(values, repeat=n)]
    lower, upper = bootstrap_interval(np.array(values))
    # 10,000 draws place a quantile within 0.5 % of the probability: three standard errors, sqrt(.025 * .975 / 10000).
    assert quantile(every, 0.020) <= lower <= quantile(every, 0.030)
    assert quantile(every, 0.970) <= upper <= quantile(every, 0.980)


def test_one_run_has_a_mean_and_no_interval():
    found = estimate([3.0])
    assert found.mean == 3.0
    assert np.isnan([found.lower, found.upper]).all()
    assert np.isnan(estimate([]).mean)


def test_runs_that_agree_have_an_interval_of_no_width():
    found = estimate([500.0] * 5)
    assert (found.mean, found.lower, found.upper) == (500.0, 500.0, 500.0)


def test_the_mean_curve_is_linear_between_evaluations_and_ends_with_the_shortest_run():
    one = np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0])
    two = np.array([1.0, 3.0]), np.array([3.0, 7.0])
    places, mean, lower, upper = mean_curve([one, two])
    assert places.tolist() == [1.0, 2.0, 3.0]
    assert mean.tolist() == [2.0, 3.5, 5.0]
    assert lower.tolist() == [1.0, 2.0, 3.0]
    assert upper.tolist() == [3.0, 5.0, 7.0]
