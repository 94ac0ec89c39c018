"""Observations as network inputs: the numbers of each kind of space, worked out by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from hamiltonian_rl.agents.encoding import observation_encoder
from hamiltonian_rl.errors import UsageError

INF = np.inf


def box(low: list[float], high: list[float]) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def encoded(space: gym.Space, observations: Any) -> np.ndarray:
    encode, size = observation_encoder(space)
    inputs = encode(np.asarray(observations, space.dtype))
    assert inputs.dtype == np.float32
    assert inputs.shape[-1] == size
    return inputs


def test_finite_bounds_are_mapped_to_minus_one_and_one() -> None:
    # MountainCar: position from -1.2 to 0.6, centre -0.3; speed up to 0.07.
    space = box([-1.2, -0.07], [0.6, 0.07])
    observations = [[-1.2, -0.07], [0.6, 0.07], [-0.3, 0.0], [0.15, -0.035]]
    expected = [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.5, -0.5]]
    np.testing.assert_allclose(encoded(space, observations), expected, rtol=0, atol=1e-6)  # float32


def test_observations_beyond_finite_bounds_are_not_clipped() -> None:
    np.testing.assert_allclose(encoded(box([0.0], [2.0]), [[5.0], [-1.0]]), [[4.0], [-2.0]])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-INF, INF),
        (0.0, INF),
        (-INF, 0.0),
        (-3.4e38, 3.4e38),
        (-5.0, 3.4e38),
        (-3.4e38, 5.0),
        (-1e7, 5.0),
        (-5.0, 1e7),
        (2.0, 2.0),
    ],
    ids=str,
)
def test_coordinates_without_an_extent_are_left_untouched(low: float, high: float) -> None:
    # Infinite on a side, as large as a type allows, or of no width: nothing to divide by.
    observations = np.array([[-2.5], [0.0], [2.0], [1e5]], np.float32)
    assert np.array_equal(encoded(box([low], [high]), observations), observations)


def test_coordinates_of_one_box_are_treated_each_by_its_own_bounds() -> None:
    space = box([-4.8, -INF, 0.0, 7.0], [4.8, INF, 10.0, 7.0])
    # 2.4 / 4.8; untouched; (7.5 - 5) / 5; untouched.
    np.testing.assert_allclose(encoded(space, [2.4, -30.0, 7.5, 7.0]), [0.5, -30.0, 0.5, 7.0], rtol=1e-6)  # float32


def test_images_of_bytes_are_flattened_row_by_row() -> None:
    space = spaces.Box(0, 255, (2, 2, 3), np.uint8)
    image = np.array([[[0, 51, 102], [153, 204, 255]], [[255, 0, 0], [0, 255, 0]]], np.uint8)
    expected = [-1.0, -0.6, -0.2, 0.2, 0.6, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0, -1.0]
    np.testing.assert_allclose(encoded(space, image), expected, rtol=0, atol=1e-6)  # float32


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)], ids=str)
def test_leading_shape_of_boxes_stays(leading: tuple[int, ...], shape: tuple[int, ...]) -> None:
    space = spaces.Box(-2.0, 2.0, shape, np.float64)
    observations = np.random.default_rng(0).uniform(-2, 2, (*leading, *shape))
    inputs = encoded(space, observations)
    assert inputs.shape == (*leading, np.zeros(shape).size)
    for index in np.ndindex(leading):
        np.testing.assert_allclose(inputs[index], observations[index].ravel() / 2, rtol=0, atol=1e-6)  # float32


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("start", [0, 5, -2])
def test_discrete_observations_become_one_hot_from_the_start(leading: tuple[int, ...], start: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 4, leading)
    inputs = encoded(spaces.Discrete(4, start=start), numbers + start)
    assert inputs.shape == (*leading, 4)
    for index in np.ndindex(leading):
        assert inputs[index].tolist() == [float(number == numbers[index]) for number in range(4)]


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Tuple((spaces.Discrete(2),)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_other_spaces_are_refused_with_what_to_do(space: gym.Space) -> None:
    with pytest.raises(UsageError) as caught:
        observation_encoder(space)
    assert str(space) in str(caught.value)
    assert "needs Box or Discrete" in str(caught.value)
    assert "FlattenObservation" in str(caught.value)
