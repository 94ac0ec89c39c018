"""`hrl kinematics`: when runs learned, how fast, and where they go, from the logs of any tool."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hamiltonian_rl.console import RUNS, Interrupted, print_rows, print_table, say, work_shown
from hamiltonian_rl.errors import UsageError

if TYPE_CHECKING:
    from hamiltonian_rl.kinematics_report import RunKinematics


def kinematics(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN_OR_LOG...", help="Run folders, folders of runs, event files, or tables (.csv)."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What to look at.", show_default="eval/mean_reward, or the only one that there is"
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Value that counts as learned.", show_default="of our runs, their environment's"
        ),
    ] = None,
    for_good: Annotated[
        int, typer.Option(metavar="N", min=1, help="Points to the end that must hold, to count as for good.")
    ] = 5,
    direction: Annotated[
        str | None,
        typer.Option(metavar="rises|falls", help="Which way is progress.", show_default="by the tag's name"),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write velocity and acceleration for TensorBoard, beside each run.")
    ] = False,
    run_dir: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where runs are kept.")] = RUNS,
) -> None:
    """Say when runs learned, how fast they move, whether they slow down, and where they end.

    Reads every point of TensorBoard's logs, whoever wrote them, and of CSV tables (step, value, seconds). Writes the
    numbers as tables, and a picture; docs/kinematics.md says what each one is.
    """
    if not logs:
        raise UsageError("Which logs? For instance: hrl kinematics runs/CartPole-v1/dqn --threshold 475.")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold is {threshold}; expected a finite number.")
    try:
        _kinematics(logs, tag, threshold, for_good, direction, tensorboard, run_dir)
    except KeyboardInterrupt:
        raise Interrupted("interrupted before the end; nothing is kept.") from None


def _kinematics(
    logs: list[Path],
    tag: str | None,
    threshold: float | None,
    lasting: int,
    direction: str | None,
    tensorboard: bool,
    run_dir: Path,
) -> None:
    from hamiltonian_rl.kinematics_report import analyse, choose_direction, choose_tag, choose_threshold
    from hamiltonian_rl.tracking.run_logs import find_runs, run_names

    with work_shown() as show:
        sources = find_runs(logs, show)
        tag = choose_tag(sources, tag)
        having = [source for source in sources if tag in source.log.tags()]
        curves = [source.curve(tag) for source in having]
        rises, why = choose_direction(tag, direction, curves)
        threshold = choose_threshold(having, tag, threshold)
        runs = []
        for source, name, curve in zip(having, run_names(having), curves, strict=True):
            show(f"{name}: {len(curve.steps):,} points")
            runs.append(analyse(source, name, curve, rises, threshold, lasting))
    for note in dict.fromkeys(f"{run.name}: {note}" for run in runs for note in run.curve.notes):
        say(f"Note: {note}")
    if len(having) < len(sources):
        say(f"Note: {len(sources) - len(having)} of {len(sources)} logs have no {tag} and are left out.")
    shown = {"Progress": f"{'rises' if rises else 'falls'}, {why}", "Logs": f"{len(runs)}", "Points": _points(runs)}
    shown["Seconds are"] = "; ".join(dict.fromkeys(run.curve.clock for run in runs))
    print_table(tag, shown)
    _print(runs, tag, rises, threshold, lasting)
    _keep(runs, tag, rises, threshold, lasting, run_dir)
    if tensorboard:
        from hamiltonian_rl.tracking.motion_events import write_motion

        for run in runs:
            if run.motion is not None:
                say(f"Velocity and acceleration for TensorBoard   {write_motion(run.source.path, tag, run.motion)}")


def _points(runs: list[RunKinematics]) -> str:
    return f"{sum(len(run.curve.steps) for run in runs):,}, all that were logged"


def _print(runs: list[RunKinematics], tag: str, rises: bool, threshold: float | None, lasting: int) -> None:
    from hamiltonian_rl.kinematics_report import limit_rows, median_rows, motion_rows, time_rows

    if threshold is None:
        say("There are no learning times: --threshold X says what counts as learned.")
    else:
        goal = f"{tag} {'>=' if rises else '<='} {threshold:g}"
        print_rows(f"Time to {goal}; for good: to the end, {lasting} points at least", time_rows(runs))
        print_rows("Medians over the runs (95 % interval), runs that never got there as censored", median_rows(runs))
        if any(time.censored for run in runs for time in run.times.values()):
            say("'>' stands before the length of a run that never got there: its time is longer, and unknown.")
    print_rows("Velocity v (per step) and acceleration a (per step²), ± standard error", motion_rows(runs))
    print_rows(f"{'Supremum' if rises else 'Infimum'}: where the curve goes", limit_rows(runs, rises))


def _keep(
    runs: list[RunKinematics], tag: str, rises: bool, threshold: float | None, lasting: int, run_dir: Path
) -> None:
    """Write the numbers and a picture to a run folder."""
    from hamiltonian_rl.files import atomic_write, write_text
    from hamiltonian_rl.kinematics_report import motion_csv, runs_csv
    from hamiltonian_rl.tracking.motion_picture import kinematics_picture
    from hamiltonian_rl.tracking.run_folder import RunFolder

    folder = RunFolder.create(run_dir, "kinematics", tag, 0)
    config = {"logs": [str(run.source.path) for run in runs], "tag": tag, "for_good": lasting}
    config |= {"direction": "rises" if rises else "falls"} | ({} if threshold is None else {"threshold": threshold})
    folder.write_config(config)
    folder.write_provenance()
    write_text(folder.path / "kinematics.csv", runs_csv(runs))
    if moving := motion_csv(runs):
        write_text(folder.path / "motion.csv", moving)
    picture = kinematics_picture(
        {run.name: (run.curve.steps, run.curve.values, run.motion, run.limit) for run in runs}, tag, threshold
    )
    with atomic_write(folder.path / "kinematics.png") as file:
        picture.savefig(file, format="png", dpi=120)
    say(f"The numbers are in   {folder.path / 'kinematics.csv'}")
    say(f"A picture is         {folder.path / 'kinematics.png'}")
