"""The least-action step against matrix functions of scipy, Riccati's equation, its limits and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hamiltonian_rl.optim import FisherRoot, LeastAction, ModelFisher
from hamiltonian_rl.optim.gains import contraction, step_gain

positive = st.floats(1e-6, 1e6)


def regression(seed: int, inputs: int = 4, outputs: int = 3) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear model in double precision, inputs and targets: its Fisher information is A ⊗ I."""
    torch.manual_seed(seed)
    model = nn.Linear(inputs, outputs, bias=False).double()
    x = torch.randn(50, inputs, dtype=torch.float64) * torch.logspace(0, -1.5, inputs, dtype=torch.float64)
    return model, x, torch.randn(50, outputs, dtype=torch.float64)


def half_square(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood: half the squared error, the mean over observations."""
    return 0.5 * (outputs - targets).square().sum(-1).mean()


def change_of(make, model, x, y, loss=half_square) -> np.ndarray:
    """The first step of an optimizer, as a flat vector."""
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = make(model)
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()
    return (nn.utils.parameters_to_vector(model.parameters()).detach() - before).numpy()


def exact_fisher_and_ascent(model, x, y) -> tuple[np.ndarray, np.ndarray]:
    """F = I ⊗ A in row-major order of the weight (out, in), and ∇ℓ, by hand."""
    A = (x.T @ x / len(x)).numpy()
    weight = model.weight.detach()
    ascent = -((x @ weight.T - y).T @ x / len(x)).numpy()
    return np.kron(np.eye(len(weight)), A), ascent.ravel()


@pytest.mark.filterwarnings("ignore:logm result")  # 1e-12 is enough here
@pytest.mark.parametrize("structure", ["dense", "block", "kronecker"])
@pytest.mark.parametrize("dt", [1e-2, 1.0, 1e2])
def test_the_step_is_scipys_matrix_function(structure, dt):
    model, x, y = regression(0)
    F, ascent = exact_fisher_and_ascent(model, x, y)
    X = 0.5 * dt * scipy.linalg.sqrtm(F / 2.0)
    asinh = scipy.linalg.logm(X + scipy.linalg.sqrtm(X @ X + np.eye(len(X))))
    expected = np.linalg.solve(F, (np.eye(len(X)) - scipy.linalg.expm(-2.0 * asinh)) @ ascent)
    fisher = ModelFisher(model, "gaussian", samples="exact")
    made = change_of(lambda m: LeastAction(m.parameters(), dt, 2.0, structure, fisher, eps=0.0), model, x, y)
    np.testing.assert_allclose(made, expected, rtol=1e-7, atol=1e-12)  # logm and sqrtm lose digits at dt = 0.01


@pytest.mark.parametrize("dt", [1e-3, 0.3, 10.0, 1e3])
def test_the_step_is_the_optimal_control_of_riccatis_equation(dt):
    model, x, y = regression(1)
    F, ascent = exact_fisher_and_ascent(model, x, y)
    n, mass = len(F), 0.5
    P = scipy.linalg.solve_discrete_are(np.eye(n), dt * np.eye(n), dt * F, dt * mass * np.eye(n))
    K = np.linalg.solve(dt * mass * np.eye(n) + dt**2 * P, dt * P)
    expected = dt * K @ np.linalg.solve(F, ascent)
    fisher = ModelFisher(model, "gaussian", samples="exact")
    made = change_of(lambda m: LeastAction(m.parameters(), dt, mass, "dense", fisher, eps=0.0), model, x, y)
    np.testing.assert_allclose(made, expected, rtol=1e-8)


def test_small_steps_follow_the_fisher_root_to_first_order_and_large_ones_are_newtons_to_second():
    model, x, y = regression(2)
    F, ascent = exact_fisher_and_ascent(model, x, y)
    root = np.linalg.solve(scipy.linalg.sqrtm(F), ascent)
    newton = np.linalg.solve(F, ascent)
    small, large = np.logspace(-5, -3, 5), np.logspace(3, 5, 5)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    gaps: dict[str, list[float]] = {"root": [], "newton": []}
    for name, steps in (("root", small), ("newton", large)):
        for dt in steps:
            model.load_state_dict(start)
            fisher = ModelFisher(model, "gaussian", samples="exact")
            made = change_of(
                lambda m, dt=dt, f=fisher: LeastAction(m.parameters(), dt, 1.0, "dense", f, eps=0.0), model, x, y
            )
            target = dt * root if name == "root" else newton
            gaps[name].append(np.linalg.norm(made - target) / np.linalg.norm(target))
    assert np.polyfit(np.log(small), np.log(gaps["root"]), 1)[0] == pytest.approx(1.0, abs=0.01)
    assert np.polyfit(np.log(large), np.log(gaps["newton"]), 1)[0] == pytest.approx(-2.0, abs=0.01)


def test_the_fisher_root_is_scipys():
    model, x, y = regression(3)
    F, ascent = exact_fisher_and_ascent(model, x, y)
    expected = 0.1 * np.linalg.solve(scipy.linalg.sqrtm(F), ascent)
    fisher = ModelFisher(model, "gaussian", samples="exact")
    made = change_of(lambda m: FisherRoot(m.parameters(), 0.1, "kronecker", fisher, eps=0.0), model, x, y)
    np.testing.assert_allclose(made, expected, rtol=1e-10)


@pytest.mark.parametrize("structure", ["dense", "kronecker"])
def test_each_mode_of_a_quadratic_contracts_as_stated_and_never_overshoots(structure):
    model, x, y = regression(4, outputs=1)
    F, ascent = exact_fisher_and_ascent(model, x, y)
    values, vectors = np.linalg.eigh(F)
    best = model.weight.detach().numpy().ravel() + np.linalg.solve(F, ascent)
    optimizer = LeastAction(
        model.parameters(),
        3.0,
        1.0,
        structure,
        ModelFisher(model, "gaussian", samples="exact"),
        betas=(0.0, 0.9),
        eps=0.0,
    )
    distances = []
    for _ in range(6):
        distances.append(vectors.T @ (model.weight.detach().numpy().ravel() - best))
        optimizer.zero_grad()
        half_square(model(x), y).backward()
        optimizer.step()
    ratios = np.array(distances[1:]) / np.array(distances[:-1])
    stated = np.exp(-2.0 * np.arcsinh(1.5 * np.sqrt(values)))
    np.testing.assert_allclose(ratios, np.broadcast_to(stated, ratios.shape), rtol=1e-7)
    assert np.all(ratios > 0.0)


@given(phi=positive, length=positive, eps=st.floats(0.0, 10.0))
def test_no_mode_moves_further_than_to_the_maximum(phi, length, eps):
    moved = float(step_gain(torch.tensor(phi, dtype=torch.float64), length, 0.5 * length, eps)) * phi
    assert 0.0 < moved <= 1.0 + 1e-12


@given(phi=positive, dt=positive, mass=positive)
def test_gain_and_contraction_are_one_closed_form(phi, dt, mass):
    value, length = torch.tensor(phi, dtype=torch.float64), dt / mass**0.5
    kept = 1.0 - float(step_gain(value, length, 0.5 * length, 0.0)) * phi
    assert kept == pytest.approx(math.exp(-2.0 * math.asinh(0.5 * dt * math.sqrt(phi / mass))), abs=1e-12)
    assert kept == pytest.approx(float(contraction(value, dt, mass)), abs=1e-12)


def test_a_zero_eigenvalue_moves_by_the_damping_and_not_by_infinity():
    assert float(step_gain(torch.zeros(()), 0.3, 0.15, 0.01)) == pytest.approx(30.0)


@pytest.mark.parametrize("kind", [LeastAction, FisherRoot])
@pytest.mark.parametrize("structure", ["dense", "block", "kronecker", "diagonal"])
def test_without_damping_nothing_moves_where_nothing_is_known(kind, structure):
    param = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = kind([param], 0.1, structure=structure, eps=0.0)
    for gradient in ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]):
        param.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    assert param[0, 1] < 1.0
    assert param[0, 0] == param[1, 0] == param[1, 1] == 1.0


@pytest.mark.parametrize("kind", [LeastAction, FisherRoot])
def test_turning_the_inputs_turns_the_step(kind):
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))[0]
    changes = []
    for turned in (False, True):
        model, x, y = regression(6)
        if turned:
            x = x @ turn
            with torch.no_grad():
                model.weight.copy_(model.weight @ turn)
        fisher = ModelFisher(model, "gaussian", samples="exact")
        change = change_of(lambda m, f=fisher: kind(m.parameters(), 0.7, structure="kronecker", fisher=f), model, x, y)
        changes.append(change.reshape(3, 4) @ turn.T.numpy() if turned else change.reshape(3, 4))
    np.testing.assert_allclose(changes[0], changes[1], rtol=1e-9)


def test_the_newton_limit_does_not_see_the_scale_of_the_inputs():
    scale = torch.tensor([1.0, 10.0, 0.1, 5.0], dtype=torch.float64)
    changes = []
    for scaled in (False, True):
        model, x, y = regression(7)
        if scaled:
            x = x * scale
            with torch.no_grad():
                model.weight.copy_(model.weight / scale)
        fisher = ModelFisher(model, "gaussian", samples="exact")
        made = change_of(lambda m, f=fisher: LeastAction(m.parameters(), 1e9, 1.0, "dense", f, eps=0.0), model, x, y)
        changes.append(made.reshape(3, 4) * (scale.numpy() if scaled else 1.0))
    np.testing.assert_allclose(changes[0], changes[1], rtol=1e-7)
