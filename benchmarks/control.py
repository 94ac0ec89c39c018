"""Optimal control to 1e-6: the costate solver beside CasADi with IPOPT and with fatrop, Crocoddyl, and torch.

Every method solves the same discrete problems, cold, from the same first actions, on one thread, several times in
turn. What is timed is the solving, in CPU seconds, not the building of the peers' problems; of this toolkit, the
whole call, whatever it compiles included, for 1,024 first states at once, the peers taking them one by one; and for
one state, ten times in a row, like the peers, the problem made before as theirs is. Seconds
do not travel between machines, ratios do. A time is that of a solve that converged: what is spent on the others is
shared out among these. "As good" is the share of states whose cost is at most that of the best peer, state by
state, plus 1e-4 (1 + cost).

    pip install -e '.[benchmark]'
    python benchmarks/control.py                              # all of one table; about half an hour
    python benchmarks/control.py --rows quadrotor cart-pole   # some of it
    python benchmarks/control.py --compiled                   # with CasADi's functions compiled by a C compiler, too

Nothing here is asserted: it prints one table. Crocoddyl needs its model in C++: CasADi writes it, and gcc and g++,
where they are installed, compile it with Crocoddyl's and Eigen's headers, which come with the packages.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import statistics
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from control_models import CASES, POLE_STARTS, Case
from control_peers import TOL, Peer, casadi, functions, peers

from hamiltonian_rl.solvers.costate import PathSolution, prepare, solve_costate
from hamiltonian_rl.solvers.costate.kernels import compile_kernels
from hamiltonian_rl.trajectory import Trajectory, rollout

ALONE = 20  # calls in a row a repeat, of the solves of one state: what is called once has its code to load first
OURS, PREPARED = "costate solver", "costate solver, prepared"
HEADER = (
    "| problem | method | states | CPU ms a solve (median) | ratio | of what | converged | as good | mean cost |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def show(*cells: Any) -> None:
    """Print one row."""
    print("| " + " | ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in cells) + " |", flush=True)


def clocked(call: Any, clock: Any = time.process_time) -> tuple[float, Any]:
    """Return seconds, and what a call returns."""
    start = clock()
    result = call()
    return clock() - start, result


def solve(case: Case, states: np.ndarray, actions: np.ndarray, asked: Any = None, **settings: Any) -> PathSolution:
    """Solve with this toolkit, the problem made anew unless it is given."""
    problem = case.problem() if asked is None else asked
    return solve_costate(problem, states, initial_actions=actions, tol=TOL, **case.settings, **settings)


def first_call(name: str) -> float:
    """Return the CPU milliseconds of the first solve of one state in this process."""
    case = CASES[name]
    path = case.first_paths(case.states(1, 0))
    return 1e3 * clocked(lambda: solve(case, path.states[:, 0], path.actions))[0]


def as_good(costs: np.ndarray, best: np.ndarray) -> str:
    """Return the share of costs that are as good as the best of the peers', where one of them converged."""
    compared = np.isfinite(best)
    best = best[compared]
    return share(costs[compared] <= best + 1e-4 * (1.0 + np.abs(best))) if len(best) else ""


def check_models(name: str, case: Case) -> None:
    """Say by how much the cost of random paths differs between this toolkit's problem and the peers' model."""
    step, cost, end = functions(case)
    random = np.random.default_rng(0)
    problem = case.problem()
    space: Any = problem.action_space
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 8.0)
    actions = random.uniform(low, high, (8, problem.horizon, *space.shape))
    ours = rollout(problem, case.states(8, 1), actions)
    off = np.zeros(3)
    for path, taken, rewards in zip(ours.states, actions, ours.rewards, strict=True):
        for k, action in enumerate(taken):
            arrived = np.array(step(path[k], action)).ravel()
            off[0] = max(off[0], np.abs(arrived - path[k + 1]).max() / (1.0 + np.abs(arrived).max()))
            price = float(cost(path[k], action))
            off[1] = max(off[1], abs(price + rewards[k]) / (1.0 + abs(price)))
    price = [float(end(path[-1])) for path in ours.states]
    off[2] = np.abs(price + ours.value - ours.rewards.sum(1)).max() / (1.0 + np.abs(price).max())
    print(f"  {name}: next states, costs and ends differ by at most {off[0]:.0e}, {off[1]:.0e}, {off[2]:.0e}")


def build(name: str, arguments: argparse.Namespace) -> dict[str, Peer]:
    """Return the peers that are installed."""
    found = {}
    for peer, make in peers(arguments.compiled).items():
        try:
            found[peer] = make(CASES[name])
        except ImportError as error:
            print(f"  {peer}: {error}", flush=True)
    return found


def run_peers(
    solvers: dict[str, Peer], path: Trajectory, count: int, seconds: dict[str, list[float]]
) -> dict[str, np.ndarray]:
    """Solve the first states one by one, adding seconds a converged solve; return costs, infinite if not converged."""
    costs = {}
    for peer, run in solvers.items():
        done = [run(path.states[i], path.actions[i]) for i in range(count)]
        good = sum(x.converged for x in done)
        seconds.setdefault(peer, []).append(sum(x.seconds for x in done) / good if good else np.inf)
        costs[peer] = np.array([x.cost if x.converged else np.inf for x in done])
    return costs


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print a problem's rows: many states, then one, then what compiling costs."""
    case = CASES[name]
    solvers = build(name, arguments)
    if solvers:
        check_models(name, case)
    path = case.first_paths(case.states(arguments.states, arguments.seed))
    states, count = path.states[:, 0], arguments.peer_states
    asked = case.problem()
    ready = prepare(asked)
    solve(case, states[:1], path.actions[:1])
    seconds: dict[str, list[float]] = {OURS: []}
    single: dict[str, list[float]] = {OURS: []}
    costs: dict[str, np.ndarray] = {}
    for _ in range(arguments.repeats):
        elapsed, solution = clocked(lambda: solve(case, states, path.actions))
        seconds[OURS].append(elapsed / max(1, solution.converged.sum()))
        costs = run_peers(solvers, path, count, seconds)
        for _ in range(ALONE):
            single[OURS].append(clocked(lambda: solve(case, states[:1], path.actions[:1], asked))[0])
        for _ in range(ALONE):
            elapsed = clocked(lambda: solve(case, states[:1], path.actions[:1], asked, backend=ready))[0]
            single.setdefault(PREPARED, []).append(elapsed)
        for peer, run in solvers.items():
            for _ in range(ALONE):
                run_peers({peer: run}, path, 1, single)
    certify(name, solution)
    best = np.min(list(costs.values()), axis=0) if costs else np.full(count, np.inf)
    rows = {OURS: -solution.value[:count], **costs}
    medians, fastest = middle(seconds)
    for method, found in rows.items():
        good = as_good(found, best)
        converged = share(solution.converged) if method == OURS else share(np.isfinite(found))
        ended = found[np.isfinite(found)]
        mean = float(ended.mean()) if len(ended) else np.inf
        size = len(states) if method == OURS else count
        ratio = fastest / medians[method]
        show(name, method, size, 1e3 * medians[method], ratio, "fastest peer / it, CPU", converged, good, mean)
    medians, fastest = middle(single)
    for method in (*rows, PREPARED):
        ratio = medians[method] / fastest
        show(name, f"{method}, one state", 1, 1e3 * medians[method], ratio, "it / fastest peer, CPU", "", "", "")
    compiling = min(clocked(lambda: compile_kernels(case.problem()))[0] for _ in range(3))
    show(name, "of that, if it compiles: tracing, derivatives, machine code", 1, 1e3 * compiling, *[""] * 5)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        show(name, "first call of a process", 1, pool.submit(first_call, name).result(), *[""] * 5)


def middle(seconds: dict[str, list[float]]) -> tuple[dict[str, float], float]:
    """Return medians, and the smallest of the peers'."""
    medians = {method: statistics.median(values) for method, values in seconds.items()}
    return medians, min((x for method, x in medians.items() if method not in (OURS, PREPARED)), default=float("nan"))


def share(found: Any) -> str:
    """Return a share as text."""
    return f"{100.0 * float(np.mean(found)):.1f} %"


def certify(name: str, solution: PathSolution) -> None:
    """Say how the paths ended, and the largest residual of Pontryagin's conditions on those called optimal."""
    certificate = solution.certificate
    parts = {x: getattr(certificate, x) for x in ("dynamics", "costate", "stationarity")}
    optimal = solution.converged
    largest = ", ".join(f"{x} {values[optimal].max(initial=0.0):.1e}" for x, values in parts.items())
    false = np.flatnonzero(optimal & (np.max(list(parts.values()), axis=0) >= 1e-5))
    counts = ", ".join(f"{count} {status}" for status, count in Counter(x.name for x in solution.status).items())
    print(f"  {name}: {counts}; residuals of the optima: {largest}; {len(false)} above 1e-5 {false[:5].tolist()}")


def starts(arguments: argparse.Namespace) -> None:
    """Print the cart-pole from 2 and from 32 starts a state, beside one solve of IPOPT."""
    case, problem = CASES["cart-pole"], CASES["cart-pole"].problem()
    path = case.first_paths(case.states(arguments.peer_states, arguments.seed))
    states = path.states[:, 0]
    families = {f"{OURS}, 2 starts": [case.actions, POLE_STARTS[-1]], f"{OURS}, 32 starts": POLE_STARTS}
    seconds: dict[str, list[float]] = {name: [] for name in families}
    solutions: dict[str, PathSolution] = {}
    try:
        solvers = {"CasADi + IPOPT": casadi("ipopt", False)(case)}
    except ImportError as error:
        print(f"  IPOPT: {error}")
        solvers = {}
    costs: dict[str, np.ndarray] = {}
    for _ in range(arguments.repeats):
        for name, family in families.items():
            run = functools.partial(solve_costate, problem, states, starts=family, tol=TOL)
            elapsed, solutions[name] = clocked(run)
            seconds[name].append(elapsed / len(states))
        costs = run_peers(solvers, path, len(states), seconds)
    for name, solution in solutions.items():
        certify(name, solution)
    medians = {method: statistics.median(values) for method, values in seconds.items()}
    best = np.min(list(costs.values()), axis=0) if costs else np.full(len(states), np.inf)
    for method, found in {**{name: -x.value for name, x in solutions.items()}, **costs}.items():
        converged = share(solutions[method].converged if method in solutions else np.isfinite(found))
        ratio = medians[method] / medians.get("CasADi + IPOPT", float("nan"))
        mean = float(found[np.isfinite(found)].mean())
        good = as_good(found, best)
        show("cart-pole", method, len(found), 1e3 * medians[method], ratio, "it / one IPOPT", converged, good, mean)


def serve(name: str, arguments: argparse.Namespace, first: int, pipe: Connection) -> None:
    """Solve every second state of a problem, in a process of its own, each time that it is asked to."""
    case = CASES[name]
    path = case.first_paths(case.states(arguments.states, arguments.seed))
    states, actions = (np.ascontiguousarray(x[first::2]) for x in (path.states[:, 0], path.actions))
    while True:
        solve(case, states, actions)
        pipe.send(None)
        if not pipe.recv():
            break


def threads(arguments: argparse.Namespace) -> None:
    """Print what a second thread brings, in wall time; and beside it, in turn, what two processes do: the ceiling."""
    context = multiprocessing.get_context("spawn")
    for name in ("mountain-car", "quadrotor", "cart-pole"):
        case = CASES[name]
        path = case.first_paths(case.states(arguments.states, arguments.seed))
        pipes = []
        for first in range(2):
            pipe, end = context.Pipe()
            context.Process(target=serve, args=(name, arguments, first, end), daemon=True).start()
            pipes.append(pipe)

        def shared(pipes: list[Connection] = pipes) -> None:
            for pipe in pipes:
                pipe.send(True)
            for pipe in pipes:
                pipe.recv()

        run = functools.partial(solve, case, path.states[:, 0], path.actions)
        calls: dict[str, Any] = {"1 thread": run, "2 threads": functools.partial(run, threads=2), "2 processes": shared}
        seconds: dict[str, list[float]] = {method: [] for method in calls}
        for pipe in pipes:
            pipe.recv()
        for repeat in range(arguments.repeats + 1):
            for method, call in calls.items():
                elapsed, _ = clocked(call, time.perf_counter)
                if repeat:  # the first warms up
                    seconds[method].append(elapsed)
        for pipe in pipes:
            pipe.send(False)
        medians, size = {method: statistics.median(x) for method, x in seconds.items()}, len(path.states)
        for method in ("2 threads", "2 processes"):
            ratio = medians["1 thread"] / medians[method]
            of = "one thread / it, wall"
            show(name, f"{OURS}, {method}", size, 1e3 * medians[method] / size, ratio, of, "", "", "")


def torch(arguments: argparse.Namespace) -> None:
    """Print this toolkit's solver in plain torch: the same method, batched, and nothing compiled. Once: it is slow."""
    case = CASES["quadrotor"]
    path = case.first_paths(case.states(arguments.states, arguments.seed))
    states = path.states[:, 0]
    solve(case, states[:1], path.actions[:1])  # compiles
    fast, _ = clocked(lambda: solve(case, states, path.actions))
    slow, solution = clocked(lambda: solve(case, states, path.actions, backend="torch"))
    ms, converged = 1e3 * slow / len(states), share(solution.converged)
    mean = float(-solution.value[: arguments.peer_states].mean())
    show("quadrotor", "plain torch", len(states), ms, slow / fast, f"it / {OURS}, CPU", converged, "", mean)


MORE = {"starts": starts, "threads": threads, "torch": torch}


def main() -> None:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*CASES, *MORE]
    parser.add_argument("--rows", nargs="*", choices=every, default=every, metavar="ROW", help=", ".join(every))
    parser.add_argument("--repeats", type=int, default=5, help="timed runs a method (default: 5)")
    parser.add_argument("--states", type=int, default=1024, help="first states of this toolkit (default: 1024)")
    parser.add_argument("--peer-states", type=int, default=64, help="of them, the peers' (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the first states (default: 0)")
    parser.add_argument("--compiled", action="store_true", help="CasADi with a C compiler, too (minutes a problem)")
    arguments = parser.parse_args()
    arguments.peer_states = min(arguments.peer_states, arguments.states)
    print(HEADER)
    for row in arguments.rows:
        if row in MORE:
            MORE[row](arguments)
        else:
            compare(row, arguments)


if __name__ == "__main__":
    main()
