"""`hrl solve`: the computed optimum of an environment, by its table or its control problem."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hamiltonian_rl.console import RUNS, EnvSettings, Interrupted, print_table, say, work_shown
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
            metavar="auto|none|N|M-N",
            help="Steps after which an episode is cut off, which the optimum depends on; auto: the environment's; "
            "none: for ever; M-N, of control problems: the best number of steps from M to N.",
        ),
    ] = "auto",
    discount: Annotated[
        float | None,
        typer.Option(
            metavar="G", help="Discount; Gymnasium's returns have none.", show_default="1, or the control problem's own"
        ),
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest distance of the certified bounds; of control problems, largest residual of stationarity.",
            show_default="1e-8",
        ),
    ] = None,
    route: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Control problems: bellman (a grid), hamiltonian (costates), or both."),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="X,Y,...", help="Control problems: the state to start from."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(metavar="N", help="Control problems: grid points along each coordinate.")
    ] = None,
    run_dir: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where runs are kept.")] = RUNS,
) -> None:
    """Compute the optimum of an environment, or bounds of it: what agents are measured against.

    Of an environment with a table of its transitions, the exact optimum between certified bounds, by the method
    that suits or is named. Of one with a control problem behind it, the best path found from one state by costates
    (Pontryagin) beside the value on a grid (Bellman): --route, --state, --points. Where actions are discrete or the
    reward jumps, costates solve a relaxation, whose path is rounded and followed in the environment.

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

    Ctrl-C prints the bounds of a table reached by then.

    \b
    Exit code:
      0    what was asked for was found: bounds as close as --tol; a path that
           is a local optimum (LOCAL_OPTIMUM), of the relaxation where there is
           one, and then also reaches its goal; with --route bellman, a grid
           whose sweeps came to rest
      1    less than that was found and kept (the table says why), or an error
      2    the call is wrong
      130  Ctrl-C
    """  # noqa: D301, for \b is Click's sign to leave line breaks as they are
    from hamiltonian_rl.control_solving import has_problem

    close = 1e-8 if tol is None else tol
    control = {"--route": route, "--state": state, "--points": points}
    with _told_in_options():
        if has_problem(env):
            _refuse_for(env, "a control problem", {"--method": None if method == "auto" else method})
            wanted: dict[str, Any] = {"state": state, "discount": discount, "points": points, "tol": close}
            wanted |= {"horizon": _horizon(horizon), "route": "both" if route is None else route}
            _solve_control(env, env_settings, wanted, run_dir)
        else:
            _refuse_for(env, "no control problem", control)
            steps = _horizon(horizon)
            if isinstance(steps, range):
                raise UsageError(f"--horizon {horizon} does not apply: {env} has no control problem behind it.")
            _solve(env, env_settings, method, steps, 1.0 if discount is None else discount, close, run_dir)


def _refuse_for(env: str, kind: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} = {value} does not apply: {env} has {kind} behind it. Leave {name} out.")


def _solve_control(env: str, env_settings: list[str] | None, wanted: dict[str, Any], run_dir: Path) -> None:
    from hamiltonian_rl.advice import in_options
    from hamiltonian_rl.agents.settings import parse_assignment
    from hamiltonian_rl.control_pictures import keep_control_optimum
    from hamiltonian_rl.control_report import control_rows
    from hamiltonian_rl.control_solving import solve_control_env
    from hamiltonian_rl.solving import optimum_folder

    parameters = dict(parse_assignment(text) for text in env_settings or [])
    with optimum_folder(env, run_dir) as folder:
        with work_shown() as show:
            optimum = solve_control_env(
                env, parameters=parameters, **wanted, progress=_sweeps(show, " of the grid"), announce=show
            )
        print_table(f"Best path of {env}", {name: in_options(text) for name, text in control_rows(optimum).items()})
        pictures = keep_control_optimum(optimum, folder)
    say(f"The run lies in   {folder.path}")
    for name in pictures:
        say(f"A picture is      {folder.path / name}")
    say(f"Its arrays are    {folder.path / 'trajectory.npz'}")
    say(f"What rows mean    docs/control.md; train an agent to compare: hrl train --env {env}")
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
        with work_shown() as show:
            sweeps = _sweeps(show, "; Ctrl-C stops")
            optimum = solve_env(env, env_settings=env_chosen, **wanted, progress=sweeps)
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
    """Let errors name options where they name arguments of Python, and Ctrl-C and want of memory be a sentence."""
    from hamiltonian_rl.advice import in_options

    try:
        yield
    except HamiltonianRLError as error:
        raise type(error)(in_options(str(error))) from error
    except KeyboardInterrupt:
        raise Interrupted("interrupted before there was anything to certify; nothing is kept.") from None
    except MemoryError:
        raise UsageError("There is not enough memory for that. Take fewer --points or a shorter --horizon.") from None


def _horizon(text: str) -> str | int | range | None:
    """Return what `--horizon` says: "auto", None, a number of steps, or a range of such."""
    if text in ("auto", "none"):
        return None if text == "none" else text
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split("-")]
    if len(numbers) > 2 or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise UsageError(
            f'--horizon is "{text}"; expected auto, none, a number of steps from 1 up, or M-N, the least and the most.'
        )
    return numbers[0] if len(numbers) == 1 else range(numbers[0], numbers[1] + 1)


def _sweeps(show: Callable[[str], None], what: str) -> Callable[[int, float], None]:
    """Return a function that shows the number of sweeps and the distance of the bounds."""
    return lambda sweeps, gap: show(f"{sweeps:,} sweeps{what}, bounds {gap:.1e} apart")
