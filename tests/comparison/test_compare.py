"""`hrl compare`: what is refused, runs that die, and runs that go on."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import PIL.Image
import pytest
from tensorboard.program import TensorBoard

from hamiltonian_rl.comparison.files import LOWER, MEAN, UPPER
from hamiltonian_rl.comparison.plan import parse_agents, plan_comparison
from hamiltonian_rl.comparison.worker import PICTURE
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.files import only_one
from hamiltonian_rl.run_config import resolve
from hamiltonian_rl.training import start_run


def test_agents_are_named_with_settings_behind_them():
    (plain, sb3, listed) = parse_agents("dqn, sb3:ppo:n_steps=64,dqn:hidden=[32,16]:gamma=0.5")
    assert (plain.label, plain.name, plain.settings) == ("dqn", "dqn", {})
    assert (sb3.name, sb3.settings) == ("sb3:ppo", {"n_steps": 64})
    assert (listed.name, listed.settings) == ("dqn", {"hidden": [32, 16], "gamma": 0.5})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dqn,,random", 'has ""; expected names with commas'),
        ("", 'has ""; expected names with commas'),
        ("dqn,gamma=0.9", 'has "gamma=0.9"; expected names'),
        (":gamma=0.9", 'has ":gamma=0.9"; expected names'),
        ("dqn;random", 'has "dqn;random"; expected names'),
        ("dqn random", 'has "dqn random"; expected names'),
        ("dqn,dqn", "names dqn twice"),
    ],
)
def test_agents_that_cannot_be_told_apart_are_refused(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_agents(text)


@pytest.mark.parametrize(
    ("agents", "sentence"),
    [
        ("dqn,sb3:pp", 'Did you mean "sb3:ppo"'),
        ("dqn:gama=0.9", 'Did you mean "gamma"'),
        ("dqn,sb3:sac", "sb3:sac cannot be made for"),
        ("q-learning", "Discrete"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_runs(agents, sentence, hrl, tmp_path):
    outcome = hrl("compare", "--env", "CartPole-v1", "--agents", agents, "--run-dir", tmp_path / "runs")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert not outcome.out.rstrip().endswith(":")  # no heading of an agent that is none
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("env", "agents", "planners"),
    [
        ("FrozenLake-v1", "q-learning,sarsa,random", set()),
        *(("FrozenLake-v1", name, {name}) for name in ("value-iteration", "policy-iteration", "deep-value-iteration")),
        ("CartPole-v1", "dqn,costate,costate:model=learned,sb3:ppo", {"costate"}),
    ],
)
def test_agents_that_ask_a_model_are_told_from_those_that_take_samples(env, agents, planners, tmp_path):
    assert plan_comparison(env, parse_agents(agents), 1, tmp_path).planners == planners


def test_every_option_is_explained(hrl):
    outcome = hrl("compare", "--help")
    assert outcome.code == 0
    for option in ("--env", "--agents", "--seeds", "--steps", "--jobs", "--threshold", "--eval-every", "--run-dir"):
        assert option in outcome.out
    assert "hrl compare --env CartPole-v1" in outcome.out


def test_another_comparison_takes_another_folder_and_more_agents_take_the_same(tmp_path):
    def folder(agents: str, seeds: int, **shared: object) -> Path:
        return plan_comparison("CartPole-v1", parse_agents(agents), seeds, tmp_path, **shared).folder

    first = folder("random", 2, steps=100)
    assert first == tmp_path / "CartPole-v1"
    assert folder("random,dqn", 3, steps=100) == first
    other = folder("random", 2, steps=200)
    assert other == tmp_path / "CartPole-v1-2"
    assert folder("random", 2, steps=200, env_settings={"sutton_barto_reward": True}) == tmp_path / "CartPole-v1-3"
    assert folder("random", 2, steps=200) == other


# Runs


def call(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hamiltonian_rl.cli", "compare", *map(str, arguments)]


def results_of(root: Path) -> dict[str, dict[str, object]]:
    """Return the results by agent and seed, without what no two runs share: how long they took."""
    found = {}
    for path in root.glob("*/*/*/result.json"):
        kept = json.loads(path.read_text())
        for row in kept["evaluations"]:
            del row["seconds"]
        found[f"{kept['agent']} {kept['seed']}"] = {k: v for k, v in kept.items() if "seconds" not in k}
    return found


QUICK = ("--env", "FrozenLake-v1", "--agents", "dqn,q-learning", "--seeds", 1, "--steps", 300, "--eval-every", 100)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a comparison was kept whose runs went side by side."""
    root = tmp_path_factory.mktemp("compared")
    subprocess.run(call(*QUICK, "--jobs", 2, "--run-dir", root), check=True)
    return root


def test_how_many_runs_go_side_by_side_does_not_change_the_results(compared, hrl, tmp_path):
    outcome = hrl("compare", *QUICK, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert results_of(tmp_path) == results_of(compared)
    assert len(results_of(tmp_path)) == 2


def test_what_is_done_is_not_done_again(compared, hrl):
    before = {path: path.stat().st_mtime_ns for path in compared.glob("*/*/0-*/*")}
    outcome = hrl("compare", *QUICK, "--run-dir", compared)
    assert outcome.code == 0, outcome.err
    assert "0 runs, in" in outcome.out
    assert "2 were done before" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in compared.glob("*/*/0-*/*")} == before


def test_the_files_say_what_the_results_say(compared):
    folder = compared / "FrozenLake-v1"
    kept = results_of(compared)
    with open(folder / "comparison.csv") as file:
        rows = {row["agent"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["dqn", "q-learning"]
    for agent, row in rows.items():
        assert float(row["final_return"]) == kept[f"{agent} 0"]["mean_reward"]
        assert row["final_return_lower"] == ""  # one seed has no interval
        # 0.744190 is the optimum of the 4x4 lake in 100 steps; no run can be sure of its sample mean.
        assert float(row["regret"]) == pytest.approx(0.744190 - kept[f"{agent} 0"]["mean_reward"], abs=1e-6)
        assert (row["steps_to_threshold"], row["steps_to_threshold_is_lower_bound"]) == ("300", "True")
        assert (
            f"| {agent} | 1 of 1 | {kept[f'{agent} 0']['mean_reward']:.4f} |" in (folder / "comparison.md").read_text()
        )
    with PIL.Image.open(folder / "comparison.png") as picture:
        assert picture.size == (1200, 576)
    assert not list(folder.glob("*.log"))


def test_tensorboard_overlays_the_agents_under_one_tag_and_shows_their_means_with_a_band(compared):
    folder = compared / "FrozenLake-v1"
    server = TensorBoard()
    server.configure(logdir=str(folder), port=0)

    def ask(route: str, **arguments: str) -> object:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{address}data/plugin/{route}?{query}", timeout=60) as answer:
            return json.load(answer)

    address = server.launch()
    deadline = time.monotonic() + 60
    while len(tags := ask("scalars/tags")) < 4:  # it reads the folder in a thread of its own
        assert time.monotonic() < deadline, tags
        time.sleep(0.1)
    runs = {path.relative_to(folder).as_posix() for path in folder.glob("*/0-*")}
    assert {run for run in tags if "eval/mean_reward" in tags[run]} == runs
    assert {run for run in tags if {MEAN, LOWER, UPPER} <= set(tags[run])} == {"mean/dqn", "mean/q-learning"}
    assert {run for run, tagged in ask("images/tags").items() if PICTURE in tagged} == runs
    (chart,) = ask("custom_scalars/layout")["category"][0]["chart"]
    assert chart["margin"]["series"] == [{"value": MEAN, "lower": LOWER, "upper": UPPER}]
    curve = ask("scalars/scalars", run="mean/dqn", tag=MEAN)
    evaluations = results_of(compared)["dqn 0"]["evaluations"]
    assert [(step, value) for _, step, value in curve] == [
        (row["step"], pytest.approx(row["mean_reward"], rel=1e-6))  # TensorBoard keeps 32 bits
        for row in evaluations
    ]


FRAGILE = '''
import os
from pathlib import Path

import gymnasium as gym
import numpy as np


class Fragile(gym.Env):
    """Ends in its 150th step, if its first seed is 1 or 2, until it is mended by a file."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.first_seed = getattr(self, "first_seed", seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 150 and not Path(__file__).with_name("mended").exists():
            if self.first_seed == 1:
                raise RuntimeError("the motor is on fire")
            if self.first_seed == 2:
                os._exit(3)
        return np.zeros(2, np.float32), 1.0, False, self.steps % 20 == 0, {}


gym.register("Fragile-v0", entry_point=Fragile)
'''


def test_runs_that_fail_are_reported_and_take_no_other_along_and_are_tried_again(hrl, tmp_path, monkeypatch):
    (tmp_path / "fragile_module.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ("--env", "fragile_module:Fragile-v0", "--agents", "random", "--seeds", 3, "--steps", 200)
    outcome = hrl("compare", *arguments, "--jobs", 3, "--run-dir", tmp_path / "runs")
    assert outcome.code == 1
    assert "random, seed 0: return 20.00" in outcome.err
    assert re.search(r"random, seed 1: failed: .*raised RuntimeError: the motor is on fire", outcome.err)
    assert re.search(r"random, seed 2: failed: its process ended at step \d+ with exit code 3", outcome.err)
    assert "2 of 3 runs are not done. The same command goes on with them." in outcome.out
    assert "1 of 3" in outcome.out
    assert "Failed: random, seed 1; random, seed 2." in outcome.out
    assert "Traceback" not in outcome.out + outcome.err
    (kept,) = (tmp_path / "runs").glob("*/random/0-*/result.json")
    written = kept.stat().st_mtime_ns

    (tmp_path / "mended").touch()
    outcome = hrl("compare", *arguments, "--jobs", 2, "--run-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "3 of 3" in outcome.out
    assert kept.stat().st_mtime_ns == written


def alive(pid: int) -> bool:
    """Whether a process is there, and more than an entry that nobody has asked for yet."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_a_comparison_killed_and_stopped_goes_on_to_the_result_of_one_that_was_not(tmp_path):
    arguments = ("--env", "CartPole-v1", "--agents", "dqn", "--seeds", 1, "--steps", 12_000, "--eval-every", 2000)
    expected = start_run(
        resolve("CartPole-v1", agent="dqn", steps=12_000, eval_every=2000), tmp_path / "whole"
    ).execute()

    def begun() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            call(*arguments, "--run-dir", tmp_path / "runs"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        events = set((tmp_path / "runs").glob("*/dqn/0-*/events*"))
        deadline = time.monotonic() + 300
        while not (
            set((tmp_path / "runs").glob("*/dqn/0-*/events*")) - events
            and list((tmp_path / "runs").glob("*/dqn/0-*/checkpoints/step-*.zip"))
        ):
            assert time.monotonic() < deadline, "waited in vain"
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        return process

    process = begun()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (event_file,) = (tmp_path / "runs").glob("*/dqn/0-*/events*")
    pid = int(event_file.name.split(".")[-2])
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, "the run outlives the comparison"
        time.sleep(0.01)
    (folder,) = (tmp_path / "runs").glob("*/dqn/0-*")
    assert not (folder / "result.json").exists()

    process = begun()
    (comparison,) = (tmp_path / "runs").glob("*")
    with pytest.raises(UsageError, match="worked on by another hrl compare"), only_one(comparison, "hrl compare"):
        pass
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "every run saves a checkpoint" in printed
    assert "1 of 1 runs are not done. The same command goes on with them." in printed
    assert json.loads((folder / "result.json").read_text())["status"] == "stopped"

    again = subprocess.run(
        call(*arguments, "--run-dir", tmp_path / "runs"), check=True, stdout=subprocess.PIPE, text=True
    )
    assert "1 of the 1 were begun before" in again.stdout
    found = json.loads((folder / "result.json").read_text())
    assert found["parameters_sha256"] == expected["parameters_sha256"]
    assert found["mean_reward"] == expected["mean_reward"]
    assert [e["mean_reward"] for e in found["evaluations"]] == [e["mean_reward"] for e in expected["evaluations"]]
