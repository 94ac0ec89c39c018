"""`hrl solve` says what no agent can pass, draws it, and keeps it."""

import json

import gymnasium as gym
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solving import _directions, solve_env, threshold_sentence


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
    assert drawing[3].startswith("↑")


def test_unreachable_threshold_is_called_that():
    optimum = solve_env("FrozenLake-v1", env_settings={"map_name": "8x8"})
    assert threshold_sentence(optimum) == "0.7 is above the optimum 0.6407: no agent can reach it"
    assert "can be reached" in threshold_sentence(solve_env("FrozenLake-v1"))
    assert "discount 0.9" in threshold_sentence(solve_env("FrozenLake-v1", discount=0.9))


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


def test_solve_names_its_methods_when_one_is_unknown(hrl, tmp_path):
    outcome = hrl("solve", "--env", "FrozenLake-v1", "--method", "magic", "--run-dir", tmp_path)
    assert outcome.code == 2
    assert "Known: backward-induction, costate-sweep" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--env", "CartPole-v1"], "CartPole-v1 has no table `P`"),
        (["--env", "FrozenLak-v1"], 'Did you mean "FrozenLake'),
        (["--env", "FrozenLake-v1", "--horizon", "0"], '--horizon is "0"; expected auto, none, or a number of steps'),
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
