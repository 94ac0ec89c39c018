"""The compiled loop is Q-learning on the environment's own table, draw for draw."""

import gymnasium as gym
import numpy as np
import pytest

from hamiltonian_rl.agents import QLearning
from hamiltonian_rl.errors import CheckpointError, UsageError

OPTIMISTIC = {"step_size": 1.0, "count_exponent": 0.5, "initial_value": 1.0}


def by_hand(env: gym.Env, agent: QLearning, generator: np.random.Generator, steps: int) -> tuple[np.ndarray, list]:
    """The same draws spent in plain Python on Gymnasium's ``P``: the table of values, and the episodes' returns."""
    s, table, limit = agent.settings, env.unwrapped.P, env.spec.max_episode_steps or 10**9
    starts = np.cumsum(env.unwrapped.initial_state_distrib)
    q = np.full((env.observation_space.n, env.action_space.n), s.initial_value)
    visits = np.zeros(q.shape)
    state = int(np.searchsorted(starts, generator.random(), side="right"))
    returns, total, length = [], 0.0, 0
    for step, (explore, pick, luck, start) in enumerate(generator.random((steps, 4))):
        action = int(pick * q.shape[1]) if explore < s.exploration_rate(step) else int(q[state].argmax())
        outcomes = table[state][action]
        sums = np.cumsum([outcome[0] for outcome in outcomes])
        _, successor, reward, over = outcomes[min(int(np.searchsorted(sums, luck, side="right")), len(outcomes) - 1)]
        visits[state, action] += 1
        target = reward + (0.0 if over else s.gamma * q[successor].max())
        q[state, action] += s.step_size * visits[state, action] ** -s.count_exponent * (target - q[state, action])
        state, total, length = int(successor), total + reward, length + 1
        if over or length >= limit:
            returns.append(total)
            state, total, length = int(np.searchsorted(starts, start, side="right")), 0.0, 0
    return q, returns


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"])
@pytest.mark.parametrize("settings", [OPTIMISTIC, {"step_size": 0.3, "exploration_steps": 2_000}])
def test_compiled_loop_equals_plain_python_draw_for_draw(env_id, settings):
    env = gym.make(env_id)
    agent = QLearning(env, seed=3, compiled=True, **settings)
    generator = np.random.default_rng()
    generator.bit_generator.state = agent._rng.bit_generator.state
    agent.learn(3_500)  # more than three of the loop's chunks
    q, returns = by_hand(env, agent, generator, 3_500)
    np.testing.assert_allclose(agent.table.values[0], q, rtol=0, atol=1e-12)
    assert agent.num_timesteps == 3_500
    assert agent.episodes == len(returns)
    if returns:
        assert agent.mean_episode_return == pytest.approx(np.mean(returns[-100:]), abs=1e-12)


def test_compiled_and_plain_loops_learn_the_same_values_on_average():
    """Mean values of 24 seeds each, as far into learning as they differ most from seed to seed."""
    values = {}
    for compiled in (False, True):
        tables = [
            QLearning(gym.make("FrozenLake-v1"), seed=seed, compiled=compiled, step_size=0.2)
            .learn(2_500, log_interval=None)
            .table.values[0]
            for seed in range(24)
        ]
        values[compiled] = np.array(tables).reshape(24, -1)
    difference = values[True].mean(axis=0) - values[False].mean(axis=0)
    error = np.sqrt((values[True].var(axis=0) + values[False].var(axis=0)) / 24)
    met = error > 1e-6
    assert met.sum() >= 20
    assert (np.abs(difference[met]) < 4.5 * error[met]).all()  # 44 entries: one in 3,000 calls by chance


@pytest.mark.parametrize(
    ("env_id", "steps", "settings", "tolerance"),
    [
        ("CliffWalking-v1", 200_000, {"step_size": 1.0}, 1e-9),
        ("Taxi-v4", 2_000_000, {"step_size": 1.0, "initial_value": 20.0}, 1e-9),
        # Slippery: an error that falls like the root of the visits remains.
        ("FrozenLake-v1", 10_000_000, {**OPTIMISTIC, "count_exponent": 0.7}, 1e-2),
    ],
)
def test_compiled_loop_reaches_the_values_that_are_computed(env_id, steps, settings, tolerance):
    agent = QLearning(gym.make(env_id), seed=0, compiled=True, exploration_final_eps=0.5, **settings)
    agent.learn(steps, log_interval=None)
    q = agent.table.values[0]
    truth = agent._optimality.measure(agent.env, q.max(axis=1), q.argmax(axis=1))
    assert truth["value_error"] < tolerance
    assert truth["discounted_regret"] < 1e-9


def test_saved_in_the_middle_of_an_episode_equals_learning_at_once(tmp_path):
    def make():
        return QLearning(gym.make("FrozenLake-v1"), seed=5, compiled=True, **OPTIMISTIC)

    at_once = make().learn(2_345)
    make().learn(1_111).save(tmp_path / "half")
    resumed = QLearning.load(tmp_path / "half", env=gym.make("FrozenLake-v1"))
    resumed.learn(1_234, reset_num_timesteps=False)
    np.testing.assert_array_equal(resumed.table.values, at_once.table.values)
    np.testing.assert_array_equal(resumed.table.visits, at_once.table.visits)
    assert resumed.episodes == at_once.episodes
    assert resumed.mean_episode_return == at_once.mean_episode_return


def test_altered_episode_is_refused():
    tree = QLearning(gym.make("FrozenLake-v1"), compiled=True).learn(10).to_tree()
    tree["own"]["episode"][0] = 99.0
    with pytest.raises(CheckpointError, match="no state of the table"):
        QLearning.from_tree(tree, gym.make("FrozenLake-v1"))


def test_callbacks_see_every_thousand_steps_and_can_stop():
    seen = []
    agent = QLearning(gym.make("CliffWalking-v1"), compiled=True)
    agent.learn(10_000, callback=lambda locals_, globals_: seen.append(agent.num_timesteps) or len(seen) < 3)
    assert seen == [1_000, 2_000, 3_000]


class Untabled(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, False, False, {}


def test_what_cannot_be_sampled_from_a_table_is_named():
    with pytest.raises(UsageError, match="has no table"):
        QLearning(Untabled(), compiled=True).learn(10)
    with pytest.raises(UsageError, match="not a vector"):
        QLearning(gym.make_vec("FrozenLake-v1", num_envs=2), compiled=True).learn(10)
    with pytest.raises(UsageError, match="no traces"):
        QLearning(gym.make("FrozenLake-v1"), compiled=True, trace_decay=0.5)
    with pytest.raises(UsageError, match="wrapper"):
        QLearning(gym.wrappers.TransformReward(gym.make("FrozenLake-v1"), lambda r: -r), compiled=True).learn(10)
