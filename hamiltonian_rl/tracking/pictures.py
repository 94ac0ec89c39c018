"""Pictures of results, drawn with matplotlib."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from hamiltonian_rl.files import atomic_write
from hamiltonian_rl.principles.information import InformationCurve

LEAST_SPAN, NOTHING = 1e-2, 1e-6  # of an axis: relative to what it shows, and absolute; below it is rounding
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # told apart with every color vision
DASHES = ("-", "--", "-.", ":")  # and without any
LARGEST_LABELLED = 400  # cells of a map that still have room for a sign


def plain(name: str) -> str:
    """Return a name of a user's as matplotlib shows it as it is: a dollar would begin a formula, ``_`` hide a label."""
    return f"{' ' if name.startswith('_') else ''}{name}".replace("$", r"\$")


def save_picture(picture: Figure, path: Path) -> None:
    """Write a picture whole or not at all.

    Raises:
        RunStorageError: It cannot be written.
    """
    with atomic_write(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box stands for it
        picture.savefig(file, format="png", dpi=120)


def value_picture(
    value: np.ndarray,
    shape: tuple[int, int] | None,
    signs: np.ndarray | None,
    title: str,
    label: str = "optimal value (return)",
) -> Figure:
    """Draw values: as a heat map where the states are cells of a map, else sorted along a line.

    Args:
        value: Shape ``(S,)``; NaN where there is nothing to show.
        shape: Rows and columns of the map, or None.
        signs: A sign a state to write into its cell, shape ``(S,)``, or None.
        title: Of the picture.
        label: Of the values.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.set_title(title)
    if shape is None:
        axes.plot(np.sort(value[np.isfinite(value)])[::-1])
        axes.set(xlabel="state, from the best to the worst", ylabel=label)
        return figure
    image = axes.imshow(value.reshape(shape), cmap="cividis")  # readable with every kind of color vision
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
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


@dataclass(frozen=True)
class Panel:
    """One quantity over the steps, along one or several paths.

    Attributes:
        label: Of the axis: the quantity and its unit.
        lines: Values of each path, by what the path is called, shape ``(T,)``.
        held: Whether a value holds until the next step, as actions do.
    """

    label: str
    lines: dict[str, np.ndarray]
    held: bool = False


def trajectory_picture(left: list[Panel], right: list[Panel], title: str) -> Figure:
    """Draw quantities over the steps in two columns; the same path has the same color and dashes everywhere.

    Args:
        left: Panels of the left column, from above; more of them than of the right one, whose end holds the legend.
        right: Panels of the right column.
        title: Of the picture.
    """
    figure = Figure(figsize=(10.0, 1.7 * len(left) + 0.8), layout="constrained")
    figure.suptitle(title)
    all_axes: Any = figure.subplots(len(left), 2, sharex=True, squeeze=False)
    names = list(dict.fromkeys(name for panel in left + right for name in panel.lines))
    styles = {
        name: {"color": COLORS[i % len(COLORS)], "ls": DASHES[i % len(DASHES)], "lw": 1.2 if i else 2.4}
        for i, name in enumerate(names)  # the first line is wide, and so seen below others
    }
    drawn: dict[str, Any] = {}
    for column, panels in zip(all_axes.T, (left, right), strict=True):
        for axes, panel in zip(column, panels, strict=False):
            for name, values in panel.lines.items():
                shown = np.append(values, values[-1:]) if panel.held else values  # the last one is held for a step too
                drawstyle = "steps-post" if panel.held else "default"
                (drawn[name],) = axes.plot(shown, drawstyle=drawstyle, **styles[name])
            low, high = axes.get_ylim()
            least = NOTHING + LEAST_SPAN * max(abs(low), abs(high))
            if high - low < least:
                axes.set_ylim(low - least, high + least)
            axes.set_ylabel(panel.label, fontsize="small")
        column[len(panels) - 1].set_xlabel("step k")
        column[len(panels) - 1].tick_params(labelbottom=True)
        for axes in column[len(panels) :]:
            axes.axis("off")
    all_axes[len(right), 1].legend(list(drawn.values()), list(drawn), loc="lower center")
    return figure


def phase_picture(
    value: np.ndarray,
    axes_values: tuple[np.ndarray, np.ndarray],
    paths: dict[str, np.ndarray],
    names: tuple[str, ...],
    title: str,
) -> Figure:
    """Draw paths of two coordinates over the heat map of V on a grid.

    Args:
        value: ``V`` on the grid, shape ``(P, Q)``.
        axes_values: Coordinates of the grid points, shapes ``(P,)`` and ``(Q,)``.
        paths: States by what the path is called, shape ``(T, 2)``; NaN breaks the line.
        names: Of the two coordinates.
        title: Of the picture.
    """
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes: Any = figure.add_subplot()
    image = axes.pcolormesh(*axes_values, value.T, cmap="cividis", shading="nearest")
    figure.colorbar(image, ax=axes, label="V by the grid (return)")
    edge = [withStroke(linewidth=3.0, foreground="black")]  # seen on dark and on bright
    for index, (name, path) in enumerate(paths.items()):
        style = {"color": ("white", *COLORS[1:])[index % len(COLORS)], "ls": DASHES[index % len(DASHES)]}
        axes.plot(*path.T, label=name, linewidth=1.5, path_effects=edge, **style)
    name, first = next(iter(paths.items()))
    for what, place, marker in (("start", first[:1], "o"), ("end", first[-1:], "s")):
        (drawn,) = axes.plot(*place.T, marker, label=f"{what} of the {name}", color=COLORS[5], markeredgecolor="black")
        drawn.set(clip_on=False, zorder=3)  # whole at the border
    limits = {f"{side}lim": axis[[0, -1]] for side, axis in zip("xy", axes_values, strict=True)}
    axes.set(xlabel=names[0], ylabel=names[1], title=title, **limits)
    figure.legend(loc="outside lower center", ncols=2, facecolor="0.6")
    return figure


def regret_picture(
    returns: np.ndarray,
    optimum: np.ndarray,
    error: np.ndarray,
    plane: tuple[np.ndarray, tuple[str, str]] | None,
    title: str,
) -> Figure:
    """Draw returns against the optimum from the same start states, and the regret over the plane of these states.

    Args:
        returns: Shape ``(n,)``.
        optimum: Shape ``(n,)``.
        error: How far above it the true one may be, shape ``(n,)``; NaN where nothing is known.
        plane: Start states ``(n, 2)`` and the names of their coordinates; None where they have another number.
        title: Of the picture.
    """
    figure = Figure(figsize=(11.0 if plane else 6.4, 4.8), layout="constrained")
    figure.suptitle(title)
    left, *right = figure.subplots(1, 2 if plane else 1, squeeze=False)[0]
    known = np.isfinite(error) & (error > NOTHING)
    if known.any():
        ranges = np.stack([np.zeros(known.sum()), error[known]])
        left.errorbar(
            optimum[known], returns[known], xerr=ranges, fmt="none", color="0.8", label="up to here, by an estimate"
        )
    low, high = float(optimum.min()), float((optimum + np.where(known, error, 0.0)).max())
    least = NOTHING + LEAST_SPAN * max(abs(low), abs(high))
    ends = (low, high) if high - low > least else (low - least, high + least)
    left.plot(ends, ends, color=COLORS[1], label="optimal")
    left.plot(optimum, returns, "o", color=COLORS[0], markersize=4, label="an episode")
    left.set(xlabel="optimum from the start state (return)", ylabel="return of the agent")
    left.legend(loc="upper left")
    if plane:
        states, names = plane
        image = right[0].scatter(*states.T, c=optimum - returns, cmap="cividis", edgecolors="0.3", linewidths=0.5)
        figure.colorbar(image, ax=right[0], label="regret (return)")
        right[0].set(xlabel=names[0], ylabel=names[1])
    return figure


def plane_picture(
    axes_values: tuple[np.ndarray, ...],
    value: np.ndarray,
    action: np.ndarray,
    costate: np.ndarray,
    names: tuple[str, ...],
    title: str,
) -> Figure:
    """Draw a value over a plane with arrows along its slope, and beside it the greedy action.

    Args:
        axes_values: Coordinates of the grid points, shapes ``(P,)`` and ``(Q,)``.
        value: ``V``, shape ``(P, Q)``.
        action: Shape ``(P, Q)``.
        costate: ``∇V``, shape ``(P, Q, 2)``.
        names: Of the two coordinates.
        title: Of the picture.
    """
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    for axes, shown, label in ((left, value, "value"), (right, action, "greedy action")):
        image = axes.pcolormesh(*axes_values, shown.T, cmap="cividis", shading="nearest")
        figure.colorbar(image, ax=axes, label=label)
        axes.set(xlabel=names[0], ylabel=names[1])
    # Along the picture's axes, whose units differ: how V changes across the whole of either.
    arrows = costate * [float(np.ptp(axis)) for axis in axes_values]
    length = np.linalg.norm(arrows, axis=-1, keepdims=True)
    arrows = np.divide(arrows, length, out=np.zeros_like(arrows), where=length > 0)
    few = slice(2, None, 4)
    places = np.meshgrid(axes_values[0][few], axes_values[1][few], indexing="ij")
    left.quiver(*places, arrows[few, few, 0], arrows[few, few, 1], color="white", edgecolor="black", linewidth=0.4)
    left.set_title("arrows: the costate's direction", fontsize="small")
    return figure


@dataclass(frozen=True)
class LearningCurve:
    """How an agent's return grows with what it has seen and computed; every array has the shape ``(P,)``.

    Attributes:
        steps: Environment steps.
        seconds: CPU seconds of training until then.
        mean: Return.
        lower: Edge of a band around it; NaN where there is none.
        upper: The other edge.
        samples: Whether its steps are samples of the environment; those of an agent that asks a model are not.
    """

    steps: np.ndarray
    seconds: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    samples: bool = True


def learning_picture(curves: dict[str, LearningCurve], levels: dict[str, float], title: str) -> Figure:
    """Draw agents' returns against steps and against seconds, these on a logarithmic axis, for agents differ so much.

    Where an agent takes no samples, its last return stands as a level over all steps.

    Args:
        curves: By agent.
        levels: Returns to compare with, by what they are called.
        title: Of the picture.
    """
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, curve) in enumerate(curves.items()):
        style: Any = {"color": COLORS[index % len(COLORS)], "ls": DASHES[index % len(DASHES)]}
        marker = "o" if len(curve.steps) == 1 else None
        for axes, places in ((left, curve.steps), (right, curve.seconds)):
            if axes is left and not curve.samples:
                axes.axhline(curve.mean[-1], label=f"{name} (model)", lw=2.0, zorder=3, **style)
                continue
            axes.plot(places, curve.mean, label=name, marker=marker, lw=2.0, zorder=3, **style)
            axes.fill_between(places, curve.lower, curve.upper, color=style["color"], alpha=0.2, linewidth=0)
    for index, (name, level) in enumerate(levels.items()):
        for axes in (left, right):
            axes.axhline(level, color="0.3", lw=1.0, ls=DASHES[-1 - index % len(DASHES)], label=name)
    left.set(xlabel="environment steps", ylabel="mean greedy return")
    right.set(xlabel="CPU seconds of training", xscale="log" if curves else "linear")
    if curves:
        right.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        right.xaxis.set_major_formatter("{x:g}")
        right.xaxis.set_minor_formatter("")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def error_picture(
    sizes: np.ndarray, panels: dict[str, dict[str, np.ndarray]], size_label: str, error_label: str
) -> Figure:
    """Draw errors against the size of what was learnt from, on logarithmic axes: medians, and bands of all seeds.

    Args:
        sizes: Shape ``(K,)``.
        panels: Of each panel's name the curves by their names, each ``(seeds, K)``.
        size_label: Of the sizes.
        error_label: Of the errors.
    """
    figure = Figure(figsize=(3.0 * len(panels), 3.2), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for index, (name, errors) in enumerate(curves.items()):
            color, dashes = COLORS[index % len(COLORS)], DASHES[index % len(DASHES)]
            axes.loglog(sizes, np.median(errors, axis=0), color=color, linestyle=dashes, label=name)
            axes.fill_between(sizes, errors.min(axis=0), errors.max(axis=0), color=color, alpha=0.2)
        axes.set(title=title, xlabel=size_label)
    figure.axes[0].set_ylabel(error_label)
    figure.axes[0].legend()
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an array ``(height, width, 3)`` of bytes."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def design_picture(
    values: dict[str, np.ndarray], indices: np.ndarray, worth: dict[str, float], bound: float, criterion: str
) -> Figure:
    """Draw candidates and the chosen ones among them in the plane of two columns, and what choices are worth.

    Args:
        values: Columns of the candidates, each of shape ``(N,)``; the first two are drawn, a single one along its rows.
        indices: Of the chosen ones; where one stands several times, its circle is larger.
        worth: The criterion, by who chose; what is infinite is left out.
        bound: None of them is below it.
        criterion: Its letter.
    """
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    names, columns = [plain(name) for name in values], list(values.values())
    across, up = (columns[0], columns[1]) if len(columns) > 1 else (np.arange(len(columns[0])), columns[0])
    shown = np.random.default_rng(0).permutation(len(up))[:5000]  # more are a blot
    left.scatter(across[shown], up[shown], s=6, color="0.7", label=f"candidates ({len(up):,})")
    chosen, counts = np.unique(indices, return_counts=True)
    left.scatter(
        across[chosen], up[chosen], s=40 * counts, color=COLORS[0], alpha=0.7, label=f"chosen ({len(indices)})"
    )
    left.set(xlabel=names[0] if len(names) > 1 else "candidate", ylabel=names[min(1, len(names) - 1)])
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    finite = {name: value for name, value in worth.items() if np.isfinite(value)}
    right.bar(list(finite), list(finite.values()), color=COLORS[1], width=0.6)
    if bound > 0.0:
        right.axhline(bound, color="black", linestyle="--", label="no choice is below")
        right.legend(loc="best")
    right.set(ylabel=f"criterion {criterion} (less is better)", ylim=(0.0, None))
    return figure


def information_picture(
    paired: InformationCurve, naive: InformationCurve, exact: np.ndarray | None, title: str
) -> Figure:
    """Draw Figure 1: the velocity ``E[v]`` against the context, and beside it its change a symbol, with error bars.

    Args:
        paired: From the same targets with each context.
        naive: From other targets for each context.
        exact: The exact velocity at each context, or None.
        title: Of the picture.
    """
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    places = paired.contexts + 1.0
    between = np.sqrt(places[1:] * places[:-1])
    bars: Any = {"capsize": 3, "elinewidth": 1.0}
    for curve, shift, style in (
        (naive, 1.04, {"color": COLORS[1], "fmt": "s:", "ms": 4, "label": "naive: other targets for each context"}),
        (paired, 1.0, {"color": COLORS[0], "fmt": "o-", "ms": 5, "label": "paired: the same targets, context cut"}),
    ):
        left.errorbar(places * shift, curve.velocity, curve.velocity_error, **bars, **style)
        right.errorbar(between * shift, curve.slope, curve.slope_error, **bars, **style)
    if exact is not None:
        style = {"color": "black", "lw": 1.0, "ls": "--", "zorder": 3, "label": "exact"}
        left.plot(places, exact, **style)
        right.plot(between, np.diff(exact) / np.diff(places), **style)
    left.set_ylabel("velocity E[v] (nats a symbol)")
    right.set_ylabel("acceleration, E[v]'s change a symbol (nats)")
    right.axhline(0.0, color="0.6", lw=0.8)
    linear = max(2.0 * float(paired.slope_error.min()), NOTHING)
    right.set_yscale("symlog", linthresh=linear)
    right.set_yticks([y for y in right.get_yticks() if y == 0.0 or abs(y) > linear])  # those about zero would overlap
    for axes in (left, right):
        axes.set(xscale="log", xlabel="context c (symbols; drawn at c + 1)")
        axes.set_xticks(places, [f"{context:,}" for context in paired.contexts])
        axes.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
