"""A picture of learning curves in motion: value, velocity and acceleration, one above the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hamiltonian_rl.principles.kinematics.infimum import Limit
from hamiltonian_rl.principles.kinematics.motion import Motion
from hamiltonian_rl.principles.kinematics.noise import grouped
from hamiltonian_rl.tracking.pictures import COLORS, DASHES, plain

MOST_NAMED, MOST_DRAWN = 12, 5000
Drawn = tuple[np.ndarray, np.ndarray, Motion | None, Limit | None]


def kinematics_picture(runs: dict[str, Drawn], tag: str, threshold: float | None) -> Figure:
    """Draw runs: what was measured and the smooth curve, its velocity, its acceleration, with 95 % bands.

    Args:
        runs: By name: steps, values, the motion and the limit where there are any.
        tag: What was measured.
        threshold: Drawn as a level; None for none.
    """
    figure = Figure(figsize=(8.0, 8.4), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    for index, (name, (steps, values, motion, limit)) in enumerate(runs.items()):
        style: Any = {"color": COLORS[index % len(COLORS)], "ls": DASHES[index // len(COLORS) % len(DASHES)]}
        measured = grouped(steps, values, MOST_DRAWN)
        top.plot(*measured, ".", color=style["color"], ms=3, alpha=0.5)
        top.plot([], [], label=plain(name) if index < MOST_NAMED else None, **style)
        if motion is None:
            continue
        for axes, part in ((top, "value"), (middle, "velocity"), (bottom, "acceleration")):
            line, error = getattr(motion, part), getattr(motion, f"{part}_error")
            axes.plot(motion.places, line, lw=1.6, **style)
            axes.fill_between(
                motion.places, line - 1.96 * error, line + 1.96 * error, color=style["color"], alpha=0.15, lw=0
            )
        if limit is not None and np.isfinite([limit.value, limit.lower, limit.upper]).all():
            top.plot(limit.window, [limit.value] * 2, color=style["color"], ls=":", lw=1.2)
    shown = [values for _, values, _, _ in runs.values()]
    shown += [motion.value for _, _, motion, _ in runs.values() if motion is not None]
    finite = np.concatenate(shown)
    _focus(top, np.append(finite[np.isfinite(finite)], [] if threshold is None else threshold))
    if threshold is not None:
        top.axhline(threshold, color="0.3", lw=1.0, ls="--", label=f"threshold {threshold:g}")
    for axes, part in ((middle, "velocity"), (bottom, "acceleration")):
        axes.axhline(0.0, color="0.3", lw=0.8)
        lines = [getattr(motion, part) for _, _, motion, _ in runs.values() if motion is not None]
        _focus(axes, np.concatenate([np.zeros(1), *lines]))
    top.set(ylabel=plain(tag), title="points: measured; lines: smooth, bands of 95 %; dotted: fitted limit")
    top.title.set_fontsize("small")
    middle.set(ylabel="velocity (per step)")
    bottom.set(ylabel="acceleration (per step²)", xlabel="step")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _focus(axes: Any, lines: np.ndarray) -> None:
    """Show the lines whole; of the bands, which are wide at the ends, what fits beside them."""
    if not len(lines):
        return
    margin = 0.15 * float(np.ptp(lines)) or 1.0
    axes.set_ylim(float(lines.min()) - margin, float(lines.max()) + margin)
