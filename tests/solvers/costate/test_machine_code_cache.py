"""Machine code that is kept on disk is that of the files as they are, not as they were."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from hamiltonian_rl.solvers.costate import lane_arrays, lane_problems, lanes, machine_calls
from hamiltonian_rl.tracing import vector_code

INNER = """
import numba

@numba.njit(inline="always")
def number():
    return 1
"""
OUTER = """
import numba
import inner
from hamiltonian_rl.solvers.costate.machine_calls import named_after

@numba.njit(cache=True)
@named_after(inner)
def run():
    return inner.number()
"""


def _run_anew() -> tuple[int, int]:
    """Return what the function returns in modules loaded anew, and whether its machine code came from the disk."""
    for name in ("inner", "outer"):
        sys.modules.pop(name, None)
    run = importlib.import_module("outer").run
    return run(), sum(run.stats.cache_hits.values())


def test_a_change_of_an_inlined_functions_file_has_the_code_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's own would be as old, within a second
    (tmp_path / "inner.py").write_text(INNER)
    (tmp_path / "outer.py").write_text(OUTER)
    assert _run_anew() == (1, 0)
    assert _run_anew() == (1, 1)
    (tmp_path / "inner.py").write_text(INNER.replace("return 1", "return 2"))
    assert _run_anew() == (2, 0)


def _files_of(function: Any) -> Iterator[str]:
    """Yield the files of a compiled function, and of all that it names and numba compiles into it."""
    plain = getattr(function, "py_func", None) or getattr(function, "_defn", None)
    if plain is not None:
        code: CodeType = plain.__code__
        yield code.co_filename
        for name in code.co_names:
            yield from _files_of(plain.__globals__.get(name))


def test_the_compiled_solver_is_named_after_all_files_that_are_compiled_into_it() -> None:
    named = {module.__file__ for module in (lanes, lane_arrays, lane_problems, machine_calls, vector_code)}
    assert set(_files_of(lanes.run)) <= named
