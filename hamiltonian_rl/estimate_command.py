"""`hrl estimate`: maximum likelihood from a file, with two kinds of standard errors and a test of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hamiltonian_rl.console import Interrupted, print_rows, print_table, say, work_shown


def estimate(
    data: Annotated[Path, typer.Argument(metavar="DATA.csv", help="A CSV file with the columns' names at its top.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to explain.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="Of those above.")],
    inputs: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns to explain it by [default: all the others].")
    ] = None,
    intercept: Annotated[bool, typer.Option(help="Whether a regression has an intercept.")] = True,
    sigma: Annotated[
        float | None, typer.Option(metavar="X", help="Known noise of linear and gaussian [default: estimated].")
    ] = None,
    parameter: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="bernoulli: mean or logit; exponential: rate or mean [default: the first named]."
        ),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(metavar="N", min=0, help="Draws of the parametric bootstrap of the test.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**32 - 1, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Fit a model to data by maximum likelihood, and test whether the data contradict it.

    Standard errors come from the Fisher information (right if the model is true: the Cramér-Rao bound) and from the
    sandwich (right for many observations also where it is not); their ratio squared is the efficiency. The test is
    White's in trace form, ρ = 1 - tr(K⁻¹J)/P; docs/estimation.md says what it sees.

    \b
    Models that regress the target on inputs:
      linear, logistic (0 and 1), softmax (classes, numbers or text), poisson (counts)
    of the target alone:
      gaussian, bernoulli (0 and 1), exponential (waiting times)

    \b
    Exit code:
      0    a maximum of the likelihood was found
      1    there is none, or it was not reached (the table says why)
      2    the call or the data are wrong
      130  Ctrl-C
    """  # noqa: D301, for \b is Click's sign to leave line breaks as they are
    from hamiltonian_rl.estimation_report import ModelOptions, estimate_task, task_from_csv

    columns = None if inputs is None else tuple(name.strip() for name in inputs.split(","))
    task = task_from_csv(data, target, model, ModelOptions(columns, intercept, sigma, parameter))
    try:
        with work_shown() as show:
            report = estimate_task(task, bootstrap, seed, show)
    except KeyboardInterrupt:
        raise Interrupted("interrupted before the fit was done.") from None
    print_table(f"{model} model of {target} in {data}", report.summary())
    if not report.estimate.converged:
        raise SystemExit(1)
    print_rows("Parameters", report.coefficients())
    say("What the columns and the test mean: docs/estimation.md")
