"""Peers of the costate solver for `benchmarks/control.py`: CasADi's NLP with IPOPT and with fatrop, and Crocoddyl.

Each is built once a problem, outside of what is timed, and then solves one first state at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from control_models import Case

TOL = 1e-6
PYTHON_MODEL = "Crocoddyl, Python model"


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


def crocoddyl_lqr(case: Case) -> Peer:
    """Return Crocoddyl's box-FDDP on its own compiled linear-quadratic model."""
    import crocoddyl

    A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]])
    crossed, state, action = np.zeros((2, 1)), np.zeros(2), np.zeros(1)
    running, last = (
        crocoddyl.ActionModelLQR(A, B, Q, R, crossed, state, state, action)  # of ½ (xᵀQx + uᵀRu)
        for Q, R in ((np.diag([2.0, 0.2]), np.array([[0.2]])), (20.0 * np.eye(2), np.zeros((1, 1))))
    )
    return _box_fddp(running, last, case)


def crocoddyl_python(case: Case) -> Peer:
    """Return Crocoddyl's box-FDDP on a model in Python, its derivatives from CasADi: Crocoddyl has none compiled."""
    import casadi as cs
    import crocoddyl

    step, cost, end = functions(case)
    space: Any = case.problem().action_space
    n, m = len(case.start), space.shape[0]
    x, u = cs.SX.sym("x", n), cs.SX.sym("u", m)

    def calls(next_state: Any, price: Any) -> tuple[Any, Any]:
        both = cs.vertcat(x, u)
        curvature, slope = cs.hessian(price, both)
        derivatives = [cs.jacobian(next_state, x), cs.jacobian(next_state, u), slope, curvature]
        return cs.Function("value", [x, u], [next_state, price]), cs.Function("slopes", [x, u], derivatives)

    class Model(crocoddyl.ActionModelAbstract):  # type: ignore[misc, name-defined]
        def __init__(self, value: Any, slopes: Any) -> None:
            crocoddyl.ActionModelAbstract.__init__(self, crocoddyl.StateVector(n), m, 0)
            self.value, self.slopes = value, slopes
            self.u_lb, self.u_ub = space.low, space.high

        def calc(self, data: Any, x: np.ndarray, u: np.ndarray | None = None) -> None:
            arrived, price = self.value(x, np.zeros(m) if u is None else u)
            data.xnext, data.cost = np.array(arrived).ravel(), float(price)

        def calcDiff(self, data: Any, x: np.ndarray, u: np.ndarray | None = None) -> None:
            Fx, Fu, slope, curvature = (np.array(y) for y in self.slopes(x, np.zeros(m) if u is None else u))
            data.Fx, data.Fu, data.Lx, data.Lu = Fx, Fu, slope[:n].ravel(), slope[n:].ravel()
            data.Lxx, data.Luu, data.Lxu = curvature[:n, :n], curvature[n:, n:], curvature[:n, n:]

    running, last = Model(*calls(step(x, u), cost(x, u))), Model(*calls(x, end(x)))
    return _box_fddp(running, last, case)


def _box_fddp(running: Any, last: Any, case: Case) -> Peer:
    import crocoddyl

    horizon = case.problem().horizon or 0

    def solve(path: np.ndarray, guess: np.ndarray) -> Solved:
        problem = crocoddyl.ShootingProblem(path[0], [running] * horizon, last)
        problem.nthreads = 1
        solver = crocoddyl.SolverBoxFDDP(problem)
        solver.th_stop = 1e-9  # its own
        states, actions = [np.array(x) for x in path], [np.array(u) for u in guess]
        begin = time.process_time()
        converged = solver.solve(states, actions, 500, True)
        return Solved(time.process_time() - begin, float(solver.cost), bool(converged))

    return solve


def peers(row: str, compiled: bool, python_models: bool) -> dict[str, Callable[[Case], Peer]]:
    """Return what solves a row's problem: name, and what builds it."""
    found: dict[str, Callable[[Case], Peer]] = {
        "CasADi + IPOPT": casadi("ipopt", False),
        "CasADi + fatrop": casadi("fatrop", False),
    }
    if compiled:
        found |= {"compiled CasADi + IPOPT": casadi("ipopt", True), "compiled CasADi + fatrop": casadi("fatrop", True)}
    if row == "lqr":
        return found | {"Crocoddyl, C++ model": crocoddyl_lqr}
    return found | ({PYTHON_MODEL: crocoddyl_python} if python_models else {})
