"""Observations as network inputs: one flat float32 vector each."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError

Encoder = Callable[[np.ndarray], np.ndarray]
MOST_INPUTS = 100_000  # a fully connected layer of more is beyond what these agents are for


def observation_encoder(space: gym.Space) -> tuple[Encoder, int]:
    """Return a function from observations ``(..., *shape)`` to inputs ``(..., I)``, and I.

    Box observations are flattened; coordinates whose bounds are finite are mapped to [-1, 1], because
    networks learn slowly from numbers of very different sizes (MountainCar's speed is at most 0.07).
    Discrete observations become one-hot vectors.

    Raises:
        UsageError: The space is neither a Box nor Discrete, or has no coordinates, or far too many.

    Example:
        >>> encode, size = observation_encoder(gym.spaces.Discrete(3))
        >>> encode(np.array([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if not isinstance(space, gym.spaces.Discrete | gym.spaces.Box):
        raise UsageError(
            f"This agent needs Box or Discrete observations; got {space}. "
            "Wrap the environment in gymnasium.wrappers.FlattenObservation, or use sb3:ppo."
        )
    size = int(space.n) if isinstance(space, gym.spaces.Discrete) else int(np.prod(space.shape, dtype=int))
    if not 1 <= size <= MOST_INPUTS:
        raise UsageError(
            f"Observations of {space} are {size:,} numbers; expected 1 to {MOST_INPUTS:,}. Wrap the environment in "
            "gymnasium.wrappers.TransformObservation to make them so."
        )
    return (_one_hot(space) if isinstance(space, gym.spaces.Discrete) else _box_encoder(space)), size


def _one_hot(space: gym.spaces.Discrete) -> Encoder:
    size, start = int(space.n), int(space.start)

    def encode(observations: np.ndarray) -> np.ndarray:
        places = np.ravel(observations) - start
        inputs = np.zeros((places.size, size), np.float32)
        inputs[np.arange(places.size), places] = 1.0
        return inputs.reshape(*np.shape(observations), size)

    return encode


def _box_encoder(space: gym.spaces.Box) -> Encoder:
    low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
    # Bounds near the limits of the type mean "none": some environments write 3.4e38 for infinity.
    bounded = (np.abs(low) < 1e6) & (np.abs(high) < 1e6) & (high > low)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    center = ((high + low) / 2).astype(np.float32)
    scale = (2 / (high - low)).astype(np.float32)
    rank = len(space.shape)

    def encode(observations: np.ndarray) -> np.ndarray:
        flat = observations.reshape(*observations.shape[: observations.ndim - rank], -1)
        inputs: np.ndarray = (flat.astype(np.float32) - center) * scale
        return inputs

    return encode
