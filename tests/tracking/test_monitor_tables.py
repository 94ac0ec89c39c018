"""Tables that Stable-Baselines3's own Monitor writes, beside what its own reader says of them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.results_plotter import ts2xy

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.monitor_tables import MonitorTable
from hamiltonian_rl.tracking.run_logs import find_runs


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """A clock that goes on by a quarter of a second each time that Monitor looks at it."""
    ticks = itertools.count(1_700_000_000.0, 0.25)
    monkeypatch.setattr("stable_baselines3.common.monitor.time", SimpleNamespace(time=lambda: next(ticks)))


def played(folder, episodes, **options):
    """Play CartPole-v1 at random under a Monitor that writes to a folder."""
    env = Monitor(gym.make("CartPole-v1"), str(folder / "monitor.csv"), **options)
    env.action_space.seed(0)
    env.times = []
    for episode in range(episodes):
        env.reset(seed=episode)
        while not env.needs_reset:
            info = env.step(env.action_space.sample())[-1]
        env.times.append(info["episode"]["t"])
    env.close()
    return env


def test_an_episode_stands_at_the_step_where_it_ended(tmp_path):
    env = played(tmp_path, 12)
    (run,) = find_runs([tmp_path])
    assert run.log.tags() == {"r", "l"}
    curve = run.curve("r")
    assert curve.values.tolist() == env.get_episode_rewards()
    assert curve.steps.tolist() == np.cumsum(env.get_episode_lengths()).tolist()
    assert curve.steps[-1] == env.get_total_steps()
    assert curve.seconds.tolist() == env.times
    assert curve.notes == ()


def test_files_of_several_environments_are_one_run_as_in_their_own_reader(tmp_path):
    pytest.importorskip("pandas")  # which their reader needs
    env = make_vec_env("CartPole-v1", n_envs=3, seed=0, monitor_dir=str(tmp_path / "PPO_1"))
    env.reset()
    env.action_space.seed(0)
    for _ in range(200):
        env.step([env.action_space.sample() for _ in range(3)])
    env.close()
    (run,) = find_runs([tmp_path])
    curve = run.curve("r")
    steps, returns = ts2xy(load_results(str(tmp_path / "PPO_1")), "timesteps")
    assert curve.steps.tolist() == steps.tolist()
    assert curve.values.tolist() == returns.tolist()
    assert (np.diff(curve.seconds) >= 0.0).all()
    assert 3 * 200 - curve.steps[-1] < 3 * 200 / 4  # what is missing are the episodes under way
    assert curve.notes == ("3 environments are one run: its steps are those of all of them.",)
    assert run.path == tmp_path / "PPO_1"


def test_the_clock_of_a_run_that_was_taken_up_again_goes_on(tmp_path):
    first = played(tmp_path, 4)
    again = played(tmp_path, 2, override_existing=False)
    assert again.times[0] < first.times[-1]
    curve = MonitorTable([tmp_path / "monitor.csv"]).curve("r")
    assert curve.steps[-1] == first.get_total_steps() + again.get_total_steps()
    assert curve.seconds == pytest.approx([*first.times, *(first.times[-1] + second for second in again.times)])


def test_runs_in_folders_beside_each_other_are_a_group(tmp_path):
    for name in ("DQN_1", "DQN_2", "PPO_1"):
        played(tmp_path / name, 1)
    groups = [run.group for run in find_runs([tmp_path])]
    assert groups == [str(tmp_path / "DQN")] * 2 + [str(tmp_path / "PPO")]


def test_a_file_cut_off_anywhere_gives_the_episodes_whose_lines_are_whole(tmp_path):
    env = played(tmp_path, 3)
    path = tmp_path / "monitor.csv"
    whole = path.read_bytes()
    header = whole.index(b"r,l,t") + len(b"r,l,t\r\n")
    first = whole.index(b"\n", header) + 1
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        curve = MonitorTable([path]).curve("r")
        ended = whole[header:size].count(b"\n")
        assert curve.values.tolist() == env.get_episode_rewards()[:ended]
        assert bool(curve.notes) == (whole[size - 1 : size] != b"\n")
    for size in range(2, first):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError):
            MonitorTable([path])


def test_an_episode_that_ended_in_success_is_one_and_else_zero(tmp_path):
    path = tmp_path / "monitor.csv"
    path.write_text('#{"t_start": 1.0, "env_id": "None"}\nr,l,t,is_success\n1,2,0.5,True\n2,3,0.9,False\n')
    assert MonitorTable([path]).curve("is_success").values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#{}\nr,l,t\n1,2,3\n", "no t_start"),
        ("#{what\nr,l,t\n1,2,3\n", "no t_start"),
        ('#{"t_start": 0}\nr,t\n1,2\n', "no column l"),
        ('#{"t_start": 0}\nr,l,t\n1,0,3\n', 'holds "0" at line 3; expected a whole number'),
        ('#{"t_start": 0}\nr,l,t\n1,1,3\n1,1.5,4\n', 'holds "1.5" at line 4; expected a whole number'),
        ('#{"t_start": 0}\nr,l,t\n1,1,3\nx,1,4\n', 'holds "x" at line 4; expected a number'),
        ('#{"t_start": 0}\nr,l,t\n', "is empty"),
    ],
)
def test_what_monitor_would_not_write_is_refused_by_its_line(tmp_path, text, said):
    path = tmp_path / "monitor.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        MonitorTable([path]).curve("r")
