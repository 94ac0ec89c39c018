"""Models whose distribution of ``y`` depends on a linear predictor: their design, and whether data are separable.

Notation: ``x`` inputs ``(N, p)``, behind a leading column of ones where there is an intercept; ``η = x·β``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.checks import observed, refuse_input_scale
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import EstimationTask, Layer

MOST_ENTRIES = 50_000_000  # of a linear programme: beyond, it takes gigabytes and hours
TINY = 1e-300  # a row of zeros has slope zero
NEARLY_CERTAIN = -1e-6  # log-likelihood of an observation that separation may explain
SEPARATED = 1e-6  # what the linear programme must gain an observation, beside the 1e-7 that it lets rows be off


class LinearPredictor(EstimationTask):
    """A model whose distribution of ``y`` depends on ``η = x·β``.

    Attributes:
        feature_names: Of the columns of the design, the intercept's first.

    Example:
        >>> from hamiltonian_rl.problems.estimation import LogisticRegression
        >>> LogisticRegression([0, 1], inputs=[[1.0, 2.0], [3.0, 4.0]]).feature_names
        ('intercept', 'x1', 'x2')
    """

    intercept: bool
    feature_names: tuple[str, ...]

    def _take(self, targets: Any, inputs: Any, intercept: bool) -> None:
        self.data, self.intercept = observed(targets, inputs), intercept
        x = self.data.inputs
        if x is not None and (x.ndim != 2 or not x.is_floating_point()):
            x = x.to(torch.float64).flatten(1)
            self.data = dataclasses.replace(self.data, inputs=x)
        if x is None and not intercept:
            raise UsageError(f"{type(self).__name__} has no inputs and no intercept: there is nothing to estimate.")
        if x is not None:
            refuse_input_scale(x, self.data.input_names)
        width = 0 if x is None else x.shape[1]
        names = self.data.input_names or tuple(f"x{i}" for i in range(1, width + 1))
        if intercept and "intercept" in names:
            raise UsageError(
                'There is an input "intercept" beside the regression\'s own. Rename it, or fit without an intercept.'
            )
        self.feature_names = (("intercept",) if intercept else ()) + tuple(names)

    def design(self, data: Observations | None = None) -> torch.Tensor:
        """Return the rows ``x_n``, with a leading one where there is an intercept, shape ``(N, p)``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import LogisticRegression
            >>> LogisticRegression([0, 1], inputs=[5.0, 6.0]).design()
            tensor([[1., 5.],
                    [1., 6.]], dtype=torch.float64)
        """
        data = self.data if data is None else data
        ones = torch.ones(len(data), 1, dtype=torch.float64)
        if data.inputs is None:
            return ones
        return torch.cat([ones, data.inputs], 1) if self.intercept else data.inputs

    def predictor(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``η``, shape ``(..., N)``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import LogisticRegression
            >>> LogisticRegression([0, 1], inputs=[5.0, 6.0]).predictor(torch.tensor([1.0, 2.0], dtype=torch.float64))
            tensor([11., 13.], dtype=torch.float64)
        """
        design = self.design(data)
        return params[..., : design.shape[1]] @ design.T

    def layers(self, params: torch.Tensor, data: Observations | None = None) -> tuple[Layer, ...]:
        """Return the coefficients as one layer of the design: the score is ``slope ⊗ x``, so ``slope = g·x / |x|²``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import LogisticRegression
            >>> task = LogisticRegression([0, 1], inputs=[5.0, 6.0])
            >>> task.layers(task.start)[0].slopes[:, 0]  # y - 1/2
            tensor([-0.5000,  0.5000], dtype=torch.float64)
        """
        data = self.data if data is None else data
        design = self.design(data)
        width = design.shape[1]
        rows = len(self.names) // width
        by_row = self.scores(params, data)[:, : rows * width].reshape(len(data), rows, width)
        slopes = torch.einsum("nrw,nw->nr", by_row, design) / (design**2).sum(1).clamp(min=TINY)[:, None]
        return (Layer(torch.arange(rows * width).reshape(rows, width), design, slopes),)

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether some direction of the coefficients raises the likelihood for ever: separable data.

        Decided by a linear programme: a direction along which no observation loses, and one gains at least.

        Reference:
            Albert and Anderson (1984), "On the existence of maximum likelihood estimates in logistic regression".

        Example:
            >>> from hamiltonian_rl.problems.estimation import LogisticRegression
            >>> far = torch.tensor([-25.0, 10.0], dtype=torch.float64)  # where a search of separable data ends
            >>> tasks = [LogisticRegression(y, [1.0, 2.0, 3.0, 4.0]) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
            >>> [bool(task.no_maximum(far)) for task in tasks]
            [True, False]
        """
        if params is not None and not (self.log_likelihood(params) > NEARLY_CERTAIN).any():
            return ""
        if self._rows_of_recession() * self.n_params > MOST_ENTRIES:
            return ""
        no_loss, no_change = self._recession()
        if not len(no_loss):
            return ""
        # Neither units nor lengths matter to which directions these are.
        rows = _of_length_one(_of_length_one(np.concatenate([no_loss, no_change]), 0), 1)
        no_loss, no_change = rows[: len(no_loss)], rows[len(no_loss) :]
        equal = {} if not len(no_change) else {"A_eq": no_change, "b_eq": np.zeros(len(no_change))}
        found = linprog(-no_loss.sum(0), A_ub=-no_loss, b_ub=np.zeros(len(no_loss)), bounds=(-1.0, 1.0), **equal)
        if found.status != 0 or -found.fun <= SEPARATED * len(no_loss):
            return ""
        return (
            "some combination of the inputs tells the outcomes apart without an error (separable data), and "
            "coefficients run to infinity"
        )

    def _rows_of_recession(self) -> int:
        return len(self.data)

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows ``d`` with which no observation loses where ``d·β >= 0``, and those where ``d·β = 0``."""
        return np.zeros((0, self.n_params)), np.zeros((0, self.n_params))

    def _weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n w_n x_n x_nᵀ``."""
        design = self.design()
        return (design.T * weights) @ design / len(design)


def _of_length_one(rows: np.ndarray, axis: int) -> np.ndarray:
    """Return the rows with columns (axis 0) or rows (1) whose largest entry is one; what is zero stays."""
    lengths = np.abs(rows).max(axis=axis, keepdims=True)
    scaled: np.ndarray = rows / np.where(lengths > 0.0, lengths, 1.0)
    return scaled
