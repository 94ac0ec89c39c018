"""What a comparison says of its runs, worked out by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from hamiltonian_rl.comparison.files import csv_text
from hamiltonian_rl.comparison.plan import Comparison, Job
from hamiltonian_rl.comparison.progress import TimeLeft
from hamiltonian_rl.comparison.report import Report, explanation, summarize, tables
from hamiltonian_rl.principles.kinematics.censoring import MedianTime
from hamiltonian_rl.run_config import RunConfig
from hamiltonian_rl.tracking.pictures import LearningCurve, learning_picture


def result(returns: list[float], *, status: str = "finished", end: float | None = None) -> dict[str, object]:
    """Return a run's result with an evaluation each 1,000 steps and half a CPU second."""
    rows = [{"step": 1000 * (i + 1), "seconds": 0.5 * (i + 1), "mean_reward": value} for i, value in enumerate(returns)]
    return {
        "status": status,
        "steps": 1000 * len(rows),
        "training_cpu_seconds": 0.5 * len(rows),
        "evaluations": rows,
        "mean_reward": returns[-1] if end is None else end,
    }


def test_a_summary_counts_censored_and_failed_runs_and_drops_none():
    runs = [
        result([1, 9, 9, 9, 9, 9]),  # there at 2,000, for good at 2,000
        result([9, 1, 9, 9, 1, 9]),  # there at 1,000, never for good
        result([1, 1, 1], status="died"),  # at 3,000
    ]
    found = summarize("dqn", 4, runs, threshold=9.0)
    assert (found.runs, found.finished) == (4, 2)
    assert found.final_return.mean == 9.0  # a failed run has no final return
    assert found.times["steps_to_threshold"] == MedianTime(2000, False, 2, 3)
    assert found.times["seconds_to_threshold"] == MedianTime(1.0, False, 2, 3)
    assert found.times["steps_to_solved_for_good"] == MedianTime(3000, True, 1, 3)
    assert found.times["seconds_to_solved_for_good"] == MedianTime(1.5, True, 1, 3)


def test_an_agent_that_asks_a_model_has_a_time_of_computing_and_takes_no_samples():
    runs = [result([9] * 5), result([1] + [9] * 5), result([1] * 5)]
    found = summarize("value-iteration", 3, runs, threshold=9.0, plans=True)
    assert found.times == {
        "seconds_to_threshold": MedianTime(1.0, False, 2, 3),
        "seconds_to_solved_for_good": MedianTime(1.0, False, 2, 3),
    }
    planners = frozenset({"value-iteration"})
    report = Report(Comparison("CliffWalking-v1", (*planners,), Path(), (), planners), 9.0, {}, {}, (found,))
    for title, (row,) in list(tables(report).items())[1:]:
        assert title.endswith("9")
        assert (row["runs that got there"], row["T_sample (steps)"]) == ("2 of 3", "model")
        assert row["T_compute (CPU seconds)"] == "1.00"
    assert '"model" stands where' in explanation(report)
    (kept,) = csv.DictReader(io.StringIO(csv_text(report)))
    assert (kept["learns_from"], kept["steps_to_threshold"], kept["seconds_to_threshold"]) == ("model", "", "1.0")


def test_the_picture_shows_the_return_of_an_agent_without_samples_as_a_level_over_all_steps():
    steps, returns = np.array([10.0, 20.0]), np.array([3.0, 5.0])
    curves = {name: LearningCurve(steps, steps / 8, returns, returns, returns, name == "dqn") for name in ("dqn", "vi")}
    left, right = learning_picture(curves, {}, "").axes
    (curve, level), both = left.lines, right.lines
    assert (curve.get_label(), curve.get_xdata().tolist()) == ("dqn", [10.0, 20.0])
    assert (level.get_label(), list(level.get_ydata())) == ("vi (model)", [5.0, 5.0])
    assert [line.get_ydata().tolist() for line in both] == [[3.0, 5.0]] * 2


def test_without_runs_or_without_a_threshold_there_is_nothing_to_say():
    assert summarize("dqn", 3, [], threshold=9.0).times == {}
    assert summarize("dqn", 3, [result([1.0])], threshold=None).times == {}
    assert np.isnan(summarize("dqn", 3, [], threshold=9.0).final_return.mean)


def test_a_regret_of_rounding_is_nothing():
    found = summarize("costate", 1, [result([-3.0])], regrets=[-1e-9])
    report = Report(Comparison("CartPole-v1", ("costate",), Path(), ()), None, {}, {}, (found,))
    assert tables(report)["Final returns"][0]["regret (95 % interval)"] == "0.0000"


def test_a_mean_and_its_interval_have_the_same_digits():
    found = summarize("sarsa", 2, [result([-15.0]), result([-10_000.0])], regrets=[2.0, 9987.0])
    report = Report(Comparison("CliffWalking-v1", ("sarsa",), Path(), ()), None, {}, {}, (found,))
    assert tables(report)["Final returns"][0]["regret (95 % interval)"] == "4,994.50 (2.00 to 9,987.00)"


def test_what_a_table_lacks_is_explained():
    comparison = Comparison("CliffWalking-v1", ("sarsa", "random"), Path(), ())
    cut = [result([-10_000.0]) | {"episodes_cut": 100}, result([-15.0]) | {"episodes_cut": 0}, result([], end=0.0)]
    report = Report(comparison, None, {"sarsa": cut, "random": cut[1:]}, {}, ())
    assert "no times to a return: the environment has no threshold; --threshold R gives one" in explanation(report)
    assert "cut off after 10,000 steps, for the environment has no limit: 100 of sarsa." in explanation(report)
    none = Report(comparison, 475.0, {"random": cut[1:]}, {}, ())
    assert "cut off" not in explanation(none)
    assert "no times" not in explanation(none)


def test_the_time_left_is_what_the_runs_took_so_far():
    def job(label: str, seed: int) -> Job:
        return Job(label, RunConfig(agent="random", steps=100, seed=seed), Path())

    now = [0.0]
    jobs = [job("quick", 0), job("slow", 0), job("quick", 1), job("slow", 1)]
    left = TimeLeft(jobs, 1, clock=lambda: now[0])
    assert left.seconds() is None
    left.moved(jobs[0], 0)
    now[0] = 10.0
    left.moved(jobs[0], 50)  # half a quick run in 10 s: 20 s a run, and nothing is known of slow ones
    assert left.seconds() == pytest.approx(10 + 20 + 20 + 20)
    left.ended(jobs[0])
    left.moved(jobs[1], 20)  # begun before, and gone on with
    now[0] = 110.0
    left.moved(jobs[1], 70)  # half a slow run in 100 s
    assert left.seconds() == pytest.approx(60 + 20 + 200)
