"""Replay memory against an oracle that keeps whole episodes and walks them naively."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hamiltonian_rl.agents.replay import Batch, ReplayBuffer, SumTree
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint

MAX_ENVS = 3
GAMMA = 0.5  # with whole rewards every return is exact in float32, so that nothing here needs a tolerance
GOES_ON, TERMINATES, TRUNCATES, BOTH, RESETS = "goes on", "terminates", "truncates", "both", "resets"
OUTCOMES = [GOES_ON, GOES_ON, GOES_ON, TERMINATES, TRUNCATES, BOTH]


@dataclass
class Step:
    """One true transition; its observation is its number, its successor's that number and a half."""

    number: int
    action: int
    reward: int
    outcome: str


@dataclass
class Oracle:
    """Every episode of every environment, whole; drives the buffer by the outcomes it is told."""

    buffer: ReplayBuffer
    n_steps: int = 0
    order: list[int] = field(default_factory=list)
    where: dict[int, tuple[list[Step], int]] = field(default_factory=dict)
    running: list[list[Step]] = field(default_factory=list)

    def start(self, n_envs: int) -> None:
        self.buffer.start_episodes(n_envs)
        self.running = [[] for _ in range(n_envs)]

    def step(self, outcomes: list[str]) -> None:
        """Take one step of every environment; a pseudo-step brings numbers that must not be stored."""
        rows = []
        for env, outcome in enumerate(outcomes):
            step = Step(self.n_steps, self.n_steps % 5, self.n_steps * 7 % 17 - 8, outcome)
            self.n_steps += 1
            if outcome == RESETS:
                rows.append((-1.0, -1, -1000.0, -1.0))
                continue
            rows.append((float(step.number), step.action, float(step.reward), step.number + 0.5))
            episode = self.running[env]
            self.where[step.number] = episode, len(episode)
            self.order.append(step.number)
            episode.append(step)
            if outcome != GOES_ON:
                self.running[env] = []
        observations, actions, rewards, successors = map(np.array, zip(*rows, strict=True))
        self.buffer.add(
            Transitions(
                observations=observations[:, None],
                actions=actions,
                rewards=rewards,
                next_observations=successors[:, None],
                terminated=np.array([outcome in (TERMINATES, BOTH) for outcome in outcomes]),
                truncated=np.array([outcome in (TRUNCATES, BOTH) for outcome in outcomes]),
                valid=np.array([outcome != RESETS for outcome in outcomes]),
            )
        )

    def sample(self, number: int) -> tuple[int, float, float, float]:
        """Action, return, discount and last successor of the walk from a transition, step by step."""
        episode, index = self.where[number]
        total, discount = 0.0, 1.0
        for step in episode[index : index + self.buffer.n_step]:
            total += discount * step.reward
            discount *= GAMMA
            last = step
        if last.outcome in (TERMINATES, BOTH):
            discount = 0.0
        return episode[index].action, total, discount, last.number + 0.5


def make_buffer(capacity: int, *, n_step: int = 1, priority_exponent: float = 0.0) -> ReplayBuffer:
    dtype = np.dtype(np.float32)
    return ReplayBuffer(capacity, (1,), dtype, n_step=n_step, gamma=GAMMA, priority_exponent=priority_exponent)


def filled(capacity: int, n_transitions: int, **options: Any) -> ReplayBuffer:
    """One environment, one episode without end."""
    oracle = Oracle(make_buffer(capacity, **options))
    oracle.start(1)
    for _ in range(n_transitions):
        oracle.step([GOES_ON])
    return oracle.buffer


def each_slot_once(buffer: ReplayBuffer) -> Batch:
    """Sample with a "random" generator that draws every filled slot once, in order."""
    generator: Any = SimpleNamespace(integers=lambda low, high, shape: np.arange(low, high).reshape(shape))
    return buffer.sample((len(buffer),), generator)


def assert_every_slot_is_right(oracle: Oracle) -> None:
    buffer = oracle.buffer
    batch = each_slot_once(buffer)
    numbers = batch.observations[:, 0].astype(int).tolist()
    assert sorted(numbers) == oracle.order[-buffer.capacity :]  # the newest ones, each once
    found = zip(
        batch.actions.tolist(),
        batch.returns.tolist(),
        batch.discounts.tolist(),
        batch.next_observations[:, 0].tolist(),
        strict=True,
    )
    assert dict(zip(numbers, found, strict=True)) == {number: oracle.sample(number) for number in numbers}


def play(oracle: Oracle, script: list[list[str] | int], next_step_resets: bool) -> None:
    """Play a script of outcomes; a number starts new episodes in that many environments."""
    resetting = [False] * MAX_ENVS
    for entry in script:
        if isinstance(entry, int):
            oracle.start(entry)
            resetting = [False] * MAX_ENVS
            continue
        outcomes = [
            RESETS if reset else outcome
            for reset, outcome in zip(resetting, entry[: len(oracle.running)], strict=False)
        ]
        oracle.step(outcomes)
        resetting = [next_step_resets and outcome not in (GOES_ON, RESETS) for outcome in outcomes]


one_step = st.lists(st.sampled_from(OUTCOMES), min_size=MAX_ENVS, max_size=MAX_ENVS)
scripts = st.lists(st.one_of(one_step, one_step, one_step, one_step, st.integers(1, MAX_ENVS)), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    n_envs=st.integers(1, MAX_ENVS),
    # At least two steps of all environments, which is what the agent asks for.
    capacity=st.integers(2 * MAX_ENVS, 20),
    n_step=st.integers(1, 5),
    script=scripts,
    next_step_resets=st.booleans(),
)
def test_n_step_samples_equal_a_naive_walk_along_whole_episodes(
    n_envs: int, capacity: int, n_step: int, script: list[list[str] | int], next_step_resets: bool
) -> None:
    oracle = Oracle(make_buffer(capacity, n_step=n_step))
    play(oracle, [n_envs, *script], next_step_resets)
    assert len(oracle.buffer) == min(len(oracle.order), capacity)
    if oracle.order:
        assert_every_slot_is_right(oracle)


@pytest.mark.parametrize("n_step", range(1, 6))
@pytest.mark.parametrize("next_step_resets", [False, True])
def test_n_step_samples_stay_right_while_the_ring_goes_round_many_times(n_step: int, next_step_resets: bool) -> None:
    rng = np.random.default_rng(n_step)
    script: list[list[str] | int] = [rng.choice(OUTCOMES, MAX_ENVS).tolist() for _ in range(60)]
    oracle = Oracle(make_buffer(11, n_step=n_step))
    oracle.start(MAX_ENVS)
    play(oracle, script, next_step_resets)
    assert len(oracle.order) > 10 * 11
    assert_every_slot_is_right(oracle)


def test_samples_of_a_short_history_are_those_worked_out_by_hand() -> None:
    # Rewards of transitions 0 to 4 are -8, -1, 6, -4, 3 (7k mod 17, less 8).
    oracle = Oracle(make_buffer(8, n_step=3))
    oracle.start(1)
    for outcome in [GOES_ON, GOES_ON, TRUNCATES, GOES_ON, TERMINATES]:
        oracle.step([outcome])
    batch = each_slot_once(oracle.buffer)
    # -8 - 1/2 + 6/4 = -7, then -1 + 6/2 = 2 and 6 alone, because the limit cut the episode off, but its
    # last state counts; -4 + 3/2 = -2.5 and 3, up to a terminal state, which does not count.
    assert batch.returns.tolist() == [-7.0, 2.0, 6.0, -2.5, 3.0]
    assert batch.discounts.tolist() == [0.125, 0.25, 0.5, 0.0, 0.0]
    assert batch.next_observations[:, 0].tolist() == [2.5, 2.5, 2.5, 4.5, 4.5]
    assert batch.weights.tolist() == [1.0] * 5


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
def test_step_in_which_every_environment_only_resets_stores_nothing(priority_exponent: float) -> None:
    oracle = Oracle(make_buffer(6, priority_exponent=priority_exponent))
    oracle.start(2)
    for outcome in (GOES_ON, TRUNCATES, RESETS, GOES_ON):
        oracle.step([outcome] * 2)
    assert len(oracle.buffer) == 6
    batch = oracle.buffer.sample((200,), np.random.default_rng(0))
    # Six slots, 200 draws: one of them is missed with a chance of 6 (5/6)^200 = 1e-15.
    assert set(batch.observations[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0, 6.0, 7.0}


def test_observations_keep_their_shape_and_type() -> None:
    buffer = ReplayBuffer(4, (2, 3), np.dtype(np.uint8), gamma=GAMMA)
    buffer.start_episodes(2)
    images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) + 240
    flags = np.zeros(2, bool)
    buffer.add(Transitions(images, np.arange(2), np.zeros(2), images + 1, flags, flags, ~flags))
    batch = each_slot_once(buffer)
    assert batch.observations.dtype == batch.next_observations.dtype == np.uint8
    assert np.array_equal(batch.observations, images)
    assert np.array_equal(batch.next_observations, images + 1)


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
def test_batches_have_the_leading_shape_that_was_asked_for(priority_exponent: float) -> None:
    buffer = filled(8, 5, n_step=2, priority_exponent=priority_exponent)
    batch = buffer.sample((3, 4), np.random.default_rng(0))
    for name in ("slots", "actions", "returns", "discounts", "weights"):
        assert getattr(batch, name).shape == (3, 4)
    assert batch.observations.shape == batch.next_observations.shape == (3, 4, 1)
    # The networks are float32; anything wider would widen the whole training.
    assert batch.returns.dtype == batch.discounts.dtype == batch.weights.dtype == np.float32


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


# Quantiles of the chi-square distribution that one sample in a thousand exceeds, by degrees of freedom.
CHI_SQUARE_999 = {4: 18.47, 6: 22.46, 9: 27.88}


@pytest.mark.parametrize(("n_transitions", "size"), [(7, 7), (10, 10), (26, 10)], ids=["part", "full", "round"])
@pytest.mark.parametrize("seed", range(3))
def test_uniform_sampling_draws_every_filled_slot_alike(n_transitions: int, size: int, seed: int) -> None:
    buffer = filled(10, n_transitions)
    slots = buffer.sample((100, 200), np.random.default_rng(seed)).slots
    counts = np.bincount(slots.ravel(), minlength=10)
    assert (counts[size:] == 0).all()
    assert chi_square(counts[:size], np.full(size, 1 / size)) < CHI_SQUARE_999[size - 1]


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_prioritised_sampling_draws_in_proportion_to_the_power_of_the_error(alpha: float, seed: int) -> None:
    buffer = filled(8, 5, priority_exponent=alpha)
    errors = np.array([0.1, -2.0, 0.5, 1.0, -0.02], np.float32)
    buffer.update_priorities(np.arange(5), errors)
    batch = buffer.sample((100, 200), np.random.default_rng(seed), beta=0.7)
    priorities = np.array([0.101, 2.001, 0.501, 1.001, 0.021]) ** alpha
    probabilities = priorities / priorities.sum()
    counts = np.bincount(batch.slots.ravel(), minlength=8)
    assert (counts[5:] == 0).all()
    assert chi_square(counts[:5], probabilities) < CHI_SQUARE_999[4]
    weights = (5 * probabilities) ** -0.7
    # The rarest slot, which sets the largest weight, is drawn at least 100 times; float32 has 7 digits.
    np.testing.assert_allclose(batch.weights, (weights / weights.max())[batch.slots], rtol=1e-6)


@pytest.mark.parametrize(("beta", "weight"), [(0.0, 1.0), (0.5, 3**-0.5), (1.0, 1 / 3)])
def test_importance_weights_undo_the_priorities(beta: float, weight: float) -> None:
    # Priorities 1 and 3, so p = 1/4 and 3/4, N p = 1/2 and 3/2, and (N p)^-β = 2^β and (2/3)^β:
    # divided by their largest, 1 and 3^-β.
    buffer = filled(4, 2, priority_exponent=1.0)
    buffer.update_priorities(np.array([0, 1]), np.array([0.999, -2.999]))
    batch = buffer.sample((64,), np.random.default_rng(0), beta=beta)
    assert set(batch.slots.tolist()) == {0, 1}
    np.testing.assert_allclose(batch.weights, np.where(batch.slots == 0, 1.0, weight), rtol=1e-6)  # float32


def test_new_transitions_get_the_largest_priority_so_far() -> None:
    oracle = Oracle(make_buffer(4, priority_exponent=1.0))
    oracle.start(2)
    oracle.step([GOES_ON] * 2)  # priority one, before anything is known
    oracle.buffer.update_priorities(np.array([1]), np.array([6.999]))
    oracle.buffer.update_priorities(np.array([1]), np.array([0.999]))
    oracle.step([GOES_ON] * 2)  # seven, the largest ever seen
    counts = np.bincount(oracle.buffer.sample((16_000,), np.random.default_rng(0)).slots, minlength=4)
    # Expected 1000, 1000, 7000, 7000; five standard errors are 5 √(16000 p (1 - p)), 153 and 314.
    np.testing.assert_array_less(np.abs(counts - [1000, 1000, 7000, 7000]), [153, 153, 314, 314])


def test_uniform_memory_ignores_priorities() -> None:
    buffer = filled(4, 4)
    buffer.update_priorities(np.arange(4), np.array([1e9, 0.0, 0.0, 0.0]))
    counts = np.bincount(buffer.sample((4000,), np.random.default_rng(0)).slots, minlength=4)
    np.testing.assert_array_less(np.abs(counts - 1000), 137)  # five standard errors


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
@pytest.mark.parametrize("n_before", [0, 3, 17], ids=["empty", "part", "round"])
def test_memory_read_from_a_checkpoint_continues_identically(
    tmp_path: Path, priority_exponent: float, n_before: int
) -> None:
    oracle, other = (Oracle(make_buffer(8, n_step=3, priority_exponent=priority_exponent)) for _ in range(2))
    for one in (oracle, other):
        one.start(2)
    other.step([GOES_ON, GOES_ON])  # what was there before is forgotten
    for number in range(n_before):
        oracle.step([GOES_ON, TRUNCATES if number % 4 == 3 else GOES_ON])
    if n_before:
        oracle.buffer.update_priorities(np.array([[0, 3], [5, 2]]), np.array([[4.0, 0.1], [0.0, -1.0]]))
    write_checkpoint(tmp_path / "memory", oracle.buffer.state())
    other.buffer.set_state(read_checkpoint(tmp_path / "memory"))
    other.n_steps = oracle.n_steps
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(6):  # episodes that were running go on, slots that were next are overwritten
        for one in (oracle, other):
            one.step([GOES_ON, GOES_ON])
        batches = [one.buffer.sample((50,), rng, beta=0.5) for one, rng in zip((oracle, other), rngs, strict=True)]
        for name in vars(batches[0]):
            assert np.array_equal(getattr(batches[0], name), getattr(batches[1], name)), name
    assert len(oracle.buffer) == len(other.buffer) == 8


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 5, 8, 9])
def test_sum_tree_of_any_capacity_holds_every_slot(capacity: int) -> None:
    tree = SumTree(capacity)
    assert tree.total == 0.0
    tree.set(np.arange(capacity), np.arange(1.0, capacity + 1))
    assert tree.get(np.arange(capacity)).tolist() == list(range(1, capacity + 1))
    assert tree.total == capacity * (capacity + 1) / 2


# Whole priorities, so that all sums are exact whatever their order.
updates = st.lists(
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 5)), min_size=1, max_size=8), min_size=1, max_size=5
)
shares = st.lists(st.integers(0, 999).map(lambda thousandths: thousandths / 1000), min_size=1)


@settings(max_examples=150, deadline=None)
@given(capacity=st.integers(1, 20), updates=updates, shares=shares)
def test_sum_tree_finds_where_positions_lie_among_priorities_laid_end_to_end(
    capacity: int, updates: list[list[tuple[int, int]]], shares: list[float]
) -> None:
    tree, priorities = SumTree(capacity), np.zeros(capacity)
    for update in updates:
        slots, values = np.array(update).T
        tree.set(slots % capacity, values.astype(float))
        for slot, value in zip(slots % capacity, values, strict=True):  # of duplicates the last one counts
            priorities[slot] = value
    assert tree.get(np.arange(capacity)).tolist() == priorities.tolist()
    assert tree.total == priorities.sum()
    if tree.total > 0:
        whole = np.arange(tree.total)  # whole positions are the borders between slots
        positions = np.concatenate([whole, np.array(shares) * tree.total])
        expected = np.searchsorted(priorities.cumsum(), positions, side="right")
        assert tree.find(positions).tolist() == expected.tolist()


def test_sum_tree_keeps_shapes_and_the_positions_it_was_asked_for() -> None:
    tree = SumTree(4)
    slots = np.array([[0, 1], [2, 3]])
    tree.set(slots.ravel(), np.array([1.0, 2.0, 3.0, 4.0]))
    positions = np.array([[0.5, 1.5, 2.999], [3.0, 6.0, 9.9]])
    assert tree.find(positions).tolist() == [[0, 1, 1], [2, 3, 3]]
    assert positions.tolist() == [[0.5, 1.5, 2.999], [3.0, 6.0, 9.9]]
    assert tree.get(slots).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@settings(max_examples=150, deadline=None)
@given(
    priorities=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=20).filter(any),
    shares=shares,
)
# 1.7 lies below the total, 1.7 + 2e-16, and yet 1.7 - (0.5 + 0.1) rounds to 1.1, the border to the empty slot.
@example(priorities=[0.5, 0.1, 1.1, 0.0], shares=[])
def test_sum_tree_never_draws_a_slot_of_priority_zero(priorities: list[float], shares: list[float]) -> None:
    # Partial sums of arbitrary floats round; the borders between slots are where that would show.
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities))
    borders = np.cumsum(priorities)
    positions = np.concatenate(
        [np.array(shares) * tree.total, borders, np.nextafter(borders, 0), [0.0, np.nextafter(tree.total, 0)]]
    )
    positions = positions[positions < tree.total]
    assert (tree.get(tree.find(positions)) > 0).all()
