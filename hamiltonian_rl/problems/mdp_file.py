"""The tables of an MDP in an ``.npz`` file, from which no code can run."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.files import atomic_write

NO_HORIZON = -1
OPTIONAL = ("last_rewards",)


def write_fields(path: str | Path, fields: dict[str, Any]) -> None:
    """Write the fields of an MDP; the file is whole or absent.

    Raises:
        RunStorageError: If it cannot be written.
    """
    horizon = NO_HORIZON if fields["horizon"] is None else fields["horizon"]
    known = {name: field for name, field in fields.items() if field is not None}
    with atomic_write(Path(path)) as file:
        np.savez(file, **{**known, "horizon": horizon})


def read_fields(path: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """Read the fields of an MDP.

    Raises:
        UsageError: If the file is not such a one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        with open(path, "rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as file:
            fields: dict[str, Any] = {name: file[name] for name in names if name in file.files or name not in OPTIONAL}
        discount, horizon = fields["discount"].item(), fields["horizon"].item()  # of the type that was written
        return {**fields, "discount": discount, "horizon": None if horizon == NO_HORIZON else horizon}
    except Exception as error:  # the file may be anything, and NumPy's reader raises many kinds
        raise UsageError(
            f"{path} cannot be read as an MDP: {first_line(error)} Such files are written by MDP.save."
        ) from error
