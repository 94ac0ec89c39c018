"""Optimizers that fall out of the Lagrangian (Eq. 22-32), for any torch model.

`LeastAction` is the optimal control of an estimation task in closed form, `FisherRoot` its limit of small steps, of
which RMSprop and Adam are the diagonal with the data's own gradients. `ModelFisher` gives either the Fisher
information of the model's predictions, at the price of a short backward pass now and then.
"""

from hamiltonian_rl.optim.fisher_optimizer import FisherOptimizer, GradientWarning
from hamiltonian_rl.optim.fisher_root import FisherRoot
from hamiltonian_rl.optim.least_action import LeastAction
from hamiltonian_rl.optim.model_fisher import ModelFisher

__all__ = ["FisherOptimizer", "FisherRoot", "GradientWarning", "LeastAction", "ModelFisher"]
