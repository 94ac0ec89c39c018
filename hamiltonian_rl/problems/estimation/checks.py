"""What likelihoods ask of their data, each failure named by its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.observations import Observations

SMALLEST, LARGEST = 1e-60, 1e60  # of targets and noise: fourth powers of them are numbers yet
MOST_CLASSES = 1_000_000  # what is beyond is no number of a class, and counting up to it takes memory for nothing


def observed(targets: Any, inputs: Any = None) -> Observations:
    """Return the observations of a task: as they are, or made of arrays; one number each.

    Raises:
        UsageError: They are given twice, a target is no single number, or they are too large or small to be squared.

    Example:
        >>> observed([0, 1, 1]).targets
        tensor([0., 1., 1.], dtype=torch.float64)
    """
    if isinstance(targets, Observations):
        if inputs is not None:
            raise UsageError("The inputs are given twice: Observations hold their own. Leave `inputs` out.")
        data = targets
    else:
        data = Observations.of(targets, inputs)
    if data.targets.ndim != 1:
        raise UsageError(f"The targets have shape {tuple(data.targets.shape)}; expected (N,): one number each.")
    refuse_scale(data)
    return data.with_targets(data.targets.to(torch.float64))


def refuse_scale(data: Observations) -> None:
    """Refuse targets whose squares, or squares of squares, are no numbers: informations would be zero or infinite.

    Raises:
        UsageError: The largest is beyond 1e60, or below 1e-60 and not zero.

    Example:
        >>> refuse_scale(Observations.of([1e-300, 2e-300]))
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: The largest target "y" is 2e-300; expected one between 1e-60 and 1e+60 ...
    """
    largest = data.targets.abs().max().item()
    if largest and not SMALLEST <= largest <= LARGEST:
        raise UsageError(
            f'The largest target "{data.target_name}" is {largest:g}; expected one between {SMALLEST:g} and '
            f"{LARGEST:g} in size, for squares of squares are taken. Measure it in other units."
        )


def refuse_input_scale(inputs: torch.Tensor, names: tuple[str, ...]) -> None:
    """Refuse columns of inputs whose squares, or squares of squares, are no numbers.

    Args:
        inputs: Shape ``(N, p)``.
        names: Of the columns; none for their numbers.

    Raises:
        UsageError: The largest of a column is beyond 1e60, or below 1e-60 and not zero.

    Example:
        >>> refuse_input_scale(torch.tensor([[1.0], [0.0]]), ("x",))
    """
    largest = inputs.abs().amax(0)
    bad = (largest > 0.0) & ~((largest >= SMALLEST) & (largest <= LARGEST))
    if bad.any():
        column = int(bad.nonzero()[0])
        name = names[column] if names else f"x{column + 1}"
        raise UsageError(
            f'The largest input "{name}" is {largest[column].item():g}; expected one between {SMALLEST:g} and '
            f"{LARGEST:g} in size, for squares of squares are taken. Scale the inputs to about 1."
        )


def checked_sigma(sigma: Any, estimated: bool) -> float | None:
    """Return a known noise; None to estimate it.

    Args:
        sigma: ``σ``, in units of the targets.
        estimated: Whether None is one.

    Raises:
        UsageError: It is no number from 1e-60 to 1e60.

    Example:
        >>> checked_sigma(2, estimated=False), checked_sigma(None, estimated=True)
        (2.0, None)
    """
    if sigma is None and estimated:
        return None
    number = isinstance(sigma, int | float | np.number) and not isinstance(sigma, bool)
    if not number or not SMALLEST <= sigma <= LARGEST:
        otherwise = ", or None to estimate it" if estimated else ""
        raise UsageError(f"sigma = {sigma!r}; expected a positive number from {SMALLEST:g} to {LARGEST:g}{otherwise}.")
    return float(sigma)


def refuse_targets(data: Observations, bad: torch.Tensor, expected: str) -> None:
    """Refuse the observations where some of the targets are none.

    Raises:
        UsageError: There is a bad one; with its place, its value and what was expected.

    Example:
        >>> data = Observations.of([0.0, 2.0])
        >>> refuse_targets(data, data.targets > 1.0, "0 or 1")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: "y" is 2 at observation 1 (1 of 2 are no such); expected 0 or 1.
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

    Example:
        >>> refuse_labels(Observations.of([0.0, 1.0], labels=("no", "yes")), "linear regression")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: "y" holds labels (no, yes), and linear regression needs numbers. Write ...
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

    Example:
        >>> class_targets(Observations.of([0.0, 2.0, 1.0]))
        (tensor([0, 2, 1]), 3)
        >>> class_targets(Observations.of([0.0, 2.0]))
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: No observation is of class 1, while "y" goes up to 2; present: 0, 2. N ...
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
