"""Propositions on pictures, read off their pixels."""

import numpy as np

from hamiltonian_rl.tracking.pictures import COLORS, Panel, phase_picture, pixels, trajectory_picture


def marked(start: float) -> int:
    """Return how many pixels have the color of the markers in a picture of a path from a place to the middle."""
    axis = np.linspace(-1.0, 1.0, 5)
    path = np.array([[start, 0.5], [0.0, 0.0]])
    picture = phase_picture(np.zeros((5, 5)), (axis, axis), {"path": path}, ("x (m)", "v (m/s)"), "a path")
    color = [int(COLORS[5][i : i + 2], 16) for i in (1, 3, 5)]
    return int((pixels(picture) == color).all(-1).sum())


def test_a_marker_on_the_border_is_drawn_whole():
    # Rounding to pixels moves a marker's rim by less than one in thirty; half a marker of four is one in eight.
    assert abs(marked(-1.0) - marked(-0.5)) < 0.03 * marked(-0.5)


def test_the_last_action_is_held_for_a_step_as_the_others_are():
    state, action = np.zeros(4), np.array([0.0, 0.0, 1.0])
    left = [Panel("x (m)", {"path": state}), Panel("force (N)", {"path": action}, held=True)]
    figure = trajectory_picture(left, [Panel("costate", {"path": state})], "three steps")
    (line,) = figure.axes[2].lines
    assert line.get_xdata()[-1] == len(action)
    assert list(line.get_ydata()[-2:]) == [1.0, 1.0]
