"""Fisher informations of each kind and structure against closed forms, enumeration and dense matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.lagrangian import (
    cramer_rao_bound,
    curvature,
    fisher_information,
    inverse_root,
    matrix_power,
    matrix_rank,
    outer_information,
)
from hamiltonian_rl.problems.estimation import (
    Exponential,
    Gaussian,
    LinearRegression,
    LogisticRegression,
    ModuleClassifier,
    SoftmaxRegression,
)

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 3))
CLASSES = np.arange(40) % 3


def network() -> ModuleClassifier:
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3, bias=False)
    return ModuleClassifier(torch.nn.Sequential(*layers), CLASSES, INPUTS)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_matrix_powers_add_and_minus_one_is_the_inverse(power: float, damping: float) -> None:
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = root @ root.T
    damped = matrix + damping * torch.eye(5, dtype=torch.float64)
    half = matrix_power(matrix, power / 2.0, damping)
    torch.testing.assert_close(half @ half, matrix_power(matrix, power, damping), rtol=1e-9, atol=1e-9)
    if power == -1.0:
        torch.testing.assert_close(matrix_power(matrix, power, damping), torch.linalg.inv(damped), rtol=1e-9, atol=1e-9)


def test_powers_of_a_singular_matrix_are_those_of_its_pseudo_inverse() -> None:
    half = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = half @ half.T
    assert matrix_rank(matrix) == 3
    torch.testing.assert_close(matrix_power(matrix, -1.0), torch.linalg.pinv(matrix), rtol=1e-9, atol=1e-9)
    projection = matrix_power(matrix, 0.0)
    torch.testing.assert_close(projection, matrix @ torch.linalg.pinv(matrix), rtol=1e-9, atol=1e-9)
    for bad in (torch.ones(2, 3), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[math.nan]])):
        with pytest.raises(UsageError):
            matrix_power(bad, -1.0)
    with pytest.raises(UsageError, match="damping"):
        matrix_power(matrix, -1.0, damping=-1.0)


def test_the_inverse_root_does_not_see_units() -> None:
    half = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    units = torch.tensor([1e-9, 1e-3, 1e4, 1e8], dtype=torch.float64)
    matrix = half @ half.T
    root = inverse_root(matrix * units[:, None] * units)
    torch.testing.assert_close(root @ root.T * units[:, None] * units, torch.linalg.inv(matrix), rtol=1e-9, atol=1e-9)


def test_no_unbiased_estimate_varies_less_than_the_bound_and_the_mean_reaches_it() -> None:
    """Eq. 22 for the exponential mean: the sample mean's variance is μ²/N; the median over log 2 varies more."""
    draws = torch.from_numpy(np.random.default_rng(5).exponential(2.0, size=(20_000, 51)))
    task = Exponential([1.0], "mean")
    bound = cramer_rao_bound(task.fisher(torch.tensor([2.0], dtype=torch.float64)), 51).item()
    assert bound == pytest.approx(4.0 / 51.0)
    error = bound * math.sqrt(2.0 / 20_000)  # of a variance
    assert draws.mean(1).var().item() == pytest.approx(bound, abs=5 * error)
    assert (draws.median(1).values / math.log(2.0)).var().item() > bound + 5 * error


@pytest.mark.parametrize("kind", ["exact", "monte_carlo", "empirical"])
def test_diagonal_and_blocks_are_parts_of_the_dense_matrix(kind: str) -> None:
    task = network()

    def of(structure: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return fisher_information(task, task.start, kind, structure, n_samples=2, generator=generator).matrix()

    dense = of("dense")
    torch.testing.assert_close(of("diagonal"), torch.diag(dense.diagonal()), rtol=1e-9, atol=1e-12)
    inside = torch.zeros_like(dense)
    for group in task.groups:
        inside[group, group] = dense[group, group]
    torch.testing.assert_close(of("block"), inside, rtol=1e-9, atol=1e-12)


def test_the_exact_one_is_the_mean_of_the_monte_carlo_one_and_not_the_empirical_one() -> None:
    task = network()
    exact = fisher_information(task, task.start).matrix()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [fisher_information(task, task.start, "monte_carlo", generator=generator).matrix() for _ in range(300)]
    )
    error = draws.std(0) / 300**0.5
    assert ((draws.mean(0) - exact).abs() <= 5.0 * error + 1e-12).all()
    empirical = fisher_information(task, task.start, "empirical").matrix()
    scores = task.scores(task.start)
    torch.testing.assert_close(empirical, scores.T @ scores / 40)
    assert (empirical - exact).norm() > 0.1 * exact.norm()


def test_kronecker_factors_are_exact_for_one_input_and_for_slopes_that_do_not_vary() -> None:
    """One observation: G ⊗ A is the block itself. Linear regression: slopes vary alike at every input."""
    task = network()
    alone = task.with_data(task.data[:1])
    kronecker = fisher_information(alone, alone.start, structure="kronecker")
    dense = fisher_information(alone, alone.start, data=alone.data).matrix()
    found = kronecker.matrix()
    for block in kronecker.blocks:
        at = block.index.reshape(-1)
        torch.testing.assert_close(found[at[:, None], at], dense[at[:, None], at], rtol=1e-9, atol=1e-12)
    assert sorted(torch.cat([block.index.reshape(-1) for block in kronecker.blocks]).tolist()) == list(range(28))
    linear = LinearRegression(INPUTS[:, 0], INPUTS)  # its sigma is in no layer, and gets a block
    params = torch.cat([torch.ones(4), torch.tensor([2.0])]).double()
    kronecker = fisher_information(linear, params, structure="kronecker")
    torch.testing.assert_close(kronecker.matrix(), linear.fisher(params), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("structure", ["dense", "diagonal", "block", "kronecker"])
@pytest.mark.parametrize(("power", "damping"), [(-0.5, 0.1), (-1.0, 0.0), (1.0, 0.0)])
def test_times_is_the_power_of_the_whole_matrix(structure: str, power: float, damping: float) -> None:
    task = network() if power > 0 or damping else SoftmaxRegression(CLASSES, INPUTS, reference=True)
    fisher = fisher_information(task, task.start, structure=structure)
    vector = torch.randn(task.n_params, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = matrix_power(fisher.matrix(), power, damping) @ vector
    torch.testing.assert_close(fisher.times(vector, power, damping), expected, rtol=1e-8, atol=1e-10)


def test_a_task_without_groups_is_one_block_and_groups_that_leave_a_parameter_out_are_refused() -> None:
    task = Gaussian([1.0, 2.0, 5.0])
    dense = task.fisher(task.start)
    task.groups = ()
    torch.testing.assert_close(fisher_information(task, task.start, structure="block").matrix(), dense)
    for groups, count in (((slice(0, 1),), 0), ((slice(0, 2), slice(1, 2)), 2)):
        task.groups = groups
        with pytest.raises(UsageError, match=rf"Parameter 1 \(sigma\) is in {count} of the groups of Gaussian"):
            fisher_information(task, task.start, structure="block")


def test_curvature_and_outer_information_are_those_of_logistic_regression() -> None:
    task = LogisticRegression((CLASSES > 0).astype(float), INPUTS)
    params = torch.tensor([0.1, -0.4, 0.3, 0.2], dtype=torch.float64)
    design = np.column_stack([np.ones(40), INPUTS])
    mean = 1.0 / (1.0 + np.exp(-design @ params.numpy()))
    expected = (design.T * mean * (1.0 - mean)) @ design / 40
    np.testing.assert_allclose(curvature(task, params).numpy(), expected, rtol=1e-10)
    residual = (CLASSES > 0) - mean
    np.testing.assert_allclose(
        outer_information(task, params).numpy(), (design.T * residual**2) @ design / 40, rtol=1e-10
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "montecarlo"}, 'Did you mean "monte_carlo"'),
        ({"structure": "diag"}, 'Did you mean "diagonal"'),
        ({"kind": "monte_carlo", "n_samples": 0}, "one at least"),
        ({"structure": "kronecker"}, "has no layers"),
    ],
)
def test_what_is_wrong_is_a_sentence(options: dict, says: str) -> None:
    task = Gaussian([1.0, 2.0])
    with pytest.raises(UsageError, match=says):
        fisher_information(task, task.start, **options)
