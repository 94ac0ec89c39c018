"""Gymnasium spaces as plain data, so that a saved agent knows its spaces without a pickle."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import CheckpointError, UsageError


def space_to_tree(space: gym.Space) -> dict[str, Any]:
    """Return the space as nested dicts, numbers and arrays.

    Example:
        >>> space_to_tree(gym.spaces.Discrete(3))
        {'kind': 'Discrete', 'n': 3, 'start': 0, 'dtype': 'int64'}
        >>> space_from_tree(space_to_tree(gym.spaces.Discrete(3)))
        Discrete(3)
    """
    if isinstance(space, gym.spaces.Box):
        return {"kind": "Box", "low": space.low, "high": space.high, "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec, "start": space.start, "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": np.asarray(space.n)}
    if isinstance(space, gym.spaces.Dict):
        return {"kind": "Dict", "spaces": {name: space_to_tree(part) for name, part in space.spaces.items()}}
    if isinstance(space, gym.spaces.Tuple):
        return {"kind": "Tuple", "spaces": [space_to_tree(part) for part in space.spaces]}
    raise UsageError(f"Cannot save an agent for the space {space}. Known: Box, Discrete, Multi*, Dict, Tuple.")


def space_from_tree(tree: dict[str, Any]) -> gym.Space:
    """Return the space that `space_to_tree` wrote down."""
    kind = tree["kind"]
    if kind == "Box":
        return gym.spaces.Box(tree["low"], tree["high"], dtype=np.dtype(tree["dtype"]).type)
    if kind == "Discrete":
        return gym.spaces.Discrete(tree["n"], start=tree["start"], dtype=np.dtype(tree["dtype"]).type)
    if kind == "MultiDiscrete":
        return gym.spaces.MultiDiscrete(tree["nvec"], start=tree["start"], dtype=np.dtype(tree["dtype"]).type)
    if kind == "MultiBinary":
        shape = tree["n"]
        return gym.spaces.MultiBinary(int(shape) if shape.ndim == 0 else shape)
    if kind == "Dict":
        return gym.spaces.Dict([(name, space_from_tree(part)) for name, part in tree["spaces"].items()])
    if kind == "Tuple":
        return gym.spaces.Tuple([space_from_tree(part) for part in tree["spaces"]])
    raise CheckpointError(f"The file names a space of unknown kind, {kind!r}.")
