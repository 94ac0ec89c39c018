"""Columns of numbers from a CSV file; what is missing or no number is named by its line."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
LINES_NAMED = 5


@dataclass(frozen=True)
class Columns:
    """What was read.

    Attributes:
        numbers: Each column ``(N,)`` by its name, in the order of the file; the target's numbers stand for `labels`
            where there are some.
        labels: The texts in the target's column, sorted; empty where it holds numbers.
        lines: Of the file, in which each row stands, from 1; the names stand in the first.

    Example:
        >>> Columns({"y": np.array([0.0, 1.0])}, labels=("no", "yes"), lines=(2, 3)).labels
        ('no', 'yes')
    """

    numbers: dict[str, np.ndarray]
    labels: tuple[str, ...]
    lines: tuple[int, ...]


def read_columns(path: Path, target: str, inputs: tuple[str, ...] | list[str] | None = None) -> Columns:
    r"""Read the target's column and those of the inputs, all others without ``inputs``.

    Numbers are written as Python and C write them, a point before the decimals, quoted or not. Empty lines are passed
    over, and so is a column without a name and without a value: what a comma at the end of every line makes.

    Raises:
        UsageError: The file cannot be read, is empty, lacks a column, has a line of another length, or something in one
            of these columns is missing or no number; or a column is asked for twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "data.csv"
        ...     _ = file.write_text("x,y\n0.5,no\n1.5,yes\n")
        ...     columns = read_columns(file, "y")
        >>> columns.numbers["y"], columns.labels, columns.lines
        (array([0., 1.]), ('no', 'yes'), (2, 3))
    """
    names, lines, rows = _read(path, target)
    for name in (target, *(inputs or ())):
        if name not in names:
            raise UsageError(f'{path} has no column "{name}". {did_you_mean(name, names)}')
    if inputs is not None and target in inputs:
        raise UsageError(f'"{target}" is the target; it cannot be an input too.')
    if twice := [name for name in inputs or () if (inputs or ()).count(name) > 1]:
        raise UsageError(f'The input "{twice[0]}" is named twice. Name each column once.')
    if inputs is None and "" in names:
        raise UsageError(
            f"Column {names.index('') + 1} of {path} has no name, as an index that was saved with the table. Give it "
            "one, or name the inputs."
        )
    wanted = [name for name in names if name == target or inputs is None or name in inputs]
    numbers: dict[str, np.ndarray] = {}
    labels: tuple[str, ...] = ()
    for name in wanted:
        texts = [row[names.index(name)].strip() for row in rows]
        _refuse_missing(path, name, texts, lines)
        if name != target or all(_number(text.replace("_", "")) is not None for text in texts):  # no labels
            _refuse_underscores(path, name, texts, lines)
        values = [_number(text) for text in texts]
        if name == target and all(value is None for value in values):
            labels = tuple(sorted(set(texts)))
            values = [float(labels.index(text)) for text in texts]
        _refuse_text(path, name, texts, values, lines)
        numbers[name] = np.array(values, np.float64)
    return Columns(numbers, labels, tuple(lines))


def _read(path: Path, target: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the names, and the rows with their lines; empty lines are passed over."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader if len(row) > 1 or "".join(row).strip()]
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {first_line(error)} Expected text in UTF-8.") from error
    if not rows:
        raise UsageError(f"{path} is empty. Expected a line with the columns' names, and one line an observation.")
    names, found = _without_last_comma([name.strip() for name in rows[0][1]], rows[1:])
    _refuse_other_separator(path, names, target)
    if twice := [name for name in names if names.count(name) > 1]:
        called = f'two columns "{twice[0]}"' if twice[0] else "two columns without a name"
        raise UsageError(f"{path} has {called}. Give each a name of its own.")
    if all(_number(name) is not None for name in names):
        raise UsageError(
            f"The first line of {path} holds numbers ({', '.join(names[:4])}); expected the columns' names. Write a "
            "line with names at the top."
        )
    if not found:
        raise UsageError(f"{path} has a line of names and no observation. Expected one line an observation.")
    for line, row in found:
        if len(row) != len(names):
            ends = " It ends with a comma." if len(row) == len(names) + 1 and not row[-1].strip() else ""
            raise UsageError(
                f"Line {line} of {path} has {len(row)} values; expected {len(names)}, as in its first line.{ends}"
            )
    return names, [line for line, _ in found], [row for _, row in found]


def _without_last_comma(
    names: list[str], found: list[tuple[int, list[str]]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return all without the last column where neither it nor anything in it has a name or value."""
    while len(names) > 1 and not names[-1] and all(len(row) == len(names) and not row[-1].strip() for _, row in found):
        names, found = names[:-1], [(line, row[:-1]) for line, row in found]
    return names, found


def _refuse_other_separator(path: Path, names: list[str], target: str) -> None:
    """Refuse a file whose first line is one name that holds all: something else than commas is between."""
    for sign, said in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and sign in names[0] and names[0] != target:
            point = " Write decimals with a point." if sign == ";" else ""
            raise UsageError(f"The columns of {path} are separated by {said}; expected commas.{point}")


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _refuse_underscores(path: Path, name: str, texts: list[str], lines: list[int]) -> None:
    """Refuse ``1_000``, which Python reads as a number and other programs as text."""
    for line, text in zip(lines, texts, strict=True):
        if "_" in text and _number(text.replace("_", "")) is not None:
            plain = text.replace("_", "")
            raise UsageError(
                f'Column "{name}" of {path} holds "{text}" at line {line}; expected digits alone. Write {plain} if '
                "it is that number."
            )


def _refuse_missing(path: Path, name: str, texts: list[str], lines: list[int]) -> None:
    missing = [
        line for line, text in zip(lines, texts, strict=True) if text.lower() in MISSING or _infinite(_number(text))
    ]
    if missing:
        which = ", ".join(map(str, missing[:LINES_NAMED])) + (", ..." if len(missing) > LINES_NAMED else "")
        raise UsageError(
            f'{path} has no number in column "{name}" at line{"s" if len(missing) > 1 else ""} {which} '
            f"({len(missing):,} of {len(lines):,}). Leave such rows out, or fill them in."
        )


def _infinite(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _refuse_text(path: Path, name: str, texts: list[str], values: list[float | None], lines: list[int]) -> None:
    for line, text, value in zip(lines, texts, values, strict=True):
        if value is None:
            raise UsageError(
                f'Column "{name}" of {path} holds "{text}" at line {line}; expected numbers. Leave the column out, or '
                "write numbers for it, such as one column of 0 and 1 a category."
            )
