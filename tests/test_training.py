"""Runs: reproducible, resumable after any death, and honest about how they ended."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.run_config import choose_agent, repeat_config, resolve
from hamiltonian_rl.tracking.checkpoint import read_checkpoint
from hamiltonian_rl.training import resume_run, start_run

QUICK = {"learning_starts": 100, "train_freq": 8, "gradient_steps": 2}


def quick_config(**changes):
    chosen = {"steps": 1500, "eval_every": 500, "eval_episodes": 2, "final_episodes": 3, **changes}
    return resolve("CartPole-v1", agent="dqn", settings=QUICK, **chosen)


def test_a_run_repeated_from_its_configuration_is_equal_bit_for_bit(tmp_path):
    first = start_run(quick_config(seed=4), tmp_path)
    result = first.execute()
    again = start_run(repeat_config(first.folder.path / "config.toml"), tmp_path).execute()
    assert again["parameters_sha256"] == result["parameters_sha256"]
    assert [e["mean_reward"] for e in again["evaluations"]] == [e["mean_reward"] for e in result["evaluations"]]
    assert again["mean_reward"] == result["mean_reward"]
    other = start_run(dataclasses.replace(first.config, seed=5), tmp_path).execute()
    assert other["parameters_sha256"] != result["parameters_sha256"]


def test_evaluating_more_often_or_saving_more_often_does_not_change_what_is_learnt(tmp_path):
    plain = start_run(quick_config(), tmp_path).execute()
    nosy = start_run(quick_config(eval_every=100), tmp_path, checkpoint_every=0.0).execute()
    assert plain["parameters_sha256"] == nosy["parameters_sha256"]


def test_a_run_folder_holds_all_that_is_promised(tmp_path):
    run = start_run(quick_config(), tmp_path)
    run.execute()
    path = run.folder.path
    assert path.parent == tmp_path / "CartPole-v1" / "dqn"
    assert path.name.startswith("0-")
    assert {"config.toml", "provenance.json", "result.json", "checkpoints"} <= {p.name for p in path.iterdir()}
    assert list(path.glob("events.out.tfevents.*"))
    assert {"python", "versions", "git", "platform"} <= set(json.loads((path / "provenance.json").read_text()))
    config = repeat_config(path)
    assert config.settings["train_freq"] == 8
    assert config.settings["double"] is True  # also what was left at its default


def spawn(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hamiltonian_rl.cli", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def assert_same_tree(one, other, where=""):
    """Equal to the last bit: networks, optimizer, memory, generators, environment."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            # Gymnasium's spaces take a seed from the operating system when they are made; nobody samples from them.
            if not name.endswith("_space"):
                assert_same_tree(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (item, twin) in enumerate(zip(one, other, strict=True)):
            assert_same_tree(item, twin, f"{where}/{index}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert one.tobytes() == other.tobytes(), where
    else:
        assert one == other, where


CASES = [
    pytest.param("CartPole-v1", "dqn", 6000, [], id="dqn"),
    pytest.param("CartPole-v1", "dqn", 6000, ["--n-envs", 8, "--set", "priority_exponent=0.6"], id="vector"),
    pytest.param("CartPole-v1", "sb3:ppo", 30_000, [], id="ppo", marks=pytest.mark.slow),
    pytest.param("Pendulum-v1", "sb3:sac", 1000, [], id="sac", marks=pytest.mark.slow),
    pytest.param("Acrobot-v1", "sb3:dqn", 6000, [], id="sb3dqn", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("env", "agent", "steps", "more"), CASES)
def test_a_run_killed_at_random_times_and_resumed_equals_one_that_was_not(env, agent, steps, more, tmp_path):
    arguments = ["--env", env, "--agent", agent, "--steps", steps, "--seed", 3, "--checkpoint-every", 0.05, *more]
    whole = spawn(*arguments, "--run-dir", tmp_path / "whole")
    output, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, output
    expected = json.loads(next((tmp_path / "whole").glob("*/*/*/result.json")).read_text())

    times = random.Random(os.getpid())
    process = spawn(*arguments, "--run-dir", tmp_path / "killed")
    for _ in range(2):
        wait_for(lambda: list((tmp_path / "killed").glob("*/*/*/checkpoints/step-*.zip")), process)
        time.sleep(times.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (folder,) = (tmp_path / "killed").glob("*/*/*")
        if (folder / "result.json").exists():
            break
        process = spawn("--resume", folder, "--checkpoint-every", 0.05)
        time.sleep(times.uniform(2.0, 4.0))
    output, _ = process.communicate(timeout=300)
    if not (folder / "result.json").exists():
        last = spawn("--resume", folder)
        output, _ = last.communicate(timeout=300)
        assert last.returncode == 0, output
    result = json.loads((folder / "result.json").read_text())
    assert result["resume"] == "exact"
    assert result["parameters_sha256"] == expected["parameters_sha256"]
    assert result["mean_reward"] == expected["mean_reward"]
    assert [e["mean_reward"] for e in result["evaluations"]] == [e["mean_reward"] for e in expected["evaluations"]]
    if agent == "dqn":  # SB3's models keep clocks among their attributes, which no two runs share
        paths = [max(path.glob("*/*/*/checkpoints/*.zip")) for path in (tmp_path / "whole", tmp_path / "killed")]
        trees = [{k: v for k, v in read_checkpoint(path).items() if k != "run"} for path in paths]
        assert {"loop", "own", "env"} <= trees[0].keys()
        assert_same_tree(*trees)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_says_how_to_go_on(number, tmp_path):
    process = spawn("--env", "CartPole-v1", "--steps", 500_000, "--run-dir", tmp_path, "--checkpoint-every", 0.1)
    wait_for(lambda: list(tmp_path.glob("*/*/*/checkpoints/step-*.zip")), process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    (folder,) = tmp_path.glob("*/*/*")
    assert process.returncode == 1
    assert f"hrl train --resume {folder}" in output
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "stopped"
    resumed = resume_run(folder, steps=result["steps"] + 50)
    assert resumed.agent.num_timesteps == result["steps"]


def test_the_events_of_a_resumed_run_show_no_step_twice(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = start_run(quick_config(steps=1000), tmp_path)
    run.execute()
    resume_run(run.folder.path, steps=2000).execute()
    events = EventAccumulator(str(run.folder.path), size_guidance={"scalars": 0}).Reload()
    steps = [event.step for event in events.Scalars("eval/mean_reward")]
    assert steps == [500, 1000, 1500, 2000]


def test_going_on_with_a_larger_budget_equals_having_had_it_from_the_start(tmp_path):
    whole = start_run(quick_config(steps=2000), tmp_path).execute()
    half = start_run(quick_config(steps=1000), tmp_path)
    half.execute()
    assert resume_run(half.folder.path, steps=2000).execute()["parameters_sha256"] == whole["parameters_sha256"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_offered(tmp_path):
    run = start_run(quick_config(), tmp_path, checkpoint_every=0.0)
    run.execute()
    earlier, latest = run.folder.checkpoints()
    latest.write_bytes(latest.read_bytes()[:-100])
    with pytest.raises(CheckpointError) as caught:
        resume_run(run.folder.path, steps=3000)
    assert latest.name in str(caught.value)
    assert str(earlier) in str(caught.value)
    assert resume_run(earlier, steps=3000).agent.num_timesteps == int(earlier.stem[5:])


def test_a_finished_run_is_not_resumed_without_a_larger_budget(tmp_path):
    run = start_run(quick_config(steps=200), tmp_path)
    run.execute()
    with pytest.raises(UsageError, match=r"reached its 200 steps.*--steps"):
        resume_run(run.folder.path)


@pytest.mark.parametrize(
    ("env", "agent"),
    [("CartPole-v1", "dqn"), ("FrozenLake-v1", "q-learning"), ("Pendulum-v1", "sb3:sac"), ("Taxi-v4", "q-learning")],
)
def test_the_agent_suits_the_spaces(env, agent):
    assert choose_agent(env, {})[0] == agent


def test_images_and_several_actions_go_to_ppo_and_strange_spaces_are_refused():
    def register(name, observations, actions):
        class Some(gym.Env):
            observation_space, action_space = observations, actions

        gym.register(name, entry_point=Some)
        return name

    image = gym.spaces.Box(0, 255, (64, 64, 3), "uint8")
    discrete, many = gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 3])
    assert choose_agent(register("Image-v0", image, discrete), {})[0] == "sb3:ppo"
    assert choose_agent(register("Many-v0", gym.spaces.Box(-1, 1, (2,)), many), {})[0] == "sb3:ppo"
    assert choose_agent(register("Dict-v0", gym.spaces.Dict({"a": image}), many), {})[0] == "sb3:ppo"
    with pytest.raises(UsageError, match=r"No agent handles the spaces of Text-v0"):
        choose_agent(register("Text-v0", gym.spaces.Text(5), discrete), {})


class Constant:
    """Plays one action for ever."""

    def __init__(self, action: int) -> None:
        self.action = action

    def predict(self, observations, state=None, episode_start=None, deterministic=False):
        import numpy as np

        return np.full(len(observations), self.action), None


@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0"])
def test_evaluation_returns_are_those_of_single_episodes(env):
    """One episode a copy: the same starts as a vector environment seeded with seed, seed + 1, ..."""
    episodes = 5
    returns = Evaluator(env).returns(Constant(0), episodes=episodes, seed=11)
    single = gym.make(env)
    expected = []
    for index in range(episodes):
        single.reset(seed=11 + index)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = single.step(0)
            total, over = total + reward, terminated or truncated
        expected.append(total)
    if env == "CartPole-v1":  # its native vector draws all starts from one seed, and falls over in 8 to 10 steps
        assert 8 <= min(returns) <= max(returns) <= 11
    else:
        assert returns.tolist() == expected


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"max_episode_steps": 90}])
def test_the_start_of_each_episode_is_told_in_the_order_of_the_returns(settings, copies, monkeypatch):
    """From that start, set by hand, the same policy earns the same; also after a native vector's pseudo-steps."""
    from hamiltonian_rl.agents import evaluation

    monkeypatch.setattr(evaluation, "MAX_COPIES", copies)
    monkeypatch.setattr(evaluation, "MAX_NATIVE_COPIES", copies)
    evaluator = Evaluator("CartPole-v1", settings)  # without settings there is a native vector, with them a plain one
    returns = evaluator.returns(Constant(0), episodes=7, seed=5)
    assert evaluator.starts.shape == (7, 4)
    assert len(np.unique(evaluator.starts, axis=0)) == 7
    single = gym.make("CartPole-v1")
    for start, expected in zip(evaluator.starts, returns, strict=True):
        single.reset(seed=0)
        single.unwrapped.state = start.astype(float)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = single.step(0)
            total, over = total + reward, terminated or truncated
        assert total == expected


def test_a_limit_of_steps_among_the_settings_is_the_one_that_counts():
    assert Evaluator("MountainCar-v0", {"max_episode_steps": 300}).returns(Constant(1), episodes=2, seed=0)[0] == -300


def test_more_episodes_than_copies_are_shared_out_evenly():
    assert Evaluator("MountainCar-v0").returns(Constant(1), episodes=23, seed=0).tolist() == [-200.0] * 23


def test_a_run_that_was_killed_in_its_final_evaluation_ends_as_one_that_was_not(tmp_path):
    run = start_run(quick_config(steps=400), tmp_path)
    whole = run.execute()
    (run.folder.path / "result.json").unlink()  # as a kill between the last checkpoint and the result leaves it
    resumed = resume_run(run.folder.path).execute()
    for name in ("status", "steps", "mean_reward", "parameters_sha256", "evaluations"):
        assert resumed[name] == whole[name], name


def test_a_state_that_could_not_be_put_back_is_told(tmp_path, monkeypatch):
    """The trial at the start goes well; later the environment makes itself a helper that a fresh one lacks."""

    class Helper:
        def __init__(self):
            self.push = 1.0

    class Late(gym.Env):
        observation_space, action_space = gym.spaces.Box(-9.0, 9.0, (1,)), gym.spaces.Discrete(2)
        steps, helper = 0, None

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.low * 0, {}

        def step(self, action):
            self.steps += 1
            if self.steps == 400:
                self.helper = Helper()
            return self.observation_space.low * 0, 1.0, self.steps % 30 == 0, False, {}

    monkeypatch.setitem(gym.registry, "Late-v0", gym.envs.registration.EnvSpec("Late-v0", entry_point=Late))
    config = resolve("Late-v0", agent="dqn", settings=QUICK, steps=500, eval_episodes=1, final_episodes=1)
    run = start_run(config, tmp_path)
    assert run.execute()["resume"] == "exact"
    resumed = resume_run(run.folder.path, steps=600)
    assert resumed.execute()["resume"] == "the environment's state could not be put back at step 500: a new episode"


def alter(tree, *path_and_value):
    *path, last, value = path_and_value
    for name in path:
        tree = tree[name]
    tree[last] = value


ALTERATIONS = {
    "evaluations": ("run", "evaluations", [{"step": "many"}]),
    "seconds": ("run", "seconds", None),
    "config": ("run", "config", []),
    "agent": ("run", "config", "agent", 7),
    "num_timesteps": ("loop", "num_timesteps", "x"),
    "loop": ("loop", None),
    "rng": ("loop", "rng", {"bit_generator": "Bad"}),
    "counters": ("own", "counters", ["a"]),
    "replay": ("own", "replay", {}),
}


@pytest.mark.parametrize("part", ALTERATIONS)
def test_an_altered_checkpoint_with_valid_checksums_is_refused_in_a_sentence(part, hrl, tmp_path):
    from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint

    run = start_run(quick_config(steps=200), tmp_path)
    run.execute()
    file = run.folder.checkpoints()[-1]
    tree = read_checkpoint(file)
    alter(tree, *ALTERATIONS[part])
    write_checkpoint(file, tree)
    for arguments in (["train", "--resume", run.folder.path, "--steps", 400], ["evaluate", file, "--episodes", 1]):
        outcome = hrl(*arguments)
        assert outcome.code == 1, outcome
        assert str(file) in outcome.err or "The checkpoint" in outcome.err
        assert "Traceback" not in outcome.err


def test_a_run_is_not_resumed_under_another_configuration(tmp_path):
    run = start_run(quick_config(steps=200), tmp_path)
    run.execute()
    file = run.folder.path / "config.toml"
    written = file.read_text()
    file.write_text(written.replace("seed = 0", "seed = 77"))
    with pytest.raises(UsageError, match="seed = 77; the checkpoint was trained with 0"):
        resume_run(run.folder.path, steps=400)
    file.write_text(written)
    with pytest.raises(UsageError, match="reached its 100 steps"):
        resume_run(run.folder.path, steps=100)
    assert file.read_text() == written


def test_episodes_that_were_cut_for_want_of_a_time_limit_are_counted(monkeypatch):
    from hamiltonian_rl.agents import evaluation

    class Endless(gym.Env):
        observation_space, action_space = gym.spaces.Box(-9.0, 9.0, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.low * 0, {}

        def step(self, action):
            return self.observation_space.low * 0, 1.0, False, False, {}

    monkeypatch.setitem(gym.registry, "Endless-v0", gym.envs.registration.EnvSpec("Endless-v0", entry_point=Endless))
    monkeypatch.setattr(evaluation, "STEPS_WITHOUT_LIMIT", 50)
    evaluator = Evaluator("Endless-v0")
    assert evaluator.returns(Constant(0), episodes=23, seed=0).tolist() == [50.0] * 23
    assert evaluator.n_cut == 23
    limited = Evaluator("MountainCar-v0")
    limited.returns(Constant(1), episodes=3, seed=0)
    assert limited.n_cut == 0


def test_hyper_parameters_in_tensorboard_tell_environments_apart_by_their_settings(tmp_path):
    config = resolve(
        "FrozenLake-v1",
        agent="random",
        steps=50,
        final_episodes=1,
        env_settings={"map_name": "8x8", "is_slippery": False},
    )
    run = start_run(config, tmp_path)
    run.execute()
    content = EventAccumulator(str(run.folder.path)).Reload().PluginTagToContent("hparams")
    message = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    shown = message.session_start_info.hparams
    assert shown["env_settings/map_name"].string_value == "8x8"
    assert shown["env_settings/is_slippery"].bool_value is False
    assert shown["env"].string_value == "FrozenLake-v1"
    assert run.config.env_settings == {"map_name": "8x8", "is_slippery": False}
