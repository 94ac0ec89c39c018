"""Times of which some are only known to be longer: what the runs that never got there leave open.

Notation: ``S(t)`` the share of runs that need more than ``t``, ``n_i`` runs still under way just before the i-th time
``t_i`` at which some get there, ``d_i`` how many do.

Two answers, by what is assumed of the censored runs. `median_time` assumes nothing: it holds however they would have
gone on. `survival_median` is Kaplan and Meier's, the usual one: runs that ended early would have gone on as the others
did. They agree wherever all runs that never got there are at least as long as the median.

References:
    Kaplan and Meier (1958), "Nonparametric estimation from incomplete observations".
    Brookmeyer and Crowley (1982), "A confidence interval for the median survival time".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Time:
    """How long a run took to get somewhere, in steps or seconds; of a censored one, how long it did not.

    Attributes:
        length: The time, or the length of the run that never got there.
        censored: Whether it never got there.
    """

    length: float
    censored: bool = False


@dataclass(frozen=True)
class MedianTime:
    """The median of times of which some are only known to be longer.

    Attributes:
        value: The median, or what it is greater than.
        is_bound: Whether the median itself is unknown.
        reached: Runs that got there.
        runs: All runs.
    """

    value: float
    is_bound: bool
    reached: int
    runs: int


def median_time(times: Sequence[Time]) -> MedianTime:
    """Return the median time; where censored runs leave it open, the largest number that it is certainly above.

    The median grows with each of the times. So it lies between the median with each censored time at its run's length
    and that with each at infinity: where these two agree it is known, however the censored runs would have gone on.

    Example:
        >>> median_time([Time(3000), Time(4000), Time(10_000, censored=True)])
        MedianTime(value=4000, is_bound=False, reached=2, runs=3)
        >>> median_time([Time(3000), Time(10_000, censored=True), Time(10_000, censored=True)]).is_bound
        True
    """
    lower = statistics.median([time.length for time in times])
    upper = statistics.median([math.inf if time.censored else time.length for time in times])
    return MedianTime(lower, lower != upper, sum(not time.censored for time in times), len(times))


@dataclass(frozen=True)
class Survival:
    """Kaplan and Meier's curve; every array has the shape ``(K,)``.

    Attributes:
        times: ``t_i``, at which runs got there, increasing.
        share: ``S(t_i)``, of the runs that need longer.
        log_log_error: Greenwood's standard error of ``log(-log S(t_i))``; NaN where S is 0.
    """

    times: np.ndarray
    share: np.ndarray
    log_log_error: np.ndarray


def survival(times: Sequence[Time]) -> Survival:
    """Return the share of runs that are not there yet, ``S(t_i) = Π_{j<=i} (1 - d_j / n_j)``.

    Greenwood's formula gives ``Var(log S) = Σ d_j / (n_j (n_j - d_j))``, and that of ``log(-log S)`` is this divided by
    ``(log S)²``. A run that ended just when others got there was still under way then.

    Example:
        >>> survival([Time(1), Time(2, censored=True), Time(3)]).share.round(3).tolist()
        [0.667, 0.0]
    """
    lengths = np.array([time.length for time in times], float)
    got_there = ~np.array([time.censored for time in times], bool)
    moments = np.unique(lengths[got_there])
    under_way = (lengths >= moments[:, None]).sum(axis=1)
    arriving = (lengths[got_there] == moments[:, None]).sum(axis=1)
    share = np.cumprod(1.0 - arriving / under_way)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(arriving / (under_way * (under_way - arriving)))
        error = np.where(share > 0.0, np.sqrt(variance) / np.abs(np.log(share)), np.nan)
    return Survival(moments, share, error)


@dataclass(frozen=True)
class SurvivalMedian:
    """Kaplan and Meier's median with its 95 % interval; infinity where the curve does not come down to it.

    Attributes:
        value: Median; infinity where more than half of the runs would not be there by the end of the longest.
        lower: Bound of the interval.
        upper: The other one.
        reached: Runs that got there.
        runs: All runs.
    """

    value: float
    lower: float
    upper: float
    reached: int
    runs: int


def survival_median(times: Sequence[Time]) -> SurvivalMedian:
    """Return the median time, runs that never got there counted as censored.

    It is the first time at which ``S`` falls below 1/2, and the middle of the stretch where ``S`` is 1/2, so that
    without censored runs it is the ordinary median. The interval holds the times at which a test would not reject
    ``S = 1/2``, ``|log(-log S(t)) - log(log 2)| <= 1.96 se`` (Brookmeyer and Crowley; log-log). Of one run there is
    none: NaN.

    Example:
        >>> found = survival_median([Time(3000), Time(4000), Time(10_000, censored=True)])
        >>> found.value, found.upper
        (4000.0, inf)
        >>> survival_median([Time(3000), Time(9000, censored=True), Time(9000, censored=True)]).value
        inf
    """
    curve = survival(times)
    reached, runs = int(sum(not time.censored for time in times)), len(times)
    below = curve.times[curve.share < 0.5 - 1e-12]
    at_half = curve.times[np.abs(curve.share - 0.5) <= 1e-12]
    value = float(below[0]) if len(below) else math.inf
    if len(at_half) and len(below):
        value = 0.5 * (float(at_half[0]) + value)
    if runs < 2:
        return SurvivalMedian(value, math.nan, math.nan, reached, runs)
    margin = float(scipy.stats.norm.ppf(0.5 + 0.5 * CONFIDENCE)) * curve.log_log_error
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.log(-np.log(curve.share)) - math.log(math.log(2.0))
    # Where S is 0 there is no standard error: the time is in the interval unless an earlier one was above it.
    first = curve.times[distance > -margin]
    above = curve.times[(distance > margin) | (curve.share == 0.0)]
    lower = first[0] if len(first) else (above[0] if len(above) else math.inf)
    return SurvivalMedian(value, float(lower), float(above[0]) if len(above) else math.inf, reached, runs)
