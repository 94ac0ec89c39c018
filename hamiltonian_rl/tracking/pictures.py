"""Pictures of results, drawn with matplotlib; the only file that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LEAST_SPAN = 1e-2  # of an axis, in units of what it shows
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # told apart with every color vision
LARGEST_LABELLED = 400  # cells of a map that still have room for a sign


def value_picture(
    value: np.ndarray, shape: tuple[int, int] | None, signs: np.ndarray | None, title: str, what: str = "return"
) -> Figure:
    """Draw values: as a heat map where the states are cells of a map, else sorted along a line.

    Args:
        value: Shape ``(S,)``; NaN where there is nothing to show.
        shape: Rows and columns of the map, or None.
        signs: A sign a state to write into its cell, shape ``(S,)``, or None.
        title: Of the picture.
        what: What the values are.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.set_title(title)
    if shape is None:
        axes.plot(np.sort(value[np.isfinite(value)])[::-1])
        axes.set(xlabel="state, from the best to the worst", ylabel=f"optimal value ({what})")
        return figure
    image = axes.imshow(value.reshape(shape), cmap="cividis")  # readable with every kind of color vision
    figure.colorbar(image, ax=axes, label=f"optimal value ({what})", shrink=0.8)
    axes.set(xlabel="column", ylabel="row")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_facecolor("0.9")  # of cells without a value
    if signs is not None and value.size <= LARGEST_LABELLED:
        middle = 0.5 * (float(np.nanmin(value)) + float(np.nanmax(value)))
        for index, (row, column) in enumerate(np.ndindex(*shape)):
            color = "white" if value[index] <= middle else "black"
            axes.text(column, row, signs[index], ha="center", va="center", color=color)
    return figure


def path_picture(
    path: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    names: tuple[str, ...],
    plane: tuple[int, int],
    title: str,
) -> Figure:
    """Draw a path of states in a plane; along the steps where a state is one number.

    Args:
        path: States so far, shape ``(T, n)``.
        bounds: Lowest and highest state of a picture, each of shape ``(n,)``; widened to hold the path.
        names: Of the coordinates, or empty.
        plane: The two coordinates to show.
        title: Of the picture.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.set_title(title)
    across, up = plane if path.shape[1] > 1 else (None, 0)
    x = np.arange(len(path)) if across is None else path[:, across]
    axes.plot(x, path[:, up], color="tab:blue")
    axes.plot(x[:1], path[:1, up], "o", color="tab:blue", fillstyle="none", label="start")
    axes.plot(x[-1:], path[-1:, up], "o", color="tab:orange", label="now")
    for coordinate, set_limits in ((across, axes.set_xlim), (up, axes.set_ylim)):
        if coordinate is not None:
            seen = np.append(path[:, coordinate], [bound[coordinate] for bound in bounds])
            seen = seen[np.isfinite(seen)]
            margin = 0.02 * float(np.ptp(seen)) or 1.0
            set_limits(seen.min() - margin, seen.max() + margin)
    label = dict(enumerate(names)).get
    axes.set(xlabel="step" if across is None else label(across, f"state {across}"), ylabel=label(up, f"state {up}"))
    axes.legend(loc="upper right")
    return figure


def trajectory_picture(
    rows: dict[str, tuple[np.ndarray, tuple[str, ...]]], title: str, dashed: dict[str, np.ndarray] | None = None
) -> Figure:
    """Draw quantities over the steps, one below the other.

    Args:
        rows: Of each label of an axis, values ``(T, c)`` and the names of its c lines.
        title: Of the picture.
        dashed: Of some labels, other values of the same shape to compare with.
    """
    figure = Figure(figsize=(8.0, 2.2 * len(rows) + 0.6), layout="constrained")
    all_axes: Any = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    all_axes[0].set_title(title)
    for axes, (label, (values, names)) in zip(all_axes, rows.items(), strict=True):
        for line, name in enumerate(names):
            style = {"color": COLORS[line % len(COLORS)]}
            axes.plot(values[:, line], label=name, **style)
            if dashed and label in dashed:
                axes.plot(dashed[label][:, line], "--", label=f"{name}, grid", **style)
        low, high = axes.get_ylim()
        if high - low < LEAST_SPAN * (1.0 + abs(high)):  # rounding is no curve
            axes.set_ylim(low - LEAST_SPAN * (1.0 + abs(low)), high + LEAST_SPAN * (1.0 + abs(high)))
        axes.set_ylabel(label)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize="small")  # beside the curves, not on them
    all_axes[-1].set_xlabel("step k")
    return figure


def phase_picture(
    value: np.ndarray,
    axes_values: tuple[np.ndarray, np.ndarray],
    path: np.ndarray,
    names: tuple[str, ...],
    title: str,
    route: str,
) -> Figure:
    """Draw a path of two coordinates over the heat map of V on a grid.

    Args:
        value: ``V`` on the grid, shape ``(P, Q)``.
        axes_values: Coordinates of the grid points, shapes ``(P,)`` and ``(Q,)``.
        path: States, shape ``(T, 2)``; NaN breaks the line.
        names: Of the two coordinates.
        title: Of the picture.
        route: What the path is.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    image = axes.pcolormesh(*axes_values, value.T, cmap="cividis", shading="nearest")
    figure.colorbar(image, ax=axes, label="V by the grid (return)")
    axes.plot(path[:, 0], path[:, 1], ".-", color="white", markersize=3, linewidth=1, label=route)
    axes.plot(path[:1, 0], path[:1, 1], "o", color="tab:orange", label="start")
    axes.set(xlabel=names[0], ylabel=names[1], title=title)
    axes.legend(loc="upper right", facecolor="0.3", labelcolor="white")
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an array ``(height, width, 3)`` of bytes."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
