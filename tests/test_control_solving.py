"""`hrl solve` on environments with a control problem behind them."""

import json

import numpy as np
import pytest

import hamiltonian_rl
from hamiltonian_rl import console, solve_command
from hamiltonian_rl.control_pictures import control_pictures
from hamiltonian_rl.control_solving import solve_control_env
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
    assert "capital 0.18703" in said  # (αβ)^(1 / (1 - α))
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert 'horizon = "none"' in (folder / "config.toml").read_text()
    assert json.loads((folder / "result.json").read_text())["return"] == pytest.approx(-20.784185220929, abs=1e-9)


def test_a_phase_plane_is_drawn_over_the_grid_of_two_coordinates(hrl, tmp_path):
    arguments = ("--state", "1.0,0.5", "--horizon", 20, "--points", 21)
    outcome = hrl("solve", "--env", "Pendulum-v1", *arguments, "--run-dir", tmp_path)
    assert "angle 1 rad, angular velocity 0.5 rad/s" in outcome.out
    assert "20 steps, discount 1" in outcome.out
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert (folder / "phase.png").read_bytes()[:4] == PNG


PENDULUM = ("--env", "Pendulum-v1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PENDULUM, "--state", "1"), '--state = "1"; expected 2 finite numbers with commas between (angle'),
        ((*PENDULUM, "--state", "nan,0"), '--state = "nan,0"; expected 2 finite numbers'),
        ((*PENDULUM, "--state", "0,100"), "expected angular velocity (rad/s) from -8 to 8, got 100"),
        (("--env", "MountainCar-v0", "--state", "0.55,0.01"), "the episode is over there"),
        ((*PENDULUM, "--method", "value-iteration"), "--method = value-iteration does not apply"),
        ((*PENDULUM, "--route", "scenic"), '--route: there is no route "scenic". Known: bellman, both, hamiltonian'),
        ((*PENDULUM, "--route", ""), '--route: there is no route ""'),
        ((*PENDULUM, "--horizon", "0"), '--horizon is "0"; expected auto, none, a number of steps from 1 up, or M-N'),
        ((*PENDULUM, "--horizon=-1"), '--horizon is "-1"; expected'),
        ((*PENDULUM, "--horizon", "9-5"), '--horizon is "9-5"; expected'),
        ((*PENDULUM, "--horizon", "1000000000"), "--horizon = 1000000000; expected at most 10,000 steps"),
        ((*PENDULUM, "--horizon", "none", "--route", "bellman"), "neither a horizon nor a discount"),
        ((*PENDULUM, "--points", "1"), "--points = 1; expected a whole number from 4 up"),
        ((*PENDULUM, "--points", "1000000"), "--points = 1000000 make more than"),
        ((*PENDULUM, "--points", "30000"), "Take fewer --points or a shorter --horizon"),
        ((*PENDULUM, "--points", "9", "--route", "hamiltonian"), "--points = 9 does not apply: --route hamiltonian"),
        ((*PENDULUM, "--tol", "0"), "--tol = 0.0; expected a finite number above 0"),
        ((*PENDULUM, "--tol", "nan"), "--tol = nan; expected a finite number above 0"),
        ((*PENDULUM, "--discount", "2"), "--discount = 2.0; expected a number from 0 to 1"),
        ((*PENDULUM, "--env-set", "g=3"), 'no parameter "g". It has none at all'),
        (("--env", "hrl/BrockMirman-v0", "--horizon", "none", "--discount", "1"), "which is infinite"),
        (("--env", "MountainCar-v0", "--horizon", "none"), "needs a horizon: give --horizon N"),
        (("--env", "MountainCar-v0", "--horizon", "50-60"), "--horizon = 50-60 does not apply: MountainCar"),
        (("--env", "FrozenLake-v1", "--state", "1"), "--state = 1 does not apply"),
        (("--env", "FrozenLake-v1", "--horizon", "3-5"), "--horizon 3-5 does not apply"),
        (("--env", "CartPole-v1", "--route", "bellman"), "--points N makes one"),
        (("--env", "hrl/Zermello-v0"), 'Did you mean "hrl/Zermelo-v0"?'),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_exit_code_2_and_nothing_is_written(hrl, tmp_path, arguments, said):
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path / "runs")
    assert outcome.code == 2, outcome.err
    assert said in " ".join(outcome.err.split())
    assert outcome.err.count("\n") == 1
    assert not outcome.out
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_is_a_file_is_refused(hrl, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = hrl("solve", *PENDULUM, "--run-dir", tmp_path / "file")
    assert outcome.code == 2
    assert "is a file" in outcome.err
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_path_that_is_no_local_optimum_exits_with_1_and_the_advice_names_options(hrl, tmp_path):
    # Faster than Pendulum-v1's speed limit allows after one step: the limit is a kink on the path.
    arguments = (*PENDULUM, "--state", "2.5,7.9", "--horizon", 20, "--route", "hamiltonian")
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path)
    said = " ".join(outcome.out.replace("│", " ").split())
    assert outcome.code == 1
    assert "STAGNATED" in said
    assert "Raise --tol above the residual of stationarity, or try other starts (in Python" in said
    assert "its greedy path is often a better start: leave --route out." in said
    kept = next(tmp_path.glob("*/optimum/*/trajectory.npz"))  # kept all the same, and named
    assert f"Its arrays are    {kept}\n" in outcome.out


def test_a_relaxed_path_exits_by_the_same_rule(hrl, tmp_path):
    leaning = ("--env", "CartPole-v1", "--state", "0.02,-0.03,0.04,0.01", "--horizon", 100)
    assert hrl("solve", *leaning, "--run-dir", tmp_path).code == 0
    beyond_rounding = hrl("solve", *leaning, "--tol", "1e-300", "--run-dir", tmp_path)
    assert beyond_rounding.code == 1
    assert "LOCAL_OPTIMUM" not in beyond_rounding.out


def test_a_goal_out_of_reach_exits_with_1_though_the_path_towards_it_is_optimal(hrl, tmp_path):
    # By energy: pushes of 0.001 from rest do at most 0.001 · 0.0005 · 30² = 0.00045 of work in 30 steps, and the flag
    # lies 0.0025 / 3 · (sin 1.5 + 1) = 0.00166 above the valley.
    arguments = ("--env", "MountainCar-v0", "--state=-0.5,0", "--horizon", 30, "--route", "hamiltonian")
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path)
    assert outcome.code == 1, outcome.err
    said = " ".join(outcome.out.replace("│", " ").split())
    assert "LOCAL_OPTIMUM" in said
    assert "-30.000000 in 30 steps" in said
    assert "the goal of the relaxation is not reached" in said
    (folder,) = tmp_path.glob("*/optimum/0-*")
    assert json.loads((folder / "result.json").read_text())["reached"] is False


def test_zeros_have_no_sign(hrl, tmp_path):
    outcome = hrl("solve", "--env", "CartPole-v1", "--horizon", 20, "--run-dir", tmp_path)  # upright, and stays
    assert ": 0.000000; it bounds nothing" in outcome.out
    assert "-0.0" not in outcome.out


def test_what_is_being_done_is_shown_also_while_a_relaxation_is_solved(hrl, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    outcome = hrl("solve", "--env", "CartPole-v1", "--horizon", 20, "--run-dir", tmp_path)
    assert "s: Relaxation: first path of 20 steps\n" in outcome.err
    assert "s: Relaxation: 20 steps by costates\n" in outcome.err
    outcome = hrl("solve", *PENDULUM, "--horizon", 3, "--points", 9, "--run-dir", tmp_path)
    for said in ("s: Grid of 9 x 9 points\n", "s: 3 sweeps of the grid", "s: Paths by costates\n"):
        assert said in outcome.err


def test_ctrl_c_while_the_grid_is_solved_stops_and_leaves_nothing(hrl, tmp_path, monkeypatch):
    def progress(sweeps, gap):
        if sweeps == 2:
            raise KeyboardInterrupt  # as Python does on Ctrl-C

    monkeypatch.setattr(solve_command, "_sweeps", lambda show, what: progress)
    outcome = hrl("solve", *PENDULUM, "--horizon", 5, "--points", 9, "--run-dir", tmp_path / "runs")
    assert outcome.code == 130
    assert outcome.err == "hrl: interrupted before there was anything to certify; nothing is kept.\n"
    assert not (tmp_path / "runs").exists()


def test_other_optima_are_printed_and_all_are_kept_best_first(hrl, tmp_path):
    outcome = hrl("solve", *PENDULUM, "--horizon", 60, "--points", 21, "--run-dir", tmp_path)
    assert outcome.code == 0
    assert "Other optima found" in outcome.out
    (file,) = tmp_path.glob("*/optimum/*/trajectory.npz")
    with np.load(file) as kept:
        values, states, actions = (kept[f"optima_{name}"] for name in ("value", "states", "actions"))
        assert len(values) > 1
        assert kept["optima_costates"].shape == (len(values), 61, 2)
        assert (np.diff(values) < 0.0).all()
        np.testing.assert_allclose(follow(hamiltonian_rl.problem("Pendulum-v1"), states, actions)[1], values, rtol=1e-9)
        np.testing.assert_array_equal(kept["actions"], actions[0])


def test_of_a_free_horizon_the_best_number_of_steps_is_taken(hrl, tmp_path):
    # From -1 to 0, rest to rest, in N steps of dt = 1/50 with |a| <= 5: N² - (N odd) >= 4 / (5 dt²) = 2000, N >= 45,
    # and the more time the less energy.
    arguments = ("solve", "--env", "hrl/BoundedDoubleIntegrator-v0", "--run-dir", tmp_path)
    enough = hrl(*arguments, "--horizon", "44-47")
    assert "47 steps (the best of 44 to 47" in enough.out
    short = hrl(*arguments, "--horizon", "42-44")
    assert short.code == 1
    assert "INFEASIBLE" in short.out
    assert "no bound" in short.out


def test_pictures_have_a_panel_with_its_unit_for_each_quantity_and_lines_that_dashes_tell_apart():
    optimum = solve_control_env("Pendulum-v1", state="1.0,0.5", horizon=20, points=9)
    pictures = control_pictures(optimum)
    panels = [axes for axes in pictures["path.png"].axes if axes.axison]
    assert [axes.get_ylabel().replace("\n", " ") for axes in panels] == [
        "angle (rad)",
        "∂V/∂ angle (per rad)",
        "angular velocity (rad/s)",
        "∂V/∂ angular velocity (per rad/s)",
        "torque (N m)",
    ]
    for axes in (*panels, pictures["phase.png"].axes[0]):
        styles = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
        assert len(set(styles)) == len(styles) > 1


def test_angles_are_drawn_up_to_the_border_where_they_wrap():
    optimum = solve_control_env("Pendulum-v1", state="3.0,6.0", horizon=10, points=9, route="bellman")
    line = control_pictures(optimum)["phase.png"].axes[0].lines[0]
    angles, breaks = line.get_xdata(), np.flatnonzero(np.isnan(line.get_xdata()))
    assert len(breaks) == 1
    assert angles[breaks[0] - 1] > np.pi  # beyond the right border, and from before the left one
    assert angles[breaks[0] + 1] < -np.pi
    np.testing.assert_allclose(angles[breaks[0] - 1] - angles[breaks[0] + 2], 2 * np.pi, rtol=1e-12)


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
