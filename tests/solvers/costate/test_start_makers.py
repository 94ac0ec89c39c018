"""Start makers: where an energy pump, a homotopy and a receding horizon lead, against known optima."""

import gymnasium as gym
import numpy as np
import pytest

import hamiltonian_rl
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.costate.following import along_paths
from hamiltonian_rl.solvers.costate.starts import energy_pump, homotopy, receding_horizon
from hamiltonian_rl.trajectory import rollout

HANGING = np.array([np.pi, 0.0])


def swing_and_catch(pendulum, share, gain):
    """Pump to the energy of the upright pendulum, ``θ'' = 15 sin θ + 3 u``, and hold it there by a linear law."""

    def lacking(states):
        return gain / share * (15.0 - 0.5 * states[:, 1] ** 2 - 15.0 * np.cos(states[:, 0]))

    pump = energy_pump(pendulum, share, lacking=lacking)

    def policy(states, step):
        angle = (states[:, 0] + np.pi) % (2.0 * np.pi) - np.pi
        near = (np.abs(angle) < 0.4) & (np.abs(states[:, 1]) < 2.5)
        return np.where(near[:, None], -12.0 * angle[:, None] - 3.0 * states[:, 1:], pump(states, step))

    return policy


def test_energy_pumps_alone_find_the_pendulums_swing_up_without_a_grid():
    pendulum = hamiltonian_rl.problem("Pendulum-v1")
    starts = [
        swing_and_catch(pendulum, share, gain) for share in np.linspace(0.5, 1.0, 6) for gain in (0.05, 0.15, 0.5)
    ]
    found = solve_costate(pendulum, HANGING, starts=starts)
    assert found.value[0] == pytest.approx(-295.3012, abs=1e-3)  # ANCHORS: 256 pumps of another solver


def test_pushing_along_the_velocity_gains_energy_at_every_step():
    pendulum = hamiltonian_rl.problem("Pendulum-v1")
    path = rollout(pendulum, np.array([3.0, 0.2]), energy_pump(pendulum, 0.5), horizon=30)
    assert (path.actions[0, :, 0] * path.states[0, :-1, 1] >= 0.0).all()
    assert np.abs(path.actions).max() == 1.0


def test_a_pump_needs_to_know_what_the_action_drives():
    with pytest.raises(UsageError, match="driven"):
        energy_pump(hamiltonian_rl.problem("hrl/Quadrotor-v0"))


def test_a_receding_horizon_keeps_up_a_pole_where_the_naive_first_path_falls():
    relaxed = hamiltonian_rl.problem("CartPole-v1").relaxed().problem
    relaxed.horizon = 200
    states = relaxed.initial_states(3, np.random.default_rng(0))
    path = rollout(relaxed, states, receding_horizon(relaxed, states, 50))
    assert (np.abs(path.states[..., 2]) < 12 * np.pi / 180).all()
    assert (np.abs(rollout(relaxed, states, np.full((200, 1), 0.5)).states[..., 2]) > 1.0).any()


def test_homotopy_ends_at_a_path_of_the_last_problem():
    state = np.array([[0.0, 0.0, 2.8, 0.3]])  # hanging itself is a saddle
    problems = [hamiltonian_rl.problem("hrl/CartPoleSwingUp-v0", horizon=steps) for steps in (60, 120)]
    policy = homotopy(problems, state)
    first = homotopy(problems[:1], state)
    direct = solve_costate(problems[-1], state, initial_actions=first)
    assert rollout(problems[-1], state, policy).value[0] == pytest.approx(direct.value[0], abs=1e-6)
    assert direct.value[0] > rollout(problems[-1], state, first).value[0]
    with pytest.raises(UsageError, match="problems is empty"):
        homotopy([], state)


class Rippled(ControlProblem):
    """Go to 3 in two steps, ``h(s) = -(s - 3)² + weight cos 8s``: from 0 the ripples are steeper than the way."""

    state_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float64)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    horizon = 2

    def __init__(self, weight):
        self.weight = weight

    def dynamics(self, state, action, step):
        return state + action

    def reward(self, state, action, step):
        return -0.1 * action[..., 0] ** 2

    def terminal_reward(self, state):
        return self.weight * (8.0 * state[..., 0]).cos() - (state[..., 0] - 3.0) ** 2


def test_weights_raised_step_by_step_lead_to_the_optimum_of_brute_force_where_the_plain_start_is_stuck():
    state = np.array([[0.0]])
    plain = solve_costate(Rippled(2.0), state)
    policy = homotopy([Rippled(weight) for weight in (0.0, 0.5, 1.0, 2.0)], state)
    found = solve_costate(Rippled(2.0), state, initial_actions=policy).unwrap()
    ends = np.linspace(-5.0, 8.0, 1_300_001)  # two equal steps are the cheapest way to any of them
    best = (2.0 * np.cos(8.0 * ends) - (ends - 3.0) ** 2 - 0.05 * ends**2).max()
    assert plain.converged[0]
    assert plain.value[0] < best - 1.0
    assert found.value[0] == pytest.approx(best, abs=1e-8)  # ends 1e-5 apart, curvature 130


def test_feedback_along_a_path_takes_the_shorter_way_around_a_circle():
    pendulum = hamiltonian_rl.problem("Pendulum-v1")
    found = solve_costate(pendulum, np.array([[0.3, 0.0]]), horizon=20)
    policy = along_paths(found)
    here, around = np.array([[0.3, 0.0]]), np.array([[0.3 - 2.0 * np.pi, 0.0]])
    np.testing.assert_allclose(policy(around, 0), policy(here, 0), atol=1e-9)
    assert isinstance(pendulum.action_space, gym.spaces.Box)
