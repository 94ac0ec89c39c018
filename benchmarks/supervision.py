"""What costates are worth: the error of a learned V against the states it was fitted at, for HDP, DHP and GDHP.

The same agent, `DeepValueIteration`, fits V to Bellman's equation (HDP), to the costate equation (DHP), or to both
(GDHP), at a set of states drawn once; its size is what is counted. The error is the root of the mean square of
``V - V*`` over other states, relative to that of ``V*``. The last column is the question of the benchmark: the states
that each kind needs for the error that HDP ends with, as a share of HDP's.

Discount 0.95, without time limit. The truth is Riccati's equation for the regulators; for pendulum and cart-pole it is
the best path of `solve_control` over 200 steps, after which 0.95^200 = 4e-5 of a reward is left.

    python benchmarks/supervision.py                      # five problems, two seeds; minutes
    python benchmarks/supervision.py --seeds 1 --only regulator-2
    python benchmarks/supervision.py --picture docs/images/supervision.png

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents import DeepValueIteration
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.mechanics import CartPoleSwingUp
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.solve_control import solve_control
from hamiltonian_rl.tracking.pictures import error_picture

DISCOUNT, STEPS = 0.95, 200
SIZES = (10, 20, 40, 80, 200, 400)
KINDS = {"HDP": 0.0, "DHP": 1.0, "GDHP": 0.5}
TESTED = 200  # states of the error
# A plain network: with products a quadratic V is exact from as many states as it has numbers, whatever is supervised.
SETTINGS = {"gamma": DISCOUNT, "hidden": (24,), "products": False, "fit_steps": 3, "ridge": 1e-8}
SWEEPS = 60


class Case(NamedTuple):
    """A problem, and its V* at states ``(B, n)``."""

    problem: ControlProblem
    truth: Callable[[np.ndarray], np.ndarray]


def regulator(n: int) -> Case:
    """Return a regulator of n states, its largest mode slightly unstable."""
    draw = np.random.default_rng(n)
    A = np.eye(n) + 0.1 * draw.normal(size=(n, n))
    A *= 1.02 / np.abs(np.linalg.eigvals(A)).max()
    problem = LinearQuadratic(A, 0.5 * draw.normal(size=(n, max(1, n // 4))), horizon=None, discount=DISCOUNT)
    root = DISCOUNT**0.5
    A, B, Q, R = (np.asarray(matrix) for matrix in (problem.A, problem.B, problem.Q, problem.R))
    P = solve_discrete_are(root * A, root * B, Q, R)
    return Case(problem, lambda states: -np.einsum("bi,ij,bj->b", states, P, states))


def by_paths(problem: ControlProblem) -> Case:
    """Return a problem with the values of its best paths, without a terminal reward."""
    problem.discount, problem.horizon = DISCOUNT, STEPS
    problem.terminal_reward = lambda state: state[..., 0] * 0.0  # type: ignore[method-assign]
    return Case(problem, lambda states: solve_control(problem, states, search=False).value)


CASES: dict[str, Callable[[], Case]] = {
    "regulator-2": lambda: regulator(2),
    "regulator-4": lambda: regulator(4),
    "regulator-8": lambda: regulator(8),
    "pendulum": lambda: by_paths(Pendulum()),
    "cart-pole": lambda: by_paths(CartPoleSwingUp()),
}


def errors(case: Case, seeds: int, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the relative error of V of each kind, shape ``(seeds, len(sizes))``."""
    space = case.problem.state_space
    states = np.random.default_rng(99).uniform(space.low, space.high, (TESTED, *space.shape))
    exact = case.truth(states)
    found = {kind: np.full((seeds, len(sizes)), np.nan) for kind in KINDS}
    for kind, weight in KINDS.items():
        for seed in range(seeds):
            for column, size in enumerate(sizes):
                agent = DeepValueIteration(
                    ControlEnv(case.problem, action_limit=1e3),
                    seed=seed,
                    costate_weight=weight,
                    states=size,
                    **SETTINGS,
                )
                agent.learn(SWEEPS * size, log_interval=None)
                error = agent.value(states) - exact
                found[kind][seed, column] = np.sqrt((error**2).mean() / (exact**2).mean())
    return found


def states_needed(medians: np.ndarray, level: float, sizes: Sequence[int]) -> float:
    """Return the fewest states whose median error, and that of all larger sets, is at most the level."""
    above = np.flatnonzero(medians > level)
    first = 0 if not above.size else int(above[-1]) + 1
    return float(sizes[first]) if first < len(sizes) else np.inf


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of states")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    panels = {}
    print("| problem | kind | " + " | ".join(map(str, options.sizes)) + " | states for HDP's last error / HDP's |")
    print("| --- " * (len(options.sizes) + 3) + "|")
    for name in options.only:
        panels[name] = found = errors(CASES[name](), options.seeds, options.sizes)
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
