"""Scalar expressions: built once each, simplified as they are built, differentiated exactly.

A graph keeps one node for each distinct expression (common subexpressions are shared by construction), so
that first and second derivatives, written by the chain rule, share all that they can with the function.

Example:
    >>> graph = Graph()
    >>> x = graph.input("x", 0)
    >>> slope, = gradient(x.sin() * x, [x])
    >>> float(evaluate([slope], {("x", 0): 0.0})[0] + evaluate([x * x], {("x", 0): 3.0})[0])
    9.0
"""

from __future__ import annotations

import ctypes
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

Key = tuple[str, int]
Method = TypeVar("Method", bound=Callable[..., Any])


class Graph:
    """The store of all expressions that are combined with each other; see `Expression`.

    Attributes:
        owners: Whatever owns the memory that `parameter` reads; kept alive by who computes the expressions.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Expression] = {}
        self.owners: list[Any] = []

    def constant(self, value: float) -> Expression:
        """Return the expression of a number."""
        return self.node("constant", (), float(value))

    def input(self, block: str, index: int) -> Expression:
        """Return entry ``index`` of the input vector named ``block``."""
        return self.node("input", (), (block, index))

    def parameter(self, address: int) -> Expression:
        """Return the double at an address in memory, read anew whenever it is computed; see `owners`."""
        return self.node("parameter", (), address)

    def node(self, operation: str, arguments: tuple[Expression, ...], value: Any = None) -> Expression:
        """Return the one expression of an operation, simplified."""
        if operation in OPERATIONS and all(x.operation == "constant" for x in arguments):
            with np.errstate(all="ignore"):
                return self.constant(OPERATIONS[operation](*(np.float64(x.value) for x in arguments)))
        # Minus zero is a key of its own: it is equal to zero, and one divided by it is not.
        label = (str(value),) if operation == "constant" else (value,)
        key = (operation, *(x.number for x in arguments), *label)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Expression(self, operation, arguments, value, len(self._known))
        return found


def _or_elementwise(method: Method) -> Method:
    """Leave arithmetic with an array of expressions to NumPy, which does it entry by entry."""

    @functools.wraps(method)
    def apply(self: Expression, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else method(self, other)

    return cast(Method, apply)


class Expression:
    """A scalar: an operation on other scalars, an input, or a constant. Arithmetic makes new ones.

    Truth values are the numbers 0 and 1. Simplifications are those of real numbers: ``0 x``, ``0 / x`` and ``x - x``
    are 0, also where x turns out to be infinite, NaN or (of ``0 / x``) zero; the sign of a zero may be lost.
    """

    __slots__ = ("arguments", "graph", "number", "operation", "value")

    def __init__(
        self, graph: Graph, operation: str, arguments: tuple[Expression, ...], value: Any, number: int
    ) -> None:
        self.graph, self.operation, self.arguments, self.value, self.number = graph, operation, arguments, value, number

    def _lift(self, other: Expression | float) -> Expression:
        return other if isinstance(other, Expression) else self.graph.constant(other)

    def _is(self, number: float) -> bool:
        return self.operation == "constant" and self.value == number

    def apply(self, operation: str, *others: Expression | float) -> Expression:
        """Return an operation of `OPERATIONS` on this and other scalars."""
        return self.graph.node(operation, (self, *map(self._lift, others)))

    @_or_elementwise
    def __add__(self, other: Expression | float) -> Expression:
        other = self._lift(other)
        if self._is(0.0):
            return other
        if other._is(0.0):
            return self
        if other.operation == "negative":
            return self - other.arguments[0]
        first, second = sorted((self, other), key=lambda x: x.number)
        return self.graph.node("add", (first, second))

    @_or_elementwise
    def __sub__(self, other: Expression | float) -> Expression:
        other = self._lift(other)
        if other._is(0.0):
            return self
        if self._is(0.0):
            return -other
        if self is other:
            return self.graph.constant(0.0)
        return self.graph.node("subtract", (self, other))

    @_or_elementwise
    def __mul__(self, other: Expression | float) -> Expression:
        other = self._lift(other)
        if self._is(0.0) or other._is(0.0):
            return self.graph.constant(0.0)
        if self._is(1.0):
            return other
        if other._is(1.0):
            return self
        if self._is(-1.0):
            return -other
        if other._is(-1.0):
            return -self
        first, second = sorted((self, other), key=lambda x: x.number)
        return self.graph.node("multiply", (first, second))

    @_or_elementwise
    def __truediv__(self, other: Expression | float) -> Expression:
        other = self._lift(other)
        if self._is(0.0) and not other._is(0.0):
            return self
        if other._is(1.0):
            return self
        return self.graph.node("divide", (self, other))

    def __neg__(self) -> Expression:
        if self.operation == "negative":
            return self.arguments[0]
        return self.graph.node("negative", (self,))

    __radd__ = __add__
    __rmul__ = __mul__

    @_or_elementwise
    def __rsub__(self, other: float) -> Expression:
        return self._lift(other) - self

    @_or_elementwise
    def __rtruediv__(self, other: float) -> Expression:
        return self._lift(other) / self

    def sin(self) -> Expression:
        """Return its sine."""
        return self.apply("sin")

    def cos(self) -> Expression:
        """Return its cosine."""
        return self.apply("cos")

    def clip(self, low: Expression | float, high: Expression | float) -> Expression:
        """Return the nearest number within bounds; an infinite one is none."""
        result = self
        if not (isinstance(low, float | int) and low == -np.inf):
            result = result.apply("maximum", low)
        if not (isinstance(high, float | int) and high == np.inf):
            result = result.apply("minimum", high)
        return result

    def where(self, then: Expression | float, otherwise: Expression | float) -> Expression:
        """Return ``then`` where this is true, and ``otherwise`` where it is not."""
        then, otherwise = self._lift(then), self._lift(otherwise)
        if then is otherwise:
            return then
        if self.operation == "constant":
            return then if self.value else otherwise
        return self.graph.node("where", (self, then, otherwise))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": np.negative,
    "sin": np.sin,
    "cos": np.cos,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "atan": np.arctan,
    "power": np.power,
    "absolute": np.abs,
    "floor": np.floor,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
}


def ordered(outputs: Sequence[Expression]) -> list[Expression]:
    """Return every expression that the outputs need, each after its arguments."""
    needed: dict[int, Expression] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.number not in needed:
            needed[node.number] = node
            waiting.extend(node.arguments)
    return [needed[number] for number in sorted(needed)]


def substitute(outputs: Sequence[Expression], replaced: Mapping[Key, Expression]) -> list[Expression]:
    """Return expressions with inputs replaced by other expressions of the same graph."""
    new: dict[int, Expression] = {}
    for node in ordered(outputs):
        arguments = tuple(new[x.number] for x in node.arguments)
        if node.operation == "input":
            new[node.number] = replaced.get(node.value, node)
        elif node.operation in _SIMPLIFIED:
            new[node.number] = _SIMPLIFIED[node.operation](*arguments)
        else:
            new[node.number] = node.graph.node(node.operation, arguments, node.value)
    return [new[node.number] for node in outputs]


_SIMPLIFIED: dict[str, Callable[..., Expression]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "where": Expression.where,
}


def evaluate(outputs: Sequence[Expression], inputs: Mapping[Key, Any]) -> list[Any]:
    """Return the values of expressions, in NumPy: numbers or arrays, as the inputs are."""
    values: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for node in ordered(outputs):
            if node.operation == "constant":
                values[node.number] = node.value
            elif node.operation == "input":
                values[node.number] = inputs[node.value]
            elif node.operation == "parameter":
                values[node.number] = ctypes.c_double.from_address(node.value).value
            else:
                values[node.number] = OPERATIONS[node.operation](*(values[x.number] for x in node.arguments))
    return [values[node.number] for node in outputs]


def gradient(output: Expression, inputs: Sequence[Expression]) -> list[Expression]:
    """Return the derivatives of an expression with respect to inputs, in reverse mode.

    Where a function has a kink, the derivative is the one that torch takes: of a clamp, one on its bounds.
    """
    zero = output.graph.constant(0.0)
    slopes: dict[int, Expression] = {output.number: output.graph.constant(1.0)}
    for node in reversed(ordered([output])):
        slope = slopes.get(node.number)
        if slope is None or not node.arguments:
            continue
        for argument, share in zip(node.arguments, _shares(node, slope), strict=True):
            if share is not None:
                slopes[argument.number] = slopes.get(argument.number, zero) + share
    return [slopes.get(x.number, zero) for x in inputs]


def _shares(node: Expression, slope: Expression) -> list[Expression | None]:
    """Return the slope times the derivative of a node with respect to each of its arguments."""
    rule = _RULES.get(node.operation)
    return [None] * len(node.arguments) if rule is None else rule(node, slope, *node.arguments)


def _power(node: Expression, slope: Expression, base: Expression, exponent: Expression) -> list[Expression | None]:
    by_base = slope * exponent * base.apply("power", exponent - 1.0)
    if exponent.operation == "constant":
        return [by_base, None]
    return [by_base, slope * node * base.apply("log")]


def _extremum(node: Expression, slope: Expression, x: Expression, y: Expression) -> list[Expression | None]:
    """Share the slope of a minimum or maximum: half to each where they are equal, as torch does."""
    first = x.apply("less", y) if node.operation == "minimum" else y.apply("less", x)
    half = x.apply("equal", y).where(slope * 0.5, 0.0)
    second = y.apply("less", x) if node.operation == "minimum" else x.apply("less", y)
    return [first.where(slope, half), second.where(slope, half)]


_RULES: dict[str, Callable[..., list[Expression | None]]] = {
    "add": lambda node, slope, x, y: [slope, slope],
    "subtract": lambda node, slope, x, y: [slope, -slope],
    "multiply": lambda node, slope, x, y: [slope * y, slope * x],
    "divide": lambda node, slope, x, y: [slope / y, -(slope * node / y)],
    "negative": lambda node, slope, x: [-slope],
    "sin": lambda node, slope, x: [slope * x.cos()],
    "cos": lambda node, slope, x: [-(slope * x.sin())],
    "exp": lambda node, slope, x: [slope * node],
    "log": lambda node, slope, x: [slope / x],
    "sqrt": lambda node, slope, x: [slope * 0.5 / node],
    "tanh": lambda node, slope, x: [slope * (1.0 - node * node)],
    "atan": lambda node, slope, x: [slope / (1.0 + x * x)],
    "power": _power,
    # A product, as torch has it: a slope that is not finite stays so at 0, where the sign is 0.
    "absolute": lambda node, slope, x: [
        slope * x._lift(0.0).apply("less", x).where(1.0, x.apply("less", 0.0).where(-1.0, 0.0))
    ],
    "minimum": _extremum,
    "maximum": _extremum,
    "where": lambda node, slope, condition, x, y: [
        None,
        condition.where(slope, 0.0),
        condition.where(0.0, slope),
    ],
}
