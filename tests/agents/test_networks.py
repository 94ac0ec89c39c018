"""The perceptron written by hand against torch.nn.functional, autograd and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hamiltonian_rl.agents.networks import Perceptron, PerceptronSpec

SPECS = [
    PerceptronSpec(3, hidden, 4, layer_norm=layer_norm, dueling=dueling)
    for hidden, layer_norm, dueling in itertools.product([(), (5,), (7, 6)], [False, True], [False, True])
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=str)
ROUNDING = 1e-12  # float64, sums of up to 8 numbers of size about ten, a few layers


def draw(spec: PerceptronSpec, *leading: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and inputs in float64; unlike initial ones, gains and offsets are random as well."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=spec.n_params), rng.normal(size=(*leading, spec.n_inputs))


def layers_by_torch(spec: PerceptronSpec, params: np.ndarray, x: np.ndarray) -> list[torch.Tensor]:
    """Activations of every hidden layer, and Q, by the functions of torch, walking along the flat vector."""
    rest, h, layers = torch.tensor(params), torch.tensor(x), []

    def take(*shape: int) -> torch.Tensor:
        nonlocal rest
        n = int(np.prod(shape))
        part, rest = rest[:n].reshape(shape), rest[n:]
        return part

    for size in spec.hidden:
        h = functional.linear(h, take(size, h.shape[-1]), take(size))
        if spec.layer_norm:
            h = functional.layer_norm(h, (size,), take(size), take(size), eps=1e-5)
        h = functional.relu(h)
        layers.append(h)
    if spec.dueling:
        head = functional.linear(h, take(1 + spec.n_outputs, h.shape[-1]), take(1 + spec.n_outputs))
        value, advantages = head[..., :1], head[..., 1:]
        q = value + advantages - advantages.mean(-1, keepdim=True)
    else:
        q = functional.linear(h, take(spec.n_outputs, h.shape[-1]), take(spec.n_outputs))
    assert len(rest) == 0
    return [*layers, q]


def gradient_by_hand(spec: PerceptronSpec, params: np.ndarray, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    network = Perceptron(spec, params)
    _, tape = network.forward(x)
    flat = np.full(spec.n_params, np.nan)  # whatever is not written stays NaN
    network.gradient(tape, slope, spec.split(flat))
    return flat


@every_spec
def test_values_equal_those_of_torch_functions(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 11)
    expected = layers_by_torch(spec, params, x)[-1].numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(Perceptron(spec, params)(x), expected, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(Perceptron(spec, params).forward(x)[0], expected, rtol=0, atol=ROUNDING)


@every_spec
def test_torch_module_has_the_same_values(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 11)
    expected = layers_by_torch(spec, params, x)[-1].numpy()
    found = spec.as_torch(params)(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("dueling", [False, True])
def test_values_of_a_small_network_are_those_worked_out_by_hand(dueling: bool) -> None:
    spec = PerceptronSpec(2, (2,), 2, dueling=dueling)
    hidden = [1.0, 2.0, -1.0, 1.0, 0.5, -3.0]  # weights [[1, 2], [-1, 1]], biases 0.5 and -3
    # x = (1, 2): z = (1 + 4 + 0.5, -1 + 2 - 3) = (5.5, -2), so h = (5.5, 0).
    if dueling:
        head = [1.0, 0.0, 2.0, 7.0, -2.0, 7.0, 0.5, 1.0, 0.0]  # V = 5.5 + 0.5 = 6, A = (11 + 1, -11) of mean 0.5
        expected = [17.5, -5.5]  # 6 + 12 - 0.5, 6 - 11 - 0.5
    else:
        head = [2.0, 7.0, -2.0, 7.0, 1.0, 0.0]
        expected = [12.0, -11.0]
    q = Perceptron(spec, np.array(hidden + head))(np.array([1.0, 2.0]))
    assert q.tolist() == expected  # exact in binary


@every_spec
def test_gradient_equals_autograd_of_the_torch_module(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 13, seed=1)
    slope = np.random.default_rng(2).normal(size=(13, spec.n_outputs))
    module = spec.as_torch(params)
    loss = (module(torch.tensor(x)) * torch.tensor(slope)).sum()
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = np.concatenate([gradient.numpy().ravel() for gradient in gradients])
    found = gradient_by_hand(spec, params, x, slope)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)  # rounding, enlarged by 1/σ of LayerNorm


@settings(max_examples=40, deadline=None)
@given(
    hidden=st.lists(st.integers(3, 6), max_size=2).map(tuple),
    layer_norm=st.booleans(),
    dueling=st.booleans(),
    n_outputs=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradient_is_the_limit_of_finite_differences(
    hidden: tuple[int, ...], layer_norm: bool, dueling: bool, n_outputs: int, seed: int
) -> None:
    spec = PerceptronSpec(2, hidden, n_outputs, layer_norm=layer_norm, dueling=dueling)
    params, x = draw(spec, 3, seed=seed)
    rng = np.random.default_rng(seed + 1)
    slope, direction = rng.normal(size=(3, n_outputs)), rng.normal(size=spec.n_params)
    direction *= 1e-6 / np.linalg.norm(direction)
    ends = [params + direction, params - direction]
    patterns = [[(h > 0).tolist() for h in layers_by_torch(spec, end, x)[:-1]] for end in ends]
    assume(patterns[0] == patterns[1])  # no kink of a ReLU between the two ends
    up, down = ((Perceptron(spec, end)(x) * slope).sum() for end in ends)
    found = gradient_by_hand(spec, params, x, slope) @ direction / 1e-6
    # Rounding: 1e-16 · |f| / 1e-6, |f| up to a few hundred. Curvature: 1e-12 f''' / 6, f''' up to 1e6 by
    # LayerNorm, and two of those stacked.
    np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


@every_spec
@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (2, 1, 3)], ids=str)
def test_values_keep_the_leading_shape_and_rows_do_not_mix(spec: PerceptronSpec, leading: tuple[int, ...]) -> None:
    params, x = draw(spec, *leading, seed=3)
    network = Perceptron(spec, params)
    q, _ = network.forward(x)
    assert q.shape == network(x).shape == (*leading, spec.n_outputs)
    for index in np.ndindex(leading):
        # Matrix products of another size add in another order.
        np.testing.assert_allclose(q[index], network(x[index]), rtol=0, atol=ROUNDING)


@every_spec
def test_forward_and_gradient_leave_inputs_and_parameters_as_they_are(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 5)
    before = params.copy(), x.copy()
    slope = np.ones((5, spec.n_outputs))
    first = gradient_by_hand(spec, params, x, slope)
    assert np.array_equal(first, gradient_by_hand(spec, params, x, slope))
    assert np.array_equal(params, before[0])
    assert np.array_equal(x, before[1])
    assert np.array_equal(slope, np.ones((5, spec.n_outputs)))


@every_spec
def test_torch_module_shares_memory_with_the_flat_vector(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 4)
    module = spec.as_torch(params)
    params += 0.1
    expected = layers_by_torch(spec, params, x)[-1].numpy()
    np.testing.assert_allclose(module(torch.tensor(x)).detach().numpy(), expected, rtol=0, atol=ROUNDING)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    assert (params == 7.0).all()


@every_spec
def test_same_class_gives_the_same_numbers_on_torch_tensors(spec: PerceptronSpec) -> None:
    params, x = draw(spec, 6, seed=4)
    slope = np.random.default_rng(5).normal(size=(6, spec.n_outputs))
    network = Perceptron(spec, torch.tensor(params))
    q, tape = network.forward(torch.tensor(x))
    flat = torch.full((spec.n_params,), torch.nan, dtype=torch.float64)
    network.gradient(tape, torch.tensor(slope), spec.split(flat))
    assert isinstance(q, torch.Tensor)
    np.testing.assert_allclose(q.numpy(), Perceptron(spec, params)(x), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(network(torch.tensor(x[None])).numpy()[0], q.numpy(), rtol=0, atol=ROUNDING)
    expected = gradient_by_hand(spec, params, x, slope)
    np.testing.assert_allclose(flat.numpy(), expected, rtol=0, atol=1e-10)  # as against autograd


@every_spec
def test_values_and_gradients_of_float32_parameters_are_float32(spec: PerceptronSpec) -> None:
    params = spec.initial(np.random.default_rng(0))
    q, tape = Perceptron(spec, params).forward(np.ones((2, 3), np.float32))
    assert q.dtype == np.float32
    assert {array.dtype for arrays in tape for array in arrays if array is not None} <= {np.dtype("f4"), np.dtype("?")}


@every_spec
def test_number_of_parameters_is_the_sum_over_the_layers(spec: PerceptronSpec) -> None:
    widths = [spec.n_inputs, *spec.hidden, spec.n_outputs + (1 if spec.dueling else 0)]
    expected = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
    expected += 2 * sum(spec.hidden) if spec.layer_norm else 0
    flat = np.arange(float(expected))
    assert spec.n_params == expected
    assert sum(parameter.numel() for parameter in spec.as_torch(flat).parameters()) == expected
    # The views lie one behind the other and leave nothing out.
    assert np.array_equal(np.concatenate([view.ravel() for view in spec.split(flat).values()]), flat)
    assert all(np.shares_memory(view, flat) for view in spec.split(flat).values())


@pytest.mark.parametrize("layer_norm", [False, True])
def test_initial_parameters_fill_the_range_of_one_over_root_fan_in(layer_norm: bool) -> None:
    spec = PerceptronSpec(100, (400, 25), 300, layer_norm=layer_norm)
    flat = spec.initial(np.random.default_rng(0))
    assert flat.dtype == np.float32
    assert flat.shape == (spec.n_params,)
    arrays = spec.split(flat)
    fan_ins = {"0": 100, "1": 400, "_out": 25}
    for layer, fan_in in fan_ins.items():
        # As torch.nn.Linear draws weights and biases; float32 may round up to the bound and past it.
        bound = fan_in**-0.5
        for array in (arrays[f"weight{layer}"], arrays[f"bias{layer}"]):
            assert np.abs(array).max() <= bound * (1 + 1e-6)
            # The chance that none of n uniform numbers leaves the inner three quarters is 0.75^n; n is at least 25.
            assert np.abs(array).max() > 0.75 * bound
            assert array.min() < 0 < array.max()
        weight = arrays[f"weight{layer}"]
        # A uniform number in ±b has standard deviation b/√3; of 7500 of them it is known to 0.5 %.
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    if layer_norm:
        for layer in ("0", "1"):
            assert (arrays[f"gain{layer}"] == 1.0).all()
            assert (arrays[f"offset{layer}"] == 0.0).all()


@every_spec
def test_initial_parameters_follow_from_the_seed(spec: PerceptronSpec) -> None:
    first, again, other = (spec.initial(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
