"""Sweeps for values that no longer fit into the caches near the processor: look up first, then choose.

A sweep of `kernels` takes each looked-up value straight into a sum and a comparison, and while one look-up is waited
for only a few others are under way. Here a block of states first looks up all that it needs, eight values an
instruction, and writes the products ``p v`` side by side; then it sums and compares what lies close by. The results
are the same to the last bit.

Notation as in `kernels`; ``W`` states a block, ``LANES`` products an instruction.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from hamiltonian_rl.solvers.kernels import Kernel, compiled

LANES = 8
BLOCK = 16  # states of a backup in one block, their products being a few kilobytes
EVALUATION_BLOCK = 64
INDEX = ir.IntType(64)
FIRST, ALIGNMENT = ir.Constant(ir.IntType(32), 0), ir.Constant(ir.IntType(32), 8)


@intrinsic
def _eight_products(context: Any, products: Any, z: Any, p: Any, v: Any, entry: Any, place: Any) -> Any:
    """Write ``products[place + i] = p[entry + i] v[z[entry + i]]`` for i = 0..7, as LLVM's own vectors.

    Left to itself, the compiler does not do so: it cannot know that what is written is not read again.
    """
    signature = types.void(products, z, p, v, types.uint64, types.uint64)
    doubles, integers = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(32), LANES)
    addresses, pointers = ir.VectorType(INDEX, LANES), ir.VectorType(ir.DoubleType().as_pointer(), LANES)
    mask = ir.VectorType(ir.IntType(1), LANES)
    gather_type = ir.FunctionType(doubles, [pointers, ir.IntType(32), mask, doubles])

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry, place = arguments[4:]
        to, successors, probabilities, values = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[:4], arguments[:4], strict=True)
        )

        def at(pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
            return builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer())

        indices = builder.zext(builder.load(at(successors, entry, integers), align=4), addresses)
        start = builder.insert_element(ir.Constant(addresses, ir.Undefined), builder.ptrtoint(values, INDEX), FIRST)
        start = builder.shuffle_vector(start, start, ir.Constant(integers, [0] * LANES))
        places = builder.add(start, builder.mul(indices, ir.Constant(addresses, [8] * LANES)))
        gather = get_or_insert_function(builder.module, gather_type, "llvm.masked.gather.v8f64.v8p0")  # type: ignore[no-untyped-call]
        all_lanes, nothing = ir.Constant(mask, [1] * LANES), ir.Constant(doubles, ir.Undefined)
        looked_up = builder.call(gather, [builder.inttoptr(places, pointers), ALIGNMENT, all_lanes, nothing])
        result = builder.fmul(builder.load(at(probabilities, entry, doubles), align=8), looked_up)
        builder.store(result, at(to, place, doubles), align=8)
        return context.get_dummy_value()

    return signature, generate


@compiled
def _products(products, z, p, v, begin, count):  # type: ignore[no-untyped-def]
    """Write ``p v[z]`` of the entries ``[begin, begin + count)``."""
    whole = count - count % np.uint64(LANES)
    for j in range(np.uint64(0), whole, np.uint64(LANES)):
        _eight_products(products, z, p, v, begin + j, j)  # type: ignore[call-arg]
    for j in range(whole, count):
        products[j] = p[begin + j] * v[np.uint32(z[begin + j])]


@cache
def backup_kernel(n_actions: int, branching: int) -> Kernel:
    """Return ``(r, first, z, p, g, v, out, policy, start, stop) -> (min d, max d)`` with ``d = out - v``."""
    entries = n_actions * branching

    @compiled
    def backup(r, first, z, p, g, v, out, policy, start, stop):  # type: ignore[no-untyped-def]
        products = np.empty(BLOCK * entries)
        lowest, highest = np.inf, -np.inf
        for begin in range(np.uint64(start), np.uint64(stop), np.uint64(BLOCK)):
            end = min(begin + np.uint64(BLOCK), np.uint64(stop))
            _products(products, z, p, v, begin * np.uint64(entries), (end - begin) * np.uint64(entries))
            for s in range(begin, end):
                best, chosen = -np.inf, np.uint64(0)
                for a in range(np.uint64(n_actions)):
                    total, row = 0.0, (s - begin) * np.uint64(entries) + a * np.uint64(branching)
                    for j in range(np.uint64(branching)):
                        total += products[row + j]
                    q = r[s, a] + g * total
                    chosen = np.uint64(a) if q > best else chosen
                    best = max(best, q)
                out[s] = best
                policy[s] = chosen
                lowest, highest = min(lowest, best - v[s]), max(highest, best - v[s])
        return lowest, highest

    return backup


@cache
def evaluation_kernel(branching: int) -> Kernel:
    """Return ``(r, first, z, p, g, v, out, start, stop) -> (min d, max d)``: a sweep of a policy's own rows."""

    @compiled
    def evaluate(r, first, z, p, g, v, out, start, stop):  # type: ignore[no-untyped-def]
        products = np.empty(EVALUATION_BLOCK * branching)
        lowest, highest = np.inf, -np.inf
        for begin in range(np.uint64(start), np.uint64(stop), np.uint64(EVALUATION_BLOCK)):
            end = min(begin + np.uint64(EVALUATION_BLOCK), np.uint64(stop))
            _products(products, z, p, v, begin * np.uint64(branching), (end - begin) * np.uint64(branching))
            for s in range(begin, end):
                total = 0.0
                for j in range(np.uint64(branching)):
                    total += products[(s - begin) * np.uint64(branching) + j]
                out[s] = r[s] + g * total
                lowest, highest = min(lowest, out[s] - v[s]), max(highest, out[s] - v[s])
        return lowest, highest

    return evaluate
