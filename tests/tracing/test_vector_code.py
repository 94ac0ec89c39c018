"""Sine, cosine and logarithm of the machine code against arbitrary precision."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from hamiltonian_rl.tracing.expressions import Graph
from hamiltonian_rl.tracing.vector_code import LANES, Library


@pytest.fixture(scope="module")
def waves() -> Library:
    x = Graph().input("x", 0)
    return Library({"waves": (["x"], [[x.sin(), x.cos()]])})


def _near_multiples_of_half_pi(count: int, last: float) -> np.ndarray:
    multiples = np.unique(np.linspace(1, last * 2.0 / np.pi, count).astype(int))
    with mpmath.workprec(200):
        return np.array([float(int(k) * mpmath.pi / 2) for k in multiples])


@pytest.mark.parametrize("largest", [1.0, 30.0, 1e5, 1e8])
@pytest.mark.parametrize("where", ["anywhere", "near multiples of pi/2"])
def test_sine_and_cosine_are_within_two_units_in_the_last_place(waves: Library, where: str, largest: float) -> None:
    if where == "anywhere":
        angles = np.random.default_rng(0).uniform(-largest, largest, 400)
    else:
        angles = _near_multiples_of_half_pi(400, max(largest, 2.0))
    angles = np.resize(angles, -(-len(angles) // LANES) * LANES)
    found = np.concatenate([waves("waves", [part[None]])[0] for part in angles.reshape(-1, LANES)], 1)
    with mpmath.workprec(200):
        for values, function in zip(found, (mpmath.sin, mpmath.cos), strict=True):
            for angle, value in zip(angles, values, strict=True):
                exact = function(mpmath.mpf(float(angle)))
                assert abs(mpmath.mpf(float(value)) - exact) <= 2.0 * np.spacing(abs(float(exact)))


def test_far_beyond_every_digit_of_the_angle_the_waves_are_nan(waves: Library) -> None:
    angles = np.array([[1.0001e8, -1.0001e8, 1e300, np.inf, -np.inf, np.nan, 1e8, -1e8]])
    found = waves("waves", [angles])[0]
    assert np.isnan(found[:, :6]).all()
    assert np.isfinite(found[:, 6:]).all()


@pytest.fixture(scope="module")
def logarithm() -> Library:
    return Library({"log": (["x"], [[Graph().input("x", 0).apply("log")]])})


@pytest.mark.parametrize("spread", [1e-15, 1e-3, 0.6, 30.0, 700.0])
def test_the_logarithm_is_within_two_units_in_the_last_place(logarithm: Library, spread: float) -> None:
    """Around 1 most of all, where it vanishes, up to the ends of the numbers there are."""
    numbers = np.exp(np.random.default_rng(1).uniform(-spread, spread, 400))
    numbers[:4] = np.sqrt(0.5), np.sqrt(2.0), np.finfo(float).max, 5e-324
    found = np.concatenate([logarithm("log", [part[None]])[0] for part in numbers.reshape(-1, LANES)], 1)[0]
    with mpmath.workprec(200):
        for number, value in zip(numbers, found, strict=True):
            exact = mpmath.log(mpmath.mpf(float(number)))
            assert abs(mpmath.mpf(float(value)) - exact) <= 2.0 * np.spacing(abs(float(exact)))


def test_the_logarithm_of_what_has_none(logarithm: Library) -> None:
    numbers = np.array([[0.0, -0.0, -1e-300, -1.0, -np.inf, np.nan, np.inf, 1.0]])
    found = logarithm("log", [numbers])[0][0]
    np.testing.assert_array_equal(found, [-np.inf, -np.inf, np.nan, np.nan, np.nan, np.nan, np.inf, 0.0])
