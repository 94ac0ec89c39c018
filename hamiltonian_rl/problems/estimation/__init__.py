"""Estimation tasks: a likelihood, its data and its parameters, stated once for every principle and optimizer.

Not imported with `hamiltonian_rl.problems`, for they need torch, which takes seconds to load.
"""

from hamiltonian_rl.problems.estimation.control import EstimationControl
from hamiltonian_rl.problems.estimation.families import Bernoulli, Exponential, Gaussian, GaussianMean, Poisson
from hamiltonian_rl.problems.estimation.modules import ModuleClassifier, ModuleRegressor
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.regression import LinearRegression, LogisticRegression, PoissonRegression
from hamiltonian_rl.problems.estimation.softmax import SoftmaxRegression
from hamiltonian_rl.problems.estimation.task import EstimationTask

__all__ = [
    "Bernoulli",
    "EstimationControl",
    "EstimationTask",
    "Exponential",
    "Gaussian",
    "GaussianMean",
    "LinearRegression",
    "LogisticRegression",
    "ModuleClassifier",
    "ModuleRegressor",
    "Observations",
    "Poisson",
    "PoissonRegression",
    "SoftmaxRegression",
]
