"""Pictures of what an agent has learnt, against values that are known."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from hamiltonian_rl.agents import DQN, QLearning, RandomAgent
from hamiltonian_rl.comparison.learned_picture import learned_picture
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.run_config import resolve


def test_the_picture_of_a_table_shows_the_optimum_when_that_is_what_was_learnt():
    env = gym.make("FrozenLake-v1", is_slippery=False)
    agent = QLearning(env, gamma=0.9)
    # 0.9 to the number of steps from the goal, less one, over the letters of the map; nothing ever starts in a hole.
    distances = [[6, 5, 4, 5], [5, 0, 3, 0], [4, 3, 2, 0], [0, 2, 1, 0]]
    best = np.where(np.array(distances) > 0, 0.9 ** (np.array(distances) - 1.0), 0.0)
    agent.table.values[0, :, :] = -1.0
    agent.table.values[0, :, 0] = best.ravel()
    config = resolve("FrozenLake-v1", agent="q-learning", env_settings={"is_slippery": False})
    picture = learned_picture(agent, config)
    (image,) = picture.axes[0].images
    np.testing.assert_array_equal(image.get_array(), best)
    signs = "".join(text.get_text() for text in picture.axes[0].texts)
    assert signs == "←←←←←H←H←←←HH←←G"


def test_the_picture_of_a_plane_shows_value_costate_and_action():
    class Known:
        """V = -(x² + 2 v²) and the action -x, of the double integrator."""

        def value(self, states):
            return -(states[..., 0] ** 2 + 2 * states[..., 1] ** 2)

        def costate(self, states):
            return states * [-2.0, -4.0]

        def predict(self, observations, deterministic):
            return -observations[:, :1], None

    config = resolve("hrl/DoubleIntegrator-v0", agent="random")
    picture = learned_picture(Known(), config)
    left, right = (axes for axes in picture.axes[:2])
    value, arrows = left.collections
    box = problem("hrl/DoubleIntegrator-v0").state_space
    assert value.get_array().min() == pytest.approx(-(box.high[0] ** 2 + 2 * box.high[1] ** 2))
    for x, v, along, up in zip(arrows.X, arrows.Y, arrows.U, arrows.V, strict=True):
        slope = np.array([-2 * x, -4 * v]) * (box.high - box.low)
        np.testing.assert_allclose([along, up], slope / np.linalg.norm(slope), atol=1e-12)
    (action,) = right.collections
    np.testing.assert_allclose(action.get_array()[0], np.linspace(-box.low[0], -box.high[0], 41), rtol=1e-6)  # float32


@pytest.mark.parametrize("env", ["CartPole-v1", "FrozenLake-v1"])
def test_what_cannot_be_drawn_is_not(env):
    config = resolve(env, agent="random")
    assert learned_picture(RandomAgent(gym.make(env)), config) is None
    if env == "CartPole-v1":  # four coordinates
        assert learned_picture(DQN(gym.make(env)), config) is None
