"""Tabular agents against tables worked out by hand, brute force, Sutton and Barto's cliff, and certified optima."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hamiltonian_rl.agents import (
    Agent,
    DoubleQLearning,
    ExpectedSarsa,
    PolicyIteration,
    QLearning,
    Sarsa,
    ValueIteration,
    make_agent,
)
from hamiltonian_rl.agents.optimality import Optimality
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.behind import table_model
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import CheckpointError, SolverError, TrainingError, UsageError
from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint

LEARNERS = [QLearning, DoubleQLearning, Sarsa, ExpectedSarsa]
PLANNERS = [ValueIteration, PolicyIteration]
TRACED = [QLearning, Sarsa]
GAMMA = 0.9


class Chain(gym.Env):
    """Four states in a row and an end: action 1 steps right, 0 left; reaching the end pays 1."""

    observation_space = gym.spaces.Discrete(4)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(4))
        return self.state + self.observation_space.start, {}

    def step(self, action):
        assert self.action_space.contains(action)
        right = action - self.action_space.start == 1
        self.state = max(self.state + (1 if right else -1), 0)
        over = self.state == 4
        return min(self.state, 3) + self.observation_space.start, float(over), bool(over), False, {}


class ShiftedChain(Chain):
    """The chain, its observations counted from 7 and its actions from -1; with its table."""

    observation_space = gym.spaces.Discrete(4, start=7)
    action_space = gym.spaces.Discrete(2, start=-1)
    initial_state_distrib = np.full(4, 0.25)

    @property
    def P(self):
        left = {s: [(1.0, max(s - 1, 0), 0.0, False)] for s in range(4)}
        right = {s: [(1.0, min(s + 1, 3), float(s == 3), s == 3)] for s in range(4)}
        return {s: {0: left[s], 1: right[s]} for s in range(4)}


class OtherChain(ShiftedChain):
    """The same spaces, another table."""

    @property
    def P(self):
        return {s: {a: [(1.0, 0, 0.0, True)] for a in range(2)} for s in range(4)}


def chain_values() -> np.ndarray:
    """Q* of the chain by plain iteration, from nothing of the toolkit."""
    q = np.zeros((4, 2))
    for _ in range(200):
        for s in range(4):
            q[s] = GAMMA * q[max(s - 1, 0)].max(), 1.0 if s == 3 else GAMMA * q[s + 1].max()
    return q


def step_of(state, action, reward, successor, terminated=False, truncated=False, valid=True) -> Transitions:
    """One step of one environment, or of several where lists are given."""
    parts = [np.atleast_1d(part) for part in (state, action, reward, successor, terminated, truncated, valid)]
    n = max(map(len, parts))
    s, a, r, t, over, cut, true = (np.broadcast_to(part, n) for part in parts)
    return Transitions(s, a, r.astype(float), t, over, cut, true)


def on_chain(kind, n_envs=1, table=None, **settings):
    env = Chain() if n_envs == 1 else SyncVectorEnv([Chain] * n_envs)
    agent = kind(env, seed=0, gamma=0.5, **{"step_size": 0.5, **settings})
    agent._prepare()
    agent.stepper.reset(0)
    if table is not None:
        agent.table.values[...] = table
    return agent


TABLE = np.array([[0.0, 2.0], [4.0, 1.0], [6.0, 8.0], [0.0, 0.0]])


# Update rules, by hand: γ = 1/2, step size 1/2


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({}, 2.5),  # 2 + 1/2 (1 + 1/2 * 4 - 2)
        ({"terminated": True}, 1.5),  # 2 + 1/2 (1 - 2)
        ({"truncated": True}, 2.5),  # truncation is not termination
        ({"valid": False}, 2.0),  # a pseudo-step teaches nothing
    ],
)
@pytest.mark.parametrize("kind", LEARNERS)
def test_one_update_of_a_greedy_learner_is_the_one_worked_out_by_hand(kind, end, expected):
    agent = on_chain(kind, table=TABLE, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    agent._learn_from(step_of(0, 1, 1.0, 1, **end))
    changed = agent.table.values[:, 0, 1]
    assert (changed == expected).any()
    assert (changed[changed != expected] == 2.0).all()  # the other of two tables, where there are two
    assert agent.table.visits.sum() == (expected != 2.0)
    agent.table.values[:, 0, 1] = 2.0
    np.testing.assert_array_equal(agent.table.values, np.broadcast_to(TABLE, agent.table.values.shape))


def test_double_q_learning_lets_one_table_choose_and_the_other_judge():
    agent = on_chain(DoubleQLearning)
    agent.table.values[0, 1], agent.table.values[1, 1] = [1.0, 0.0], [2.0, 8.0]
    agent._learn_from(step_of(0, 1, 0.0, 1))
    # Table 0 chooses action 0, which table 1 judges as 2; table 1 chooses action 1, judged as 0 by table 0.
    table = int(agent.table.visits[1].sum())
    assert agent.table.values[table, 0, 1] == (0.5 * 0.5 * 2.0, 0.0)[table]
    for _ in range(50):
        agent._learn_from(step_of(0, 1, 0.0, 1))
    assert (agent.table.visits[:, 0, 1] > 15).all()  # a fair coin: 25.5 +- 3.6 each
    np.testing.assert_allclose(agent.table.values[:, 0, 1], [1.0, 0.0], atol=1e-3)


def test_expected_sarsa_averages_over_the_policy_that_will_act():
    agent = on_chain(ExpectedSarsa, table=TABLE, exploration_initial_eps=0.5, exploration_final_eps=0.5)
    agent._learn_from(step_of(0, 1, 1.0, 2))
    # 1/2 * 8 + 1/2 * (6 + 8)/2 = 7.5; 2 + 1/2 (1 + 1/2 * 7.5 - 2)
    assert agent.table.values[0, 0, 1] == 3.375


def test_watkins_traces_reach_back_to_the_last_action_that_was_not_greedy():
    greedy = on_chain(QLearning, table=TABLE, trace_decay=0.5)
    greedy._learn_from(step_of(0, 1, 1.0, 1))  # Q(0, 1) = 2.5, as above
    greedy._learn_from(step_of(1, 0, 1.0, 2))  # greedy; error 1 + 1/2 * 8 - 4 = 1
    assert greedy.table.values[0, 1, 0] == 4.5
    assert greedy.table.values[0, 0, 1] == 2.5 + 0.5 * 1.0 * 0.25  # trace γ λ = 1/4
    exploring = on_chain(QLearning, table=TABLE, trace_decay=0.5)
    exploring._learn_from(step_of(0, 1, 1.0, 1))
    exploring._learn_from(step_of(1, 1, 1.0, 2))  # action 1 is not greedy at 1
    assert exploring.table.values[0, 0, 1] == 2.5
    assert exploring.table.values[0, 1, 1] == 3.0  # 1 + 1/2 (1 + 4 - 1)


@pytest.mark.parametrize("kind", TRACED)
def test_traces_are_replaced_and_end_with_the_episode(kind):
    agent = on_chain(kind, trace_decay=1.0, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    agent._learn_from(step_of(2, 0, 0.0, 2))
    agent._learn_from(step_of(2, 0, 0.0, 3))  # visited twice: its trace is one, not 1 + 1/2
    agent._learn_from(step_of(3, 1, 8.0, 3, terminated=True))
    np.testing.assert_array_equal(agent.table.values[0], [[0, 0], [0, 0], [2.0, 0], [0, 4.0]])  # 1/2 * 8 * (1/2, 1)
    agent._learn_from(step_of(0, 0, 8.0, 0, terminated=True))
    np.testing.assert_array_equal(agent.table.values[0, 2:], [[2.0, 0], [0, 4.0]])


@pytest.mark.parametrize("kind", TRACED)
def test_accumulating_traces_add_up_the_visits(kind):
    settings = {"trace_decay": 1.0, "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    agent = on_chain(kind, traces="accumulating", **settings)
    agent._learn_from(step_of(2, 0, 0.0, 2))
    agent._learn_from(step_of(2, 0, 0.0, 3))  # visited twice: its trace is 1 + 1/2
    agent._learn_from(step_of(3, 1, 8.0, 3, terminated=True))
    np.testing.assert_array_equal(agent.table.values[0], [[0, 0], [0, 0], [3.0, 0], [0, 4.0]])  # 1/2 * 8 * (3/4, 1)


@pytest.mark.parametrize("decay", [0.3, 0.9, 1.0])
def test_accumulating_traces_are_the_forward_view_to_first_order_in_the_step_size(decay):
    """Offline λ-returns, backward from the end: ``G = r + γ ((1 - λ) Q(s', a') + λ G')`` (Sutton and Barto, 12.1)."""
    steps = [(0, 1, 1.0, 1), (1, 0, -2.0, 1), (1, 0, 3.0, 2), (2, 1, 0.5, 0), (0, 1, 4.0, 1), (1, 0, 2.0, 2)]
    small, gamma = 1e-7, 0.5
    settings = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    agent = on_chain(Sarsa, table=TABLE, trace_decay=decay, traces="accumulating", step_size=small, **settings)
    expected, following = np.zeros((4, 2)), 0.0
    for number, (state, action, reward, successor) in reversed(list(enumerate(steps))):
        last = number == len(steps) - 1
        ahead = 0.0 if last else gamma * ((1 - decay) * TABLE[successor].max() + decay * following)
        following = reward + ahead
        expected[state, action] += following - TABLE[state, action]
    for number, step in enumerate(steps):
        agent._learn_from(step_of(*step, terminated=number == len(steps) - 1))
    np.testing.assert_allclose((agent.table.values[0] - TABLE) / small, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", TRACED)
def test_unknown_kind_of_traces_is_named(kind):
    with pytest.raises(UsageError, match="traces = 'dutch'; expected replacing or accumulating"):
        kind(Chain(), traces="dutch")


def test_sarsas_traces_outlast_actions_that_are_not_greedy():
    agent = on_chain(Sarsa, table=TABLE, trace_decay=0.5, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    agent._learn_from(step_of(0, 1, 1.0, 1))  # Q(0, 1) = 2.5, as above
    agent._learn_from(step_of(1, 1, 1.0, 2))  # action 1 is not greedy; error 1 + 1/2 * 8 - 1 = 4
    assert agent.table.values[0, 0, 1] == 2.5 + 0.5 * 4.0 * 0.25


@pytest.mark.parametrize("kind", TRACED)
def test_each_environment_has_its_own_traces(kind):
    agent = on_chain(kind, n_envs=2, trace_decay=1.0, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    agent._learn_from(step_of([0, 2], 0, 0.0, [1, 3]))
    agent._learn_from(step_of([1, 3], 0, [8.0, 0.0], [1, 3], terminated=[True, False], valid=[True, True]))
    np.testing.assert_array_equal(agent.table.values[0, :, 0], [2.0, 4.0, 0.0, 0.0])


def test_steps_of_one_over_the_visits_give_the_mean_of_the_rewards():
    agent = QLearning(Chain(), gamma=0.0, step_size=1.0, count_exponent=1.0, initial_value=100.0)
    for reward in (3.0, 5.0, 10.0):
        agent._learn_from(step_of(2, 1, reward, 0))
    assert agent.table.values[0, 2, 1] == pytest.approx(6.0, abs=1e-14)
    halved = QLearning(Chain(), gamma=0.0, step_size=0.8, count_exponent=0.5)
    for _ in range(4):
        halved._learn_from(step_of(0, 0, 0.0, 0))
    before = halved.table.values[0, 0, 0]
    halved.table.visits[0, 0, 0] = 15
    halved._learn_from(step_of(0, 0, before + 1.0, 0))
    assert halved.table.values[0, 0, 0] - before == pytest.approx(0.8 / 16**0.5)


# Sarsa's next action


@pytest.mark.parametrize("mode", [None, *list(AutoresetMode)[:2]])
def test_sarsas_target_uses_the_action_that_is_really_taken_next(mode):
    env = Chain() if mode is None else SyncVectorEnv([Chain] * 3, autoreset_mode=mode)
    agent = Sarsa(env, seed=0, gamma=GAMMA, step_size=0.3, exploration_final_eps=0.3, exploration_steps=200)
    log, original = [], agent.stepper.step
    agent.stepper.step = lambda actions: log.append(original(actions)) or log[-1]
    agent.learn(600)
    agent.learn(600, reset_num_timesteps=False)
    q = np.zeros((4, 2))
    for now, following in itertools.pairwise(log):
        for i in np.nonzero(now.valid)[0]:
            s, a, t = now.observations[i], now.actions[i], now.next_observations[i]
            then = 0.0 if now.terminated[i] else GAMMA * q[t, following.actions[i]]
            q[s, a] += 0.3 * (now.rewards[i] + then - q[s, a])
    last = log[-1].observations[log[-1].valid]  # the last targets need actions that were not taken yet
    untouched = np.setdiff1d(np.arange(4), last)
    np.testing.assert_allclose(agent.table.values[0, untouched], q[untouched], rtol=0, atol=1e-12)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_sarsas_first_action_of_an_episode_answers_to_its_first_observation(end):
    agent = on_chain(Sarsa, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    agent.table.values[0] = [[1.0, 0.0], [0.0, 0.0], [0.0, 9.0], [0.0, 0.0]]
    agent.stepper.observations = np.array([0])  # where the next episode starts: action 0 is the best
    agent._learn_from(step_of(3, 1, 1.0, 2, **{end: True}))  # where the last one ended: action 1 is
    assert agent._explore(agent.stepper.observations).tolist() == [0]
    # 0 + 1/2 (1 + 1/2 Q(2, 1)) through a time limit, 0 + 1/2 at an end
    assert agent.table.values[0, 3, 1] == {"terminated": 0.5, "truncated": 2.75}[end]


# Convergence


@pytest.mark.parametrize("settings", [{}, {"trace_decay": 0.8}], ids=["one step", "traces"])
@pytest.mark.parametrize("mode", [None, *list(AutoresetMode)[:2]])
def test_q_learning_converges_to_the_optimal_values_from_random_behavior(mode, settings):
    env = Chain() if mode is None else SyncVectorEnv([Chain] * 4, autoreset_mode=mode)
    agent = QLearning(env, seed=0, gamma=GAMMA, step_size=0.5, exploration_final_eps=1.0, **settings).learn(3000)
    # Deterministic: errors shrink like 2^-visits, to nothing after hundreds of visits.
    np.testing.assert_allclose(agent.q_values(np.arange(4)), chain_values(), atol=1e-6)


@pytest.mark.parametrize("kind", LEARNERS)
def test_spaces_that_start_elsewhere_teach_the_same(kind):
    settings = {"gamma": GAMMA, "step_size": 0.5, "exploration_final_eps": 0.0, "exploration_steps": 2000}
    plain, shifted = (kind(env, seed=1, **settings).learn(3000) for env in (Chain(), ShiftedChain()))
    np.testing.assert_array_equal(plain.table.values, shifted.table.values)
    assert set(shifted.predict(np.arange(7, 11), deterministic=True)[0].tolist()) == {0}  # right
    np.testing.assert_allclose(shifted.q_values(np.arange(7, 11)).max(1), chain_values().max(1), atol=1e-3)


def cliff_soft_values(epsilon: float, gamma: float) -> np.ndarray:
    """Best Q of an agent that must act randomly with probability ε on the cliff, by plain iteration."""
    table = gym.make("CliffWalking-v1").unwrapped.P
    q = np.zeros((48, 4))
    for _ in range(3000):
        v = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)
        new = np.zeros((48, 4))
        for s, a in np.ndindex(48, 4):
            ((_, t, r, end),) = table[s][a]
            new[s, a] = r + gamma * v[t] * (not end)
        if np.abs(new - q).max() < 1e-12:
            break
        q = new
    return q


def greedy_path(q: np.ndarray) -> list[int]:
    """States from the start to the goal, which 100 steps must reach."""
    table, state, path = gym.make("CliffWalking-v1").unwrapped.P, 36, [36]
    for _ in range(100):
        _, state, _, end = table[state][int(q[state].argmax())][0]
        path.append(int(state))
        if end:
            return path
    raise AssertionError(f"no goal: {path}")


CLIFF = {"gamma": 0.99, "exploration_initial_eps": 0.1, "exploration_final_eps": 0.1}


def test_on_the_cliff_sarsa_takes_the_safe_path_and_q_learning_the_edge():
    # Sutton and Barto, Example 6.6: with ε = 0.1 Q-learning walks along the edge, row 2, in 13 steps; Sarsa
    # learns that acting by ε-greedy falls there, and goes round.
    learner = QLearning(gym.make("CliffWalking-v1"), seed=0, step_size=0.5, **CLIFF).learn(15_000)
    cautious = Sarsa(gym.make("CliffWalking-v1"), seed=0, step_size=0.1, **CLIFF).learn(30_000)
    edge, safe = (greedy_path(agent.table.values[0]) for agent in (learner, cautious))
    assert edge == [36, *range(24, 36), 47]
    assert set(safe) & set(range(26, 34)) == set()
    assert len(safe) > len(edge)


def test_expected_sarsa_converges_to_the_best_values_under_its_own_exploration():
    agent = ExpectedSarsa(gym.make("CliffWalking-v1"), seed=0, step_size=1.0, **CLIFF).learn(30_000)
    expected, found = cliff_soft_values(0.1, 0.99), agent.table.values[0]
    often = agent.table.visits[0].sum(axis=1) > 500
    assert often.sum() >= 14
    # Deterministic and with full steps, each visit is a backup; what is left is from rarely visited neighbors.
    np.testing.assert_allclose(found[often].max(axis=1), expected[often].max(axis=1), atol=0.3)
    assert greedy_path(found) == greedy_path(expected)


def regret(agent) -> float:
    q = agent.table.values.mean(axis=0)
    return Optimality(agent.settings.gamma, q.shape).measure(agent.env, q.max(1), q.argmax(1))["discounted_regret"]


@pytest.mark.parametrize(("env_id", "seeds"), [("CliffWalking-v1", (0, 1, 2)), ("FrozenLake-v1", (0,))])
def test_q_learnings_greedy_policy_is_optimal_with_the_tuned_settings(env_id, seeds):
    settings = tuned_settings("q-learning", env_id)
    steps = min(settings.pop("steps"), 50_000)  # half the budget of FrozenLake is enough for this seed
    for seed in seeds:
        agent = QLearning(gym.make(env_id), seed=seed, **settings).learn(steps, log_interval=None)
        # 1e-3 is far below what the best policy but one loses from the start of either.
        assert abs(regret(agent)) < 1e-3


# Interruption


def lake() -> gym.Env:
    return gym.make("FrozenLake-v1")


@pytest.mark.parametrize("mode", [None, *list(AutoresetMode)[:2]])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (QLearning, {"trace_decay": 0.9}),
        (QLearning, {"count_exponent": 0.6, "initial_value": 1.0}),
        (DoubleQLearning, {}),
        (Sarsa, {"trace_decay": 0.9}),
        (Sarsa, {"exploration_steps": 150}),
        (ExpectedSarsa, {"exploration_steps": 150}),
        (ValueIteration, {}),
        (PolicyIteration, {}),
    ],
)
def test_learning_twice_or_saved_between_equals_learning_at_once(kind, settings, mode, tmp_path):
    def make():
        return kind(lake() if mode is None else SyncVectorEnv([lake] * 3, autoreset_mode=mode), seed=3, **settings)

    at_once = make().learn(400)
    half = make().learn(201)
    half.save(tmp_path / "half")
    going_on = half.learn(400 - half.num_timesteps, reset_num_timesteps=False)
    loaded = Agent.load(tmp_path / "half", env=make().env)
    resumed = loaded.learn(400 - loaded.num_timesteps, reset_num_timesteps=False)
    assert isinstance(loaded, kind)
    for other in (going_on, resumed):
        for ours, theirs in zip(at_once.parameter_arrays(), other.parameter_arrays(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(at_once.stepper.observations, other.stepper.observations)
        assert at_once.mean_episode_return == other.mean_episode_return


@pytest.mark.parametrize("kind", [*LEARNERS, *PLANNERS])
def test_a_loaded_agent_goes_on_in_another_number_of_environments_and_acts_without_any(kind, tmp_path):
    agent = kind(lake(), seed=0).learn(300)
    agent.save(tmp_path / "agent")
    states = np.arange(16)
    alone = kind.load(tmp_path / "agent")
    np.testing.assert_array_equal(*(one.predict(states, deterministic=True)[0] for one in (alone, agent)))
    wider = kind.load(tmp_path / "agent", env=SyncVectorEnv([lake] * 4)).learn(100, reset_num_timesteps=False)
    assert wider.num_timesteps >= 400


@pytest.mark.parametrize("name", ["values", "visits", "traces", "next_actions"])
def test_an_altered_table_is_refused(name, tmp_path):
    Sarsa(lake(), seed=0, trace_decay=0.5).learn(50).save(tmp_path / "agent.zip")
    tree = read_checkpoint(tmp_path / "agent.zip")
    tree["own"][name] = tree["own"][name][..., :0]
    write_checkpoint(tmp_path / "agent.zip", tree)
    with pytest.raises(CheckpointError, match=name):
        Agent.load(tmp_path / "agent.zip", env=lake())


# Planning, and the truth beside what is learnt


@pytest.mark.parametrize("kind", PLANNERS)
@pytest.mark.parametrize(("env_id", "start", "value"), [("FrozenLake-v1", 0, 0.5420259), ("CliffWalking-v1", 36, None)])
def test_planners_act_optimally_and_count_their_steps(kind, env_id, start, value):
    calls = []
    agent = kind(gym.make(env_id), seed=0).learn(120, callback=lambda local, _: calls.append(1) or True)
    assert agent.num_timesteps == len(calls) == 120
    # Thirteen steps of -1, discounted; FrozenLake's value is the known one (see hamiltonian_rl.solvers).
    expected = -(1 - 0.99**13) / 0.01 if value is None else value
    assert agent.plan.value[start] == pytest.approx(expected, abs=2e-6)
    measured = agent.plan.optimality.measure(agent.env, agent.plan.value, agent.plan.policy)
    assert measured["discounted_regret"] == pytest.approx(0.0, abs=1e-6)
    assert measured["value_error"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", PLANNERS)
def test_planners_count_states_and_actions_from_where_the_spaces_start(kind):
    agent = kind(ShiftedChain(), gamma=GAMMA).learn(50)
    assert agent.predict(np.arange(7, 11), deterministic=True)[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(agent.plan.value, chain_values().max(axis=1), atol=1e-6)
    assert agent.episodes > 10


def test_a_planner_plans_again_in_another_environment():
    maps = ["SF", "GF"], ["SG", "FF"]
    goal_below, goal_right = (gym.make("FrozenLake-v1", desc=desc, is_slippery=False) for desc in maps)
    agent = ValueIteration(goal_below)
    assert agent.predict(np.array(0), deterministic=True)[0] == 1
    agent.set_env(goal_right)
    agent.learn(5)
    assert agent.predict(np.array(0), deterministic=True)[0] == 2


def test_regret_and_value_error_are_those_worked_out_by_hand():
    measure = Optimality(0.5, (4, 2)).measure
    optimal, left = np.array([0.125, 0.25, 0.5, 1.0]), np.array([1, 1, 1, 0])
    # Going left at the last state it is never left: all values are lost, their mean is the regret.
    assert measure(ShiftedChain(), optimal + np.array([0, 0.1, 0, 0]), left) == pytest.approx(
        {"value_error": 0.1, "discounted_regret": optimal.mean()}
    )
    assert measure(ShiftedChain(), optimal, np.ones(4, int)) == pytest.approx(
        {"value_error": 0, "discounted_regret": 0}, abs=1e-9
    )


def test_states_that_cannot_occur_do_not_count_as_errors():
    agent = ValueIteration(lake())
    value = agent.plan.value.copy()
    value[[5, 7, 11, 12, 15]] = 1.0  # holes and goal: the episode is over before they are acted in
    assert agent.plan.optimality.measure(agent.env, value, agent.plan.policy)["value_error"] < 1e-6


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.records = []

    def write(self, values, step):
        self.records.append(dict(values))

    def close(self):
        pass


@pytest.mark.parametrize("kind", [*LEARNERS, *PLANNERS])
def test_the_truth_is_logged_where_there_is_a_table_and_falls_while_learning(kind):
    agent = kind(SyncVectorEnv([ShiftedChain] * 2), seed=0, gamma=GAMMA)
    sink = Collected()
    agent.logger.sinks.append(sink)
    agent.learn(2000, log_interval=10)
    errors = [record["optimality/value_error"] for record in sink.records]
    assert errors[-1] < (0.3 if kind in LEARNERS else 1e-6)
    assert sink.records[-1]["optimality/discounted_regret"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("env", "gamma"),
    [
        (Chain(), 0.9),
        (ShiftedChain(), 1.0),
        (gym.wrappers.TransformReward(ShiftedChain(), lambda r: 2 * r), 0.9),
        (SyncVectorEnv([ShiftedChain, OtherChain]), 0.9),
    ],
    ids=["no table", "no discount", "another problem", "unequal"],
)
def test_nothing_is_claimed_where_the_truth_is_not_known(env, gamma):
    if isinstance(env, SyncVectorEnv):
        with pytest.raises(UsageError, match="different tables"):
            table_model(env, gamma, (4, 2))
    assert Optimality(gamma, (4, 2)).measure(env, np.zeros(4), np.zeros(4, int)) == {}


# Wrong calls


@pytest.mark.parametrize("kind", [*LEARNERS, *PLANNERS])
def test_spaces_without_a_table_are_named_with_what_can_handle_them(kind):
    with pytest.raises(UsageError, match=rf"{kind.__name__} .*Discrete observations.*dqn"):
        kind(gym.make("CartPole-v1"))


@pytest.mark.parametrize("kind", PLANNERS)
def test_planners_say_what_they_cannot_plan_for(kind):
    with pytest.raises(UsageError, match=r"Chain has no table `P`"):
        kind(Chain())
    with pytest.raises(UsageError, match="wrapper TransformReward"):
        kind(gym.wrappers.TransformReward(lake(), abs))
    with pytest.raises(UsageError, match="fickle_passenger"):
        kind(gym.make("Taxi-v4", fickle_passenger=True))
    with pytest.raises(UsageError, match=r"gamma = 1.0 is out of range; expected at most 0.999999"):
        kind(lake(), gamma=1.0)
    with pytest.raises(SolverError, match="Raise tol"):
        kind(lake(), tol=1e-300)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step_size": 0}, "step_size = 0.0 is out of range; expected greater than 0"),
        ({"count_exponent": 1.5}, "count_exponent = 1.5 is out of range; expected at most 1"),
        ({"trace_decay": -0.1}, "trace_decay = -0.1 is out of range; expected at least 0"),
        ({"initial_value": float("inf")}, "initial_value = inf is out of range; expected a finite number"),
        ({"stepsize": 0.1}, 'Did you mean "step_size"?'),
    ],
)
def test_wrong_settings_are_named(settings, sentence):
    with pytest.raises(UsageError) as caught:
        make_agent("q-learning", lake(), **settings)
    assert sentence in str(caught.value)


def test_observations_of_no_state_and_errors_without_bound_are_named():
    agent = QLearning(lake())
    for wrong in (-1, 16, [3, 99]):
        with pytest.raises(UsageError, match=r"is not from 0 to 15"):
            agent.predict(np.array(wrong))
    with pytest.raises(UsageError, match="expected whole numbers"):
        agent.predict(np.array(1.0))
    with pytest.raises(TrainingError, match=r"Learning diverged.*step_size"):
        agent._learn_from(step_of(0, 1, np.inf, 1))
    huge = Chain()
    huge.observation_space, huge.action_space = gym.spaces.Discrete(100_000), gym.spaces.Discrete(1000)
    with pytest.raises(UsageError, match=r"100,000 x 1,000 values"):
        QLearning(huge)


def test_exploration_falls_linearly_in_environment_steps():
    agent = QLearning(lake(), exploration_initial_eps=0.8, exploration_final_eps=0.2, exploration_steps=100)
    rates = []
    for steps in (0, 50, 100, 1000):
        agent.num_timesteps = steps
        rates.append(agent.exploration_rate)
    assert rates == pytest.approx([0.8, 0.5, 0.2, 0.2])
    np.testing.assert_array_equal(agent.predict(np.zeros(2000, int))[0].mean() > 0.2, True)  # a fifth are random
