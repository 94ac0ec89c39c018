"""Estimation tasks against scipy's densities, finite differences, enumeration and their own samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation import (
    Bernoulli,
    EstimationTask,
    Exponential,
    Gaussian,
    GaussianMean,
    LinearRegression,
    LogisticRegression,
    ModuleClassifier,
    ModuleRegressor,
    Observations,
    Poisson,
    PoissonRegression,
    SoftmaxRegression,
)

N = 12
RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(N, 2))
COUNTS = np.array([0, 1, 3, 2, 0, 5, 1, 2, 2, 4, 0, 1])
BITS = (COUNTS > 1).astype(float)
CLASSES = COUNTS % 3
REALS = RNG.normal(size=N) * 2.0 + 1.0
TIMES = np.abs(REALS) + 0.1


def small_net(outputs: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, outputs))


def tasks() -> dict[str, EstimationTask]:
    return {
        "gaussian mean": GaussianMean(REALS, sigma=1.5),
        "gaussian": Gaussian(REALS),
        "bernoulli mean": Bernoulli(BITS),
        "bernoulli logit": Bernoulli(BITS, "logit"),
        "poisson rate": Poisson(COUNTS),
        "poisson log rate": Poisson(COUNTS, "log_rate"),
        "exponential rate": Exponential(TIMES),
        "exponential mean": Exponential(TIMES, "mean"),
        "linear": LinearRegression(REALS, INPUTS, sigma=0.7),
        "linear, sigma": LinearRegression(REALS, INPUTS),
        "logistic": LogisticRegression(BITS, INPUTS),
        "poisson regression": PoissonRegression(COUNTS, INPUTS, intercept=False),
        "softmax": SoftmaxRegression(CLASSES, INPUTS),
        "softmax, reference": SoftmaxRegression(CLASSES, INPUTS, reference=True),
        "classifier": ModuleClassifier(small_net(3), CLASSES, INPUTS),
        "regressor": ModuleRegressor(small_net(1), REALS, INPUTS, sigma=0.5),
        "regressor, two outputs, sigma": ModuleRegressor(small_net(2), INPUTS[:, ::-1].copy(), INPUTS, sigma=None),
    }


TASKS = tasks()
every_task = pytest.mark.parametrize("name", TASKS)


def somewhere(task: EstimationTask, seed: int = 0) -> torch.Tensor:
    """Parameters off the start, within the domain of every family here: what must be positive grows by a factor."""
    step = 0.3 * torch.rand(task.n_params, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.where(task.start > 0, task.start * (1.0 + step), task.start + step) * torch.where(
        torch.tensor([name == "mean" and isinstance(task, Bernoulli) for name in task.names]), 0.7, 1.0
    )


def test_log_likelihoods_are_those_of_scipy() -> None:
    design = np.column_stack([np.ones(N), INPUTS])
    beta, eta = np.array([0.3, -0.5, 0.8]), design @ np.array([0.3, -0.5, 0.8])
    softmax = np.exp(design @ np.array([[0, 0.1, 0.2], [0.3, -0.5, 0.8], [1.0, 0.2, -0.1]]).T)
    expected = {
        "gaussian mean": ([0.4], stats.norm.logpdf(REALS, 0.4, 1.5)),
        "gaussian": ([0.4, 2.0], stats.norm.logpdf(REALS, 0.4, 2.0)),
        "bernoulli mean": ([0.3], stats.bernoulli.logpmf(BITS, 0.3)),
        "bernoulli logit": ([0.4], stats.bernoulli.logpmf(BITS, 1.0 / (1.0 + math.exp(-0.4)))),
        "poisson rate": ([1.3], stats.poisson.logpmf(COUNTS, 1.3)),
        "poisson log rate": ([0.2], stats.poisson.logpmf(COUNTS, math.exp(0.2))),
        "exponential rate": ([1.3], stats.expon.logpdf(TIMES, scale=1.0 / 1.3)),
        "exponential mean": ([1.3], stats.expon.logpdf(TIMES, scale=1.3)),
        "linear": (beta, stats.norm.logpdf(REALS, eta, 0.7)),
        "linear, sigma": ([*beta, 0.9], stats.norm.logpdf(REALS, eta, 0.9)),
        "logistic": (beta, stats.bernoulli.logpmf(BITS, 1.0 / (1.0 + np.exp(-eta)))),
        "poisson regression": (beta[1:], stats.poisson.logpmf(COUNTS, np.exp(eta - 0.3))),
        "softmax": (
            [0, 0.1, 0.2, 0.3, -0.5, 0.8, 1.0, 0.2, -0.1],
            np.log(softmax / softmax.sum(1, keepdims=True))[np.arange(N), CLASSES],
        ),
        "softmax, reference": (
            [0.3, -0.6, 0.6, 1.0, 0.1, -0.3],  # the same with (0, 0.1, 0.2) taken off each
            np.log(softmax / softmax.sum(1, keepdims=True))[np.arange(N), CLASSES],
        ),
    }
    for name, (params, logs) in expected.items():
        found = TASKS[name].log_likelihood(torch.tensor(np.array(params, float)))
        np.testing.assert_allclose(found.numpy(), logs, rtol=1e-12, atol=1e-13, err_msg=name)  # a few roundings


def test_log_likelihoods_of_modules_are_those_of_their_outputs() -> None:
    net, x = small_net(3).double(), torch.tensor(INPUTS)
    task = TASKS["classifier"]
    expected = -torch.nn.functional.cross_entropy(net(x), torch.tensor(CLASSES), reduction="none")
    torch.testing.assert_close(task.log_likelihood(task.start), expected.detach(), rtol=1e-12, atol=0)
    net, task = small_net(2).double(), TASKS["regressor, two outputs, sigma"]
    logs = stats.norm.logpdf(INPUTS[:, ::-1], net(x).detach().numpy(), 0.8).sum(1)
    params = torch.cat([task.start[:-1], torch.tensor([0.8], dtype=torch.float64)])
    np.testing.assert_allclose(task.log_likelihood(params).numpy(), logs, rtol=1e-12)


@every_task
def test_scores_are_the_slopes_of_each_observations_log_likelihood(name: str) -> None:
    task = TASKS[name]
    params, h = somewhere(task), 1e-6
    steps = h * torch.eye(task.n_params, dtype=torch.float64)
    slopes = (task.log_likelihood(params + steps) - task.log_likelihood(params - steps)) / (2 * h)
    # Central differences: rounding of 1e-16 / h, times log-likelihoods of up to 100.
    torch.testing.assert_close(task.scores(params), slopes.T, rtol=1e-6, atol=1e-7)


@every_task
def test_a_batch_of_parameters_gives_what_each_gives_alone(name: str) -> None:
    task = TASKS[name]
    batch = torch.stack([somewhere(task, seed) for seed in range(6)]).reshape(2, 3, -1)
    found = task.log_likelihood(batch)
    assert found.shape == (2, 3, N)
    torch.testing.assert_close(found[1, 2], task.log_likelihood(batch[1, 2]), rtol=1e-12, atol=1e-12)


@every_task
def test_weighted_outcomes_give_the_fisher_information_in_closed_form(name: str) -> None:
    """Two derivations: the family's formula, and outcomes whose scores are taken by torch.func."""
    task = TASKS[name]
    params = somewhere(task)
    torch.testing.assert_close(EstimationTask.fisher(task, params), task.fisher(params), rtol=1e-10, atol=1e-12)
    total = sum(weights for _, weights in task.outcomes(params))
    torch.testing.assert_close(total, torch.ones(N, dtype=torch.float64), rtol=1e-12, atol=0)


@every_task
def test_fisher_is_minus_the_mean_curvature_over_outcomes(name: str) -> None:
    """Eq. 24: E[g gᵀ] = -E[∇²ℓ], the expectation over the outcomes of the model; modules' exactly too."""
    task = TASKS[name]
    params = somewhere(task)

    def expected(theta: torch.Tensor) -> torch.Tensor:
        return sum((w * task.log_likelihood(theta, data)).mean() for data, w in task.outcomes(params))

    curvature = torch.func.hessian(expected)(params)
    torch.testing.assert_close(-curvature, task.fisher(params), rtol=1e-9, atol=1e-10)


@every_task
def test_samples_have_scores_of_mean_zero_and_of_covariance_fisher(name: str) -> None:
    """Under the model E[g] = 0 and E[g gᵀ] = F: 5 standard errors of 400 samples of the data, on three seeds."""
    task = TASKS[name]
    params = somewhere(task)
    fisher = task.fisher(params)
    for seed in (1, 2, 3):
        many = task.data[np.tile(np.arange(N), 400)]
        scores = task.scores(params, task.sample(params, torch.Generator().manual_seed(seed), many))
        size = len(scores) ** 0.5
        assert (scores.mean(0).abs() <= 5 * scores.std(0) / size + 1e-12).all()
        squares = scores**2
        assert ((squares.mean(0) - fisher.diagonal()).abs() <= 5 * squares.std(0) / size + 1e-12).all()


@every_task
def test_scores_of_layers_are_slopes_times_inputs(name: str) -> None:
    task = TASKS[name]
    params = somewhere(task)
    scores, covered = task.scores(params), []
    for index, inputs, slopes in task.layers(params):
        outer = torch.einsum("no,ni->noi", slopes, inputs)
        torch.testing.assert_close(outer, scores[:, index], rtol=1e-10, atol=1e-12)
        covered += index.reshape(-1).tolist()
    assert len(covered) == len(set(covered))
    weights = [i for i, name in enumerate(task.names) if name != "sigma"]
    assert covered == [] if "gauss" in name or len(task.names) == 1 else sorted(covered) == weights


def brute_force_separable(task: EstimationTask, tries: int = 20_000) -> bool:
    """Whether one of many directions makes all observations as good as certain."""
    directions = torch.randn(tries, task.n_params, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return bool((task.log_likelihood(1e4 * directions).exp().min(-1).values > 0.999).any())


@pytest.mark.parametrize("reference", [False, True])
def test_separable_data_are_recognised(reference: bool) -> None:
    seen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(6, 2))
        classes = np.array([0, 1, 0, 1, 1, 0])
        for task in (LogisticRegression(classes, x), SoftmaxRegression(classes, x, reference=reference)):
            seen.add(bool(task.no_maximum()))
            if brute_force_separable(task):
                assert task.no_maximum()
    assert seen == {True, False}
    line = np.arange(8.0)
    assert LogisticRegression(line > 3, line).no_maximum()
    assert LogisticRegression([0, 0, 1, 1], [0.0, 1.0, 1.0, 2.0]).no_maximum()  # quasi-separable: a tie on the border
    assert not LogisticRegression([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0]).no_maximum()
    assert PoissonRegression([0, 0, 3, 4], [0.0, 0.0, 1.0, 1.0]).no_maximum()  # a group without any event
    assert not PoissonRegression([0, 1, 3, 4], [0.0, 0.0, 1.0, 1.0]).no_maximum()
    for x in (line * 1e-9, line * 1e9, np.column_stack([1e-9 * line, 1e9 * np.sin(line)])):
        assert LogisticRegression(line > 3, x).no_maximum()
        assert not LogisticRegression(line % 2, x).no_maximum()
    assert Bernoulli([0, 0], "logit").no_maximum()
    assert not Bernoulli([0, 0], "mean").no_maximum()


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    task = TASKS["poisson regression"]
    draws = [task.sample(somewhere(task), torch.Generator().manual_seed(seed)).targets for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_module_is_copied_and_what_is_loaded_back_is_the_parameters() -> None:
    net = small_net(3)
    before = [weight.clone() for weight in net.parameters()]
    task = ModuleClassifier(net, CLASSES, INPUTS)
    params = somewhere(task)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    task.load(params, net)
    assert next(net.parameters()).dtype == torch.float32
    torch.testing.assert_close(task.flatten(net), params, rtol=1e-7, atol=1e-7)  # single precision


def test_observations_are_taken_from_tensors_arrays_lists_and_by_batches() -> None:
    for y, x in ((REALS, INPUTS), (torch.tensor(REALS), torch.tensor(INPUTS)), (REALS.tolist(), INPUTS.tolist())):
        data = Observations.of(y, x)
        assert data.inputs is not None
        np.testing.assert_array_equal(data.targets.numpy(), REALS)
        np.testing.assert_array_equal(data[[3, 1]].inputs.numpy(), INPUTS[[3, 1]])
        np.testing.assert_array_equal(data[BITS > 0].targets.numpy(), REALS[BITS > 0])
        assert len(data[2:5]) == 3
    assert Observations.of([0, 1], torch.tensor([[3], [4]])).inputs.dtype == torch.int64  # for an embedding


def test_a_classifier_of_tokens_takes_whole_numbers() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    tokens = torch.tensor(RNG.integers(0, 5, size=(N, 2)))
    task = ModuleClassifier(net, CLASSES, tokens)
    assert task.scores(task.start).shape == (N, task.n_params)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GaussianMean([]), "no observations"),
        (lambda: GaussianMean([1.0, math.nan]), "observation 1 is not finite"),
        (lambda: GaussianMean([1.0], sigma=0.0), "sigma = 0.0"),
        (lambda: Bernoulli([0, 2]), '"y" is 2 at observation 1'),
        (lambda: Bernoulli([0, 1], "logits"), 'Did you mean "logit"'),
        (lambda: Poisson([0, -1]), '"y" is -1 at observation 1'),
        (lambda: Poisson([0.5]), "expected counts"),
        (lambda: Exponential([1.0, -2.0]), "waiting times"),
        (lambda: LogisticRegression([0, 1, 2], [1, 2, 3]), "expected 0 or 1; for more classes"),
        (lambda: LogisticRegression([1, 1, 1], [1, 2, 3]), "one class only"),
        (lambda: PoissonRegression([1, -1], [1, 2]), "expected counts"),
        (lambda: PoissonRegression([0, 0], [1, 2]), "are 0"),
        (lambda: SoftmaxRegression([0, 0], [1, 2]), "one class"),
        (lambda: SoftmaxRegression([0, 2], [1, 2]), "No observation is of class 1"),
        (lambda: SoftmaxRegression([0, 0.5], [1, 2]), "number of a class"),
        (lambda: LinearRegression([1, 2], [1, 2, 3]), "3 rows of inputs and 2 targets"),
        (lambda: LinearRegression(["a", "b"], [1, 2]), "`targets` cannot be used"),
        (lambda: LinearRegression([1.0], intercept=False), "nothing to estimate"),
        (lambda: ModuleClassifier(torch.nn.Linear(3, 2), [0, 1], [[1.0, 2.0], [1.0, 3.0]]), "does not take inputs"),
        (lambda: ModuleClassifier(torch.nn.Linear(2, 2), [0, 1, 2], [[1.0, 2.0]] * 3), "logits of shape (N, 3)"),
        (lambda: ModuleClassifier(torch.nn.Tanh(), [0, 1], [[1.0], [2.0]]), "no parameters"),
        (lambda: ModuleRegressor(torch.nn.Linear(1, 2), [0.0, 1.0], [[1.0], [2.0]]), "numbers an input"),
        (lambda: TASKS["gaussian"].checked([1.0]), "expected (2,): mean, sigma"),
        (lambda: TASKS["gaussian"].checked([1.0, math.nan]), "params[1] (sigma) is nan"),
        (lambda: Observations.from_sklearn("digit"), "digits|not installed"),
    ],
)
def test_what_is_wrong_is_a_sentence(make, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert any(part in str(caught.value) for part in says.split("|")), caught.value


def csv_file(tmp_path, text: str) -> str:
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_csv_file_gives_its_columns_and_labels(tmp_path) -> None:
    path = csv_file(tmp_path, "a, b,kind\n1,2,red\n\n3,4e1,blue\n5,-6,red\n")
    data = Observations.from_csv(path, "kind")
    assert data.labels == ("blue", "red")
    assert data.input_names == ("a", "b")
    assert data.targets.tolist() == [1.0, 0.0, 1.0]
    assert data.inputs.tolist() == [[1.0, 2.0], [3.0, 40.0], [5.0, -6.0]]
    assert data.lines == (2, 4, 5)
    assert Observations.from_csv(path, "b", inputs=["a"]).inputs.tolist() == [[1.0], [3.0], [5.0]]
    assert SoftmaxRegression(data, reference=True).names == ("red: intercept", "red: a", "red: b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("a,y\n", "no observation"),
        ("1,2\n3,4\n", "first line"),
        ("a,yy\n1,2\n", 'no column "y". Did you mean "yy"'),
        ("a,y\n1,2\n,3\n4,5\nnan,6\n", 'no number in column "a" at lines 3, 5 (2 of 4)'),
        ("a,y\n1,2\n1,inf\n", 'column "y" at line 3'),
        ("a,y\n1,2\nred,3\n", 'Column "a" of .* holds "red" at line 3'),
        ("a,y\n1,2\n1,many\n", 'Column "y" of .* holds "many" at line 3'),
        ("a,y\n1,2\n1\n", "Line 3 of .* has 1 values; expected 2"),
        ("a,a,y\n1,2,3\n", 'two columns "a"'),
        ('a,y\n1,"2\n', "cannot be read as CSV"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named_by_its_line(tmp_path, text: str, says: str) -> None:
    import re

    pattern = says if ".*" in says else re.escape(says)
    with pytest.raises(UsageError, match=pattern):
        Observations.from_csv(csv_file(tmp_path, text), "y")
    with pytest.raises(UsageError, match="There is no file"):
        Observations.from_csv(tmp_path / "none.csv", "y")


def test_labels_are_refused_where_numbers_are_meant(tmp_path) -> None:
    data = Observations.from_csv(csv_file(tmp_path, "a,y\n1,no\n2,yes\n3,no\n"), "y")
    with pytest.raises(UsageError, match="holds labels"):
        LinearRegression(data)
    assert LogisticRegression(data).data.targets.tolist() == [0.0, 1.0, 0.0]


def test_scikit_learns_sets_are_read_with_their_names() -> None:
    pytest.importorskip("sklearn")
    data = Observations.from_sklearn("iris")
    assert data.inputs.shape == (150, 4)
    assert data.labels == ("setosa", "versicolor", "virginica")
    assert SoftmaxRegression(data).n_params == 15
    with pytest.raises(UsageError, match='Did you mean "digits"'):
        Observations.from_sklearn("digit")
