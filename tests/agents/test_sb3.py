"""Stable-Baselines3 behind our interface, and its own tools on our agents."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from hamiltonian_rl.agents import DQN, Agent, RandomAgent, SB3Agent
from hamiltonian_rl.envs.vec_env import GymnasiumVecEnv, as_vec_env
from hamiltonian_rl.errors import EnvironmentContractError, UntrustedFileError, UsageError

SETTINGS = {
    "ppo": {"n_steps": 64, "batch_size": 64},
    "a2c": {"normalize": True},
    "dqn": {"learning_starts": 50, "buffer_size": 500},
    "sac": {"learning_starts": 50, "buffer_size": 500, "use_sde": True},
    "td3": {"learning_starts": 50, "buffer_size": 500, "noise_type": "ornstein-uhlenbeck"},
    "ddpg": {"learning_starts": 50, "buffer_size": 500, "noise_type": "normal", "noise_std": 0.2},
}


def make(algorithm: str) -> gym.Env:
    return gym.make("Pendulum-v1" if algorithm in ("sac", "td3", "ddpg") else "CartPole-v1")


def assert_equal_parameters(one: Agent, other: Agent) -> None:
    for ours, theirs in zip(one.parameter_arrays(), other.parameter_arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_wrapped_algorithm_learns_what_sb3_itself_learns(algorithm):
    ours = SB3Agent(make(algorithm), algorithm=algorithm, seed=7, **SETTINGS[algorithm]).learn(192)
    kind = getattr(stable_baselines3, algorithm.upper())
    theirs = kind("MlpPolicy", make(algorithm), seed=7, device="cpu", **SETTINGS[algorithm]).learn(192)
    for name, value in theirs.policy.state_dict().items():
        np.testing.assert_array_equal(ours.model.policy.state_dict()[name].numpy(), value.numpy())


@pytest.mark.parametrize("algorithm", list(SETTINGS))
def test_saved_and_loaded_between_equals_learning_at_once(algorithm, tmp_path):
    arguments = {"algorithm": algorithm, "seed": 3, **SETTINGS[algorithm]}
    # SB3 counts its schedules from the budget of each call, so that "at once" is two calls as well.
    at_once = SB3Agent(make(algorithm), **arguments).learn(128).learn(128, reset_num_timesteps=False)
    SB3Agent(make(algorithm), **arguments).learn(128).save(tmp_path / "half")
    loaded = Agent.load(tmp_path / "half", env=make(algorithm))
    loaded.learn(128, reset_num_timesteps=False)
    assert_equal_parameters(at_once, loaded)


def test_an_agent_loaded_without_environment_normalises_as_the_one_that_was_saved(tmp_path):
    agent = SB3Agent(make("a2c"), algorithm="a2c", seed=0, normalize=True).learn(200)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    probabilities = []
    for each in (agent, loaded):
        inputs, _ = each.model.policy.obs_to_tensor(each._normalized(observations))
        probabilities.append(each.model.policy.get_distribution(inputs).distribution.probs.detach().numpy())
    np.testing.assert_array_equal(*probabilities)


@pytest.mark.parametrize("kind", [DQN, RandomAgent])
def test_sb3s_evaluate_policy_runs_our_agents(kind):
    returns, lengths = evaluate_policy(
        kind(gym.make("CartPole-v1"), seed=0),
        make_vec_env("CartPole-v1", 2, seed=0),
        n_eval_episodes=4,
        return_episode_rewards=True,
    )
    assert returns == [float(length) for length in lengths]  # CartPole pays one a step


def test_sb3s_callbacks_work_on_our_agents(tmp_path):
    seen = []

    class Records(BaseCallback):
        def _on_step(self) -> bool:
            seen.append((self.num_timesteps, self.locals["rewards"].shape, len(self.locals["infos"])))
            self.logger.record("mine/steps", self.num_timesteps)
            return True

    evaluation = EvalCallback(
        DummyVecEnv([lambda: gym.make("CartPole-v1")]),
        eval_freq=100,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path / "best"),
        verbose=0,
        warn=False,
    )
    checkpoints = CheckpointCallback(100, str(tmp_path / "checkpoints"))
    agent = DQN(gym.make("CartPole-v1"), seed=0, learning_starts=50)
    agent.learn(250, callback=CallbackList([Records(), evaluation, checkpoints, EveryNTimesteps(100, Records())]))
    assert seen[0] == (1, (1,), 1)
    assert agent.num_timesteps == 250
    assert evaluation.best_mean_reward > 0
    assert isinstance(DQN.load(tmp_path / "best" / "best_model"), DQN)
    assert len(list((tmp_path / "checkpoints").glob("*.zip"))) == 2


def test_sb3s_callbacks_stop_our_agents():
    env = gym.make("CartPole-v1")
    stopped = DQN(env, seed=0).learn(5000, callback=StopTrainingOnMaxEpisodes(3))
    assert stopped.episodes == 3
    easy = EvalCallback(
        DummyVecEnv([lambda: gym.make("CartPole-v1")]),
        callback_on_new_best=StopTrainingOnRewardThreshold(1.0),
        eval_freq=50,
        n_eval_episodes=1,
        verbose=0,
        warn=False,
    )
    assert DQN(env, seed=0).learn(5000, callback=[easy]).num_timesteps == 50
    assert DQN(env, seed=0).learn(5000, callback=lambda local, _: len(local["dones"]) > 1).num_timesteps == 1


def test_sb3s_callbacks_meet_the_sb3_model_itself_inside_an_sb3_agent():
    models = []

    class Meets(BaseCallback):
        def _on_step(self) -> bool:
            models.append(self.model)
            return True

    agent = SB3Agent(make("ppo"), algorithm="ppo", **SETTINGS["ppo"])
    agent.learn(64, callback=Meets())
    assert models[0] is agent.model


def test_vec_envs_and_gymnasium_vectors_are_accepted_alike():
    for env in (
        make_vec_env("CartPole-v1", 2),
        SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2),
        SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2, autoreset_mode=AutoresetMode.SAME_STEP),
    ):
        assert SB3Agent(env, algorithm="ppo", n_steps=16, batch_size=16).learn(32).num_timesteps == 32
        assert DQN(env, seed=0).learn(32).num_timesteps == 32
        assert as_vec_env(env).num_envs == 2


def test_a_gymnasium_vector_seen_as_a_vec_env_reports_the_true_last_observation():
    copies = [lambda: gym.make("CartPole-v1")] * 3
    same_step = GymnasiumVecEnv(SyncVectorEnv(copies, autoreset_mode=AutoresetMode.SAME_STEP))
    dummy = DummyVecEnv(copies)
    same_step.seed(5)
    dummy.seed(5)
    np.testing.assert_array_equal(same_step.reset(), dummy.reset())
    for step in range(200):
        actions = np.array([step % 2, 0, 1])
        ours, theirs = same_step.step(actions), dummy.step(actions)
        for one, other in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(ours[3], theirs[3], strict=True):
            if "terminal_observation" in other:
                np.testing.assert_array_equal(one["terminal_observation"], other["terminal_observation"])
                assert one["TimeLimit.truncated"] == other["TimeLimit.truncated"]


def test_sb3_refuses_a_native_vector_whose_resets_it_would_take_for_steps():
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point")
    with pytest.raises(UsageError, match=r"resets in the step after.*sync"):
        SB3Agent(env, algorithm="ppo")


def test_vec_normalize_of_the_user_is_kept():
    env = VecNormalize(make_vec_env("CartPole-v1", 1))
    agent = SB3Agent(env, algorithm="ppo", n_steps=32, batch_size=32).learn(32)
    assert agent.get_vec_normalize_env() is env


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"algorithm": "pppo"}, 'Did you mean "ppo"?'),
        ({"algorithm": "ppo", "nsteps": 3}, 'Did you mean "n_steps"?'),
        ({"algorithm": "sac"}, "sb3:sac cannot be made for observations Box("),
        ({"algorithm": "ppo", "policy": "NoPolicy"}, "cannot be made"),
    ],
)
def test_what_sb3_cannot_do_is_one_sentence(arguments, sentence):
    with pytest.raises(UsageError) as caught:
        SB3Agent(gym.make("CartPole-v1"), **arguments)
    assert sentence in str(caught.value)


def test_an_environment_that_fails_inside_sb3_is_named():
    class Broken(gym.Env):
        observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            return np.zeros(2, np.float32), float("nan"), False, False, {}

    with pytest.raises(EnvironmentContractError, match=r"Broken.step\(\) returned the reward nan"):
        SB3Agent(Broken(), algorithm="ppo", n_steps=8, batch_size=8).learn(8)


def test_a_file_of_sb3s_own_is_refused_until_it_is_trusted(tmp_path):
    model = stable_baselines3.PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=32, batch_size=32, seed=0).learn(32)
    model.save(tmp_path / "ppo.zip")
    env = gym.make("CartPole-v1")
    with pytest.raises(UntrustedFileError, match=r"pickles.*--trust"):
        SB3Agent.from_sb3(tmp_path / "ppo.zip", env)
    agent = SB3Agent.from_sb3(tmp_path / "ppo.zip", env, trust=True)
    observation = np.full(4, 0.1, np.float32)
    assert agent.name == "sb3:ppo"
    assert agent.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "dqn", "sac", "td3"])
def test_the_algorithm_of_an_sb3_file_is_found_without_unpickling(algorithm, tmp_path):
    from hamiltonian_rl.agents.sb3_settings import algorithm_of_file

    kind = getattr(stable_baselines3, algorithm.upper())
    kind("MlpPolicy", make(algorithm), **({"buffer_size": 100} if algorithm in ("dqn", "sac", "td3") else {})).save(
        tmp_path / "model"
    )
    assert algorithm_of_file(tmp_path / "model.zip") == algorithm


def published():
    import tomllib
    from pathlib import Path

    tables = tomllib.loads((Path(__file__).parents[2] / "agents" / "tuned" / "sb3.toml").read_text())
    return [(f"sb3:{algorithm}", env) for algorithm, envs in tables.items() for env in envs]


@pytest.mark.parametrize(("name", "env"), published())
def test_every_published_setting_makes_an_agent_that_is_saved_and_keeps_its_configuration(name, env, tmp_path):
    import dataclasses

    from hamiltonian_rl.run_config import resolve
    from hamiltonian_rl.training import start_run

    config = resolve(env, agent=name, n_envs=1)
    before = dataclasses.asdict(config)
    run = start_run(config, tmp_path)
    run.agent.save(tmp_path / "agent")
    assert dataclasses.asdict(run.config) == before  # SB3 writes into the dicts that it is given
    assert Agent.load(tmp_path / "agent").name == name


def test_the_last_hundred_episodes_stay_a_hundred_after_loading(tmp_path):
    agent = SB3Agent(gym.make("CartPole-v1"), algorithm="a2c", seed=0)
    agent.learn(200)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent", env=gym.make("CartPole-v1"))
    assert loaded.model.ep_info_buffer.maxlen == agent.model.ep_info_buffer.maxlen == 100
    assert list(loaded.model.ep_info_buffer) == list(agent.model.ep_info_buffer)


@pytest.mark.parametrize("n_envs", [1, 4])
def test_callbacks_are_told_the_episodes_that_ended_as_by_a_monitor(n_envs):
    told = []

    def note(locals_, globals_):
        told.extend(info["episode"]["r"] for info in locals_["infos"] if "episode" in info)

    env = gym.make("CartPole-v1") if n_envs == 1 else gym.make_vec("CartPole-v1", num_envs=n_envs)
    agent = DQN(env, seed=0, learning_starts=2000)
    agent.learn(1500, callback=note)
    assert len(told) == agent.episodes > 10
    assert np.mean(told[-100:]) == pytest.approx(agent.mean_episode_return)
