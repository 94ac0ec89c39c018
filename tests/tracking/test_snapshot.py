"""A captured state, written to a file and put into a like object, is the state that was captured."""

from __future__ import annotations

import collections
import copy
import enum
import itertools
import random
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint
from hamiltonian_rl.tracking.snapshot import capture, restore


class Box:
    """Holds attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def through_a_file(tree: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "state.zip", tree)
        return read_checkpoint(Path(folder) / "state.zip")


def carry(source: Any, target: Any) -> bool:
    """Capture, write, read and restore."""
    return restore(target, through_a_file(capture(source)))


# Random states. A plan says which kinds nest in which; `build` makes an object of a plan with values drawn
# from a seed, so that two seeds give two like objects with different states.

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64"]
LEAVES = ["int", "big int", "float", "special float", "bool", "text", "none", "numpy scalar"]
MEMORY = ["PCG64", "MT19937", "Philox", "RandomState", "random.Random", "tensor", "torch.Generator", "adam", "sgd"]

plans = st.recursive(
    st.sampled_from([*LEAVES, *MEMORY])
    | st.tuples(st.just("array"), st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3).map(tuple))
    | st.tuples(st.just("again"), st.integers(0, 100)),
    lambda parts: st.tuples(
        st.sampled_from(["list", "tuple", "deque", "dict", "int dict", "object"]), st.lists(parts, max_size=4)
    ),
    max_leaves=12,
)


def build(plan: Any, seed: int) -> Any:
    return Box(root=_build(plan, np.random.default_rng(seed), []))


def _build(plan: Any, rng: np.random.Generator, made: list[Any]) -> Any:
    if isinstance(plan, str):
        return _leaf(plan, rng)
    kind = plan[0]
    if kind == "array":
        array = np.frombuffer(rng.bytes(8 * int(np.prod(plan[2], dtype=int))), np.uint64).reshape(plan[2])
        made.append((array % 2 if plan[1] == "bool" else array % 120).astype(plan[1]).copy())
        return made[-1]
    if kind == "again":  # something that is already in the tree, also what this stands in
        return made[plan[1] % len(made)] if made else None
    shell: Any = {"list": [], "tuple": [], "deque": collections.deque(), "object": Box()}.get(kind, {})
    if kind != "tuple":
        made.append(shell)
    for index, part in enumerate(plan[1]):
        item = _build(part, rng, made)
        if kind == "object":
            setattr(shell, f"part_{index}", item)
        elif kind in ("dict", "int dict"):
            shell[index if kind == "int dict" else f"key {index}"] = item
        else:
            shell.append(item)
    if kind == "tuple":
        shell = tuple(shell)
        made.append(shell)
    return shell


def _leaf(kind: str, rng: np.random.Generator) -> Any:
    seed = int(rng.integers(2**31))
    if kind in ("PCG64", "MT19937", "Philox"):
        generator = np.random.Generator(getattr(np.random, kind)(seed))
        generator.integers(100, size=3, dtype=np.uint32)  # leaves half a word behind
        return generator
    if kind in ("RandomState", "random.Random"):
        made: Any = np.random.RandomState(seed) if kind == "RandomState" else random.Random(seed)
        _ = made.normal() if kind == "RandomState" else made.gauss(0, 1)  # leaves the second normal number behind
        return made
    if kind == "tensor":
        return torch.from_numpy(rng.normal(size=(2, 3)).astype(np.float32))
    if kind == "torch.Generator":
        return torch.Generator().manual_seed(seed)
    if kind in ("adam", "sgd"):
        return trained(seed, torch.optim.Adam if kind == "adam" else torch.optim.SGD)
    return {
        "int": seed - 2**30,
        "big int": 2**127 + seed,
        "float": float(rng.normal()),
        "special float": [float("nan"), float("inf"), float("-inf"), -0.0][seed % 4],
        "bool": bool(seed % 2),
        "text": f"λ ☕ {seed}",
        "none": None,
        "numpy scalar": np.dtype(DTYPES[seed % len(DTYPES)]).type(seed % 2),
    }[kind]


def trained(seed: int, kind: Any = torch.optim.Adam, inputs: int = 3) -> Any:
    """Return an optimizer in the middle of its work; its parameters come along."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(inputs, 2)
    optimizer = kind(model.parameters(), lr=0.01 + seed % 7 / 100)
    for _ in range(3):
        train(optimizer)
    return optimizer


def train(optimizer: Any) -> None:
    optimizer.zero_grad()
    weight, bias = optimizer.param_groups[0]["params"]
    (weight.sin().sum() + (bias**2).sum()).backward()
    optimizer.step()


def fingerprint(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Return what tells two states apart, to the bit: also what generators yield and optimizers do next."""
    seen = {} if seen is None else seen
    if isinstance(value, np.ndarray | np.generic):
        return type(value).__name__, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, torch.Tensor):
        return "tensor", value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        future = copy.deepcopy(value)
        return type(value.bit_generator).__name__, future.integers(2**31, size=5, dtype=np.uint32).tobytes()
    if isinstance(value, np.random.RandomState):
        return "RandomState", copy.deepcopy(value).normal(size=5).tobytes()
    if isinstance(value, random.Random):
        future_random = copy.deepcopy(value)
        return "Random", [future_random.gauss(0, 1) for _ in range(5)]
    if isinstance(value, torch.Generator):
        return "torch.Generator", torch.rand(5, generator=value.clone_state()).tolist()
    if isinstance(value, torch.optim.Optimizer):
        state = copy.deepcopy(value.state_dict())
        return "optimizer", fingerprint(state["state"]), fingerprint([list(g.items()) for g in state["param_groups"]])
    if isinstance(value, list | tuple | collections.deque | dict | Box):
        if id(value) in seen:
            return "again", seen[id(value)]
        seen[id(value)] = len(seen)
        if isinstance(value, Box | dict):
            items = (vars(value) if isinstance(value, Box) else value).items()
            return type(value).__name__, [(repr(key), fingerprint(item, seen)) for key, item in items]
        kind = "sequence" if isinstance(value, list | tuple) else "deque"
        return kind, [fingerprint(item, seen) for item in value]
    return type(value).__name__, repr(value)  # repr tells -0.0 from 0.0, and finds nan equal to nan


@given(plans)
@settings(max_examples=150, deadline=None)
def test_any_state_survives_the_file_and_a_like_object(plan: Any) -> None:
    source, target = build(plan, 1), build(plan, 2)
    before = fingerprint(source)
    assert carry(source, target)
    assert fingerprint(target) == before
    assert fingerprint(source) == before, "Capturing changed the source."


@pytest.mark.parametrize("kind", ["list", "tuple", "deque", "dict", "int dict", "object"])
@pytest.mark.parametrize(
    "leaf", [*LEAVES, *MEMORY, *(("array", dtype, (2,)) for dtype in DTYPES), ("array", "int8", ())]
)
def test_each_kind_of_leaf_survives_in_each_kind_of_container(kind: str, leaf: Any) -> None:
    source, target = build((kind, [leaf, leaf]), 1), build((kind, [leaf, leaf]), 2)
    if leaf not in ("none", "special float", "bool", "numpy scalar", ("array", "bool", (2,))):
        assert fingerprint(target) != fingerprint(source), "The test would prove nothing."
    assert carry(source, target)
    assert fingerprint(target) == fingerprint(source)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW])
def test_an_optimizer_goes_on_to_the_bit(kind: Any) -> None:
    """Ten more steps of the restored one, and of the original one, which was never interrupted."""
    source, target = trained(1, kind), trained(2, kind)
    source_box = Box(parameters=source.param_groups[0]["params"], optimizer=source)
    assert carry(source_box, Box(parameters=target.param_groups[0]["params"], optimizer=target))
    for _ in range(10):
        train(source)
        train(target)
    for one, other in zip(*(optimizer.param_groups[0]["params"] for optimizer in (source, target)), strict=True):
        assert torch.equal(one, other)


def test_a_state_can_be_put_into_two_objects_that_then_live_apart() -> None:
    tree = capture(Box(array=np.zeros(3), optimizer=trained(1)))
    one, other = Box(array=None, optimizer=trained(2)), Box(array=None, optimizer=trained(3))
    assert restore(one, tree)
    one.array += 1
    train(one.optimizer)
    assert restore(other, tree)
    assert other.array.tolist() == [0, 0, 0]
    assert fingerprint(other.optimizer) == fingerprint(trained(1))


def test_a_state_taken_is_not_changed_by_what_happens_next() -> None:
    source = Box(array=np.zeros(3), tensor=torch.zeros(3), generator=torch.Generator().manual_seed(0), adam=trained(1))
    expected = copy.deepcopy(fingerprint(source))
    tree = capture(source)
    source.array += 1
    source.tensor += 1
    torch.rand(1, generator=source.generator)
    train(source.adam)
    target = Box(array=np.ones(3), tensor=torch.ones(3), generator=torch.Generator(), adam=trained(2))
    assert restore(target, tree)
    assert fingerprint(target) == expected


# In place, and shared


def test_arrays_and_tensors_are_restored_in_place_so_that_views_see_it() -> None:
    whole = np.zeros((2, 3))
    weights = torch.zeros(4)
    zero_dimensional = np.array(0.0)
    target = Box(whole=whole, row=whole[1], weights=weights, half=weights[:2], zero=zero_dimensional)
    numbers = np.arange(6.0).reshape(2, 3)
    tensor = torch.arange(4.0)
    source = Box(whole=numbers, row=numbers[1], weights=tensor, half=tensor[:2], zero=np.array(7.0))
    assert carry(source, target)
    assert target.whole is whole
    assert whole.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(target.row, whole)
    assert target.weights is weights
    assert weights.tolist() == [0, 1, 2, 3]
    assert target.half.data_ptr() == weights.data_ptr()
    assert target.zero is zero_dimensional
    assert zero_dimensional == 7


def test_containers_and_generators_stay_the_same_objects() -> None:
    def make(seed: int) -> Box:
        return Box(items=[seed], table={"a": seed}, queue=collections.deque([seed], 3), rng=np.random.default_rng(seed))

    target = make(2)
    before = dict(vars(target))
    assert carry(make(1), target)
    assert all(vars(target)[name] is value for name, value in before.items())
    assert target.queue.maxlen == 3
    assert before["items"] == [1]


def test_an_array_of_another_length_is_replaced_by_one_that_can_be_written_to() -> None:
    target = Box(array=np.zeros(2))
    assert carry(Box(array=np.arange(5.0)), target)
    target.array += 1
    assert target.array.tolist() == [1, 2, 3, 4, 5]


def test_lists_grow_and_shrink_and_dicts_gain_and_lose_keys() -> None:
    target = Box(items=[1, 2, 3], table={"old": 1, "both": 2}, queue=collections.deque([1, 2]), empty=[1])
    assert carry(Box(items=[9], table={"both": 3, "new": [4]}, queue=collections.deque([5, 6, 7]), empty=[]), target)
    assert (target.items, target.table, list(target.queue), target.empty) == (
        [9],
        {"both": 3, "new": [4]},
        [5, 6, 7],
        [],
    )


def test_cycles_end_and_are_kept() -> None:
    def make(number: int) -> Box:
        outer = Box(number=number, items=[])
        outer.inner = Box(outer=outer, number=-number)
        outer.items.append(outer.items)
        outer.table = {"self": outer}
        return outer

    target = make(2)
    assert carry(make(1), target)
    assert (target.number, target.inner.number) == (1, -1)
    assert target.inner.outer is target
    assert target.items[0] is target.items
    assert target.table["self"] is target


def test_what_is_shared_stays_shared() -> None:
    def make(number: int) -> Box:
        inner, items, array = Box(number=number), [number], np.array([number])
        return Box(one=inner, two=[inner, items], three=items, four=array, five={"array": array})

    target = make(2)
    assert carry(make(1), target)
    assert target.one is target.two[0]
    assert target.two[1] is target.three
    assert target.four is target.five["array"]
    assert (target.one.number, target.three, target.four.tolist()) == (1, [1], [1])


def test_a_tuple_in_two_places_is_restored_in_both() -> None:
    position = (1, 2)
    target = Box(position=(0, 0), last=(0, 0), items=[(0, 0)])
    assert carry(Box(position=position, last=position, items=[position]), target)
    assert (target.position, target.last, target.items) == ((1, 2), (1, 2), [(1, 2)])


def test_the_empty_tuple_which_python_has_only_once_is_restored_everywhere() -> None:
    target = Box(one=(1,), two=(2,))
    assert carry(Box(one=(), two=()), target)
    assert (target.one, target.two) == ((), ())


def test_what_came_to_be_shared_after_the_start_is_restored_or_reported() -> None:
    """An environment may set ``self.last = self.path`` on its way; a fresh one has two lists."""
    path = [1, 2]
    target = Box(path=[0], last=[0])
    assert not carry(Box(path=path, last=path), target) or (target.path, target.last) == ([1, 2], [1, 2])


@pytest.mark.parametrize("key", [(1, 2), ("a", (1, 2.5)), (), 3, -1.5, True, None, "text", np.int64(4)])
def test_keys_of_every_plain_kind_are_kept(key: Any) -> None:
    target = Box(table={"other": 0})
    assert carry(Box(table={key: 1}), target)
    assert target.table == {key: 1}
    assert type(next(iter(target.table))) in (type(key), int)


def test_named_tuples_keep_their_names() -> None:
    point = collections.namedtuple("point", "x y")
    target = Box(point=point(0, 0))
    assert carry(Box(point=point(1, 2)), target)
    assert target.point == point(1, 2)
    assert target.point.y == 2


class Light(enum.Enum):
    RED = 1
    GREEN = 2


def test_a_member_of_an_enumeration_is_never_overwritten() -> None:
    target = Box(light=Light.RED)
    restored = carry(Box(light=Light.GREEN), target)
    assert (Light.RED.name, Light.RED.value) == ("RED", 1)
    assert not restored or target.light is Light.GREEN


@pytest.mark.parametrize(
    "value", [np.longdouble(1.5), np.array([1j]), np.array(["a"]), np.array([None]), {1, 2}, b"raw", 1j], ids=repr
)
def test_what_cannot_be_written_down_is_left_alone_and_can_still_be_saved(value: Any) -> None:
    target = Box(value=None, count=0)
    carry(Box(value=value, count=5), target)
    assert target.count == 5


def test_classes_functions_and_the_way_an_object_was_made_are_left_alone() -> None:
    def one() -> None: ...

    def other() -> None: ...

    target = Box(kind=int, function=one, method=[].append, spec="how it was made")
    before = dict(vars(target))
    assert carry(Box(kind=float, function=other, method={}.get, spec="otherwise"), target)
    assert vars(target) == before


# Environments


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Taxi-v4"])
def test_an_environment_goes_on_for_500_steps_to_the_bit(env_id: str) -> None:
    """The restored one against the original one, which was never interrupted; new episodes are drawn alike too."""
    source, target = gym.make(env_id), gym.make(env_id)
    source.reset(seed=1)
    target.reset(seed=2)
    generator = np.random.default_rng(0)
    for _ in range(7):  # into the middle of an episode
        source.step(int(generator.integers(source.action_space.n)))
    assert carry(source, target)
    episodes = 0
    for _ in range(500):
        action = int(generator.integers(source.action_space.n))
        one, other = source.step(action), target.step(action)
        assert [np.asarray(part).tobytes() for part in one[:4]] == [np.asarray(part).tobytes() for part in other[:4]]
        if one[2] or one[3]:
            assert np.array_equal(source.reset()[0], target.reset()[0])
            episodes += 1
    assert episodes > 1


# Unlike objects


def generator(kind: Any) -> np.random.Generator:
    return np.random.Generator(kind(1))


Point = collections.namedtuple("Point", "x y")
UNLIKE = {
    "object for a number": (lambda: Box(a=1), lambda: 5),
    "dict for a list": (lambda: {"a": 1}, lambda: [1]),
    "Generator for another kind": (lambda: generator(np.random.MT19937), lambda: generator(np.random.PCG64)),
    "Generator for a RandomState": (lambda: generator(np.random.PCG64), lambda: np.random.RandomState(1)),
    "RandomState for a Generator": (lambda: np.random.RandomState(1), lambda: generator(np.random.PCG64)),
    "random.Random for a Generator": (lambda: random.Random(1), lambda: generator(np.random.PCG64)),
    "random.Random for nothing": (lambda: random.Random(1), lambda: None),
    "unknown Generator for nothing": (lambda: generator(np.random.SFC64), lambda: None),
    "torch.Generator for an array": (lambda: torch.Generator(), lambda: np.zeros(3)),
    "tensor for a torch.Generator": (lambda: torch.zeros(3), lambda: torch.Generator()),
    "tensor of another shape": (lambda: torch.zeros(3), lambda: torch.zeros(4)),
    "tensor for an array": (lambda: torch.zeros(3), lambda: np.zeros(3)),
    "Adam of other shapes": (lambda: trained(1), lambda: trained(1, inputs=4)),
    "Adam of more parameters": (
        lambda: torch.optim.Adam([torch.zeros(1), torch.zeros(1)]),
        lambda: torch.optim.Adam([torch.zeros(1)]),
    ),
    "optimizer for nothing": (lambda: trained(1), lambda: None),
    "optimizer for a dict": (lambda: trained(1), dict),
    "tuple for a named tuple of another length": (lambda: (1, 2, 3), lambda: Point(0, 0)),
}


@pytest.mark.parametrize("depth", ["attribute", "item"])
@pytest.mark.parametrize("case", UNLIKE)
def test_restoring_into_an_unlike_object_is_false_and_raises_nothing(case: str, depth: str) -> None:
    source, target = (make() for make in UNLIKE[case])
    if depth == "attribute":
        assert carry(Box(part=source), Box(part=target)) is False
    else:
        assert carry(Box(parts=[0, source]), Box(parts=[0, target])) is False


@given(plans, plans)
@settings(max_examples=100, deadline=None)
def test_restoring_any_state_into_any_object_raises_nothing(plan: Any, other: Any) -> None:
    assert carry(build(plan, 1), build(other, 2)) in (True, False)


def test_every_pair_of_kinds_can_be_tried_without_an_error() -> None:
    kinds = [*LEAVES, *MEMORY, ("array", "float32", (2, 3)), ("list", ["int"]), ("tuple", ["int"]), ("dict", ["int"])]
    failures = []
    for one, other in itertools.product([*kinds, ("object", ["int"]), ("deque", ["int"])], repeat=2):
        try:
            restore(build(other, 2), capture(build(one, 1)))
        except Exception as error:
            failures.append(f"{one} into {other}: {type(error).__name__}: {error}")
    assert not failures
