"""Bayesian regression on random waves: a model of an environment from few transitions, and how sure it is.

Notation: ``x`` input (state and action), ``z`` the same in units of its spread, ``φ`` features, ``w`` weights.

Reference:
    Rahimi and Recht (2007), "Random features for large-scale kernel machines"; Bishop (2006), "Pattern recognition and
    machine learning", sections 3.3 and 3.5: the posterior, and the evidence that chooses its prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LENGTHS = (0.5, 1.0, 2.0)  # of the waves, in units of the spread times the root of the number of inputs
PRECISIONS = 10.0 ** np.arange(-8.0, 7.0, 2.0)  # of the prior of what bends, in units of the noise
NEVER = 1e12  # of what is to be zero
FREE = 1e-8  # precision of what is linear
ROUNDING = 1e-7  # of observations in single precision


@dataclass(frozen=True)
class Features:
    """``φ(x) = (1, x, √(2/M) cos(Ω z / ℓ + b), z_i z_j)``, the constants folded so that x itself goes in.

    Attributes:
        directions: ``Ω / (ℓ spread)``, shape ``(M, d)``.
        phases: ``(M,)``.
    """

    directions: np.ndarray
    phases: np.ndarray

    @staticmethod
    def count(inputs: int, waves: int) -> int:
        """Return how many features there are: 1, d, M and d (d + 1) / 2."""
        return 1 + inputs + waves + inputs * (inputs + 1) // 2

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the features of inputs ``(N, d)``, shape ``(N, F)``."""
        rows, columns = np.tril_indices(x.shape[1])
        waves = np.cos(x @ self.directions.T + self.phases) * np.sqrt(2.0 / len(self.phases))
        return np.concatenate([np.ones((len(x), 1)), x, waves, x[:, rows] * x[:, columns]], 1)


@dataclass(frozen=True)
class Posterior:
    """Weights of some outputs, and how far they may be off.

    Attributes:
        features: Of the inputs.
        mean: ``(K, F)``, one row an output.
        spread: A root of the covariance of each row, ``(K, F, F)``: ``mean + spread @ normal`` is a draw.
        noise: Standard deviation of what the features leave unexplained, ``(K,)``.
    """

    features: Features
    mean: np.ndarray
    spread: np.ndarray
    noise: np.ndarray

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Draw weights ``(K, F)``: a member of an ensemble of models that the data allow."""
        return np.asarray(self.mean + np.einsum("kfg,kg->kf", self.spread, generator.normal(size=self.mean.shape)))


def draw_waves(inputs: int, waves: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw directions ``(M, d)`` and phases ``(M,)``: each wave along some of the inputs only, any number of them.

    What depends on few inputs, as rewards mostly do, is then told from few transitions.

    Args:
        inputs: d.
        waves: M.
        generator: Of the draws.

    Example:
        >>> directions, phases = draw_waves(3, 500, np.random.default_rng(0))
        >>> np.unique((directions != 0.0).sum(1)).tolist()
        [1, 2, 3]
    """
    sizes = generator.integers(1, inputs, waves, endpoint=True)[:, None]
    along = generator.random((waves, inputs)).argsort(1) < sizes
    directions = generator.normal(size=(waves, inputs)) * along * np.sqrt(inputs / sizes)
    return directions, generator.uniform(0.0, 2.0 * np.pi, waves)


def fit(x: np.ndarray, y: np.ndarray, directions: np.ndarray, phases: np.ndarray, bent: np.ndarray) -> Posterior:
    """Return the posterior of ``y = w φ(x) + noise``, its prior chosen by the evidence.

    What is linear is free; squares and waves have a prior of zero mean whose precision, like the waves' length, is
    that of `PRECISIONS` and `LENGTHS` under which the data are most probable. So a linear environment is found to be
    linear from some twenty transitions.

    Args:
        x: ``(N, d)``, at least two rows.
        y: ``(N, K)``.
        directions: Of the waves, ``(M, d)``; see `draw_waves`.
        phases: ``(M,)``.
        bent: Which outputs may have squares, ``(K,)`` of bool: a model that is squared again and again is no model.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> x = generator.normal(size=(30, 2))
        >>> waves = generator.normal(size=(16, 2)), generator.uniform(0.0, 6.28, 16)
        >>> found = fit(x, x @ [[1.0], [-2.0]] + 0.5, *waves, np.array([False]))
        >>> found.mean[0, :3].round(6).tolist(), bool(abs(found.mean[0, 3:]).max() < 1e-6)
        ([0.5, 1.0, -2.0], True)
    """
    middle, spread = x.mean(0), _spread(x)
    z, scale = (x - middle) / spread, _spread(y)
    target = (y - y.mean(0)) / scale
    d, waves = x.shape[1], len(phases)
    squares = d * (d + 1) // 2
    best: list[tuple[float, np.ndarray, np.ndarray, float]] = []
    chosen = None
    for length in LENGTHS:
        features = Features(directions / (length * np.sqrt(d)), phases)
        found = _best_priors(features(z), target, d, squares, waves, bent)
        if chosen is None or sum(row[0] for row in found) > sum(row[0] for row in best):
            best, chosen = found, features
    assert chosen is not None
    back = _unscaled(middle, spread, waves)
    mean = np.array([row[1] for row in best]) @ back * scale[:, None]
    mean[:, 0] += y.mean(0)
    root = np.array([back.T @ row[2] for row in best]) * scale[:, None, None]
    raw = Features(chosen.directions / spread, chosen.phases - chosen.directions @ (middle / spread))
    return Posterior(raw, mean, root, np.array([row[3] for row in best]) * scale)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column; one where it is constant but for rounding."""
    spread = values.std(0)
    return np.asarray(np.where(spread > ROUNDING * (1e-30 + np.abs(values).max(0)), spread, 1.0))


def _best_priors(
    phi: np.ndarray, target: np.ndarray, linear: int, squares: int, waves: int, bent: np.ndarray
) -> list[tuple[float, np.ndarray, np.ndarray, float]]:
    """Return of each output the log evidence, mean, root of the covariance and noise under its best prior."""
    gram, projected = phi.T @ phi, phi.T @ target
    found: list[tuple[float, np.ndarray, np.ndarray, float] | None] = [None] * target.shape[1]
    parts = np.repeat([0, 1, 2], [1 + linear, waves, squares])
    for square in (*PRECISIONS, np.inf):
        outputs = np.flatnonzero(bent | np.isinf(square))
        for wave in PRECISIONS if len(outputs) else ():
            prior = np.array([FREE, wave, NEVER if np.isinf(square) else square])[parts]
            lower = np.linalg.cholesky(gram + np.diag(prior))
            inverse = np.linalg.inv(lower)
            mean = inverse.T @ (inverse @ projected[:, outputs])
            left = ((target[:, outputs] - phi @ mean) ** 2).sum(0) + (prior[:, None] * mean**2).sum(0)
            left = left / len(target) + ROUNDING**2
            evidence = -0.5 * len(target) * np.log(left) - np.log(np.diag(lower)).sum() + 0.5 * np.log(prior).sum()
            for index, output in enumerate(outputs):
                before = found[output]
                if before is None or evidence[index] > before[0]:
                    noise = float(np.sqrt(left[index]))
                    found[output] = float(evidence[index]), mean[:, index], inverse.T * noise, noise
    return [row for row in found if row is not None]


def _unscaled(middle: np.ndarray, spread: np.ndarray, waves: int) -> np.ndarray:
    """Return the matrix whose product with weights of z's features, on the left, are those of x's."""
    d = len(middle)
    rows, columns = np.tril_indices(d)
    first = 1 + d + waves
    back = np.zeros((first + len(rows), first + len(rows)))
    back[0, 0] = 1.0
    back[1 : 1 + d, 0], back[1 : 1 + d, 1 : 1 + d] = -middle / spread, np.diag(1.0 / spread)
    back[1 + d : first, 1 + d : first] = np.eye(waves)
    for place, (i, j) in enumerate(zip(rows, columns, strict=True), start=first):
        unit = 1.0 / (spread[i] * spread[j])
        back[place, place] = unit
        back[place, 1 + i] -= middle[j] * unit
        back[place, 1 + j] -= middle[i] * unit
        back[place, 0] = middle[i] * middle[j] * unit
    return back
