"""What `hrl kinematics --text` says of a measurement: a table, sentences on Insight 1, a CSV file, a picture."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from hamiltonian_rl.files import write_text
from hamiltonian_rl.language.measurement import Measurement
from hamiltonian_rl.principles.information import LEVEL, Claim
from hamiltonian_rl.tracking.pictures import information_picture, plain, save_picture


def table_rows(found: Measurement) -> list[dict[str, str]]:
    """Return the rows of the printed table; a change is that since the row above."""
    curve, ratios = found.paired, found.noise_ratios()
    rows = []
    for index, context in enumerate(curve.contexts.tolist()):
        row = {"c": f"{context}", "nats\na symbol": f"{curve.velocity[index]:.4f}±{curve.velocity_error[index]:.4f}"}
        if found.bytes_a_symbol is not None:
            row["bits\na byte"] = f"{curve.velocity[index] / math.log(2.0) / found.bytes_a_symbol:.3f}"
        if found.exact is not None:
            row["exact"] = f"{found.exact[index]:.4f}"
        since = dict.fromkeys(("change", "change\na symbol", "change\nby ln t", "naive\ns.e."), "")
        if index:
            since = {
                "change": f"{curve.change[index - 1]:+.4f}±{curve.change_error[index - 1]:.4f}",
                "change\na symbol": f"{curve.slope[index - 1]:+.1e}",
                "change\nby ln t": f"{curve.log_slope[index - 1]:+.4f}",
                "naive\ns.e.": f"{ratios[index - 1]:.1f}x" if np.isfinite(ratios[index - 1]) else "",
            }
        rows.append(row | since)
    return rows


def sentences(found: Measurement) -> list[str]:
    """Return what the measurement says of Insight 1 and of the naive curve."""
    curve = found.paired
    lowest = int(curve.velocity.argmin())
    low, high = (edge[lowest] for edge in curve.interval())
    said = [
        "Insight 1, bounded below: the velocity cannot be negative. The lowest that was measured is "
        f"{curve.velocity[lowest]:.4f} nats a symbol ({LEVEL:.0%} interval {low:.4f} to {high:.4f}), at a context of "
        f"{curve.contexts[lowest]:,}.",
        f"It falls with every step: {_said(curve.falls(), 'steps', 'falls', 'rises')}",
        f"It falls less quickly with every step: {_said(curve.decelerates(), 'turns', 'slows down', 'speeds up')}",
    ]
    ratios = found.noise_ratios()
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios):
        said.append(
            f"The naive curve, from the same {found.n_targets:,} windows, is noisier: its changes have "
            f"{np.median(ratios):.1f} times the standard error (median; {ratios.min():.1f} to {ratios.max():.1f})."
        )
    if found.exact is not None:
        worst = float(np.abs(found.deviations()).max())
        said.append(f"From the exact curve it is {worst:.1f} standard errors away, at the worst of the contexts.")
    return said


def keep(found: Measurement, table: Path, picture: Path, title: str) -> None:
    """Write the numbers and the picture.

    Raises:
        RunStorageError: They cannot be written.
    """
    write_text(table, csv_text(found))
    save_picture(information_picture(found.paired, found.naive, found.exact, plain(title)), picture)


def csv_text(found: Measurement) -> str:
    """Return all numbers as CSV, in nats; changes and slopes are those since the row above."""
    columns: dict[str, np.ndarray] = {"context": found.paired.contexts}
    for name, curve in (("", found.paired), ("naive_", found.naive)):
        columns[f"{name}velocity"], columns[f"{name}velocity_se"] = curve.velocity, curve.velocity_error
        since = {"change": curve.change, "change_se": curve.change_error, "slope": curve.slope}
        since |= {"slope_se": curve.slope_error, "log_slope": curve.log_slope}
        columns |= {f"{name}{key}": np.concatenate([[np.nan], values]) for key, values in since.items()}
    if found.exact is not None:
        columns["exact"] = found.exact
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        writer.writerow(["" if value != value else value for value in row])
    return text.getvalue()


def _said(claim: Claim, what: str, so: str, otherwise: str) -> str:
    """Return what a claim comes to, in words for where it is made, what it says, and its opposite."""
    if claim.total == 0:
        return "there are too few contexts to tell."
    if claim.against:
        return (
            f"no. It {otherwise} at {claim.against} of {claim.total} {what} (together {LEVEL:.0%} sure), and {so} at "
            f"{claim.shown}."
        )
    if claim.confidence >= LEVEL:
        return f"yes, at all {claim.total} {what}, together {_percent(claim.confidence)} sure."
    return (
        f"at {claim.shown} of {claim.total} {what} (each {LEVEL:.0%} sure); it is not seen that it {otherwise} at any. "
        f"That it {so} at all of them is {_percent(claim.confidence)} sure."
    )


def _percent(confidence: float) -> str:
    return "more than 99.9%" if confidence > 0.999 else f"{math.floor(1000.0 * confidence) / 10.0:.1f}%"
