"""Traced functions against torch: values, first and second derivatives, kinks, shapes; what cannot be traced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from hamiltonian_rl.tracing import trace as trace_module
from hamiltonian_rl.tracing.expressions import Graph, evaluate, gradient
from hamiltonian_rl.tracing.operations import ARRAYS
from hamiltonian_rl.tracing.trace import UntracedOperation, trace
from hamiltonian_rl.tracing.vector_code import LANES, Library

MATRIX = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.1, -0.7]], dtype=torch.float64)
VECTOR = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)

# Of x and y, both of length three.
SMOOTH: dict[str, Callable[..., torch.Tensor]] = {
    "add": lambda x, y: x + y,
    "add a number": lambda x, y: 2.5 + x + 1,
    "add, scaled": lambda x, y: torch.add(x, y, alpha=3),
    "subtract": lambda x, y: x - y,
    "subtract, scaled": lambda x, y: torch.sub(x, y, alpha=0.5),
    "subtract from a number": lambda x, y: 1.5 - x,
    "reverse subtract": lambda x, y: torch.rsub(x, y, alpha=2),
    "multiply": lambda x, y: x * y * 3,
    "divide": lambda x, y: x / (y.abs() + 0.5) / 7,
    "divide a number": lambda x, y: 2.0 / (x + 4.0),
    "negative": lambda x, y: -x,
    "reciprocal": lambda x, y: (x + 4.0).reciprocal(),
    "square": lambda x, y: x.square() * y,
    "power 0": lambda x, y: x**0 + y,
    "power 1": lambda x, y: x**1,
    "power 2": lambda x, y: x**2,
    "power 3": lambda x, y: x**3,
    "power 4": lambda x, y: x**4,
    "power 5": lambda x, y: x**5,
    "power -1": lambda x, y: (x + 4.0) ** -1,
    "power -2": lambda x, y: (x + 4.0) ** -2,
    "power 0.5": lambda x, y: (x + 4.0) ** 0.5,
    "power -0.7": lambda x, y: (x + 4.0) ** -0.7,
    "power of two tensors": lambda x, y: (x.abs() + 0.2) ** y,
    "power of a number": lambda x, y: 1.7**x,
    "sine": lambda x, y: (x * y).sin(),
    "cosine": lambda x, y: (x * y).cos(),
    "tangent": lambda x, y: (0.3 * x).tan(),
    "exponential": lambda x, y: x.exp(),
    "logarithm": lambda x, y: (x + 4.0).log(),
    "logarithm of one more": lambda x, y: (x + 4.0).log1p(),
    "root": lambda x, y: (x + 4.0).sqrt(),
    "reciprocal root": lambda x, y: (x + 4.0).rsqrt(),
    "softplus": lambda x, y: torch.nn.functional.softplus(x) + torch.nn.functional.softplus(30.0 * y),
    "unknown of constants": lambda x, y: x * torch.lgamma(torch.tensor([2.5, 4.0]).double()).sum() + y,
    "tanh": lambda x, y: x.tanh(),
    "arc tangent": lambda x, y: x.atan(),
    "sigmoid": lambda x, y: x.sigmoid(),
    "relu": lambda x, y: x.relu() * y,
    "absolute": lambda x, y: x.abs() * x,
    "floor": lambda x, y: (5.0 * x).floor() * y,
    "sign": lambda x, y: x.sign() * y,
    "minimum": lambda x, y: torch.minimum(x, y) * x,
    "maximum": lambda x, y: torch.maximum(x, y) * x,
    "remainder by a number": lambda x, y: (5.0 * x) % 1.3,
    "remainder": lambda x, y: (5.0 * x) % (y.abs() + 0.5),
    "clamp": lambda x, y: x.clamp(-0.5, 0.5) * y,
    "clamp by tensors": lambda x, y: torch.clamp(x, y - 0.3, y + 0.3) * y,
    "clamp below": lambda x, y: x.clamp(min=0.1) ** 2,
    "clamp above": lambda x, y: x.clamp(max=0.1) ** 2,
    "clamp_min": lambda x, y: torch.clamp_min(x, 0.1) * torch.clamp_min(x, y),
    "clamp_max": lambda x, y: torch.clamp_max(x, 0.1) * torch.clamp_max(x, y),
    "less": lambda x, y: (x < y) * x + (x < 0.2) * y,
    "less or equal": lambda x, y: (x <= y) * x + (x <= 0.2) * y,
    "greater": lambda x, y: (x > y) * x + (x > 0.2) * y,
    "greater or equal": lambda x, y: (x >= y) * x + (x >= 0.2) * y,
    "equal": lambda x, y: (x.floor() == y.floor()) * x,
    "not equal": lambda x, y: (x.floor() != y.floor()) * x,
    "and": lambda x, y: ((x > 0) & (y > 0)) * x,
    "or": lambda x, y: ((x > 0) | (y > 0)) * x,
    "not": lambda x, y: (~(x > 0)) * x,
    "logical and": lambda x, y: torch.logical_and(x > 0, y > 0) * x,
    "logical or": lambda x, y: torch.logical_or(x > 0, y > 0) * x,
    "logical not": lambda x, y: torch.logical_not(x > 0) * x,
    "where": lambda x, y: torch.where(x > y, x * y, x.sin()),
    "where, numbers": lambda x, y: torch.where(x > 0.0, 1.0, y),
    "where, one truth": lambda x, y: torch.where(x[0] > 0.0, y, x),
    "sum": lambda x, y: (x * y).sum(),
    "sum of an axis": lambda x, y: torch.stack([x, y, x * y]).sum(0),
    "sum of axes, kept": lambda x, y: torch.stack([x, y]).sum((0, 1), keepdim=True) * x,
    "sum of the last axis, kept": lambda x, y: torch.stack([x, y]).sum(-1, keepdim=True) * y,
    "mean": lambda x, y: (x * y).mean(),
    "mean of an axis": lambda x, y: torch.stack([x, y * x]).mean(0),
    "mean, kept": lambda x, y: torch.stack([x, y * x]).mean(-1, keepdim=True),
    "product": lambda x, y: (x + y).prod(),
    "product of an axis": lambda x, y: torch.stack([x, y, x]).prod(0),
    "largest of an axis": lambda x, y: torch.stack([x, y, x * y]).amax(-1),
    "any": lambda x, y: torch.stack([x > 0.3, y > 0.3]).any(0) * x,
    "any of all": lambda x, y: (x > 0.3).any() * y,
    "all": lambda x, y: torch.stack([x > -0.3, y > -0.3]).all(0) * x,
    "all of all": lambda x, y: (x > -0.3).all() * y,
    "matrix by vector": lambda x, y: MATRIX @ x,
    "vector by matrix": lambda x, y: x @ MATRIX.T,
    "vector by vector": lambda x, y: x @ y,
    "dot": lambda x, y: torch.dot(x, VECTOR),
    "mv": lambda x, y: torch.mv(MATRIX, x * y),
    "matrix by matrix": lambda x, y: torch.stack([x, y]) @ MATRIX.T,
    "mm": lambda x, y: torch.mm(torch.stack([x, y]), torch.stack([y, x]).t()),
    "matmul": lambda x, y: torch.matmul(torch.stack([x, y]), x),
    "addmv": lambda x, y: torch.addmv(x[:2], MATRIX, y),
    "addmm": lambda x, y: torch.addmm(x[:2], torch.stack([x, y]), MATRIX.T),
    "linear": lambda x, y: torch.nn.functional.linear(x, MATRIX, VECTOR[:2]),
    "transpose": lambda x, y: torch.stack([x, y * x]).transpose(0, 1),
    "swap the last": lambda x, y: torch.stack([x, y * x]).transpose(-1, -2),
    "t": lambda x, y: torch.stack([x, y * x]).t(),
    "permute": lambda x, y: torch.stack([x, y * x])[None].permute(2, 0, 1),
    "stack": lambda x, y: torch.stack([x, y], -1),
    "concatenate": lambda x, y: torch.cat([x, y[:1], x * y], -1),
    "concatenate matrices": lambda x, y: torch.cat([torch.stack([x, y]), torch.stack([y, x])], 1),
    "unbind": lambda x, y: x.unbind(-1)[0] * y.unbind(0)[2] + x.unbind()[1],
    "select": lambda x, y: x[0] * y[-1] + torch.stack([x, y])[1, 2],
    "select an axis": lambda x, y: torch.stack([x, y])[..., 1],
    "slice": lambda x, y: x[1:] * y[:-1] + x[::2],
    "slice an axis": lambda x, y: torch.stack([x, y])[:, 1:],
    "index": lambda x, y: x[[2, 0]] * y[torch.tensor([1, 1])],
    "index after a slice": lambda x, y: torch.stack([x, y])[:, [2, 0]],
    "new axis": lambda x, y: x[:, None] * y[None, :],
    "unsqueeze": lambda x, y: x.unsqueeze(-1) * y.unsqueeze(0),
    "squeeze": lambda x, y: x[None, :, None].squeeze() * y[None].squeeze(0),
    "squeeze axes": lambda x, y: x[None, :, None].squeeze((0, 2)) * y,
    "view": lambda x, y: torch.stack([x, y]).view(3, 2),
    "reshape": lambda x, y: torch.stack([x, y]).t().reshape(-1),
    "flatten": lambda x, y: (x[:, None] * y).flatten(),
    "expand": lambda x, y: x[:, None].expand(-1, 2) * y[:, None],
    "expand in front": lambda x, y: x.expand(2, 3) * 2.0,
    "flip": lambda x, y: x.flip(0) * y,
    "flip axes": lambda x, y: torch.stack([x, y]).flip((0, 1)),
    "roll": lambda x, y: x.roll(1) * y + x.roll(-1, 0),
    "clone": lambda x, y: x.clone() * y,
    "double": lambda x, y: x.double() * (y > 0).double(),
    "zeros": lambda x, y: torch.zeros(3, dtype=torch.float64) + x,
    "ones": lambda x, y: torch.ones(3, dtype=torch.float64) * x,
    "full": lambda x, y: torch.full((3,), 2.5, dtype=torch.float64) * x,
    "arange": lambda x, y: torch.arange(3) * x,
    "eye": lambda x, y: torch.eye(3, dtype=torch.float64) @ x,
    "a tensor made inside": lambda x, y: torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) * x,
    "zeros like": lambda x, y: torch.zeros_like(x) + y,
    "ones like": lambda x, y: torch.ones_like(x) * y,
    "full like": lambda x, y: torch.full_like(x, 2.5) * y,
    "a constant": lambda x, y: x[..., 0] * 0.0 - 1.0,
    "norm by hand": lambda x, y: (x**2).sum(-1).sqrt() * y,
}
# Kinks: torch's choice of a slope is ours.
KINKS = {name: SMOOTH[name] for name in ("relu", "absolute", "minimum", "maximum", "clamp below", "clamp above")} | {
    "absolute alone": lambda x, y: x.abs(),
    "larger of two": lambda x, y: torch.stack([x, y]).amax(0),
    "clamp": lambda x, y: x.clamp(-1.0, 1.0),
    "clamp by tensors": lambda x, y: torch.clamp(x, y, y + 1.0),
    "clamp_min by a tensor": lambda x, y: torch.clamp_min(x, y),
    "clamp_max by a tensor": lambda x, y: torch.clamp_max(x, y),
    "crossed bounds": lambda x, y: x.clamp(1.0, -1.0),
    "sign": lambda x, y: x.sign() * y,
    "where": lambda x, y: torch.where(x > 0, x, y),
    "hinge": lambda x, y: (y - x).clamp(min=0.0) ** 2,
    "nested": lambda x, y: torch.minimum(torch.maximum(x, y), 1.0 + x * 0),
    "power 0 at zero": lambda x, y: x**0,
    "power 2 at zero": lambda x, y: x**2,
    "power 3 at zero": lambda x, y: x**3,
    "power 1.5 at zero": lambda x, y: x.abs() ** 1.5,
    "root at zero": lambda x, y: x.clamp(min=0.0).sqrt(),
}


def _traced(function: Callable[..., torch.Tensor], points: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return value, gradient and Hessian of a weighted sum of outputs at points ``(P, 6)``: of torch, and traced."""
    size = len(torch.atleast_1d(function(*torch.ones(2, 3, dtype=torch.float64))).flatten())
    weights = np.linspace(0.5, 1.5, size)

    def total(z: torch.Tensor) -> torch.Tensor:
        return (torch.as_tensor(weights) * function(z[:3], z[3:]).flatten()).sum()

    where = torch.as_tensor(points)
    expected = [
        np.stack([function(z[:3], z[3:]).flatten().double().numpy() for z in where]),
        np.stack([torch.autograd.functional.jacobian(total, z).numpy() for z in where]),
        np.stack([torch.autograd.functional.hessian(total, z).numpy().ravel() for z in where]),
    ]
    graph = Graph()
    (outputs,) = trace(function, graph, [("x", 3), ("y", 3)])
    assert outputs.shape == function(*torch.ones(2, 3, dtype=torch.float64)).shape
    inputs = [graph.input(block, i) for block in "xy" for i in range(3)]
    slopes = gradient(sum((w * e for w, e in zip(weights, outputs.flat, strict=True)), graph.constant(0.0)), inputs)
    bends = [bend for slope in slopes for bend in gradient(slope, inputs)]
    blocks = [list(outputs.flat), slopes, bends]
    found = Library({"f": (["x", "y"], blocks)})("f", [points.T[:3], points.T[3:]])
    plain = evaluate([e for block in blocks for e in block], {e.value: points[:, i] for i, e in enumerate(inputs)})
    for machine, number in zip(np.concatenate(found), plain, strict=True):
        np.testing.assert_allclose(machine, np.broadcast_to(number, LANES), rtol=1e-12, atol=1e-12)
    return expected, [block.T for block in found]


@pytest.mark.parametrize("name", SMOOTH)
def test_an_operation_is_traced_as_torch_does_it_with_both_derivatives(name: str) -> None:
    points = np.random.default_rng(0).normal(size=(LANES, 6))
    for expected, found in zip(*_traced(SMOOTH[name], points), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_the_slope_is_the_one_that_torch_takes(name: str) -> None:
    points = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(LANES, 6))
    points[0], points[1] = 0.0, 1.0
    (value, slope, _), (found_value, found_slope, _) = _traced(KINKS[name], points)
    np.testing.assert_array_equal(found_value, value)
    np.testing.assert_array_equal(found_slope, slope)


def test_every_operation_that_is_known_has_a_case_here() -> None:
    covered = set()
    for function in [*SMOOTH.values(), *KINKS.values()]:
        recorded = make_fx(function)(*torch.ones(2, 3, dtype=torch.float64))
        covered |= {str(node.target).removeprefix("aten.").split(".")[0] for node in recorded.graph.nodes}
    # Torch's decompositions write these no longer, or only for arguments that tracing does not see.
    rare = {"matmul", "reshape", "lift_fresh_copy", "scalar_tensor", "addmm", "rsub", "_unsafe_view", "square", "alias"}
    assert set(ARRAYS) | trace_module._NEW <= covered | rare


def test_several_outputs_and_a_single_number_are_traced() -> None:
    graph = Graph()
    outputs = trace(lambda x, step: (x * step, x.sum()), graph, [("x", 2), ("step", None)])
    assert [output.shape for output in outputs] == [(2,), ()]
    values = {("x", 0): 2.0, ("x", 1): 3.0, ("step", 0): 4.0}
    assert evaluate([*outputs[0], outputs[1].item()], values) == [8.0, 12.0, 5.0]


def _half_without_slope(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        half = 0.5 * x
    return half * x


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.erf(), id="an operation without expression"),
        pytest.param(lambda x: torch.linalg.eigvalsh(x[:, None] * x), id="linear algebra"),
        pytest.param(lambda x: x if x[0] > 0 else -x, id="a branch on a value"),
        pytest.param(lambda x: x * float(x[0]), id="a value as a number"),
        pytest.param(lambda x: x.cumsum(0), id="a running sum"),
        pytest.param(lambda x: x[x > 0], id="an index that depends on values"),
        pytest.param(lambda x: [1.0, 2.0][x[0]] * x, id="a list's entry"),
        pytest.param(lambda x: x * torch.rand(3, dtype=torch.float64), id="chance"),
        pytest.param(lambda x: torch.div(x, 0.3, rounding_mode="floor"), id="another kind of division"),
        pytest.param(lambda x: x.long().double(), id="rounding to whole numbers"),
        pytest.param(lambda x: (x * 1e-9 + 1.0).float().double(), id="single precision on the way"),
        pytest.param(lambda x: torch.tensor(x.tolist(), dtype=torch.float64), id="a list on the way"),
        pytest.param(lambda x: torch.as_tensor(x.numpy() * 2), id="NumPy on the way"),
        pytest.param(lambda x: x.detach() * x, id="a slope that is cut off"),
        pytest.param(_half_without_slope, id="a slope that is cut off without a word"),
        pytest.param(lambda x: 1 / 0, id="an error"),
        pytest.param(lambda x: None, id="nothing"),
        pytest.param(lambda x: 1.0, id="a number that is no tensor"),
    ],
)
def test_what_has_no_expression_is_refused_rather_than_traced_wrongly(function: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(UntracedOperation):
        trace(function, Graph(), [("x", 3)])


def test_writing_into_a_copy_is_traced_as_torch_does_it_or_refused() -> None:
    def write(x: torch.Tensor) -> torch.Tensor:
        copy = x.clone()
        copy[0] = 2.0 * x[1]
        return copy

    graph = Graph()
    try:
        (outputs,) = trace(write, graph, [("x", 2)])
    except UntracedOperation:
        return
    assert evaluate(list(outputs), {("x", 0): 1.0, ("x", 1): 3.0}) == [6.0, 3.0]


def test_a_branch_on_a_value_is_refused_in_a_sentence_that_says_why() -> None:
    with pytest.raises(UntracedOperation, match=r"data-dependent control flow") as refused:
        trace(lambda x: x if x.sum() > 1.0 else -x, Graph(), [("x", 2)])
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_the_numbers_of_a_parameter_are_read_anew_whenever_the_expressions_are_computed() -> None:
    weights, fixed = MATRIX.clone(), VECTOR.clone()

    def function(x: torch.Tensor) -> torch.Tensor:
        return (weights.T[1:] @ weights[:, :2]).sum() * (fixed * x).sum() + (weights[1] * x * x).sum()

    graph = Graph()
    (output,) = trace(function, graph, [("x", 3)], [weights])
    slope = gradient(output.item(), [graph.input("x", 0)])
    library = Library({"both": (["x"], [[output.item(), *slope]])})
    for scale in (1.0, -2.0):
        weights.copy_(MATRIX * scale)
        x = torch.tensor([0.2, -0.3, 0.7], dtype=torch.float64, requires_grad=True)
        value = function(x)
        expected = [value.item(), torch.autograd.grad(value, x)[0][0].item()]
        inputs = {("x", i): number for i, number in enumerate(x.tolist())}
        assert evaluate([output.item(), *slope], inputs) == pytest.approx(expected, rel=1e-12)
        lanes = library("both", [np.tile(x.detach().numpy()[:, None], LANES)])[0]
        np.testing.assert_allclose(lanes, np.tile(np.array(expected)[:, None], LANES), rtol=1e-12)


def test_a_function_is_traced_where_no_gradients_are_kept() -> None:
    graph = Graph()
    with torch.no_grad():
        (output,) = trace(lambda x: (x.sin() * x).sum(), graph, [("x", 1)])
    assert evaluate([output.item()], {("x", 0): 2.0}) == [pytest.approx(2.0 * np.sin(2.0))]


def test_what_leaves_torch_with_a_parameter_is_refused() -> None:
    weights = VECTOR.clone()
    numbers = weights.numpy()  # of the same memory
    with pytest.raises(UntracedOperation, match="does not record"):
        trace(lambda x: x * torch.as_tensor(numbers.copy()), Graph(), [("x", 3)], [weights])
    torch.testing.assert_close(weights, VECTOR, rtol=0.0, atol=0.0)
