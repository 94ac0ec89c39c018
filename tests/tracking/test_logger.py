"""The logger does what Stable-Baselines3's logger does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.logger import Logger as SB3Logger

from hamiltonian_rl.tracking.logger import Logger


class Memory:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.dumps: list[tuple[int, dict[str, Any]]] = []
        self.closed = 0

    def write(self, values: dict[str, Any], step: int) -> None:
        self.dumps.append((step, values))

    def close(self) -> None:
        self.closed += 1


class SB3Memory(KVWriter):
    """Keeps what SB3 gives its writers, without what is excluded from TensorBoard, as SB3's own one does."""

    def __init__(self) -> None:
        self.dumps: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        shown = {key: value for key, value in key_values.items() if "tensorboard" not in (key_excluded[key] or ())}
        if shown:
            self.dumps.append((step, shown))

    def close(self) -> None: ...


# Sums of up to ten such numbers are exact in floats, so that two ways to average differ only in the last division.
values = st.integers(-1000, 1000).map(float)
keys = st.sampled_from(["train/loss", "rollout/length", "b"])
excluded = st.sampled_from([None, "tensorboard", "stdout", ("stdout", "tensorboard"), ("csv",)])
calls = st.lists(
    st.tuples(st.just("record"), keys, values, excluded)
    | st.tuples(st.just("record_mean"), keys, values | st.none(), excluded)
    | st.tuples(st.just("dump"), st.integers(0, 100)),
    max_size=10,
)


@given(calls)
def test_any_sequence_of_calls_ends_in_the_records_that_sb3_would_write(calls: list[tuple[Any, ...]]) -> None:
    memory, sb3_memory = Memory(), SB3Memory()
    logger, sb3_logger = Logger(memory), SB3Logger(None, [sb3_memory])
    for name, *arguments in [*calls, ("dump", 101)]:
        for one in (logger, sb3_logger):
            getattr(one, name)(*arguments)
    assert [step for step, _ in memory.dumps] == [step for step, _ in sb3_memory.dumps]
    for (_, mine), (_, theirs) in zip(memory.dumps, sb3_memory.dumps, strict=True):
        # Running means round at each of up to ten values: 1e-12 is far above that and far below any mistake.
        assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-12)


def test_a_later_value_replaces_an_earlier_one() -> None:
    logger = Logger(memory := Memory())
    logger.record("loss", 1.0)
    logger.record("loss", 2.0)
    logger.dump(5)
    assert memory.dumps == [(5, {"loss": 2.0})]


def test_a_mean_is_that_of_the_values_since_the_last_dump() -> None:
    logger = Logger(memory := Memory())
    for value in (1.0, 2.0, 6.0, None):
        logger.record_mean("loss", value)
    logger.dump(1)
    for value in (10.0, 20.0):
        logger.record_mean("loss", value)
    logger.dump(2)
    assert memory.dumps == [(1, {"loss": 3.0}), (2, {"loss": 15.0})]


def test_a_dump_clears_and_nothing_is_dumped_twice() -> None:
    logger = Logger(memory := Memory())
    logger.record("loss", 1.0)
    logger.dump(1)
    logger.dump(2)
    assert memory.dumps == [(1, {"loss": 1.0})]
    assert dict(logger.name_to_value) == {}


def test_what_was_dumped_is_not_changed_by_later_records() -> None:
    logger = Logger(memory := Memory())
    logger.record("loss", 1.0)
    logger.dump(1)
    logger.record("loss", 2.0)
    assert memory.dumps == [(1, {"loss": 1.0})]


@pytest.mark.parametrize("exclude", ["tensorboard", ("tensorboard",), ("stdout", "tensorboard")])
def test_what_is_excluded_from_tensorboard_reaches_no_sink(exclude: Any) -> None:
    logger = Logger(memory := Memory())
    logger.record("steps", 1, exclude=exclude)
    logger.record_mean("mean", 1.0, exclude=exclude)
    logger.record("loss", 1.0, exclude="stdout")
    logger.dump()
    assert memory.dumps == [(0, {"loss": 1.0})]


def test_every_sink_gets_the_records_and_is_closed_once() -> None:
    sinks = [Memory(), Memory()]
    logger = Logger(*sinks)
    logger.record("loss", 1.0)
    logger.dump(3)
    logger.close()
    assert [sink.dumps for sink in sinks] == [[(3, {"loss": 1.0})]] * 2
    assert [sink.closed for sink in sinks] == [1, 1]
