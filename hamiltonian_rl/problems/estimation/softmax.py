"""Softmax regression: classes, with or without one for reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hamiltonian_rl.problems.estimation.checks import class_targets
from hamiltonian_rl.problems.estimation.linear_predictor import LinearPredictor
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import MOST_NUMBERS, Outcomes, refuse_dense


class SoftmaxRegression(LinearPredictor):
    """``y`` is class ``c`` of C with probability ``softmax(x·β_c)``.

    Without a reference class adding one vector to all ``β_c`` changes nothing (a gauge): the Fisher information is
    singular, of rank ``(C - 1) p``. With it ``β_0 = 0``, and the parameters are those of the other classes.

    Args:
        targets: Classes 0, 1, ..., C - 1, each there, shape ``(N,)``.
        inputs: ``x``, shape ``(N, p)`` or ``(N,)``.
        intercept: Whether a column of ones is put before the inputs.
        reference: Whether class 0 has no coefficients; the others' are log odds against it.

    Raises:
        UsageError: A target is no class, one is missing, or there is one alone; of `fisher`, which is dense, also where
            there are more than 16,384 parameters.

    Example:
        >>> task = SoftmaxRegression([0, 1, 2, 2], reference=True)
        >>> shares = torch.tensor([1.0, 2.0], dtype=torch.float64).log()  # of classes 1 and 2, beside that of class 0
        >>> task.names, task.log_probabilities(shares)[0].exp()
        (('1: intercept', '2: intercept'), tensor([0.2500, 0.2500, 0.5000], dtype=torch.float64))
    """

    def __init__(self, targets: Any, inputs: Any = None, intercept: bool = True, reference: bool = False) -> None:
        self._take(targets, inputs, intercept)
        classes, self.n_classes = class_targets(self.data)
        self.data, self.reference = self.data.with_targets(classes), reference
        labels = self.data.labels or tuple(str(c) for c in range(self.n_classes))
        p, named = len(self.feature_names), labels[1:] if reference else labels
        self.names = tuple(f"{label}: {feature}" for label in named for feature in self.feature_names)
        self.groups = tuple(slice(c * p, (c + 1) * p) for c in range(len(named)))
        self.start = torch.zeros(len(self.names), dtype=torch.float64)

    def _rows_of_recession(self) -> int:
        return len(self.data) * (self.n_classes - 1)

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        design, classes = self.design().numpy(), self.data.targets.numpy()
        one_hot = np.eye(self.n_classes)
        against = np.concatenate([one_hot[classes] - one_hot[c] for c in range(self.n_classes)])
        rows = against[:, int(self.reference) :, None] * np.tile(design, (self.n_classes, 1))[:, None, :]
        rows = rows.reshape(len(rows), -1)
        return rows[against.any(1)], rows[:0]

    def log_probabilities(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``log p(c | x_n)``, shape ``(..., N, C)``.

        Example:
            >>> SoftmaxRegression([0, 1, 2]).log_probabilities(torch.zeros(3, dtype=torch.float64))[0].exp()
            tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
        """
        design = self.design(data)
        coefficients = params.reshape(*params.shape[:-1], -1, design.shape[1])
        predictors = design @ coefficients.transpose(-1, -2)
        if self.reference:
            predictors = torch.cat([torch.zeros_like(predictors[..., :1]), predictors], -1)
        return torch.log_softmax(predictors, -1)

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y, logs = data.targets, self.log_probabilities(params, data)
        return logs.gather(-1, y[:, None].expand(*logs.shape[:-1], 1)).squeeze(-1)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        shares = self.log_probabilities(params, data).exp()
        return data.with_targets(torch.multinomial(shares, 1, generator=generator)[:, 0])

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        shares = self.log_probabilities(params, data).exp()
        return [(data.with_targets(torch.full((len(data),), c)), shares[:, c]) for c in range(self.n_classes)]

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n (diag(p_n) - p_n p_nᵀ) ⊗ x_n x_nᵀ``.

        Example:
            >>> task = SoftmaxRegression([0, 1])
            >>> task.fisher(task.start)  # diag(p) - p pᵀ with p = 1/2: singular along (1, 1)
            tensor([[ 0.2500, -0.2500],
                    [-0.2500,  0.2500]], dtype=torch.float64)
        """
        refuse_dense(self.n_params, type(self).__name__)
        design, size, p = self.design(), self.n_params, len(self.feature_names)
        shares = self.log_probabilities(params).exp()[:, int(self.reference) :]
        own, mixed = params.new_zeros(size // p, p, p), params.new_zeros(size, size)
        together = max(1, MOST_NUMBERS // size)
        for first in range(0, len(design), together):
            of_some, rows = shares[first : first + together], design[first : first + together]
            weighted = (of_some[:, :, None] * rows[:, None, :]).flatten(1)
            own = own + (weighted.T @ rows).reshape(-1, p, p)
            mixed = mixed + weighted.T @ weighted
        each = torch.einsum("cij,cd->cidj", own, torch.eye(len(own), dtype=own.dtype))
        return (each.reshape(size, size) - mixed) / len(design)
