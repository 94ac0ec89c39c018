"""What a comparison found, as summaries of its agents and as tables.

Returns are those of the greedy episodes that ended each run; times count environment steps (``T_sample``) and CPU
seconds of training (``T_compute``) to a return, in the evaluations on the way. A run that never got there is censored
at its length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from hamiltonian_rl.agents.evaluation import STEPS_WITHOUT_LIMIT
from hamiltonian_rl.comparison.estimates import Estimate, estimate
from hamiltonian_rl.comparison.optima import MeanOptimum
from hamiltonian_rl.comparison.plan import Comparison
from hamiltonian_rl.envs.making import env_spec
from hamiltonian_rl.principles.kinematics.censoring import MedianTime, Time, median_time
from hamiltonian_rl.principles.kinematics.learning_time import times_to_threshold

MILESTONES = {
    "threshold": "Time to a return of {threshold:g}",
    "solved_for_good": "Solved for good: time from which on all returns, five or more, are at least {threshold:g}",
}


@dataclasses.dataclass(frozen=True)
class AgentSummary:
    """What the runs of one agent say of it.

    Attributes:
        label: Of the agent.
        runs: How many were asked for.
        finished: How many came to their end, and so have a final return.
        final_return: Interquartile mean of the final returns, with its interval; NaN where there is none.
        regret: Likewise of what they lack of the optimum from the same start states.
        cpu_seconds: Median of the finished runs' training.
        times: Median steps and seconds by name ("steps_to_threshold", ...); empty where there is no threshold. Of a
            planner seconds alone: its steps are no samples.
        plans: Whether it is a planner: it asks the model behind the environment and takes no sample of it.
    """

    label: str
    runs: int
    finished: int
    final_return: Estimate
    regret: Estimate
    cpu_seconds: float
    times: dict[str, MedianTime]
    plans: bool = False


def summarize(
    label: str,
    runs: int,
    results: Sequence[dict[str, Any]],
    threshold: float | None = None,
    regrets: Sequence[float] = (),
    *,
    plans: bool = False,
) -> AgentSummary:
    """Summarize one agent's runs.

    Args:
        label: Of the agent.
        runs: How many were asked for.
        results: Of the runs that have begun, however they ended.
        threshold: Return that counts as solved; None for none.
        regrets: Of the runs of which they are known.
        plans: Whether the agent asks a model instead of the environment.
    """
    finished = [result for result in results if result["status"] == "finished"]
    times = _median_times(results, threshold) if results and threshold is not None else {}
    seconds = [result["training_cpu_seconds"] for result in finished]
    return AgentSummary(
        label,
        runs,
        len(finished),
        estimate([result["mean_reward"] for result in finished]),
        estimate(regrets),
        float(np.median(seconds)) if seconds else np.nan,
        {name: time for name, time in times.items() if not (plans and name.startswith("steps"))},
        plans,
    )


def _median_times(results: Sequence[dict[str, Any]], threshold: float) -> dict[str, MedianTime]:
    """Return the median times to all milestones; a run that has not reached one is censored at its own length."""
    times: dict[str, list[Time]] = {}
    for result in results:
        lengths = {"steps": result["steps"], "seconds": result["training_cpu_seconds"]}
        for name, time in times_to_threshold(result["evaluations"], threshold).items():
            length = lengths[name.partition("_")[0]]
            times.setdefault(name, []).append(Time(length, censored=True) if time is None else Time(time))
    return {name: median_time(found) for name, found in times.items()}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a comparison found so far.

    Attributes:
        comparison: What was compared.
        threshold: Return that counts as solved; None for none.
        results: Of the runs that have begun, by agent.
        optima: Of the finished runs, by their names; empty where none is known.
        summaries: Of the agents.
    """

    comparison: Comparison
    threshold: float | None
    results: dict[str, list[dict[str, Any]]]
    optima: dict[str, MeanOptimum]
    summaries: tuple[AgentSummary, ...]


def report_on(
    comparison: Comparison, threshold: float | None = None, optima: dict[str, MeanOptimum] | None = None
) -> Report:
    """Read the runs' results and summarize them.

    Args:
        comparison: What was compared.
        threshold: Return that counts as solved; the environment's own unless given.
        optima: From `optima_of`, where there are any.
    """
    threshold = env_spec(comparison.env).reward_threshold if threshold is None else threshold
    optima = optima or {}
    results, summaries = {}, []
    for label in comparison.labels:
        jobs, plans = comparison.of_agent(label), label in comparison.planners
        found = {job.name: result for job in jobs if (result := job.result()) is not None}
        regrets = [optima[name].value - found[name]["mean_reward"] for name in found if name in optima]
        results[label] = list(found.values())
        summaries.append(summarize(label, len(jobs), results[label], threshold, regrets, plans=plans))
    return Report(comparison, threshold, results, optima, tuple(summaries))


# Tables


def tables(report: Report) -> dict[str, list[dict[str, str]]]:
    """Return the tables by their titles: final returns, and the times to each milestone where there is a threshold."""
    found = {"Final returns": [_return_row(summary) for summary in report.summaries]}
    if report.threshold is not None:
        for milestone, title in MILESTONES.items():
            rows = [_time_row(summary, milestone) for summary in report.summaries]
            found[title.format(threshold=report.threshold)] = rows
    return found


def _return_row(summary: AgentSummary) -> dict[str, str]:
    return {
        "agent": summary.label,
        "runs finished": f"{summary.finished} of {summary.runs}",
        "return (95 % interval)": _estimate(summary.final_return),
        "regret (95 % interval)": _estimate(summary.regret),
        "CPU seconds": _number(summary.cpu_seconds, 2),
    }


def _time_row(summary: AgentSummary, milestone: str) -> dict[str, str]:
    steps, seconds = (summary.times.get(f"{unit}_to_{milestone}") for unit in ("steps", "seconds"))
    return {
        "agent": summary.label,
        "runs that got there": "-" if seconds is None else f"{seconds.reached} of {seconds.runs}",
        "T_sample (steps)": "model" if summary.plans else _time(steps, 0),
        "T_compute (CPU seconds)": _time(seconds, 2),
    }


def _number(value: float, digits: int | None = None) -> str:
    """Return a number as people read it: of small ones more digits, of none a dash."""
    if np.isnan(value):
        return "-"
    digits = _digits(value) if digits is None else digits
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # no "-0.0000"


def _digits(value: float) -> int:
    return 2 if abs(value) >= 10 or value == 0 else 4


def _estimate(found: Estimate) -> str:
    if np.isnan(found.lower):
        return _number(found.mean)
    digits = _digits(max(map(abs, (found.mean, found.lower, found.upper))))
    mean, lower, upper = (_number(value, digits) for value in (found.mean, found.lower, found.upper))
    return f"{mean} ({lower} to {upper})"


def _time(time: MedianTime | None, digits: int) -> str:
    return "-" if time is None else f"{'> ' * time.is_bound}{_number(time.value, digits)}"


def markdown_table(rows: Sequence[dict[str, str]]) -> str:
    r"""Return a table in Markdown.

    Example:
        >>> print(markdown_table([{"agent": "dqn", "return": "1.00"}]))
        | agent | return |
        | --- | --- |
        | dqn | 1.00 |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def explanation(report: Report) -> str:
    """Return what the numbers of the tables mean, in sentences."""
    returns = (
        "Returns are interquartile means over the runs of what each earned in its last greedy episodes, with a "
        "bootstrap interval over the runs. CPU seconds are of training alone, on one thread."
    )
    times = (
        "Times are medians over the runs, unfinished ones too; '>' stands before one that the runs which never got "
        "there leave open: the median is above that."
    )
    model = (
        '"model" stands where an agent asks the model behind the environment and takes no sample of it: it has a '
        "T_compute and no T_sample."
    )
    sentences = [returns]
    if report.threshold is None:
        sentences.append("There are no times to a return: the environment has no threshold; --threshold R gives one.")
    else:
        sentences += [times, *([model] if report.comparison.planners else [])]
    sentences += [*_cut_sentence(report), *_optimum_sentence(report)]
    return " ".join(sentences)


def _cut_sentence(report: Report) -> list[str]:
    """Say whose last greedy episodes had no end of their own; nothing where all had one."""
    cut = {label: sum(result.get("episodes_cut", 0) for result in results) for label, results in report.results.items()}
    shares = ", ".join(f"{count:,} of {label}" for label, count in cut.items() if count)
    if not shares:
        return []
    return [
        f"Greedy episodes that found no end were cut off after {STEPS_WITHOUT_LIMIT:,} steps, for the environment has "
        f"no limit: {shares}. Their returns say no more than that."
    ]


def _optimum_sentence(report: Report) -> list[str]:
    """Say what the optimum is on average, and how it is known; nothing where there is none."""
    if not report.optima:
        return []
    found = list(report.optima.values())
    value, error = (float(np.mean([getattr(one, name) for one in found])) for name in ("value", "error"))
    certificates = "; ".join(sorted({one.certificate for one in found}))
    above = ""
    if certificates == "lower bound" and not np.isnan(error):
        above = f": the true one may be {_number(error)} above it, by the grid's estimate"
    return [
        "Regret is what the returns lack of the optimum that is computed from the same start states: "
        f"{_number(value)} on average ({certificates}{above})."
    ]
