"""A run's folder keeps what determines the run, what it ran on, its last two checkpoints and its result."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import CheckpointError, RunStorageError, UsageError
from hamiltonian_rl.tracking.checkpoint import read_checkpoint, write_checkpoint
from hamiltonian_rl.tracking.run_folder import RunFolder, git_revision, read_config


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "CartPole-v1", "dqn", 0)


def names(run: RunFolder) -> list[str]:
    return [path.name for path in run.checkpoints()]


# The folder


def test_a_run_lies_under_its_environment_its_agent_its_seed_and_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: form)
    run = RunFolder.create(tmp_path / "runs", "CartPole-v1", "dqn", 7)
    assert run.path == tmp_path / "runs" / "CartPole-v1" / "dqn" / "7-%Y%m%d-%H%M%S"
    assert run.path.is_dir()


def test_runs_that_start_within_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20250101-000000")
    runs = [RunFolder.create(tmp_path, "CartPole-v1", "dqn", seed) for seed in (0, 0, 1, 0)]
    stamp = "20250101-000000"
    assert [run.path.name for run in runs] == [f"0-{stamp}", f"0-{stamp}-2", f"1-{stamp}", f"0-{stamp}-3"]


@pytest.mark.parametrize(
    ("env_id", "agent"),
    [("my_envs:Maze-v0", "sb3:ppo"), ("ALE/Pong-v5", "dqn"), ("a/../../b:c d-v0", "x\\y"), ("../up-v0", "dqn")],
)
def test_ids_with_colons_and_slashes_become_one_folder_each(tmp_path: Path, env_id: str, agent: str) -> None:
    run = RunFolder.create(tmp_path, env_id, agent, 0)
    parts = run.path.relative_to(tmp_path).parts
    assert len(parts) == 3
    assert ".." not in parts
    assert not any(character in "".join(parts) for character in ':/\\*?"<>| ')  # what Windows forbids, and spaces
    assert run.path.resolve().is_relative_to(tmp_path.resolve())


def test_different_ids_are_told_apart(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, "A:B-v0", "dqn", 0).path.name
    assert len(list(tmp_path.iterdir())) == 1
    RunFolder.create(tmp_path, "A:C-v0", "dqn", 0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("taken", ["", "CartPole-v1", "CartPole-v1/dqn", "CartPole-v1/dqn/0-now"])
def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "now")
    file = tmp_path / "runs" / taken
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("precious")
    with pytest.raises(RunStorageError, match="Cannot make the run folder"):
        RunFolder.create(tmp_path / "runs", "CartPole-v1", "dqn", 0)
    assert file.read_text() == "precious"


def test_a_place_where_nothing_can_be_made_is_a_storage_error() -> None:
    with pytest.raises(RunStorageError, match=r"Cannot make the run folder /proc/runs.*--run-dir"):
        RunFolder.create(Path("/proc/runs"), "CartPole-v1", "dqn", 0)


def test_only_a_folder_with_a_configuration_is_opened_as_a_run(run: RunFolder, tmp_path: Path) -> None:
    for path in (run.path, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=rf"{path} is no run"):
            RunFolder.open(path)
    run.write_config({"seed": 0})
    assert RunFolder.open(run.path).path == run.path


# Configuration, provenance, result

plain = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
configs = st.dictionaries(
    st.text(), plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(), plain, max_size=3)
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


@given(config=configs)
@settings(max_examples=60, deadline=None)
def test_any_configuration_is_read_back(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.write_config(config)
    assert same(run.read_config(), config)
    assert same(read_config(run.path), config)
    assert same(tomllib.loads((run.path / "config.toml").read_bytes().decode()), config)


def test_a_configuration_that_is_missing_or_no_toml_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read the configuration .*nowhere\.toml: No such file"):
        read_config(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match=r"Cannot read the configuration .*config\.toml"):
        read_config(tmp_path)
    (tmp_path / "config.toml").write_text("seed = = 1")
    with pytest.raises(UsageError, match=r"config\.toml is not valid TOML"):
        read_config(tmp_path)
    (tmp_path / "config.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(UsageError, match=r"config\.toml is not valid TOML"):
        read_config(tmp_path)


def test_provenance_says_what_the_run_ran_on(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/hrl", "train", "--env", "CartPole-v1"])
    run.write_provenance()
    provenance = json.loads((run.path / "provenance.json").read_text())
    assert provenance["python"] == platform.python_version()
    assert provenance["command"] == ["hrl", "train", "--env", "CartPole-v1"]
    for name in ("torch", "numpy", "gymnasium", "stable-baselines3", "hamiltonian-rl"):
        assert provenance["versions"][name] == importlib.metadata.version(name)
    started = time.mktime(time.strptime(provenance["started"][:19], "%Y-%m-%dT%H:%M:%S"))
    assert abs(time.time() - started) < 60


def test_the_git_revision_is_the_one_that_git_tells() -> None:
    import hamiltonian_rl

    source = Path(hamiltonian_rl.__file__).parent
    command = ["git", "-C", str(source), "log", "-1", "--format=%H", "--", "tracking/run_folder.py"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    revision = git_revision()
    if told.returncode or not told.stdout:  # an installed copy, or no git: nothing may be claimed
        assert revision is None
        return
    head = subprocess.run(["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    difference = subprocess.run(["git", "-C", str(source), "diff", "--quiet", "HEAD"], check=False)
    assert revision == {"revision": head.stdout.strip(), "changed": difference.returncode == 1}


def test_there_is_no_git_revision_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: RunFolder) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision() is None
    run.write_provenance()
    assert json.loads((run.path / "provenance.json").read_text())["git"] is None


def test_the_result_is_none_until_it_is_written(run: RunFolder) -> None:
    assert run.read_result() is None
    run.write_result({"status": "finished", "mean_reward": 500.0, "threshold": None})
    assert run.read_result() == {"status": "finished", "mean_reward": 500.0, "threshold": None}
    (run.path / "result.json").write_text('{"status": "fin')
    assert run.read_result() is None


@pytest.mark.parametrize("write", ["write_config", "write_result"])
def test_what_cannot_be_written_is_a_storage_error(tmp_path: Path, write: str) -> None:
    with pytest.raises(RunStorageError, match="Cannot write"):
        getattr(RunFolder(tmp_path / "nowhere"), write)({"seed": 1})


# Checkpoints


def test_the_last_two_checkpoints_are_kept(run: RunFolder) -> None:
    assert names(run) == []
    for step in (1, 20, 300):
        path = run.write_checkpoint(step, {"step": step})
        assert read_checkpoint(path) == {"step": step}
    assert names(run) == ["step-000000000020.zip", "step-000000000300.zip"]
    assert run.read_latest_checkpoint() == (run.checkpoints()[-1], {"step": 300})


def test_the_order_is_that_of_the_numbers(run: RunFolder) -> None:
    for step in (999_999, 1_000_000, 10_000_000_000):
        run.write_checkpoint(step, {"step": step})
    assert run.read_latest_checkpoint()[1] == {"step": 10_000_000_000}


def test_a_checkpoint_of_a_step_that_has_one_replaces_it(run: RunFolder) -> None:
    for step, value in ((1, "a"), (2, "b"), (2, "c")):
        run.write_checkpoint(step, {"value": value})
    assert names(run) == ["step-000000000001.zip", "step-000000000002.zip"]
    assert run.read_latest_checkpoint()[1] == {"value": "c"}


def test_the_checkpoint_just_written_is_the_latest_also_after_going_back(run: RunFolder) -> None:
    """Whoever resumes from the checkpoint before a damaged one writes checkpoints of earlier steps than that."""
    for step in (100, 200):
        run.write_checkpoint(step, {"step": step, "branch": "first"})
    path = run.write_checkpoint(150, {"step": 150, "branch": "second"})
    assert path.exists()
    assert run.read_latest_checkpoint()[1]["branch"] == "second"


def test_what_a_killed_writer_left_is_no_checkpoint(run: RunFolder) -> None:
    for step in (1, 2):
        run.write_checkpoint(step, {"step": step})
    for name in (".step-000000000003.zip.4711.tmp", ".step-000000000002.zip.4711.tmp"):
        (run.path / "checkpoints" / name).write_bytes(b"PK")
    assert names(run) == ["step-000000000001.zip", "step-000000000002.zip"]
    assert run.read_latest_checkpoint()[1] == {"step": 2}
    run.write_checkpoint(3, {"step": 3})
    assert names(run) == ["step-000000000002.zip", "step-000000000003.zip"]


def test_a_run_without_checkpoints_says_how_to_start_again(run: RunFolder) -> None:
    with pytest.raises(CheckpointError, match=rf"{run.path} has no checkpoint yet.*--config"):
        run.read_latest_checkpoint()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_a_damaged_latest_checkpoint_is_an_error_that_names_the_one_before(run: RunFolder) -> None:
    for step in (1, 2):
        run.write_checkpoint(step, {"array": np.arange(step)})
    before, latest = run.checkpoints()
    damage(latest)
    with pytest.raises(CheckpointError) as caught:
        run.read_latest_checkpoint()
    message = str(caught.value)
    assert message.index(str(latest)) < message.index(f"give {before} instead")


def test_of_several_whole_checkpoints_the_nearest_is_named(run: RunFolder) -> None:
    (run.path / "checkpoints").mkdir()
    for step in (1, 2, 3):
        write_checkpoint(run.path / "checkpoints" / f"step-{step:012d}.zip", {"array": np.arange(step)})
    first, before, latest = run.checkpoints()
    damage(latest)
    with pytest.raises(CheckpointError, match=f"give {before} instead"):
        run.read_latest_checkpoint()
    damage(before)
    with pytest.raises(CheckpointError, match=f"give {first} instead"):
        run.read_latest_checkpoint()


def test_where_all_are_damaged_no_other_is_offered(run: RunFolder) -> None:
    for step in (1, 2):
        run.write_checkpoint(step, {"array": np.arange(step)})
    for path in run.checkpoints():
        damage(path)
    with pytest.raises(CheckpointError, match="No earlier checkpoint of this run is whole"):
        run.read_latest_checkpoint()


def test_a_failed_checkpoint_leaves_the_earlier_ones(run: RunFolder) -> None:
    for step in (1, 2):
        run.write_checkpoint(step, {"step": step})
    with pytest.raises(TypeError):
        run.write_checkpoint(3, {"step": {3}})
    (run.path / "checkpoints" / "step-000000000004.zip").mkdir()  # nothing can be renamed over a folder
    with pytest.raises(RunStorageError):
        run.write_checkpoint(4, {"step": 4})
    (run.path / "checkpoints" / "step-000000000004.zip").rmdir()
    assert names(run) == ["step-000000000001.zip", "step-000000000002.zip"]
    assert run.read_latest_checkpoint()[1] == {"step": 2}
