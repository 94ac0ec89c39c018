"""Pictures of results, drawn with matplotlib; the only file that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

LARGEST_LABELLED = 400  # cells of a map that still have room for a sign


def value_picture(
    value: np.ndarray, shape: tuple[int, int] | None, signs: np.ndarray | None, title: str, what: str = "return"
) -> Figure:
    """Draw values: as a heat map where the states are cells of a map, else sorted along a line.

    Args:
        value: Shape ``(S,)``.
        shape: Rows and columns of the map, or None.
        signs: A sign a state to write into its cell, shape ``(S,)``, or None.
        title: Of the picture.
        what: What the values are.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.set_title(title)
    if shape is None:
        axes.plot(np.sort(value)[::-1])
        axes.set(xlabel="state, from the best to the worst", ylabel=f"optimal value ({what})")
        return figure
    image = axes.imshow(value.reshape(shape), cmap="cividis")  # readable with every kind of color vision
    figure.colorbar(image, ax=axes, label=f"optimal value ({what})", shrink=0.8)
    axes.set(xlabel="column", ylabel="row")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    if signs is not None and value.size <= LARGEST_LABELLED:
        middle = 0.5 * (float(value.min()) + float(value.max()))
        for index, (row, column) in enumerate(np.ndindex(*shape)):
            color = "black" if value[index] > middle else "white"
            axes.text(column, row, signs[index], ha="center", va="center", color=color)
    return figure
