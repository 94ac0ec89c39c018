"""Checkpoints without pickle: plain data as JSON, arrays as safetensors, one checksummed zip.

Reading one runs no code from it. Writing is atomic: a temporary file, flushed to the disk, then renamed
over the old one; whoever is killed at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from hamiltonian_rl.errors import CheckpointError
from hamiltonian_rl.files import atomic_write

Tree = Any  # nested dicts with text keys, lists, numbers, texts, booleans, None and NumPy arrays

TREE_MEMBER, ARRAYS_MEMBER, SUMS_MEMBER = "tree.json", "arrays.safetensors", "SHA256SUMS"
SB3_MEMBER = "_stable_baselines3_version"
ARRAY_KEY, SCALAR_KEY = "__array__", "__scalar__"


def write_checkpoint(path: str | Path, tree: Tree) -> None:
    """Write the tree to a file, atomically.

    Args:
        path: The file; its folder must exist.
        tree: Nested dicts (with text keys), lists, tuples (read back as lists), numbers, texts,
            booleans, None, NumPy arrays and NumPy scalars.

    Raises:
        RunStorageError: The file cannot be written: no permission, no space.
        TypeError: A leaf is of another type.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(tree, arrays)).encode()
    packed = safetensors.numpy.save(arrays)
    members = {TREE_MEMBER: text, ARRAYS_MEMBER: packed}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    path = Path(path)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in {**members, SUMS_MEMBER: sums.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def read_checkpoint(path: str | Path) -> Tree:
    """Read what `write_checkpoint` wrote.

    Raises:
        CheckpointError: There is no such file, or it is truncated, altered, or of another kind.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if len(archive.namelist()) != 3 or names != {TREE_MEMBER, ARRAYS_MEMBER, SUMS_MEMBER}:
                raise CheckpointError(_foreign_message(path, names))
            members = {name: archive.read(name) for name in (TREE_MEMBER, ARRAYS_MEMBER)}
            sums = archive.read(SUMS_MEMBER).decode()
        digests = {name: digest for digest, name in (line.split("  ") for line in sums.splitlines())}
        for name, data in members.items():
            if hashlib.sha256(data).hexdigest() != digests.get(name):
                raise CheckpointError(f"{path} was altered: the checksum of {name} does not match.")
        return _with_arrays(json.loads(members[TREE_MEMBER]), safetensors.numpy.load(members[ARRAYS_MEMBER]))
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except CheckpointError:
        raise
    except Exception as error:  # whatever strange bytes make the readers raise
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}: {error}). "
            "Use an earlier checkpoint, or train again."
        ) from error


def is_sb3_file(path: Path) -> bool:
    """Return whether a file is a model that Stable-Baselines3 itself saved, by its table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            return SB3_MEMBER in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _foreign_message(path: Path, names: set[str]) -> str:
    if SB3_MEMBER in names:
        return f"{path} is a Stable-Baselines3 file; it is read by `hrl evaluate --trust` and SB3Agent.from_sb3."
    return f"{path} is no checkpoint of this toolkit: it holds {', '.join(sorted(names)[:5])}."


def _without_arrays(tree: Tree, arrays: dict[str, np.ndarray]) -> Tree:
    """Return the tree with its arrays moved to ``arrays`` and references in their place."""
    if isinstance(tree, dict):
        if not all(isinstance(key, str) for key in tree) or tree.keys() in ({ARRAY_KEY}, {SCALAR_KEY}):
            raise TypeError(f"A checkpoint's dicts need text keys of their own; got {sorted(map(repr, tree))[:5]}.")
        return {key: _without_arrays(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_arrays(value, arrays) for value in tree]
    if isinstance(tree, np.ndarray | np.generic):
        if tree.dtype.kind not in "biuf" or tree.dtype.itemsize > 8:
            raise TypeError(f"A checkpoint holds arrays of numbers and booleans; got the type {tree.dtype}.")
        name = str(len(arrays))
        arrays[name] = np.array(tree, order="C")
        return {SCALAR_KEY if isinstance(tree, np.generic) else ARRAY_KEY: name}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"A checkpoint holds plain data and NumPy arrays; got {type(tree).__name__}.")


def _with_arrays(tree: Tree, arrays: dict[str, np.ndarray]) -> Tree:
    if isinstance(tree, dict):
        if set(tree) == {ARRAY_KEY}:
            return arrays[tree[ARRAY_KEY]]
        if set(tree) == {SCALAR_KEY}:
            return arrays[tree[SCALAR_KEY]][()]
        return {key: _with_arrays(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_arrays(value, arrays) for value in tree]
    return tree
