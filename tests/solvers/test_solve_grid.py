"""Problems on a grid without a table: closed forms, the table where there is one, and what is never claimed."""

import itertools
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg
import torch

import hamiltonian_rl
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem, Grid
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import backward_induction, modified_policy_iteration, solve, solve_grid
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.grid_backup import GridBackup


def box(low, high, size=1):
    return gym.spaces.Box(np.full(size, float(low)), np.full(size, float(high)), dtype=np.float64)


class Growth(ControlProblem):
    """Brock and Mirman (1972): capital k, a share saved, log utility; V = A + B ln k, and the share is αβ."""

    state_space, action_space, discount = box(0.05, 0.5), box(0.05, 0.95), 0.95

    def dynamics(self, state, action, step):
        return action * state**0.36

    def reward(self, state, action, step):
        return torch.log1p(-action[..., 0]) + 0.36 * torch.log(state[..., 0])


def growth_value(k):
    slope = 0.36 / (1 - 0.36 * 0.95)
    level = (np.log(1 - 0.36 * 0.95) + 0.95 * slope * np.log(0.36 * 0.95)) / 0.05
    return level + slope * np.log(k)


class Regulator(ControlProblem):
    """Two states, two actions; bounds that the optimal path does not meet."""

    state_space, action_space, discount = box(-1, 1, 2), box(-4, 4, 2), 0.95
    a, b = np.array([[0.9, 0.2], [-0.1, 0.8]]), np.array([[0.5, 0.1], [0.2, 0.4]])
    q, r = np.eye(2), np.array([[1.0, 0.3], [0.3, 0.5]])

    def dynamics(self, state, action, step):
        return state @ torch.tensor(self.a.T) + action @ torch.tensor(self.b.T)

    def reward(self, state, action, step):
        return -((state @ torch.tensor(self.q)) * state).sum(-1) - ((action @ torch.tensor(self.r)) * action).sum(-1)


class FiniteRegulator(Regulator):
    horizon = 12

    def terminal_reward(self, state):
        return -5.0 * (state**2).sum(-1)


def riccati_steps():
    """Return P_0 ... P_N of the finite horizon, and the gain of the first step."""
    p, found = 5.0 * np.eye(2), [5.0 * np.eye(2)]
    for _ in range(12):
        cross = 0.95 * Regulator.b.T @ p @ Regulator.a
        gain = np.linalg.solve(Regulator.r + 0.95 * Regulator.b.T @ p @ Regulator.b, cross)
        p = Regulator.q + 0.95 * Regulator.a.T @ p @ Regulator.a - cross.T @ gain
        found.append(p)
    return found[::-1], gain


def quadratic(states, p):
    return -np.einsum("...i,ij,...j->...", states, p, states)


def order(errors):
    """Return the slope of log error over log spacing, each grid having half the spacing of the one before."""
    return -np.polyfit(np.arange(len(errors)), np.log2(errors), 1)[0]


class FiniteGrowth(Growth):
    """The same for ten steps, the last state being worth ln k: V_k = A_k + B_k ln k still."""

    horizon = 10

    def terminal_reward(self, state):
        return torch.log(state[..., 0])


def finite_growth_value(k):
    level, slope = 0.0, 1.0
    for _ in range(10):
        share = 0.95 * slope / (1 + 0.95 * slope)
        level = 0.95 * level + np.log(1 - share) + 0.95 * slope * np.log(share)
        slope = 0.36 * (1 + 0.95 * slope)
    return level + slope * np.log(k)


class Scalar(Regulator):
    """One state and one action."""

    state_space, action_space = box(-1, 1), box(-4, 4)
    a, b, q, r = np.array([[0.9]]), np.array([[0.3]]), np.eye(1), np.eye(1)


class FiniteScalar(Scalar):
    horizon = 12


def scalar_value(steps):
    p = 0.0
    for _ in range(steps):
        p = 1.0 + 0.95 * 0.81 * p - (0.95 * 0.27 * p) ** 2 / (1.0 + 0.95 * 0.09 * p)
    return lambda s: -p * s**2


@pytest.mark.parametrize(
    ("problem", "truth", "interpolation", "points"),
    [
        (Growth(), growth_value, "cubic", (9, 17, 33, 65)),
        (FiniteGrowth(), finite_growth_value, "cubic", (9, 17, 33, 65)),
        (Growth(), growth_value, "multilinear", (17, 33, 65, 129, 257)),
        (FiniteGrowth(), finite_growth_value, "multilinear", (17, 33, 65, 129, 257)),
        (Scalar(), scalar_value(1000), "multilinear", (17, 33, 65, 129, 257)),
        (FiniteScalar(), scalar_value(12), "multilinear", (17, 33, 65, 129, 257)),
    ],
)
def test_order_of_convergence(problem, truth, interpolation, points):
    """Cubic splines are exact on regulators, see below."""
    errors = []
    for count in points:
        solution = solve_grid(Grid(problem, (count,), 9, interpolation), tol=1e-9).unwrap()
        first = solution.value if problem.horizon is None else solution.value[0]
        errors.append(np.abs(first - truth(solution.grid.states[:, 0])).max())
    assert order(errors) >= {"multilinear": 1.8, "cubic": 3.5}[interpolation]


@pytest.mark.parametrize(("problem", "low", "high"), [(FiniteGrowth(), 0.08, 0.45), (FiniteScalar(), -0.9, 0.9)])
@pytest.mark.parametrize("interpolation", ["multilinear", "cubic"])
def test_gradient_of_the_grid_tends_to_the_costates_with_one_order_less_than_its_value(
    problem, low, high, interpolation
):
    """λ = ∂V/∂s, along whole paths: each route is the other's truth. Splines are exact on the regulator."""
    paths = solve_costate(problem, np.linspace(low, high, 41)[:, None], tol=1e-12)
    errors = []
    for count in (33, 65, 129, 257, 513):
        solution = solve_grid(Grid(problem, (count,), 9, interpolation), tol=1e-9).unwrap()
        errors.append(
            max(
                np.abs(solution.gradient_at(paths.trajectory.states[:, k], k) - paths.trajectory.costates[:, k]).max()
                for k in (0, 3)
            )
        )
    if interpolation == "cubic" and isinstance(problem, FiniteScalar):
        assert max(errors) < 1e-6
    else:
        assert order(errors) >= {"multilinear": 0.9, "cubic": 2.5}[interpolation]


def test_cubic_splines_are_exact_on_a_regulator_with_its_gradient_and_its_gain():
    """A spline reproduces parabolas, so that only the search for the action is left of the error."""
    solution = solve_grid(Grid(FiniteRegulator(), (7, 7), 5, "cubic"))
    states = np.random.default_rng(0).uniform(-0.9, 0.9, (20, 2))
    p, gain = riccati_steps()
    assert solution.value.shape == (13, 49)
    assert solution.policy.shape == (12, 49, 2)
    for step in (0, 5, 11, 12):
        np.testing.assert_allclose(solution.value_at(states, step), quadratic(states, p[step]), rtol=0, atol=1e-8)
        np.testing.assert_allclose(solution.gradient_at(states, step), -2.0 * states @ p[step], rtol=0, atol=1e-6)
    np.testing.assert_allclose(solution.action_at(states), -states @ gain.T, rtol=0, atol=1e-3)
    path = solution.rollout(states)
    assert path.states.shape == (20, 13, 2)
    np.testing.assert_allclose(path.returns, quadratic(states, p[0]), rtol=0, atol=1e-4)


def test_discounted_regulator_agrees_with_riccati_on_cubic_splines():
    root = np.sqrt(0.95)
    p = scipy.linalg.solve_discrete_are(root * Regulator.a, root * Regulator.b, Regulator.q, Regulator.r)
    solution = solve_grid(Grid(Regulator(), (7, 7), 5, "cubic"), tol=1e-8)
    np.testing.assert_allclose(solution.value, quadratic(solution.grid.states, p), rtol=0, atol=1e-7)


def test_refined_actions_are_better_than_a_grid_of_actions():
    """The optimal share 0.342 lies between the grid's; the loss of a plain grid is that of being off by a third."""
    plain, fine = (solve_grid(Grid(Growth(), (33,), 9, "cubic"), refine=refine, tol=1e-9) for refine in (False, True))
    truth = growth_value(plain.grid.states[:, 0])
    assert np.abs(fine.value - truth).max() < 1e-4 < 1e-3 < np.abs(plain.value - truth).max()
    np.testing.assert_allclose(fine.action_at(np.array([[0.1], [0.2]])), 0.36 * 0.95, rtol=0, atol=1e-4)


class Sum(ControlProblem):
    """Coordinates that do not see each other, each with V_0(s) by hand after two steps of a cubic."""

    horizon = 2

    def __init__(self, n):
        self.state_space, self.action_space = box(-1, 1, n), box(-1, 1, n)

    def dynamics(self, state, action, step):
        return 0.5 * state + 0.25 * action

    def reward(self, state, action, step):
        return (state**3 - action**2).sum(-1)

    def terminal_reward(self, state):
        return 2.0 * state.sum(-1)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_to_four_coordinates_are_the_sum_of_their_own_values(n):
    """By hand: V_1(s) = s³ + s + 1/16 and V_0(s) = s³ + max_a (y³ + y - a²) + 1/16 with y = (s + a/2)/2."""
    grid = Grid(Sum(n), (5,) * n, 3, "cubic")
    solution = solve_grid(grid)
    a = np.linspace(-1, 1, 200_001)
    s = grid.axes[0]
    y = 0.5 * s[:, None] + 0.25 * a
    one = s**3 + (y**3 + y - a**2).max(axis=1) + 1 / 16
    expected = sum(np.ix_(*[one] * n)).ravel()
    np.testing.assert_allclose(solution.value[0], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCar-v0", "CartPole-v1"])
def test_without_refinement_multilinear_is_the_grid_process_with_a_horizon(env_id):
    problem = hamiltonian_rl.problem(env_id)
    grid = Grid(problem, (7,) * len(problem.state_space.low), 3)
    solution, table = solve_grid(grid, refine=False), backward_induction(grid.mdp)
    np.testing.assert_allclose(solution.value[0], table.value, rtol=0, atol=1e-10)
    assert solution.status is Status.CONVERGED
    assert (solution.lower <= solution.value).all()
    assert (solution.value <= solution.upper).all()
    assert solution.gap < 1e-6


class Chase(ControlProblem):
    """A line whose right end is worth reaching: terminal reward, ends inside the grid, an angle beside it."""

    state_space = gym.spaces.Box(np.array([0.0, -np.pi]), np.array([2.0, np.pi]), dtype=np.float64)
    action_space, discount, periodic = box(-0.3, 0.3), 0.9, (False, True)

    def dynamics(self, state, action, step):
        return torch.stack([state[..., 0] + action[..., 0], state[..., 1] + 0.7], -1)

    def reward(self, state, action, step):
        return state[..., 1].cos() - action[..., 0] ** 2

    def terminal_reward(self, state):
        return 3.0 + state[..., 0] ** 2

    def terminated(self, state):
        return state[..., 0] > 1.5


class FiniteChase(Chase):
    horizon = 4  # from the left the end is not within reach


def test_terminal_rewards_and_ends_are_the_same_with_and_without_a_table():
    grid = Grid(Chase(), (11, 8), 5)
    solution = solve_grid(grid, refine=False, tol=1e-11)
    table = modified_policy_iteration(grid.mdp, tol=1e-11)
    np.testing.assert_allclose(solution.value, table.value, rtol=0, atol=1e-10)
    grid = Grid(FiniteChase(), (11, 8), 5)
    table = backward_induction(grid.mdp)
    np.testing.assert_allclose(solve_grid(grid, refine=False).value[0], table.value, rtol=0, atol=1e-10)


class Leap(ControlProblem):
    """Each step goes one to the right and pays x; beyond 1 the episode is over and pays x² more."""

    state_space, action_space, discount = box(0, 2), gym.spaces.Discrete(1), 0.5

    def dynamics(self, state, action, step):
        return state + 1.0

    def reward(self, state, action, step):
        return state[..., 0]

    def terminal_reward(self, state):
        return state[..., 0] ** 2

    def terminated(self, state):
        return state[..., 0] > 1.0


class FiniteLeap(Leap):
    horizon = 5


@pytest.mark.parametrize("problem", [Leap(), FiniteLeap()])
@pytest.mark.parametrize("route", ["table", "multilinear", "cubic"])
def test_arriving_at_an_end_pays_its_terminal_reward_once(problem, route):
    """By hand: V = x² beyond 1; x + (x + 1)² / 2 up to 1; from 0 one meets 1 first, which is not beyond."""
    grid = Grid(problem, (9,), interpolation="cubic" if route == "cubic" else "multilinear")
    x = grid.states[:, 0]
    expected = np.where(x > 1, x**2, x + 0.5 * (x + 1) ** 2)
    expected[0] = 0.5 * expected[4]
    solution = solve(grid.mdp, tol=1e-13) if route == "table" else solve_grid(grid, tol=1e-12)
    value = solution.value if solution.value.ndim == 1 else solution.value[0]
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12)


def test_where_an_episode_is_over_the_value_is_exact_from_the_first_sweep():
    for interpolation in ("multilinear", "cubic"):
        solution = solve_grid(Grid(Leap(), (9,), interpolation=interpolation), max_iterations=0)
        ended = solution.grid.states[:, 0] > 1
        np.testing.assert_array_equal(solution.value[ended], solution.grid.states[ended, 0] ** 2)


def test_best_actions_between_the_points_are_those_of_their_step():
    """By hand: the share saved is 0.95 B / (1 + 0.95 B) with B of the next step: 1 at the end, then 0.36 (1 + 0.95)."""
    solution, k = solve_grid(Grid(FiniteGrowth(), (33,), 9, "cubic")), np.array([[0.12], [0.33]])
    for step, slope in ((9, 1.0), (8, 0.36 * 1.95)):
        np.testing.assert_allclose(solution.action_at(k, step), 0.95 * slope / (1 + 0.95 * slope), rtol=0, atol=1e-4)
    clock = solve_grid(Grid(Clock(), (5,), 3))
    assert clock.action_at(np.array([0.3]), 2) == 1.0
    assert clock.rollout(np.array([[0.3]])).returns == 6.0


def test_bounds_of_the_discounted_grid_hold_before_it_has_converged():
    grid = Grid(Chase(), (11, 8), 5)
    exact = modified_policy_iteration(grid.mdp, tol=1e-11).value
    for rounds in (0, 1, 2):
        solution = solve_grid(grid, refine=False, tol=1e-11, evaluation_sweeps=2, max_iterations=rounds)
        assert solution.status is Status.MAX_ITERATIONS
        assert (solution.lower <= exact).all()
        assert (exact <= solution.upper).all()


@pytest.mark.parametrize("interpolation", ["multilinear", "cubic"])
def test_last_steps_are_exact_between_the_points_too(interpolation):
    """One step from the end, and where an episode ends, h is that of the arrival itself: nothing is interpolated."""
    problem = FiniteChase()
    grid = Grid(problem, (5, 4), 7, interpolation)
    solution = solve_grid(grid, refine=False)
    x, angle = grid.states.T
    arrival = x[:, None] + grid.actions[:, 0]
    q = np.cos(angle)[:, None] - grid.actions[:, 0] ** 2 + 0.9 * (3.0 + arrival**2)
    expected = np.where(x > 1.5, 3.0 + x**2, q.max(axis=1))
    np.testing.assert_allclose(solution.value[-2], expected, rtol=0, atol=1e-13)
    ended = np.array([[1.7, 0.3]])
    np.testing.assert_allclose(solution.value_at(ended, 2), 3.0 + 1.7**2, rtol=0, atol=1e-14)
    np.testing.assert_allclose(solution.gradient_at(ended, 2), [[3.4, 0.0]], rtol=0, atol=1e-14)


@pytest.mark.parametrize("interpolation", ["multilinear", "cubic"])
def test_angles_wrap(interpolation):
    solution = solve_grid(Grid(Chase(), (9, 12), 3, interpolation), tol=1e-8)
    state = np.array([[0.4, -3.0]])
    for turn in (-2, 1):
        moved = state + np.array([0.0, turn * 2 * np.pi])
        np.testing.assert_allclose(solution.value_at(moved), solution.value_at(state), rtol=0, atol=1e-9)
        np.testing.assert_allclose(solution.gradient_at(moved), solution.gradient_at(state), rtol=0, atol=1e-7)


class Clock(ControlProblem):
    """What is paid depends on the step: k times the action."""

    state_space, action_space, horizon = box(-1, 1), box(0, 1), 4

    def dynamics(self, state, action, step):
        return state * 0.5

    def reward(self, state, action, step):
        return step * action[..., 0]


def test_functions_of_the_step_are_solved_step_by_step_and_refused_as_a_table():
    grid = Grid(Clock(), (5,), 3)
    np.testing.assert_allclose(
        solve_grid(grid).value, [[6] * 5, [6] * 5, [5] * 5, [3] * 5, [0] * 5], rtol=0, atol=1e-14
    )
    with pytest.raises(UsageError, match="depends on the step"):
        _ = grid.mdp


def test_refined_pendulum_returns_what_its_value_promises():
    """Independent of the grid: the environment itself is played with the actions of the rollout."""
    solution = solve_grid(Grid(hamiltonian_rl.problem("Pendulum-v1"), (61, 61), 9))
    path = solution.rollout(np.array([[np.pi, 0.0], [0.5, 0.0]]))
    env = gym.make("Pendulum-v1")
    for start, actions, expected in zip(path.states[:, 0], path.actions, path.returns, strict=True):
        env.reset(seed=0)
        env.unwrapped.state = start.copy()
        total = sum(env.step(action)[1] for action in actions)
        assert total == pytest.approx(expected, abs=1e-3)  # the environment clips in single precision
    assert path.returns[0] > -400  # -295.3 is the best known; naive starts of other solvers end at -1,134


def test_memory_is_that_of_a_few_numbers_a_state():
    """With 3^4 actions and 16 corners the table would take 81 x 16 x 12 bytes a state: 15,552."""

    class Discounted(Sum):
        horizon, discount = None, 0.5

        def terminal_reward(self, state):
            return state[..., 0] * 0.0

    grid = Grid(Discounted(4), (12,) * 4, 3)
    solve_grid(Grid(Discounted(4), (2,) * 4, 3), tol=1e-2)  # so that compiling is not counted
    tracemalloc.start()
    solve_grid(grid, tol=1e-2, refine=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 8 * grid.n_states + 40 * 8 * 16_384


def test_cubic_and_refined_solutions_claim_no_bounds():
    cubic = solve_grid(Grid(Growth(), (9,), 5, "cubic"), refine=False)
    assert np.isneginf(cubic.lower).all()
    assert np.isposinf(cubic.upper).all()
    refined = solve_grid(Grid(Growth(), (9,), 5))
    assert np.isfinite(refined.lower).all()
    assert np.isposinf(refined.upper).all()
    assert cubic.unwrap() is cubic


def test_lower_bound_of_refined_actions_is_below_the_value_of_their_policy():
    """That value comes from the chain of the policy, a linear system."""
    grid = Grid(Growth(), (17,), 5)
    for rounds in (0, 1, 2, 1000):
        refined = solve_grid(grid, tol=1e-7, max_iterations=rounds)
        k, share = grid.states[:, 0], refined.policy[:, 0]
        points, weights = grid.weights((share * k**0.36)[:, None])
        chain = np.zeros((17, 17))
        np.add.at(chain, (np.arange(17)[:, None], points), weights)
        value = np.linalg.solve(np.eye(17) - 0.95 * chain, np.log(1 - share) + 0.36 * np.log(k))
        assert (refined.lower <= value + 1e-12).all()
        assert (value <= growth_value(k)).all()
    np.testing.assert_allclose(refined.lower, value, rtol=0, atol=1e-6)


class Gibbs(ControlProblem):
    """All states on the left go where the spline of a step overshoots on the left, those on the right likewise."""

    state_space, action_space, discount = box(0, 13), gym.spaces.Discrete(1), 0.99

    def dynamics(self, state, action, step):
        return torch.where(state < 6.5, 5.35, 7.65).double()

    def reward(self, state, action, step):
        return torch.where(state[..., 0] < 6.5, 1.0, -1.0).double()


def test_divergence_of_cubic_splines_is_told_and_multilinear_converges():
    step = scipy.interpolate.CubicSpline(np.arange(14), np.where(np.arange(14) < 6.5, 1.0, -1.0), bc_type="not-a-knot")
    assert 0.99 * step(5.35) > 1.0  # so that each sweep makes a step higher
    assert solve_grid(Grid(Gibbs(), (14,), 2, "cubic"), max_iterations=10**5).status is Status.DIVERGED
    solution = solve_grid(Grid(Gibbs(), (14,), 2), tol=1e-8).unwrap()
    np.testing.assert_allclose(solution.value, np.repeat([100.0, -100.0], 7), rtol=0, atol=1e-7)


def test_values_beyond_what_rewards_add_up_to_are_told():
    """No reward of the pendulum is positive, yet splines ring at the kink of its value."""
    solution = solve_grid(Grid(hamiltonian_rl.problem("Pendulum-v1"), (31, 31), 5, "cubic"), refine=False)
    assert solution.value.max() > 1.0
    assert solution.status is Status.UNSETTLED


@pytest.mark.parametrize(("interpolation", "count"), [("multilinear", 65), ("cubic", 33)])
def test_error_estimate_is_of_the_size_of_the_error(interpolation, count):
    solution = solve_grid(Grid(Growth(), (count,), 9, interpolation), tol=1e-9, estimate_error=True)
    error = np.abs(solution.value - growth_value(solution.grid.states[:, 0])).max()
    assert 0.2 * error < solution.error_estimate.max() < 5 * error


@pytest.mark.parametrize("problem", [Growth(), FiniteChase()])
def test_interrupt_returns_what_there_is(problem):
    def stop(sweeps, gap):
        if sweeps == 3:
            raise KeyboardInterrupt

    grid = Grid(problem, (9,) * len(problem.state_space.low), 5)
    solution = solve_grid(grid, tol=1e-12, progress=stop)
    assert solution.status is Status.INTERRUPTED
    assert solution.iterations == 3
    whole = solve_grid(grid, tol=1e-9)
    if problem.horizon:
        np.testing.assert_array_equal(solution.value[-4:], whole.value[-4:])
        np.testing.assert_array_equal(solution.value[0], whole.value[-4])
        assert np.isneginf(solution.lower[0]).all()
    else:
        assert (solution.lower <= whole.value + 1e-8).all()
        again = solve_grid(grid, tol=1e-9, initial_value=solution.value)
        np.testing.assert_allclose(again.value, whole.value, rtol=0, atol=1e-5)  # actions end a little apart


class Limited(Growth):
    """No more than a third may be saved."""

    def constraints(self, state, action, step):
        return action - 1.0 / 3.0


class Impossible(Growth):
    def constraints(self, state, action, step):
        return action * 0.0 + state - 0.3


class Indifferent(Growth):
    def dynamics(self, state, action, step):
        return state + 0.0 * action

    def reward(self, state, action, step):
        return torch.log(state[..., 0])


def test_an_action_gives_way_only_to_a_strictly_better_one():
    kept = np.linspace(0.1, 0.9, 5)[:, None]
    grid = Grid(Indifferent(), (5,), 5)
    chosen, best = GridBackup(grid).best(grid.interpolant(np.zeros(5)), grid.states, 0, kept=kept)
    np.testing.assert_array_equal(chosen, kept)
    np.testing.assert_allclose(best, np.log(grid.states[:, 0]), rtol=0, atol=1e-15)


def test_constraints_are_kept():
    limited = solve_grid(Grid(Limited(), (17,), 28, "cubic"), tol=1e-8)
    assert (limited.policy <= 1.0 / 3.0).all()
    assert limited.policy.max() > 0.33
    with pytest.raises(UsageError, match=r"No action satisfies the constraints at state \[0\.3"):
        solve_grid(Grid(Impossible(), (17,), 5))


class Endless(Growth):
    discount = 1.0


class Sudden(Growth):
    def reward(self, state, action, step):
        return torch.log(0.3 - action[..., 0])


class Rich(Growth):
    def __init__(self, horizon=None):
        self.horizon = horizon

    def reward(self, state, action, step):
        return state[..., 0] * 0.0 + 1e308


class Worthless(FiniteChase):
    def terminal_reward(self, state):
        return torch.log(state[..., 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: solve_grid(Grid(Endless(), (9,), 5)), "neither a horizon nor a discount"),
        (lambda: solve_grid(Grid(Sudden(), (9,), 5)), "not finite at state"),
        (lambda: solve_grid(Grid(Worthless(), (5, 4), 5)), r"terminal_reward is -inf at state \[0\.0"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5), tol=0), "tol = 0"),
        (lambda: solve_grid(Growth()), r"is of class Growth; expected Grid\(problem, points\)"),
        (lambda: solve_grid(Grid(Growth(), (2,), 5), estimate_error=True), r"half the points too, \(1,\) of \(2,\)"),
        (lambda: solve_grid(Grid(Growth(), (5,), 5, "cubic"), estimate_error=True), "at least 4 along each"),
        (lambda: solve_grid(Grid(Rich(), (9,), 5)), r"Rewards as large as 1e\+308 add up to more than"),
        (lambda: solve_grid(Grid(Rich(3), (9,), 5)), r"more than double precision holds in 3 steps"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5)).gradient_at("a"), "`states` are no array of numbers"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5), initial_value=np.zeros(3)), r"shape \(3,\); expected \(9,\)"),
        (lambda: solve_grid(Grid(FiniteChase(), (5, 4), 5), initial_value=np.zeros(20)), "without a horizon"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5), max_iterations=-1), "max_iterations = -1"),
        (lambda: Grid(Growth(), (3,), 5, "cubic"), "at least 4"),
        (lambda: solve_grid(Grid(Sum(5), (2,) * 5, 2)), "5 coordinates; interpolation takes 1 to 4"),
        (lambda: Grid(Growth(), (9,), 5, "cubik"), 'no interpolation "cubik". Did you mean "cubic"'),
        (lambda: Grid(Growth(), (9,), 5, "cubic").mdp, "negative weights"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5)).value_at(np.zeros(2)), r"shape \(2,\); expected \(\.\.\., 1\)"),
        (lambda: solve_grid(Grid(Growth(), (9,), 5)).rollout(np.ones((1, 1))), "n_steps = None"),
        (lambda: solve_grid(Grid(Clock(), (5,), 3)).action_at(np.zeros(1), 4), "step = 4; the last one"),
        (lambda: solve_grid(Grid(Clock(), (5,), 3)).value_at(np.zeros(1), 5), "step = 5"),
    ],
)
def test_wrong_use_is_one_clear_sentence(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("count", [4, 5, 6, 11])
def test_splines_are_those_of_scipy(count):
    from hamiltonian_rl.problems.interpolation import Interpolant

    generator = np.random.default_rng(count)
    x, y, at = np.linspace(-1, 2, count), generator.normal(size=count), generator.uniform(-1, 2, 50)
    low, spacing = np.array([-1.0]), np.array([x[1] - x[0]])
    mine = Interpolant(y, low, spacing, (False,), 3)
    theirs = scipy.interpolate.CubicSpline(x, y, bc_type="not-a-knot")
    np.testing.assert_allclose(mine(at[:, None]), theirs(at), rtol=0, atol=1e-12)
    np.testing.assert_allclose(mine.gradient(at[:, None])[:, 0], theirs(at, 1), rtol=0, atol=1e-11)
    mine = Interpolant(y[:-1], low, spacing, (True,), 3)
    theirs = scipy.interpolate.CubicSpline(x, np.append(y[:-1], y[0]), bc_type="periodic")
    np.testing.assert_allclose(mine(at[:, None] + 6.0), theirs(at), rtol=0, atol=1e-12)
    np.testing.assert_allclose(mine.gradient(at[:, None] - 3.0)[:, 0], theirs(at, 1), rtol=0, atol=1e-11)


def test_gradient_is_the_derivative_of_the_interpolant_in_every_coordinate():
    solution = solve_grid(Grid(Sum(3), (6, 5, 4), 3, "cubic"))
    states = np.random.default_rng(0).uniform(-0.9, 0.9, (20, 3))
    for axis, sign in itertools.product(range(3), (1,)):
        shift = sign * 1e-5 * np.eye(3)[axis]
        slope = (solution.value_at(states + shift) - solution.value_at(states - shift)) / 2e-5
        np.testing.assert_allclose(solution.gradient_at(states)[:, axis], slope, rtol=0, atol=1e-8)
