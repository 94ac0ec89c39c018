"""What numba has no words for: calls at an address, caches of several files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


@intrinsic
def _intrinsic_call(context: Any, address: Any, pointers: Any) -> Any:
    """Call machine code at an address with pointers to doubles."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = ir.PointerType(ir.DoubleType())
        count = len(signature.args[1])
        function = builder.inttoptr(arguments[0], ir.PointerType(ir.FunctionType(ir.VoidType(), [pointer] * count)))
        places = cgutils.unpack_tuple(builder, arguments[1], count)  # type: ignore[no-untyped-call]
        builder.call(function, [builder.inttoptr(place, pointer) for place in places])
        return context.get_dummy_value()

    return types.void(types.int64, pointers), generate


def named_after(*modules: ModuleType) -> Callable[[F], F]:
    """Return a decorator that puts a digest of modules' files into a function's name, and so into that of its cache.

    To see whether the machine code that it has kept is old numba looks at the function's own file alone, not at those
    of what is inlined there.
    """
    digest = hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()[:16]

    def name(function: F) -> F:
        function.__qualname__ += f"_{digest}"
        return function

    return name


# Numba hides the context from callers, which type checkers cannot know.
call: Any = _intrinsic_call
