"""What an estimation task is: the log-likelihood of parameters, given data (section 3.3 of the paper).

Notation: ``θ`` params ``(P,)``, ``N`` observations, ``ℓ_n(θ) = log p(y_n | x_n, θ)``, ``g_n = ∇ℓ_n`` score. Information
and log-likelihood are *per observation* everywhere: ``ℓ = (1/N) Σ ℓ_n`` and ``F = (1/N) Σ_n E_y[g_n g_nᵀ]``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.observations import Observations

if TYPE_CHECKING:
    from hamiltonian_rl.problems.estimation.control import EstimationControl

Outcomes = list[tuple[Observations, torch.Tensor]]  # targets for every input, and their weights
MOST_NUMBERS = 20_000_000  # held together, beside what is returned
LARGEST_DENSE = 16_384  # parameters of a dense Fisher information: 2 GB
CHUNK = 1024  # observations whose scores are computed together


class Layer(NamedTuple):
    """Parameters whose scores are ``g_n = slopes_n ⊗ inputs_n``, as those of a layer ``W x`` are.

    Attributes:
        places: Where ``W`` lies in the parameters, shape ``(outputs, inputs)``.
        inputs: ``x``, shape ``(N, inputs)``.
        slopes: Derivative of ``ℓ_n`` with respect to ``W x``, shape ``(N, outputs)``.

    Example:
        >>> places, inputs = torch.arange(2).reshape(1, 2), torch.tensor([[1.0, 2.0]])
        >>> layer = Layer(places, inputs, slopes=torch.tensor([[3.0]]))
        >>> torch.einsum("no,ni->noi", layer.slopes, layer.inputs).flatten(1)  # the scores
        tensor([[3., 6.]])
    """

    places: torch.Tensor
    inputs: torch.Tensor
    slopes: torch.Tensor


def refuse_dense(n_params: int, owner: str) -> None:
    """Refuse a dense matrix of all parameters that would not fit, before it is made.

    Raises:
        UsageError: There are more than 16,384 parameters.

    Example:
        >>> refuse_dense(100_000, "SoftmaxRegression")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: SoftmaxRegression has 100,000 parameters, whose dense Fisher information ...
    """
    if n_params > LARGEST_DENSE:
        raise UsageError(
            f"{owner} has {n_params:,} parameters, whose dense Fisher information of {n_params:,} x {n_params:,} "
            f"numbers would take {8e-9 * n_params**2:,.1f} GB; at most {LARGEST_DENSE:,} parameters are taken. Take "
            'fewer classes or inputs, fisher_information(..., structure="diagonal"), or hamiltonian_rl.optim.'
        )


class EstimationTask(ABC):
    """Find ``θ`` that maximises ``ℓ(θ) = (1/N) Σ_n log p(y_n | x_n, θ)``.

    A subclass sets the attributes and writes `_log_likelihood` with torch operations, differentiable (twice, for the
    Hessian), and `_sample`. What lies outside the domain of a parameter (a negative ``σ``) has a log-likelihood of
    ``-inf`` or NaN. With `_outcomes` it has an exact Fisher information.

    Attributes:
        data: The observations.
        names: Of the parameters, shape ``(P,)``.
        start: Parameters to start from, within the domain, float64, shape ``(P,)``.
        groups: Which parameters belong together (a layer's weights, a class's coefficients): the blocks of a
            block-diagonal Fisher information, in order, covering all; none for all together.

    Example:
        >>> class Laplace(EstimationTask):  # p(y) = exp(-|y - location|)/2, of which F = 1
        ...     def __init__(self, targets):
        ...         self.data = Observations.of(targets)
        ...         self.names, self.start = ("location",), torch.zeros(1, dtype=torch.float64)
        ...
        ...     def _log_likelihood(self, params, data):
        ...         return -(data.targets - params[..., :1]).abs() - torch.log(torch.tensor(2.0))
        ...
        ...     def _sample(self, params, generator, data):
        ...         uniform = torch.rand(len(data), generator=generator, dtype=torch.float64) - 0.5
        ...         return data.with_targets(params[0] - uniform.sign() * torch.log1p(-2.0 * uniform.abs()))
        ...
        ...     def _outcomes(self, params, data):
        ...         half = torch.full((len(data),), 0.5, dtype=torch.float64)  # the score is the sign of y - location
        ...         return [(data.with_targets(params[0] + side * torch.ones_like(half)), half) for side in (-1.0, 1.0)]
        >>> Laplace([1.0, 2.0, 9.0]).fisher(torch.zeros(1, dtype=torch.float64))
        tensor([[1.]], dtype=torch.float64)
    """

    data: Observations
    names: tuple[str, ...]
    start: torch.Tensor
    groups: tuple[slice, ...] = ()

    @property
    def n_params(self) -> int:
        """P.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Gaussian
            >>> Gaussian([1.0, 2.0]).n_params
            2
        """
        return self.start.numel()

    def log_likelihood(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``log p(y_n | x_n, θ)`` of each observation, shape ``(..., N)``.

        Args:
            params: ``θ``, shape ``(..., P)``; leading dimensions are a batch.
            data: Others than the task's own.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Poisson
            >>> Poisson([0, 3]).log_likelihood(torch.tensor([1.0]))  # -1, and -1 - log 3!
            tensor([-1.0000, -2.7918], dtype=torch.float64)
        """
        return self._log_likelihood(params, self.data if data is None else data)

    def sample(
        self, params: torch.Tensor, generator: torch.Generator | None = None, data: Observations | None = None
    ) -> Observations:
        """Draw from the model one ``y_n`` for each ``x_n``: as many observations as there are in the data.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Bernoulli
            >>> Bernoulli([0, 1, 1]).sample(torch.tensor([1.0], dtype=torch.float64)).targets  # certain successes
            tensor([1., 1., 1.], dtype=torch.float64)
        """
        with torch.no_grad():
            return self._sample(params, generator, self.data if data is None else data)

    def outcomes(self, params: torch.Tensor, data: Observations | None = None) -> Outcomes:
        """Return a few possible ``y`` for every ``x_n``, with weights ``(N,)``, whose scores give the exact Fisher.

        ``Σ w g gᵀ = E_y[g gᵀ]`` exactly: all outcomes with their probabilities where they are few, and otherwise points
        that have the moments which the score depends on.

        Raises:
            UsageError: The task says none.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Poisson
            >>> outcomes = Poisson([7]).outcomes(torch.tensor([4.0]))
            >>> [(data.targets.item(), weight.item()) for data, weight in outcomes]  # μ ± √μ
            [(2.0, 0.5), (6.0, 0.5)]
        """
        return self._outcomes(params, self.data if data is None else data)

    @abstractmethod
    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        """Return what `log_likelihood` says."""

    @abstractmethod
    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        """Return what `sample` says."""

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        """Return what `outcomes` says."""
        raise UsageError(
            f"{type(self).__name__} says no outcomes, which an exact Fisher information sums over. Write its "
            '`_outcomes`, or take kind="monte_carlo".'
        )

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return the exact ``F(θ) = (1/N) Σ_n E_y[g_n g_nᵀ]`` (Eq. 23), shape ``(P, P)``; by its `outcomes`.

        Raises:
            UsageError: The task says no outcomes, or has more than 16,384 parameters.

        Example:
            >>> from hamiltonian_rl.problems.estimation import LogisticRegression
            >>> task = LogisticRegression([0, 1, 1], inputs=[1.0, 2.0, 0.0], intercept=False)
            >>> task.fisher(task.start)  # at β = 0 it is E[x²]/4
            tensor([[0.4167]], dtype=torch.float64)
        """
        refuse_dense(self.n_params, type(self).__name__)
        total = params.new_zeros(self.n_params, self.n_params)
        size = max(1, MOST_NUMBERS // self.n_params)
        for data, weights in self.outcomes(params):
            for first in range(0, len(data), size):
                scores = self.scores(params, data[first : first + size])
                total += torch.einsum("n,ni,nj->ij", weights[first : first + size], scores, scores)
        return total / len(self.data)

    def layers(self, params: torch.Tensor, data: Observations | None = None) -> tuple[Layer, ...]:
        """Return the layers of which a Kronecker-factored Fisher information consists; none unless a task has some.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean, LinearRegression
            >>> GaussianMean([1.0]).layers(torch.zeros(1))
            ()
            >>> task = LinearRegression([1.0, 3.0], inputs=[0.0, 1.0], sigma=1.0)
            >>> (layer,) = task.layers(task.start)  # at β = 0
            >>> layer.slopes[:, 0]  # (y - x·β)/σ²
            tensor([1., 3.], dtype=torch.float64)
        """
        return ()

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return why the likelihood certainly has no maximum, half a sentence; empty where that is not known.

        Args:
            params: Where a search ended: what takes long is asked only where these speak for it.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Bernoulli
            >>> Bernoulli([1, 1, 1], "logit").no_maximum(), Bernoulli([1, 0, 1], "logit").no_maximum()
            ('all targets are 1, and logit runs to infinity', '')
        """
        return ""

    def boundary(self) -> torch.Tensor | None:
        """Return the maximum where it certainly lies on the boundary of the domain, shape ``(P,)``; else None.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Bernoulli
            >>> Bernoulli([1, 1, 1]).boundary(), Bernoulli([1, 0, 1]).boundary()
            (tensor([1.], dtype=torch.float64), None)
        """
        return None

    def mean_log_likelihood(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``ℓ(θ)``, shape ``(...)``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Exponential
            >>> Exponential([1.0, 3.0]).mean_log_likelihood(torch.tensor([[1.0], [0.5]]))  # log λ - λ ȳ, a row each
            tensor([-2.0000, -1.6931], dtype=torch.float64)
        """
        return self.log_likelihood(params, data).mean(-1)

    def scores(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return the gradient ``g_n`` of each observation, shape ``(N, P)``.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> GaussianMean([1.0, 4.0], sigma=2.0).scores(torch.zeros(1, dtype=torch.float64))  # (y - mean)/σ²
            tensor([[0.2500],
                    [1.0000]], dtype=torch.float64)
        """
        data = self.data if data is None else data

        def of_one(params: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
            alone = Observations(targets[None], None if inputs is None else inputs[None])
            return self.log_likelihood(params, alone).squeeze(-1)

        in_dims = (None, 0, None if data.inputs is None else 0)
        vectorized = torch.func.vmap(torch.func.grad(of_one), in_dims=in_dims, chunk_size=CHUNK)
        scores: torch.Tensor = vectorized(params, data.targets, data.inputs)
        return scores

    def with_data(self, data: Observations) -> EstimationTask:
        """Return the same likelihood of other data, of as many inputs and classes.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> task = GaussianMean([1.0, 4.0]).with_data(Observations.of([7.0]))
            >>> task.scores(torch.zeros(1, dtype=torch.float64))
            tensor([[7.]], dtype=torch.float64)
        """
        other = copy.copy(self)
        other.data = data
        return other

    def checked(self, params: torch.Tensor) -> torch.Tensor:
        """Return the parameters as a float64 vector of the task's length.

        Raises:
            UsageError: They are of another shape, or not finite.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Gaussian
            >>> Gaussian([1.0, 2.0]).checked([0, 1])
            tensor([0., 1.], dtype=torch.float64)
            >>> Gaussian([1.0, 2.0]).checked([0, float("nan")])
            Traceback (most recent call last):
            hamiltonian_rl.errors.UsageError: params[1] (sigma) is nan; expected a number.
        """
        vector = torch.as_tensor(params, dtype=torch.float64).detach()
        if vector.shape != (self.n_params,):
            raise UsageError(f"params has shape {tuple(vector.shape)}; expected ({self.n_params},): {self._listed()}.")
        if not vector.isfinite().all():
            bad = int((~vector.isfinite()).nonzero()[0])
            raise UsageError(f"params[{bad}] ({self.names[bad]}) is {vector[bad].item()}; expected a number.")
        return vector

    def control_problem(
        self, mass: float = 1.0, dt: float = 0.1, horizon: int | None = None, **options: Any
    ) -> EstimationControl:
        """Return the control problem that moves the parameters; options as of `EstimationControl`.

        Raises:
            UsageError: A number is out of range.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> problem = GaussianMean([1.0, 3.0]).control_problem(mass=2.0, dt=0.5, horizon=20, max_speed=4.0)
            >>> problem.horizon, problem.action_space.high.item(), problem.state_names
            (20, 4.0, ('mean',))
        """
        from hamiltonian_rl.problems.estimation.control import EstimationControl

        return EstimationControl(self, mass=mass, dt=dt, horizon=horizon, **options)

    def _listed(self) -> str:
        return ", ".join(self.names[:6]) + (", ..." if self.n_params > 6 else "")
