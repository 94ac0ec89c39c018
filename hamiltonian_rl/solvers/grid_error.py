"""How rough a grid's value is: what it may be off by where V jumps or bends within a cell.

Two resolutions compared tell the error where V is smooth (`GridSolution.error_estimate`). At a ridge they say little:
both may place it alike and wrongly. There V may be off by as much as it varies within the cells around.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from hamiltonian_rl.problems.grid import Grid

AROUND = 2  # cells to each side: one of the grid of half the resolution
BENDS = 4.0  # at a jump one bend is all that V varies by, at a ridge a fraction of it


def roughness(grid: Grid, value: np.ndarray) -> np.ndarray:
    """Return ``min(max V - min V, 4 max |δ²V|)`` within two cells of each point, shape ``(S,)``.

    ``δ²V`` are second differences, summed over the coordinates. Of second order where V is smooth, as high as a jump
    where V jumps.

    Args:
        grid: The grid.
        value: V on its points, shape ``(S,)``.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> grid = Grid(problem("CartPole-v1"), (9, 2, 2, 2))
        >>> position = grid.states[:, 0]
        >>> float(roughness(grid, np.where(position > 0.0, 3.0, 0.0)).max())  # a jump
        3.0
        >>> bool(roughness(grid, 2.0 * position).max() < 1e-12)  # a slope
        True
    """
    table = value.reshape(grid.shape)
    modes = ["wrap" if wraps else "nearest" for wraps in grid.periodic]
    bends = np.zeros_like(table)
    for axis, wraps in enumerate(grid.periodic):
        width = [(1, 1) if other == axis else (0, 0) for other in range(table.ndim)]
        # A line goes on straight beyond its ends: it does not bend there.
        longer = np.pad(table, width, "wrap") if wraps else np.pad(table, width, "reflect", reflect_type="odd")
        bends += np.abs(np.diff(longer, 2, axis=axis))
    size = 2 * AROUND + 1
    varies = maximum_filter(table, size, mode=modes) - minimum_filter(table, size, mode=modes)
    found: np.ndarray = np.minimum(varies, BENDS * maximum_filter(bends, size, mode=modes)).ravel()
    return found
