"""What the logs of runs say of learning: its time, its velocity, its end; as tables, sentences and files."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.principles.kinematics.censoring import SurvivalMedian, Time, median_time, survival_median
from hamiltonian_rl.principles.kinematics.deceleration import Deceleration, deceleration_of
from hamiltonian_rl.principles.kinematics.infimum import Limit, limit_of
from hamiltonian_rl.principles.kinematics.learning_time import first_for_good, first_passed
from hamiltonian_rl.principles.kinematics.motion import FEWEST_POINTS, Motion, motion_of
from hamiltonian_rl.tracking.curves import Curve
from hamiltonian_rl.tracking.monitor_tables import RETURN, MonitorTable
from hamiltonian_rl.tracking.run_logs import OWN_TAG, RunSource

FALLING = ("loss", "error", "regret", "perplexity", "nll", "mse", "mae", "cost", "entropy")
RISING = ("reward", "return", "rew", "accuracy", "success", "score", "auc", "f1", "acc")
MILESTONES = ("threshold", "for_good")


@dataclass(frozen=True)
class RunKinematics:
    """What one run's log says.

    Attributes:
        name: Of the run.
        group: Of the runs that differ from it in their seed alone.
        source: Its log.
        curve: What was logged.
        times: Steps and seconds to each milestone, by ``steps_to_threshold``, ...; empty without a threshold.
        motion: None where there are too few points.
        deceleration: Likewise.
        limit: Likewise.
    """

    name: str
    group: str
    source: RunSource
    curve: Curve
    times: dict[str, Time]
    motion: Motion | None
    deceleration: Deceleration | None
    limit: Limit | None


def choose_tag(runs: Sequence[RunSource], tag: str | None) -> str:
    """Return the tag to look at: the one asked for, ``eval/mean_reward``, an episode's return, or the only one.

    Raises:
        UsageError: It is in no log, or there are several to choose from.
    """
    tags = set().union(*(run.log.tags() for run in runs))
    if not tags:
        raise UsageError(f"{_paths(runs)} holds no scalars: nothing was logged yet, or the files are damaged.")
    listed = f"Tags there: {', '.join(sorted(tags)[:30])}{', ...' if len(tags) > 30 else ''}."
    if tag is not None:
        if tag not in tags:
            near = did_you_mean(tag, tags)
            meant = f" {near}" if near.startswith("Did") else ""
            raise UsageError(f'No log has the tag "{tag}".{meant} {listed}')
        return tag
    if OWN_TAG in tags:
        return OWN_TAG
    if all(isinstance(run.log, MonitorTable) for run in runs):
        return RETURN
    if len(tags) == 1:
        return next(iter(tags))
    raise UsageError(f"Which tag? Choose one with --tag. {listed}")


def _paths(runs: Sequence[RunSource]) -> str:
    return str(runs[0].path) if len(runs) == 1 else f"None of {len(runs)} logs"


def choose_direction(tag: str, direction: str | None, curves: Sequence[Curve]) -> tuple[bool, str]:
    """Return whether progress is up, and why that is thought so.

    Raises:
        UsageError: It is neither ``rises`` nor ``falls``.
    """
    if direction is not None:
        if direction not in ("rises", "falls"):
            raise UsageError(f'--direction is "{direction}"; expected rises or falls.')
        return direction == "rises", "as --direction says"
    name = "episode return" if tag == RETURN else tag.lower()
    for words, rises in ((FALLING, False), (RISING, True)):
        if any(word in name for word in words):
            return rises, f"by its name: a {'reward rises' if rises else 'loss falls'}"
    halves = [np.array_split(curve.values[np.isfinite(curve.values)], 2) for curve in curves]
    moves = [float(last.mean() - first.mean()) for first, last in halves if len(first) and len(last)]
    return sum(moves) >= 0.0, "as it did from its first half to its second; --direction says otherwise"


def choose_threshold(runs: Sequence[RunSource], tag: str, threshold: float | None) -> float | None:
    """Return the threshold asked for, or the one that all runs of ours were made with."""
    if threshold is not None or tag != OWN_TAG:
        return threshold
    known = {run.result.get("reward_threshold") for run in runs}
    return known.pop() if len(known) == 1 else None


def analyse(
    source: RunSource, name: str, curve: Curve, rises: bool, threshold: float | None, lasting: int
) -> RunKinematics:
    """Work out one run's kinematics.

    Args:
        source: Of the run.
        name: To call it by.
        curve: What was logged.
        rises: Whether progress is up.
        threshold: None for none.
        lasting: Points that "for good" takes at least.

    Raises:
        UsageError: Its steps cannot be told apart.
    """
    times = {} if threshold is None else _times(curve, rises, threshold, lasting)
    finite = np.isfinite(curve.values)
    dropped = int((~finite).sum())
    if dropped:
        note = f"{dropped:,} values are no finite numbers: they pass no threshold and are left out of the rest."
        curve = dataclasses.replace(curve, notes=(*curve.notes, note))
    motion = deceleration = limit = None
    if finite.sum() >= FEWEST_POINTS:
        try:
            motion = motion_of(curve.steps[finite], curve.values[finite])
        except UsageError as error:
            raise UsageError(f"{source.path}: {error}") from None
        deceleration, limit = deceleration_of(motion, rises), limit_of(motion, rises)
    return RunKinematics(name, source.group, source, curve, times, motion, deceleration, limit)


def _times(curve: Curve, rises: bool, threshold: float, lasting: int) -> dict[str, Time]:
    passed = curve.values >= threshold if rises else curve.values <= threshold
    passed &= np.isfinite(curve.values)
    firsts = first_passed(passed), first_for_good(passed, lasting)
    times = {}
    for milestone, first in zip(MILESTONES, firsts, strict=True):
        for unit, places in (("steps", curve.steps), ("seconds", curve.seconds)):
            place = float(places[-1 if first is None else first])
            times[f"{unit}_to_{milestone}"] = Time(place, censored=first is None)
    return times


def medians(runs: Sequence[RunKinematics]) -> dict[str, dict[str, SurvivalMedian]]:
    """Return Kaplan and Meier's median of each time, by group."""
    found: dict[str, dict[str, SurvivalMedian]] = {}
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        found[group] = {
            name: survival_median([run.times[name] for run in members])
            for name in members[0].times
            if not any(math.isnan(run.times[name].length) for run in members)
        }
    return found


# Tables


def time_rows(runs: Sequence[RunKinematics]) -> list[dict[str, str]]:
    """Return each run's times to the threshold, and from which on it is kept."""
    return [
        {
            "run": run.name,
            "points": f"{len(run.curve.steps):,}",
            "T_sample (steps)": _time(run.times["steps_to_threshold"]),
            "T_compute (s)": _time(run.times["seconds_to_threshold"]),
            "for good (steps)": _time(run.times["steps_to_for_good"]),
            "for good (s)": _time(run.times["seconds_to_for_good"]),
        }
        for run in runs
    ]


def median_rows(runs: Sequence[RunKinematics]) -> list[dict[str, str]]:
    """Return the medians of each group, with their intervals."""
    rows = []
    for group, found in medians(runs).items():
        for milestone, label in zip(MILESTONES, ("reached", "for good"), strict=True):
            row = {"runs": group, "what": label}
            for unit, title in (("steps", "T_sample (steps)"), ("seconds", "T_compute (s)")):
                name = f"{unit}_to_{milestone}"
                members = [run.times[name] for run in runs if run.group == group]
                median = found.get(name)
                row["got there"] = f"{sum(not time.censored for time in members)} of {len(members)}"
                row[title] = "-" if median is None else _median(median, members)
            rows.append(row)
    return rows


def motion_rows(runs: Sequence[RunKinematics]) -> list[dict[str, str]]:
    """Return each run's velocity, acceleration and whether it decelerates."""
    rows = []
    for run in runs:
        row = {"run": run.name, "window (steps)": "-", "fastest": "-", "v at the end": "-", "a at the end": "-"}
        row["slowing"] = f"fewer than {FEWEST_POINTS} points"
        if run.motion is not None and run.deceleration is not None:
            motion, top = run.motion, int(np.argmax(np.abs(run.motion.velocity)))
            row["window (steps)"] = f"{motion.width:,.0f}: {motion.window} of {len(motion.places)} points"
            row["fastest"] = f"{motion.velocity[top]:.2g} at {motion.places[top]:,.0f}"
            row["v at the end"] = _measured(motion.velocity[-1], motion.velocity_error[-1])
            row["a at the end"] = _measured(motion.acceleration[-1], motion.acceleration_error[-1])
            row["slowing"] = _verdict(run.deceleration)
        rows.append(row)
    return rows


def _measured(value: float, error: float) -> str:
    """Return a number with its standard error; without the digits that say nothing."""
    return f"{0.0 if abs(value) < 1e-3 * error else value:.2g} ± {error:.1g}"


def _verdict(found: Deceleration) -> str:
    """Say whether a run decelerates, and how sure that is."""
    if found.acceleration == 0.0 or (found.error == 0.0 and found.confidence == 0.5):
        return "moves evenly, or not at all"
    sure = found.confidence if found.verdict != "accelerates" else 1.0 - found.confidence
    shown = "> 99.9 %" if sure > 0.999 else f"{sure:.1%}".replace("%", " %")
    word = {"decelerates": "yes", "accelerates": "no, it accelerates", "undecided": "undecided"}[found.verdict]
    return f"{word} ({shown})"


def limit_rows(runs: Sequence[RunKinematics], rises: bool) -> list[dict[str, str]]:
    """Return where each run's curve goes."""
    title = "supremum" if rises else "infimum"
    rows = []
    for run in runs:
        row = {"run": run.name, f"{title} (95 % interval)": "-", "model": "-", "fit window (steps)": "too few points"}
        limit = run.limit
        if limit is not None:
            interval = f"({_value(limit.lower)} to {_value(limit.upper)})"
            known = math.isfinite(limit.value) and math.isfinite(limit.lower) and math.isfinite(limit.upper)
            row[f"{title} (95 % interval)"] = f"{_value(limit.value) if known else 'not in sight'} {interval}"
            row["model"] = _model(limit)
            row["fit window (steps)"] = f"{limit.window[0]:,.0f} to {limit.window[1]:,.0f}, {limit.points} points"
        rows.append(row)
    return rows


def _model(limit: Limit) -> str:
    shift = f"{limit.shift:,.0f}" if limit.shift >= 10.0 else f"{limit.shift:.2g}"
    place = f"(t + {shift})" if limit.shift > 1e-3 * limit.window[0] else "t"  # less shows in no digit
    shape = {"power": f"c + a {place}^-{limit.exponent:.2g}", "exponential": f"c + a exp(-{limit.exponent:.2g} t)"}
    return shape.get(limit.family, "c: it has arrived") + ("" if limit.fits else " (fits badly)")


def _value(value: float) -> str:
    if math.isinf(value):
        return "-∞" if value < 0.0 else "∞"
    return f"{value:,.6g}" if abs(value) >= 1.0 else f"{value:.4g}"


def _time(time: Time) -> str:
    return "-" if math.isnan(time.length) else f"{'> ' * time.censored}{_amount(time.length)}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def _median(found: SurvivalMedian, times: Sequence[Time]) -> str:
    """Return a median and its interval; what is beyond the runs' lengths as "not reached"."""
    least = _amount(median_time(times).value)
    middle = f"not reached (> {least})" if math.isinf(found.value) else _amount(found.value)
    if math.isnan(found.lower) or found.reached == 0:
        return middle
    lower, upper = ("not reached" if math.isinf(bound) else _amount(bound) for bound in (found.lower, found.upper))
    return f"{middle} ({lower} to {upper})"


# Files


def runs_csv(runs: Sequence[RunKinematics]) -> str:
    """Return a row a run, for programs; empty where there is nothing."""
    rows = []
    for run in runs:
        row: dict[str, object] = {"run": str(run.source.path), "group": run.group, "points": len(run.curve.steps)}
        row["clock"] = run.curve.clock
        for name in (f"{unit}_to_{milestone}" for milestone in MILESTONES for unit in ("steps", "seconds")):
            time = run.times.get(name)
            row |= {name: time and time.length, f"{name}_censored": time and time.censored}
        motion, found, limit = run.motion, run.deceleration, run.limit
        row |= {"window_points": motion and motion.window, "window_steps": motion and motion.width}
        row |= {"noise": motion and motion.noise.sigma, "noise_correlation": motion and motion.noise.rho}
        row |= {"mean_acceleration_of_progress": found and found.acceleration, "its_error": found and found.error}
        row |= {"confidence_that_it_decelerates": found and found.confidence}
        for name in ("value", "lower", "upper", "family", "exponent", "points", "fits"):
            row[f"limit_{name}"] = limit and getattr(limit, name)
        row |= {"limit_from": limit and limit.window[0], "limit_to": limit and limit.window[1]}
        rows.append({name: None if value != value else value for name, value in row.items()})
    return _csv(rows)


def motion_csv(runs: Sequence[RunKinematics]) -> str:
    """Return a row a point of each run: value, velocity and acceleration with their standard errors."""
    parts = ("value", "velocity", "acceleration")
    names = ("places", "measured", *(name for part in parts for name in (part, f"{part}_error")))
    rows = [
        {"run": str(run.source.path), **{name: float(getattr(run.motion, name)[i]) for name in names}}
        for run in runs
        if run.motion is not None
        for i in range(len(run.motion.places))
    ]
    return _csv([{"step": row.pop("places"), **row} for row in rows]) if rows else ""


def _csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
