"""Our own problems are what their docstrings say: held against closed forms, SciPy and textbook numbers."""

import math

import gymnasium as gym
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.signal
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import hamiltonian_rl
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.registry import PROBLEMS

ALL = sorted(PROBLEMS)
OWN = [env_id for env_id in ALL if env_id.startswith("hrl/")]


def tensor(values):
    return torch.as_tensor(np.asarray(values, float))


def rollout(problem, state, actions):
    """Return the discounted return and the last state."""
    state, value = tensor(state), 0.0
    for step, action in enumerate(actions):
        value = value + problem.discount**step * problem.reward(state, action, step)
        state = problem.dynamics(state, action, step)
    return value + problem.discount ** len(actions) * problem.terminal_reward(state), state


def maximum(problem, guess):
    """Return the best return from the nominal start that L-BFGS-B finds within the bounds of the actions."""
    bounds = [(low, high) for low, high in zip(problem.action_space.low, problem.action_space.high, strict=True)]

    def loss(flat):
        actions = torch.tensor(flat.reshape(guess.shape), requires_grad=True)
        value, _ = rollout(problem, problem.start, actions)
        (gradient,) = torch.autograd.grad(-value, actions)
        return -value.item(), gradient.numpy().ravel()

    found = scipy.optimize.minimize(
        loss, guess.ravel(), jac=True, bounds=bounds * len(guess), options={"ftol": 1e-15, "gtol": 1e-8}
    )
    return -found.fun


# Linear problems


@pytest.mark.parametrize("env_id", ["hrl/DoubleIntegrator-v0", "hrl/BrysonDenham-v0", "hrl/LinearQuadratic-v0"])
def test_steps_of_the_point_mass_are_scipys_for_a_held_force(env_id):
    problem = hamiltonian_rl.problem(env_id)
    time_step = getattr(problem, "time_step", 0.1)
    exact = scipy.signal.cont2discrete(
        (np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]]), np.eye(2), np.zeros((2, 1))), time_step, "zoh"
    )
    generator = np.random.default_rng(0)
    states, forces = generator.normal(size=(50, 2)), generator.normal(size=(50, 1))
    after = problem.dynamics(tensor(states), tensor(forces), 0)
    np.testing.assert_allclose(after, states @ exact[0].T + forces @ exact[1].T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [2, 5, 50])
def test_least_energy_to_rest_is_six_over_one_minus_one_over_n_squared(n):
    """The linear map from forces to the last state, taken from the problem; least squares find the least energy."""
    problem = hamiltonian_rl.problem("hrl/DoubleIntegrator-v0", horizon=n)

    def end(forces):
        return problem.terminal_constraints(rollout(problem, problem.start, forces)[1])

    still = end(torch.zeros((n, 1)).double())
    effect = torch.autograd.functional.jacobian(end, torch.zeros((n, 1)).double())[..., 0]
    forces = tensor(np.linalg.lstsq(effect.numpy(), -still.numpy(), rcond=None)[0])[:, None]
    value, _ = rollout(problem, problem.start, forces)
    np.testing.assert_allclose(end(forces), 0.0, atol=1e-13)
    assert value.item() == pytest.approx(-6.0 / (1.0 - 1.0 / n**2), rel=1e-12)


def test_the_least_bounded_energy_is_the_closed_form_up_to_the_square_of_the_step():
    """In continuous time the force saturates at ±b outside the middle 2δ, δ² = 3 (1/4 - 1/b), and is linear within."""
    n, b = 50, 5.0
    problem = hamiltonian_rl.problem("hrl/BoundedDoubleIntegrator-v0", horizon=n)
    assert problem.action_space == gym.spaces.Box(-b, b, (1,), np.float64)
    time = (np.arange(n) + 0.5) / n - 0.5
    effect = np.stack(
        [-time / n, np.full(n, 1.0 / n)]
    )  # on the last position, of forces that sum to zero, and velocity
    found = scipy.optimize.minimize(
        lambda u: 0.5 * (u @ u) / n,
        -12.0 * time,
        jac=lambda u: u / n,
        method="SLSQP",
        bounds=[(-b, b)] * n,
        constraints={"type": "eq", "fun": lambda u: effect @ u - [1.0, 0.0], "jac": lambda u: effect},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    value, end = rollout(problem, problem.start, tensor(found.x)[:, None])
    np.testing.assert_allclose(end, 0.0, atol=1e-8)
    width = math.sqrt(3.0 * (0.25 - 1.0 / b))
    assert -value.item() == pytest.approx(b**2 * (0.5 - 2.0 * width / 3.0), rel=3 / n**2)


@pytest.mark.parametrize(("limit", "optimum"), [(1 / 9, 4.0), (0.1, 4.0 / 0.9), (0.2, 2.24), (0.3, 2.0)])
def test_bryson_denhams_optimum_is_the_textbooks_up_to_the_square_of_the_step(limit, optimum):
    n = 40
    problem = hamiltonian_rl.problem("hrl/BrysonDenham-v0", horizon=n, limit=limit)

    def path(forces):
        states = [tensor(problem.start)]
        for step in range(n):
            states.append(problem.dynamics(states[-1], forces[step], step))
        walls = problem.constraints(torch.stack(states[:-1]), forces, 0)[:, 0]
        return torch.cat([walls, problem.terminal_constraints(states[-1])])

    nothing = torch.zeros((n, 1)).double()
    still, effect = path(nothing).numpy(), torch.autograd.functional.jacobian(path, nothing)[..., 0].numpy()
    found = scipy.optimize.minimize(
        lambda u: 0.5 * (u @ u) / n,
        np.linalg.lstsq(effect[n:], -still[n:], rcond=None)[0],
        jac=lambda u: u / n,
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda u: -(still + effect @ u)[:n], "jac": lambda u: -effect[:n]},
            {"type": "eq", "fun": lambda u: (still + effect @ u)[n:], "jac": lambda u: effect[n:]},
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found.success
    value, _ = rollout(problem, problem.start, tensor(found.x)[:, None])
    assert -value.item() == pytest.approx(found.fun, rel=1e-12)
    # With N = 40 and with N = 80 the error is at most 2.8 / N² of the optimum.
    assert -value.item() == pytest.approx(optimum, rel=3 / n**2)


def test_riccatis_feedback_earns_what_riccati_says_on_any_linear_quadratic_problem():
    generator = np.random.default_rng(0)
    A, B = generator.normal(size=(3, 3)), generator.normal(size=(3, 2))
    Q, R = 2.0 * np.eye(3) + 0.1, np.diag([1.0, 3.0])
    problem = LinearQuadratic(A, B, Q, R, 5.0 * np.eye(3), horizon=30)
    P, gains = 5.0 * np.eye(3), []
    for _ in range(30):
        gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P, gains = Q + A.T @ P @ (A - B @ gain), [gain, *gains]
    first = generator.normal(size=3)
    state, value = tensor(first), 0.0
    for step, gain in enumerate(gains):
        action = -tensor(gain) @ state
        value, state = value + problem.reward(state, action, step), problem.dynamics(state, action, step)
    assert (value + problem.terminal_reward(state)).item() == pytest.approx(-first @ P @ first, rel=1e-10)


def test_the_default_linear_quadratic_problem_is_the_published_one():
    """Its optimal cost from (1, 0), 9.077561471453, by Riccati's recursion on matrices written here."""
    problem = LinearQuadratic()
    A, B, P = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]]), 10.0 * np.eye(2)
    gains = []
    for _ in range(100):
        gain = np.linalg.solve(0.1 + B.T @ P @ B, B.T @ P @ A)
        P, gains = np.diag([1.0, 0.1]) + A.T @ P @ (A - B @ gain), [gain, *gains]
    state, value = tensor([1.0, 0.0]), 0.0
    for step, gain in enumerate(gains):
        action = -tensor(gain) @ state
        value, state = value + problem.reward(state, action, step), problem.dynamics(state, action, step)
    assert (value + problem.terminal_reward(state)).item() == pytest.approx(-9.077561471453, abs=1e-11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"A": [[1.0]]}, "one of A and B"),
        ({"A": [[1.0, 0.0]], "B": [[1.0]]}, r"A has the shape \(1, 2\); expected \(1, 1\)"),
        ({"Q": [[1.0]]}, r"Q has the shape \(1, 1\); expected \(2, 2\)"),
        ({"R": [[math.nan]]}, "R = .*finite"),
        ({"A": "x", "B": "y"}, "no matrix"),
        ({"horizon": 0}, "horizon = 0"),
        ({"horizon": 2.5}, "horizon = 2.5"),
    ],
)
def test_matrices_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        LinearQuadratic(**arguments)


# Mechanics


def cart_pole_energy(problem, state):
    """Kinetic and potential energy of the cart and a uniform pole, with the pivot at height zero."""
    _, velocity, angle, rotation = np.moveaxis(np.asarray(state), -1, 0)
    length, mass = problem.half_length, problem.pole_mass
    across, up = velocity + length * rotation * np.cos(angle), -length * rotation * np.sin(angle)
    spinning = mass * length**2 / 3.0 * rotation**2  # a rod of length 2l about its middle
    moving = problem.cart_mass * velocity**2 + mass * (across**2 + up**2) + spinning
    return 0.5 * moving + mass * problem.gravity * length * np.cos(angle)


def test_without_force_the_cart_pole_keeps_its_energy_to_the_order_of_eulers_method():
    problem = hamiltonian_rl.problem("hrl/CartPoleSwingUp-v0", cart_mass=0.7, pole_mass=0.4, half_length=0.6)
    drifts = []
    for halvings in range(3):
        problem.time_step = 0.001 / 2**halvings
        state = tensor([0.3, -0.2, 2.0, 1.0])
        before = cart_pole_energy(problem, state)
        for step in range(500 * 2**halvings):
            state = problem.dynamics(state, torch.zeros(1), step)
        drifts.append(abs(cart_pole_energy(problem, state) - before))
    assert drifts[0] < 0.02 * abs(before)
    np.testing.assert_allclose(np.divide(drifts[:-1], drifts[1:]), 2.0, rtol=0.05)


def test_swing_up_steps_as_cart_pole_does_and_costs_nothing_at_rest_upright():
    problem, theirs = hamiltonian_rl.problem("hrl/CartPoleSwingUp-v0"), hamiltonian_rl.problem("CartPole-v1")
    states = tensor(np.random.default_rng(0).normal(size=(20, 4)))
    after = problem.dynamics(states, torch.full((20, 1), 10.0), 0)
    torch.testing.assert_close(after, theirs.dynamics(states, torch.ones(20), 0), rtol=0, atol=1e-15)
    assert problem.reward(torch.zeros(4), torch.zeros(1), 0) == problem.terminal_reward(torch.zeros(4)) == 0
    # By hand, hanging at rest with 10 N: 0.02 (2 * 2 + 0.001 * 100) and 50 * 2 * 2.
    hanging = tensor([0.0, 0.0, math.pi, 0.0])
    assert problem.reward(hanging, tensor([10.0]), 0).item() == pytest.approx(-0.082)
    assert problem.terminal_reward(hanging).item() == pytest.approx(-200.0)
    # Upright but moving: 0.02 (0.1 * 1 + 0.01 * 4 + 0.01 * 9), and 50 (0.1 * 9 + 0.5 * 1 + 0.1 * 4).
    moving = tensor([1.0, 2.0, 0.0, 3.0])
    assert problem.reward(moving, tensor([0.0]), 0).item() == pytest.approx(-0.0046)
    assert problem.terminal_reward(moving).item() == pytest.approx(-90.0)


def test_the_quadrotor_hovers_at_half_its_weight_a_side_and_follows_newton_to_first_order():
    problem = hamiltonian_rl.problem("hrl/Quadrotor-v0")
    hover = tensor([4.905, 4.905])
    torch.testing.assert_close(problem.dynamics(torch.zeros(6).double(), hover, 0), torch.zeros(6).double())
    assert problem.reward(torch.zeros(6).double(), hover, 0).item() == 0.0
    thrusts, first = np.array([5.5, 5.2]), np.array([3.0, -2.0, 0.4, 0.5, 0.1, -0.3])

    def newton(_, s):
        total = thrusts.sum()
        acceleration = [-total * np.sin(s[2]), total * np.cos(s[2]) - 9.81, 10.0 * (thrusts[0] - thrusts[1])]
        return [*s[3:], *acceleration]

    exact = scipy.integrate.solve_ivp(newton, (0.0, 0.5), first, rtol=1e-10, atol=1e-10).y[:, -1]
    errors = []
    for count in (50, 100, 200):
        problem, state = hamiltonian_rl.problem("hrl/Quadrotor-v0", time_step=0.5 / count), tensor(first)
        for step in range(count):
            state = problem.dynamics(state, tensor(thrusts), step)
        errors.append(np.abs(state.numpy() - exact).max())
    assert errors[0] < 0.05
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, rtol=0.05)


def test_the_quadrotors_cost_is_that_computed_by_hand():
    problem = hamiltonian_rl.problem("hrl/Quadrotor-v0")
    state, thrusts = tensor([1.0, 2.0, 3.0, 1.0, 1.0, 1.0]), tensor([4.905 + 1.0, 4.905 - 2.0])
    # 0.05 (1 + 4 + 9 + 0.1 * 3 + 0.01 * 5), and 10 (1 + 4 + 9 + 3).
    assert problem.reward(state, thrusts, 0).item() == pytest.approx(-0.7175, rel=1e-12)
    assert problem.terminal_reward(state).item() == pytest.approx(-170.0)


def test_the_smooth_mountain_car_moves_as_gymnasiums_away_from_wall_and_flag():
    problem, theirs = (hamiltonian_rl.problem(i) for i in ("hrl/SmoothMountainCar-v0", "MountainCarContinuous-v0"))
    generator = np.random.default_rng(0)
    states = tensor(generator.uniform([-1.0, -0.07], [0.4, 0.07], (200, 2)))
    forces = tensor(generator.uniform(-1.0, 1.0, (200, 1)))
    torch.testing.assert_close(problem.dynamics(states, forces, 0), theirs.dynamics(states, forces, 0), rtol=0, atol=0)
    assert problem.reward(states[0], tensor([0.5]), 0).item() == pytest.approx(-0.025)
    assert problem.terminal_reward(tensor([0.25, 0.0])).item() == pytest.approx(-40.0)
    assert problem.terminal_reward(tensor([0.5, 0.0])).item() == 0.0


# Van der Pol and Zermelo


def test_van_der_pols_steps_and_costs_are_those_of_scipys_integrator():
    problem = hamiltonian_rl.problem("hrl/VanDerPol-v0")
    generator = np.random.default_rng(0)
    for _ in range(10):
        (x, y), a = generator.uniform(-1.0, 1.0, 2), generator.uniform(-0.3, 1.0)

        def derivative(_, s, a=a):
            return [(1 - s[1] ** 2) * s[0] - s[1] + a, s[0], s[0] ** 2 + s[1] ** 2 + a**2]

        exact = scipy.integrate.solve_ivp(derivative, (0.0, 0.05), [x, y, 0.0], rtol=1e-11, atol=1e-12).y[:, -1]
        # The local error of a fourth-order method over 0.05 is of the size of 0.05^5 = 3e-7, times small constants.
        np.testing.assert_allclose(problem.dynamics(tensor([x, y]), tensor([a]), 0), exact[:2], rtol=0, atol=1e-7)
        assert problem.reward(tensor([x, y]), tensor([a]), 0).item() == pytest.approx(-exact[2], abs=1e-7)


@pytest.mark.slow
def test_van_der_pols_optimum_tends_to_the_published_one_with_the_square_of_the_step():
    errors = [
        -2.867260 - maximum(hamiltonian_rl.problem("hrl/VanDerPol-v0", horizon=n), np.zeros((n, 1))) for n in (25, 50)
    ]
    assert 0 < errors[1] < 2.5e-3
    assert 3.5 < errors[0] / errors[1] < 4.7


@pytest.mark.parametrize("wind", [(0.0, 0.0), (-0.4, 0.3)])
def test_zermelos_headings_are_stationary_and_earn_the_closed_form(wind):
    n, shear, start = 30, 0.8, (0.2, -0.3)
    problem = hamiltonian_rl.problem("hrl/Zermelo-v0", horizon=n, speed=1.5, wind=wind, shear=shear)
    dt, left = 2.0 / n, np.arange(n)[::-1]
    headings = tensor(np.arctan(shear * dt * left))[:, None].requires_grad_()
    value, _ = rollout(problem, start, headings)
    (gradient,) = torch.autograd.grad(value, headings)
    assert gradient.abs().max() < 1e-14
    drift = 2.0 * wind[0] + shear * (2.0 * start[1] + dt**2 * wind[1] * n * (n - 1) / 2)
    closed = start[0] + drift + (1.5 * dt * np.sqrt(1 + (shear * dt * left) ** 2)).sum()
    assert value.item() == pytest.approx(closed, rel=1e-13)
    for seed in range(20):
        other = headings.detach() + tensor(np.random.default_rng(seed).normal(size=(n, 1)))
        assert rollout(problem, start, other)[0] < value


# Economics


def test_brock_and_mirmans_closed_form_solves_bellmans_equation():
    problem = hamiltonian_rl.problem("hrl/BrockMirman-v0")
    alpha, beta = problem.alpha, problem.discount
    B = alpha / (1 - alpha * beta)
    A = (math.log(1 - alpha * beta) + alpha * beta / (1 - alpha * beta) * math.log(alpha * beta)) / (1 - beta)
    assert A + B * math.log(0.1) == pytest.approx(-20.784185220929, abs=1e-12)
    shares = torch.linspace(0.001, 0.999, 9981).double()[:, None]  # in steps of 1e-4
    for capital in (0.05, 0.1, 0.2, 0.7):
        states = torch.full_like(shares, capital)
        successors = problem.dynamics(states, shares, 0)
        total = problem.reward(states, shares, 0) + beta * (A + B * successors[:, 0].log())
        best = int(total.argmax())
        # At a smooth maximum half a grid step costs less than its square.
        assert total[best].item() == pytest.approx(A + B * math.log(capital), abs=1e-8)
        assert shares[best].item() == pytest.approx(1 - alpha * beta, abs=1e-4)


def test_brock_and_mirmans_shares_of_twenty_periods_earn_the_known_value():
    problem = hamiltonian_rl.problem("hrl/BrockMirman-v0", horizon=20)
    left = np.arange(20)[::-1]
    shares = 1.0 / np.array([sum((0.36 * 0.95) ** j for j in range(k + 1)) for k in left])
    value, _ = rollout(problem, [0.1], tensor(shares)[:, None])
    assert value.item() == pytest.approx(-13.287585362, abs=1e-9)


def test_the_cake_eaten_by_the_closed_form_has_the_known_value_and_costate():
    problem = hamiltonian_rl.problem("hrl/CakeEating-v0")
    eaten = 0.95 ** np.arange(10) * 0.05 / (1 - 0.95**10)
    left = np.append(1.0, 1.0 - np.cumsum(eaten))
    start = tensor([1.0]).requires_grad_()
    state, value = start, 0.0
    for step, share in enumerate(eaten / left[:-1]):
        action = tensor([min(share, 1.0)])
        value = value + 0.95**step * problem.reward(state, action, step)
        state = problem.dynamics(state, action, step)
    assert value.item() == pytest.approx(-18.392324228, abs=1e-9)
    (costate,) = torch.autograd.grad(value, start)
    assert costate.item() == pytest.approx(8.025261215, abs=1e-8)


def test_eating_nothing_or_all_is_finite():
    for env_id in ("hrl/BrockMirman-v0", "hrl/CakeEating-v0"):
        problem, state = hamiltonian_rl.problem(env_id), tensor([0.5]).requires_grad_()
        for share in (0.0, 1.0):
            after = problem.dynamics(problem.dynamics(state, tensor([share]), 0), tensor([share]), 1)
            value = problem.reward(state, tensor([share]), 0) + problem.reward(after, tensor([share]), 1)
            (gradient,) = torch.autograd.grad(value + after.sum(), state)
            assert value.isfinite()
            assert gradient.isfinite().all()


# All of them


@pytest.mark.parametrize("env_id", ALL)
def test_problems_can_be_batched_mapped_and_traced(env_id):
    problem = hamiltonian_rl.problem(env_id)
    generator = np.random.default_rng(0)
    states = tensor(problem.initial_states(5, generator))
    problem.action_space.seed(0)
    if isinstance(problem.action_space, gym.spaces.Box):
        actions = tensor([problem.action_space.sample() for _ in range(5)])
    else:
        actions = tensor([float(problem.action_space.sample()) for _ in range(5)])
    functions = {
        "dynamics": lambda s, a: problem.dynamics(s, a, 0),
        "reward": lambda s, a: problem.reward(s, a, 0),
        "terminal_reward": lambda s, a: problem.terminal_reward(s),
        "terminated": lambda s, a: problem.terminated(s),
        "constraints": lambda s, a: problem.constraints(s, a, 0),
        "terminal_constraints": lambda s, a: problem.terminal_constraints(s),
        "observation": lambda s, a: problem.observation(s),
    }
    for name, function in functions.items():
        together = function(states, actions)
        alone = torch.stack([function(s, a) for s, a in zip(states, actions, strict=True)])
        mapped = torch.func.vmap(function)(states, actions)
        traced = make_fx(function)(states[0], actions[0])
        assert not [node for node in traced.graph.nodes if str(node.target).split(".")[0].endswith("_")], name
        for other in (alone, mapped, torch.stack([traced(s, a) for s, a in zip(states, actions, strict=True)])):
            torch.testing.assert_close(other, together, rtol=1e-13, atol=1e-13, msg=name)


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("hrl/LinearQuadratic-v0", "A"),
        ("hrl/LinearQuadratic-v0", "terminal_Q"),
        ("hrl/Quadrotor-v0", "mass"),
        ("hrl/CartPoleSwingUp-v0", "pole_mass"),
        ("hrl/BrockMirman-v0", "alpha"),
        ("hrl/VanDerPol-v0", "damping"),
        ("hrl/Zermelo-v0", "wind"),
        ("hrl/BrysonDenham-v0", "limit"),
        ("hrl/DoubleIntegrator-v0", "time_step"),
    ],
)
def test_derivatives_with_respect_to_a_parameter_are_the_differences(env_id, name):
    problem = hamiltonian_rl.problem(env_id)
    generator = np.random.default_rng(0)
    state = tensor(problem.initial_states(1, generator)[0])
    action = tensor(0.3 + 0.1 * generator.uniform(size=problem.action_space.shape))

    def total(value):
        setattr(problem, name, value)
        after = problem.dynamics(state, action, 0)
        parts = after, problem.constraints(after, action, 0), problem.reward(after, action, 1)[None]
        return torch.cat([*parts, problem.terminal_reward(after)[None]]).sum()

    value = tensor(getattr(problem, name))
    assert torch.autograd.gradcheck(total, (value.clone().requires_grad_(),), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("env_id", ALL)
def test_first_states_lie_within_the_spread_of_the_nominal_one(env_id):
    problem = hamiltonian_rl.problem(env_id)
    states = problem.initial_states(400, np.random.default_rng(0))
    # Pendulum-v1 starts anywhere, as Gymnasium's does; its nominal state is hanging.
    start, spread = (problem.start, problem.spread) if problem.spread else ((0.0, 0.0), (np.pi, 1.0))
    away = np.abs(states - np.array(start))
    assert states.shape == (400, *problem.state_space.shape)
    assert (away <= np.array(spread) + 1e-12).all()
    np.testing.assert_allclose(away.max(axis=0), spread, rtol=0.05, atol=1e-12)
    assert len(problem.state_names) == problem.state_space.shape[0]
    assert len(problem.action_names) == int(np.prod(problem.action_space.shape))
