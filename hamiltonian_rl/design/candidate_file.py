"""Tables of candidates: columns of numbers out of a CSV file, and chosen lines back into one."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError

DELIMITERS = ",;\t"


def read_header(path: Path) -> tuple[list[str], str]:
    """Return the names of a table's columns, and what stands between them: a comma, a semicolon or a tab.

    Raises:
        UsageError: The file cannot be read, is empty, has no names, or one twice.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8; expected a CSV file. Save it as one.") from None
    delimiter = max(DELIMITERS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not any(names):
        raise UsageError(f"{path} is empty; expected a line of column names and a candidate a line.")
    if all(_is_number(name) for name in names):
        raise UsageError(f"{path} begins with numbers; expected names of the columns in its first line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f'{path} has the column "{twice[0]}" twice. Rename one of them.')
    return names, delimiter


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of numbers by their names, each of shape ``(N,)``.

    Raises:
        UsageError: There is no such column, no candidate, a row with more cells than there are names, or a cell that
            holds no finite number.
    """
    names, delimiter = read_header(path)
    for name in wanted:
        if name not in names:
            raise UsageError(f'{path} has no column "{name}"; it has {", ".join(names)}.')
    places = [names.index(name) for name in wanted]
    try:
        if next(_rows(path), None) is None:
            raise UsageError(f"{path} has column names and no candidate below them.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            next(line for line in file if line.strip())
            table = np.loadtxt(file, delimiter=delimiter, usecols=places, comments=None, quotechar='"', ndmin=2)
    except UsageError:
        raise
    except (ValueError, UnicodeDecodeError):
        table = None
    if table is None or not np.isfinite(table).all():
        raise UsageError(_bad_cell(path, names, places))
    for i, cells in enumerate(_rows(path)):  # a decimal comma, or a row's name that has none, shifts the columns
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            raise UsageError(
                f"Row {i + 1} of {path} has {len(cells)} cells; expected {len(names)}. Write numbers with a point, and "
                "a name for each column."
            )
    return {name: np.ascontiguousarray(table[:, j]) for j, name in enumerate(wanted)}


def lines_of(path: Path, rows: Sequence[int]) -> list[list[str]]:
    """Return rows of a table as they stand there, in the order asked for; one asked for twice stands twice."""
    wanted, found = set(rows), {}
    for i, cells in enumerate(_rows(path)):
        if i in wanted:
            found[i] = cells
    return [found[row] for row in rows]


def table_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table as the text of a CSV file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return file.getvalue()


def count_duplicates(table: np.ndarray) -> int:
    """Return how many rows equal an earlier one, by a projection onto a random direction.

    Example:
        >>> count_duplicates(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
        1
    """
    along = table @ np.random.default_rng(0).standard_normal(table.shape[1])
    return len(along) - len(np.unique(along))


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the cells of each line below the names; empty lines count for nothing."""
    _, delimiter = read_header(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = (cells for cells in csv.reader(file, delimiter=delimiter) if cells)
        next(lines, None)
        yield from lines


def _bad_cell(path: Path, names: Sequence[str], places: Sequence[int]) -> str:
    """Return the sentence about the first cell that holds no finite number."""
    try:
        for i, cells in enumerate(_rows(path)):
            if len(cells) <= max(places):
                return f"Row {i + 1} of {path} has {len(cells)} cells; expected {len(names)}."
            for place in places:
                if not _is_number(cells[place]) or not np.isfinite(float(cells[place])):
                    others = " + ".join(["1", *(names[other] for other in places if other != place)])
                    return (
                        f'Row {i + 1} of {path} holds "{cells[place]}" in column "{names[place]}"; expected a finite '
                        f'number. Mend it, or leave the column out: --model "{others}".'
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        return f"{path} cannot be read as CSV: {error}."
    return f"{path} cannot be read as a table of numbers."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
