"""The terms of a linear model, written as ``1 + a + b + a:b + a^2``, and the columns that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean

HIGHEST_POWER = 20


@dataclass(frozen=True)
class Term:
    """A product of powers of columns; the intercept has none.

    Attributes:
        powers: By the column's name.
    """

    powers: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """As it is written."""
        return ":".join(column if power == 1 else f"{column}^{power}" for column, power in self.powers) or "1"


def parse_model(text: str, columns: Sequence[str]) -> tuple[Term, ...]:
    """Return the terms of a model.

    Args:
        text: Terms with ``+`` between; a term is 1, a column, a power of one as ``a^2``, or a product as ``a:b^2``.
        columns: Names that there are.

    Raises:
        UsageError: A term cannot be read, names no column, or stands there twice.

    Example:
        >>> [term.name for term in parse_model("1 + a + b + a:b + a^2", ["a", "b"])]
        ['1', 'a', 'b', 'a:b', 'a^2']
    """
    terms = tuple(_term(part.strip(), text, columns) for part in text.split("+"))
    twice = [term.name for term, count in Counter(terms).items() if count > 1]
    if twice:
        raise UsageError(f'The model "{text}" has the term {twice[0]} twice. Leave one of them out.')
    return terms


def every_column(columns: Sequence[str]) -> tuple[Term, ...]:
    """Return the terms of an intercept and every column, whatever signs its name holds.

    Example:
        >>> [term.name for term in every_column(["a", "x:y"])]
        ['1', 'a', 'x:y']
    """
    return (Term(()), *(Term(((column, 1),)) for column in columns))


def _term(part: str, text: str, columns: Sequence[str]) -> Term:
    if part == "1":
        return Term(())
    powers: Counter[str] = Counter()
    for factor in part.split(":"):
        if not factor.strip():
            raise UsageError(f'The model "{text}" has an empty term. Terms are written 1 + a + a:b + a^2.')
        name, caret, exponent = (piece.strip() for piece in factor.partition("^"))
        power = int(exponent) if exponent.isdecimal() and len(exponent) < 4 else 0
        if caret and not 1 <= power <= HIGHEST_POWER:
            raise UsageError(
                f'The model "{text}" has the power "{factor.strip()}"; expected a whole number from 1 to '
                f"{HIGHEST_POWER} behind ^, as in a^2."
            )
        if name not in columns:
            raise UsageError(
                f'The model "{text}" names "{name}", which is no column. {did_you_mean(name, columns)} Terms are '
                "written 1 + a + a:b + a^2."
            )
        powers[name] += power if caret else 1
    return Term(tuple(sorted(powers.items())))


def model_columns(terms: Sequence[Term], values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the columns that the terms make, shape ``(N, p)``.

    Args:
        terms: Of the model.
        values: Each column's numbers, shape ``(N,)``.

    Example:
        >>> values = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 5.0])}
        >>> model_columns(parse_model("1 + a:b + a^2", ["a", "b"]), values)
        array([[ 1.,  3.,  1.],
               [ 1., 10.,  4.]])
    """
    rows = np.ones((len(next(iter(values.values()))), len(terms)))
    for j, term in enumerate(terms):
        for column, power in term.powers:
            rows[:, j] *= values[column] ** power
    return rows
