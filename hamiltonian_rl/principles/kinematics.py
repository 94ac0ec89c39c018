"""Kinematics of learning (section 2 and Eq. 5): how fast an error falls, and when it is below a threshold.

Notation: ``T_sample`` is the number of samples until the error first reaches the threshold (for an agent:
until its return does), ``T_compute`` the computing time until then. A run that never gets there is
*censored* at its length: its time is unknown, and not its length.
"""

from __future__ import annotations

from typing import Any

SOLVED_STREAK = 5


def times_to_threshold(evaluations: list[dict[str, float]], threshold: float | None) -> dict[str, Any]:
    """Return steps and CPU seconds to the threshold, and to having solved it for good (five in a row).

    None stands for "never": the run is censored at its length.

    Example:
        >>> runs = [{"step": 1000, "seconds": 1.0, "mean_reward": 480.0}]
        >>> times_to_threshold(runs, 475.0)["steps_to_threshold"]
        1000
    """
    result: dict[str, Any] = dict.fromkeys(
        ("steps_to_threshold", "seconds_to_threshold", "steps_to_solved_for_good", "seconds_to_solved_for_good")
    )
    if threshold is None:
        return result
    passed = [evaluation["mean_reward"] >= threshold for evaluation in evaluations]
    for index in range(len(passed)):
        streak = passed[index : index + SOLVED_STREAK]
        for name, holds in (("threshold", passed[index]), ("solved_for_good", streak == [True] * SOLVED_STREAK)):
            if holds and result[f"steps_to_{name}"] is None:
                result[f"steps_to_{name}"] = int(evaluations[index]["step"])
                result[f"seconds_to_{name}"] = evaluations[index]["seconds"]
    return result
