"""When an error is below a threshold, and stays there: worked out by hand."""

from __future__ import annotations

import pytest

from hamiltonian_rl.principles.kinematics.learning_time import times_to_threshold

GOOD, BAD = 475.0, 474.9  # at the threshold counts


def times(*rewards: float, threshold: float | None = 475.0) -> tuple[object, ...]:
    """Return steps and seconds to the threshold, then to solved for good, of evaluations each 1,000 steps and 2 s."""
    rows = [{"step": 1000 * (i + 1), "seconds": 2.0 * (i + 1), "mean_reward": r} for i, r in enumerate(rewards)]
    found = times_to_threshold(rows, threshold)
    return tuple(
        found[f"{unit}_to_{name}"] for name in ("threshold", "solved_for_good") for unit in ("steps", "seconds")
    )


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([GOOD] * 5, (1000, 2.0, 1000, 2.0)),
        ([GOOD] * 4, (1000, 2.0, None, None)),  # too few to tell
        ([BAD] + [GOOD] * 5, (2000, 4.0, 2000, 4.0)),
        ([GOOD] * 4 + [BAD] + [GOOD] * 6, (1000, 2.0, 6000, 12.0)),
        ([GOOD] * 5 + [BAD] + [GOOD] * 5, (1000, 2.0, 7000, 14.0)),  # five in a row, and lost again
        ([GOOD] * 9 + [BAD], (1000, 2.0, None, None)),  # lost at the very end
        ([GOOD] * 9 + [BAD] + [GOOD] * 4, (1000, 2.0, None, None)),
        ([BAD] * 9, (None, None, None, None)),
        ([], (None, None, None, None)),
    ],
)
def test_solved_for_good_is_where_five_or_more_evaluations_to_the_end_are_good(rewards, expected):
    assert times(*rewards) == expected


def test_without_a_threshold_there_is_no_time_to_it():
    assert times(*[GOOD] * 9, threshold=None) == (None,) * 4


def test_a_return_that_is_no_number_is_not_good():
    assert times(*[GOOD] * 5, float("nan")) == (1000, 2.0, None, None)
