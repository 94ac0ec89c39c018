"""Expressions: simplifications, derivatives and machine code change no value."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.tracing.expressions import OPERATIONS, Expression, Graph, evaluate, gradient, ordered, substitute
from hamiltonian_rl.tracing.vector_code import LANES, Library

INPUTS = 3
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0])


class Both(NamedTuple):
    """An expression, what NumPy computes without simplifying, and a bound on the size of what enters it."""

    expression: Expression
    value: np.ndarray
    scale: np.ndarray


def _combine(name: str, x: Both, y: Both) -> Both:
    (e, v, s), (f, w, t) = x, y
    if name == "add":
        return Both(e + f, v + w, s + t)
    if name == "subtract":
        return Both(e - f, v - w, s + t)
    if name == "multiply":
        return Both(e * f, v * w, s * t)
    if name == "negative":
        return Both(-e, -v, s)
    if name == "divide":
        return Both(e / (2.0 + f.sin()), v / (2.0 + np.sin(w)), s * (3.0 + t))
    if name in ("minimum", "maximum"):
        return Both(e.apply(name, f), OPERATIONS[name](v, w), s + t)
    if name == "where":  # compares inputs, not results, which rounding could swap
        first, second = e.graph.input("x", 0), e.graph.input("x", 1)
        return Both(first.apply("less", second).where(e, f), np.where(POINTS[0] < POINTS[1], v, w), s + t)
    if name == "absolute":
        return Both(e.apply("absolute"), np.abs(v), s)
    return Both(e.apply(name), OPERATIONS[name](v), 1.0 + s)


POINTS = np.random.default_rng(0).uniform(-2.0, 2.0, (INPUTS, LANES))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add",
                "subtract",
                "multiply",
                "negative",
                "divide",
                "minimum",
                "maximum",
                "where",
                "absolute",
                "sin",
                "tanh",
            ]
        ),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=12,
)


def _build(numbers: list[float], steps: list[tuple[str, int, int]]) -> Both:
    graph = Graph()
    pool = [Both(graph.input("x", i), POINTS[i], np.abs(POINTS[i])) for i in range(INPUTS)]
    pool += [Both(graph.constant(n), np.full(LANES, n), np.full(LANES, abs(n))) for n in numbers]
    for name, first, second in steps:
        pool.append(_combine(name, pool[first % len(pool)], pool[second % len(pool)]))
    return pool[-1]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(numbers=st.lists(NUMBERS, max_size=3), steps=STEPS)
def test_simplified_expressions_and_machine_code_compute_what_numpy_does(
    numbers: list[float], steps: list[tuple[str, int, int]]
) -> None:
    expression, value, scale = _build(numbers, steps)
    inputs = {("x", i): POINTS[i] for i in range(INPUTS)}
    (plain,) = evaluate([expression], inputs)
    (machine,) = Library({"f": (["x"], [[expression]])})("f", [POINTS])
    for found in (plain, machine[0]):
        assert (np.abs(found - value) <= 1e-13 * (1.0 + scale)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS.filter(lambda steps: all(name not in ("minimum", "maximum", "absolute") for name, *_ in steps)))
def test_gradients_are_those_of_complex_steps(steps: list[tuple[str, int, int]]) -> None:
    expression, _, scale = _build([0.5], steps)
    slopes = gradient(expression, [expression.graph.input("x", i) for i in range(INPUTS)])
    for i in range(INPUTS):
        # The derivative is the imaginary part of f(x + ih) / h, to rounding (Squire and Trapp 1998).
        moved = {("x", j): POINTS[j] + (1e-30j if i == j else 0.0) for j in range(INPUTS)}
        expected = _complex(expression, moved).imag / 1e-30
        (found,) = evaluate([slopes[i]], {("x", j): POINTS[j] for j in range(INPUTS)})
        assert (np.abs(found - expected) <= 1e-10 * (1.0 + scale) ** 2).all()


def _complex(expression: Expression, inputs: dict[tuple[str, int], Any]) -> Any:
    """Evaluate, with comparisons of real parts."""
    values: dict[int, Any] = {}
    for node in ordered([expression]):
        arguments = [values[x.number] for x in node.arguments]
        if node.operation in ("constant", "input"):
            values[node.number] = node.value if node.operation == "constant" else inputs[node.value]
        elif node.operation == "less":
            values[node.number] = np.real(arguments[0]) < np.real(arguments[1])
        else:
            values[node.number] = OPERATIONS[node.operation](*arguments)
    return values[expression.number] + np.zeros(LANES)


SPECIAL = [0.0, 1.0, -1.0, 0.5, -2.5, math.inf, -math.inf, math.nan]
SIZES = {"where": 3} | dict.fromkeys(["negative", "sin", "cos", "exp", "log", "sqrt", "tanh"], 1)
SIZES |= dict.fromkeys(["atan", "absolute", "floor", "not"], 1)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "where"])
def test_infinity_and_nan_go_through_machine_code_as_through_numpy(name: str) -> None:
    graph = Graph()
    x, y = graph.input("x", 0), graph.input("x", 1)
    one = SIZES.get(name, 2) == 1
    expression = graph.node(name, (x,) if one else (x, y))
    library = Library({"f": (["x"], [[expression]])})
    for second in SPECIAL[:1] if one else SPECIAL:
        points = np.array([SPECIAL, np.full(LANES, second)])
        (expected,) = evaluate([expression], {("x", 0): points[0], ("x", 1): points[1]})
        np.testing.assert_allclose(
            library("f", [points])[0][0], np.asarray(expected, float), rtol=4e-16, equal_nan=True
        )


def test_a_nan_that_is_not_chosen_does_not_spread() -> None:
    graph = Graph()
    x = graph.input("x", 0)
    expression = graph.constant(0.0).apply("less", x).where(x.apply("log"), -1.0)
    points = np.array([[-1.0, 0.0, 1.0, math.e, -math.inf, math.nan, 2.0, 3.0]])
    expected = [-1.0, -1.0, 0.0, 1.0, -1.0, -1.0, math.log(2.0), math.log(3.0)]
    np.testing.assert_allclose(Library({"f": (["x"], [[expression]])})("f", [points])[0][0], expected, rtol=1e-15)


def test_simplifications_are_those_of_real_numbers() -> None:
    graph = Graph()
    x, y = graph.input("x", 0), graph.input("x", 1)
    zero = graph.constant(0.0)
    assert x * 0.0 is zero
    assert 0.0 / x is zero
    assert x - x is zero
    assert x + 0.0 is x
    assert 0.0 + x is x
    assert x - 0.0 is x
    assert x * 1.0 is x
    assert x / 1.0 is x
    negative = -x
    assert -negative is x
    assert x + y is y + x
    assert x * y is y * x
    assert x + (-y) is x - y
    assert x * -1.0 is -x
    assert x.clip(-np.inf, np.inf) is x
    assert x.apply("less", y).where(x, x) is x
    # 0/0 of numbers stays what it is.
    assert math.isnan((zero / zero).value)


def test_minus_zero_and_zero_are_two_constants() -> None:
    graph = Graph()
    minus, plus = graph.constant(-0.0), graph.constant(0.0)
    assert minus is not plus
    assert (graph.constant(1.0) / minus).value == -math.inf
    assert (graph.constant(1.0) / plus).value == math.inf


def test_equal_expressions_are_one_and_are_computed_once() -> None:
    graph = Graph()
    x = graph.input("x", 0)
    first, second = x.sin() * x + x.sin() * x, (x * x.sin()) + (x.sin() * x)
    assert first is second
    assert len(ordered([first])) == 4


def test_substitution_replaces_inputs_everywhere_and_simplifies() -> None:
    graph = Graph()
    x, y = graph.input("x", 0), graph.input("y", 0)
    expression = x.apply("maximum", y) * x + x.sin()
    (found,) = substitute([expression], {("x", 0): y * 2.0})
    assert evaluate([found], {("y", 0): 3.0})[0] == 36.0 + math.sin(6.0)
    assert substitute([x * y], {("x", 0): graph.constant(1.0)}) == [y]


def test_an_output_may_lie_where_an_input_does() -> None:
    graph = Graph()
    x = [graph.input("x", i) for i in range(2)]
    library = Library({"swap": (["x"], [[x[1], x[0] + 1.0]])})
    block = np.array([np.arange(LANES), np.arange(LANES) * 10.0], dtype=float)
    import ctypes

    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.addresses["swap"])(
        block.ctypes.data, block.ctypes.data
    )
    np.testing.assert_array_equal(block, [np.arange(LANES) * 10.0, np.arange(LANES) + 1.0])
