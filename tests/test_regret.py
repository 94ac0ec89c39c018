"""`hrl evaluate --against optimum` and the regret that `hrl train` logs, beside known optima and sums done by hand."""

import csv
import dataclasses
import json
import textwrap

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hamiltonian_rl.agents import RandomAgent, make_agent
from hamiltonian_rl.envs.optimum import OptimalReturns
from hamiltonian_rl.registry import PROBLEMS
from hamiltonian_rl.regret import Regrets, certified
from hamiltonian_rl.run_config import RunConfig, check_config, resolve
from hamiltonian_rl.training import resume_run, start_run


def regrets(returns, optimum, states=None, certificate="exact"):
    states = np.arange(len(returns))[:, None] if states is None else np.array(states)
    names = tuple(f"s{index}" for index in range(states.shape[1]))
    known = OptimalReturns(np.array(optimum, float), np.zeros(len(returns)), certificate)
    return Regrets(states, names, np.array(returns, float), known)


def test_mean_interval_and_share_are_those_worked_out_by_hand():
    """Regrets 1, 2, 3: mean 2, standard error 1/√3, and Student's t of two degrees of freedom is 4.302653."""
    found = regrets([3.0, 2.0, 1.0], [4.0, 4.0, 4.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert found.share == 0.5
    assert found.rows()["Regret"] == "2.0000 ± 2.4841 (95 % interval), 50.00 % of the optimum"


def test_one_episode_has_no_interval_and_an_optimum_of_zero_no_share():
    assert regrets([-1.0], [0.0]).rows()["Regret"] == "1.0000"


def test_negative_optima_are_shared_by_their_size():
    assert regrets([-12.0], [-10.0]).share == pytest.approx(0.2)


def test_the_worst_start_states_come_first_and_episodes_from_one_state_are_averaged():
    found = regrets([0.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 2.0], states=[[7], [7], [3], [5]])
    rows = [(row["Start state"], row["Episodes"], row["Regret"]) for row in found.worst(2)]
    assert rows == [("3", "1", "1.0000"), ("7", "2", "0.5000")]


def test_what_is_no_more_than_a_bound_is_said_to_be_one():
    found = regrets([0.0], [1.0], certificate="lower bound")
    assert "Regret, at least" in found.rows()
    assert "Nothing tells" in certified(OptimalReturns(np.zeros(2), np.array([0.1, np.nan]), "lower bound"))
    assert certified(OptimalReturns(np.zeros(1), np.ones(1), "grid ± 1")).startswith("grid ± 1")


def test_an_episode_that_earns_more_than_a_path_that_was_found_is_told():
    """Not where chance may do so: an optimum of a table is a mean."""
    found = regrets([-9.0, -11.0], [-10.0, -10.0], certificate="lower bound")
    assert found.rows()["Earned more than that"].startswith("1 of 2 episodes: a better path exists")
    assert "Earned more than that" not in dataclasses.replace(found, by_chance=True).rows()


def test_an_sb3_zip_stands_beside_the_optimum_of_each_start_state(hrl, tmp_path):
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, device="cpu", seed=0).learn(32)
    model.save(tmp_path / "ppo.zip")
    call = ("evaluate", tmp_path / "ppo.zip", "--env", "CartPole-v1", "--against", "optimum", "--episodes", 6)
    refused = hrl(*call)
    assert refused.code == 1
    assert "--trust" in refused.err
    outcome = hrl(*call, "--trust")
    assert outcome.code == 0, outcome.err
    assert "exact: no policy earns more" in outcome.out
    folder = tmp_path / "ppo-regret"
    with open(folder / "regret.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    env = gym.make("CartPole-v1")
    for row in rows:
        assert float(row["optimum"]) == 500.0
        assert float(row["regret"]) == 500.0 - float(row["return"])
        names = ("position (m)", "velocity (m/s)", "angle (rad)", "angular velocity (rad/s)")
        observation, over, total = np.array([float(row[name]) for name in names], np.float32), False, 0.0
        env.reset(seed=0)
        env.unwrapped.state = observation.astype(float)
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(int(action))
            total, over = total + reward, terminated or truncated
        assert total == float(row["return"])  # the start state is that of the episode
    summary = json.loads((folder / "regret.json").read_text())
    assert summary["mean_regret"] == pytest.approx(np.mean([float(row["regret"]) for row in rows]))
    assert summary["certificate"] == "exact"
    picture = np.asarray(Image.open(folder / "regret.png"))
    assert picture.std() > 5  # something is drawn


def test_a_plan_on_the_table_has_no_regret_and_out_says_where_files_go(hrl, tmp_path):
    make_agent("policy-iteration", gym.make("CliffWalking-v1")).save(tmp_path / "plan")
    there = tmp_path / "a" / "b"
    outcome = hrl(
        "evaluate",
        tmp_path / "plan.zip",
        "--env",
        "CliffWalking-v1",
        "--against",
        "optimum",
        "--episodes",
        3,
        "--out",
        there,
    )
    assert outcome.code == 0, outcome.err
    assert "0.00 ± 0.00 (95 % interval), 0.00 % of the optimum" in " ".join(outcome.out.split())
    assert {path.name for path in there.iterdir()} == {"regret.csv", "regret.json", "regret.png"}
    assert json.loads((there / "regret.json").read_text())["starts"][0]["optimum"] == -13.0


OWN_MODULE = """
    import gymnasium as gym
    import numpy as np

    import hamiltonian_rl
    from hamiltonian_rl.problems import ControlProblem


    class Coast(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.position = self.np_random.uniform(1.0, 2.0)
            return np.array([self.position], np.float32), {}

        def step(self, action):
            self.position += float(np.clip(action[0], -1.0, 1.0))
            return np.array([self.position], np.float32), -self.position**2, False, False, {}


    class CoastProblem(ControlProblem):
        state_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float64)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

        def dynamics(self, state, action, step):
            return state + action

        def reward(self, state, action, step):
            return -((state[..., 0] + action[..., 0]) ** 2)


    gym.register("OwnCoast-v0", Coast, max_episode_steps=5)
    hamiltonian_rl.register_problem("OwnCoast-v0", CoastProblem)
"""


def test_an_environment_of_ones_own_is_evaluated_against_the_problem_that_its_module_registers(
    hrl, tmp_path, monkeypatch
):
    """From x in [1, 2]: one step by 1, -(x - 1)², and then nothing is lost."""
    (tmp_path / "own_coast.py").write_text(textwrap.dedent(OWN_MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        RandomAgent(gym.make("own_coast:OwnCoast-v0")).save(tmp_path / "random")
        call = ("evaluate", tmp_path / "random.zip", "--env", "own_coast:OwnCoast-v0", "--episodes", 4)
        outcome = hrl(*call, "--against", "optimum")
        assert outcome.code == 0, outcome.err
        starts = json.loads((tmp_path / "random-regret" / "regret.json").read_text())["starts"]
        for start in starts:
            assert start["optimum"] == pytest.approx(-((start["state 0"] - 1.0) ** 2), abs=1e-6)  # tol of the path
            assert start["regret"] > 0
    finally:
        PROBLEMS.pop("OwnCoast-v0", None)
        gym.registry.pop("OwnCoast-v0", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--against", "best"), 'against "best"; expected --against optimum'),
        (("--out", "somewhere"), "--out says where --against keeps its files"),
        (("--against", "optimum"), 'no control problem of "Blackjack-v1"'),
        (("--against", "optimum"), "hamiltonian_rl.register_problem"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_runs(options, said, hrl, tmp_path):
    from hamiltonian_rl.envs.making import make_env

    RandomAgent(make_env("Blackjack-v1")).save(tmp_path / "random")
    outcome = hrl("evaluate", tmp_path / "random.zip", "--env", "Blackjack-v1", *options)
    assert outcome.code == 2
    assert said in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["random.zip"]


def test_a_folder_that_cannot_be_made_is_named(hrl, tmp_path):
    make_agent("policy-iteration", gym.make("CliffWalking-v1")).save(tmp_path / "plan")
    (tmp_path / "taken").write_text("")
    call = ("evaluate", tmp_path / "plan.zip", "--env", "CliffWalking-v1", "--against", "optimum", "--episodes", 1)
    outcome = hrl(*call, "--out", tmp_path / "taken")
    assert outcome.code == 1
    assert "Cannot make the folder" in outcome.err


def scalars(folder, tag):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {} if tag not in events.Tags()["scalars"] else {event.step: event.value for event in events.Scalars(tag)}


def quick(env, **changes):
    chosen = {"steps": 600, "eval_every": 200, "eval_episodes": 3, "final_episodes": 3, **changes}
    return resolve(env, **chosen)


def test_training_on_a_table_logs_the_regret_unasked(tmp_path):
    run = start_run(quick("FrozenLake-v1"), tmp_path)
    result = run.execute()
    optimal = scalars(run.folder.path, "optimality/return_optimal")
    regret = scalars(run.folder.path, "optimality/regret")
    earned = scalars(run.folder.path, "eval/mean_reward")
    assert len(optimal) == 3
    assert set(optimal) == set(regret) == set(earned)
    for step, value in optimal.items():
        assert value == pytest.approx(0.744190, abs=1e-6)
        assert regret[step] == pytest.approx(value - earned[step], abs=1e-6)  # events are in single precision
    assert result["certificate"] == "exact"
    assert result["regret"] == pytest.approx(0.744190 - result["mean_reward"], abs=1e-6)
    assert scalars(run.folder.path, "optimality/discounted_regret")  # the agent's own, beside it


def test_training_elsewhere_logs_it_when_asked_from_the_same_start_states_each_time(tmp_path):
    asked = start_run(quick("hrl/DoubleIntegrator-v0", agent="random", optimality=True), tmp_path)
    evaluations = asked.execute()["evaluations"]
    assert len(evaluations) == 3
    assert len({one["return_optimal"] for one in evaluations}) == 1
    assert all(one["regret"] == one["return_optimal"] - one["mean_reward"] for one in evaluations)
    unasked = start_run(quick("hrl/DoubleIntegrator-v0", agent="random"), tmp_path)
    assert "regret" not in unasked.execute()["evaluations"][0]


def test_a_resumed_run_logs_what_one_that_was_not_interrupted_does(tmp_path):
    def without_seconds(result):
        return [{name: value for name, value in one.items() if name != "seconds"} for one in result["evaluations"]]

    whole = start_run(quick("FrozenLake-v1"), tmp_path / "whole").execute()
    half = start_run(quick("FrozenLake-v1", steps=400), tmp_path / "half")
    half.execute()
    assert without_seconds(resume_run(half.folder.path, steps=600).execute()) == without_seconds(whole)


def test_an_old_configuration_is_repeated_as_it_was():
    old = {"env": "FrozenLake-v1", "agent": "q-learning", "steps": 10, "settings": {}}
    assert check_config(old).optimality is False
    assert RunConfig().optimality is False
