"""A logger with Stable-Baselines3's verbs, so that its callbacks and people's habits work unchanged."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Protocol


class Sink(Protocol):
    """Where records go when they are dumped."""

    def write(self, values: dict[str, Any], step: int) -> None:
        """Take the values recorded since the last dump."""

    def close(self) -> None:
        """Flush and release."""


class Logger:
    """Collects named values between dumps, then hands them to its sinks.

    Example:
        >>> logger = Logger()
        >>> logger.record("train/loss", 0.5)
        >>> logger.record_mean("train/norm", 1.0)
        >>> logger.record_mean("train/norm", 2.0)
        >>> logger.name_to_value["train/norm"]
        1.5
        >>> logger.dump(step=10)
        >>> dict(logger.name_to_value)
        {}
    """

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = list(sinks)
        self.name_to_value: dict[str, Any] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._excluded: set[str] = set()

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Record a value; a later one under the same key replaces it.

        Args:
            key: Tag, for instance "train/loss".
            value: A number, or one of SB3's Figure, Image, Video, HParam.
            exclude: As SB3 has it: "tensorboard" keeps the value out of the sinks.
        """
        self.name_to_value[key] = value
        if exclude is not None and "tensorboard" in exclude:
            self._excluded.add(key)
        else:
            self._excluded.discard(key)

    def record_mean(self, key: str, value: float | None, exclude: Any = None) -> None:
        """Record the running mean of the values given under the key since the last dump."""
        if value is None:
            return
        old, count = self.name_to_value.get(key, 0.0), self._counts[key]
        self._counts[key] += 1
        self.record(key, old * count / (count + 1) + value / (count + 1), exclude)

    def dump(self, step: int = 0) -> None:
        """Hand what was recorded to the sinks and start afresh."""
        values = {key: value for key, value in self.name_to_value.items() if key not in self._excluded}
        self.name_to_value = {}
        self._counts.clear()
        self._excluded.clear()
        if values:
            for sink in self.sinks:
                sink.write(values, step)

    def close(self) -> None:
        """Close every sink."""
        for sink in self.sinks:
            sink.close()
