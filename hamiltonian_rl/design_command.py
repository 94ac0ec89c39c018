"""`hrl design`: which of many candidates to measure."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hamiltonian_rl.console import RUNS, Interrupted, print_table, say, work_shown
from hamiltonian_rl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from hamiltonian_rl.design import Design
    from hamiltonian_rl.design.model_terms import Term

FORMULAS = {"A": "tr(S⁻¹)", "D": "det(S)^(-1/p)", "I": "tr(S⁻¹ M)"}


def design(
    candidates: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Candidates: a line of column names, then one a line.")
    ],
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="How many candidates to choose.")],
    criterion: Annotated[
        str,
        typer.Option(
            metavar="A|D|I",
            help="What is to be small. A: the parameters' variances, added up; D: their ellipsoid; I: the prediction's "
            "variance, in the mean over the candidates.",
        ),
    ] = "A",
    include: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.csv", help="Rows that are measured anyway, with the same columns; repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="TERMS", help='As "1 + a + b + a:b + a^2" of the columns a and b.', show_default="1 + every column"
        ),
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="A candidate may be chosen more than once.")] = False,
    prior: Annotated[
        float, typer.Option(metavar="X", min=0, help="Ridge; above zero, fewer rows than parameters do.")
    ] = 0.0,
    starts: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=1, help="Starts of the search.", show_default="as many as take two seconds, 10 to 1,000"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of everything random.")] = 0,
    run_dir: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where runs are kept.")] = RUNS,
) -> None:
    """Choose which rows to measure, so that a linear model is learned best from them.

    Prints what the choice is worth, a bound that no choice is below, and what greedy and random choices are worth;
    writes the chosen rows as a table, and a picture.
    """
    try:
        _design(candidates, rows, criterion, include or [], model, repeat, prior, starts, seed, run_dir)
    except KeyboardInterrupt:
        raise Interrupted("interrupted before there was a choice; nothing is kept.") from None
    except MemoryError:
        raise UsageError("There is not enough memory for that. Take fewer candidates or terms.") from None


def _design(
    candidates: Path,
    n_rows: int,
    criterion: str,
    include: list[Path],
    model: str | None,
    repeat: bool,
    prior: float,
    starts: int | None,
    seed: int,
    run_dir: Path,
) -> None:
    import numpy as np

    from hamiltonian_rl.design import choose_rows, design_task
    from hamiltonian_rl.design.candidate_file import count_duplicates, read_columns, read_header
    from hamiltonian_rl.design.model_terms import every_column, model_columns, parse_model

    with work_shown() as show:
        show(f"reading {candidates}")
        names, _ = read_header(candidates)
        if model is None:
            _refuse_nameless(candidates, names)
        terms = every_column(names) if model is None else parse_model(model, names)
        used = sorted({column for term in terms for column, _ in term.powers}, key=names.index) or names[:1]
        values = read_columns(candidates, used)
        _refuse_constants(terms, values)
        table = model_columns(terms, values)
        measured = [model_columns(terms, read_columns(path, used)) for path in include]
        fixed = np.concatenate(measured) if measured else None
        try:
            task = design_task(
                table,
                n_rows,
                criterion=criterion,
                include=fixed,
                prior=prior,
                repeat=repeat,
                names=[term.name for term in terms],
            )
        except UsageError as error:
            raise UsageError(_in_options(str(error))) from None
        chosen = choose_rows(task, n_starts=starts, random_state=seed, progress=show)
    duplicates = 0 if repeat else count_duplicates(table)
    again = 0 if fixed is None else _count_among(table[chosen.indices], fixed)
    shown = _rows_of(chosen, terms, table.shape[0], criterion, fixed, duplicates, again)
    print_table(f"Design of {candidates.name}", shown)
    config: dict[str, Any] = {
        "candidates": str(candidates),
        "rows": n_rows,
        "criterion": criterion,
        "repeat": repeat,
        "prior": prior,
    }
    config |= {"model": " + ".join(term.name for term in terms), "seed": seed}
    config |= {"include": [str(path) for path in include]} if include else {}
    config |= {} if starts is None else {"starts": starts}
    _keep(chosen, candidates, values, config, run_dir)


def _refuse_nameless(path: Path, names: list[str]) -> None:
    """Refuse a column without a name, which the model of every column could not name."""
    if not all(names):
        model = " + ".join(["1", *filter(None, names)])
        raise UsageError(
            f'Column {names.index("") + 1} of {path} has no name. Give it one, or leave it out: --model "{model}".'
        )


def _refuse_constants(terms: tuple[Term, ...], values: dict[str, np.ndarray]) -> None:
    """Refuse a column that never changes, beside an intercept that says the same."""
    if all(term.powers for term in terms):
        return
    for name, column in values.items():
        if column.max() == column.min():
            others = " + ".join(["1", *(other for other in values if other != name)])
            raise UsageError(
                f'Column "{name}" is {column[0]:g} in every row, as the intercept 1 is. Leave it out: '
                f'--model "{others}".'
            )


def _count_among(rows: np.ndarray, others: np.ndarray) -> int:
    """Return how many rows equal one of the others."""
    known = set(map(tuple, others.tolist()))
    return sum(tuple(row) in known for row in rows.tolist())


def _in_options(sentence: str) -> str:
    """Return a sentence that names options, not Python's arguments."""
    for name, option in (
        ("n_rows = ", "--rows "),
        ("let rows repeat: repeat", "let them repeat: --repeat"),
        ("include rows that are measured already", "name rows that are measured already with --include"),
        ("give a ridge prior above zero", "give a ridge: --prior 0.1"),
    ):
        sentence = sentence.replace(name, option)
    return sentence


def _rows_of(
    chosen: Design,
    terms: tuple[Term, ...],
    n_candidates: int,
    criterion: str,
    fixed: np.ndarray | None,
    duplicates: int,
    again: int,
) -> dict[str, str]:
    import numpy as np

    by_chance = "most determine nothing"
    if np.isfinite(chosen.random_value):
        by_chance = f"{chosen.random_value:.6g}, {chosen.random_value / chosen.value:.4g} times it"
    different = len(np.unique(chosen.indices))
    times = "" if different == len(chosen.indices) else f", {different} different ones"
    return {
        "Model": f"{' + '.join(term.name for term in terms)} ({len(terms)} parameters)",
        "Chosen": f"{len(chosen.indices)} of {n_candidates:,} candidates{times}",
        **({} if fixed is None else {"Included": f"{len(fixed)} rows that are measured anyway"}),
        **({"Measured again": f"{again} of the chosen rows equal an included one"} if again else {}),
        **({"Duplicates": f"{duplicates:,} candidates equal an earlier one; each may be chosen"} if duplicates else {}),
        f"Criterion {criterion}, {FORMULAS[criterion]}": f"{chosen.value:.6g}",
        "No choice is below (certified)": f"{chosen.lower_bound:.6g}",
        "So it could be better by": f"{max(chosen.gap, 0.0):.2%} at most",
        "Greedy alone": f"{chosen.greedy_value:.6g}" if np.isfinite(chosen.greedy_value) else "determines nothing",
        "Random choice, median of 100": by_chance,
        "Search": chosen.status.value,
    }


def _keep(
    chosen: Design, candidates: Path, values: dict[str, np.ndarray], config: dict[str, Any], run_dir: Path
) -> None:
    """Write the chosen rows, a picture and how they were found to a run folder."""
    from hamiltonian_rl.design.candidate_file import lines_of, read_header, table_text
    from hamiltonian_rl.files import write_text
    from hamiltonian_rl.tracking.pictures import design_picture, save_picture
    from hamiltonian_rl.tracking.run_folder import RunFolder

    indices = chosen.indices.tolist()
    header, lines = read_header(candidates)[0], lines_of(candidates, indices)
    folder = RunFolder.create(run_dir, "design", candidates.stem, config["seed"])
    folder.write_config(config)
    folder.write_provenance()
    numbered = [[str(row + 1), *cells] for row, cells in zip(indices, lines, strict=True)]
    where = "row" if "row" not in header else "candidate row"
    write_text(folder.path / "design.csv", table_text([where, *header], numbered))
    worth = {"random": chosen.random_value, "greedy": chosen.greedy_value, "chosen": chosen.value}
    picture = design_picture(values, chosen.indices, worth, chosen.lower_bound, config["criterion"])
    save_picture(picture, folder.path / "design.png")
    values_found = {"criterion": chosen.value, "lower_bound": chosen.lower_bound}
    values_found |= {"greedy": chosen.greedy_value, "random": chosen.random_value}
    result = {name: value if value != float("inf") else None for name, value in values_found.items()}
    folder.write_result({**result, "status": chosen.status.name.lower()})
    say(f"The rows are in   {folder.path / 'design.csv'}")
    say(f"A picture is      {folder.path / 'design.png'}")
    say(f"Build upon them   {_next_call(candidates, config, folder.path / 'design.csv')}")


def _next_call(candidates: Path, config: dict[str, Any], design: Path) -> str:
    """Return the call that builds upon a design: the same model and criterion, all that is measured by then."""
    words = ["hrl", "design", str(candidates), "--rows", "N", "--model", config["model"]]
    words += ["--criterion", config["criterion"]] if config["criterion"] != "A" else []
    words += ["--repeat"] if config["repeat"] else []
    words += ["--prior", f"{config['prior']:g}"] if config["prior"] else []
    for path in (*config.get("include", []), str(design)):
        words += ["--include", path]
    return shlex.join(words)
