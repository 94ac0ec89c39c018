"""Finite processes solved to 1e-6: this toolkit's solvers beside QuantEcon, mdpsolver, pymdptoolbox and SciPy.

Then what bounds a solver: sweeps beside the memory's own speed, two threads beside one, peak memory beside the tables.

Each row is one process; every method solves the same tables, in one process of the operating system, one
thread, several times in turn. What is timed is the solving, in CPU seconds, not the building of tables and not
the compiling. Seconds do not travel between machines, ratios do. The error is the distance from a value that
this toolkit has certified to 1e-8 or better: peers say nothing of it themselves.

    pip install -e '.[benchmark]'
    python benchmarks/mdp.py                        # all of one table; about half an hour
    python benchmarks/mdp.py --rows garnet-1e4      # one of them
    python benchmarks/mdp.py --rows limit threads memory

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from limits import LIMITS
from processes import garnet, maze, pendulum
from scipy import sparse

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import METHODS, solve, value_iteration

TOL = 1e-6
SLOW = 20.0  # seconds after which a method is run once only


ROWS: dict[str, Callable[[float], MDP]] = {
    "garnet-1e4": lambda discount: garnet(10_000, discount),
    "garnet-1e5": lambda discount: garnet(100_000, discount),
    "garnet-1e6": lambda discount: garnet(1_000_000, discount),
    "pendulum": pendulum,
    "maze": maze,
}
HEADER = (
    "| process | γ | method | seconds (median) | ratio | of what | error |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def ours(name: str, **settings: Any) -> Callable[[MDP], Callable[[], np.ndarray]]:
    """Return a method of this toolkit, on one thread."""

    def prepare(mdp: MDP) -> Callable[[], np.ndarray]:
        return lambda: METHODS[name](mdp, tol=TOL, **settings).unwrap().value

    return prepare


def quantecon(method: str) -> Callable[[MDP], Callable[[], np.ndarray]]:
    """Return a method of QuantEcon's DiscreteDP, in its sparse state-action form."""

    def prepare(mdp: MDP) -> Callable[[], np.ndarray]:
        from quantecon.markov import DiscreteDP

        states, actions = np.divmod(np.arange(mdp.rewards.size), mdp.n_actions)
        tables, rewards = sparse.csr_matrix(mdp.transition_matrix), mdp.rewards.ravel()
        lost = 1.0 - mdp.row_sums.ravel()
        if (lost > 1e-12).any():  # it knows no ends: they lead to one state more, which pays nothing
            last = sparse.csr_matrix(([1.0], ([0], [mdp.n_states])), shape=(1, mdp.n_states + 1))
            tables = sparse.vstack([sparse.hstack([tables, sparse.csr_matrix(lost[:, None])]), last]).tocsr()
            states, actions, rewards = np.append(states, mdp.n_states), np.append(actions, 0), np.append(rewards, 0.0)
        problem = DiscreteDP(rewards, tables, mdp.discount, states, actions)
        return lambda: problem.solve(method=method, epsilon=TOL, max_iter=100_000, k=20).v[: mdp.n_states]

    return prepare


def mdpsolver(mdp: MDP) -> Callable[[], np.ndarray]:
    """Return mdpsolver's modified policy iteration, which takes lists."""
    import mdpsolver as peer

    shape = (mdp.n_states, mdp.n_actions, -1)
    model = peer.model()
    model.mdp(
        discount=mdp.discount,
        rewards=mdp.rewards.tolist(),
        tranMatProbs=mdp.probabilities.reshape(shape).tolist(),
        tranMatColumns=mdp.next_states.reshape(shape).tolist(),
    )

    def run() -> np.ndarray:
        model.solve(algorithm="mpi", tolerance=TOL, parallel=False)
        return np.array(model.getValueVector())

    return run


def pymdptoolbox(mdp: MDP) -> Callable[[], np.ndarray]:
    """Return pymdptoolbox's value iteration on sparse matrices."""
    from mdptoolbox import mdp as peer

    matrices = [sparse.csr_matrix(mdp.transition_matrix[a :: mdp.n_actions]) for a in range(mdp.n_actions)]

    def run() -> np.ndarray:
        method = peer.ValueIteration(matrices, mdp.rewards, mdp.discount, epsilon=TOL)
        method.run()
        return np.array(method.V)

    return run


def scipy_sweeps(mdp: MDP) -> Callable[[], np.ndarray]:
    """Return value iteration on SciPy's sparse product, stopped by the same bounds: what NumPy alone can do."""
    return lambda: value_iteration(mdp, tol=TOL, compiled=False).unwrap().value


ALL: dict[str, Callable[[MDP], Callable[[], np.ndarray]]] = {
    "modified policy iteration": ours("modified-policy-iteration", threads=1),
    "value iteration": ours("value-iteration", threads=1),
    "work list": ours("work-list"),
    "QuantEcon modified PI": quantecon("mpi"),
    "QuantEcon VI": quantecon("vi"),
    "mdpsolver modified PI": mdpsolver,
    "pymdptoolbox VI": pymdptoolbox,
    "SciPy CSR, our bounds": scipy_sweeps,
}
PEERS = ("QuantEcon", "mdpsolver", "pymdptoolbox", "SciPy")
SWEEPS = {"modified policy iteration", "value iteration", "SciPy CSR, our bounds"}
SKIPPED = {  # minutes or hours, or out of memory (pymdptoolbox makes a dense S x S array)
    "garnet-1e4": {"work list", "QuantEcon VI"},
    "garnet-1e5": {"work list", "QuantEcon VI", "pymdptoolbox VI"},
    "garnet-1e6": {"work list", "QuantEcon VI", "mdpsolver modified PI", "pymdptoolbox VI"},
    "pendulum": {"work list", "QuantEcon VI", "pymdptoolbox VI", "value iteration", "SciPy CSR, our bounds"},
    "maze": {
        *(SWEEPS - {"SciPy CSR, our bounds"}),
        "mdpsolver modified PI",
        "pymdptoolbox VI",
    },
    "maze 0.999": {"QuantEcon VI", "SciPy CSR, our bounds"},
}


def measure(row: str, discount: float, repeats: int) -> None:
    """Print one row a method."""
    mdp = ROWS[row](discount)
    methods = {
        name: make for name, make in ALL.items() if name not in SKIPPED[row] | SKIPPED.get(f"{row} {discount}", set())
    }
    truth = solve(mdp, tol=1e-8)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    errors: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, make in methods.items():
            if max(seconds[name], default=0.0) >= SLOW:
                continue
            try:
                run = make(mdp)  # anew each time: mdpsolver starts from the last value otherwise
            except ImportError as error:
                print(f"  {name}: {error}", flush=True)
                continue
            start = time.process_time()
            value = run()
            elapsed = time.process_time() - start
            if repeat or elapsed >= SLOW:  # the first warms up compilers and caches
                seconds[name].append(elapsed)
            errors[name] = float(np.abs(value - truth.value).max())
    runs = [name for name in methods if seconds[name]]
    best_peer = min(
        (statistics.median(seconds[name]) for name in runs if name.startswith(PEERS)),
        default=float("nan"),
    )
    for name in runs:
        median = statistics.median(seconds[name])
        print(
            f"| {row} | {discount} | {name} | {median:.4f} | {best_peer / median:.2f} | fastest peer / it, CPU | "
            f"{errors[name]:.1e} |",
            flush=True,
        )


def main() -> None:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*ROWS, *LIMITS]
    parser.add_argument("--rows", nargs="*", choices=every, default=every, metavar="ROW", help=", ".join(every))
    parser.add_argument("--repeats", type=int, default=5, help="timed runs a method (default: 5)")
    arguments = parser.parse_args()
    print(HEADER)
    for row in arguments.rows:
        if row in LIMITS:
            LIMITS[row](arguments.repeats)
            continue
        for discount in (0.99, 0.999):
            measure(row, discount, arguments.repeats)


if __name__ == "__main__":
    main()
