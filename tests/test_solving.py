"""`hrl solve` says what no agent can pass, draws it, and keeps it."""

import json
import re
import tomllib
from decimal import Decimal

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hamiltonian_rl import solve_command
from hamiltonian_rl.advice import in_options
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import METHODS
from hamiltonian_rl.solving import _directions, certified, rounded_up, solve_env, threshold_sentence


@pytest.mark.parametrize(
    ("env_id", "shape", "meaning"),
    [  # as the environments' own documentation numbers the actions
        ("FrozenLake-v1", (4, 4), {0: "←", 1: "↓", 2: "→", 3: "↑"}),
        ("CliffWalking-v1", (4, 12), {0: "↑", 1: "→", 2: "↓", 3: "←"}),
    ],
)
def test_arrows_are_the_directions_that_gymnasium_documents(env_id, shape, meaning):
    assert _directions(MDP.from_gymnasium(env_id), shape) == meaning


def test_arrows_lead_along_the_cliff():
    drawing = solve_env("CliffWalking-v1", discount=0.9).drawing().split("\n")
    assert drawing[2] == " ".join("→" * 11 + "↓")  # the row above the cliff, to its end and down
    assert drawing[3] == "↑" + " ·" * 11  # from the start up; nobody acts on the cliff, nor at the goal


@settings(max_examples=200)
@example(-1.1e-110, 1.0)
@given(*(st.floats(low, high).filter(lambda x: not 0 < abs(x) < 1e-290) for low, high in ((-1e9, 1e9), (0, 1))))
def test_printed_bounds_contain_those_that_are_certified(lower, width):
    """What rounding to digits takes away is part of the distance that is printed."""
    upper = lower + width
    middle, distance = (Decimal(text) for text in certified(lower, upper).split(" ± "))
    assert middle - distance <= Decimal(lower) <= Decimal(upper) <= middle + distance
    assert distance <= Decimal("1.11") * (Decimal(width) / 2 + abs(middle) * Decimal("5e-12"))  # and not much more
    assert Decimal(rounded_up(width)) >= Decimal(width)


def test_states_in_which_nobody_acts_are_drawn_without_a_value():
    """CliffWalking's table lets one act on the cliff and at the goal, Taxi's after the ride; holes are worth 0."""
    shown = solve_env("CliffWalking-v1").shown_value
    assert np.flatnonzero(np.isnan(shown)).tolist() == list(range(37, 48))
    assert np.isfinite(solve_env("Taxi-v4").shown_value).sum() == 400
    assert solve_env("FrozenLake-v1").shown_value[[5, 7, 11, 12, 15]].tolist() == [0.0] * 5


def test_unreachable_threshold_is_called_that():
    optimum = solve_env("FrozenLake-v1", env_settings={"map_name": "8x8"})
    assert threshold_sentence(optimum) == "0.7 is above the optimum 0.6407: no agent can reach it"
    assert "can be reached" in threshold_sentence(solve_env("FrozenLake-v1"))
    assert "discount 0.9" in threshold_sentence(solve_env("FrozenLake-v1", discount=0.9))


@pytest.mark.parametrize(("horizon", "words"), [(None, "this optimum has no limit"), (1, "at most 1 step")])
def test_threshold_is_not_judged_by_the_optimum_of_another_time_limit(horizon, words):
    """Without a limit 8x8 can be crossed with more than 0.7, though in Gymnasium's 100 steps it cannot."""
    optimum = solve_env("FrozenLake-v1", env_settings={"map_name": "8x8"}, horizon=horizon)
    assert (sentence := threshold_sentence(optimum)).endswith(words)
    assert "0.7, of episodes with at most 100 steps" in sentence
    assert "reach" not in sentence


def test_following_the_drawn_policy_earns_the_optimum():
    """Play the policy of each step: the mean return lies within three standard errors of the computed one."""
    optimum = solve_env("FrozenLake-v1")
    env = gym.make("FrozenLake-v1")
    returns = []
    for episode in range(600):
        state, _ = env.reset(seed=episode)
        total, over, step = 0.0, False, 0
        while not over:
            state, reward, terminated, truncated, _ = env.step(int(optimum.solution.policy[step, state]))
            total, over, step = total + reward, terminated or truncated, step + 1
        returns.append(total)
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - optimum.start_bounds[1]) < 3 * error


def test_solve_prints_the_optimum_and_keeps_it(hrl, tmp_path):
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--env-set", "map_name=8x8", "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    for text in ("0.640719", "backward induction", "no agent can reach it", "tensorboard --logdir", "← H H ↓"):
        assert text in " ".join(outcome.out.replace("│", "").split()), text
    (folder,) = tmp_path.glob("FrozenLake-v1/optimum/0-*")
    result = json.loads((folder / "result.json").read_text())
    assert result["return_lower"] <= result["return"] <= result["return_upper"]
    assert result["return"] == pytest.approx(0.640719, abs=5e-7)
    with np.load(folder / "optimum.npz") as tables:
        assert tables["policy"].shape == (100, 64)
    assert (folder / "value.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert events.Scalars("optimality/return")[0].value == pytest.approx(0.640719, abs=1e-6)
    assert len(events.Images("optimality/value")) == 1


def test_train_shows_the_optimum_beside_what_was_learnt(hrl, tmp_path):
    short = ("--steps", "1000", "--set", "exploration_steps=0", "--run-dir", tmp_path)
    assert "Best possible, computed" in (out := hrl("train", "--env", "CliffWalking-v1", *short).out)
    assert "-13.0000" in out
    assert "Best possible" not in hrl("train", "--env", "CartPole-v1", "--steps", "200", "--run-dir", tmp_path).out


def test_solve_of_states_that_are_no_map_has_a_curve_instead(hrl, tmp_path):
    outcome = hrl("solve", "--env", "Taxi-v4", "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "7.930000" in outcome.out
    assert "Optimal policy" not in outcome.out
    assert len(list(tmp_path.glob("Taxi-v4/optimum/0-*/value.png"))) == 1


def test_bounds_that_stay_apart_fail_the_command_in_a_sentence(hrl, tmp_path):
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--tol", "1e-300", "--run-dir", tmp_path)
    assert outcome.code == 1
    assert "Not converged" in outcome.out


def test_help_of_solve_names_every_method(hrl):
    words = hrl("solve", "--help").out.replace(",", " ").replace(".", " ").split()
    assert set(METHODS) <= set(words)


@pytest.mark.parametrize("method", ["auto", "gauss-seidel", "linear-program"])
def test_kept_method_is_one_that_solve_takes(hrl, tmp_path, method):
    limit = ("--horizon", "none", "--discount", "0.9", "--run-dir", tmp_path)
    assert hrl("solve", "--env", "FrozenLake-v1", "--method", method, *limit).code == 0
    (config,) = tmp_path.glob("FrozenLake-v1/optimum/0-*/config.toml")
    kept = tomllib.loads(config.read_text())["method"]
    assert kept in METHODS
    assert method in ("auto", kept)


def test_solve_names_its_methods_when_one_is_unknown(hrl, tmp_path):
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--method", "magic", "--run-dir", tmp_path)
    assert outcome.code == 2
    assert "Known: average-reward, backward-induction, costate-sweep" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--env", "Blackjack-v1"], "Blackjack-v1 has no table `P`"),
        (["--env", "FrozenLak-v1"], 'Did you mean "FrozenLake'),
        (["--env", "FrozenLake-v1", "--horizon", "0"], '--horizon is "0"; expected auto, none, a number of steps'),
        (["--env", "FrozenLake-v1", "--discount", "1.5"], "discount = 1.5; expected a number from 0 to 1"),
        (["--env", "FrozenLake-v1", "--tol", "0"], "tol = 0.0; expected a number above 0"),
        (["--env", "FrozenLake-v1", "--method", "value-iteration"], "ends after 100 steps"),
        (["--env", "FrozenLake-v1", "--env-set", "map_name=9x9"], "could not be made with"),
    ],
)
def test_a_wrong_call_of_solve_exits_with_2_and_one_clear_sentence(arguments, sentence, hrl, tmp_path):
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


# Words of Python that `hrl solve` has no use for: names of methods and arguments, and calls.
PYTHON = re.compile(r"mdp\.|MDP\.|[a-z]_[a-z]|(?<!-)\btol\b|\bNone\b|[Ll]ower the discount|another method")


@pytest.mark.parametrize("status", Status)
def test_status_names_the_options_of_the_command_line(status):
    assert not PYTHON.search(in_options(status.value))


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--method", "value-iteration"], "--horizon none"),
        (["--method", "value-iteration", "--horizon", "none"], "--discount 0.999"),
        (["--method", "undiscounted", "--horizon", "none", "--discount", "0.9"], "--method modified-policy-iteration"),
        (["--method", "backward-induction", "--horizon", "none"], "--method value-iteration"),
        (["--method", "work-list", "--horizon", "none", "--discount", "0.9"], "--method modified-policy-iteration"),
        (["--method", "average-reward", "--horizon", "5"], "--horizon none"),
        (["--method", "average-reward", "--discount", "0.9"], "--discount = 0.9; a mean reward"),
        (["--horizon", "1000000000000"], "--horizon = 1000000000000; expected"),
        (["--horizon", "2000000000"], "--horizon none"),
        (["--tol", "-1"], "--tol = -1.0; expected"),
        (["--discount", "nan"], "--discount = nan; expected"),
    ],
)
def test_advice_of_a_refused_call_names_options(arguments, option, hrl, tmp_path):
    outcome = hrl("solve", "--env", "FrozenLake-v1", *arguments, "--run-dir", tmp_path)
    assert outcome.code == 2
    assert option in outcome.err
    assert not PYTHON.search(outcome.err)


@pytest.fixture
def endless(monkeypatch):
    """Environments whose tables go on for ever."""
    tables = {
        "Gains-v0": {0: {0: [(1.0, 0, 1.0, False)]}},
        "Loses-v0": {0: {0: [(1.0, 0, -1.0, False)]}},
        "Both-v0": {0: {0: [(1.0, 1, 1.0, False)]}, 1: {0: [(1.0, 0, -1.0, False)]}},
        "Circle-v0": {s: {0: [(1.0, (s + 1) % 3, r, False)]} for s, r in enumerate([1.0, 2.0, 6.0])},
    }

    def made(table):
        class Endless(gym.Env):
            P = table
            observation_space, action_space = gym.spaces.Discrete(len(table)), gym.spaces.Discrete(1)

        return Endless

    for env_id, table in tables.items():
        spec = gym.envs.registration.EnvSpec(env_id, entry_point=made(table), disable_env_checker=True)
        monkeypatch.setitem(gym.registry, env_id, spec)


@pytest.mark.parametrize("env_id", ["Gains-v0", "Loses-v0", "Both-v0"])
def test_value_that_is_infinite_or_unknown_is_refused_with_options_that_help(env_id, endless, hrl, tmp_path):
    outcome = hrl("solve", "--env", env_id, "--run-dir", tmp_path)
    assert outcome.code == 2
    assert "--discount 0.999" in outcome.err
    assert "--horizon N" in outcome.err
    assert not PYTHON.search(outcome.err)
    assert hrl("solve", "--env", env_id, "--discount", "0.999", "--run-dir", tmp_path).code == 0
    assert hrl("solve", "--env", env_id, "--horizon", "5", "--run-dir", tmp_path).code == 0


def result_of(folder) -> dict:
    (file,) = folder.glob("*/optimum/0-*/result.json")
    return json.loads(file.read_text())


def test_mean_reward_of_an_endless_environment_is_its_gain(endless, hrl, tmp_path):
    outcome = hrl("solve", "--env", "Circle-v0", "--method", "average-reward", "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert re.search(r"Largest mean reward a step +│ 3\.000000", outcome.out)
    result = result_of(tmp_path)
    assert result["gain_lower"] <= 3.0 <= result["gain_upper"]
    assert result["gain_upper"] - result["gain_lower"] < 1e-7
    assert "return" not in result


def test_mean_reward_of_episodes_is_their_return_over_their_length(hrl, tmp_path):
    """Without slips the way over the lake takes six steps and pays 1; each step at the cliff costs 1."""
    lake = ["--env", "FrozenLake-v1", "--env-set", "is_slippery=false"]
    outcome = hrl("solve", *lake, "--method", "average-reward", "--run-dir", tmp_path / "lake")
    assert outcome.code == 0, outcome.err
    assert result_of(tmp_path / "lake")["gain"] == pytest.approx(1 / 6, abs=1e-8)
    assert (
        hrl("solve", "--env", "CliffWalking-v1", "--method", "average-reward", "--run-dir", tmp_path / "cliff").code
        == 0
    )
    assert result_of(tmp_path / "cliff")["gain"] == pytest.approx(-1.0, abs=1e-8)


def test_printed_method_has_its_reason(hrl, tmp_path):
    auto = hrl("solve", "--env", "FrozenLake-v1", "--run-dir", tmp_path).out
    assert "backward induction, because an episode is cut off after 100 steps" in auto
    named = hrl("solve", "--env", "FrozenLake-v1", "--method", "costate-sweep", "--run-dir", tmp_path).out
    assert "costate sweep, because it was named" in named


def test_folder_that_cannot_be_made_is_told_before_any_work(hrl, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("hamiltonian_rl.solving.solve_env", lambda *a, **k: pytest.fail("it has solved"))
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--run-dir", tmp_path / "file" / "below")
    assert outcome.code == 1
    assert re.search(r"Cannot make the run folder .*--run-dir", outcome.err)


@pytest.mark.parametrize(
    ("calls", "arguments"),
    [
        (5, ["--env", "FrozenLake-v1"]),
        (2, ["--env", "FrozenLake-v1", "--horizon", "none", "--discount", "0.99"]),
        (1, ["--env", "FrozenLake-v1", "--horizon", "none"]),
        (2, ["--env", "FrozenLake-v1", "--method", "average-reward"]),
    ],
)
def test_ctrl_c_prints_the_bounds_that_hold_and_exits_with_130(calls, arguments, hrl, tmp_path, monkeypatch):
    seen = []

    def progress(sweeps, gap):
        seen.append(gap)
        if len(seen) == calls:
            raise KeyboardInterrupt  # as Python does on Ctrl-C

    monkeypatch.setattr(solve_command, "_sweeps", lambda show, what: progress)
    outcome = hrl("solve", *arguments, "--run-dir", tmp_path)
    assert outcome.code == 130
    assert outcome.err == "hrl: interrupted; the bounds above hold.\n"
    assert re.search(r"Certified +│ -?[\d.]", outcome.out)
    assert "nan" not in outcome.out
    assert not PYTHON.search(outcome.out.replace(str(tmp_path), "").split("The run lies")[0])
    assert result_of(tmp_path)["status"] == "interrupted"


def test_ctrl_c_with_nothing_to_show_is_one_sentence_and_leaves_nothing(hrl, tmp_path, monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt  # as Python does on Ctrl-C

    monkeypatch.setattr("hamiltonian_rl.solving.make_env", interrupted)
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--run-dir", tmp_path)
    assert outcome.code == 130
    assert outcome.err == "hrl: interrupted before there was anything to certify; nothing is kept.\n"
    assert not list(tmp_path.iterdir())


def test_version_is_that_of_the_package(hrl):
    import hamiltonian_rl

    outcome = hrl("--version")
    assert outcome.code == 0
    assert outcome.out == f"hrl {hamiltonian_rl.__version__}\n"
