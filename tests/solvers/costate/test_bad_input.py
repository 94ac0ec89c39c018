"""Whatever is asked wrongly is refused in a sentence that names it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import OWN, PROBLEMS
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.costate.problem_check import tell_jumps

Made = Callable[..., ControlProblem]


def _stay(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
    return s + 0.0 * a


def _cost(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
    return -(a[..., 0] ** 2)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"dynamics": lambda s, a, k: (s + a).float()}, "dynamics returned torch.float32"),
        ({"dynamics": lambda s, a, k: torch.cat([s, s], -1)}, r"dynamics returned \(2, 2\)"),
        ({"dynamics": lambda s, a, k: s[0]}, "dynamics returned"),
        ({"dynamics": lambda s, a, k: None}, "dynamics returned NoneType"),
        ({"dynamics": lambda s, a, k: s + a.repeat(1, 3)}, "dynamics returned"),
        ({"dynamics": lambda s, a, k: s + torch.ones(3, 4)}, "dynamics fails for 2 states at step 0"),
        ({"dynamics": lambda s, a, k: {}["mass"]}, "KeyError"),
        ({"reward": lambda s, a, k: 1.0}, "reward returned float"),
        ({"reward": lambda s, a, k: -(a**2)}, r"reward returned \(2, 1\)"),
        ({"reward": lambda s, a, k: a[..., 0] > 0}, "reward returned torch.bool"),
        ({"reward": lambda s, a, k: 1 / 0}, "ZeroDivisionError"),
        ({"reward": lambda s, a, k: a[..., 0] * [1.0, 2.0][k]}, "reward fails for 2 states at step 3"),
        ({"end": lambda s: 0.0}, "terminal_reward returned float"),
        ({"end": lambda s: s}, "terminal_reward returned"),
        ({"constraints": lambda s, a, k: 1.0}, "constraints returned float"),
        ({"constraints": lambda s, a, k: a[..., 0]}, r"constraints returned \(2,\)"),
        ({"constraints": lambda s, a, k: (a - 1.0).float()}, "constraints returned torch.float32"),
        ({"terminal_constraints": lambda s: s[..., 0]}, "terminal_constraints returned"),
        ({"terminal_constraints": lambda s: [0.0]}, "terminal_constraints returned list"),
    ],
)
def test_functions_that_return_the_wrong_thing_are_named(
    made: Made, backend: str, functions: dict[str, Any], message: str
) -> None:
    asked = made(**{"dynamics": _stay, "reward": _cost, "horizon": 4, **functions})
    with pytest.raises(UsageError, match=message):
        solve_costate(asked, np.zeros((2, 1)), backend=backend)


def _written(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
    s += a
    return s


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"dynamics": lambda s, a, k: s + a + 0j}, "dynamics returned torch.complex128"),
        ({"dynamics": lambda s, a, k: (s + a).long()}, "dynamics returned torch.int64"),
        ({"dynamics": _written}, "dynamics writes into a tensor that it is given"),
        ({"dynamics": lambda s, a, k: s + a - s.mean(0)}, "same state when others are beside it"),
        ({"dynamics": lambda s, a, k: torch.zeros(1, 1).double() + a[:1]}, r"dynamics returned \(1, 1\) for 2 states"),
        ({"reward": lambda s, a, k: a[..., 0].mean().expand(len(a))}, "same state when others are beside it"),
        ({"dynamics": lambda s, a, k: s + a + torch.randn(()).double()}, "depends on chance"),
        ({"reward": lambda s, a, k: a[..., 0] * np.random.default_rng().normal()}, "leaves torch|does not record"),
        ({"discount": float("nan")}, "discount = nan"),
        ({"discount": -0.5}, "discount = -0.5"),
        ({"discount": "high"}, "discount = 'high'"),
        ({"horizon": 2.5}, "horizon is 2.5"),
        ({"horizon": -1}, "horizon is -1"),
    ],
)
def test_functions_that_are_not_functions_of_their_arguments_are_named(
    made: Made, backend: str, functions: dict[str, Any], message: str
) -> None:
    asked = made(**{"dynamics": _stay, "reward": _cost, "horizon": 4, **functions})
    states = np.array([[0.5]])
    with pytest.raises(UsageError, match=message):
        solve_costate(asked, states, backend=backend)
    assert states.tolist() == [[0.5]]


@pytest.mark.parametrize(
    "functions",
    [
        {"dynamics": lambda s, a, k: s + a.detach()},
        {"dynamics": lambda s, a, k: torch.as_tensor(s.detach().numpy()) + a},
        {"reward": lambda s, a, k: torch.stack([-(x**2) * float(x) for x in a[..., 0]])},
        {"end": lambda s: -(s.detach()[..., 0] ** 2)},
        {"terminal_constraints": lambda s: s.detach() - 1.0},
    ],
)
def test_what_leaves_torch_on_the_way_is_not_differentiated_in_silence(made: Made, functions: dict[str, Any]) -> None:
    asked = made(**{"dynamics": lambda s, a, k: s + a, "reward": _cost, "horizon": 2, **functions})
    with pytest.warns(UserWarning, match="Solved in torch instead"), pytest.raises(UsageError, match="leaves torch"):
        solve_costate(asked, np.array([0.5]))


def test_slopes_are_not_taken_for_wrong_at_kinks_jumps_or_in_large_numbers(made: Made) -> None:
    for scale in (1e-150, 1.0, 1e150):
        kinked = made(
            lambda s, a, k: (s + a).clamp(-2.0, 2.0),
            lambda s, a, k, scale=scale: -scale * (a[..., 0].abs() + s[..., 0] ** 2 + (s[..., 0] > 0.5) * 1.0),
            horizon=2,
        )
        for start in (0.0, 0.5, 2.0, 1e6):
            assert len(solve_costate(kinked, np.array([start]), backend="torch").status) == 1


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (0.0, "shape"),
        (None, "shape"),
        ([[0.0, 1.0], [np.nan, 0.0]], "Initial state 1 is"),
        ([np.inf, 0.0], "finite"),
        ("hanging", "array of numbers"),
        ([[1, 2], [1]], "array of numbers"),
    ],
)
def test_initial_states_that_do_not_fit_are_named(states: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solve_costate(problem("Pendulum-v1"), states, horizon=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_actions": np.zeros((4, 1))}, r"shape \(4, 1\); expected \(3, 1\) or \(2, 3, 1\)"),
        ({"initial_actions": np.zeros((1, 3, 1))}, "expected"),
        ({"initial_actions": np.full((3, 1), np.nan)}, "not all finite"),
        ({"initial_actions": "push"}, "array of numbers"),
        ({"initial_actions": lambda states, step: states}, r"actions of step 0 have shape \(2, 2\)"),
        ({"initial_actions": lambda states, step: 0.0}, "actions of step 0"),
        ({"initial_actions": lambda states, step: "left"}, "array of numbers"),
        ({"starts": []}, "starts is empty"),
        ({"starts": 3}, "starts is a int"),
        ({"starts": [np.zeros((3, 1)), np.zeros((4, 1))]}, r"shape \(4, 1\)"),
        ({"starts": [np.zeros((3, 1))], "initial_actions": np.zeros((3, 1))}, "both given"),
        ({"backend": "tensorflow"}, 'backend = "tensorflow"; expected one of auto, compiled, torch'),
        ({"device": "abacus"}, "device = 'abacus'"),
        ({"device": "meta", "backend": "compiled"}, "compiled back end runs on the CPU"),
        ({"horizon": -1}, "horizon = -1"),
        ({"horizon": 2.0}, "horizon = 2.0"),
        ({"horizon": True}, "horizon = True"),
        ({"tol": 0.0}, "tol = 0.0"),
        ({"tol": float("nan")}, "tol = nan"),
        ({"tol": float("inf")}, "tol = inf"),
        ({"tol": "small"}, "tol = 'small'"),
        ({"max_iterations": 0}, "max_iterations = 0"),
        ({"max_iterations": 1.5}, "max_iterations = 1.5"),
        ({"threads": 0}, "threads = 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solve_costate(problem("Pendulum-v1"), np.zeros((2, 2)), **{"horizon": 3, **options})


def test_discrete_actions_are_referred_to_grids() -> None:
    with pytest.raises(UsageError, match="needs a Box"):
        solve_costate(problem("CartPole-v1"), np.zeros(4))


def test_what_is_no_problem_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a ControlProblem"):
        solve_costate("Pendulum-v1", np.zeros(2))  # type: ignore[arg-type]


def test_a_problem_without_horizon_or_discount_asks_for_one() -> None:
    with pytest.raises(UsageError, match="for ever, which is infinite"):
        solve_costate(problem("hrl/BrockMirman-v0", discount=1.0), np.array([0.1]))


@pytest.mark.parametrize("shape", [(), (2, 2), (0,)])
def test_actions_of_several_dimensions_are_refused(made: Made, shape: tuple[int, ...]) -> None:
    asked = made(_stay, _cost)
    asked.action_space = gym.spaces.Box(-1.0, 1.0, shape, np.float64)
    with pytest.raises(UsageError, match="action space has the shape"):
        solve_costate(asked, np.array([0.0]))


def test_what_cannot_be_compiled_is_refused_where_machine_code_was_asked_for(made: Made) -> None:
    asked = made(lambda s, a, k: s + torch.erf(a), _cost)
    with pytest.raises(UsageError, match=r"erf has no expression.*backend='torch'"):
        solve_costate(asked, np.array([0.0]), backend="compiled")


JUMPS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "round": (lambda s, a, k: s + a, lambda s, a, k: -(torch.round(s)[..., 0] ** 2) - a[..., 0] ** 2),
    "floor": (lambda s, a, k: s + a + 0.1 * torch.floor(3.0 * s), lambda s, a, k: -(s[..., 0] ** 2) - a[..., 0] ** 2),
    "sign": (lambda s, a, k: s + a, lambda s, a, k: -torch.sign(s)[..., 0] - a[..., 0] ** 2),
    "comparison": (lambda s, a, k: s + a, lambda s, a, k: 5.0 * (s[..., 0] > 0.4) - a[..., 0] ** 2),
}


@pytest.mark.parametrize("case", JUMPS)
def test_functions_that_jump_are_named_once(backend: str, made: Made, case: str) -> None:
    jumping = made(*JUMPS[case], horizon=3)
    if case == "round" and backend == "compiled":
        backend = "auto"  # which has no expression for it
    with pytest.warns(UserWarning, match=f"the {'dynamics' if case == 'floor' else 'reward'} jumps near the state"):
        solve_costate(jumping, np.array([0.2]), backend=backend)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        solve_costate(jumping, np.array([0.2]), backend=backend)
    assert not [warning for warning in told if "jumps" in str(warning.message)]


SMOOTH: dict[str, Callable[..., Any]] = {
    "kink": lambda s, a, k: -s[..., 0].abs() - a[..., 0] ** 2,
    "clamp": lambda s, a, k: -(s[..., 0].clamp(-0.1, 0.15) ** 2) - a[..., 0] ** 2,
    "wrapped angle": lambda s, a, k: -((((s[..., 0] + math.pi) % (2 * math.pi)) - math.pi) ** 2) - a[..., 0] ** 2,
    "cubic": lambda s, a, k: (s[..., 0] - 0.2) ** 3 - a[..., 0] ** 2,
    "steep": lambda s, a, k: torch.tanh(50.0 * s[..., 0]) - a[..., 0] ** 2,
}


@pytest.mark.parametrize("case", SMOOTH)
@pytest.mark.parametrize("start", [0.2, 2.9])
def test_kinks_bends_and_steep_places_are_no_jumps(made: Made, case: str, start: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_jumps(made(lambda s, a, k: s + a, SMOOTH[case]), np.array([[start]]))


@pytest.mark.parametrize("env_id", ["Pendulum-v1", *(env_id for env_id in PROBLEMS if env_id.startswith(OWN))])
def test_the_registered_problems_with_slopes_do_not_jump(env_id: str) -> None:
    some = problem(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_jumps(some, some.initial_states(3, np.random.default_rng(0)))
