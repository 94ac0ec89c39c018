"""Curves from tables, and which logs below a folder belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.curve_tables import Table
from hamiltonian_rl.tracking.run_logs import find_runs, run_names
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink


@pytest.fixture
def table(tmp_path):
    def write(text, name="run.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def log_at(folder, values=(1.0, 2.0), tag="eval/mean_reward"):
    sink = TensorBoardSink(folder)
    for step, value in enumerate(values, 1):
        sink.write({tag: value}, step)
    sink.close()
    return folder


def test_a_plain_table_has_steps_values_and_seconds(table):
    curve = Table(table("step,value,seconds\n10,1.5,0.1\n20,2.5,0.2\n")).curve("value")
    assert (curve.steps.tolist(), curve.values.tolist(), curve.seconds.tolist()) == ([10, 20], [1.5, 2.5], [0.1, 0.2])
    assert curve.clock == 'seconds from the column "seconds"'


def test_tensorboards_download_counts_seconds_from_its_first_row(table):
    curve = Table(table("Wall time,Step,Value\n1700000000.5,1,3\n1700000002.5,2,4\n")).curve("Value")
    assert curve.seconds.tolist() == [0.0, 2.0]


def test_stable_baselines_table_has_empty_cells_where_nothing_was_logged(table):
    text = "eval/mean_reward,time/time_elapsed,time/total_timesteps\n,1,512\n9.5,2,1000\n,3,1024\n"
    curve = Table(table(text)).curve("eval/mean_reward")
    assert (curve.steps.tolist(), curve.values.tolist(), curve.seconds.tolist()) == ([1000], [9.5], [2.0])


def test_numbers_that_are_none_stay_and_seconds_may_be_unknown(table):
    curve = Table(table("step,loss\n1,nan\n2,inf\n3,1e-3\n")).curve("loss")
    assert np.isnan(curve.values[0])
    assert np.isinf(curve.values[1])
    assert np.isnan(curve.seconds).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("step,value\n", "is empty"),
        ("step,value\n1,2,3\n", "Line 2 .* has 3 values; expected 2"),
        ("time,value\n1,2\n", "no column of steps"),
        ("step,value\n1,2\n2,high\n", 'holds "high" at line 3; expected a number'),
        ("step,value\n1.5,2\n", 'holds "1.5" at line 2; expected a whole number'),
        ("step,value\n,2\n", "expected a whole number"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_its_line(table, text, said):
    with pytest.raises(UsageError, match=said):
        Table(table(text)).curve("value")


@pytest.mark.parametrize("tail", ["3", "3,", "3,7.5,0.", '3,"7', "3,7.5,0.3\0\0"])
def test_a_last_line_that_is_cut_off_is_left_out_and_said(table, tail):
    curve = Table(table(f"step,value,seconds\n1,5,0.1\n2,6,0.2\n{tail}")).curve("value")
    whole = tail.startswith("3,7.5")
    assert curve.steps.tolist() == ([1, 2, 3] if whole else [1, 2])
    assert bool(curve.notes) == (tail != "3,7.5,0.")
    assert all("run.csv is cut off" in note for note in curve.notes)


def test_a_short_line_that_was_ended_is_no_line_cut_off(table):
    with pytest.raises(UsageError, match=r"Line 3 of .* has 1 values; expected 2"):
        Table(table("step,value\n1,5\n2\n3,7")).curve("value")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_that_other_marks_separate_are_refused_with_the_reason(table, mark):
    with pytest.raises(UsageError, match=r"separated by .*; expected commas"):
        Table(table(f"step{mark}value\n1{mark}2\n"))


def test_columns_without_a_name_or_a_number_are_no_tags(table):
    assert Table(table(",step,loss,void\n0,1,2,\n1,2,3,\n")).tags() == {"loss"}
    assert Table(table("step,loss,\n1,2,\n")).tags() == {"loss"}


def test_of_two_columns_of_a_name_none_is_taken(table):
    with pytest.raises(UsageError, match='has 2 columns "loss"'):
        Table(table("step,loss,loss\n1,2,3\n")).curve("loss")


def test_a_column_that_is_not_there_is_refused_with_the_nearest(table):
    with pytest.raises(UsageError, match='Did you mean "value"'):
        Table(table("step,value\n1,2\n")).curve("valu")


def test_our_runs_group_by_agent_and_stable_baselines_by_name(tmp_path):
    for agent in ("dqn", "sb3-ppo"):
        for seed in (0, 1):
            log_at(tmp_path / "CartPole-v1" / agent / f"{seed}-20260101-120000")
    for run in ("DQN_1", "DQN_2", "PPO_1"):
        log_at(tmp_path / "tb" / run)
    runs = find_runs([tmp_path])
    groups = {run.path.relative_to(tmp_path).as_posix(): run.group for run in runs}
    assert groups["CartPole-v1/dqn/0-20260101-120000"] == groups["CartPole-v1/dqn/1-20260101-120000"]
    assert groups["CartPole-v1/dqn/0-20260101-120000"] != groups["CartPole-v1/sb3-ppo/0-20260101-120000"]
    assert groups["tb/DQN_1"] == groups["tb/DQN_2"] == str(tmp_path / "tb" / "DQN")
    assert groups["tb/PPO_1"] != groups["tb/DQN_1"]
    names = run_names(runs)
    assert len(set(names)) == len(runs)
    assert "dqn/0-20260101-120000" in names


def test_a_number_in_a_folders_name_is_no_files_ending(tmp_path):
    for run in ("lr0.1_1", "lr0.1_2", "lr0.2_1"):
        log_at(tmp_path / run)
    assert [Path(run.group).name for run in find_runs([tmp_path])] == ["lr0.1", "lr0.1", "lr0.2"]


def test_stable_baselines_tables_stand_for_their_folders(tmp_path):
    for run in ("PPO_1", "PPO_2", "A2C_1"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "progress.csv").write_text("time/total_timesteps,train/loss\n1,2\n")
    assert [Path(run.group).name for run in find_runs([tmp_path])] == ["A2C", "PPO", "PPO"]


def test_a_run_that_is_named_twice_is_one(tmp_path):
    folder = log_at(tmp_path / "run")
    assert len(find_runs([folder, tmp_path, folder])) == 1


def test_seconds_of_our_evaluations_are_the_results_cpu_seconds(tmp_path):
    folder = log_at(tmp_path / "0-20260101-120000")
    rows = [{"step": 1, "seconds": 0.5, "mean_reward": 1.0}, {"step": 2, "seconds": 0.75, "mean_reward": 2.0}]
    (folder / "result.json").write_text(json.dumps({"evaluations": rows}))
    curve = find_runs([folder])[0].curve("eval/mean_reward")
    assert curve.seconds.tolist() == [0.5, 0.75]
    assert curve.clock == "CPU seconds of training"


def test_a_folder_without_logs_and_a_path_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no log"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="no run or log"):
        find_runs([tmp_path / "nowhere"])
    other = tmp_path / "model.zip"
    other.write_bytes(b"")
    with pytest.raises(UsageError, match="is no log"):
        find_runs([other])
