"""Where the Fisher information comes from, and what each structure keeps of it."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim import FisherRoot, GradientWarning, LeastAction, ModelFisher
from hamiltonian_rl.optim.likelihoods import ROOTS, directions
from hamiltonian_rl.optim.running import eigenbasis

DOUBLE = torch.float64


def network(*sizes: int, seed: int = 0) -> nn.Sequential:
    """A tanh network in double precision."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for place, (n, m) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Tanh()] * bool(place) + [nn.Linear(n, m)]
    return nn.Sequential(*layers).double()


def looked(model: nn.Module, x: Tensor, likelihood="categorical", structure="dense", **options):
    """An optimizer's state after one look at a batch, and the optimizer."""
    fisher = ModelFisher(model, likelihood, **options)
    optimizer = LeastAction(model.parameters(), 0.0, structure=structure, fisher=fisher, corrected=False)
    model(x).sum().backward()
    optimizer.step()
    return optimizer


def negative_log_likelihood(likelihood: str, z: Tensor, y: Tensor) -> Tensor:
    """Written out, of one observation with outputs (O,)."""
    if likelihood == "categorical":
        return z.logsumexp(-1) - z[int(y[0])]
    if likelihood == "gaussian":
        return 0.5 * (z - y).square().sum()
    if likelihood == "bernoulli":
        return (nn.functional.softplus(z) - y * z).sum()
    return (z.exp() - y * z).sum()


def jacobians(model: nn.Module, x: Tensor) -> Tensor:
    """∂z/∂θ of each observation, (N, O, P), by a loop over outputs."""
    params = list(model.parameters())
    rows = []
    for one in x:
        z = model(one[None])[0]
        each = [torch.autograd.grad(output, params, retain_graph=True) for output in z]
        rows.append(torch.stack([torch.cat([g.reshape(-1) for g in gradient]) for gradient in each]))
    return torch.stack(rows)


def brute_force_fisher(model: nn.Module, x: Tensor, likelihood: str) -> Tensor:
    """E[Jᵀ H J] with H the Hessian of the written-out likelihood in z (linear in y, so that any y will do)."""
    J = jacobians(model, x)
    y = torch.zeros(J.shape[1], dtype=DOUBLE)
    with torch.no_grad():
        outputs = model(x)
    H = torch.stack(
        [torch.autograd.functional.hessian(lambda z: negative_log_likelihood(likelihood, z, y), z) for z in outputs]
    )
    return torch.einsum("nop,noq,nqr->pr", J, H, J) / len(x)


@pytest.mark.parametrize("likelihood", sorted(ROOTS))
def test_the_exact_fisher_matrix_is_that_of_a_loop_over_observations(likelihood):
    model, x = network(3, 2, 3), torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    optimizer = looked(model, x, likelihood, samples="exact")
    state = optimizer.state[next(model.parameters())]
    torch.testing.assert_close(state["fisher"], brute_force_fisher(model, x, likelihood), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("likelihood", sorted(ROOTS))
def test_drawn_scores_have_the_exact_information_as_their_second_moment(likelihood):
    z = torch.tensor([[0.3, -0.5, 1.0]], dtype=DOUBLE)
    draws = 40_000
    s = directions(likelihood, z.expand(draws, 3), 1, torch.Generator().manual_seed(2))[0]
    exact = directions(likelihood, z, "exact", torch.Generator())[:, 0]
    products = s[:, :, None] * s[:, None, :]
    standard_error = products.std(0) / draws**0.5
    assert bool(((products.mean(0) - exact.T @ exact).abs() <= 5.0 * standard_error + 1e-12).all())


@pytest.mark.parametrize("kind", [LeastAction, FisherRoot])
@pytest.mark.parametrize("corrected", [True, False])
def test_kronecker_is_dense_where_the_fisher_matrix_is_a_kronecker_product(kind, corrected):
    """One linear layer with Gaussian outputs: F = A ⊗ I, bias included."""
    ends = []
    for structure in ("dense", "kronecker"):
        model = network(4, 3)
        fisher = ModelFisher(model, "gaussian", samples="exact")
        # The last axis of the dense order is (weight, bias), of the matrix (weight | bias): the same modes.
        optimizer = kind(
            model.parameters(),
            0.5,
            structure=structure,
            fisher=fisher,
            betas=(0.5, 0.9),
            corrected=corrected,
            refresh=1,
        )
        draw = torch.Generator().manual_seed(3)
        for _ in range(5):
            x, y = torch.randn(9, 4, dtype=DOUBLE, generator=draw), torch.randn(9, 3, dtype=DOUBLE, generator=draw)
            optimizer.zero_grad()
            (0.5 * (model(x) - y).square().sum(-1).mean()).backward()
            optimizer.step()
            if corrected:  # an average over several eigenbases is one of the matrix in none of them
                break
        ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-12)


class TwoHeads(nn.Module):
    """Two linear maps of two inputs, side by side: their parameters are independent."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x[:, :2]), self.second(x[:, 2:])], 1)


def test_block_is_dense_where_the_blocks_are_independent():
    ends = []
    for structure in ("dense", "block"):
        torch.manual_seed(4)
        model = TwoHeads().double()
        fisher = ModelFisher(model, "gaussian", samples="exact")
        optimizer = LeastAction(model.parameters(), 2.0, structure=structure, fisher=fisher, refresh=1)
        for _ in range(4):
            x, y = torch.randn(9, 5, dtype=DOUBLE), torch.randn(9, 3, dtype=DOUBLE)
            optimizer.zero_grad()
            (0.5 * (model(x) - y).square().sum(-1).mean()).backward()
            optimizer.step()
        ends.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-12)


def test_the_diagonal_is_that_of_the_dense_matrix():
    x = torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    states = []
    for structure in ("dense", "diagonal"):
        model = network(3, 2, 3)
        optimizer = looked(model, x, structure=structure, samples="exact")
        states.append([optimizer.state[p].get("fisher") for p in model.parameters()])
    found = torch.cat([diagonal.reshape(-1) for diagonal in states[1]]) / (1 - 0.95)
    torch.testing.assert_close(found, states[0][0].diagonal(), rtol=1e-10, atol=1e-14)


def test_kronecker_factors_are_second_moments_of_inputs_and_of_gradients_at_the_outputs():
    model, x = network(3, 2, 3), torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(6))
    state = looked(model, x, structure="kronecker", samples="exact").state[model[0].weight]
    ones = torch.cat([x, torch.ones(7, 1, dtype=DOUBLE)], 1)
    torch.testing.assert_close(state["inputs"], ones.T @ ones / 7)
    # by hand: z = W₂ tanh(o) + b, so that G = E[D W₂ᵀ H W₂ D], D = diag(1 - tanh²)
    with torch.no_grad():
        o = model[0](x)
        D, p = torch.diag_embed(1 - o.tanh() ** 2), model(x).softmax(-1)
        H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        G = (D @ model[2].weight.T @ H @ model[2].weight @ D).mean(0)
    torch.testing.assert_close(state["outputs"], G)


def test_corrected_eigenvalues_are_the_diagonal_of_the_turned_fisher_matrix():
    model, x = network(3, 2, 3), torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(7))
    exact = brute_force_fisher(model, x, "categorical")
    fisher = ModelFisher(model, samples="exact")
    optimizer = FisherRoot(model.parameters(), 0.0, structure="kronecker", fisher=fisher)
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    state = optimizer.state[model[2].weight]  # the last layer: parameters 8.. are W (3, 2) and b (3)
    order = torch.tensor(
        [8 + 2 * i + j if j < 2 else 14 + i for i in range(3) for j in range(3)]
    )  # row by row, bias last
    F = exact[order][:, order]
    U = torch.kron(state["outputs_basis"], state["inputs_basis"])
    torch.testing.assert_close(state["eigenvalues"].reshape(-1), (U.T @ F @ U).diagonal(), rtol=1e-9, atol=1e-14)


def test_tokens_of_a_sequence_are_observations_of_their_own():
    """Drawn scores of (B, T, C) outputs have the second moments of (B·T, C) ones."""
    model, x = network(3, 4), torch.randn(2, 5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(8))
    factors = []
    for inputs in (x, x.reshape(10, 3)):
        state = looked(model, inputs, structure="kronecker", samples=4, seed=1).state[model[0].weight]
        factors.append((state["inputs"], state["outputs"]))
    for sequence, flat in zip(*factors, strict=True):
        torch.testing.assert_close(sequence, flat)


def test_a_layer_used_twice_is_looked_at_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    torch.manual_seed(9)
    model, x = Twice().double(), torch.randn(6, 3, dtype=DOUBLE)
    state = looked(model, x, "gaussian", "kronecker", samples="exact").state[model.layer.weight]
    with torch.no_grad():
        W, hidden = model.layer.weight, model.layer(x)
        seen = torch.cat([torch.cat([x, hidden]), torch.ones(12, 1, dtype=DOUBLE)], 1)
    torch.testing.assert_close(state["inputs"], seen.T @ seen / 12)
    torch.testing.assert_close(state["outputs"], torch.eye(3, dtype=DOUBLE) + W.T @ W)


def test_without_a_watcher_matrices_have_shampoos_factors_and_soaps_second_moments():
    """Of one gradient both say: in its singular basis φ = σ² on the diagonal, so that the step is the polar factor."""
    M = torch.randn(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(10))
    U, _, Vh = torch.linalg.svd(M, full_matrices=False)
    param = nn.Parameter(torch.zeros(4, 3, dtype=DOUBLE))
    param.grad = M
    FisherRoot([param], 1.0, structure="kronecker", eps=1e-9).step()
    torch.testing.assert_close(param.detach(), -U @ Vh, rtol=1e-6, atol=1e-6)


def test_convolutions_embeddings_and_norms_learn_beside_linear_layers():
    torch.manual_seed(11)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm = nn.Embedding(7, 6), nn.LayerNorm(6)
            self.convolution, self.out = nn.Conv1d(6, 6, 3, padding=1), nn.Linear(6, 7)

        def forward(self, tokens: Tensor) -> Tensor:
            hidden = self.norm(self.embedding(tokens))
            return self.out(self.convolution(hidden.mT).mT.tanh())

    model = Mixed()
    tokens = torch.randint(7, (16, 10))
    optimizer = FisherRoot(model.parameters(), 0.3, fisher=ModelFisher(model, every=2))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.1
    others = (model.embedding.weight, model.norm.weight, model.convolution.weight)
    assert [optimizer.state[p]["looks"] for p in (*others, model.out.weight)] == [30] * 4


@pytest.mark.parametrize("structure", ["dense", "block", "kronecker"])
def test_singular_fisher_matrices_are_damped_and_the_gauge_of_softmax_stays_where_it_is(structure):
    """Adding a number to all logits of a class changes nothing: F and ∇ℓ vanish along it, and so does the step."""
    model = network(4, 3)
    x = torch.randn(12, 4, dtype=DOUBLE)
    x[:, 3] = 0.0  # never seen
    y = torch.randint(3, (12,))
    before = model[0].weight.detach().clone()
    optimizer = LeastAction(model.parameters(), 1.0, structure=structure, fisher=ModelFisher(model, samples="exact"))
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    change = model[0].weight.detach() - before
    assert float(change.norm()) > 0.1
    torch.testing.assert_close(change.sum(0), torch.zeros(4, dtype=DOUBLE), atol=1e-10, rtol=0.0)
    torch.testing.assert_close(change[:, 3], torch.zeros(3, dtype=DOUBLE), atol=1e-12, rtol=0.0)


def test_the_condition_number_of_a_regression_does_not_matter():
    """1e6, in a turned basis, noiseless: to 1e-6 in a hundred steps, of which gradient descent needs a million."""
    torch.manual_seed(12)
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=DOUBLE))[0]
    x = torch.randn(200, 8, dtype=DOUBLE) * torch.logspace(0, -3, 8, dtype=DOUBLE) @ turn
    best = torch.randn(8, 1, dtype=DOUBLE)
    model = nn.Linear(8, 1, bias=False).double()
    optimizer = LeastAction(
        model.parameters(), 1e4, fisher=ModelFisher(model, "gaussian", samples="exact"), betas=(0.0, 0.9), eps=0.0
    )
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * (model(x) - x @ best).square().mean()).backward()
        optimizer.step()
    np.testing.assert_allclose(model.weight.detach().numpy()[0], best.numpy()[:, 0], atol=1e-6)


def test_looks_come_every_so_many_steps_and_not_in_evaluation():
    model, x = network(3, 2), torch.randn(5, 3, dtype=DOUBLE)
    optimizer = FisherRoot(model.parameters(), 0.1, fisher=ModelFisher(model, every=3))
    for step in range(7):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        model.eval()
        model(x)
        model.train()
        with torch.no_grad():
            model(x)
        assert optimizer.state[model[0].weight]["looks"] == math.ceil((step + 1) / 3)


def test_a_watcher_ends_with_its_optimizer():
    model = network(3, 2)
    optimizer = FisherRoot(model.parameters(), 0.1, fisher=ModelFisher(model))
    assert model._forward_hooks
    del optimizer
    gc.collect()
    assert not model._forward_hooks
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"likelihood": "gausian"}, 'Did you mean "gaussian"'),
        ({"samples": 0}, "samples is 0"),
        ({"samples": "exat"}, "samples is 'exat'"),
        ({"every": 0}, "every is 0"),
        ({"every": 1.5}, "every is 1.5"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_a_wrong_option_of_the_watcher_is_named(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        ModelFisher(network(3, 2), **options)


def test_exact_directions_of_sequences_are_refused():
    model = network(3, 2)
    optimizer = FisherRoot(model.parameters(), fisher=ModelFisher(model, samples="exact"))
    with pytest.raises(UsageError, match="draw instead"):
        model(torch.zeros(2, 4, 3, dtype=DOUBLE))
    assert not optimizer.state


def test_batch_statistics_and_single_observations_do_not_go_together():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = FisherRoot(model.parameters(), structure="block", fisher=ModelFisher(model))
    with pytest.raises(UsageError, match="single observations"):
        model(torch.zeros(5, 3))
    assert not optimizer.state


def test_a_model_that_was_never_seen_is_said():
    model, other = network(3, 2), network(3, 2)
    optimizer = FisherRoot(model.parameters(), structure="dense", fisher=ModelFisher(model))
    model[0].weight.grad, model[0].bias.grad = torch.ones(2, 3, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    with pytest.raises(UsageError, match="has not seen its model"):
        optimizer.step()
    with pytest.raises(UsageError, match="not of its model"):
        FisherRoot(other.parameters(), structure="dense", fisher=ModelFisher(model))


def test_a_block_that_no_memory_holds_is_refused():
    param = nn.Parameter(torch.zeros(200, 200))
    param.grad = torch.ones(200, 200)
    with pytest.raises(UsageError, match="40000 parameters"):
        FisherRoot([param], structure="dense").step()


def test_first_gradients_whose_squares_overflow_are_said():
    param = nn.Parameter(torch.zeros(2))
    param.grad = torch.full((2,), 1e30)
    with pytest.raises(UsageError, match="squares overflow"):
        FisherRoot([param], structure="dense").step()


class Masked(nn.Module):
    """A model of two inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, mask=1.0):
        return self.layer(x) * mask


def test_a_model_called_by_keywords_is_not_split_into_observations_without_them():
    model = Masked()
    optimizer = FisherRoot(model.parameters(), structure="dense", fisher=ModelFisher(model))
    with pytest.raises(UsageError, match="'mask'"):
        model(torch.ones(4, 3), mask=torch.zeros(4, 1))
    with pytest.raises(UsageError, match="float"):
        model(torch.ones(4, 3), 0.5)
    model(torch.ones(4, 3), torch.ones(4, 1)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("structure", ["dense", "block", "kronecker", "diagonal"])
def test_of_outputs_that_are_not_numbers_no_labels_are_drawn_and_the_step_is_skipped(structure):
    model = network(3, 2)
    optimizer = FisherRoot(model.parameters(), structure=structure, fisher=ModelFisher(model))
    model(torch.full((4, 3), torch.nan, dtype=DOUBLE)).sum().backward()
    with pytest.warns(GradientWarning, match="not finite"):
        optimizer.step()
    optimizer.zero_grad()
    model(torch.zeros(0, 3, dtype=DOUBLE)).sum()  # nor of no observations
    model(torch.ones(4, 3, dtype=DOUBLE)).sum().backward()
    optimizer.step()
    assert optimizer.skipped == 1


def test_parameters_without_elements_are_nothing_to_look_at():
    model = Masked()
    model.empty = nn.Parameter(torch.zeros(0))
    optimizer = FisherRoot(model.parameters(), structure="dense", fisher=ModelFisher(model))
    (model(torch.ones(4, 3)).sum() + model.empty.sum()).backward()
    optimizer.step()
    assert len(optimizer.state[model.empty]["eigenvalues"]) == 8


def test_a_state_of_another_structure_is_refused():
    model = network(3, 2)
    optimizer = FisherRoot(model.parameters(), structure="dense")
    state = FisherRoot(model.parameters(), structure="block").state_dict()
    with pytest.raises(UsageError, match='structure "block", the optimizer of "dense"'):
        optimizer.load_state_dict(state)
    with pytest.raises(UsageError, match="another optimizer's"):
        optimizer.load_state_dict(torch.optim.Adam(model.parameters()).state_dict())
    watched = FisherRoot(model.parameters(), structure="block", fisher=ModelFisher(model))
    with pytest.raises(UsageError, match="without a ModelFisher"):
        watched.load_state_dict(state)


@pytest.mark.parametrize("length", [math.inf, math.nan, -1.0])
def test_a_step_without_a_length_is_refused(length):
    with pytest.raises(UsageError, match=r"dt .* is"):
        LeastAction(network(3, 2).parameters(), length)


def test_an_eigenbasis_that_single_precision_does_not_find_is_found_in_double():
    """Of this matrix LAPACK says in single precision that it did not converge, at least one of torch's builds."""
    torch.manual_seed(0)
    wide = torch.randn(19, 1) * torch.logspace(-25.0, 15.0, 19)[:, None]
    matrix = wide @ wide.T
    values, vectors = eigenbasis(matrix)
    torch.testing.assert_close(values[-1], matrix.trace())  # of rank one
    torch.testing.assert_close(vectors[:, -1].abs(), (wide[:, 0] / wide.norm()).abs())
