"""The errors of the toolkit. Each message says what, where, got, expected and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED = 12  # names shown at the most, so that a sentence stays one


class HamiltonianRLError(Exception):
    """Base of every error that the toolkit raises on purpose."""


class UsageError(HamiltonianRLError, ValueError):
    """The call is wrong: an unknown name, a value of the wrong type, an impossible combination."""


class EnvironmentContractError(HamiltonianRLError):
    """The environment raised, or returned something that Gymnasium's interface does not allow."""


class TrainingError(HamiltonianRLError):
    """Training cannot go on: a loss or a parameter is no longer finite."""


class SolverError(HamiltonianRLError):
    """A solver did not reach what it was asked for, and its answer was asked for nonetheless."""


class CheckpointError(HamiltonianRLError):
    """A saved file cannot be read: truncated, altered, of another kind, or of another version."""


class UntrustedFileError(CheckpointError):
    """The file may run code when it is loaded, and nobody said that it is trusted."""


class RunStorageError(HamiltonianRLError, OSError):
    """A run cannot be written: no permission, no space, or the folder is taken."""


class EnvironmentWarning(UserWarning):
    """An environment did something wrong that costs nothing: it is told, and the work goes on."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, as a sentence, for it may come from anywhere.

    Example:
        >>> first_line(ValueError("no such layer\nat line 3")), first_line(ValueError())
        ('no such layer.', 'no message.')
    """
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('. ') if lines else 'no message'}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known name, or the known names when none is near.

    Example:
        >>> did_you_mean("learning_rat", ["learning_rate", "gamma"])
        'Did you mean "learning_rate"?'
        >>> did_you_mean("zzz", ["b", "a"])
        'Known: a, b.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f'Did you mean "{near[0]}"?'
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"Known: {', '.join(names[:LISTED])}{more}."
