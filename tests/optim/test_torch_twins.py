"""The diagonal with the data's own gradients is RMSprop, Adam and AdamW (Eq. 31-32)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hamiltonian_rl.optim import FisherRoot, LeastAction
from hamiltonian_rl.principles.lagrangian import adam_step

STEPS = 300


def trained(make, dtype=torch.float32) -> list[torch.Tensor]:
    """Parameters after `STEPS` steps on a small network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    optimizer = make(model.parameters())
    for _ in range(STEPS):
        x = torch.randn(8, 6, dtype=dtype)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (3 * torch.sigmoid(x[:, 0])).long()).backward()
        optimizer.step()
    return [param.detach() for param in model.parameters()]


TWINS = {
    "Adam": (
        lambda p, **k: torch.optim.Adam(p, lr=3e-3, betas=(0.9, 0.999)),
        lambda p, **k: FisherRoot(p, 3e-3, "diagonal", betas=(0.9, 0.999), **k),
    ),
    "AdamW": (
        lambda p, **k: torch.optim.AdamW(p, lr=3e-3, betas=(0.8, 0.99), weight_decay=0.1),
        lambda p, **k: FisherRoot(p, 3e-3, "diagonal", betas=(0.8, 0.99), weight_decay=0.1, **k),
    ),
    "RMSprop": (
        lambda p, **k: torch.optim.RMSprop(p, lr=1e-3, alpha=0.99),
        lambda p, **k: FisherRoot(p, 1e-3, "diagonal", betas=(0.0, 0.99), bias_correction=False, **k),
    ),
    "Adam that climbs": (
        lambda p, **k: torch.optim.Adam(p, lr=3e-3, maximize=True),
        lambda p, **k: FisherRoot(p, 3e-3, "diagonal", betas=(0.9, 0.999), maximize=True, **k),
    ),
}


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("name", TWINS)
def test_the_diagonal_fisher_root_is_torchs_optimizer_to_the_last_bit(name, foreach):
    theirs, ours = TWINS[name]
    for theirs_param, our_param in zip(trained(theirs), trained(lambda p: ours(p, foreach=foreach)), strict=True):
        assert torch.equal(theirs_param, our_param)


def test_the_diagonal_fisher_root_is_equation_32_of_the_principles():
    start, draw = np.linspace(-1.0, 1.0, 5), np.random.default_rng(0)
    param = nn.Parameter(torch.tensor(start))
    optimizer = FisherRoot([param], 1e-2, "diagonal", betas=(0.9, 0.999))
    expected, momentum, fisher = start.copy(), np.zeros(5), np.zeros(5)
    for step in range(1, STEPS + 1):
        gradient = draw.normal(size=5)
        param.grad = torch.tensor(gradient)
        optimizer.step()
        adam_step(expected, gradient, momentum, fisher, step=step, learning_rate=1e-2)
    np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_the_diagonal_least_action_step_goes_over_into_adam_as_dt_vanishes():
    gaps = []
    for dt in (1e-1, 1e-2, 1e-3):
        made = []
        for optimizer in (LeastAction, FisherRoot):
            param = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
            param.grad = torch.tensor([0.3, 2.0], dtype=torch.float64)
            optimizer([param], dt, structure="diagonal", eps=0.0).step()
            made.append(param.detach() - torch.tensor([1.0, -2.0], dtype=torch.float64))
        gaps.append(float((made[0] - made[1]).norm() / made[1].norm()))
    slope = np.polyfit(np.log([1e-1, 1e-2, 1e-3]), np.log(gaps), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


def test_the_diagonal_least_action_step_is_the_closed_form_of_adams_averages():
    draw, dt, mass, beta1, beta2 = np.random.default_rng(1), 0.7, 3.0, 0.8, 0.9
    param = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = LeastAction([param], dt, mass, "diagonal", betas=(beta1, beta2), eps=0.05)
    expected, m, v = np.zeros(4), np.zeros(4), np.zeros(4)
    for step in range(1, 40):
        g = draw.normal(size=4)
        param.grad = torch.tensor(g)
        optimizer.step()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        phi = v / (1 - beta2**step)
        moved = -np.expm1(-2.0 * np.arcsinh(0.5 * dt * np.sqrt(phi / mass)))
        length = dt / mass**0.5
        expected -= length / (length * phi / moved + 0.05) * m / (1 - beta1**step)  # damped in the denominator
    np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12)
