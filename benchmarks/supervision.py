"""What costates are worth: the error of a learned V against the states it was fitted at, for HDP, DHP and GDHP.

The network of `DeepValueIteration` is fitted to Bellman's equation (HDP, Eq. 18), to the costate equation (DHP,
Eq. 17), or to both (GDHP), at states drawn once; their number is what is counted. Both equations are taken over the
whole horizon, so that nothing of V is asked at the end, and one solution of a state gives both its targets, V and its
slopes. DHP has the constant in V from the mean of the values. The error is the root of the mean square of ``V - V*``
over other states, relative to that of ``V*``. The last column is the question of the benchmark: the states from which
on each kind is as good as HDP with the most states, as a share of these.

Discount 0.95, without time limit. Targets and truth are Riccati's equation for the regulators; for pendulum and
cart-pole they are the best paths of `solve_control` over 200 steps, after which 0.95^200 = 4e-5 of a reward is left.
Settings were fixed on seeds 1000 and 1001.

    python benchmarks/supervision.py                      # five problems, three seeds; minutes
    python benchmarks/supervision.py --seeds 1 --only regulator-2
    python benchmarks/supervision.py --picture docs/images/supervision.png

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.linalg import solve_discrete_are
from scipy.spatial import KDTree

from hamiltonian_rl.agents.value_fit import Targets, ValueFit
from hamiltonian_rl.agents.value_network import ValueNetwork
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.mechanics import CartPoleSwingUp
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, best_of, solve_costate
from hamiltonian_rl.solvers.costate.following import along_paths
from hamiltonian_rl.solvers.solve_control import solve_control
from hamiltonian_rl.tracking.pictures import error_picture

DISCOUNT, STEPS = 0.95, 200
SIZES = (10, 20, 40, 80, 200, 400, 1000)
KINDS = ("HDP", "DHP", "GDHP")
TESTED, ASKED_SEED = 500, 99  # states of the error
NEIGHBORS, SETTLED = 4, 5e-3  # whose paths are starts for a state; a change of V, as a share of it, that ends that
# A plain layer: with products a quadratic V is exact from as many states as it has numbers, whatever is supervised.
HIDDEN, FIT_STEPS, RIDGE = (24,), 60, 1e-8
ENOUGH = 0.9999  # a fit that lowers the loss by less is done


class Case(NamedTuple):
    """A problem, V* and its slopes at states ``(B, n)``, GDHP's weight of the costates, and their Huber threshold.

    The threshold is for cliffs of V*, whose slopes are far from those of any smooth network. Values have none.
    """

    problem: ControlProblem
    truth: Callable[[np.ndarray], Targets]
    costate_weight: float
    costate_threshold: float


def regulator(n: int) -> Case:
    """Return a regulator of n states, its largest mode slightly unstable."""
    draw = np.random.default_rng(n)
    A = np.eye(n) + 0.1 * draw.normal(size=(n, n))
    A *= 1.02 / np.abs(np.linalg.eigvals(A)).max()
    problem = LinearQuadratic(A, 0.5 * draw.normal(size=(n, max(1, n // 4))), horizon=None, discount=DISCOUNT)
    root = DISCOUNT**0.5
    A, B, Q, R = (np.asarray(matrix) for matrix in (problem.A, problem.B, problem.Q, problem.R))
    P = solve_discrete_are(root * A, root * B, Q, R)

    def truth(states: np.ndarray) -> Targets:
        slopes = -2.0 * states @ P
        return Targets(torch.as_tensor(0.5 * (states * slopes).sum(-1)), torch.as_tensor(slopes))

    return Case(problem, truth, costate_weight=0.95, costate_threshold=np.inf)


def by_paths(problem: ControlProblem) -> Case:
    """Return a problem with the values and costates of its best paths, without a terminal reward."""
    problem.discount, problem.horizon = DISCOUNT, STEPS
    problem.terminal_reward = lambda state: state[..., 0] * 0.0  # type: ignore[method-assign]

    def truth(states: np.ndarray) -> Targets:
        paths = best_paths(problem, states)
        return Targets(torch.as_tensor(paths.value), torch.as_tensor(paths.trajectory.costates[:, 0]))

    return Case(problem, truth, costate_weight=0.05, costate_threshold=0.05)


def best_paths(problem: ControlProblem, states: np.ndarray) -> PathSolution:
    """Return the best paths from states ``(B, n)``: each begins as its neighbors' too, until that changes V no more."""
    paths = solve_control(problem, states, search=False).paths
    if paths is None:
        raise SystemExit("A problem without costates has no paths to compare with.")
    _, near = KDTree(states / problem.state_space.high).query(states, NEIGHBORS + 1)
    change = np.inf
    while change > SETTLED:
        before, value = paths, paths.value
        starts = [along_paths(before.rows(column)) for column in near[:, 1:].T]
        runs = [solve_costate(problem, states, barrier=False, initial_actions=start) for start in starts]
        paths = best_of([before, *runs])
        change = float(np.square(paths.value - value).mean() / np.square(value).mean()) ** 0.5
        print(f"best paths from {len(states)} states: V changed by {change:.1e}", file=sys.stderr, flush=True)
    return paths


CASES: dict[str, Callable[[], Case]] = {
    "regulator-2": lambda: regulator(2),
    "regulator-4": lambda: regulator(4),
    "regulator-8": lambda: regulator(8),
    "pendulum": lambda: by_paths(Pendulum()),
    "cart-pole": lambda: by_paths(CartPoleSwingUp()),
}


def fitted(case: Case, costate_weight: float, states: torch.Tensor, targets: Targets, seed: int) -> Callable:
    """Return V of states, fitted to targets."""
    space = case.problem.state_space
    network = ValueNetwork(space.low, space.high, HIDDEN, periodic=case.problem.periodic, products=False)
    parameters = network.initial(np.random.default_rng(seed))
    network.rescale(parameters, float(targets.value.square().mean()) ** 0.5)
    fit = ValueFit(network, costate_weight, np.inf, RIDGE, case.costate_threshold)
    loss = math.inf
    for _ in range(FIT_STEPS):
        before = loss
        parameters, loss = fit.improve(parameters, states, targets)
        if loss > ENOUGH * before:
            break
    if costate_weight == 1.0:
        network.shift(parameters, float((targets.value - network(parameters, states)).mean()))
    return lambda states: network(parameters, states)


def drawn(name: str, seeds: Sequence[int], size: int, cache: Path | None) -> list[tuple[torch.Tensor, Targets]]:
    """Return the states that are asked for and each seed's, with their truth; all are solved together, once."""
    space, counts = CASES[name]().problem.state_space, [TESTED, *(size for _ in seeds)]
    draws = [np.random.default_rng(seed) for seed in (ASKED_SEED, *seeds)]
    parts = [draw.uniform(space.low, space.high, (n, *space.shape)) for draw, n in zip(draws, counts, strict=True)]
    states = np.concatenate(parts)
    file = cache and cache / f"{name}-{TESTED}-{size}-{'-'.join(map(str, seeds))}.npz"
    if file and file.exists():
        stored = np.load(file)
        targets = Targets(torch.as_tensor(stored["value"]), torch.as_tensor(stored["costate"]))
    else:
        targets = CASES[name]().truth(states)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, value=targets.value, costate=targets.costate)
    split = (torch.split(part, counts) for part in (torch.as_tensor(states), *targets))
    return [(some, Targets(value, costate)) for some, value, costate in zip(*split, strict=True)]


def errors(name: str, seeds: Sequence[int], sizes: Sequence[int], cache: Path | None) -> dict[str, np.ndarray]:
    """Return the relative error of V of each kind, shape ``(seeds, sizes)``."""
    case = CASES[name]()
    (asked, exact), *sets = drawn(name, seeds, max(sizes), cache)
    found = {kind: np.full((len(seeds), len(sizes)), np.nan) for kind in KINDS}
    for row, (seed, (states, targets)) in enumerate(zip(seeds, sets, strict=True)):
        for column, size in enumerate(sizes):
            some = Targets(*(target[:size] for target in targets))
            for kind, weight in zip(KINDS, (0.0, 1.0, case.costate_weight), strict=True):
                error = fitted(case, weight, states[:size], some, seed)(asked) - exact.value
                found[kind][row, column] = float(error.square().mean() / exact.value.square().mean()) ** 0.5
    return found


def states_needed(medians: np.ndarray, level: float, sizes: Sequence[int]) -> float:
    """Return the fewest states whose median error, and that of all larger sets, is at most the level."""
    above = np.flatnonzero(medians > level)
    first = 0 if not above.size else int(above[-1]) + 1
    return float(sizes[first]) if first < len(sizes) else np.inf


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of states")
    parser.add_argument(
        "--cache", type=Path, help="a folder to keep the truth in; to be emptied where a problem changes"
    )
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    panels = {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    print("| problem | kind | " + " | ".join(map(str, options.sizes)) + " | states for HDP's last error / HDP's |")
    print("| --- " * (len(options.sizes) + 3) + "|")
    for name in options.only:
        panels[name] = found = errors(name, seeds, options.sizes, options.cache)
        level = float(np.median(found["HDP"][:, -1]))
        for kind, values in found.items():
            medians = np.median(values, axis=0)
            share = states_needed(medians, level, options.sizes) / options.sizes[-1]
            row = " | ".join(f"{median:.1e}" for median in medians)
            print(f"| {name} | {kind} | {row} | {f'{share:.3f}' if np.isfinite(share) else 'never'} |", flush=True)
    if options.picture:
        error_picture(np.array(options.sizes), panels, "states", "relative error of V").savefig(
            options.picture, dpi=120
        )


if __name__ == "__main__":
    main()
