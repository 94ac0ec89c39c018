"""`hrl kinematics`: the logs of several tools, what is kept, and logs it cannot take."""

from __future__ import annotations

import csv
import re

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from hamiltonian_rl.tracking.curves import RunLog
from hamiltonian_rl.tracking.motion_picture import kinematics_picture
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink


def log_at(folder, values, tag="eval/mean_reward", steps=None):
    sink = TensorBoardSink(folder)
    for step, value in zip(steps or range(1, len(values) + 1), values, strict=True):
        sink.write({tag: float(value)}, step)
    sink.close()
    return folder


def saturating(last, n=40, seed=0):
    return last * (1.0 - np.exp(-np.arange(1, n + 1) / 8.0)) + np.random.default_rng(seed).normal(size=n)


def rows_of(folder, name="kinematics.csv"):
    (path,) = folder.glob(f"kinematics/*/*/{name}")
    with open(path, encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_runs_over_seeds_have_times_medians_and_censored_runs(hrl, tmp_path):
    for seed, last in enumerate((500.0, 490.0, 300.0)):
        log_at(tmp_path / "dqn" / f"{seed}-20260101-120000", saturating(last, seed=seed))
    outcome = hrl("kinematics", tmp_path / "dqn", "--threshold", 475, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "rises, by its name" in outcome.out
    assert "2 of 3" in outcome.out
    assert "> 40" in outcome.out
    assert "not reached" in outcome.out  # the upper end of the interval
    rows = rows_of(tmp_path / "out")
    firsts = [int(np.argmax(saturating(last, seed=seed) >= 475)) + 1 for seed, last in ((0, 500.0), (1, 490.0))]
    assert [float(row["steps_to_threshold"]) for row in rows] == [*firsts, 40.0]
    assert [row["steps_to_threshold_censored"] for row in rows] == ["False", "False", "True"]
    median = re.search(r"reached +│ 2 of 3 +│ (\d+)", outcome.out)
    assert median is not None
    assert int(median[1]) == max(firsts)
    assert all(row["confidence_that_it_decelerates"] > "0.99" for row in rows)
    assert all(
        float(row["limit_lower"]) < last < float(row["limit_upper"])
        for row, last in zip(rows, (500, 490, 300), strict=True)
    )
    assert (next((tmp_path / "out").glob("kinematics/*/*/kinematics.png"))).stat().st_size > 10_000


def test_velocity_and_acceleration_are_written_beside_the_run_and_nothing_in_it_changes(hrl, tmp_path):
    run = log_at(tmp_path / "run_1", [0.01 * step**2 for step in range(1, 41)])
    before = {path: path.read_bytes() for path in run.iterdir()}
    for _ in range(2):  # the second call replaces what the first wrote
        outcome = hrl("kinematics", tmp_path, "--tensorboard", "--run-dir", tmp_path / "out")
        assert outcome.code == 0, outcome.err
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    log = RunLog(sorted((tmp_path / "run_1-kinematics").glob("*tfevents*")))
    velocity = log.curve("velocity/eval/mean_reward")
    np.testing.assert_allclose(velocity.values, 0.02 * velocity.steps, rtol=1e-4)  # in float32
    np.testing.assert_allclose(log.curve("acceleration/eval/mean_reward").values, 0.02, rtol=1e-4)


def test_a_folder_of_that_name_with_other_things_is_left_alone(hrl, tmp_path):
    log_at(tmp_path / "run", range(20))
    (tmp_path / "run-kinematics").mkdir()
    outcome = hrl("kinematics", tmp_path / "run", "--tensorboard", "--run-dir", tmp_path / "out")
    assert outcome.code == 1
    assert "was not written by hrl kinematics" in outcome.err


def test_stable_baselines_own_run_is_read(hrl, tmp_path):
    model = A2C("MlpPolicy", gym.make("CartPole-v1"), seed=0, device="cpu", tensorboard_log=str(tmp_path / "tb"))
    model.learn(1000, callback=EvalCallback(model.get_env(), eval_freq=100, n_eval_episodes=1, verbose=0))
    outcome = hrl("kinematics", tmp_path / "tb", "--threshold", 10_000, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "A2C_1" in outcome.out
    assert "> 1,000" in outcome.out
    assert "seconds by the clock on the wall" in outcome.out


def test_stable_baselines_monitor_is_read_by_its_returns(hrl, tmp_path):
    for run in ("A2C_1", "A2C_2"):
        env = Monitor(gym.make("CartPole-v1"), str(tmp_path / run / "monitor.csv"))
        A2C("MlpPolicy", env, seed=0, device="cpu").learn(1000)
    outcome = hrl("kinematics", tmp_path, "--threshold", 10_000, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "rises, by its name" in outcome.out
    assert re.search(r"A2C +│ reached +│ 0 of 2", outcome.out)
    first = rows_of(tmp_path / "out")[1]
    assert int(first["points"]) == len(env.get_episode_rewards())
    assert float(first["steps_to_threshold"]) == sum(env.get_episode_lengths())


def test_a_table_of_a_loss_falls_and_its_infimum_is_found(hrl, tmp_path):
    steps = np.arange(1, 101)
    loss = 2.0 + 3.0 * steps**-0.5 + 0.01 * np.random.default_rng(0).normal(size=100)
    lines = [f"{step},{value},{step / 10}" for step, value in zip(steps, loss, strict=True)]
    path = tmp_path / "loss.csv"
    path.write_text("\n".join(["step,eval/loss,seconds", *lines, ""]))
    outcome = hrl("kinematics", path, "--threshold", 2.5, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "falls, by its name" in outcome.out
    (row,) = rows_of(tmp_path / "out")
    first = int(np.argmax(loss <= 2.5))
    assert float(row["steps_to_threshold"]) == steps[first]
    assert float(row["seconds_to_threshold"]) == steps[first] / 10
    assert float(row["limit_lower"]) < 2.0 < float(row["limit_upper"])


def test_without_the_usual_tag_the_tags_are_listed(hrl, tmp_path):
    log_at(tmp_path / "run", range(10), tag="train/loss")
    log_at(tmp_path / "run", range(10), tag="eval/loss")
    outcome = hrl("kinematics", tmp_path)
    assert outcome.code == 2
    assert "Choose one with --tag. Tags there: eval/loss, train/loss." in outcome.err
    outcome = hrl("kinematics", tmp_path, "--tag", "train/los")
    assert outcome.code == 2
    assert 'Did you mean "train/loss"?' in outcome.err


def test_numbers_that_are_none_pass_no_threshold_and_are_said(hrl, tmp_path):
    values = [float("inf"), *saturating(500.0), float("nan")]
    log_at(tmp_path / "run", values)
    outcome = hrl("kinematics", tmp_path / "run", "--threshold", 400, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "2 values are no finite numbers" in outcome.out
    (row,) = rows_of(tmp_path / "out")
    assert row["steps_to_for_good_censored"] == "True"
    assert float(row["steps_to_threshold"]) > 1.0


@pytest.mark.parametrize(("values", "said"), [([5.0], "fewer than 8 points"), ([7.0] * 30, "not at all")])
def test_one_point_and_a_constant_curve_are_said_to_be_such(hrl, tmp_path, values, said):
    log_at(tmp_path / "run", values)
    outcome = hrl("kinematics", tmp_path / "run", "--threshold", 10, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert said in outcome.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Which logs"),
        (("nowhere",), "no run or log"),
        (("empty",), "holds no log"),
        (("run", "--direction", "up"), "expected rises or falls"),
        (("run", "--threshold", "nan"), "--threshold"),
        (("bad.csv",), 'holds "x" at line 3'),
        (("void",), "holds no scalars"),
        (("blank.csv", "--threshold", "1"), "holds no scalars"),
        (("far",), "far: Steps from"),
    ],
)
def test_a_wrong_call_is_answered_with_a_sentence(hrl, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    log_at(tmp_path / "run", range(10))
    (tmp_path / "empty").mkdir()
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / "events.out.tfevents.1").write_bytes(b"")
    (tmp_path / "bad.csv").write_text("step,value\n1,2\n2,x\n")
    (tmp_path / "blank.csv").write_text("step,value\n1,\n2,\n")
    log_at(tmp_path / "far", range(12), steps=[-(2**62), *range(10), 2**62])
    outcome = hrl("kinematics", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("tag", [r"cost $\frac{$", "loss $x_{$ \u6f22", "_loss"])
def test_a_name_that_is_no_formula_is_drawn_as_it_is(hrl, tmp_path, tag):
    log_at(tmp_path / "_run$x_{$", saturating(5.0), tag=tag)
    outcome = hrl("kinematics", tmp_path / "_run$x_{$", "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    figure = kinematics_picture({"_run$x_{$": (np.arange(2), np.arange(2.0), None, None)}, tag, None)
    (label,) = figure.legends[0].get_texts()
    assert label.get_text() == r" _run\$x_{\$"


def test_logs_of_another_kind_are_left_out_and_said(hrl, tmp_path):
    log_at(tmp_path / "a", saturating(500.0))
    log_at(tmp_path / "b", range(9), tag="other")
    outcome = hrl("kinematics", tmp_path, "--run-dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "1 of 2 logs have no eval/mean_reward" in outcome.out
    assert "no learning times: --threshold X" in outcome.out
