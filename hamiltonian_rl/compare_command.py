"""`hrl compare`: several agents and seeds in one environment, measured in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hamiltonian_rl.console import RUNS, EnvSettings, print_rows, say, work_shown
from hamiltonian_rl.errors import HamiltonianRLError

if TYPE_CHECKING:
    from hamiltonian_rl.comparison.optima import MeanOptimum
    from hamiltonian_rl.comparison.plan import Comparison


def compare(
    env: Annotated[
        str, typer.Option(metavar="ID", help="Gymnasium environment, for instance CartPole-v1 or module:Env-v0.")
    ],
    agents: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Agents with commas between, settings behind colons: sb3:ppo,dqn,dqn:gamma=0.9.",
        ),
    ],
    seeds: Annotated[int, typer.Option(metavar="S", min=1, help="Runs of each agent: seeds 0 to S-1.")] = 5,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Environment steps of each run [default: as each is tuned, else 100000]."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="J", min=1, help="Runs side by side, on one thread each.")] = 1,
    eval_every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Environment steps between evaluations [default: 1000].")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="R", help="Return that counts as solved [default: the environment's own].")
    ] = None,
    optimum: Annotated[
        bool, typer.Option(help="Compute the optimum that regrets are measured against, where the environment has one.")
    ] = True,
    env_settings: EnvSettings = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where comparisons are kept [default: runs/compare].")
    ] = None,
) -> None:
    """Train several agents with several seeds, and say which learns what, how surely, and at what cost.

    All are measured alike: greedy episodes from the same start states, in an environment of their own. The table's
    returns come with an interval over the seeds; runs that never reach the threshold count as slower than all others.
    Nothing is lost when it is interrupted: the same command goes on where it stopped, and one with more agents or seeds
    adds them.
    """
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.comparison.plan import parse_agents, plan_comparison
    from hamiltonian_rl.files import only_one

    comparison = plan_comparison(
        env,
        parse_agents(agents),
        seeds,
        run_dir or RUNS / "compare",
        env_settings=dict(parse_assignment(text) for text in env_settings or []),
        steps=steps,
        eval_every=eval_every,
        say=say,
    )
    with only_one(comparison.folder, "hrl compare"):
        _run_and_report(comparison, jobs, threshold, optimum)


def _run_and_report(comparison: Comparison, jobs: int, threshold: float | None, optimum: bool) -> None:
    """Execute what is left of a comparison, then print and keep what came out."""
    from hamiltonian_rl.comparison.files import write_report
    from hamiltonian_rl.comparison.progress import ComparisonProgress
    from hamiltonian_rl.comparison.report import explanation, report_on, tables
    from hamiltonian_rl.comparison.runs import execute_jobs

    left = [job for job in comparison.jobs if not job.is_finished()]
    kept = len(comparison.jobs) - len(left)
    begun = sum(job.run_folder() is not None for job in left)
    say(
        f"{len(left)} runs, in {comparison.folder}"
        + (f"; {kept} were done before" if kept else "")
        + (f"; {begun} of the {len(left)} were begun before" if begun else "")
    )
    with ComparisonProgress(left, jobs) as progress:
        outcomes = execute_jobs(left, jobs, progress)
    stopped = any(outcome.status == "stopped" for outcome in outcomes)
    report = report_on(comparison, threshold, _optima(comparison) if optimum and not stopped else None)
    write_report(report)
    for title, rows in tables(report).items():
        print_rows(title, rows)
    say(
        f"{explanation(report)}\n"
        f"The tables and a picture lie in   {comparison.folder}\n"
        f"Look at the curves with           tensorboard --logdir {comparison.folder}"
    )
    failed = [outcome.job.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        say(f"Failed: {'; '.join(failed)}.")
    undone = len(left) - sum(outcome.status == "finished" for outcome in outcomes)
    if undone:
        say(f"{undone} of {len(comparison.jobs)} runs are not done. The same command goes on with them.")
        raise SystemExit(1)


def _optima(comparison: Comparison) -> dict[str, MeanOptimum]:
    """Return the optima of the finished runs; none, with the reason said, where none can be computed."""
    from hamiltonian_rl.comparison.optima import optima_of

    try:
        with work_shown() as show:
            return optima_of(comparison, show)
    except HamiltonianRLError as error:
        say(f"There is no regret in the table: {error}")
        return {}
    except KeyboardInterrupt:
        say("There is no regret in the table: interrupted. The same command computes the optimum again.")
        return {}
