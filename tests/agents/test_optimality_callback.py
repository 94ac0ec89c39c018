"""OptimalityCallback in Stable-Baselines3's own models and in ours: returns and optima from the same start states."""

import csv
import math

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import hamiltonian_rl
from hamiltonian_rl.agents import CostateAgent, OptimalityCallback, QLearning, RandomAgent, make_agent
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.logger import Logger

QUICK = {"eval_freq": 100, "n_eval_episodes": 3}


class Records:
    """A sink that keeps what is logged."""

    def __init__(self):
        self.records = []

    def write(self, values, step):
        self.records.append({"step": step, **values})

    def close(self):
        pass


def logged(model, folder, callback, steps):
    """Learn, and return the rows of SB3's own CSV logger that hold an evaluation of ours."""
    model.set_logger(configure(str(folder), ["csv"]))
    model.learn(steps, callback=callback)
    with open(folder / "progress.csv") as file:
        return [row for row in csv.DictReader(file) if row["optimality/regret"]]


def test_ppo_takes_it_alone_and_logs_the_three_numbers_with_sb3s_logger(tmp_path):
    callback = OptimalityCallback("CartPole-v1", **QUICK)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=100, batch_size=50, device="cpu", seed=0)
    rows = logged(model, tmp_path, callback, 300)
    assert [int(row["time/total_timesteps"]) for row in rows] == [100, 200, 300]
    for row in rows:
        assert float(row["optimality/return_optimal"]) == 500.0
        assert float(row["optimality/regret"]) == pytest.approx(500.0 - float(row["eval/mean_reward"]))
    assert callback.certificate == "exact"


def test_dqn_takes_it_in_a_list_beside_sb3s_own_evaluation(tmp_path):
    theirs = EvalCallback(Monitor(gym.make("CartPole-v1")), eval_freq=100, log_path=str(tmp_path), verbose=0)
    ours = OptimalityCallback("CartPole-v1", mean_reward_tag="optimality/return", **QUICK)
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=50, device="cpu", seed=0)
    rows = logged(model, tmp_path, CallbackList([theirs, ours]), 200)
    assert [float(row["optimality/return"]) for row in rows] == [one["mean_reward"] for one in ours.evaluations]
    assert len(theirs.evaluations_timesteps) == len(ours.evaluations) == 2


class ByHand(BaseCallback):
    """Runs the model's normalised policy in a plain environment, at the 50th call."""

    mean_return = None

    def _on_step(self):
        if self.n_calls == 50:
            env, returns = gym.make("hrl/DoubleIntegrator-v0"), []
            for seed in (0, None, None):
                observation, over, total = env.reset(seed=seed)[0], False, 0.0
                while not over:
                    shown = self.model.get_vec_normalize_env().normalize_obs(observation)
                    action, _ = self.model.predict(shown, deterministic=True)
                    observation, reward, terminated, truncated, _ = env.step(action)
                    total, over = total + reward, terminated or truncated
                returns.append(total)
            self.mean_return = np.mean(returns)
        return True


def test_sac_with_running_normalisation_is_shown_what_it_has_learnt_with(tmp_path):
    envs = VecNormalize(DummyVecEnv([lambda: gym.make("hrl/DoubleIntegrator-v0")] * 2))
    model = SAC("MlpPolicy", envs, learning_starts=20, train_freq=20, gradient_steps=1, device="cpu", seed=0)
    apart = gym.make("hrl/DoubleIntegrator-v0")
    ours = OptimalityCallback("hrl/DoubleIntegrator-v0", eval_env=apart, eval_freq=50, n_eval_episodes=3)
    by_hand = ByHand()
    rows = logged(model, tmp_path, [ours, by_hand], 100)
    assert float(rows[-1]["eval/mean_reward"]) == pytest.approx(by_hand.mean_return, rel=1e-6)
    assert float(rows[-1]["optimality/return_optimal"]) == pytest.approx(-6.0, abs=2.0)  # from (-1, 0) ± 0.1


def test_it_never_changes_what_is_learnt():
    def learnt(callback):
        model = DQN("MlpPolicy", "CartPole-v1", learning_starts=20, train_freq=2, device="cpu", seed=3)
        model.learn(200, callback=callback)
        return np.concatenate([part.detach().numpy().ravel() for part in model.policy.parameters()])

    assert np.array_equal(learnt(None), learnt(OptimalityCallback("CartPole-v1", **QUICK)))


def test_our_agents_take_it_and_an_optimal_plan_has_no_regret():
    callback = OptimalityCallback("CliffWalking-v1", **QUICK)
    make_agent("policy-iteration", gym.make("CliffWalking-v1")).learn(200, callback=callback)
    assert [one["regret"] for one in callback.evaluations] == [0.0, 0.0]
    assert callback.evaluations[0]["return_optimal"] == -13.0


@pytest.mark.parametrize("agent", ["random", "costate"])
def test_no_policy_earns_more_than_the_optimum(agent):
    """The plan itself comes as close as single precision of its actions allows."""
    callback = OptimalityCallback("hrl/DoubleIntegrator-v0", eval_freq=10, n_eval_episodes=4)
    kind = {"random": RandomAgent, "costate": CostateAgent}[agent]
    kind(gym.make("hrl/DoubleIntegrator-v0")).learn(10, callback=callback)
    assert callback.evaluations[0]["regret"] > -1e-4
    assert agent == "random" or callback.evaluations[0]["regret"] < 1e-2


def test_tags_of_tabular_agents_do_not_meet_it():
    agent, sink = QLearning(gym.make("FrozenLake-v1")), Records()
    agent.set_logger(Logger(sink))
    agent.learn(400, callback=OptimalityCallback("FrozenLake-v1", **QUICK), log_interval=10)
    ours = [record for record in sink.records if "optimality/regret" in record]
    own = [record for record in sink.records if "optimality/discounted_regret" in record]
    assert len(ours) == 4
    assert len(own) > 0
    assert all(math.isclose(record["optimality/return_optimal"], 0.744190, abs_tol=6e-7) for record in ours)


def test_a_problem_itself_is_played_as_it_is():
    problem = hamiltonian_rl.problem("hrl/DoubleIntegrator-v0", horizon=5)
    callback = OptimalityCallback(problem, eval_freq=5, n_eval_episodes=2, seed=1)
    RandomAgent(gym.make("hrl/DoubleIntegrator-v0")).learn(5, callback=callback)
    assert callback.evaluations[0]["regret"] > 0


def test_every_evaluation_starts_from_the_same_states():
    callback = OptimalityCallback("Taxi-v4", eval_freq=50, n_eval_episodes=4)
    RandomAgent(gym.make("Taxi-v4")).learn(150, callback=callback)
    assert len({one["return_optimal"] for one in callback.evaluations}) == 1


def test_bad_input_is_told():
    env = gym.make("FrozenLake-v1")
    with pytest.raises(UsageError, match="learns from the environment that OptimalityCallback evaluates in"):
        PPO("MlpPolicy", env, device="cpu").learn(10, callback=[OptimalityCallback(env)])
    with pytest.raises(UsageError, match=r"The observation_space of the environment that OptimalityCallback evaluates"):
        RandomAgent(gym.make("Pendulum-v1")).learn(10, callback=OptimalityCallback("CartPole-v1"))
    with pytest.raises(UsageError, match=r"There is no control problem of .Blackjack-v1"):
        OptimalityCallback("Blackjack-v1")
    for name in ("eval_freq", "n_eval_episodes"):
        with pytest.raises(UsageError, match=rf"{name} = 0; expected a whole number from 1"):
            OptimalityCallback("FrozenLake-v1", **{name: 0})
