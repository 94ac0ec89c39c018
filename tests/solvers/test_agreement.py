"""Every route to the optimum finds the same values and the same sets of optimal actions, and they are the known ones.

The routes share no more than the problem: sweeps, exact and inexact evaluations, sweeps in place, the multipliers of a
linear programme, Pontryagin's costates, the last step of many backward, the work list, and total reward without
discount, where the discount is a chance to end.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hamiltonian_rl.principles.bellman import backup, optimal_actions
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers import METHODS, modified_policy_iteration, undiscounted, value_iteration
from hamiltonian_rl.solvers.work_list import without_chance

TOL = 1e-9
AGREE = 1e-8  # largest distance of two routes' values
# Actions within TIE of the best one tie. Values known to AGREE tell Q-values apart to twice that; where a true
# difference is not ten times smaller or larger than TIE, the sets would depend on it: no named problem has one.
TIE = 1e-7
INFINITE = -np.inf
SWEEPING = ["value-iteration", "gauss-seidel", "modified-policy-iteration", "inexact-policy-iteration", "costate-sweep"]


def puterman() -> MDP:
    """Puterman (2005), section 3.1: two states; in the first one stays with 1/2 for 5, or goes for 10."""
    transitions = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    return MDP.from_arrays(transitions, [[5.0, 10.0], [-1.0, INFINITE]], 0.95)


def forest() -> MDP:
    """The forest of pymdptoolbox: three ages, wait or cut, burns down with 0.1."""
    wait = [[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.1, 0.0, 0.9]]
    cut = [[1.0, 0.0, 0.0]] * 3
    return MDP.from_arrays(np.stack([wait, cut], axis=1), [[0.0, 0.0], [0.0, 1.0], [4.0, 2.0]], 0.9)


def small() -> MDP:
    """The small example of pymdptoolbox."""
    transitions = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.8, 0.2], [0.1, 0.9]]])
    return MDP.from_arrays(transitions, [[5.0, 10.0], [-1.0, 2.0]], 0.9)


def gridworld() -> MDP:
    """Sutton and Barto (2018), example 3.8: 5x5; from A any move pays 10 and leads to A', from B 5 and to B'."""

    def outcomes(state, action):
        row, column = divmod(state, 5)
        if (row, column) == (0, 1):
            return [(1.0, 4 * 5 + 1, 10.0, False)]
        if (row, column) == (0, 3):
            return [(1.0, 2 * 5 + 3, 5.0, False)]
        row_step, column_step = [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
        new_row, new_column = row + row_step, column + column_step
        if not (0 <= new_row < 5 and 0 <= new_column < 5):
            return [(1.0, state, -1.0, False)]
        return [(1.0, new_row * 5 + new_column, 0.0, False)]

    return MDP.from_function(25, 4, outcomes, 0.9)


def toy_text(env_id: str, discount: float = 0.99, **arguments: str) -> MDP:
    return MDP.from_gymnasium(gym.make(env_id, **arguments), discount, horizon=None)


# Each with the states and values known, and half a unit of the last digit that is given.
KNOWN: dict[str, tuple[Callable[[], MDP], dict[int, float], float]] = {
    "puterman": (puterman, {0: -8.571428571429, 1: -20.0}, 5e-13),  # -60/7 and -1/(1 - .95)
    "forest": (forest, {0: 26.244, 1: 29.484, 2: 33.484}, 1e-12),
    "small": (small, {0: 42.441860, 1: 36.046512}, 5e-7),
    "gridworld": (gridworld, {1: 10 / (1 - 0.9**5)}, 1e-12),
    "lake 4x4": (lambda: toy_text("FrozenLake-v1", map_name="4x4"), {0: 0.5420259320}, 5e-11),
    "lake 8x8": (lambda: toy_text("FrozenLake-v1", map_name="8x8"), {0: 0.4146403618}, 5e-11),
    "cliff": (lambda: toy_text("CliffWalking-v1"), {36: -(1 - 0.99**13) / 0.01}, 1e-12),  # 13 steps
    # From the first corner to the second on top, around the wall: a passenger taken up, 8 moves, then 20.
    "taxi": (lambda: toy_text("Taxi-v4"), {1: -(1 - 0.99**9) / 0.01 + 20 * 0.99**9}, 1e-12),
}


def over_a_long_horizon(method: str) -> Callable[[MDP], Solution]:
    """Cut off after N steps, when what lies beyond is worth less than a tenth of TOL; the bounds make room for it."""

    def solve(mdp: MDP) -> Solution:
        tail, steps = mdp.largest_reward / (1.0 - mdp.discount), 1
        if tail > 0.1 * TOL and mdp.discount > 0:
            steps = math.ceil(math.log(0.1 * TOL / tail) / math.log(mdp.discount))
        found = METHODS[method](mdp.finite_horizon(max(steps, 1)), tol=TOL)
        beyond = mdp.discount**steps * tail
        return dataclasses.replace(
            found, lower=found.lower - beyond, upper=found.upper + beyond, policy=found.policy[0]
        )

    return solve


def with_the_discount_as_a_chance_to_end(mdp: MDP) -> Solution:
    ending = dataclasses.replace(mdp, probabilities=mdp.discount * mdp.probabilities, discount=1.0)
    return undiscounted(ending, tol=TOL)


def by_method(name: str) -> Callable[[MDP], Solution]:
    return lambda mdp: METHODS[name](mdp, tol=TOL)


DISCOUNTED = sorted(set(METHODS) - {"average-reward", "backward-induction", "undiscounted", "work-list"})
ROUTES: dict[str, Callable[[MDP], Solution]] = {
    **{name: by_method(name) for name in DISCOUNTED},
    "backward-induction": over_a_long_horizon("backward-induction"),
    "costates of a long horizon": over_a_long_horizon("costate-sweep"),
    "undiscounted": with_the_discount_as_a_chance_to_end,
    "work-list": by_method("work-list"),  # where nothing is left to chance
}
KERNELS: dict[str, Callable[[MDP], Solution]] = {
    "value-iteration, compiled": lambda mdp: value_iteration(mdp, tol=TOL, compiled=True),
    "modified-policy-iteration, compiled": lambda mdp: modified_policy_iteration(mdp, tol=TOL, compiled=True),
}


def value_by_linear_program(mdp: MDP) -> np.ndarray:
    """The least V that no backup raises, by SciPy alone; HiGHS returns a vertex, right to 1e-13 here."""
    usable = np.flatnonzero(mdp.rewards.ravel() > -np.inf)
    rows = np.repeat(np.eye(mdp.n_states), mdp.n_actions, axis=0) - mdp.discount * mdp.transition_matrix.toarray()
    ones = np.ones(mdp.n_states)
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return linprog(ones, A_ub=-rows[usable], b_ub=-mdp.rewards.ravel()[usable], bounds=(None, None), options=tight).x


def assert_route_agrees(route: str, solution: Solution, mdp: MDP, truth: np.ndarray, blur: float) -> None:
    """Values to 1e-8, bounds around the truth (known up to ``blur``), the same sets of optimal actions."""
    assert solution.converged, f"{route}: {solution.status}"
    np.testing.assert_allclose(solution.value, truth, rtol=0, atol=AGREE, err_msg=route)
    assert (solution.lower <= truth + blur).all(), route
    assert (truth <= solution.upper + blur).all(), route
    best = optimal_actions(backup(mdp, truth), TIE)
    np.testing.assert_array_equal(optimal_actions(backup(mdp, solution.value), TIE), best, err_msg=route)
    assert best[np.arange(mdp.n_states), solution.policy].all(), f"{route}: the policy takes another action"


def ties_are_clear(mdp: MDP, value: np.ndarray) -> bool:
    """Whether no action is worse than the best by about TIE, so that the sets do not hang on it."""
    return bool((optimal_actions(backup(mdp, value), 0.1 * TIE) == optimal_actions(backup(mdp, value), 10 * TIE)).all())


@pytest.mark.parametrize(
    ("name", "route"),
    [
        (name, route)
        for name, route in itertools.product(KNOWN, [*ROUTES, *KERNELS])
        if route != "work-list" or name in ("gridworld", "cliff", "taxi")  # without chance
    ],
)
def test_every_route_finds_the_optimum_of_the_linear_program_and_the_known_values(name, route):
    problem, known, digits = KNOWN[name]
    mdp = problem()
    solution, truth = {**ROUTES, **KERNELS}[route](mdp), value_by_linear_program(mdp)
    assert ties_are_clear(mdp, truth)
    assert_route_agrees(route, solution, mdp, truth, blur=1e-12)
    for state, value in known.items():
        assert abs(solution.value[state] - value) <= TOL + digits
        assert solution.lower[state] - digits <= value <= solution.upper[state] + digits


def random_mdp(seed: int, n_states: int, n_actions: int, discount: float, *, deterministic: bool, ends: bool) -> MDP:
    """A process with sparse rows of different lengths, some unavailable actions, rewards of ties and of none."""
    generator = np.random.default_rng(seed)
    table = np.zeros((n_states, n_actions, n_states))
    for row in table.reshape(-1, n_states):
        successors = generator.choice(n_states, 1 if deterministic else generator.integers(1, n_states + 1), False)
        row[successors] = generator.dirichlet(np.ones(len(successors)))
    rewards = generator.integers(-3, 4, (n_states, n_actions)).astype(float)
    rewards[:, 1:][generator.random((n_states, n_actions - 1)) < 0.2] = -np.inf
    terminal = generator.random(n_states) < 0.3
    terminal[generator.integers(n_states)] = True
    return MDP.from_arrays(table, rewards, discount, terminal=terminal if ends else None)


def processes(deterministic: bool | None = None, ends: bool | None = None) -> st.SearchStrategy[MDP]:
    """Small processes of one kind, or of all."""
    kinds = [st.booleans() if kind is None else st.just(kind) for kind in (deterministic, ends)]
    discounts = st.sampled_from([0.0, 0.5, 0.8, 0.9])
    sizes = st.integers(2, 5), st.integers(1, 3)  # one state would leave nothing to chance
    return st.builds(random_mdp, st.integers(0, 2**32 - 1), *sizes, discounts, deterministic=kinds[0], ends=kinds[1])


def value_of_best_policy(mdp: MDP) -> np.ndarray:
    """Brute force: solve the linear system of every policy, and take the best value of each state."""
    table = mdp.transition_matrix.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    states, best = np.arange(mdp.n_states), np.full(mdp.n_states, -np.inf)
    for policy in itertools.product(range(mdp.n_actions), repeat=mdp.n_states):
        rewards = mdp.rewards[states, policy]
        if np.isfinite(rewards).all():
            system = np.eye(mdp.n_states) - mdp.discount * table[states, policy]
            best = np.maximum(best, np.linalg.solve(system, rewards))
    return best


# 4 times 60, some of them twice: 200 processes, and as many of each kind.
@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "stochastic"])
@pytest.mark.parametrize("ends", [True, False], ids=["terminal states", "no terminal states"])
def test_every_route_agrees_with_brute_force_and_its_bounds_contain_the_optimum_of_the_linear_program(
    deterministic, ends
):
    @settings(max_examples=60, deadline=None)
    @given(mdp=processes(deterministic, ends))
    def agree(mdp: MDP) -> None:
        assume(without_chance(mdp) == deterministic)
        terminal = (np.diff(mdp.first).reshape(mdp.rewards.shape) == 0).all(axis=1)
        assume(terminal.any() == ends)
        truth = value_of_best_policy(mdp)
        assume(ties_are_clear(mdp, truth))
        optimum = value_by_linear_program(mdp)
        for route, solve in ROUTES.items():
            if route == "work-list" and not deterministic:
                continue
            solution = solve(mdp)
            # Brute force is off by the rounding of an ill-conditioned system, at most 1e-12 here.
            assert_route_agrees(route, solution, mdp, truth, blur=1e-12)
            assert (solution.lower - 1e-12 <= optimum).all(), route
            assert (optimum <= solution.upper + 1e-12).all(), route

    agree()


@settings(max_examples=60, deadline=None)
@given(mdp=processes(), sweeps=st.integers(0, 6), method=st.sampled_from(SWEEPING))
def test_bounds_contain_the_optimum_and_the_policy_however_early_one_stops(mdp, sweeps, method):
    solution = METHODS[method](mdp, tol=1e-12, max_iterations=sweeps)
    truth = value_of_best_policy(mdp)
    states = np.arange(mdp.n_states)
    table = mdp.transition_matrix.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    system = np.eye(mdp.n_states) - mdp.discount * table[states, solution.policy]
    followed = np.linalg.solve(system, mdp.rewards[states, solution.policy])
    assert (solution.lower <= followed + 1e-12).all()
    assert (followed <= truth + 1e-12).all()
    assert (truth <= solution.upper + 1e-12).all()
    assert solution.iterations <= sweeps


@settings(max_examples=60, deadline=None)
@given(mdp=processes(), steps=st.integers(1, 8))
def test_costates_of_a_limited_process_are_its_values(mdp, steps):
    limited = mdp.finite_horizon(steps)
    by_bellman, by_pontryagin = (
        METHODS[name](limited, tol=1e-9).unwrap() for name in ("backward-induction", "costate-sweep")
    )
    np.testing.assert_allclose(by_pontryagin.value, by_bellman.value, rtol=0, atol=1e-12)
    assert by_pontryagin.policy.shape == by_bellman.policy.shape == (steps, mdp.n_states)


@settings(max_examples=50, deadline=None)
@given(mdp=processes(), data=st.data())
def test_bellman_operator_contracts_and_is_monotone(mdp, data):
    numbers = st.lists(st.floats(-100, 100), min_size=mdp.n_states, max_size=mdp.n_states)
    first, second = (np.array(data.draw(numbers)) for _ in range(2))
    after_first, after_second = (backup(mdp, value).max(axis=1) for value in (first, second))
    distance = np.abs(first - second).max()
    assert np.abs(after_first - after_second).max() <= mdp.discount * distance + 1e-12
    higher = backup(mdp, np.maximum(first, second)).max(axis=1)
    assert (higher >= np.maximum(after_first, after_second) - 1e-12).all()
