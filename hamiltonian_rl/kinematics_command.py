"""`hrl kinematics`: when runs learned, how fast, and where they go; how fast a text is learnt while it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hamiltonian_rl.console import RUNS, Interrupted, print_rows, print_table, say, work_shown
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.text_command import TextOptions, measure_text

if TYPE_CHECKING:
    from hamiltonian_rl.kinematics_report import RunKinematics

FOR_GOOD = 5  # points, where nobody said

Logs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN_OR_LOG...", help="Run folders, folders of runs, event files, or tables (.csv)."),
]
Tag = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="What to look at.", show_default="eval/mean_reward, or the only one that there is"
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="X", help="Value that counts as learned.", show_default="of our runs, their environment's"),
]
ForGood = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Points to the end that must hold, to count as for good [default: 5]."),
]
Direction = Annotated[
    str | None,
    typer.Option(metavar="rises|falls", help="Which way is progress.", show_default="by the tag's name"),
]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write velocity and acceleration for TensorBoard, beside each run."),
]
Text = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="In place of logs: measure how fast this text is learnt."),
]
Source = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="In place of a text, a source whose curve is known: coin, hidden-markov, markov, repeat."
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="For a text: an earlier run, or a Hugging Face causal model [default: train one first]."
    ),
]
Symbols = Annotated[
    str | None,
    typer.Option(metavar="bytes|bpe", help="Of the model that is trained [default: bytes]."),
]
Vocabulary = Annotated[
    int | None,
    typer.Option(metavar="N", min=257, max=65536, help="How many symbols bpe makes [default: 1024]."),
]
Minutes = Annotated[
    float | None,
    typer.Option(metavar="X", min=0.0, help="How long to train, about [default: 10]."),
]
Context = Annotated[
    int | None,
    typer.Option(metavar="N", min=2, max=65536, help="Longest context [default: 256, or all that there is]."),
]
Targets = Annotated[
    int | None,
    typer.Option(metavar="N", min=64, help="Symbols whose velocity is taken [default: 8192]."),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Go on with a training that was interrupted, exactly."),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="S", min=0, max=2**32 - 1, help="Of training and targets [default: 0]."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Load a model's pickled weights and own code, which may do anything."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", file_okay=False, help="Where a text's results go [default: with the run]."),
]
RunDir = Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where runs are kept.")]


@dataclass(frozen=True)
class LogOptions:
    """What to say of logs; None where nobody said."""

    logs: list[Path]
    tag: str | None
    threshold: float | None
    lasting: int
    direction: str | None
    tensorboard: bool
    run_dir: Path


def kinematics(
    logs: Logs = None,
    tag: Tag = None,
    threshold: Threshold = None,
    for_good: ForGood = None,
    direction: Direction = None,
    tensorboard: TensorBoard = False,
    text: Text = None,
    source: Source = None,
    model: Model = None,
    symbols: Symbols = None,
    vocabulary: Vocabulary = None,
    minutes: Minutes = None,
    context: Context = None,
    targets: Targets = None,
    resume: Resume = None,
    seed: Seed = None,
    trust: Trust = False,
    out: Out = None,
    run_dir: RunDir = RUNS,
) -> None:
    """Say when runs learned, how fast they move, whether they slow down, and where they end.

    Reads every point of TensorBoard's logs, whoever wrote them, and of CSV tables (step, value, seconds; or SB3's
    monitor.csv). Writes the numbers as tables, and a picture; docs/kinematics.md says what each one is.

    With --text: measures how the surprise -log p of a symbol falls with the symbols that stand before it, by a small
    model that is trained on the text first, or by --model; docs/information.md says how.
    """
    of_logs: dict[str, Any] = {"RUN_OR_LOG": logs or None, "--tag": tag, "--threshold": threshold}
    of_logs |= {"--for-good": for_good, "--direction": direction, "--tensorboard": tensorboard or None}
    of_text: dict[str, Any] = {"--model": model, "--symbols": symbols, "--vocabulary": vocabulary, "--minutes": minutes}
    of_text |= {"--context": context, "--targets": targets, "--seed": seed, "--trust": trust or None, "--out": out}
    texts = {"--source": source, "--text": text, "--resume": resume}
    asked = next((name for name, value in texts.items() if value is not None), None)
    if asked is not None:
        _refuse(of_logs, asked)
        measure_text(
            TextOptions(
                run_dir, text, source, model, resume, symbols, vocabulary, minutes, context, targets, seed, trust, out
            )
        )
    elif logs:
        _refuse(of_text, "logs, for it is about --text")
        measure_logs(LogOptions(logs, tag, threshold, for_good or FOR_GOOD, direction, tensorboard, run_dir))
    else:
        raise UsageError(
            "Which logs, or which text? For instance: hrl kinematics runs/CartPole-v1/dqn --threshold 475, or "
            "hrl kinematics --text book.txt."
        )


def _refuse(others: dict[str, Any], asked: str) -> None:
    """Refuse options of the other form of the command."""
    for name, value in others.items():
        if value is not None:
            raise UsageError(f"{name} cannot go with {asked}. Leave it out.")


def measure_logs(options: LogOptions) -> None:
    """Print what the logs of runs say, and keep it.

    Raises:
        UsageError: The call or a log is wrong.
        Interrupted: Ctrl-C.
    """
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise UsageError(f"--threshold is {options.threshold}; expected a finite number.")
    try:
        _measure_logs(options)
    except KeyboardInterrupt:
        raise Interrupted("interrupted before the end; nothing is kept.") from None


def _measure_logs(options: LogOptions) -> None:
    from hamiltonian_rl.kinematics_report import analyse, choose_direction, choose_tag, choose_threshold
    from hamiltonian_rl.tracking.run_logs import find_runs, run_names

    with work_shown() as show:
        sources = find_runs(options.logs, show)
        tag = choose_tag(sources, options.tag)
        having = [source for source in sources if tag in source.log.tags()]
        curves = [source.curve(tag) for source in having]
        rises, why = choose_direction(tag, options.direction, curves)
        threshold = choose_threshold(having, tag, options.threshold)
        runs = []
        for source, name, curve in zip(having, run_names(having), curves, strict=True):
            show(f"{name}: {len(curve.steps):,} points")
            runs.append(analyse(source, name, curve, rises, threshold, options.lasting))
    for note in dict.fromkeys(f"{run.name}: {note}" for run in runs for note in run.curve.notes):
        say(f"Note: {note}")
    if len(having) < len(sources):
        say(f"Note: {len(sources) - len(having)} of {len(sources)} logs have no {tag} and are left out.")
    shown = {"Progress": f"{'rises' if rises else 'falls'}, {why}", "Logs": f"{len(runs)}", "Points": _points(runs)}
    shown["Seconds are"] = "; ".join(dict.fromkeys(run.curve.clock for run in runs))
    print_table(tag, shown)
    _print(runs, tag, rises, threshold, options.lasting)
    _keep(runs, tag, rises, threshold, options.lasting, options.run_dir)
    if options.tensorboard:
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
    from hamiltonian_rl.files import write_text
    from hamiltonian_rl.kinematics_report import motion_csv, runs_csv
    from hamiltonian_rl.tracking.motion_picture import kinematics_picture
    from hamiltonian_rl.tracking.pictures import save_picture
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
    save_picture(picture, folder.path / "kinematics.png")
    say(f"The numbers are in   {folder.path / 'kinematics.csv'}")
    say(f"A picture is         {folder.path / 'kinematics.png'}")
