"""Writing TensorBoard events. The only file that imports torch.utils.tensorboard."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from hamiltonian_rl.errors import RunStorageError

COMPARED = ("eval/mean_reward", "rollout/ep_rew_mean")


class TensorBoardSink:
    """Writes what a `Logger` dumps as TensorBoard events.

    Args:
        folder: Of the event files; made if it is not there.
        resume_step: First step of a resumed run. Events at or after it, from before the interruption, are
            marked as void, so that no step is shown twice.

    Raises:
        RunStorageError: The folder cannot be written.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self.folder = folder
        _silence_writer_threads()
        with self._storage():
            self._writer = SummaryWriter(str(folder), purge_step=resume_step, flush_secs=10)

    def write(self, values: dict[str, Any], step: int) -> None:
        """Write numbers as scalars; SB3's Figure, Image, Video and HParam by what they hold.

        Raises:
            RunStorageError: The disk is full, or the folder is gone.
        """
        with self._storage():
            for tag, value in values.items():
                self._write_one(tag, value, step)

    def _write_one(self, tag: str, value: Any, step: int) -> None:
        if isinstance(value, str):
            self._writer.add_text(tag, value, step)
        elif isinstance(value, bool | int | float | np.number):
            self._writer.add_scalar(tag, float(value), step)
        elif hasattr(value, "hparam_dict"):
            self.write_hparams(value.hparam_dict, value.metric_dict)
        elif hasattr(value, "figure"):
            self._writer.add_figure(tag, value.figure, step, close=value.close)
        elif hasattr(value, "frames"):
            self._writer.add_video(tag, value.frames, step, fps=value.fps)
        elif hasattr(value, "dataformats"):
            self._writer.add_image(tag, value.image, step, dataformats=value.dataformats)
        else:
            self._writer.add_histogram(tag, np.asarray(value), step)

    def write_hparams(self, settings: dict[str, Any], metrics: Iterable[str] = COMPARED) -> None:
        """Write hyper-parameters for TensorBoard's HPARAMS page, into this run and not beside it.

        Args:
            settings: Names and values.
            metrics: Tags that the page shows beside them.

        Raises:
            RunStorageError: The disk is full, or the folder is gone.
        """
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.items()
        }
        with self._storage():
            for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
                self._writer.file_writer.add_summary(summary)

    def write_band_chart(self, category: str, title: str, tags: tuple[str, str, str]) -> None:
        """Add a chart to TensorBoard's CUSTOM SCALARS page: of each run that has the tags, a line and a band around it.

        Args:
            category: Heading that the chart stands under.
            title: Of the chart.
            tags: Of the line, the lower and the upper edge of the band.

        Raises:
            RunStorageError: The disk is full, or the folder is gone.
        """
        with self._storage():
            self._writer.add_custom_scalars({category: {title: ["Margin", list(tags)]}})

    def flush(self) -> None:
        """Write out what is buffered.

        Raises:
            RunStorageError: The disk is full, or the folder is gone.
        """
        with self._storage():
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the file; what cannot be written any more has been reported before."""
        with contextlib.suppress(OSError):
            self._writer.close()

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunStorageError(
                f"Cannot write TensorBoard events to {self.folder}: {error.strerror or error}. "
                "Free space or choose another folder."
            ) from error


def _silence_writer_threads() -> None:
    """Keep TensorBoard's writer thread from printing a traceback: its error is raised again by the next write."""
    previous = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not (isinstance(arguments.exc_value, OSError) and "AsyncWriter" in type(arguments.thread).__name__):
            previous(arguments)

    if getattr(previous, "__name__", "") != "hook":
        threading.excepthook = hook


def next_run_folder(root: Path, name: str) -> Path:
    """Return ``root/name_1``, or with the next free number, as Stable-Baselines3 counts its runs."""
    folders = root.iterdir() if root.is_dir() else ()
    taken = [re.fullmatch(rf"{re.escape(name)}_(\d+)", path.name) for path in folders]
    return root / f"{name}_{max((int(match[1]) for match in taken if match), default=0) + 1}"
