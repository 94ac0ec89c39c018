"""What likelihoods ask of their data, each failure named by its place."""

from __future__ import annotations

from typing import Any

import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.observations import Observations

MOST_CLASSES = 1_000_000  # what is beyond is no number of a class, and counting up to it takes memory for nothing


def observed(targets: Any, inputs: Any = None) -> Observations:
    """Return the observations of a task: as they are, or made of arrays; one number each.

    Raises:
        UsageError: They are given twice, or a target is no single number.
    """
    if isinstance(targets, Observations):
        if inputs is not None:
            raise UsageError("The inputs are given twice: Observations hold their own. Leave `inputs` out.")
        data = targets
    else:
        data = Observations.of(targets, inputs)
    if data.targets.ndim != 1:
        raise UsageError(f"The targets have shape {tuple(data.targets.shape)}; expected (N,): one number each.")
    return data.with_targets(data.targets.to(torch.float64))


def refuse_targets(data: Observations, bad: torch.Tensor, expected: str) -> None:
    """Refuse the observations where some of the targets are none.

    Raises:
        UsageError: There is a bad one; with its place, its value and what was expected.
    """
    if bad.any():
        row = int(bad.nonzero()[0])
        value, count = data.targets[row].item(), int(bad.sum())
        raise UsageError(
            f'"{data.target_name}" is {value:g} at {data.place(row)} ({count:,} of {len(data):,} are no such); '
            f"expected {expected}."
        )


def refuse_labels(data: Observations, model: str) -> None:
    """Refuse text as target where a number is meant.

    Raises:
        UsageError: The targets stand for labels.
    """
    if data.labels:
        raise UsageError(
            f'"{data.target_name}" holds labels ({", ".join(data.labels[:4])}), and {model} needs numbers. Write the '
            "labels as numbers, or take a model of classes: softmax regression."
        )


def class_targets(data: Observations) -> tuple[torch.Tensor, int]:
    """Return the targets as whole numbers from 0 and the number of classes.

    Raises:
        UsageError: They are no such numbers, one of them is missing in between, or there is one class alone.
    """
    y = data.targets
    refuse_targets(data, (y < 0) | (y != y.round()) | (y > MOST_CLASSES), "the number of a class: 0, 1, 2, ...")
    counts = torch.bincount(y.long(), minlength=len(data.labels))
    if len(counts) < 2:
        raise UsageError(
            f'All {len(data):,} targets "{data.target_name}" are of one class, 0; expected two classes at least, for '
            "otherwise there is nothing to tell apart."
        )
    if (counts == 0).any():
        empty = int((counts == 0).nonzero()[0])
        present = [str(c) for c in (counts > 0).nonzero()[:, 0].tolist()]
        raise UsageError(
            f'No observation is of class {empty}, while "{data.target_name}" goes up to {len(counts) - 1}; present: '
            f"{', '.join(present[:12])}. Number the classes 0, 1, 2, ... without a gap: a class never seen has no "
            "maximum-likelihood estimate."
        )
    return y.long(), len(counts)
