"""A torch function as scalar expressions: run once on symbols, operation by operation.

`torch.fx.experimental.proxy_tensor.make_fx` records which tensor operations the function performs; each is
then performed on arrays of `Expression`, where reshaping and indexing are NumPy's.
"""

from __future__ import annotations

import operator
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import HamiltonianRLError
from hamiltonian_rl.tracing.expressions import Graph, evaluate, gradient
from hamiltonian_rl.tracing.operations import ARRAYS, ELEMENTWISE

_IGNORED_OPTIONS = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}
_NEW = {"zeros", "ones", "full", "scalar_tensor", "arange", "eye"}
MOST_OF_AN_ERROR = 240  # characters of another's message, of which torch's run to pages


class UntracedOperation(HamiltonianRLError):
    """The function performs an operation that has no expression here."""


def trace(
    function: Callable[..., Any],
    graph: Graph,
    blocks: Sequence[tuple[str, int | None]],
    parameters: Sequence[torch.Tensor] = (),
) -> list[np.ndarray]:
    """Return what a torch function computes, as arrays of expressions.

    Args:
        function: Of float64 tensors, to a tensor or a tuple of tensors; of the shapes in ``blocks``, unbatched.
        graph: Where the expressions are kept.
        blocks: Name and length of each argument; length None is a single number, of shape ``()``.
        parameters: Of float64, on the CPU: the numbers in them are read anew whenever the expressions are computed.
            All others that the function reads are constants.

    Raises:
        UntracedOperation: For an operation that is not known here, or where the function does not trace; also where
            parameters leave torch on the way, which it does not record.

    Example:
        >>> outputs = trace(lambda x: (x**2).sum(), Graph(), [("x", 3)])
        >>> from hamiltonian_rl.tracing.expressions import evaluate
        >>> evaluate([outputs[0].item()], {("x", i): np.float64(i) for i in range(3)})
        [np.float64(5.0)]
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # Values that no clamp or comparison singles out; the record does not depend on them.
    examples = [torch.full(() if size is None else (size,), 0.37, dtype=torch.float64) for _, size in blocks]
    try:
        with torch.no_grad():
            returned = function(*examples)
            recorded = make_fx(lambda *arguments: function(*arguments))(*examples)
    except Exception as error:  # whatever a user's function may raise on symbols
        why = textwrap.shorten(f"{type(error).__name__}: {error}", MOST_OF_AN_ERROR, placeholder=" and so on").rstrip(
            "."
        )
        raise UntracedOperation(f"The function cannot be traced: {why}.") from error
    if not all(isinstance(x, torch.Tensor) for x in (returned if isinstance(returned, tuple | list) else [returned])):
        raise UntracedOperation(f"The function returns {type(returned).__name__}, where a tensor is expected.")
    results = [
        np.asarray(result, dtype=object)
        for result in _Interpreter(recorded, graph, parameters).run(_symbols(graph, blocks))
    ]
    _verify(function, blocks, results)
    if parameters:
        with _changed(parameters):
            _verify(function, blocks, results)
    return results


@contextmanager
def _changed(parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """Have other numbers in some tensors for a while."""
    before = [x.clone() for x in parameters]
    try:
        for x in parameters:
            x.mul_(0.9).add_(0.01)
        yield
    finally:
        for x, numbers in zip(parameters, before, strict=True):
            x.copy_(numbers)


def _verify(function: Callable[..., Any], blocks: Sequence[tuple[str, int | None]], results: list[np.ndarray]) -> None:
    """Hold the expressions and their slopes against the function at two other points.

    What leaves torch on the way (a list, a NumPy array, whole numbers, single precision) leaves no record.
    """
    graph = next((e.graph for result in results for e in result.flat), None)
    if graph is None:
        return
    generator, inputs = np.random.default_rng(0), _symbols(graph, blocks)
    variables = [e for block in inputs for e in block.flat]
    total = sum((e for result in results for e in result.flat), graph.constant(0.0))
    expressions = [*(e for result in results for e in result.flat), *gradient(total, variables)]
    for _ in range(2):
        point = [torch.as_tensor(generator.uniform(-1.0, 1.0, block.shape)).requires_grad_() for block in inputs]
        try:
            with torch.enable_grad():  # whoever asks may be without
                returned = function(*point)
        except Exception as error:  # whatever a user's function may raise
            raise UntracedOperation(f"The function fails at {point}: {type(error).__name__}.") from error
        outputs = [x.double() for x in (returned if isinstance(returned, tuple | list) else [returned])]
        numbers = torch.cat([x.detach().flatten() for x in point]).tolist()
        found = np.array(evaluate(expressions, dict(zip([e.value for e in variables], numbers, strict=True))), float)
        expected = np.concatenate([x.detach().numpy().ravel() for x in outputs] + _slopes(outputs, point))
        same = np.isclose(found, expected, rtol=1e-11, atol=1e-11, equal_nan=True)
        # A slope that is not finite may be so for one of them only: 0 times infinity.
        same[len(found) - len(variables) :] |= ~np.isfinite(found + expected)[len(found) - len(variables) :]
        if not same.all():
            raise UntracedOperation("The function does something that torch does not record, so it cannot be traced.")


def _slopes(outputs: list[torch.Tensor], point: list[torch.Tensor]) -> list[np.ndarray]:
    with torch.enable_grad():
        total = torch.stack([x.sum() for x in outputs]).sum()
    if not total.requires_grad:
        return [np.zeros(x.numel()) for x in point]
    slopes = torch.autograd.grad(total, point, allow_unused=True)
    return [np.zeros(x.numel()) if s is None else s.numpy().ravel() for x, s in zip(point, slopes, strict=True)]


def _symbols(graph: Graph, blocks: Sequence[tuple[str, int | None]]) -> list[np.ndarray]:
    return [
        np.array(
            graph.input(name, 0) if size is None else [graph.input(name, i) for i in range(size)], dtype=object
        ).reshape(() if size is None else (size,))
        for name, size in blocks
    ]


def _is_constant(array: np.ndarray) -> bool:
    return all(x.operation == "constant" for x in array.flat)


def _as_tensor(value: Any) -> Any:
    """Return the numbers of constant expressions as a tensor; anything else as it is."""
    if isinstance(value, np.ndarray):
        return torch.as_tensor(np.array([x.value for x in value.flat], np.float64).reshape(value.shape))
    return value


class _Interpreter:
    def __init__(self, recorded: torch.fx.GraphModule, graph: Graph, parameters: Sequence[torch.Tensor]) -> None:
        self.recorded, self.graph = recorded, graph
        self.memory = {x.untyped_storage().data_ptr() for x in parameters}

    def run(self, symbols: Sequence[np.ndarray]) -> Sequence[Any]:
        known: dict[Any, Any] = {}
        arguments = iter(symbols)

        def look(value: Any) -> Any:
            if isinstance(value, torch.fx.Node):
                return known[value]
            return [look(x) for x in value] if isinstance(value, list | tuple) else value

        for node in self.recorded.graph.nodes:
            if node.op == "placeholder":
                known[node] = next(arguments)
            elif node.op == "get_attr":
                known[node] = self._constant(getattr(self.recorded, node.target))
            elif node.op == "output":
                result = look(node.args[0])
                return result if isinstance(result, list) else [result]
            else:
                known[node] = self._perform(node.target, look(node.args), dict(node.kwargs))
        raise UntracedOperation("The function returns nothing.")

    def _constant(self, tensor: torch.Tensor) -> np.ndarray:
        if tensor.untyped_storage().data_ptr() in self.memory:
            return self._parameter(tensor)
        values = tensor.detach().cpu().double().numpy()
        return np.asarray(np.vectorize(self.graph.constant, otypes=[object])(values), dtype=object)

    def _parameter(self, tensor: torch.Tensor) -> np.ndarray:
        """Return where the numbers of a parameter are, or of a view of one."""
        self.graph.owners.append(tensor)
        places = np.array(np.indices(tensor.shape).T @ np.array(tensor.stride(), int)).T * tensor.element_size()
        read = np.vectorize(lambda place: self.graph.parameter(tensor.data_ptr() + int(place)), otypes=[object])
        return np.asarray(read(places), dtype=object)

    def _perform(self, target: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if target is operator.getitem:
            return np.asarray(arguments[0][arguments[1]], dtype=object)
        name = str(target).removeprefix("aten.").split(".")[0]
        if name in _NEW:
            return self._constant(
                getattr(torch, name)(*arguments, **{k: v for k, v in options.items() if k == "dtype"})
            )
        if name not in ARRAYS and all(_is_constant(x) for x in arguments if isinstance(x, np.ndarray)):
            return self._constant(target(*map(_as_tensor, arguments), **options))
        options = {k: v for k, v in options.items() if k not in _IGNORED_OPTIONS}
        if name not in ARRAYS:
            raise UntracedOperation(f"torch's operation {name} has no expression.")
        arguments = [self._lift(x) if name in ELEMENTWISE else x for x in arguments]
        try:
            return ARRAYS[name](*arguments, **options)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise UntracedOperation(f"torch's operation {name} has no expression for these arguments.") from error

    def _lift(self, value: Any) -> Any:
        if isinstance(value, bool | int | float):
            return np.array(self.graph.constant(float(value)), dtype=object)
        return value
