"""Medians of times that are partly unknown: by hand, by a textbook's data, by statsmodels, and by trying all cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from hamiltonian_rl.principles.kinematics.censoring import MedianTime, Time, median_time, survival, survival_median

CASES = [
    ([Time(4), Time(2), Time(9)], MedianTime(4, False, 3, 3)),
    ([Time(4), Time(2)], MedianTime(3, False, 2, 2)),
    ([Time(5)], MedianTime(5, False, 1, 1)),
    ([Time(10, True)], MedianTime(10, True, 0, 1)),
    ([Time(2), Time(4), Time(10, True)], MedianTime(4, False, 2, 3)),
    ([Time(2), Time(10, True), Time(10, True)], MedianTime(10, True, 1, 3)),
    ([Time(2), Time(10, True)], MedianTime(6, True, 1, 2)),  # (2 + x) / 2 with x above 10
    ([Time(3), Time(3), Time(3, True)], MedianTime(3, False, 2, 3)),  # a tie
    ([Time(1), Time(2), Time(3), Time(10, True)], MedianTime(2.5, False, 3, 4)),
    # One crashed at 1: it might have been the first or the last, so that the median lies between 3 and 5.
    ([Time(3), Time(5), Time(1, True)], MedianTime(3, True, 2, 3)),
]


@pytest.mark.parametrize(("times", "expected"), CASES)
def test_the_median_counts_runs_that_never_got_there_as_later(times, expected):
    for order in itertools.permutations(times):
        assert median_time(order) == expected


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.integers(1, 50)), min_size=1, max_size=7))
def test_the_median_holds_however_the_censored_runs_would_have_gone_on(runs):
    found = median_time([Time(length, censored) for length, censored, _ in runs])
    true = np.median([length + more if censored else length for length, censored, more in runs])
    assert found.value <= true
    assert found.is_bound or found.value == true


# Weeks of remission under 6-MP (Freireich et al., 1963), as in Klein and Moeschberger (2003), tables 1.1 and 4.1.
REACHED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL_WELL = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
REMISSION = [*map(Time, REACHED), *(Time(week, censored=True) for week in STILL_WELL)]


def test_the_textbooks_remission_times_have_the_textbooks_curve_and_median():
    curve = survival(REMISSION)
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.share.round(4).tolist() == [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    plain_error = curve.log_log_error * curve.share * np.abs(np.log(curve.share))
    assert plain_error.round(4).tolist() == [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert survival_median(REMISSION).value == 23


def test_a_small_example_worked_out_by_hand():
    # 3 at risk, one gets there: 2/3. Then one is censored. 1 at risk, it gets there: 0.
    curve = survival([Time(1), Time(2, censored=True), Time(3)])
    assert curve.share.tolist() == pytest.approx([2 / 3, 0.0])
    assert curve.log_log_error[0] == pytest.approx(math.sqrt(1 / (3 * 2)) / math.log(1.5))


@pytest.mark.parametrize("seed", range(60))
def test_curve_median_and_interval_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 25))
    lengths, there = rng.integers(1, 15, n).astype(float), rng.random(n) < 0.7
    if not there.any():
        there[0] = True
    theirs = SurvfuncRight(lengths, there)
    times = [Time(length, censored=not reached) for length, reached in zip(lengths, there, strict=True)]
    curve, found = survival(times), survival_median(times)
    moments = np.isin(theirs.surv_times, curve.times)
    np.testing.assert_allclose(theirs.surv_prob[moments], curve.share, atol=1e-12)
    if not (np.abs(curve.share - 0.5) < 1e-12).any():  # there statsmodels, as SAS, takes the later end, we the middle
        median = theirs.quantile(0.5)
        assert found.value == (math.inf if np.isnan(median) else median)
    with np.errstate(all="ignore"):
        lower, upper = theirs.quantile_ci(0.5)
    if not np.isnan(lower):  # it gives none where no time at all is in the interval
        assert (found.lower, found.upper) == (lower, upper)


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=9))
def test_both_medians_agree_where_no_run_ended_before_the_others_got_there(runs):
    longest = max(length for length, _ in runs)
    times = [Time(longest if censored else length, censored) for length, censored in runs]
    assumed, certain = survival_median(times), median_time(times)
    if certain.is_bound:
        assert assumed.value == math.inf
    else:
        assert assumed.value == certain.value


def test_without_anyone_there_and_with_one_run_there_is_no_interval():
    assert survival_median([Time(9, True), Time(9, True)]).lower == math.inf
    assert survival_median([Time(9, True), Time(9, True)]).value == math.inf
    assert math.isnan(survival_median([Time(4)]).lower)
    assert survival_median([Time(4)]).value == 4
