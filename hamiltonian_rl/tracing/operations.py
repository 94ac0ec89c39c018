"""Torch's operations on arrays of expressions: elementwise ones, reductions, and NumPy's reshaping and indexing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hamiltonian_rl.tracing.expressions import Expression


def _elementwise(function: Callable[..., Expression], count: int) -> Callable[..., np.ndarray]:
    compiled = np.frompyfunc(function, count, 1)
    return lambda *arrays: np.asarray(compiled(*arrays), dtype=object)


def _named(operation: str) -> Callable[..., Expression]:
    return lambda x, *others: x.apply(operation, *others)


def _power(x: Expression, exponent: Expression) -> Expression:
    """Write small whole powers as products, and half ones as roots: faster, and exact where torch is."""
    if exponent.operation == "constant":
        if exponent.value in (0.0, 1.0):
            return x if exponent.value else x.graph.constant(1.0)
        if exponent.value == 0.5:
            return x.apply("sqrt")
        if exponent.value in (2.0, 3.0, 4.0, -1.0, -2.0):
            square = x * x
            product: Expression = {1.0: x, 2.0: square, 3.0: square * x, 4.0: square * square}[abs(exponent.value)]
            return product if exponent.value > 0 else 1.0 / product
    return x.apply("power", exponent)


def _clamp(x: Expression, low: Expression | None = None, high: Expression | None = None) -> Expression:
    """Return x within its bounds, with torch's slope: one on the bounds as between them."""
    result = x
    if low is not None:
        result = x.apply("less", low).where(low, result)
    if high is not None:
        ordered = low is None or (low.operation == high.operation == "constant" and low.value <= high.value)
        result = high.apply("less", x if ordered else result).where(high, result)
    return result


def _clamp_arrays(x: Any, low: Any = None, high: Any = None) -> np.ndarray:
    def lifted(bound: Any) -> Any:
        if bound is None or isinstance(bound, np.ndarray):
            return bound
        return np.array(x.flat[0].graph.constant(float(bound)), dtype=object)

    bounds = [lifted(low), lifted(high)]
    if bounds[0] is None and bounds[1] is None:
        return np.asarray(x, dtype=object)
    if bounds[0] is None:
        return _elementwise(lambda a, b: _clamp(a, None, b), 2)(x, bounds[1])
    if bounds[1] is None:
        return _elementwise(lambda a, b: _clamp(a, b), 2)(x, bounds[0])
    return _elementwise(_clamp, 3)(x, *bounds)


def _scaled(function: Callable[[Any, Any], Any]) -> Callable[..., Expression]:
    """Return addition or subtraction with torch's factor ``alpha`` of the second argument."""

    def apply(x: Any, y: Any, alpha: float = 1) -> Any:
        return np.asarray(function(x, y if alpha == 1 else y * float(alpha)), dtype=object)

    return apply


def _reduced(function: Callable[[Any, Any], Any]) -> Callable[..., np.ndarray]:
    def apply(x: np.ndarray, dims: Any = None, keepdim: bool = False) -> np.ndarray:
        axes = range(x.ndim) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
        axes = sorted((axis % x.ndim for axis in axes), reverse=True) if x.ndim else []
        for axis in axes:
            parts = [np.take(x, [i], axis) for i in range(x.shape[axis])]
            total = parts[0]
            for part in parts[1:]:
                total = function(total, part)
            x = np.asarray(total, dtype=object) if keepdim else np.asarray(total, dtype=object).squeeze(axis)
        return x

    return apply


def _mean(x: np.ndarray, dims: Any = None, keepdim: bool = False) -> np.ndarray:
    total = ARRAYS["sum"](x, dims, keepdim)
    return np.asarray(total * (max(total.size, 1) / x.size), dtype=object)


def _select(x: np.ndarray, axis: int, index: int) -> np.ndarray:
    return np.asarray(np.take(x, index, axis), dtype=object)


def _slice(x: np.ndarray, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> np.ndarray:
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]


def _index(x: np.ndarray, indices: Sequence[Any]) -> np.ndarray:
    def fixed(index: Any) -> Any:
        if index is None:
            return slice(None)
        return np.vectorize(lambda e: int(e.value), otypes=[np.int64])(index)

    if any(index is not None and any(e.operation != "constant" for e in index.flat) for index in indices):
        raise ValueError("an index that is not a constant")
    return np.asarray(x[tuple(fixed(index) for index in indices)], dtype=object)


def _expand(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    padded = (1,) * (len(shape) - x.ndim) + x.shape
    return np.broadcast_to(x, [have if want == -1 else want for want, have in zip(shape, padded, strict=True)])


def _softplus(x: Expression) -> Expression:
    """``log(1 + eˣ)``, and x where torch takes that."""
    large = x._lift(20.0).apply("less", x)
    return large.where(x, (large.where(0.0, x).apply("exp") + 1.0).apply("log"))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": _scaled(operator.add),
    "sub": _scaled(operator.sub),
    "rsub": lambda x, y, alpha=1: ELEMENTWISE["sub"](y, x, alpha),
    "mul": _elementwise(operator.mul, 2),
    "div": _elementwise(operator.truediv, 2),
    "pow": _elementwise(_power, 2),
    "remainder": _elementwise(lambda x, y: x - y * (x / y).apply("floor"), 2),
    "neg": _elementwise(operator.neg, 1),
    "reciprocal": _elementwise(lambda x: 1.0 / x, 1),
    "square": _elementwise(lambda x: x * x, 1),
    "sin": _elementwise(_named("sin"), 1),
    "cos": _elementwise(_named("cos"), 1),
    "tan": _elementwise(lambda x: x.sin() / x.cos(), 1),
    "exp": _elementwise(_named("exp"), 1),
    "log": _elementwise(_named("log"), 1),
    "log1p": _elementwise(lambda x: (x + 1.0).apply("log"), 1),
    "sqrt": _elementwise(_named("sqrt"), 1),
    "rsqrt": _elementwise(lambda x: 1.0 / x.apply("sqrt"), 1),
    "tanh": _elementwise(_named("tanh"), 1),
    "atan": _elementwise(_named("atan"), 1),
    "sigmoid": _elementwise(lambda x: (x * 0.5).apply("tanh") * 0.5 + 0.5, 1),
    "softplus": _elementwise(_softplus, 1),
    "relu": _elementwise(lambda x: x._lift(0.0).apply("less", x).where(x, 0.0), 1),
    "abs": _elementwise(_named("absolute"), 1),
    "floor": _elementwise(_named("floor"), 1),
    "sign": _elementwise(lambda x: x._lift(0.0).apply("less", x).where(1.0, x.apply("less", 0.0).where(-1.0, 0.0)), 1),
    "minimum": _elementwise(_named("minimum"), 2),
    "maximum": _elementwise(_named("maximum"), 2),
    "lt": _elementwise(_named("less"), 2),
    "le": _elementwise(_named("less_equal"), 2),
    "gt": _elementwise(lambda x, y: y.apply("less", x), 2),
    "ge": _elementwise(lambda x, y: y.apply("less_equal", x), 2),
    "eq": _elementwise(_named("equal"), 2),
    "ne": _elementwise(lambda x, y: x.apply("equal", y).apply("not"), 2),
    "bitwise_and": _elementwise(_named("and"), 2),
    "logical_and": _elementwise(_named("and"), 2),
    "bitwise_or": _elementwise(_named("or"), 2),
    "logical_or": _elementwise(_named("or"), 2),
    "bitwise_not": _elementwise(_named("not"), 1),
    "logical_not": _elementwise(_named("not"), 1),
    "where": _elementwise(Expression.where, 3),
}

ARRAYS: dict[str, Callable[..., Any]] = {
    **ELEMENTWISE,
    "clamp": _clamp_arrays,
    "clamp_min": lambda x, low: _clamp_arrays(x, low),
    "clamp_max": lambda x, high: _clamp_arrays(x, None, high),
    "sum": _reduced(operator.add),
    "mean": _mean,
    "prod": _reduced(operator.mul),
    "amax": _reduced(_elementwise(_named("maximum"), 2)),
    "any": _reduced(_elementwise(_named("or"), 2)),
    "all": _reduced(_elementwise(_named("and"), 2)),
    "mm": np.dot,
    "mv": np.dot,
    "dot": lambda x, y: np.asarray(np.dot(x, y), dtype=object),
    "matmul": lambda x, y: np.asarray(np.dot(x, y), dtype=object),
    "addmm": lambda bias, x, y: bias + np.dot(x, y),
    "addmv": lambda bias, x, y: bias + np.dot(x, y),
    "t": np.transpose,
    "transpose": np.swapaxes,
    "permute": np.transpose,
    "stack": lambda arrays, axis=0: np.stack(arrays, axis),
    "cat": lambda arrays, axis=0: np.concatenate(arrays, axis),
    "unbind": lambda x, axis=0: list(np.moveaxis(x, axis, 0)),
    "select": _select,
    "slice": _slice,
    "index": _index,
    "unsqueeze": np.expand_dims,
    "squeeze": lambda x, axes=None: np.squeeze(x, tuple(axes) if isinstance(axes, list) else axes),
    "squeeze_": lambda x, axes=None: ARRAYS["squeeze"](x, axes),  # of a fresh result: vector times matrix
    "view": lambda x, shape: x.reshape(shape),
    "_unsafe_view": lambda x, shape: x.reshape(shape),
    "reshape": lambda x, shape: x.reshape(shape),
    "expand": _expand,
    "flip": np.flip,
    "roll": np.roll,
    "clone": np.array,
    "alias": np.array,
    "_to_copy": np.array,
    "lift_fresh_copy": np.array,
    "zeros_like": lambda x: _elementwise(lambda e: e.graph.constant(0.0), 1)(x),
    "ones_like": lambda x: _elementwise(lambda e: e.graph.constant(1.0), 1)(x),
    "full_like": lambda x, value: _elementwise(lambda e: e.graph.constant(value), 1)(x),
}
