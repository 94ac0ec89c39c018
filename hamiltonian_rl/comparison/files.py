"""The files of a comparison: its tables for people and programs, a picture, and mean curves for TensorBoard."""

from __future__ import annotations

import csv
import io
import shutil
from typing import Any

import numpy as np

from hamiltonian_rl.comparison.estimates import mean_curve
from hamiltonian_rl.comparison.report import MILESTONES, Report, explanation, markdown_table, tables
from hamiltonian_rl.files import write_text
from hamiltonian_rl.tracking.pictures import LearningCurve, learning_picture, save_picture
from hamiltonian_rl.tracking.run_folder import file_name
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink

MEAN, LOWER, UPPER = "compare/mean_reward", "compare/mean_reward_lower", "compare/mean_reward_upper"
MEANS = "mean"  # folder of the runs that TensorBoard shows with a band


def csv_text(report: Report) -> str:
    """Return the summaries as a table for programs: a row an agent, empty where there is nothing."""
    rows = []
    for summary in report.summaries:
        row: dict[str, Any] = {
            "agent": summary.label,
            "learns_from": "model" if summary.plans else "environment",
            "runs": summary.runs,
            "finished": summary.finished,
            "final_return": summary.final_return.mean,
            "final_return_lower": summary.final_return.lower,
            "final_return_upper": summary.final_return.upper,
            "regret": summary.regret.mean,
            "regret_lower": summary.regret.lower,
            "regret_upper": summary.regret.upper,
            "training_cpu_seconds": summary.cpu_seconds,
        }
        for name in (f"{unit}_to_{milestone}" for milestone in MILESTONES for unit in ("steps", "seconds")):
            time = summary.times.get(name)
            row |= {
                name: time and time.value,
                f"{name}_is_lower_bound": time and time.is_bound,
                f"{name}_reached": time and time.reached,
            }
        rows.append({name: None if value != value else value for name, value in row.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_report(report: Report) -> None:
    """Write ``comparison.md``, ``.csv`` and ``.png`` and the mean curves for TensorBoard into the comparison's folder.

    Raises:
        RunStorageError: The folder cannot be written.
    """
    folder = report.comparison.folder
    title = f"Comparison in {report.comparison.env}"
    parts = [f"# {title}", *(f"## {name}\n\n{markdown_table(rows)}" for name, rows in tables(report).items())]
    parts += [explanation(report), "![Mean greedy return of each agent, with its interval](comparison.png)"]
    write_text(folder / "comparison.md", "\n\n".join(parts) + "\n")
    write_text(folder / "comparison.csv", csv_text(report))
    curves = learning_curves(report)
    levels = {} if report.threshold is None else {"threshold": report.threshold}
    if report.optima:
        levels["optimum, computed"] = float(np.mean([optimum.value for optimum in report.optima.values()]))
    picture = learning_picture(curves, levels, title)
    save_picture(picture, folder / "comparison.png")
    _write_events(report, curves)


def learning_curves(report: Report) -> dict[str, LearningCurve]:
    """Return how each agent's greedy return grows over its finished runs, for the agents that have such runs."""
    curves = {}
    for label, results in report.results.items():
        runs = [_columns(result["evaluations"]) for result in results if result["status"] == "finished"]
        if runs and all(len(run["step"]) for run in runs):
            steps, mean, lower, upper = mean_curve([(run["step"], run["mean_reward"]) for run in runs])
            seconds = np.median([np.interp(steps, run["step"], run["seconds"]) for run in runs], axis=0)
            curves[label] = LearningCurve(
                steps, seconds, mean, lower, upper, samples=label not in report.comparison.planners
            )
    return curves


def _columns(evaluations: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in evaluations]) for name in ("step", "seconds", "mean_reward")}


def _write_events(report: Report, curves: dict[str, LearningCurve]) -> None:
    """Write a run for each agent's mean, and the page that shows them in one chart."""
    folder = report.comparison.folder / MEANS
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier report wrote
    for index, (label, curve) in enumerate(curves.items()):
        sink = TensorBoardSink(folder / file_name(label))
        if index == 0:
            sink.write_band_chart(
                "Comparison", "Greedy return: interquartile mean, 95 % interval", (MEAN, LOWER, UPPER)
            )
        columns = curve.steps, curve.mean, np.fmin(curve.lower, curve.mean), np.fmax(curve.upper, curve.mean)
        for step, mean, lower, upper in zip(*columns, strict=True):
            sink.write({MEAN: mean, LOWER: lower, UPPER: upper}, round(step))
        sink.close()
