"""Says why nothing happens for a while where numba compiles: once on a machine, for it keeps what it compiled."""

from __future__ import annotations

import logging
from typing import Any

from numba.core import event

_log = logging.getLogger(__name__)


class _Announcement(event.Listener):
    def __init__(self, function: Any, sentence: str) -> None:
        self._function, self._sentence = function, sentence

    def on_start(self, event: Any) -> None:
        """Say so when the function begins to be compiled."""
        if event.data["dispatcher"] is self._function:
            _log.warning(self._sentence)

    def on_end(self, event: Any) -> None:
        """Say nothing."""


def announce_compiling(function: Any, what: str, seconds: int) -> None:
    """Have a sentence said whenever a function begins to be compiled.

    Args:
        function: That numba compiles, the one that takes longest.
        what: It belongs to.
        seconds: That all of this takes, about.

    Example:
        >>> import numba
        >>> @numba.njit
        ... def twice(x):
        ...     return 2 * x
        >>> announce_compiling(twice, "the doubling", 1)
        >>> twice(21)  # says on stderr: Compiling the doubling, once on this machine: about 1 second.
        42
    """
    unit = "second" if seconds == 1 else "seconds"
    sentence = f"Compiling {what}, once on this machine: about {seconds} {unit}."
    event.register("numba:compile", _Announcement(function, sentence))  # type: ignore[no-untyped-call]
