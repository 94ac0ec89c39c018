"""DQN against values known in closed form, and its exactness under interruption."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hamiltonian_rl.agents import DQN, Agent, RandomAgent
from hamiltonian_rl.agents.model_slopes import ModelSlopes
from hamiltonian_rl.agents.networks import Perceptron
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.errors import CheckpointError, TrainingError, UsageError
from hamiltonian_rl.problems import Grid
from hamiltonian_rl.solvers.solve_grid import solve_grid

GAMMA = 0.9


class Chain(gym.Env):
    """Five states in a row; action 1 steps right, 0 left; the right end terminates with reward 1.

    Optimal: V(s) = γ^(3 - s), Q(s, right) = V(s), Q(s, left) = γ V(max(s - 1, 0)).
    """

    observation_space = gym.spaces.Discrete(4)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(4))
        return self.state, {}

    def step(self, action):
        self.state = max(self.state + (1 if action == 1 else -1), 0)
        over = self.state == 4
        return min(self.state, 3), float(over), over, False, {}


class Loop(gym.Env):
    """One state, reward 1 a step, cut off or terminated after each third step."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, truncates: bool) -> None:
        self.truncates = truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 3
        return np.zeros(1, np.float32), 1.0, over and not self.truncates, over and self.truncates, {}


def chain_values() -> np.ndarray:
    """Q* of the chain by Bellman iteration in plain Python: brute force, from nothing of the toolkit."""
    q = np.zeros((4, 2))
    for _ in range(200):
        for state in range(4):
            left, right = max(state - 1, 0), state + 1
            q[state, 0] = GAMMA * q[left].max()
            q[state, 1] = 1.0 if right == 4 else GAMMA * q[right].max()
    return q


FAST = {
    "gamma": GAMMA,
    "learning_starts": 200,
    "learning_rate": 3e-3,
    "learning_rate_final": 1e-4,
    "learning_rate_steps": 4000,
    "exploration_final_eps": 1.0,  # uniform data: the optimal values do not depend on the behaviour
    "n_step": 1,
    "hidden": (32,),
    "train_freq": 8,
    "gradient_steps": 8,
    "tau": 0.1,
    "target_update_interval": 8,
}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"double": False},
        {"dueling": True},
        {"layer_norm": True},
        {"priority_exponent": 0.6, "priority_beta": 1.0},
        {"tau": 1.0, "target_update_interval": 64},
    ],
    ids=["plain", "single", "dueling", "layer_norm", "prioritised", "hard_target"],
)
def test_q_values_converge_to_the_bellman_optimal_ones_on_a_chain(settings):
    agent = DQN(Chain(), seed=0, **{**FAST, **settings}).learn(4000)
    # 0.02 is far below the smallest gap between two actions of a state, 0.9^4 - 0.9^5 = 0.066.
    np.testing.assert_allclose(agent.q_values(np.arange(4)), chain_values(), atol=0.02)


def test_n_step_returns_of_the_greedy_policy_reach_the_same_values():
    # Off-policy n-step returns are biased by exploration, so that the data here come from a good policy.
    settings = {**FAST, "n_step": 3, "exploration_final_eps": 0.02, "exploration_steps": 1000}
    agent = DQN(Chain(), seed=0, **settings).learn(5000)
    np.testing.assert_allclose(agent.q_values(np.arange(4)).max(axis=1), chain_values().max(axis=1), atol=0.03)
    assert agent.predict(np.arange(4), deterministic=True)[0].tolist() == [1, 1, 1, 1]


def test_truncation_is_not_termination():
    truncated = DQN(Loop(truncates=True), seed=0, **FAST).learn(4000).q_values(np.zeros((1, 1), np.float32))
    terminated = DQN(Loop(truncates=False), seed=0, **FAST).learn(4000).q_values(np.zeros((1, 1), np.float32))
    # Bootstrapped through truncation: V = 1 + γ V = 10. Every third step terminal: V = 1 + γ (2/3) V = 2.5.
    # Bellman's fixed point is approached like γ^k, hence the wider tolerance on 10.
    np.testing.assert_allclose(truncated, 10.0, atol=0.5)
    np.testing.assert_allclose(terminated, 2.5, atol=0.2)


@pytest.mark.parametrize("mode", list(AutoresetMode)[:2])
def test_vector_environments_teach_the_same_values_whatever_their_reset_mode(mode):
    env = SyncVectorEnv([Chain] * 4, autoreset_mode=mode)
    agent = DQN(env, seed=0, **FAST).learn(4000)
    np.testing.assert_allclose(agent.q_values(np.arange(4)), chain_values(), atol=0.02)


def test_the_memory_holds_no_pseudo_steps_of_the_native_vector_environment():
    env = gym.make_vec("CartPole-v1", num_envs=8, vectorization_mode="vector_entry_point")
    agent = DQN(env, seed=0, learning_starts=10_000).learn(2000)
    # CartPole pays 1 for every true step, and Gymnasium's native vector pays 0 for the step that resets.
    assert agent.replay.rewards[: len(agent.replay)].min() == 1.0
    assert len(agent.replay) == agent.num_timesteps


def make_single() -> gym.Env:
    return gym.make("CartPole-v1")


def make_native() -> gym.vector.VectorEnv:
    return gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point")


def make_sync() -> gym.vector.VectorEnv:
    return SyncVectorEnv([make_single] * 3)


QUICK = {"learning_starts": 100, "train_freq": 8, "gradient_steps": 4, "exploration_steps": 500}


@pytest.mark.parametrize("make", [make_single, make_native, make_sync])
@pytest.mark.parametrize("settings", [{}, {"priority_exponent": 0.6, "buffer_size": 300, "layer_norm": True}])
def test_learning_twice_or_saved_between_equals_learning_at_once(make, settings, tmp_path):
    at_once = DQN(make(), seed=3, **QUICK, **settings).learn(1200)
    half = DQN(make(), seed=3, **QUICK, **settings).learn(600)
    half.save(tmp_path / "half")
    going_on = half.learn(1200 - half.num_timesteps, reset_num_timesteps=False)
    loaded = Agent.load(tmp_path / "half", env=make())
    resumed = loaded.learn(1200 - loaded.num_timesteps, reset_num_timesteps=False)
    for other in (going_on, resumed):
        for ours, theirs in zip(at_once.parameter_arrays(), other.parameter_arrays(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_equal_seeds_give_equal_agents_and_others_do_not():
    one, same, other = (DQN(make_single(), seed=seed, **QUICK).learn(400) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.parameter_arrays()[0], same.parameter_arrays()[0])
    assert not np.array_equal(one.parameter_arrays()[0], other.parameter_arrays()[0])


def test_evaluating_and_predicting_do_not_disturb_learning():
    def nosy(local, _):
        agent = local["self"]
        agent.predict(agent.stepper.observations, deterministic=False)
        return True

    quiet = DQN(make_single(), seed=1, **QUICK).learn(400)
    watched = DQN(make_single(), seed=1, **QUICK).learn(400, callback=nosy)
    np.testing.assert_array_equal(quiet.parameter_arrays()[0], watched.parameter_arrays()[0])


def test_an_agent_without_environment_acts_as_the_one_that_was_saved(tmp_path):
    agent = DQN(make_single(), seed=0, **QUICK).learn(300)
    agent.save(tmp_path / "agent.zip")
    loaded = DQN.load(tmp_path / "agent.zip")
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.q_values(observations), agent.q_values(observations))
    with pytest.raises(UsageError, match="set_env"):
        loaded.learn(10)


def test_what_was_learnt_before_is_kept_when_counting_starts_again():
    agent = DQN(make_single(), seed=0, **QUICK).learn(400)
    updates, remembered = agent.n_updates, len(agent.replay)
    agent.learn(400)
    assert agent.num_timesteps == 400
    assert len(agent.replay) == remembered + 400
    assert agent.n_updates > updates


def test_a_loaded_agent_keeps_its_memory_in_an_environment_of_another_size(tmp_path):
    agent = DQN(make_single(), seed=0, **QUICK).learn(400)
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", env=make_native())
    loaded.learn(200, reset_num_timesteps=False)
    assert len(loaded.replay) == loaded.num_timesteps >= 600


def test_the_torch_module_shares_the_agents_parameters():
    agent = DQN(make_single(), seed=0)
    observation = np.ones((1, 4), np.float32)
    inputs = torch.as_tensor(agent._encode(observation))
    # float32 sums in another order: a few units in the last place
    np.testing.assert_allclose(agent.q_network(inputs).detach().numpy(), agent.q_values(observation), rtol=1e-5)
    with torch.no_grad():
        agent.q_network[-1].bias.add_(7.0)
    np.testing.assert_allclose(agent.q_network(inputs).detach().numpy(), agent.q_values(observation), rtol=1e-5)


def test_one_observation_gives_one_action_and_a_batch_gives_a_batch():
    agent = DQN(make_single(), seed=0)
    action, state = agent.predict(np.zeros(4, np.float32), deterministic=True)
    assert np.shape(action) == ()
    assert state is None
    assert agent.predict(np.zeros((7, 4), np.float32))[0].shape == (7,)
    with pytest.raises(UsageError, match=r"shape \(3,\).*expected \(4,\)"):
        agent.predict(np.zeros(3))


def test_exploration_and_step_size_fall_linearly_in_environment_steps():
    agent = DQN(make_single(), learning_rate=1.0, learning_rate_final=0.5, learning_rate_steps=100)
    agent.num_timesteps = 50
    assert agent.learning_rate == 0.75
    agent.num_timesteps = 1000
    assert agent.learning_rate == 0.5
    assert agent.exploration_rate == pytest.approx(1.0 + (0.05 - 1.0) * 1000 / 5000)


def test_actions_of_a_space_that_starts_elsewhere_stay_in_it():
    class Shifted(Chain):
        action_space = gym.spaces.Discrete(2, start=5)

        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action - 5)

    agent = DQN(Shifted(), seed=0, **FAST).learn(2000)
    assert set(agent.predict(np.arange(4), deterministic=True)[0].tolist()) == {6}


def test_diverging_learning_is_named_and_not_silent():
    class Explosive(Loop):
        def step(self, action):
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 3e38, terminated, truncated, info

    with pytest.raises(TrainingError, match=r"diverged.*learning_rate"):
        DQN(Explosive(True), seed=0, **{**FAST, "n_step": 3}).learn(1000)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gamma": 1.5}, "gamma = 1.5 is out of range; expected at most 1"),
        ({"hidden": (0,)}, "hidden = 0 is out of range; expected at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate = nan is out of range; expected a finite number"),
        ({"batch_size": 1.5}, "batch_size = 1.5 is not a whole number"),
        ({"doubel": True}, 'Did you mean "double"?'),
    ],
)
def test_wrong_settings_are_named(settings, sentence):
    with pytest.raises(UsageError) as caught:
        DQN(make_single(), **settings)
    assert sentence in str(caught.value)


def test_spaces_that_dqn_cannot_handle_are_named_with_what_can():
    with pytest.raises(UsageError, match=r"Discrete action space.*sb3:sac"):
        DQN(gym.make("Pendulum-v1"))
    with pytest.raises(UsageError, match=r"expected|too small"):
        DQN(make_native(), buffer_size=4).learn(10)
    with pytest.raises(UsageError, match="observation_space"):
        DQN(make_single()).set_env(gym.make("MountainCar-v0"))
    with pytest.raises(UsageError, match="Cannot step"):
        DQN("CartPole-v1")


def test_a_file_of_another_agent_is_refused(tmp_path):
    RandomAgent(make_single()).save(tmp_path / "random")
    with pytest.raises(CheckpointError, match="holds the agent random, not dqn"):
        DQN.load(tmp_path / "random")
    assert isinstance(Agent.load(tmp_path / "random"), RandomAgent)


def test_set_env_goes_on_in_the_same_environment_and_starts_anew_in_another():
    env = make_single()
    going_on = DQN(env, seed=0, **QUICK).learn(300)
    going_on.set_env(env, force_reset=False)
    going_on.learn(300, reset_num_timesteps=False)
    at_once = DQN(make_single(), seed=0, **QUICK).learn(600)
    np.testing.assert_array_equal(going_on.parameter_arrays()[0], at_once.parameter_arrays()[0])
    going_on.set_env(make_single(), force_reset=False)
    assert going_on.learn(50, reset_num_timesteps=False).num_timesteps == 650


@pytest.mark.parametrize("missing", ["agent", "observation_space", "loop", "own"])
def test_an_incomplete_file_is_named(missing, tmp_path):
    from hamiltonian_rl.tracking.checkpoint import write_checkpoint

    tree = DQN(make_single(), seed=0).to_tree()
    del tree[missing]
    write_checkpoint(tmp_path / "agent.zip", tree)
    with pytest.raises(CheckpointError, match=rf"agent.*incomplete.*{missing}"):
        Agent.load(tmp_path / "agent.zip")


@pytest.mark.parametrize("steps", [None, float("nan"), -5, "many", 2.5, True])
def test_a_number_of_steps_that_is_none_is_refused(steps):
    with pytest.raises(UsageError, match="total_timesteps = "):
        DQN(make_single(), seed=0).learn(steps)


def test_what_sb3_takes_is_taken():
    agent = DQN(make_single(), seed=None, device=None, learning_starts=10)
    assert agent.learn(1e2).num_timesteps == 100
    assert agent.seed != DQN(make_single(), seed=None).seed
    for wrong in (-1, 2**32, "x", 1.5):
        with pytest.raises(UsageError, match="seed = "):
            DQN(make_single(), seed=wrong)
    with pytest.raises(UsageError, match="log_interval = 0"):
        agent.learn(10, log_interval=0)
    with pytest.raises(UsageError, match=r"nan.*expected finite numbers"):
        agent.predict(np.full(4, np.nan, np.float32))


def test_a_scripts_own_log_has_the_settings_too(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    agent = DQN(make_single(), seed=3, tensorboard_log=tmp_path, gamma=0.97, learning_starts=50)
    agent.learn(200, log_interval=1)
    agent.logger.close()
    events = EventAccumulator(str(tmp_path / "dqn_1")).Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.parametrize(
    "settings", [{}, {"learning_rate": 1e-30}, {"layer_norm": True, "dueling": True, "priority_exponent": 0.6}], ids=str
)
def test_what_a_user_asks_of_numpys_errors_changes_nothing(settings):
    """Averages of gradients that are zero fall below the smallest number: NumPy can be told to raise on that."""
    learnt = {}
    for mode in ("ignore", "raise"):
        with np.errstate(all=mode):
            agent = DQN(Chain(), seed=0, learning_starts=32, hidden=(32,), **settings).learn(1_500)
        learnt[mode] = agent.parameter_arrays()[0]
    np.testing.assert_array_equal(learnt["raise"], learnt["ignore"])


def test_divergence_is_a_sentence_whatever_a_user_asks_of_numpys_errors():
    with np.errstate(all="raise"), pytest.raises(TrainingError, match="Learning diverged"):
        DQN(Chain(), seed=0, learning_starts=32, learning_rate=1e30).learn(1_500)


class PushedPendulum(Pendulum):
    """Pendulum-v1 with three torques."""

    action_space = gym.spaces.Discrete(3)

    def dynamics(self, state, action, step):
        return super().dynamics(state, 2.0 * (action[..., None] - 1.0), step)

    def reward(self, state, action, step):
        return super().reward(state, 2.0 * (action[..., None] - 1.0), step)


def pushed(horizon: int = 50) -> ControlEnv:
    made = PushedPendulum()
    made.horizon = horizon
    return ControlEnv(made)


SUPERVISED = {"hidden": (16,), "learning_starts": 64, "batch_size": 32, "gamma": 0.9}


@pytest.mark.parametrize("dueling", [False, True])
def test_the_gradient_of_the_costate_loss_is_its_finite_difference(dueling):
    agent = DQN(pushed(), costate_weight=1.0, dueling=dueling, reward_scale=0.1, **SUPERVISED).learn(64)
    batch = agent.replay.sample((1, 32), np.random.default_rng(0), beta=0.0)
    costates, observations, actions = agent._costates(batch)[0], batch.observations[0], batch.actions[0]
    weights, taken = np.ones(32, np.float32), agent._one_hot(batch.actions[0])
    model = agent._model_slopes()

    def loss(params: np.ndarray) -> float:
        network = Perceptron(agent.spec, params)
        _, tape = network.forward(observations.astype(float))
        error = model.in_states(observations, network.input_slope(tape, taken.astype(float))) - costates
        return 0.5 * float((error**2).sum(-1).mean())

    _, tape = agent.online.forward(agent._encode(observations))
    agent._mix_costates(tape, observations, actions, costates, weights)
    params, draw = agent._params.astype(float), np.random.default_rng(1)
    for _ in range(5):
        along = draw.normal(size=params.shape)
        difference = (loss(params + 1e-6 * along) - loss(params - 1e-6 * along)) / 2e-6
        # Single precision, in which the agent learns.
        assert float(agent._gradient @ along) == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_costates_of_a_q_network_are_finite_differences_of_its_bellman_targets():
    agent = DQN(pushed(), costate_weight=0.5, double=False, **SUPERVISED).learn(64)
    model, problem, half = agent._model_slopes(), PushedPendulum(), np.array([np.pi, 8.0])
    batch = agent.replay.sample((1, 32), np.random.default_rng(0), beta=0.0)
    states = problem.state_of(torch.as_tensor(batch.observations[0].astype(float)))
    actions = torch.as_tensor(batch.actions[0])
    target = Perceptron(agent.spec, agent._target_params.astype(float))

    def bellman(states: torch.Tensor) -> np.ndarray:
        seen = problem.observation(problem.dynamics(states, actions, 0)).numpy()
        return problem.reward(states, actions, 0).numpy() + 0.9 * target(seen).max(-1)

    costates = agent._costates(batch)[0]
    for axis in range(2):
        step = 1e-6 * torch.eye(2).double()[axis]
        difference = (bellman(states + step) - bellman(states - step)) / 2e-6 * half[axis]
        # The network's slopes are of single precision; between two pieces of ReLU there is none.
        assert (np.abs(costates[:, axis] - difference) < 1e-3 * (1.0 + np.abs(difference))).mean() > 0.9
    assert model is agent._model_slopes()


def test_costates_bring_values_and_slopes_closer_from_the_same_few_transitions():
    # Without end, discounted by 0.9: the truth is a fine grid's.
    problem = PushedPendulum()
    problem.horizon, problem.discount = None, 0.9
    grid = solve_grid(Grid(problem, (101, 101)))
    states = problem.initial_states(200, np.random.default_rng(0))
    exact, seen = grid.value_at(states), problem.observation(torch.as_tensor(states)).numpy().astype(np.float32)
    slopes = grid.grid.interpolant(grid.value).gradient(states) * np.array([np.pi, 8.0])

    def errors(costate_weight: float, seed: int) -> tuple[float, float]:
        settings = {**SUPERVISED, "hidden": (64, 64), "batch_size": 64, "reward_scale": 0.05}
        agent = DQN(
            pushed(), seed=seed, costate_weight=costate_weight, exploration_final_eps=1.0, n_step=1, tau=0.2,
            gradient_steps=8, **settings,
        ).learn(400)  # fmt: skip
        x = agent._encode(seen)
        q, tape = agent.online.forward(x)
        own = ModelSlopes(pushed(), agent._encode).in_states(
            seen, agent.online.input_slope(tape, agent._one_hot(q.argmax(-1)))
        )
        return float(np.abs(q.max(-1) / 0.05 - exact).mean()), float(np.linalg.norm(own / 0.05 - slopes, axis=1).mean())

    plain, supervised = (np.mean([errors(weight, seed) for seed in (1, 2)], axis=0) for weight in (0.0, 0.1))
    assert (supervised < 0.95 * plain).all()


def test_costates_are_refused_where_they_say_nothing():
    for env, settings, match in (
        (gym.make("CartPole-v1"), {}, "no slopes"),
        (gym.make("FrozenLake-v1"), {}, "no control problem"),
        (pushed(), {"layer_norm": True}, "layer_norm"),
    ):
        with pytest.raises(UsageError, match=match):
            DQN(env, costate_weight=0.5, **settings)
