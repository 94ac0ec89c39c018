"""The Fisher information: whose outcomes are averaged over, and what is kept of it (Eq. 22-24)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.principles.lagrangian.matrices import inverse_root
from hamiltonian_rl.principles.lagrangian.structured import Fisher, FisherBlock
from hamiltonian_rl.problems.estimation import EstimationTask, Observations
from hamiltonian_rl.problems.estimation.task import MOST_NUMBERS, refuse_dense

KINDS = ("exact", "monte_carlo", "empirical")
STRUCTURES = ("dense", "diagonal", "block", "kronecker")
EXACT = 1e-10  # scores, beside what the curvature lets expect, that are rounding
ROUNDING = 1e-14  # of what is summed up in a score
Weighted = list[tuple[Observations, torch.Tensor]]


def fisher_information(
    task: EstimationTask,
    params: torch.Tensor,
    kind: str = "exact",
    structure: str = "dense",
    *,
    data: Observations | None = None,
    n_samples: int = 1,
    generator: torch.Generator | None = None,
) -> Fisher:
    """Return ``F(θ) = (1/N) Σ_n E_y[g_n g_nᵀ]`` (Eq. 23), per observation.

    Args:
        task: The likelihood.
        params: ``θ``, shape ``(P,)``.
        kind: Over which ``y`` the expectation goes. "exact": the model's own, in closed form or by enumeration;
            "monte_carlo": as many drawn from the model as ``n_samples`` for each input; "empirical": those in the data,
            which is ``K = E[g gᵀ]`` and no Fisher information unless the model is true and ``θ`` its parameters.
        structure: What is kept: "dense", all; "diagonal"; "block", a matrix for each of the task's groups; "kronecker",
            for each layer ``E[s sᵀ] ⊗ E[x xᵀ]`` of its slopes ``s`` and inputs ``x``, and a block for what is in none.
        data: Other observations than the task's own, such as a batch.
        n_samples: For "monte_carlo".
        generator: For "monte_carlo".

    Raises:
        UsageError: There is no such kind or structure, no draw, no layer for "kronecker", a parameter in no group
            or in two, or a dense one of more than 16,384 parameters.

    Reference:
        Kunstner, Balles and Hennig (2019), "Limitations of the empirical Fisher approximation"; Martens and Grosse
        (2015), "Optimizing neural networks with Kronecker-factored approximate curvature", section 3.

    Example:
        >>> from hamiltonian_rl.problems.estimation import Gaussian
        >>> task = Gaussian([1.0, 2.0, 3.0])
        >>> fisher_information(task, torch.tensor([0.0, 2.0], dtype=torch.float64)).matrix().diagonal()
        tensor([0.2500, 0.5000], dtype=torch.float64)
    """
    for name, value, known in (("kind", kind, KINDS), ("structure", structure, STRUCTURES)):
        if value not in known:
            raise UsageError(f'{name} = "{value}" is not known. {did_you_mean(value, known)}')
    if n_samples < 1:
        raise UsageError(f"n_samples = {n_samples}; expected one at least.")
    theta = task.checked(params)
    if structure == "dense":
        refuse_dense(task.n_params, type(task).__name__)
    everything = torch.arange(task.n_params)
    if kind == "exact" and structure == "dense" and data is None:
        return Fisher((FisherBlock(everything, (task.fisher(theta),)),), task.n_params)
    weighted = _weighted(task, theta, kind, task.data if data is None else data, n_samples, generator)
    if structure == "kronecker":
        return _kronecker(task, theta, weighted)
    groups = _groups(task) if structure == "block" else (everything,)
    return Fisher(_blocks(task, theta, weighted, groups, structure == "diagonal"), task.n_params)


def outer_information(task: EstimationTask, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
    """Return ``K = (1/N) Σ_n g_n g_nᵀ`` over the data, shape ``(P, P)``.

    Example:
        >>> from hamiltonian_rl.problems.estimation import GaussianMean
        >>> outer_information(GaussianMean([1.0, 5.0]), torch.tensor([3.0]))  # the mean square of y - 3
        tensor([[4.]], dtype=torch.float64)
    """
    return fisher_information(task, params, "empirical", data=data).matrix()


def curvature(task: EstimationTask, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
    """Return ``J = -(1/N) Σ_n ∇²ℓ_n`` over the data, shape ``(P, P)``.

    Example:
        >>> from hamiltonian_rl.problems.estimation import Exponential
        >>> curvature(Exponential([1.0, 5.0]), torch.tensor([0.5]))  # 1/rate²
        tensor([[4.]], dtype=torch.float64)
    """
    refuse_dense(task.n_params, type(task).__name__)
    theta, observations = task.checked(params), task.data if data is None else data
    slope_of = torch.func.grad(lambda at: task.mean_log_likelihood(at, observations))

    def column(direction: torch.Tensor) -> torch.Tensor:
        bent: torch.Tensor = torch.func.jvp(slope_of, (theta,), (direction,))[1]
        return bent

    together = max(1, MOST_NUMBERS // (len(observations) * max(1, len(task.groups))))
    columns: torch.Tensor = torch.func.vmap(column, chunk_size=together)(torch.eye(task.n_params, dtype=theta.dtype))
    return -columns


def unexplained(outer: torch.Tensor, curvature: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
    """Return in which parameters the scores are more than rounding, shape ``(P,)`` of bool.

    Where a fit leaves no residual (as many parameters as observations, ``σ`` known), what it leaves of the scores is
    rounding, of which nothing may be computed: below 1e-10 of what the curvature lets expect, or of the size to which
    ``J θ`` is known.

    Args:
        outer: ``K``, shape ``(P, P)``.
        curvature: ``J``, shape ``(P, P)``.
        params: ``θ``, shape ``(P,)``.

    Example:
        >>> unexplained(torch.tensor([[1e-30]]), torch.tensor([[1.0]]), torch.tensor([3.0]))
        tensor([False])
    """
    expected = EXACT * curvature.diagonal().clamp(min=0.0).sqrt()
    rounding = ROUNDING * (curvature.abs() @ params.abs())
    return outer.diagonal().clamp(min=0.0).sqrt() > torch.maximum(expected, rounding)


def cramer_rao_bound(fisher: torch.Tensor, n_observations: int) -> torch.Tensor:
    """Return ``F⁻¹/N`` (Eq. 22), below which no unbiased estimator's covariance lies, shape ``(P, P)``.

    Of a singular F a generalized inverse, which bounds what can be estimated; the variance of the rest is unbounded.

    Example:
        >>> cramer_rao_bound(torch.tensor([[4.0]]), 25)
        tensor([[0.0100]])
    """
    root = inverse_root(fisher)
    return root @ root.T / n_observations


def _groups(task: EstimationTask) -> tuple[torch.Tensor, ...]:
    """Return where the task's groups lie in its parameters; all together where it names none.

    Raises:
        UsageError: A parameter is in none of them, or in two.
    """
    everything = torch.arange(task.n_params)
    groups = tuple(everything[group] for group in task.groups) or (everything,)
    counts = torch.bincount(torch.cat(groups), minlength=task.n_params)
    if (counts != 1).any():
        bad = int((counts != 1).nonzero()[0])
        raise UsageError(
            f"Parameter {bad} ({task.names[bad]}) is in {counts[bad].item()} of the groups of {type(task).__name__}; "
            "expected one. Let its `groups` cover every parameter once."
        )
    return groups


def _weighted(
    task: EstimationTask,
    params: torch.Tensor,
    kind: str,
    data: Observations,
    n_samples: int,
    generator: torch.Generator | None,
) -> Weighted:
    """Return targets for every input with weights that sum to one for each."""
    ones = torch.ones(len(data), dtype=torch.float64)
    if kind == "exact":
        return task.outcomes(params, data)
    if kind == "monte_carlo":
        return [(task.sample(params, generator, data), ones / n_samples) for _ in range(n_samples)]
    return [(data, ones)]


def _batches(weighted: Weighted, n_params: int) -> Iterator[tuple[Observations, torch.Tensor]]:
    size = max(1, MOST_NUMBERS // n_params)
    for data, weights in weighted:
        for first in range(0, len(data), size):
            yield data[first : first + size], weights[first : first + size]


def _blocks(
    task: EstimationTask,
    params: torch.Tensor,
    weighted: Weighted,
    groups: tuple[torch.Tensor, ...],
    diagonal: bool,
) -> tuple[FisherBlock, ...]:
    """Return ``Σ w g gᵀ / N`` of each group of parameters, or its diagonal."""
    equation = "n,ni,ni->i" if diagonal else "n,ni,nj->ij"
    shapes = [(len(group),) * (1 if diagonal else 2) for group in groups]
    sums = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    for data, weights in _batches(weighted, task.n_params):
        scores = task.scores(params, data).detach()
        for total, group in zip(sums, groups, strict=True):
            total += torch.einsum(equation, weights, scores[:, group], scores[:, group])
    n = len(weighted[0][0])
    return tuple(FisherBlock(group, (total / n,)) for group, total in zip(groups, sums, strict=True))


def _kronecker(task: EstimationTask, params: torch.Tensor, weighted: Weighted) -> Fisher:
    """Return ``E[s sᵀ] ⊗ E[x xᵀ]`` of each layer, and dense blocks of the parameters in none."""
    indices: list[torch.Tensor] = []
    factors: list[list[torch.Tensor]] = []
    for data, weights in weighted:
        layers = task.layers(params, data)
        if not layers:
            raise UsageError(f'{type(task).__name__} has no layers, which "kronecker" needs. Take structure="block".')
        indices = [layer.places for layer in layers]
        found = [
            [torch.einsum("n,no,np->op", weights, slopes, slopes), torch.einsum("n,ni,nj->ij", weights, inputs, inputs)]
            for _, inputs, slopes in layers
        ]
        factors = (
            [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(factors, found, strict=True)]
            if factors
            else found
        )
    n = len(weighted[0][0])
    blocks = tuple(FisherBlock(index, (g / n, a / n)) for index, (g, a) in zip(indices, factors, strict=True))
    covered = torch.zeros(task.n_params, dtype=torch.bool)
    for index in indices:
        covered[index] = True
    left = tuple(group[~covered[group]] for group in _groups(task) if not covered[group].all())
    others = _blocks(task, params, weighted, left, diagonal=False) if left else ()
    return Fisher(blocks + others, task.n_params)
