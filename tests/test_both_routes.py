"""The paper's claim: both routes, and what learns by them, converge to the same Bellman-optimal values and policies.

On each problem every method that applies is run as anybody would run it, and its values at some states and its first
actions are held against the first method's, each within the method's own stated tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents import DeepValueIteration, QLearning
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.economics import BrockMirman
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.problems import MDP, ControlProblem, Grid
from hamiltonian_rl.solvers import costate_sweep, value_iteration
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.grid_solution import GridSolution
from hamiltonian_rl.solvers.solve_grid import solve_grid

DISCOUNT = 0.95
SWING_DISCOUNT = 0.8  # of the pendulum: a network of 24 tanh has V's ridges at 0.95 only roughly


class Answer(NamedTuple):
    """Values and actions at the same states, and how far from the truth the method says that they may be."""

    value: np.ndarray
    action: np.ndarray
    value_tolerance: float
    action_tolerance: float


def tabular(env_id: str) -> dict[str, Answer]:
    """Answer for all states that can occur; of an action that is not the first's, how much it loses is in question."""
    env = gym.make(env_id)
    mdp = MDP.from_gymnasium(env, DISCOUNT, horizon=None)
    at = mdp.reachable
    iterated, swept = value_iteration(mdp, tol=1e-8).unwrap(), costate_sweep(mdp, tol=1e-8).unwrap()
    deep = DeepValueIteration(env, gamma=DISCOUNT, hidden=()).learn(mdp.n_states * 250)
    settings = {**tuned_settings("q-learning", env_id), "gamma": DISCOUNT, "compiled": True}
    steps = settings.pop("steps")
    learner = QLearning(gym.make(env_id), **settings).learn(20 * steps)
    table = learner.parameter_arrays()[0][0]
    q = mdp.rewards + DISCOUNT * (mdp.transition_matrix @ iterated.value).reshape(mdp.rewards.shape)

    def answer(value: np.ndarray, policy: np.ndarray, tolerance: float) -> Answer:
        loss = q.max(axis=1) - q[np.arange(mdp.n_states), policy]
        return Answer(value[at], loss[at], tolerance, 2.0 * tolerance)

    return {
        "value iteration": answer(iterated.value, iterated.policy, 1e-6),
        "costate sweep": answer(swept.value, swept.policy, 1e-6),
        "deep value iteration": answer(deep.value(np.arange(mdp.n_states)), deep.model.policy, 1e-3),
        # Of samples: where Q-learning seldom comes it knows less.
        "Q-learning": answer(table.max(axis=1), table.argmax(axis=1), 0.05),
    }


def continuous(
    p: ControlProblem, at: np.ndarray, grid: GridSolution, tolerances: tuple[float, float], sweeps: int = 20, **settings
) -> dict[str, Answer]:
    """Answer by a grid, by costates, and by a network."""
    p.horizon = round(np.log(3.5e-5) / np.log(p.discount))  # steps after which 4e-5 of a reward is left
    paths = solve_costate(p, at, initial_actions=lambda now, step: grid.action_at(now), barrier=False)
    agent = DeepValueIteration(ControlEnv(p, action_limit=1e3), gamma=p.discount, seed=0, **settings)
    agent.learn(sweeps * settings["states"])
    greedy = agent.model.greedy(agent._value, torch.as_tensor(at)).numpy()
    value_tolerance, action_tolerance = tolerances
    return {
        "costates": Answer(paths.value, paths.trajectory.actions[:, 0], 1e-3 * np.abs(paths.value).max(), 1e-2),
        "value iteration on a grid": Answer(grid.value_at(at), grid.action_at(at), *tolerances),
        "deep value iteration": Answer(agent.value(at), greedy, value_tolerance, action_tolerance),
    }


def endless(p: ControlProblem) -> ControlProblem:
    p.horizon, p.discount = None, DISCOUNT
    return p


def regulator() -> dict[str, Answer]:
    p = endless(LinearQuadratic(terminal_Q=np.zeros((2, 2))))
    bounded = endless(LinearQuadratic(action_bound=20.0))  # as a grid of actions must be; more than is needed here
    grid = solve_grid(Grid(bounded, (41, 41), interpolation="cubic"))
    states = np.random.default_rng(0).uniform(-2.0, 2.0, (20, 2))
    found = continuous(p, states, grid, (0.1, 0.3), states=60, hidden=(6,), sweeps=100)
    root = DISCOUNT**0.5
    A, B, Q, R = (np.asarray(matrix) for matrix in (p.A, p.B, p.Q, p.R))
    P = solve_discrete_are(root * A, root * B, Q, R)
    gain = np.linalg.solve(R + DISCOUNT * B.T @ P @ B, DISCOUNT * B.T @ P @ A)
    return {"Riccati": Answer(-np.einsum("bi,ij,bj->b", states, P, states), -states @ gain.T, 1e-9, 1e-9), **found}


def growth() -> dict[str, Answer]:
    capital = np.linspace(0.1, 0.9, 9)[:, None]
    settings = {"states": 60, "hidden": (16,), "n_step": 10, "fit_steps": 10}
    p = endless(BrockMirman())
    grid = solve_grid(Grid(p, (101,), interpolation="cubic"))
    found = continuous(p, capital, grid, (3e-2, 2e-2), **settings)
    share, slope = 1.0 - 0.36 * DISCOUNT, 0.36 / (1.0 - 0.36 * DISCOUNT)
    level = (np.log(share) + (1.0 - share) * np.log(1.0 - share) / share) / (1.0 - DISCOUNT)
    exact = Answer(level + slope * np.log(capital[:, 0]), np.full((9, 1), share), 1e-9, 1e-9)
    return {"closed form": exact, **found}


def pendulum() -> dict[str, Answer]:
    """Answer for the whole box. Beside a ridge of V two actions are nearly as good: what one loses is in question."""
    p = endless(Pendulum())
    p.discount = SWING_DISCOUNT
    grid = solve_grid(Grid(p, (101, 101)), tol=1e-4)
    states = np.random.default_rng(0).uniform([-3.0, -6.0], [3.0, 6.0], (20, 2))
    settings = {"states": 400, "hidden": (24,), "costate_weight": 0.0, "sweeps": 25}
    found = continuous(p, states, grid, (2.0, 0.4), **settings)  # of values down to -44, by a single layer

    def worth(action: np.ndarray) -> np.ndarray:
        now, torque = torch.as_tensor(states), torch.as_tensor(action)
        later = grid.value_at(p.dynamics(now, torque, 0).numpy())
        return p.reward(now, torque, 0).numpy() + SWING_DISCOUNT * later

    best = np.max([worth(answer.action) for answer in found.values()], axis=0)
    return {name: answer._replace(action=best - worth(answer.action)) for name, answer in found.items()}


@pytest.mark.parametrize(
    "solve",
    [lambda: tabular("FrozenLake-v1"), lambda: tabular("CliffWalking-v1"), regulator, growth, pendulum],
    ids=["FrozenLake", "CliffWalking", "LQR", "Brock-Mirman", "Pendulum"],
)
def test_both_routes_converge_to_the_same_bellman_optimal_values_and_policies(solve: Callable[[], dict[str, Answer]]):
    answers = solve()
    name, truth = next(iter(answers.items()))
    for other, answer in answers.items():
        for what, ours, theirs, tolerance in (
            ("values", answer.value, truth.value, answer.value_tolerance + truth.value_tolerance),
            ("actions", answer.action, truth.action, answer.action_tolerance + truth.action_tolerance),
        ):
            worst = float(np.abs(ours - theirs).max())
            assert worst <= tolerance, f"{what} of {other} differ from those of {name} by {worst:.2e}"
