"""Spaces survive a checkpoint: equal, of equal types, and drawing equal samples from equal seeds."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from hamiltonian_rl.agents.spaces import space_from_tree, space_to_tree
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint

INF = np.inf


class NarrowBox(spaces.Box):
    """What environments derive from Box is saved as a Box."""


SPACES = [
    spaces.Box(-1.0, 1.0, (3,)),
    spaces.Box(-INF, INF, (2,)),
    spaces.Box(np.array([0, -INF, -1, 2], np.float32), np.array([INF, 3, 1, 2], np.float32)),
    spaces.Box(-INF, INF, (2, 3), np.float64),
    spaces.Box(np.array([1 / 3]), np.array([2 / 3]), dtype=np.float64),
    spaces.Box(-2.0, 2.0, (), np.float32),
    spaces.Box(-2.0, 2.0, (2,), np.float16),
    spaces.Box(0, 255, (4, 4, 3), np.uint8),
    spaces.Box(-5, 7, (2,), np.int64),
    NarrowBox(-1.0, 1.0, (3,)),
    spaces.Discrete(3),
    spaces.Discrete(4, start=-2),
    spaces.Discrete(4, dtype=np.int32),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([2, 3], start=[5, -1]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.MultiDiscrete([2, 3], dtype=np.int32),
    spaces.MultiBinary(3),
    spaces.MultiBinary((3,)),
    spaces.MultiBinary([2, 3]),
    spaces.Dict(position=spaces.Box(-1.0, 1.0, (2,)), mode=spaces.Discrete(3, start=1)),
    spaces.Dict(OrderedDict(b=spaces.Discrete(2), a=spaces.Box(-INF, 0.0, (2,)))),
    spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))),
    spaces.Tuple((spaces.Dict(x=spaces.Tuple((spaces.Discrete(5), spaces.Box(0, 1, (1,)))), y=spaces.Discrete(2)),)),
]


def same(first: object, second: object) -> bool:
    """Samples are equal in value, type and order."""
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    one, other = np.asarray(first), np.asarray(second)
    return one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{type(space).__name__}-{space.dtype}")
def test_space_read_from_a_checkpoint_is_the_space_that_was_written(tmp_path: Path, space: gym.Space) -> None:
    write_checkpoint(tmp_path / "space", space_to_tree(space))
    found = space_from_tree(read_checkpoint(tmp_path / "space"))
    assert isinstance(space, type(found))
    assert found == space
    assert (found.shape, found.dtype) == (space.shape, space.dtype)
    found.seed(0)
    space.seed(0)
    assert all(same(found.sample(), space.sample()) for _ in range(5))


@pytest.mark.parametrize(
    ("low", "high"), [(-INF, INF), (0.0, INF), (-INF, 0.0), (-3.0, 2.0)], ids=["both", "above", "below", "none"]
)
def test_box_read_from_a_checkpoint_is_unbounded_on_the_same_sides(tmp_path: Path, low: float, high: float) -> None:
    space = spaces.Box(low, high, (2,))
    write_checkpoint(tmp_path / "space", space_to_tree(space))
    found = space_from_tree(read_checkpoint(tmp_path / "space"))
    assert isinstance(found, spaces.Box)
    assert found.low.tolist() == [low] * 2
    assert found.high.tolist() == [high] * 2
    assert found.bounded_below.tolist() == [low > -INF] * 2
    assert found.bounded_above.tolist() == [high < INF] * 2


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))], ids=str)
def test_space_that_cannot_be_saved_is_refused_by_name(space: gym.Space) -> None:
    with pytest.raises(UsageError, match=r"Cannot save an agent for the space Text\(1, 5.*Known: Box, Discrete"):
        space_to_tree(space)


@pytest.mark.parametrize(
    "tree", [{"kind": "Graph"}, {"kind": "Tuple", "spaces": [{"kind": "Graph"}]}], ids=["plain", "nested"]
)
def test_space_of_unknown_kind_in_a_file_is_refused_by_its_kind(tree: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="unknown kind, 'Graph'"):
        space_from_tree(tree)
