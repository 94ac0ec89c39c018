"""The command line, `hrl`. Imports nothing heavy before it is known what is asked."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hamiltonian_rl.compare_command import compare
from hamiltonian_rl.console import RUNS, EnvSettings, Interrupted, print_rows, print_table, say
from hamiltonian_rl.design_command import design
from hamiltonian_rl.errors import EnvironmentWarning, HamiltonianRLError, UsageError
from hamiltonian_rl.estimate_command import estimate
from hamiltonian_rl.kinematics_command import kinematics
from hamiltonian_rl.solve_command import solve

if TYPE_CHECKING:
    from hamiltonian_rl.agents.evaluation import Episodes
    from hamiltonian_rl.envs.optimum import Optimum
    from hamiltonian_rl.inspection import OpenedModel
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

INTERRUPTED = 130  # what Typer exits with on Ctrl-C
_python_shows_warning = warnings.showwarning


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
    optimality: Annotated[
        bool | None,
        typer.Option(help="Log the computed optimum and the regret at each evaluation [default: where it is free]."),
    ] = None,
) -> None:
    """Train an agent in an environment, and keep everything about it in a run folder.

    Ctrl-C saves a checkpoint; --resume goes on from it, to the same result as if nothing had happened.
    """
    from hamiltonian_rl.agents.settings import parse_assignment

    given = {"seed": seed, "device": device, "eval_every": eval_every, "threads": threads, "optimality": optimality}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
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
            env, agent=agent, steps=steps, n_envs=n_envs, settings=chosen, env_settings=env_chosen, say=say, **fields
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
    against: Annotated[
        str | None,
        typer.Option(metavar="optimum", help="Compare each episode with the computed optimum from its start state."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where --against keeps table and picture [default: beside the model]."),
    ] = None,
) -> None:
    """Measure a trained agent over greedy episodes.

    With --against optimum also what each episode lacks of the best possible from its own start state. The optimum is
    computed from the environment's table of transitions or its control problem; docs/optimality.md says how to
    register one for an environment of your own.
    """
    from hamiltonian_rl.agents.progress import episodes_shown
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.inspection import evaluate_model, evaluation_rows, open_model
    from hamiltonian_rl.regret import folder_beside, optimum_for

    env_chosen = dict(parse_assignment(text) for text in env_settings or [])
    opened = open_model(model, env=env, env_settings=env_chosen, algorithm=agent, trust=trust)
    opened = opened.with_seed(seed)
    if render and video is not None:
        raise UsageError("--render and --video exclude each other: one shows, the other records.")
    if against not in (None, "optimum"):
        raise UsageError(f'Cannot evaluate against "{against}"; expected --against optimum.')
    if out is not None and against is None:
        raise UsageError("--out says where --against keeps its files; without --against optimum leave it out.")
    optimum = optimum_for(opened, say) if against is not None else None
    count = episodes or (1 if render or video is not None else 100)
    with episodes_shown(count) as show:
        found = evaluate_model(opened, count, render=render, video=video, progress=show)
    title, rows = f"{opened.agent.name} on {opened.env_id}", evaluation_rows(opened, found, video)
    if optimum is None:
        print_table(title, rows)
    else:
        _print_regrets(opened, optimum, found, title, rows, out or folder_beside(model))


def _print_regrets(
    opened: OpenedModel, optimum: Optimum, found: Episodes, title: str, rows: dict[str, str], folder: Path
) -> None:
    from hamiltonian_rl.regret import regrets_of

    regrets = regrets_of(optimum, found)
    print_table(title, {**rows, **regrets.rows()})
    print_rows(f"Where most is lost: {', '.join(regrets.state_names)}", regrets.worst())
    about = {"agent": opened.agent.name, "env": opened.env_id, "env_settings": opened.env_settings, "seed": opened.seed}
    regrets.keep(folder, about, title)
    say(f"Each start state, and a picture, lie in   {folder}")


app.command(epilog="Example: hrl compare --env CartPole-v1 --agents dqn,sb3:dqn,sb3:ppo --seeds 5 --jobs 2")(compare)
app.command(epilog="Example: hrl estimate data.csv --target y --model logistic --bootstrap 199")(estimate)
app.command(epilog='Example: hrl design candidates.csv --rows 50 --model "1 + a + b + a:b + a^2"')(design)
app.command(epilog="Example: hrl kinematics runs/CartPole-v1/dqn --threshold 475 --for-good 5")(kinematics)
app.command(epilog="Example: hrl solve --env FrozenLake-v1 --env-set map_name=8x8")(solve)


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
            found = rows()
            print_rows(f"{title} ({len(found)})", found)


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
    except Interrupted as stop:
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


def _refuse(option: str, others: dict[str, Any]) -> None:
    """Refuse options that an earlier run has already decided."""
    for name, value in others.items():
        if value is not None and value != []:
            raise UsageError(f"{name} cannot go with {option}: the earlier run decides it. Leave {name} out.")


def _arguments(checkpoint_every: float) -> dict[str, Any]:
    from hamiltonian_rl.agents.progress import ProgressBar

    return {"say": say, "progress": ProgressBar(), "checkpoint_every": checkpoint_every}


def _resumed(path: Path, steps: int | None, checkpoint_every: float) -> TrainingRun:
    from hamiltonian_rl.training import resume_run

    run = resume_run(path, steps=steps, **_arguments(checkpoint_every))
    say(f"Going on with {run.folder.path} from step {run.agent.num_timesteps:,} of {run.config.steps:,}.")
    if run.resume != "exact":
        say(f"Note: {run.resume}.")
    return run


def _repeated(path: Path, run_dir: Path, changes: dict[str, Any], checkpoint_every: float) -> TrainingRun:
    import dataclasses

    from hamiltonian_rl.run_config import repeat_config
    from hamiltonian_rl.training import start_run

    config = dataclasses.replace(repeat_config(path), **changes)
    return start_run(config, run_dir, **_arguments(checkpoint_every))


def _execute(run: TrainingRun) -> None:
    say(f"Training {run.config.agent} on {run.config.env} for {run.config.steps:,} steps, in {run.folder.path}")
    result = run.execute()
    if result["status"] == "stopped":
        say(
            f"Stopped at step {result['steps']:,} of {run.config.steps:,}; everything is kept in {run.folder.path}\n"
            f"Go on with: hrl train --resume {run.folder.path}"
        )
        raise SystemExit(1)
    print_table(f"{run.config.agent} on {run.config.env}, seed {run.config.seed}", _summary(run, result))
    say(
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
        **_regret(result),
        **({"Cut off": f"{cut} of them after 10,000 steps: there is no time limit"} if cut else {}),
        f"Threshold {'' if threshold is None else f'{threshold:g} '}reached": reached("threshold"),
        "Solved for good (to the end of the run)": reached("solved_for_good"),
        "Training": f"{result['steps']:,} steps, {result['training_cpu_seconds']:.1f} CPU seconds",
    }


def _regret(result: dict[str, Any]) -> dict[str, str]:
    if "regret" not in result:
        return {}
    least = ", at least" if result["certificate"] == "lower bound" else ""
    return {
        "Optimum from the same start states": f"{result['return_optimal']:.2f} ({result['certificate']})",
        f"Regret{least}": f"{result['regret']:.4g}",
    }


def _best_possible(run: TrainingRun) -> dict[str, str]:
    """Return the computed optimum as a row, where the environment has a table of its transitions."""
    from hamiltonian_rl.solving import solve_env

    try:
        optimum = solve_env(run.config.env, env_settings=run.config.env_settings)
    except HamiltonianRLError:
        return {}
    return {"Best possible, computed": f"{optimum.start_bounds[1]:.4f} (hrl solve draws how)"}


if __name__ == "__main__":
    main()
