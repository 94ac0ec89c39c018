"""A small estimation task as an environment: the Lagrangian side's optimizers among the agents."""

from __future__ import annotations

import math

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems.estimation import EstimationControl, EstimationTask, LinearRegression, LogisticRegression
from hamiltonian_rl.solvers.maximum_likelihood import maximum_likelihood

MODELS = ("linear", "logistic")


class Estimation(EstimationControl):
    """Fit a regression of two inputs by moving its coefficients: ``θ' = θ + dt u``, ``r = dt (ℓ(θ) - ℓ* - ½ m |u|²)``.

    The second input varies ``√condition`` times less than the first, so that ``F`` has about that condition number:
    where plain gradients zigzag. Rewards are zero at the maximum-likelihood estimate at rest, and negative elsewhere.
    Episodes begin within ``spread`` of where both coefficients are half of it above the estimate, `estimate`.

    Args:
        model: ``"linear"``, whose log-likelihood is quadratic, or ``"logistic"``, whose is not.
        rows: Observations.
        condition: Of the inputs' second moments, about.
        seed: Of the observations.
        mass: ``m``.
        dt: Time that a step takes.
        horizon: Steps of an episode.
        spread: Of the first coefficients around the estimate.

    Raises:
        UsageError: There is no such model, or a number is out of range.

    Example:
        >>> import torch
        >>> problem = Estimation("linear", horizon=10)
        >>> problem.horizon, problem.state_names
        (10, ('x1', 'x2'))
        >>> best = torch.as_tensor(problem.estimate)
        >>> abs(float(problem.reward(best, torch.zeros(2), 0))) < 1e-12  # at rest, at the maximum
        True
    """

    def __init__(
        self,
        model: str = "linear",
        rows: int = 20,
        condition: float = 30.0,
        seed: int = 0,
        *,
        mass: float = 1.0,
        dt: float = 0.2,
        horizon: int = 50,
        spread: float = 2.0,
    ) -> None:
        if model not in MODELS:
            raise UsageError(f'There is no estimation of the model "{model}". {did_you_mean(model, MODELS)}')
        if isinstance(rows, bool) or rows != int(rows) or rows < 3:
            raise UsageError(f"rows = {rows!r}; expected a whole number of at least 3.")
        if not 1.0 <= condition < math.inf:
            raise UsageError(f"condition = {condition!r}; expected a number of at least 1.")
        task = _task(model, int(rows), condition, seed)
        best = maximum_likelihood(task).unwrap()
        super().__init__(
            task,
            mass=mass,
            dt=dt,
            horizon=horizon,
            start=best.params + 0.5 * spread,
            spread=spread,
            reference=float(task.mean_log_likelihood(best.params)),
            max_speed=20.0,
            radius=2.0 * spread + 1.0,
        )
        self.estimate = best.params.numpy()


def _task(model: str, rows: int, condition: float, seed: int) -> EstimationTask:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 2)) * [1.0, condition**-0.5]
    predictor = inputs @ [1.0, -1.0]
    if model == "linear":
        return LinearRegression(predictor + generator.normal(size=rows), inputs, sigma=1.0, intercept=False)
    targets = generator.random(rows) < 1.0 / (1.0 + np.exp(-predictor))
    return LogisticRegression(targets.astype(float), inputs, intercept=False)
