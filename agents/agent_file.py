"""The file of a saved agent: how it is marked, and what is said of one that does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hamiltonian_rl.errors import CheckpointError, UsageError, first_line

FILE_MARK = {"kind": "hamiltonian_rl agent", "version": 1}


@contextlib.contextmanager
def reading_agent(tree: Any, where: str) -> Iterator[None]:
    """Check the mark of an agent's file, and turn whatever its contents make the parts raise into a sentence.

    Raises:
        CheckpointError: It is no agent's file, of another version, or altered.
    """
    if not isinstance(tree, dict) or tree.get("kind") != FILE_MARK["kind"]:
        raise CheckpointError(f"{where} holds no agent of this toolkit.")
    if tree.get("version") != FILE_MARK["version"]:
        raise CheckpointError(
            f"{where} has version {tree.get('version')}; this release reads {FILE_MARK['version']}. Train it again."
        )
    try:
        yield
    except (UsageError, CheckpointError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{where} is incomplete or inconsistent: {type(error).__name__}, {first_line(error)} Use another one."
        ) from error


def with_suffix(path: str | Path) -> Path:
    """Return the path, with ".zip" where it has no suffix, as Stable-Baselines3 does."""
    path = Path(path)
    return path if path.suffix else path.with_suffix(".zip")
