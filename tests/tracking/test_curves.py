"""Reading logs back: every point, by TensorBoard's own reader, from files of several writers, also damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto
from torch.utils.tensorboard import SummaryWriter

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.curves import RunLog, read_events
from hamiltonian_rl.tracking.event_records import TABLE, _masked_crc
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink


def files_in(folder):
    return sorted(folder.glob("*tfevents*"))


def written(path, points, *, began=100.0, version=True):
    """Write an event file of points (step, value, wall time) under the tag "loss"."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        if version:
            writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
        for step, value, time in points:
            summary = Summary(value=[Summary.Value(tag="loss", simple_value=value)])
            writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())
    return path


def test_checksums_are_those_of_tensorboard():
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 64, 1000):
        data = rng.integers(0, 256, size, dtype=np.uint8)
        assert _masked_crc(data, 0, size, TABLE) == masked_crc32c(data.tobytes())


def test_every_point_of_a_long_log_is_read_as_tensorboards_reader_does_when_told_to(tmp_path):
    values = np.random.default_rng(0).normal(size=12_000).astype(np.float32).tolist()
    path = written(tmp_path / "events.out.tfevents.1", [(i, value, 100.0 + i) for i, value in enumerate(values)])
    curve = RunLog([path]).curve("loss")
    theirs = EventAccumulator(str(path), size_guidance={"scalars": 0})
    theirs.Reload()
    points = theirs.Scalars("loss")
    assert len(points) == len(curve.steps) == 12_000
    assert curve.values.tolist() == [point.value for point in points]
    assert curve.steps.tolist() == [point.step for point in points]
    assert curve.seconds.tolist() == [point.wall_time - 100.0 for point in points]
    sampled = EventAccumulator(str(path))
    sampled.Reload()
    assert len(sampled.Scalars("loss")) == 10_000  # what others read


def test_a_file_cut_off_anywhere_gives_the_points_before_and_says_so(tmp_path):
    whole = written(tmp_path / "whole" / "events.out.tfevents.1", [(i, float(i), 100.0 + i) for i in range(4)])
    data = whole.read_bytes()
    counts = []
    for size in range(len(data) + 1):
        path = tmp_path / "events.out.tfevents.cut"
        path.write_bytes(data[:size])
        log = read_events(path)
        counts.append(len(log.series["loss"].steps) if "loss" in log.series else 0)
        assert log.series.get("loss") is None or log.series["loss"].values == [float(i) for i in range(counts[-1])]
        assert RunLog([path]).notes == () or "cut off or damaged" in RunLog([path]).notes[0]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 4)
    assert counts[-2] == 3


def test_a_flipped_bit_ends_a_file_there(tmp_path):
    path = written(tmp_path / "events.out.tfevents.1", [(i, float(i), 100.0 + i) for i in range(4)])
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    log = RunLog([path])
    assert log.curve("loss").values.tolist() == [0.0, 1.0, 2.0]
    assert "cut off or damaged" in log.curve("loss").notes[0]


@pytest.mark.parametrize("content", [b"", b"not a log at all, but text of some length", bytes(100)])
def test_a_file_that_is_no_log_holds_no_tags(tmp_path, content):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(content)
    assert RunLog([path]).tags() == set()


def test_stable_baselines_own_log_is_read(tmp_path):
    logger = configure(str(tmp_path), ["tensorboard"])
    for step in (100, 200, 300):
        logger.record("rollout/ep_rew_mean", step / 2)
        logger.record("train/loss", 1.0 / step)
        logger.dump(step)
    logger.close()
    log = RunLog(files_in(tmp_path))
    assert log.tags() == {"rollout/ep_rew_mean", "train/loss"}
    assert log.curve("rollout/ep_rew_mean").values.tolist() == [50.0, 100.0, 150.0]


def test_hugging_faces_log_is_read_with_its_text_and_histograms_passed_over(tmp_path):
    writer = SummaryWriter(str(tmp_path))  # as transformers' TensorBoardCallback writes
    writer.add_text("args", '{"learning_rate": 0.1}')
    writer.add_histogram("weights", np.arange(10.0))
    for step in range(1, 4):
        writer.add_scalar("train/loss", 1.0 / step, step)
    writer.add_scalar("eval/loss", 0.5, 3)
    writer.close()
    log = RunLog(files_in(tmp_path))
    assert log.tags() == {"train/loss", "eval/loss"}
    assert log.curve("train/loss").values.tolist() == pytest.approx([1.0, 0.5, 1.0 / 3.0])


def test_tensorflows_scalars_are_tensors_of_one_number_and_others_are_none(tmp_path):
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    with open(tmp_path / "events.out.tfevents.1", "wb") as file:
        writer = RecordWriter(file)
        for tag, content in (("loss", 0.25), ("vector", [1.0, 2.0])):
            value = Summary.Value(tag=tag, tensor=make_tensor_proto(content, dtype="float32"), metadata=metadata)
            writer.write(Event(wall_time=1.0, step=7, summary=Summary(value=[value])).SerializeToString())
    log = RunLog(files_in(tmp_path))
    assert log.tags() == {"loss"}
    assert log.curve("loss").values.tolist() == [0.25]


def test_what_a_resumed_run_of_ours_declares_void_is_void(tmp_path):
    first = TensorBoardSink(tmp_path)
    for step in (1, 2, 3, 4, 5):
        first.write({"loss": float(step)}, step)
    first.close()
    second = TensorBoardSink(tmp_path, resume_step=3)
    for step in (4, 6):
        second.write({"loss": 10.0 * step}, step)
    second.close()
    log = RunLog(sorted(files_in(tmp_path), key=lambda path: path.stat().st_mtime_ns))
    curve = log.curve("loss")
    assert curve.steps.tolist() == [1, 2, 4, 6]
    assert curve.values.tolist() == [1.0, 2.0, 40.0, 60.0]
    assert "3 points were left out" in curve.notes[0]


def test_within_a_file_too_points_are_void_from_where_a_writer_says_that_it_starts(tmp_path):
    path = written(tmp_path / "events.out.tfevents.1", [(i, 1.0, 100.0 + i) for i in range(1, 6)])
    with open(path, "ab") as file:
        writer = RecordWriter(file)
        start = SessionLog(status=SessionLog.START)
        writer.write(Event(wall_time=110.0, step=3, session_log=start).SerializeToString())
        summary = Summary(value=[Summary.Value(tag="loss", simple_value=2.0)])
        writer.write(Event(wall_time=111.0, step=4, summary=summary).SerializeToString())
    assert RunLog([path]).curve("loss").steps.tolist() == [1, 2, 4]


def test_a_later_file_counts_from_its_first_step_on_and_the_pause_is_nobodys_time(tmp_path):
    written(tmp_path / "events.out.tfevents.1", [(i, 1.0, 100.0 + i) for i in range(1, 6)])
    later = [(4, 2.0, 5001.0), (5, 2.0, 5002.0)]
    written(tmp_path / "events.out.tfevents.2", later, began=5000.0)
    curve = RunLog(files_in(tmp_path)).curve("loss")
    assert curve.steps.tolist() == [1, 2, 3, 4, 5]
    assert curve.values.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert curve.seconds.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_of_two_writes_of_a_step_the_later_counts_and_disorder_is_said(tmp_path):
    points = [(1, 1.0, 101.0), (3, 3.0, 102.0), (2, 2.0, 103.0), (3, 30.0, 104.0)]
    curve = RunLog([written(tmp_path / "events.out.tfevents.1", points)]).curve("loss")
    assert curve.steps.tolist() == [1, 2, 3]
    assert curve.values.tolist() == [1.0, 2.0, 30.0]
    assert curve.notes == ("1 points were written again later; the last write of a step counts.",)


def test_steps_farther_apart_than_64_bits_hold_are_in_order(tmp_path):
    points = [(-(2**62), 1.0, 101.0), (2**62, 2.0, 102.0)]
    assert RunLog([written(tmp_path / "events.out.tfevents.1", points)]).curve("loss").notes == ()


def test_an_unknown_tag_is_refused_with_the_nearest(tmp_path):
    log = RunLog([written(tmp_path / "events.out.tfevents.1", [(1, 1.0, 101.0)])])
    with pytest.raises(UsageError, match='Did you mean "loss"'):
        log.curve("los")
