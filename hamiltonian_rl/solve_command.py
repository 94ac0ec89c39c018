"""`hrl solve`: the computed optimum of an environment, by its table or its control problem."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hamiltonian_rl.console import RUNS, EnvSettings, Interrupted, print_table, say
from hamiltonian_rl.errors import HamiltonianRLError, UsageError


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
    """Compute the optimum of an environment, or bounds of it: what agents are measured against.

    Of an environment with a table of its transitions, the exact optimum between certified bounds, by the method
    that suits or is named. Of one with a control problem behind it, the best path found from one state by costates
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
        print_table(f"Best paths of {env}", control_rows(optimum))
        pictures = keep_control_optimum(optimum, folder)
    say(f"The run lies in   {folder.path}")
    for name in pictures:
        say(f"A picture is      {folder.path / name}")
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
        print_table(f"Optimum of {env}", {name: in_options(text) for name, text in optimum_rows(optimum).items()})
        if (drawing := optimum.drawing()) is not None:
            step = " of the first step" if optimum.mdp.horizon else ""
            say(f"Optimal policy{step} (where actions tie, one of them):\n{drawing}")
        keep_optimum(optimum, folder)
    say(
        f"The run lies in   {folder.path}\n"
        f"Its picture is    {folder.path / 'value.png'}\n"
        f"Look at it with   tensorboard --logdir {folder.path.parent.parent}"
    )
    if optimum.solution.status is Status.INTERRUPTED:
        raise Interrupted("interrupted; the bounds above hold.")
    if not optimum.solution.converged:
        raise SystemExit(1)


@contextlib.contextmanager
def _told_in_options() -> Iterator[None]:
    """Let errors name options where they name arguments of Python, and Ctrl-C be a sentence."""
    from hamiltonian_rl.advice import in_options

    try:
        yield
    except HamiltonianRLError as error:
        raise type(error)(in_options(str(error))) from error
    except KeyboardInterrupt:
        raise Interrupted("interrupted before there was anything to certify; nothing is kept.") from None


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
