"""One step of Adam on a flat vector against torch.optim.Adam and against its own invariances."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hamiltonian_rl.principles.lagrangian import adam_step

Make = Callable[[Any], Any]
either_kind = pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
N_STEPS, N_PARAMS = 200, 7


def random_gradients(seed: int = 0) -> np.ndarray:
    """Gradients of very different sizes, some of them zero."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(N_STEPS, N_PARAMS)) * 10.0 ** np.arange(-3, N_PARAMS - 3)
    return gradients * (rng.random(gradients.shape) < 0.9)


def run_adam(make: Make, start: np.ndarray, gradients: np.ndarray, **options: Any) -> np.ndarray:
    """Parameters after each step."""
    params, momentum, fisher = make(start), make(np.zeros_like(start)), make(np.zeros_like(start))
    path = []
    for step, gradient in enumerate(gradients, start=1):
        adam_step(params, make(gradient), momentum, fisher, step=step, **options)
        path.append(np.asarray(params).copy())
    return np.array(path)


def run_torch_adam(start: np.ndarray, gradients: np.ndarray, **options: Any) -> np.ndarray:
    params = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([params], **options)
    path = []
    for gradient in gradients:
        params.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(params.detach().numpy().copy())
    return np.array(path)


@either_kind
@pytest.mark.parametrize(
    # Float64: 200 steps, each off by a few units of 2e-16. Float32: the parameters stay below 4, so each
    # of the 200 steps rounds them by at most 1.2e-7, on both sides.
    ("dtype", "atol"),
    [(np.float64, 1e-12), (np.float32, 5e-5)],
)
@pytest.mark.parametrize(
    ("betas", "eps"),
    [((0.9, 0.999), 1e-8), ((0.8, 0.95), 1e-2), ((0.0, 0.5), 1.0)],
    ids=["defaults", "short memory", "no momentum"],
)
def test_two_hundred_steps_equal_those_of_torch_optim_adam(
    make: Make, dtype: Any, atol: float, betas: tuple[float, float], eps: float
) -> None:
    gradients = random_gradients().astype(dtype)
    start = np.random.default_rng(1).normal(size=N_PARAMS).astype(dtype)
    expected = run_torch_adam(start, gradients, lr=0.01, betas=betas, eps=eps)
    found = run_adam(make, start, gradients, learning_rate=0.01, betas=betas, eps=eps)
    assert found.dtype == dtype
    assert np.abs(expected - start).max() > 0.1  # both went somewhere
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@either_kind
def test_defaults_are_those_of_torch_optim_adam(make: Make) -> None:
    gradients, start = random_gradients() * 1e-6, np.zeros(N_PARAMS)  # so small that eps counts
    expected = run_torch_adam(start, gradients, lr=0.01)
    found = run_adam(make, start, gradients, learning_rate=0.01)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)  # rounding of 200 steps


@either_kind
def test_step_changes_the_arrays_in_place_and_leaves_the_gradient(make: Make) -> None:
    params, momentum, fisher = (make([0.0, 0.0]) for _ in range(3))
    gradient = make([2.0, -4.0])
    adam_step(params, gradient, momentum, fisher, step=1, learning_rate=0.5, betas=(0.5, 0.75))
    # m = (1 - 0.5) g and v = (1 - 0.75) g², both exact in binary.
    assert momentum.tolist() == [1.0, -2.0]
    assert fisher.tolist() == [1.0, 4.0]
    assert gradient.tolist() == [2.0, -4.0]
    # m̂ = g, v̂ = g²: against the sign of the gradient, by the step size, less about 0.5 eps / |g| = 3e-9.
    np.testing.assert_allclose(np.asarray(params), [-0.5, 0.5], rtol=0, atol=1e-8)


@either_kind
@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e6])
def test_first_step_is_as_long_as_the_step_size_where_eps_is_small(make: Make, size: float) -> None:
    gradient, alpha, eps = size * np.array([1.0, -0.3, 20.0]), 0.1, 1e-20
    path = run_adam(make, np.zeros(3), gradient[None], learning_rate=alpha, eps=eps)
    # Off by eps / |g|, at most 4e-8 here.
    np.testing.assert_allclose(path[0], -alpha * np.sign(gradient), rtol=5e-8)


@either_kind
def test_first_step_is_shorter_by_eps_beside_the_gradient(make: Make) -> None:
    # α |g| / (|g| + ε): with ε = |g| the step is halved, with ε = 3 |g| quartered.
    path = run_adam(make, np.zeros(2), np.array([[3.0, -1.0]]), learning_rate=0.1, eps=3.0)
    np.testing.assert_allclose(path[0], [-0.05, 0.025], rtol=1e-12)  # a few roundings


@either_kind
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_path_does_not_depend_on_the_scale_of_the_gradients_where_eps_is_small(make: Make, scale: float) -> None:
    gradients, start = random_gradients(), np.zeros(N_PARAMS)
    gradients[0] = 1.0  # no 0 / 0 at the first step
    plain = run_adam(make, start, gradients, learning_rate=0.01, eps=1e-30)
    scaled = run_adam(make, start, scale * gradients, learning_rate=0.01, eps=1e-30)
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-12)  # rounding of 200 steps of 0.01


def test_averages_that_fall_below_the_smallest_number_are_zero_and_no_error() -> None:
    params, momentum, fisher = (np.full(2, 1.5e-45, np.float32) for _ in range(3))
    with np.errstate(all="raise"):
        for step in range(1, 50):
            adam_step(params, np.zeros(2, np.float32), momentum, fisher, step=step, learning_rate=1e-3)
    assert np.isfinite(params).all()


def test_adam_and_the_agent_that_steps_by_it_are_there_without_torch() -> None:
    code = "import sys, hamiltonian_rl.agents.dqn; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
