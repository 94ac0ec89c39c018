"""What was logged is what TensorBoard's own reader finds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image as PILImage
from stable_baselines3.common.logger import Figure, HParam, Image
from stable_baselines3.common.utils import get_latest_run_id
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from hamiltonian_rl.errors import RunStorageError
from hamiltonian_rl.tracking.logger import Logger
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink, next_run_folder


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def written(folder: Path, records: list[tuple[int, dict[str, Any]]], **arguments: Any) -> None:
    sink = TensorBoardSink(folder, **arguments)
    for step, values in records:
        sink.write(values, step)
    sink.close()


def age(folder: Path) -> None:
    """Give the event files names of earlier times: a resumed run starts at least a second after the first one."""
    for number, file in enumerate(sorted(folder.glob("events.out.tfevents.*"))):
        parts = file.name.split(".")
        parts[3] = f"{number:010d}"
        file.rename(folder / ".".join(parts))


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_scalars_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]) -> None:
    """TensorBoard keeps 32 bits, so numbers of 32 bits must come back to the bit."""
    folder = tmp_path_factory.mktemp("run")
    written(folder, [(step, {"train/loss": number}) for step, number in enumerate(numbers)])
    steps, values = zip(*scalars(folder, "train/loss"), strict=True)
    assert steps == tuple(range(len(numbers)))
    np.testing.assert_array_equal(np.array(values), np.array(numbers))


def test_more_scalars_than_a_page_shows_are_all_kept(tmp_path: Path) -> None:
    written(tmp_path, [(10 * step, {"a": step, "b": -step}) for step in range(2000)])
    assert scalars(tmp_path, "a") == [(10 * step, step) for step in range(2000)]
    assert scalars(tmp_path, "b") == [(10 * step, -step) for step in range(2000)]


@pytest.mark.parametrize("value", [3, True, 0.1, np.float32(0.1), np.float64(0.1), np.int64(7), np.float16(0.5)])
def test_numbers_of_every_kind_are_scalars_rounded_to_32_bits(tmp_path: Path, value: Any) -> None:
    written(tmp_path, [(2, {"value": value})])
    assert scalars(tmp_path, "value") == [(2, float(np.float32(value)))]


def test_what_is_flushed_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.write({"loss": 1.0}, 1)
    sink.flush()
    assert scalars(tmp_path, "loss") == [(1, 1.0)]
    sink.close()


def test_a_logger_writes_through_the_sink(tmp_path: Path) -> None:
    logger = Logger(TensorBoardSink(tmp_path))
    logger.record("train/loss", 0.5)
    logger.record_mean("train/norm", 1.0)
    logger.record_mean("train/norm", 2.0)
    logger.dump(7)
    logger.close()
    assert scalars(tmp_path, "train/loss") == [(7, 0.5)]
    assert scalars(tmp_path, "train/norm") == [(7, 1.5)]


# Resuming


def test_a_resumed_run_voids_the_orphaned_events_and_shows_no_step_twice(tmp_path: Path) -> None:
    written(tmp_path, [(step, {"loss": 1.0, "rare": 1.0}) for step in range(1, 11)])
    age(tmp_path)
    written(tmp_path, [(step, {"loss": 2.0}) for step in range(6, 9)], resume_step=6)
    assert scalars(tmp_path, "loss") == [(step, 1.0) for step in range(1, 6)] + [(step, 2.0) for step in range(6, 9)]
    assert scalars(tmp_path, "rare") == [(step, 1.0) for step in range(1, 6)]


def test_a_run_can_be_resumed_many_times(tmp_path: Path) -> None:
    for attempt in range(5):
        first = 2 * attempt
        steps = range(first, first + 6)  # each writes four steps beyond its last checkpoint
        written(tmp_path, [(step, {"loss": attempt}) for step in steps], resume_step=first or None)
        age(tmp_path)
    expected = [(step, min(step // 2, 4)) for step in range(14)]
    assert scalars(tmp_path, "loss") == expected


def test_without_a_resume_step_nothing_is_voided(tmp_path: Path) -> None:
    written(tmp_path, [(step, {"loss": 1.0}) for step in range(5)])
    age(tmp_path)
    written(tmp_path, [(step, {"more": 2.0}) for step in range(5)])
    assert len(scalars(tmp_path, "loss")) == len(scalars(tmp_path, "more")) == 5


# Hyper-parameters, pictures, texts


def hparams_of(folder: Path) -> dict[str, Any]:
    """Return the hyper-parameters of a run, by TensorBoard's own message format."""
    content = read(folder).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    settings_of_run = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in settings_of_run.items()}


def metrics_of(folder: Path) -> list[str]:
    content = read(folder).PluginTagToContent("hparams")["_hparams_/experiment"]
    return [info.name.tag for info in plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos]


def test_hyper_parameters_and_metrics_appear_in_the_runs_own_folder(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    settings_of_run = {"agent": "dqn", "learning_rate": 2.5e-3, "steps": 1000, "double": True, "layers": [64, 64]}
    sink.write_hparams({**settings_of_run, "nothing": None}, {"eval/mean_reward": 0.0})
    sink.write({"eval/mean_reward": 500.0}, 1000)
    sink.close()
    expected = {**settings_of_run, "layers": "[64, 64]", "nothing": "None"}
    assert hparams_of(tmp_path) == expected
    assert metrics_of(tmp_path) == ["eval/mean_reward"]
    assert scalars(tmp_path, "eval/mean_reward")[-1] == (1000, 500.0)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_hyper_parameters_outlive_a_resumption(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.write_hparams({"seed": 3}, {"loss": 0.0})
    sink.write({"loss": 1.0}, 5)
    sink.close()
    age(tmp_path)
    written(tmp_path, [(5, {"loss": 2.0})], resume_step=5)
    assert hparams_of(tmp_path) == {"seed": 3}
    assert scalars(tmp_path, "loss")[-1] == (5, 2.0)


def test_sb3s_hyper_parameters_are_accepted(tmp_path: Path) -> None:
    parameters = HParam({"algorithm": "PPO", "gamma": 0.5}, {"rollout/ep_rew_mean": 0.0})
    written(tmp_path, [(0, {"hparams": parameters})])
    assert hparams_of(tmp_path) == {"algorithm": "PPO", "gamma": 0.5}
    assert metrics_of(tmp_path) == ["rollout/ep_rew_mean"]


@pytest.mark.parametrize("dataformats", ["HWC", "CHW", "HW"])
def test_sb3s_images_are_read_back_pixel_by_pixel(tmp_path: Path, dataformats: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    given_pixels = {"HWC": pixels, "CHW": pixels.transpose(2, 0, 1), "HW": pixels[:, :, 0]}[dataformats]
    expected = np.repeat(pixels[:, :, :1], 3, axis=2) if dataformats == "HW" else pixels
    written(tmp_path, [(3, {"view": Image(given_pixels, dataformats)})])
    (event,) = read(tmp_path).Images("view")
    assert event.step == 3
    picture = PILImage.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(picture), expected)  # PNG loses nothing


def test_sb3s_figures_are_accepted(tmp_path: Path) -> None:
    figure = MatplotlibFigure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2, 3])
    written(tmp_path, [(4, {"curve": Figure(figure, close=False)})])
    (event,) = read(tmp_path).Images("curve")
    assert (event.step, event.width, event.height) == (4, 100, 50)  # inches times dots per inch


def test_texts_and_arrays_are_accepted(tmp_path: Path) -> None:
    written(tmp_path, [(1, {"note": "hello", "weights": np.arange(10.0)})])
    reader = read(tmp_path)
    assert reader.Tensors("note/text_summary")[0].tensor_proto.string_val[0] == b"hello"
    (event,) = reader.Histograms("weights")
    histogram = event.histogram_value
    assert (histogram.num, histogram.sum, histogram.min, histogram.max) == (10, 45, 0, 9)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunStorageError, match=r"Cannot write TensorBoard events to .*file"):
        TensorBoardSink(tmp_path / "file" / "run")
    with pytest.raises(RunStorageError):
        TensorBoardSink(Path("/proc/run"))


# Counting runs


@pytest.mark.parametrize(
    "taken",
    [[], ["ppo_1"], ["ppo_1", "ppo_2", "ppo_10"], ["ppo_3"], ["dqn_4"], ["ppo_x", "ppo_", "ppo"], ["ppo_2_5", "ppo_1"]],
)
def test_the_next_run_folder_is_the_one_that_sb3_would_take(tmp_path: Path, taken: list[str]) -> None:
    for name in taken:
        (tmp_path / name).mkdir()
    assert next_run_folder(tmp_path, "ppo") == tmp_path / f"ppo_{get_latest_run_id(str(tmp_path), 'ppo') + 1}"


def test_runs_are_counted_from_one_where_there_is_no_folder_yet(tmp_path: Path) -> None:
    assert next_run_folder(tmp_path / "nowhere", "ppo") == tmp_path / "nowhere" / "ppo_1"


def test_a_name_with_signs_of_its_own_is_counted_too(tmp_path: Path) -> None:
    (tmp_path / "sb3:ppo [a]_1").mkdir()
    assert next_run_folder(tmp_path, "sb3:ppo [a]").name == "sb3:ppo [a]_2"
