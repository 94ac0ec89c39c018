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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents.value_fit import Targets, ValueFit
from hamiltonian_rl.agents.value_network import ValueNetwork
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.mechanics import CartPoleSwingUp
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.solve_control import solve_control
from hamiltonian_rl.tracking.pictures import error_picture

DISCOUNT, STEPS = 0.95, 200
SIZES = (10, 20, 40, 80, 200, 400)
KINDS = ("HDP", "DHP", "GDHP")
TESTED = 500  # states of the error
# A plain layer: with products a quadratic V is exact from as many states as it has numbers, whatever is supervised.
HIDDEN, FIT_STEPS, RIDGE = (24,), 60, 1e-8
ENOUGH = 0.9999  # a fit that lowers the loss by less is done


class Case(NamedTuple):
    """A problem, V* and its slopes at states ``(B, n)``, GDHP's weight of the costates, and Huber's threshold.

    The threshold is for cliffs of V*, whose slopes are far from those of any smooth network.
    """

    problem: ControlProblem
    truth: Callable[[np.ndarray], Targets]
    costate_weight: float
    huber_threshold: float


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

    return Case(problem, truth, costate_weight=0.95, huber_threshold=np.inf)


def by_paths(problem: ControlProblem, *, search: bool) -> Case:
    """Return a problem with the values and costates of its best paths, without a terminal reward.

    Args:
        problem: The problem.
        search: Of `solve_control`; where there is a grid its greedy paths do nearly as well, in a tenth of the time.
    """
    problem.discount, problem.horizon = DISCOUNT, STEPS
    problem.terminal_reward = lambda state: state[..., 0] * 0.0  # type: ignore[method-assign]

    def truth(states: np.ndarray) -> Targets:
        paths = solve_control(problem, states, search=search).paths
        return Targets(torch.as_tensor(paths.value), torch.as_tensor(paths.trajectory.costates[:, 0]))

    return Case(problem, truth, costate_weight=0.05, huber_threshold=0.05)


CASES: dict[str, Callable[[], Case]] = {
    "regulator-2": lambda: regulator(2),
    "regulator-4": lambda: regulator(4),
    "regulator-8": lambda: regulator(8),
    "pendulum": lambda: by_paths(Pendulum(), search=False),
    "cart-pole": lambda: by_paths(CartPoleSwingUp(), search=True),
}


def fitted(case: Case, costate_weight: float, states: torch.Tensor, targets: Targets, seed: int) -> Callable:
    """Return V of states, fitted to targets."""
    space = case.problem.state_space
    network = ValueNetwork(space.low, space.high, HIDDEN, periodic=case.problem.periodic, products=False)
    parameters = network.initial(np.random.default_rng(seed))
    network.rescale(parameters, float(targets.value.square().mean()) ** 0.5)
    fit = ValueFit(network, costate_weight, case.huber_threshold, RIDGE)
    loss = math.inf
    for _ in range(FIT_STEPS):
        before = loss
        parameters, loss = fit.improve(parameters, states, targets)
        if loss > ENOUGH * before:
            break
    if costate_weight == 1.0:
        network.shift(parameters, float((targets.value - network(parameters, states)).mean()))
    return lambda states: network(parameters, states)


def errors(case: Case, seeds: Sequence[int], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the relative error of V of each kind, shape ``(seeds, sizes)``."""

    def drawn(draw: np.random.Generator, count: int) -> tuple[torch.Tensor, Targets]:
        space = case.problem.state_space
        states = draw.uniform(space.low, space.high, (count, *space.shape))
        return torch.as_tensor(states), case.truth(states)

    asked, exact = drawn(np.random.default_rng(99), TESTED)
    found = {kind: np.full((len(seeds), len(sizes)), np.nan) for kind in KINDS}
    for row, seed in enumerate(seeds):
        states, targets = drawn(np.random.default_rng(seed), max(sizes))
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
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    panels = {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    print("| problem | kind | " + " | ".join(map(str, options.sizes)) + " | states for HDP's last error / HDP's |")
    print("| --- " * (len(options.sizes) + 3) + "|")
    for name in options.only:
        panels[name] = found = errors(CASES[name](), seeds, options.sizes)
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
