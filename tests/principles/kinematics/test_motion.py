"""Velocity, acceleration, deceleration and limits of curves whose derivatives and limits are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.kinematics.deceleration import deceleration_of
from hamiltonian_rl.principles.kinematics.infimum import limit_of
from hamiltonian_rl.principles.kinematics.motion import motion_of
from hamiltonian_rl.principles.kinematics.noise import noise_of

T = np.arange(1.0, 121.0)
UNIT = T / 120.0


def remembering(rng, n, rho):
    """Noise of variance 1 whose neighbours have the correlation rho."""
    steps = rng.normal(size=n + 100) * math.sqrt(1.0 - rho**2)
    for i in range(1, n + 100):
        steps[i] += rho * steps[i - 1]
    return steps[100:]


@pytest.mark.parametrize("places", [np.arange(30.0), np.arange(8.0), np.geomspace(1.0, 1000.0, 40), 1e9 + T])
def test_a_parabola_has_its_velocity_and_acceleration_exactly(places):
    middle = places.mean()
    motion = motion_of(places, 5.0 - 3.0 * (places - middle) + 0.25 * (places - middle) ** 2)
    scale = np.ptp(places)
    np.testing.assert_allclose(motion.velocity, -3.0 + 0.5 * (places - middle), atol=1e-7 * (3.0 + scale))
    np.testing.assert_allclose(motion.acceleration, 0.5, rtol=1e-5)
    assert motion.noise.sigma == pytest.approx(0.0, abs=1e-8 * scale**2)


def test_what_stands_still_has_no_velocity_not_even_of_rounding():
    motion = motion_of(T, np.full(len(T), 499.7))
    assert (motion.velocity == 0.0).all()
    assert (motion.acceleration == 0.0).all()
    assert (motion.value == 499.7).all()


def test_places_that_floats_cannot_tell_apart_are_refused():
    with pytest.raises(UsageError, match="too close together"):
        motion_of(np.array([-(2.0**62), *range(10), 2.0**62]), np.arange(12.0))


@pytest.mark.filterwarnings("error")
def test_a_limit_is_fitted_without_a_warning_where_no_power_bends():
    places = 2.0**60 + 256.0 * np.arange(20)
    limit = limit_of(motion_of(places, 1.0 + np.exp(-np.arange(20) / 3.0)), rises=False)
    assert limit.lower <= 1.0 <= limit.upper


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_intervals_of_velocity_and_acceleration_hold_the_true_ones_whether_or_not_noise_remembers(rho):
    y, v, a = (2.0 * (-4.0) ** k * np.exp(-4.0 * UNIT) for k in range(3))
    inside = []
    for seed in range(25):
        motion = motion_of(UNIT, y + 0.1 * remembering(np.random.default_rng(seed), len(T), rho))
        near_v = np.abs(motion.velocity - v) <= 1.96 * motion.velocity_error
        near_a = np.abs(motion.acceleration - a) <= 1.96 * motion.acceleration_error
        inside.append((near_v.mean(), near_a.mean()))
    # 25 curves with some six independent points each: a true 95 % has a standard error of 2 %. Correlated noise of so
    # few points is estimated too small now and then.
    assert np.mean(inside, axis=0).min() > (0.90 if rho == 0.0 else 0.84)


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.8])
def test_noise_is_found_under_a_smoother_that_takes_some_of_it(rho):
    n = 120
    smoother = np.array([[float(abs(i - j) <= 7) for j in range(n)] for i in range(n)])
    smoother /= smoother.sum(axis=1, keepdims=True)
    found = [noise_of(smoother, 3.0 * remembering(np.random.default_rng(seed), n, rho)) for seed in range(40)]
    assert np.mean([noise.rho for noise in found]) == pytest.approx(rho, abs=0.08)
    assert np.median([noise.sigma for noise in found]) == pytest.approx(3.0, rel=0.15)


def test_many_points_are_averaged_and_say_the_same():
    places = np.arange(100_000.0)
    motion = motion_of(places, 1e-9 * places**2 + np.random.default_rng(0).normal(size=len(places)))
    assert len(motion.places) == 200
    away = np.abs(motion.velocity - 2e-9 * motion.places) / motion.velocity_error
    assert np.mean(away < 1.96) > 0.85


def test_fewer_than_eight_points_have_no_velocity():
    with pytest.raises(UsageError, match="7 points are too few"):
        motion_of(T[:7], T[:7])


def test_the_mean_acceleration_of_a_parabola_is_its_acceleration():
    found = deceleration_of(motion_of(T, 7.0 - 0.01 * T**2), rises=True)
    assert found.acceleration == pytest.approx(-0.02, rel=1e-9)
    assert found.verdict == "decelerates"
    assert deceleration_of(motion_of(T, 7.0 - 0.01 * T**2), rises=False).verdict == "accelerates"


def test_its_weights_are_those_of_the_docstring():
    # u = s^4 has u'' = 12 s²; with weights (1 - s²)² on [-1, 1] the mean is 12 (16/105) / (16/15) = 12/7.
    s = np.linspace(-1.0, 1.0, 200)
    assert deceleration_of(motion_of(s, s**4), rises=True).acceleration == pytest.approx(12.0 / 7.0, rel=0.02)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_line_under_noise_is_seldom_said_to_slow_down_and_a_curve_mostly(rho):
    sure = []
    for seed in range(40):
        noise = 0.1 * remembering(np.random.default_rng(seed), len(T), rho)
        curve, line = (motion_of(UNIT, y + noise) for y in (2.0 * np.exp(-3.0 * UNIT), -UNIT))
        sure.append([deceleration_of(motion, rises=False).confidence >= 0.95 for motion in (curve, line)])
    curves, lines = np.mean(sure, axis=0)
    assert curves > 0.9
    assert lines <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / 40)


def test_nothing_moves_where_all_values_are_equal():
    motion = motion_of(T, np.full(len(T), 500.0))
    np.testing.assert_allclose(motion.velocity, 0.0, atol=1e-9)
    assert deceleration_of(motion, rises=True).confidence == 0.5
    limit = limit_of(motion, rises=True)
    assert limit is not None
    assert (limit.value, limit.lower, limit.upper) == pytest.approx((500.0, 500.0, 500.0))


CURVES = {
    "power": 2.0 + 3.0 * T**-0.5,
    "exponential": 2.0 + 3.0 * np.exp(-T / 30.0),
    "late": 2.0 + 4.0 / (1.0 + np.exp((T - 30.0) / 8.0)),  # flat, then falls, then flattens
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_interval_of_the_infimum_holds_it(name, rho):
    inside = []
    for seed in range(25):
        noise = 0.05 * remembering(np.random.default_rng(seed), len(T), rho)
        limit = limit_of(motion_of(T, CURVES[name] + noise), rises=False)
        inside.append(limit.lower <= 2.0 <= limit.upper)
        mirrored = limit_of(motion_of(T, -CURVES[name] - noise), rises=True)
        assert (mirrored.value, mirrored.upper) == pytest.approx((-limit.value, -limit.lower))
    assert np.mean(inside) >= 0.95 - 3.0 * math.sqrt(0.95 * 0.05 / 25)


def test_without_noise_the_limit_and_the_exponent_are_exact():
    power = limit_of(motion_of(T, CURVES["power"]), rises=False)
    assert power.family == "power"
    assert power.value == pytest.approx(2.0, abs=1e-2)  # of a grid of exponents, 0.3 % apart
    assert power.exponent == pytest.approx(0.5, rel=1e-2)
    exponential = limit_of(motion_of(T, CURVES["exponential"]), rises=False)
    assert exponential.family == "exponential"
    assert exponential.value == pytest.approx(2.0, abs=1e-2)
    assert exponential.exponent == pytest.approx(1.0 / 30.0, rel=1e-2)


def test_the_fit_window_of_a_late_curve_begins_where_it_is_fastest():
    limit = limit_of(motion_of(T, CURVES["late"]), rises=False)
    assert 20.0 <= limit.window[0] <= 60.0
    assert limit.window[1] == 120.0


@pytest.mark.parametrize("values", [-T, -np.log(T)])
def test_a_curve_that_goes_on_for_ever_has_no_infimum_in_sight(values):
    noise = 0.01 * np.random.default_rng(0).normal(size=len(T))
    assert limit_of(motion_of(T, values + noise), rises=False).lower == -math.inf


def test_a_first_step_of_zero_is_left_out_of_the_power_law():
    places = np.arange(0.0, 50.0)
    assert limit_of(motion_of(places, 1.0 + 1.0 / (1.0 + places)), rises=False).window[0] >= 1.0


def test_few_points_have_no_limit():
    assert limit_of(motion_of(T[:9], 1.0 / T[:9]), rises=False) is None
