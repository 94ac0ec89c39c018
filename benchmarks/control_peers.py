"""Peers of the costate solver for `benchmarks/control.py`: CasADi's NLP with IPOPT and with fatrop, and Crocoddyl.

Each is built once a problem, outside of what is timed, and then solves one first state at a time.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from control_models import Case

TOL = 1e-6


class Solved(NamedTuple):
    """One solve: CPU seconds, the cost that was reached, whether the solver says it converged."""

    seconds: float
    cost: float
    converged: bool


Peer = Callable[[np.ndarray, np.ndarray], Solved]  # from a first path: states (N + 1, n) and actions (N, m)

COMPILED = {"jit": True, "compiler": "shell", "jit_options": {"flags": ["-O2", "-march=native"]}}


def functions(case: Case) -> tuple[Any, Any, Any]:
    """Return step, cost and cost of the end, as CasADi functions."""
    import casadi as cs

    n, m = len(case.start), case.problem().action_space.shape[0]  # type: ignore[index]
    x, u = cs.SX.sym("x", n), cs.SX.sym("u", m)
    return (
        cs.Function("step", [x, u], [cs.vertcat(*case.step(cs, x, u))]),
        cs.Function("cost", [x, u], [case.cost(cs, x, u)]),
        cs.Function("end", [x], [case.end(cs, x)]),
    )


def casadi(plugin: str, compiled: bool) -> Callable[[Case], Peer]:
    """Return multiple shooting with a plugin of CasADi, its functions interpreted or compiled by a C compiler."""

    def build(case: Case) -> Peer:
        import casadi as cs

        step, cost, end = functions(case)
        space: Any = case.problem().action_space
        n, m, horizon = len(case.start), space.shape[0], case.problem().horizon or 0
        states = [cs.SX.sym(f"x{k}", n) for k in range(horizon + 1)]
        actions = [cs.SX.sym(f"u{k}", m) for k in range(horizon)]
        first, gaps, total = cs.SX.sym("first", n), [], end(states[-1])
        for k, (x, u) in enumerate(zip(states[:-1], actions, strict=True)):
            gaps.append(states[k + 1] - step(x, u))  # fatrop finds the stages by this order
            if k == 0:
                gaps.append(x - first)
            total += cost(x, u)
        variables = [y for pair in zip(states[:-1], actions, strict=True) for y in pair] + states[-1:]
        nlp = {"x": cs.vertcat(*variables), "f": total, "g": cs.vertcat(*gaps), "p": first}
        options = {"expand": True, "print_time": False, **(COMPILED if compiled else {})}
        if plugin == "ipopt":
            options |= {"ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.tol": TOL, "ipopt.max_iter": 3000}
        else:
            options |= {"structure_detection": "auto", "equality": [True] * nlp["g"].numel()}
            options |= {"fatrop.print_level": 0, "fatrop.tolerance": TOL, "fatrop.max_iter": 3000}
        solver = cs.nlpsol("solver", plugin, nlp, options)
        free = np.full(n, np.inf)
        low = np.concatenate([np.tile(np.append(-free, space.low), horizon), -free])
        high = np.concatenate([np.tile(np.append(free, space.high), horizon), free])

        def solve(path: np.ndarray, guess: np.ndarray) -> Solved:
            begin = np.concatenate([np.hstack([path[:-1], guess]).ravel(), path[-1]])
            start = time.process_time()
            found = solver(x0=begin, p=path[0], lbx=low, ubx=high, lbg=0.0, ubg=0.0)
            seconds = time.process_time() - start
            return Solved(seconds, float(found["f"]), bool(solver.stats()["success"]))

        return solve

    return build


def crocoddyl(case: Case) -> Peer:
    """Return Crocoddyl's box-FDDP, the model in C from CasADi, compiled here with Crocoddyl's headers."""
    import casadi as cs
    import crocoddyl  # its libraries must be loaded before ours

    step, cost, end = functions(case)
    space: Any = case.problem().action_space
    n, m, horizon = len(case.start), space.shape[0], case.problem().horizon or 0
    x, u = cs.SX.sym("x", n), cs.SX.sym("u", m)
    both, code = cs.vertcat(x, u), cs.CodeGenerator("model")
    for name, next_state, price in (("running", step(x, u), cost(x, u)), ("last", x, end(x))):
        curvature, slope = cs.hessian(price, both)
        slopes = [cs.jacobian(next_state, x), cs.jacobian(next_state, u), slope, curvature]
        code.add(cs.Function(f"{name}_value", [x, u], [cs.densify(next_state), cs.densify(price)]))
        code.add(cs.Function(f"{name}_slopes", [x, u], [cs.densify(y) for y in slopes]))
    prefix, eigen = Path(crocoddyl.__file__).parents[4], Path(cs.__file__).parent / "include" / "eigen3"
    with tempfile.TemporaryDirectory() as folder:
        code.generate(f"{folder}/")
        compile_ = ["-O3", "-march=native", "-fPIC", "-c", f"{folder}/model.c", "-o", f"{folder}/model.o"]
        # The solver's own flags are those of Crocoddyl's library: Eigen's memory layout depends on the processor's.
        link = [
            "-O3",
            "-DNDEBUG",
            "-std=c++17",
            "-fPIC",
            "-shared",
            str(Path(__file__).with_name("control_crocoddyl.cpp")),
        ]
        link += [f"{folder}/model.o", f"-I{prefix / 'include'}", "-isystem", str(eigen), f"-L{prefix / 'lib'}"]
        for command in (["gcc", *compile_], ["g++", *link, "-lcrocoddyl", "-o", f"{folder}/solve.so"]):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise ImportError(f"cannot compile a model: {getattr(error, 'stderr', None) or error}"[:500]) from error
        library = ctypes.CDLL(f"{folder}/solve.so")

    def solve(path: np.ndarray, guess: np.ndarray) -> Solved:
        result = np.zeros(3)
        arrays = [np.ascontiguousarray(y, dtype=np.float64) for y in (path, guess, space.low, space.high)]
        library.solve(n, m, horizon, *(ctypes.c_void_p(y.ctypes.data) for y in (*arrays, result)))
        return Solved(float(result[0]), float(result[1]), bool(result[2]))

    return solve


def peers(compiled: bool) -> dict[str, Callable[[Case], Peer]]:
    """Return the peers: name, and what builds it for a problem."""
    found: dict[str, Callable[[Case], Peer]] = {
        "CasADi + IPOPT": casadi("ipopt", False),
        "CasADi + fatrop": casadi("fatrop", False),
        "Crocoddyl, C++ model": crocoddyl,
    }
    if compiled:
        found |= {"compiled CasADi + IPOPT": casadi("ipopt", True), "compiled CasADi + fatrop": casadi("fatrop", True)}
    return found
