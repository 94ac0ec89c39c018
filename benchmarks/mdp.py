"""Finite processes solved to 1e-6: this toolkit's solvers beside QuantEcon, mdpsolver, pymdptoolbox and SciPy.

Each row is one process; every method solves the same tables, in one process of the operating system, one
thread, several times in turn. What is timed is the solving, in CPU seconds, not the building of tables and not
the compiling. Seconds do not travel between machines, ratios do. The error is the distance from a value that
this toolkit has certified to 1e-8 or better: peers say nothing of it themselves.

    pip install -e '.[benchmark]'
    python benchmarks/mdp.py                        # all rows; about a quarter of an hour
    python benchmarks/mdp.py --rows garnet-1e4      # one of them
    python benchmarks/mdp.py --threads              # sweeps on one and on two threads, and the memory limit

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import sparse

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import METHODS, solve, value_iteration
from hamiltonian_rl.solvers.sweeper import Sweeper

TOL = 1e-6
SLOW = 20.0  # seconds after which a method is run once only


def garnet(n_states: int, discount: float) -> MDP:
    """Random process: 4 actions, 5 successors each, rewards uniform in [0, 1]."""
    generator = np.random.default_rng(0)
    rows = n_states * 4
    shares = generator.random((rows, 5))
    shares /= shares.sum(axis=1, keepdims=True)
    return MDP(
        rewards=generator.random((n_states, 4)),
        first=np.arange(rows + 1, dtype=np.int64) * 5,
        next_states=generator.integers(0, n_states, rows * 5).astype(np.int32),
        probabilities=shares.ravel(),
        discount=discount,
        initial=np.full(n_states, 1 / n_states),
    )


def pendulum(discount: float, size: int = 201, n_actions: int = 15) -> MDP:
    """Pendulum-v1's step and cost on a bilinear grid of angle (periodic) and speed (clipped)."""
    angle, speed = np.linspace(-np.pi, np.pi, size, endpoint=False), np.linspace(-8, 8, size)
    torque = np.linspace(-2, 2, n_actions)
    th, om, u = np.meshgrid(angle, speed, torque, indexing="ij")
    rewards = -(th**2 + 0.1 * om**2 + 0.001 * u**2)
    new_om = np.clip(om + (15 * np.sin(th) + 3 * u) * 0.05, -8, 8)
    new_th = th + new_om * 0.05
    column, share_column = np.divmod((new_th + np.pi) / (2 * np.pi / size), 1.0)
    row, share_row = np.divmod((new_om + 8) / (16 / (size - 1)), 1.0)
    left, right = column.astype(int) % size, (column.astype(int) + 1) % size
    low = np.minimum(row.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    corners = [(left, low), (left, high), (right, low), (right, high)]
    shares = [(1 - share_column) * (1 - share_row), (1 - share_column) * share_row]
    shares += [share_column * (1 - share_row), share_column * share_row]
    n_states = size * size
    return MDP(
        rewards=rewards.reshape(n_states, n_actions),
        first=np.arange(n_states * n_actions + 1, dtype=np.int64) * 4,
        next_states=np.stack([x * size + y for x, y in corners], axis=-1).astype(np.int32).ravel(),
        probabilities=np.stack(shares, axis=-1).ravel(),
        discount=discount,
        initial=np.full(n_states, 1 / n_states),
    )


def maze(discount: float, size: int = 1000) -> MDP:
    """A maze of 30 % walls, a step costs 1, the goal in a corner ends it."""
    generator = np.random.default_rng(0)
    free = generator.random((size, size)) > 0.3
    free[0, 0] = True
    row, column = np.divmod(np.arange(size * size), size)
    table = np.empty((size * size, 4), np.int64)
    for action, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        new_row, new_column = np.clip(row + down, 0, size - 1), np.clip(column + right, 0, size - 1)
        target = new_row * size + new_column
        table[:, action] = np.where(free.ravel()[target], target, np.arange(size * size))
    table[table == 0] = -1  # the goal
    return MDP.from_arrays(table, np.full(table.shape, -1.0), discount)


ROWS: dict[str, Callable[[float], MDP]] = {
    "garnet-1e4": lambda discount: garnet(10_000, discount),
    "garnet-1e5": lambda discount: garnet(100_000, discount),
    "garnet-1e6": lambda discount: garnet(1_000_000, discount),
    "pendulum": pendulum,
    "maze": maze,
}


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
    "maze": {*SWEEPS, "mdpsolver modified PI", "pymdptoolbox VI", "QuantEcon modified PI"},
}


def measure(row: str, discount: float, repeats: int) -> None:
    """Print one row a method."""
    mdp = ROWS[row](discount)
    methods = {name: make for name, make in ALL.items() if name not in SKIPPED[row]}
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
            f"| {row} | {discount} | {name} | {median:.4f} | {best_peer / median:.2f} | {errors[name]:.1e} |",
            flush=True,
        )


def sweep_speed() -> None:
    """Print sweeps per second on one and two threads, beside reading the same memory once."""
    print("\n| Garnet 1e6, one sweep | wall seconds | GB/s |\n| --- | --- | --- |")
    mdp = garnet(1_000_000, 0.99)
    value = np.random.default_rng(0).random(mdp.n_states)
    size = sum(a.nbytes for a in (mdp.rewards, mdp.next_states, mdp.probabilities)) / 1e9
    for threads in (1, 2):
        sweeper = Sweeper(mdp, compiled=True, threads=threads)
        out, policy = np.empty_like(value), np.zeros(mdp.n_states, np.int32)
        _print_speed(f"Bellman, {threads} thread(s)", partial(sweeper.backup, value, out, policy), size)
    _print_speed(
        "reading the tables (sums)", lambda: (mdp.rewards.sum(), mdp.next_states.sum(), mdp.probabilities.sum()), size
    )
    _print_speed("gathering the values", lambda: value[mdp.next_states], mdp.next_states.nbytes / 1e9)


def _print_speed(name: str, work: Callable[[], Any], size: float) -> None:
    work()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(f"| {name} | {median:.4f} | {size / median:.1f} |", flush=True)


def main() -> None:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), help="only these")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs a method (default: 5)")
    parser.add_argument("--threads", action="store_true", help="speed of sweeps instead")
    arguments = parser.parse_args()
    if arguments.threads:
        sweep_speed()
        return
    print(
        "| process | γ | method | CPU-s (median) | fastest peer / it | error |\n| --- | --- | --- | --- | --- | --- |"
    )
    for row in arguments.rows:
        for discount in (0.99, 0.999):
            measure(row, discount, arguments.repeats)


if __name__ == "__main__":
    main()
