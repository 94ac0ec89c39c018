"""A run's folder: configuration, provenance, events, checkpoints, result.

``runs/<env>/<agent>/<seed>-<time>/`` holds

* ``config.toml``      everything that determines the run; `hrl train --config` repeats it,
* ``provenance.json``  versions, git revision, machine,
* ``events.out...``    TensorBoard,
* ``checkpoints/``     the last two, ``step-000012000.zip``,
* ``result.json``      how it ended.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from hamiltonian_rl.errors import CheckpointError, RunStorageError, UsageError
from hamiltonian_rl.files import write_text
from hamiltonian_rl.tracking.checkpoint import Tree, read_checkpoint, write_checkpoint

CHECKPOINTS_KEPT = 2
PACKAGES = ("hamiltonian-rl", "gymnasium", "numpy", "torch", "stable-baselines3", "tensorboard", "safetensors")


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path, env_id: str, agent: str, seed: int) -> RunFolder:
        """Make ``root/<env>/<agent>/<seed>-<time>/``, with a number behind it if that is taken.

        Raises:
            RunStorageError: The folder cannot be made.
        """
        parent = root / file_name(env_id) / file_name(agent)
        stamp = f"{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        for attempt in range(1, 1000):
            path = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if path.is_dir():
                    continue
                raise RunStorageError(f"Cannot make the run folder {path}: a file is in the way.") from None
            except OSError as error:
                raise RunStorageError(
                    f"Cannot make the run folder {path}: {error.strerror}. Choose another with --run-dir."
                ) from error
            return cls(path)
        raise RunStorageError(f"Cannot make a run folder below {parent}: a thousand are there already.")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            UsageError: There is no run at ``path``.
        """
        if not (path / "config.toml").is_file():
            raise UsageError(f"{path} is no run: it has no config.toml. Runs look like runs/CartPole-v1/dqn/0-...")
        return cls(path)

    def remove(self, root: Path) -> None:
        """Remove the folder, and the folders between it and ``root`` that are empty then."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self.path.parents:
            if root not in parent.parents or any(parent.iterdir()):
                break
            parent.rmdir()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the resolved configuration."""
        write_text(self.path / "config.toml", tomli_w.dumps(config))

    def read_config(self) -> dict[str, Any]:
        """Read the configuration back."""
        return read_config(self.path / "config.toml")

    def write_provenance(self) -> None:
        """Write down what the run ran on: versions, git revision, machine, command."""
        versions = {}
        for name in PACKAGES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "not installed"
        provenance = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": platform.machine(),
            "versions": versions,
            "git": git_revision(),
            "command": sys.argv[:1] and [Path(sys.argv[0]).name, *sys.argv[1:]],
        }
        write_text(self.path / "provenance.json", json.dumps(provenance, indent=2) + "\n")

    def write_result(self, result: dict[str, Any]) -> None:
        """Write how the run ended."""
        write_text(self.path / "result.json", json.dumps(result, indent=2) + "\n")

    def read_result(self) -> dict[str, Any] | None:
        """Read how the run ended; None while it has not."""
        try:
            result = json.loads((self.path / "result.json").read_text())
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) else None

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.zip"))

    def write_checkpoint(self, step: int, tree: Tree) -> Path:
        """Write a checkpoint, then remove all but the last two, and those that a run which went back has undone."""
        path = self.path / "checkpoints" / f"step-{step:012d}.zip"
        with contextlib.suppress(OSError):  # writing says what is wrong
            path.parent.mkdir()
        write_checkpoint(path, tree)
        kept = [old for old in self.checkpoints() if old.name <= path.name][-CHECKPOINTS_KEPT:]
        for old in self.checkpoints():
            if old not in kept:
                old.unlink(missing_ok=True)
        return path

    def read_latest_checkpoint(self) -> tuple[Path, Tree]:
        """Read the newest checkpoint.

        Raises:
            CheckpointError: There is none, or it is damaged; the message offers the one before.
        """
        paths = self.checkpoints()
        if not paths:
            raise CheckpointError(f"{self.path} has no checkpoint yet. Start the run again: --config {self.path}.")
        try:
            return paths[-1], read_checkpoint(paths[-1])
        except CheckpointError as error:
            for earlier in reversed(paths[:-1]):
                try:
                    read_checkpoint(earlier)
                except CheckpointError:
                    continue
                raise CheckpointError(f"{error} The one before is whole: give {earlier} instead of the run.") from error
            raise CheckpointError(f"{error} No earlier checkpoint of this run is whole.") from error


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's configuration.

    Raises:
        UsageError: There is no such file, or it is not TOML.
    """
    file = path / "config.toml" if path.is_dir() else path
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise UsageError(f"Cannot read the configuration {file}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None


def git_revision() -> dict[str, Any] | None:
    """Return the git revision of the toolkit's source and whether it was changed; None outside git."""
    here = Path(__file__).resolve()
    commands = (
        ["ls-files", "--error-unmatch", here.name],  # fails where the toolkit is only installed inside some repository
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
    )
    try:
        _, revision, status = (
            subprocess.run(
                ["git", "-C", str(here.parent), *rest], capture_output=True, text=True, timeout=10, check=True
            )
            for rest in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision.stdout.strip(), "changed": bool(status.stdout.strip())}


def file_name(text: str) -> str:
    """Return the text as one folder name: an id may hold ":" and "/"."""
    return re.sub(r"[^\w.+-]+", "-", text)
