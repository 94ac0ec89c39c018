"""Machine code from scalar expressions: each function computes eight problems at once, one to a lane.

LLVM's own vector type of eight doubles is used throughout, so that one instruction (or two, or four: what the
processor has) serves eight problems; nothing is left to a compiler's guess. The code is built in memory by
llvmlite in fractions of a second: no source file, no C++ compiler, no cache to keep safe.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from hamiltonian_rl.tracing.expressions import Expression, ordered
from hamiltonian_rl.tracing.vector_functions import LANES as LANES
from hamiltonian_rl.tracing.vector_functions import VECTOR, Vectors

_POINTER = ir.PointerType(ir.DoubleType())

Signature = tuple[Sequence[str], Sequence[Sequence[Expression]]]


class Library:
    """Compiled functions; their machine code lives as long as this object.

    Args:
        functions: Of each name, the names of its input blocks, and its output blocks as expressions. The
            compiled function takes one pointer a block, inputs before outputs; each block is an array
            ``(entries, LANES)`` of doubles. Outputs may lie where inputs do.

    Attributes:
        addresses: Address of each function.

    Example:
        >>> from hamiltonian_rl.tracing.expressions import Graph
        >>> x = Graph().input("x", 0)
        >>> library = Library({"wave": (["x"], [[x.sin(), x * x]])})
        >>> library("wave", [np.full((1, LANES), 0.5)])[0][:, 0].round(4).tolist()
        [0.4794, 0.25]
    """

    def __init__(self, functions: Mapping[str, Signature]) -> None:
        module = ir.Module("hamiltonian_rl")
        for name, (blocks, outputs) in functions.items():
            _Writer(module, name, blocks, outputs)
        self._sizes = {name: [len(block) for block in outputs] for name, (_, outputs) in functions.items()}
        self._owners = [x.graph.owners for _, outputs in functions.values() for block in outputs for x in block[:1]]
        self._engine = _compile(module)
        self.addresses = {name: self._engine.get_function_address(name) for name in functions}

    def __call__(self, name: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run a function once, on arrays ``(entries, LANES)``; for tests, and where speed does not matter."""
        outputs = [np.empty((size, LANES)) for size in self._sizes[name]]
        blocks = [np.ascontiguousarray(x, dtype=np.float64) for x in inputs] + outputs
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(blocks))(self.addresses[name])
        function(*[block.ctypes.data for block in blocks])
        return outputs


def _compile(module: ir.Module) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        parsed, llvm.create_pass_builder(machine, options)
    )
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


class _Writer(Vectors):
    """Writes one function: all loads, then the operations in order, then all stores."""

    def __init__(
        self, module: ir.Module, name: str, blocks: Sequence[str], outputs: Sequence[Sequence[Expression]]
    ) -> None:
        signature = ir.FunctionType(ir.VoidType(), [_POINTER] * (len(blocks) + len(outputs)))
        function = ir.Function(module, signature, name)
        self.module, self.builder = module, ir.IRBuilder(function.append_basic_block())
        pointers = dict(zip(blocks, function.args, strict=False))
        nodes = ordered([x for block in outputs for x in block])
        values: dict[int, ir.Value] = {
            x.number: self._load(pointers[x.value[0]], x.value[1]) for x in nodes if x.operation == "input"
        }
        for x in nodes:
            if x.operation == "constant":
                values[x.number] = self.number(float(x.value))
            elif x.operation == "parameter":
                values[x.number] = self._spread(x.value)
            elif x.operation != "input":
                values[x.number] = self._perform(x.operation, *(values[y.number] for y in x.arguments))
        for pointer, block in zip(function.args[len(blocks) :], outputs, strict=True):
            for index, x in enumerate(block):
                self.builder.store(self._as_number(values[x.number]), self._place(pointer, index), align=8)
        self.builder.ret_void()

    def _place(self, pointer: ir.Value, index: int) -> ir.Value:
        entry = self.builder.gep(pointer, [ir.Constant(ir.IntType(64), index * LANES)])
        return self.builder.bitcast(entry, ir.PointerType(VECTOR))

    def _load(self, pointer: ir.Value, index: int) -> ir.Value:
        return self.builder.load(self._place(pointer, index), align=8)

    def _spread(self, address: int) -> ir.Value:
        """Load the double at an address into every lane."""
        place = self.builder.inttoptr(ir.Constant(ir.IntType(64), address), _POINTER)
        zero = ir.Constant(ir.IntType(32), 0)
        one = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), self.builder.load(place), zero)
        first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, one, first)

    def _as_number(self, value: ir.Value) -> ir.Value:
        if value.type == VECTOR:
            return value
        return self.builder.uitofp(value, VECTOR)

    def _as_truth(self, value: ir.Value) -> ir.Value:
        if value.type != VECTOR:
            return value
        return self.builder.fcmp_unordered("!=", value, self.number(0.0))

    def _perform(self, operation: str, *arguments: ir.Value) -> ir.Value:
        build = self.builder
        if operation in ("and", "or"):
            return getattr(build, f"{operation}_")(*map(self._as_truth, arguments))
        if operation == "not":
            return build.not_(self._as_truth(arguments[0]))
        if operation == "where":
            condition, *values = arguments
            return build.select(self._as_truth(condition), *map(self._as_number, values))
        numbers = [self._as_number(x) for x in arguments]
        if operation in _ARITHMETIC:
            # Fused multiply-add is allowed: it rounds once where two operations round twice. So is the product with
            # a reciprocal where several quotients have one divisor: divisions took half of a backward pass.
            return getattr(build, _ARITHMETIC[operation])(*numbers, flags=("contract", "arcp"))
        if operation in _COMPARISONS:
            return build.fcmp_ordered(_COMPARISONS[operation], *numbers)
        if operation in _INTRINSICS:
            return self.call(f"llvm.{_INTRINSICS[operation]}.v{LANES}f64", numbers)
        if operation in ("sin", "cos"):
            return self.wave(numbers[0], operation)
        if operation == "log":
            return self.logarithm(numbers[0])
        return self._each_lane(_FROM_C[operation], numbers)

    def _each_lane(self, name: str, arguments: Sequence[ir.Value]) -> ir.Value:
        """Call a function of C's mathematical library lane by lane."""
        result: ir.Value = ir.Constant(VECTOR, ir.Undefined)
        for lane in range(LANES):
            place = ir.Constant(ir.IntType(32), lane)
            result = self.builder.insert_element(
                result, self.call(name, [self.builder.extract_element(x, place) for x in arguments]), place
            )
        return result


_ARITHMETIC: Mapping[str, str] = {
    "add": "fadd",
    "subtract": "fsub",
    "multiply": "fmul",
    "divide": "fdiv",
    "negative": "fneg",
}
_COMPARISONS = {"less": "<", "less_equal": "<=", "equal": "=="}
_INTRINSICS = {
    "sqrt": "sqrt",
    "absolute": "fabs",
    "floor": "floor",
    "minimum": "minimum",
    "maximum": "maximum",
}
_FROM_C = {"exp": "exp", "tanh": "tanh", "atan": "atan", "power": "pow"}
