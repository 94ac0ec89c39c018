"""Learning time (Eq. 5): when an error is below a threshold, and when it stays there.

Notation: ``T_sample`` is the number of samples until the error first reaches the threshold (for an agent:
until its return does), ``T_compute`` the computing time until then. A run that never gets there is
*censored* at its length: its time is unknown, and not its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LASTING = 5  # evaluations that "for good" takes at least


def first_passed(passed: Sequence[bool] | np.ndarray) -> int | None:
    """Return the first place that holds; None where there is none.

    Example:
        >>> first_passed([False, True, False]), first_passed([False])
        (1, None)
    """
    array = np.asarray(passed, bool)
    return int(array.argmax()) if array.any() else None


def first_for_good(passed: Sequence[bool] | np.ndarray, lasting: int = LASTING) -> int | None:
    """Return the first place from which all hold, ``lasting`` of them at least; None where there is none.

    Example:
        >>> first_for_good([True, False, True, True], lasting=2), first_for_good([True, False, True, True], lasting=3)
        (2, None)
    """
    failed = np.flatnonzero(~np.asarray(passed, bool))
    first = int(failed[-1]) + 1 if len(failed) else 0
    return first if len(passed) - first >= max(lasting, 1) else None


def times_to_threshold(evaluations: list[dict[str, float]], threshold: float | None) -> dict[str, Any]:
    """Return steps and CPU seconds to the threshold, and to having solved it for good.

    The first is ``T_sample`` and ``T_compute`` of the first evaluation at or above the threshold. Solved for good is
    the first evaluation from which all to the end of the run are at or above it, five of them at least. None stands
    for "never": the run is censored at its length.

    Args:
        evaluations: With ``step``, ``seconds`` (of training) and ``mean_reward``, in order.
        threshold: Return; None for none.

    Example:
        >>> rewards = [480.0, 20.0, 480.0, 490.0, 500.0, 500.0, 475.0]
        >>> run = [{"step": 1000 * (i + 1), "seconds": i + 1.0, "mean_reward": r} for i, r in enumerate(rewards)]
        >>> times = times_to_threshold(run, 475.0)
        >>> times["steps_to_threshold"], times["steps_to_solved_for_good"]
        (1000, 3000)
        >>> times_to_threshold(run[:-1], 475.0)["steps_to_solved_for_good"] is None
        True
    """
    passed = [] if threshold is None else [evaluation["mean_reward"] >= threshold for evaluation in evaluations]
    firsts = {"threshold": first_passed(passed), "solved_for_good": first_for_good(passed)}
    times: dict[str, Any] = {}
    for name, first in firsts.items():
        times[f"steps_to_{name}"] = None if first is None else int(evaluations[first]["step"])
        times[f"seconds_to_{name}"] = None if first is None else evaluations[first]["seconds"]
    return times
