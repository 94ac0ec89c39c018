"""`hrl solve` on environments with a control problem behind them."""

import json

import numpy as np
import pytest

import hamiltonian_rl
from hamiltonian_rl.trajectory import follow

PNG = b"\x89PNG"


def test_solve_sets_both_routes_side_by_side_and_keeps_path_and_pictures(hrl, tmp_path):
    outcome = hrl("solve", "--env", "hrl/BrockMirman-v0", "--horizon", 20, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "-13.287585" in outcome.out  # the known value of 20 steps from k = 0.1
    for said in ("LOCAL_OPTIMUM", "By the grid", "First costate | grid's gradient", "Residuals of Eq. 13-15"):
        assert said in outcome.out
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert (folder / "path.png").read_bytes()[:4] == PNG
    assert json.loads((folder / "result.json").read_text())["status"] == "local_optimum"
    with np.load(folder / "trajectory.npz") as kept:
        problem = hamiltonian_rl.problem("hrl/BrockMirman-v0", horizon=20)
        _, value = follow(problem, kept["states"][None], kept["actions"][None])
        assert value[0] == pytest.approx(-13.287585362, abs=1e-8)
        assert kept["costates"].shape == (21, 1)


def test_a_problem_without_horizon_is_solved_for_ever(hrl, tmp_path):
    outcome = hrl("solve", "--env", "hrl/BrockMirman-v0", "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "-20.784185" in said  # A + B ln k at k = 0.1
    assert "infinitely many steps" in said
    assert "Steady state" in said
    assert "(0.18703)" in said  # (αβ)^(1 / (1 - α))
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert 'horizon = "none"' in (folder / "config.toml").read_text()
    assert json.loads((folder / "result.json").read_text())["return"] == pytest.approx(-20.784185220929, abs=1e-9)


def test_a_phase_plane_is_drawn_over_the_grid_of_two_coordinates(hrl, tmp_path):
    arguments = ("--state", "1.0,0.5", "--horizon", 20, "--points", 21)
    outcome = hrl("solve", "--env", "Pendulum-v1", *arguments, "--run-dir", tmp_path)
    assert "(1, 0.5), 20 steps" in outcome.out
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert (folder / "phase.png").read_bytes()[:4] == PNG


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "Pendulum-v1", "--state", "1"), "expected 2 numbers with commas between (angle"),
        (("--env", "Pendulum-v1", "--method", "value-iteration"), "--method = value-iteration does not apply"),
        (("--env", "Pendulum-v1", "--route", "scenic"), "no route"),
        (("--env", "Pendulum-v1", "--horizon", "none", "--route", "bellman"), "neither a horizon nor a discount"),
        (("--env", "hrl/BrockMirman-v0", "--horizon", "none", "--discount", "1"), "which is infinite"),
        (("--env", "Pendulum-v1", "--discount", "1.5"), "expected a number from 0 to 1"),
        (("--env", "FrozenLake-v1", "--state", "1"), "--state = 1 does not apply"),
        (("--env", "CartPole-v1", "--route", "bellman"), "give points to have one"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_kept(hrl, tmp_path, arguments, said):
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path)
    assert outcome.code not in (0, None)
    assert said in " ".join(outcome.err.split())
    assert not list(tmp_path.rglob("*.npz"))


def test_discrete_actions_are_relaxed_rounded_and_replayed_in_the_real_environment(hrl, tmp_path):
    outcome = hrl("solve", "--env", "MountainCar-v0", "--points", 31, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    for said in ("RelaxedMountainCar", "rounded (nearest)", "In MountainCar-v0 itself", "By the grid"):
        assert said in outcome.out
    (folder,) = tmp_path.glob("*/optimum/0-*")
    result = json.loads((folder / "result.json").read_text())
    assert result["replayed"] == result["return"] > -110.0
    assert "Optimum of" not in outcome.out  # a path's return is a lower bound
    (folder,) = tmp_path.glob("*/optimum/0-*")
    for name in ("path.png", "phase.png"):
        assert (folder / name).read_bytes()[:4] == PNG
    with np.load(folder / "trajectory.npz") as kept:
        steps = len(kept["relaxed_actions"])
        assert kept["relaxed_states"].shape == kept["relaxed_costates"].shape == (steps + 1, 2)
