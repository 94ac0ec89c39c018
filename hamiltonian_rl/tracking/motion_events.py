"""Velocity and acceleration as scalars for TensorBoard, in a folder of their own beside the run."""

from __future__ import annotations

from pathlib import Path

from hamiltonian_rl.errors import RunStorageError
from hamiltonian_rl.principles.kinematics.motion import Motion
from hamiltonian_rl.tracking.run_logs import SUFFIX
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink

MARK = ".written-by-hrl-kinematics"


def write_motion(path: Path, tag: str, motion: Motion) -> Path:
    """Write a run's motion to ``<run>-kinematics`` beside it, in place of what an earlier call wrote there.

    The tags are ``value/<tag>`` (smooth), ``velocity/<tag>`` and ``acceleration/<tag>``. Nothing of the run is touched.

    Args:
        path: Of the run's folder or file.
        tag: That the motion is of.
        motion: To write.

    Returns:
        The folder.

    Raises:
        RunStorageError: It cannot be written, or it is there and holds something else.
    """
    run = path.resolve()
    folder = run.with_name(f"{run.name}{SUFFIX}")
    if folder.exists() and not (folder / MARK).is_file():
        raise RunStorageError(f"{folder} is there and was not written by hrl kinematics. Move it away, or rename it.")
    try:
        folder.mkdir(exist_ok=True)
        (folder / MARK).touch()
        for old in folder.glob("*tfevents*"):
            old.unlink()
    except OSError as error:
        raise RunStorageError(f"Cannot write to {folder}: {error.strerror}.") from error
    sink = TensorBoardSink(folder)
    columns = motion.places, motion.value, motion.velocity, motion.acceleration
    for place, value, velocity, acceleration in zip(*columns, strict=True):
        values = {"value": value, "velocity": velocity, "acceleration": acceleration}
        sink.write({f"{name}/{tag}": number for name, number in values.items()}, round(place))
    sink.close()
    return folder
