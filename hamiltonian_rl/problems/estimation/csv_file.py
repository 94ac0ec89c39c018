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
    """

    numbers: dict[str, np.ndarray]
    labels: tuple[str, ...]
    lines: tuple[int, ...]


def read_columns(path: Path, target: str, inputs: tuple[str, ...] | list[str] | None = None) -> Columns:
    """Read the target's column and those of the inputs, all others without ``inputs``.

    Raises:
        UsageError: The file cannot be read, is empty, lacks a column, has a line of another length, or something in one
            of these columns is missing or no number.
    """
    names, lines, rows = _read(path)
    for name in (target, *(inputs or ())):
        if name not in names:
            raise UsageError(f'{path} has no column "{name}". {did_you_mean(name, names)}{_other_separator(names)}')
    if inputs is not None and target in inputs:
        raise UsageError(f'"{target}" is the target; it cannot be an input too.')
    wanted = [name for name in names if name == target or inputs is None or name in inputs]
    numbers: dict[str, np.ndarray] = {}
    labels: tuple[str, ...] = ()
    for name in wanted:
        texts = [row[names.index(name)].strip() for row in rows]
        _refuse_missing(path, name, texts, lines)
        values = [_number(text) for text in texts]
        if name == target and all(value is None for value in values):
            labels = tuple(sorted(set(texts)))
            values = [float(labels.index(text)) for text in texts]
        _refuse_text(path, name, texts, values, lines)
        numbers[name] = np.array(values, np.float64)
    return Columns(numbers, labels, tuple(lines))


def _read(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the names, and the rows with their lines; empty lines are passed over."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            found = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {first_line(error)} Expected text in UTF-8.") from error
    if not names:
        raise UsageError(f"{path} is empty. Expected a line with the columns' names, and one line an observation.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f'{path} has two columns "{twice[0]}". Give each a name of its own.')
    if all(_number(name) is not None for name in names):
        raise UsageError(
            f"The first line of {path} holds numbers ({', '.join(names[:4])}); expected the columns' names. Write a "
            "line with names at the top."
        )
    if not found:
        raise UsageError(f"{path} has a line of names and no observation. Expected one line an observation.")
    for line, row in found:
        if len(row) != len(names):
            raise UsageError(
                f"Line {line} of {path} has {len(row)} values; expected {len(names)}, as in its first line."
            )
    return names, [line for line, _ in found], [row for _, row in found]


def _other_separator(names: list[str]) -> str:
    """Return a hint where one name holds all: the file's columns are apart by something else than commas."""
    for sign, said in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            return f" Its columns are separated by {said}; expected commas."
    return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
