"""The command line as a person meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import stable_baselines3

QUICK = ["--steps", 300, "--set", "learning_starts=100", "--eval-every", 200]


def test_help_names_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "sys.argv = ['hrl', '--help']\n"
        "from hamiltonian_rl.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'gymnasium', 'stable_baselines3', 'tensorboard', 'rich', 'matplotlib'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"train", "evaluate", "list"} <= set(re.findall(r"^  (\w+) ", printed, re.MULTILINE))
    assert "HEAVY []" in printed


def test_every_option_of_train_is_explained(hrl):
    outcome = hrl("train", "--help")
    assert outcome.code == 0
    for option in ("--env", "--agent", "--steps", "--seed", "--n-envs", "--set", "--config", "--run-dir", "--resume"):
        assert re.search(rf"{option} +\S.*\w{{3}}", outcome.out), option
    assert outcome.out.count("default") >= 5


def test_train_says_what_it_chose_and_ends_with_the_result(hrl, tmp_path):
    outcome = hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path)
    (folder,) = tmp_path.glob("CartPole-v1/dqn/0-*")
    assert outcome.code == 0, outcome.err
    assert "Agent: dqn, because CartPole-v1 has discrete actions" in outcome.out
    assert "Tuned settings of dqn for CartPole-v1: " in outcome.out
    assert "Set by you: learning_starts = 100" in outcome.out
    result = json.loads((folder / "result.json").read_text())
    assert f"{result['mean_reward']:.2f} ± {result['mean_reward_standard_error']:.2f}" in outcome.out
    assert f"tensorboard --logdir {folder.parent.parent}" in outcome.out
    assert result["status"] == "finished"
    assert result["episodes"] == 100


def test_evaluate_repeats_the_return_that_train_reported(hrl, tmp_path):
    hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path)
    (folder,) = tmp_path.glob("CartPole-v1/dqn/0-*")
    result = json.loads((folder / "result.json").read_text())
    expected = f"{result['mean_reward']:.2f} ± {result['mean_reward_standard_error']:.2f}"
    assert expected in hrl("evaluate", folder).out
    checkpoint = max((folder / "checkpoints").iterdir())
    assert expected in hrl("evaluate", checkpoint).out
    assert "Return, 5 greedy episodes" in hrl("evaluate", folder, "--episodes", 5).out


def test_train_config_reproduces_and_resume_goes_on(hrl, tmp_path):
    hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path / "one")
    (folder,) = (tmp_path / "one").glob("CartPole-v1/dqn/0-*")
    again = hrl("train", "--config", folder / "config.toml", "--run-dir", tmp_path / "two")
    (second,) = (tmp_path / "two").glob("CartPole-v1/dqn/0-*")
    assert again.code == 0
    digests = [json.loads((f / "result.json").read_text())["parameters_sha256"] for f in (folder, second)]
    assert digests[0] == digests[1]
    assert hrl("train", "--resume", folder).code == 2
    assert hrl("train", "--resume", folder, "--steps", 400).code == 0
    assert json.loads((folder / "result.json").read_text())["steps"] == 400


def test_a_video_is_a_film_of_the_episode(hrl, tmp_path):
    import imageio.v2

    hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path)
    (folder,) = tmp_path.glob("CartPole-v1/dqn/0-*")
    outcome = hrl("evaluate", folder, "--video", tmp_path / "film.mp4")
    assert outcome.code == 0, outcome.err
    length = float(re.search(r"Return, 1 greedy episode\W+([\d.]+)", outcome.out)[1])
    frames = sum(1 for _ in imageio.v2.get_reader(tmp_path / "film.mp4"))
    assert frames == length  # CartPole pays one a step, and a frame is taken before each


def test_several_environments_and_settings_of_the_environment(hrl, tmp_path):
    outcome = hrl("train", "--env", "CartPole-v1", *QUICK, "--n-envs", 4, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    map8 = hrl("train", "--env", "FrozenLake-v1", "--env-set", "map_name=8x8", "--steps", 300, "--run-dir", tmp_path)
    assert map8.code == 0, map8.err
    (folder,) = tmp_path.glob("FrozenLake-v1/q-learning/0-*")
    assert hrl("evaluate", folder, "--episodes", 2).code == 0  # with the 64 states that it was trained with


@pytest.mark.parametrize("agent", ["sb3:ppo", "random"])
def test_other_agents_train_by_the_same_command(agent, hrl, tmp_path):
    outcome = hrl("train", "--env", "CartPole-v1", "--agent", agent, "--steps", 300, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    (folder,) = tmp_path.glob(f"CartPole-v1/{agent.replace(':', '-')}/0-*")
    assert hrl("evaluate", folder, "--episodes", 3).code == 0


def test_an_environment_of_another_module_trains(hrl, misbehaving, tmp_path):
    outcome = hrl("train", "--env", misbehaving, "--steps", 200, "--run-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("agent", ["dqn", "sb3:dqn"])
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raise", "raised RuntimeError: the motor is on fire"),
        ("exit", "raised SystemExit"),
        ("nan_reward", "returned the reward nan"),
        ("nan_observation", "returned the observation nan"),
        ("four_values", "Misbehaving-v0.step()"),
        ("none_reward", "Misbehaving-v0.step()"),
        ("text_flag", "terminated = 'False'; expected True or False"),
    ],
)
def test_a_misbehaving_environment_fails_the_run_in_one_sentence_and_the_run_is_kept(
    agent, how, sentence, hrl, misbehaving, tmp_path
):
    outcome = hrl(
        *("train", "--env", misbehaving, "--agent", agent, "--env-set", f"how={how}"),
        *("--steps", 2000, "--run-dir", tmp_path / "runs"),
    )
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    (folder,) = (tmp_path / "runs").glob("*/*/0-*")
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "failed"
    assert 250 <= result["steps"] <= 300  # it misbehaves at step 300
    assert list((folder / "checkpoints").iterdir())


@pytest.mark.parametrize("agent", ["dqn", "sb3:dqn"])
def test_an_environment_that_cannot_be_closed_costs_nothing_and_is_named(agent, hrl, misbehaving, tmp_path):
    outcome = hrl(
        *("train", "--env", misbehaving, "--agent", agent, "--env-set", "how=close", "--steps", 200),
        *("--run-dir", tmp_path / "runs"),
    )
    assert outcome.code == 0, outcome.err
    assert "hrl: note: Misbehaving-v0.close() raised OSError: the door is stuck" in outcome.err
    assert "Traceback" not in outcome.err


WRONG = [
    (["train"], "Which environment?"),
    (["train", "--env", "CartPol-v1"], 'Did you mean "CartPole-v1"?'),
    (["train", "--env", "no_such_module:Env-v0"], 'Cannot import "no_such_module"'),
    (["train", "--env", "CartPole-v1", "--agent", "dqnn"], 'Did you mean "dqn"?'),
    (["train", "--env", "CartPole-v1", "--set", "gama=0.9"], 'Did you mean "gamma"?'),
    (["train", "--env", "CartPole-v1", "--set", "gamma=high"], "gamma = 'high' is not a number"),
    (["train", "--env", "CartPole-v1", "--set", "gamma"], "expected key=value"),
    (["train", "--env", "CartPole-v1", "--set", "gamma=2"], "expected at most 1"),
    (["train", "--env", "CartPole-v1", "--agent", "sb3:ppo", "--set", "nsteps=2"], 'Did you mean "n_steps"?'),
    (["train", "--env", "CartPole-v1", "--env-set", "colour=red"], "colour"),
    (["train", "--env", "CartPole-v1", "--device", "cuda:99"], "--device cpu"),
    (["train", "--env", "CartPole-v1", "--device", "tpu"], 'device = "tpu" is unknown'),
    (["train", "--env", "CartPole-v1", "--steps", "0"], "greater than or equal to 1"),
    (["train", "--env", "Pendulum-v1", "--agent", "dqn"], "sb3:sac"),
    (["train", "--resume", "nowhere"], "There is no run nowhere"),
    (["train", "--config", "nowhere.toml"], "nowhere.toml"),
    (["train", "--config", "nowhere.toml", "--agent", "dqn"], "--agent cannot go with --config"),
    (["train", "--stepss", "3"], "--steps"),
    (["trian"], "Did you mean 'train'?"),
    (["train", "--resume", "nowhere", "--run-dir", "runs"], "--run-dir cannot go with --resume"),
    (["train", "--env", "CartPole-v1", "--set", "n_step=1000000"], "expected at most 10000"),
    (["train", "--env", "CartPole-v1", "--set", "buffer_size=1000000000000000"], "Lower buffer_size"),
    (["train", "--env", "CartPole-v1", "--agent", "sb3:ppo", "--set", "gamma=2"], "expected at most 1"),
    (["train", "--env", "CartPole-v1", "--agent", "sb3:dqn", "--set", "buffer_size=-1"], "expected at least 1"),
    (["train", "--env", "CartPole-v1", "--agent", "sb3:ppo", "--set", "normalize=maybe"], "is not true or false"),
    (["train", "--env", "Pendulum-v1", "--agent", "sb3:sac", "--set", "noise_std=1"], "noise_type"),
    (["train", "--env", "CartPole-v1", "--agent", "sb3:ppo", "--set", "policy_kwargs=7"], "cannot be made"),
    (["train", "--env", "CartPole-v1", "--seed", "9999999999999"], "seed = 9999999999999 is out of range"),
    (["evaluate", "nowhere"], "There is no file or folder nowhere"),
    (["list", "agent"], 'Did you mean "agents"?'),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_a_wrong_call_exits_with_2_and_one_clear_sentence(arguments, sentence, hrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = hrl(*arguments)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("runs/*"))


def test_an_sb3_file_is_refused_until_trusted(hrl, tmp_path):
    model = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, device="cpu").learn(32)
    model.save(tmp_path / "ppo.zip")
    refused = hrl("evaluate", tmp_path / "ppo.zip", "--env", "CartPole-v1")
    assert refused.code == 1
    assert "--trust" in refused.err
    trusted = hrl("evaluate", tmp_path / "ppo.zip", "--env", "CartPole-v1", "--trust", "--episodes", 3)
    assert trusted.code == 0, trusted.err
    assert "sb3:ppo on CartPole-v1" in trusted.out


def test_a_full_disk_stops_the_run_in_one_sentence_and_what_was_saved_stays(tmp_path):
    # RLIMIT_FSIZE makes every file end at 500 kB, which a growing replay memory reaches after some 7,000 steps:
    # many checkpoints, also where each takes long to reach the disk.
    code = (
        "import resource, sys\n"
        "from hamiltonian_rl.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "main()\n"
    )
    arguments = ["train", "--env", "CartPole-v1", "--steps", "20000", "--checkpoint-every", "0.01"]
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--run-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 1
    assert re.search(r"Cannot write .*Free space", process.stderr)
    assert "Traceback" not in process.stderr
    (folder,) = tmp_path.glob("*/*/0-*")
    from hamiltonian_rl.training import resume_run

    assert resume_run(folder).agent.num_timesteps > 0


def test_an_unwritable_folder_is_named(hrl, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = hrl("train", "--env", "CartPole-v1", "--run-dir", tmp_path / "file")
    assert outcome.code == 1
    assert str(tmp_path / "file") in outcome.err
    assert "--run-dir" in outcome.err


def test_list_shows_environments_with_thresholds_and_agents_with_settings(hrl):
    envs = hrl("list", "envs").out
    assert re.search(r"CartPole-v1 .*500 .*475 .*dqn", envs)
    agents = hrl("list", "agents").out
    assert "learning_rate" in agents
    assert "sb3:ppo" in agents


@pytest.mark.parametrize(
    "settings", [["gamma=high"], ["learning_rate=1e30"], ["learning_rate=lin_fast"], ["n_steps=0"]], ids=str
)
def test_settings_that_sb3_chokes_on_are_one_sentence(settings, hrl, tmp_path):
    pairs = [part for setting in settings for part in ("--set", setting)]
    outcome = hrl("train", "--env", "CartPole-v1", "--agent", "sb3:ppo", "--steps", 600, *pairs, "--run-dir", tmp_path)
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.err
    assert re.match(r"hrl: sb3:ppo\b", outcome.err)


def test_ctrl_c_ends_an_evaluation_that_would_not_end(tmp_path):
    (tmp_path / "endless_module.py").write_text(
        "import gymnasium as gym\nimport numpy as np\n\n\n"
        "class Endless(gym.Env):\n"
        "    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))\n    action_space = gym.spaces.Discrete(2)\n\n"
        "    def reset(self, *, seed=None, options=None):\n        return np.zeros(1, np.float32), {}\n\n"
        "    def step(self, action):\n        return np.zeros(1, np.float32), 1.0, False, False, {}\n\n\n"
        "gym.register('Endless-v0', entry_point=Endless)\n"
    )
    code = (
        "import os, signal, sys\n"
        "from hamiltonian_rl.agents.evaluation import Evaluator\n"
        "from hamiltonian_rl.cli import main\n"
        "real = Evaluator.returns\n"
        "def interrupted(*arguments, **named):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(*arguments, **named)\n"
        "Evaluator.returns = interrupted\n"
        "main()\n"
    )
    arguments = ["train", "--env", "endless_module:Endless-v0", "--steps", "400", "--eval-every", "200"]
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--run-dir", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert process.returncode == 1, process.stderr
    assert "hrl train --resume" in process.stdout
    (folder,) = (tmp_path / "runs").glob("*/*/0-*")
    assert json.loads((folder / "result.json").read_text())["steps"] == 200


@pytest.mark.parametrize(
    ("observations", "sentence"),
    [
        ("Box(-1.0, 1.0, (0,))", "expected 1 to 100,000"),
        ("Discrete(10**8)", "expected 1 to 100,000"),
        ("Dict({'a': Dict({'b': Box(-1.0, 1.0, (2,))})})", "cannot be made for"),
        ("Box(0, 255, (8, 8, 3), 'uint8')", "cannot be made for"),
        ("Text(5)", "No agent handles the spaces"),
    ],
)
def test_observations_that_no_agent_handles_are_refused_in_a_sentence(
    observations, sentence, hrl, tmp_path, monkeypatch
):
    import gymnasium as gym

    class Odd(gym.Env):
        observation_space = eval(observations, vars(gym.spaces))
        action_space = gym.spaces.Discrete(2)

    monkeypatch.setitem(gym.registry, "Odd-v0", gym.envs.registration.EnvSpec("Odd-v0", entry_point=Odd))
    outcome = hrl("train", "--env", "Odd-v0", "--run-dir", tmp_path / "runs")
    assert outcome.code == 2, outcome.err
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("runs/*"))


def test_ctrl_c_in_an_evaluation_is_a_sentence(hrl, tmp_path, monkeypatch):
    from hamiltonian_rl.agents.evaluation import Evaluator

    hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path)
    (folder,) = tmp_path.glob("CartPole-v1/dqn/0-*")

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "run", interrupted)
    outcome = hrl("evaluate", folder)
    assert outcome.code == 1
    assert outcome.err.strip().startswith("hrl: stopped at once.")


def test_an_option_for_sb3_files_is_refused_with_a_run_of_ours(hrl, tmp_path):
    hrl("train", "--env", "CartPole-v1", *QUICK, "--run-dir", tmp_path)
    (folder,) = tmp_path.glob("CartPole-v1/dqn/0-*")
    outcome = hrl("evaluate", folder, "--agent", "sb3:ppo")
    assert outcome.code == 2
    assert "leave --agent out" in outcome.err


@pytest.mark.parametrize("env", ["Blackjack-v1", "FrozenLake-v1", "Taxi-v4", "Acrobot-v1"])
def test_gymnasiums_own_environments_train(env, hrl, tmp_path):
    assert hrl("train", "--env", env, "--steps", 300, "--eval-every", 200, "--run-dir", tmp_path).code == 0


@pytest.mark.parametrize("n_envs", [1, 3])
def test_random_is_a_floor_for_observations_of_several_parts(n_envs, hrl, tmp_path, monkeypatch):
    import gymnasium as gym
    import numpy as np

    parts = {"a": gym.spaces.Box(-1.0, 1.0, (2,)), "b": gym.spaces.Discrete(3)}

    class Parts(gym.Env):
        observation_space, action_space = gym.spaces.Dict(parts), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return {"a": np.zeros(2, np.float32), "b": 0}, {}

        def step(self, action):
            self.steps += 1
            return {"a": np.zeros(2, np.float32), "b": 1}, 1.0, self.steps == 7, False, {}

    monkeypatch.setitem(gym.registry, "Parts-v0", gym.envs.registration.EnvSpec("Parts-v0", entry_point=Parts))
    arguments = ["train", "--env", "Parts-v0", "--agent", "random", "--steps", 50, "--n-envs", n_envs]
    outcome = hrl(*arguments, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "7.00 ± 0.00" in outcome.out
