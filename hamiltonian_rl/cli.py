"""The command line, `hrl`. Imports nothing heavy before it is known what is asked."""

from __future__ import annotations

import contextlib
import functools
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hamiltonian_rl.errors import EnvironmentWarning, HamiltonianRLError, UsageError

if TYPE_CHECKING:
    from hamiltonian_rl.training import TrainingRun

# Plain help: drawing boxes would cost more time than all the rest of `hrl --help`.
app = typer.Typer(
    name="hrl",
    help="Reinforcement learning where every learned answer stands beside its computed truth.",
    epilog="Start with: hrl train --env CartPole-v1",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUNS = Path("runs")
INTERRUPTED = 130  # what Typer exits with on Ctrl-C
_python_shows_warning = warnings.showwarning
EnvSettings = Annotated[
    list[str] | None, typer.Option("--env-set", metavar="KEY=VALUE", help="Argument of the environment, repeatable.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from hamiltonian_rl import __version__

        print(f"hrl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Reinforcement learning where every learned answer stands beside its computed truth."""


@app.command(epilog="Example: hrl train --env Acrobot-v1 --seed 1 --set gamma=0.98 --set hidden=128,128")
def train(
    env: Annotated[
        str | None, typer.Option(metavar="ID", help="Gymnasium environment, for instance CartPole-v1 or module:Env-v0.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Agent; without it, the one that suits the environment.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Environment steps [default: as tuned, else 100000].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", min=0, help="Seed of everything random [default: 0].")
    ] = None,
    n_envs: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Environments stepped together [default: as tuned, else 1].")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Hyper-parameter, repeatable; `hrl list agents` names them."),
    ] = None,
    env_settings: EnvSettings = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Repeat a run from its config.toml, bit for bit.")
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where runs are kept [default: runs].")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run, exactly where it stopped.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Where to compute [default: cpu].")] = None,
    eval_every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Environment steps between evaluations [default: 1000].")
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds between checkpoints; evaluations make one too.")
    ] = 30.0,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads of the linear algebra [default: 1].")
    ] = None,
) -> None:
    """Train an agent in an environment, and keep everything about it in a run folder.

    Ctrl-C saves a checkpoint; --resume goes on from it, to the same result as if nothing had happened.
    """
    from hamiltonian_rl.agents.settings import parse_assignment

    given = {"seed": seed, "device": device, "eval_every": eval_every, "threads": threads}
    fields = {name: value for name, value in given.items() if value is not None}
    names = {"--agent": agent, "--n-envs": n_envs, "--set": settings, "--env-set": env_settings, "--env": env}
    chosen = dict(parse_assignment(text) for text in settings or [])
    env_chosen = dict(parse_assignment(text) for text in env_settings or [])
    if resume is not None:
        decided = {f"--{name.replace('_', '-')}": value for name, value in fields.items()}
        _refuse("--resume", {**names, **decided, "--config": config, "--run-dir": run_dir})
        run = _resumed(resume, steps, checkpoint_every)
    elif config is not None:
        _refuse("--config", names)
        budget = {} if steps is None else {"steps": steps}
        run = _repeated(config, run_dir or RUNS, {**fields, **budget}, checkpoint_every)
    elif env is None:
        raise UsageError("Which environment? For instance: hrl train --env CartPole-v1. `hrl list envs` names them.")
    else:
        from hamiltonian_rl.run_config import resolve
        from hamiltonian_rl.training import start_run

        resolved = resolve(
            env, agent=agent, steps=steps, n_envs=n_envs, settings=chosen, env_settings=env_chosen, say=_say, **fields
        )
        run = start_run(resolved, run_dir or RUNS, **_arguments(checkpoint_every))
    _execute(run)


@app.command(epilog="Example: hrl evaluate runs/CartPole-v1/dqn/0-20260101-120000 --video cartpole.mp4")
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run's folder, a checkpoint, or an SB3 zip.")],
    env: Annotated[str | None, typer.Option(metavar="ID", help="Environment [default: the run's own].")] = None,
    episodes: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1_000_000, help="Greedy episodes [default: 100; 1 with a picture]."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", min=0, help="Of the start states [default: the run's].")
    ] = None,
    env_settings: EnvSettings = None,
    render: Annotated[bool, typer.Option("--render", help="Show the episodes in a window.")] = False,
    video: Annotated[Path | None, typer.Option(metavar="FILE.mp4", help="Write the episodes as a video.")] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="sb3:NAME", help="Algorithm of an SB3 zip, where the file does not tell.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load an SB3 zip, which may run any code: only from people you trust.")
    ] = False,
) -> None:
    """Measure a trained agent over greedy episodes."""
    from hamiltonian_rl.agents.progress import episodes_shown
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.inspection import evaluate_model, open_model

    env_chosen = dict(parse_assignment(text) for text in env_settings or [])
    opened = open_model(model, env=env, env_settings=env_chosen, algorithm=agent, trust=trust)
    opened = opened.with_seed(seed)
    if render and video is not None:
        raise UsageError("--render and --video exclude each other: one shows, the other records.")
    count = episodes or (1 if render or video is not None else 100)
    with episodes_shown(count) as show:
        summary = evaluate_model(opened, count, render=render, video=video, progress=show)
    _print_table(f"{opened.agent.name} on {opened.env_id}", summary)


@app.command(epilog="Example: hrl solve --env FrozenLake-v1 --env-set map_name=8x8")
def solve(
    env: Annotated[
        str,
        typer.Option(
            metavar="ID", help="With a table of transitions (FrozenLake-v1) or a control problem (Pendulum-v1)."
        ),
    ],
    env_settings: EnvSettings = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="Solver, of those above; auto: the one that suits.")
    ] = "auto",
    horizon: Annotated[
        str,
        typer.Option(
            metavar="auto|none|N",
            help="Steps after which an episode is cut off, which the optimum depends on; auto: the environment's.",
        ),
    ] = "auto",
    discount: Annotated[
        float | None, typer.Option(metavar="G", help="Discount; Gymnasium's returns have none.", show_default="1")
    ] = None,
    tol: Annotated[
        float | None, typer.Option(metavar="X", help="Largest distance of the certified bounds.", show_default="1e-8")
    ] = None,
    route: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Control problems: bellman (a grid), hamiltonian (costates), or both."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="X,Y,...", help="Control problems: the state to start from.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(metavar="N", help="Control problems: grid points along each coordinate.")
    ] = None,
    run_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where runs are kept.")] = RUNS,
) -> None:
    """Compute the optimum of an environment: what no agent can pass.

    Of an environment with a table of its transitions, the exact optimum between certified bounds, by the method
    that suits or is named. Of one with a control problem behind it, an optimal path from one state by costates
    (Pontryagin) beside the value on a grid (Bellman): --route, --state, --points.

    \b
    Methods, where there is a horizon:
      backward-induction, costate-sweep
    without one, at discount 1:
      undiscounted
    without one, at a discount below 1:
      value-iteration, gauss-seidel, policy-iteration,
      modified-policy-iteration, inexact-policy-iteration,
      linear-program, costate-sweep, work-list (where nothing is random)
    for the largest mean reward a step, of episodes one after the other:
      average-reward

    Ctrl-C prints the bounds reached by then.
    """  # noqa: D301, for \b is Click's sign to leave line breaks as they are
    from hamiltonian_rl.control_solving import has_problem

    control = {"--route": route, "--state": state, "--points": points}
    with _told_in_options():
        if has_problem(env):
            _refuse_for(env, "a control problem", {"--method": None if method == "auto" else method, "--tol": tol})
            _solve_control(env, env_settings, route or "both", state, _horizon(horizon), discount, points, run_dir)
        else:
            _refuse_for(env, "a table, not a control problem,", control)
            wanted = 1.0 if discount is None else discount, 1e-8 if tol is None else tol
            _solve(env, env_settings, method, _horizon(horizon), *wanted, run_dir)


def _refuse_for(env: str, kind: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} = {value} does not apply: {env} has {kind} behind it. Leave {name} out.")


def _solve_control(
    env: str,
    env_settings: list[str] | None,
    route: str,
    state: str | None,
    horizon: str | int | None,
    discount: float | None,
    points: int | None,
    run_dir: Path,
) -> None:
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.control_solving import control_rows, keep_control_optimum, solve_control_env
    from hamiltonian_rl.solving import optimum_folder

    parameters = dict(parse_assignment(text) for text in env_settings or [])
    wanted: dict[str, Any] = {"route": route, "horizon": horizon, "discount": discount, "points": points}
    with optimum_folder(env, run_dir) as folder:
        with _sweeps_shown() as show:
            optimum = solve_control_env(env, parameters=parameters, state=state, **wanted, progress=show)
        _print_table(f"Optimum of {env}", control_rows(optimum))
        pictures = keep_control_optimum(optimum, folder)
    _say(f"The run lies in   {folder.path}")
    for name in pictures:
        _say(f"A picture is      {folder.path / name}")
    if not optimum.converged:
        raise SystemExit(1)


def _solve(
    env: str,
    env_settings: list[str] | None,
    method: str,
    horizon: str | int | None,
    discount: float,
    tol: float,
    run_dir: Path,
) -> None:
    from hamiltonian_rl.advice import in_options
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.solution import Status
    from hamiltonian_rl.solving import keep_optimum, optimum_folder, optimum_rows, solve_env

    env_chosen = dict(parse_assignment(text) for text in env_settings or [])
    wanted: dict[str, Any] = {"method": method, "horizon": horizon, "discount": discount, "tol": tol}
    with optimum_folder(env, run_dir) as folder:
        with _sweeps_shown() as show:
            optimum = solve_env(env, env_settings=env_chosen, **wanted, progress=show)
        _print_table(f"Optimum of {env}", {name: in_options(text) for name, text in optimum_rows(optimum).items()})
        if (drawing := optimum.drawing()) is not None:
            step = " of the first step" if optimum.mdp.horizon else ""
            _say(f"Optimal policy{step} (where actions tie, one of them):\n{drawing}")
        keep_optimum(optimum, folder)
    _say(
        f"The run lies in   {folder.path}\n"
        f"Its picture is    {folder.path / 'value.png'}\n"
        f"Look at it with   tensorboard --logdir {folder.path.parent.parent}"
    )
    if optimum.solution.status is Status.INTERRUPTED:
        raise _Interrupted("interrupted; the bounds above hold.")
    if not optimum.solution.converged:
        raise SystemExit(1)


class _Interrupted(Exception):
    """Ctrl-C, where there is something to say of it."""


@contextlib.contextmanager
def _told_in_options() -> Iterator[None]:
    """Let errors name options where they name arguments of Python, and Ctrl-C be a sentence."""
    from hamiltonian_rl.advice import in_options

    try:
        yield
    except HamiltonianRLError as error:
        raise type(error)(in_options(str(error))) from error
    except KeyboardInterrupt:
        raise _Interrupted("interrupted before there was anything to certify; nothing is kept.") from None


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="[envs|agents]", help="What to list.")] = "",
) -> None:
    """List environments or agents, with what there is to know about each."""
    from hamiltonian_rl.inspection import agent_rows, env_rows, setting_rows

    tables = {
        "envs": [("Environments", env_rows)],
        "agents": [("Agents", agent_rows), ("Settings (--set SETTING=VALUE)", setting_rows)],
    }
    if what and what not in tables:
        from hamiltonian_rl.errors import did_you_mean

        raise UsageError(f'Cannot list "{what}". {did_you_mean(what, tables)}')
    for name, parts in tables.items():
        for title, rows in parts if what in ("", name) else ():
            _print_rows(title, rows())


def main() -> None:
    """Run `hrl`; exit with 0, 1 when a run failed or was stopped, 2 when the call is wrong, 130 on Ctrl-C in solve."""
    sys.path.append("")  # as `python -m` has it: an environment's package may lie in the current folder
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except HamiltonianRLError as error:
        _fail(error, 1)
    except _Interrupted as stop:
        _fail(stop, INTERRUPTED)
    except SystemExit as stop:
        if stop.code != INTERRUPTED:
            raise
        _fail("stopped at once. What a run had saved before is kept: hrl train --resume RUN goes on from it.", 1)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Print our own warnings as sentences, others as Python does."""
    if issubclass(category, EnvironmentWarning):
        print(f"hrl: note: {message}", file=sys.stderr)
    else:
        _python_shows_warning(message, category, *where)


def _fail(error: Exception | str, code: int) -> None:
    print(f"hrl: {error}", file=sys.stderr)
    raise SystemExit(code)


def _say(text: str) -> None:
    """Print lines; on a terminal broken between words, so that paths and numbers stay whole."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        wrap = functools.partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        text = "\n".join(wrap(line) if len(line) > width else line for line in text.splitlines())
    print(text, flush=True)


def _horizon(text: str) -> str | int | None:
    """Return what `--horizon` says: "auto", None, or a number of steps."""
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not (text.isdecimal() and int(text) > 0):
        raise UsageError(f'--horizon is "{text}"; expected auto, none, or a number of steps from 1 up.')
    return int(text)


@contextlib.contextmanager
def _sweeps_shown() -> Iterator[Callable[[int, float], None]]:
    """Yield a function that shows the number of sweeps and the distance of the bounds, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Solving ...") as status:
        yield lambda sweeps, gap: status.update(f"Solving: {sweeps:,} sweeps, bounds {gap:.1e} apart. Ctrl-C stops.")


def _refuse(option: str, others: dict[str, Any]) -> None:
    """Refuse options that an earlier run has already decided."""
    for name, value in others.items():
        if value is not None and value != []:
            raise UsageError(f"{name} cannot go with {option}: the earlier run decides it. Leave {name} out.")


def _arguments(checkpoint_every: float) -> dict[str, Any]:
    from hamiltonian_rl.agents.progress import ProgressBar

    return {"say": _say, "progress": ProgressBar(), "checkpoint_every": checkpoint_every}


def _resumed(path: Path, steps: int | None, checkpoint_every: float) -> TrainingRun:
    from hamiltonian_rl.training import resume_run

    run = resume_run(path, steps=steps, **_arguments(checkpoint_every))
    _say(f"Going on with {run.folder.path} from step {run.agent.num_timesteps:,} of {run.config.steps:,}.")
    if run.resume != "exact":
        _say(f"Note: {run.resume}.")
    return run


def _repeated(path: Path, run_dir: Path, changes: dict[str, Any], checkpoint_every: float) -> TrainingRun:
    import dataclasses

    from hamiltonian_rl.run_config import repeat_config
    from hamiltonian_rl.training import start_run

    config = dataclasses.replace(repeat_config(path), **changes)
    return start_run(config, run_dir, **_arguments(checkpoint_every))


def _execute(run: TrainingRun) -> None:
    _say(f"Training {run.config.agent} on {run.config.env} for {run.config.steps:,} steps, in {run.folder.path}")
    result = run.execute()
    if result["status"] == "stopped":
        _say(
            f"Stopped at step {result['steps']:,} of {run.config.steps:,}; everything is kept in {run.folder.path}\n"
            f"Go on with: hrl train --resume {run.folder.path}"
        )
        raise SystemExit(1)
    _print_table(f"{run.config.agent} on {run.config.env}, seed {run.config.seed}", _summary(run, result))
    _say(
        f"The run lies in   {run.folder.path}\n"
        f"Look at it with   tensorboard --logdir {run.folder.path.parent.parent}\n"
        f"Measure it with   hrl evaluate {run.folder.path}"
    )


def _summary(run: TrainingRun, result: dict[str, Any]) -> dict[str, str]:
    threshold = result["reward_threshold"]

    def reached(name: str) -> str:
        if threshold is None:
            return "the environment has no threshold"
        if result[f"steps_to_{name}"] is None:
            return f"not within {result['steps']:,} steps"
        return f"{result[f'steps_to_{name}']:,} steps, {result[f'seconds_to_{name}']:.1f} CPU seconds"

    cut = result["episodes_cut"]
    return {
        f"Return, {result['episodes']} greedy episodes": (
            f"{result['mean_reward']:.2f} ± {result['mean_reward_standard_error']:.2f} (standard error)"
        ),
        **_best_possible(run),
        **({"Cut off": f"{cut} of them after 10,000 steps: there is no time limit"} if cut else {}),
        f"Threshold {'' if threshold is None else f'{threshold:g} '}reached": reached("threshold"),
        "Solved for good (5 evaluations in a row)": reached("solved_for_good"),
        "Training": f"{result['steps']:,} steps, {result['training_cpu_seconds']:.1f} CPU seconds",
    }


def _best_possible(run: TrainingRun) -> dict[str, str]:
    """Return the computed optimum as a row, where the environment has a table of its transitions."""
    from hamiltonian_rl.solving import solve_env

    try:
        optimum = solve_env(run.config.env, env_settings=run.config.env_settings)
    except HamiltonianRLError:
        return {}
    return {"Best possible, computed": f"{optimum.start_bounds[1]:.4f} (hrl solve draws how)"}


def _print_table(title: str, rows: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _print_rows(title: str, rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title} ({len(rows)})", title_justify="left")
    for index, name in enumerate(rows[0]):
        table.add_column(name, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row.values())
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
