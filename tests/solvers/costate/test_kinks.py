"""At kinks no path is called a local optimum that is none, by a dense search around it; and smooth maxima still are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, PathStatus, solve_costate
from hamiltonian_rl.solvers.costate.kinks import Kinks

Made = Callable[..., ControlProblem]
Function = Callable[..., torch.Tensor]
LOCAL, STATIONARY = PathStatus.LOCAL_OPTIMUM, PathStatus.STATIONARY


class Bent(ControlProblem):
    """``s' = s + a``, ``r = g(s, a; p, q, w) - w a²``: the weights lie in the state, so that all share a kernel."""

    state_space = gym.spaces.Box(-9.0, 9.0, (4,), np.float64)
    discount = 0.9

    def __init__(self, bend: Function, bound: float, horizon: int) -> None:
        self.bend, self.horizon = bend, horizon
        self.action_space = gym.spaces.Box(-bound, bound, (1,), np.float64)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return torch.cat([state[..., :1] + action, state[..., 1:]], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        s, p, q, w = state.unbind(-1)
        return self.bend(s, action[..., 0], p, q) - w * action[..., 0] ** 2

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        s, p, q, w = state.unbind(-1)
        return self.bend(s, torch.zeros_like(s), p, q) - 0.1 * w * s**2


BENDS: dict[str, Function] = {
    "abs": lambda s, a, p, q: p * s.abs() + q * a.abs(),
    "hinge": lambda s, a, p, q: p * s.clamp(min=0.0) + q * (a - s).relu(),
    "square of a hinge": lambda s, a, p, q: p * s.relu() ** 2 + q * (s - a).clamp(max=0.0) ** 2,
    "larger of two": lambda s, a, p, q: p * torch.maximum(s, q * s - a) - s**2,
    "clamp": lambda s, a, p, q: p * (s + q * a).clamp(-0.5, 0.5) + q * (s - 0.5).relu() ** 2,
    "jump": lambda s, a, p, q: p * torch.where(s > 0.0, 1.0, 0.0) - (s - q) ** 2,
    "root of a square": lambda s, a, p, q: p * (s**2 + (a - q) ** 2).sqrt(),
    "power": lambda s, a, p, q: p * s.abs() ** 1.5 + q * a.abs() ** 2.5,
}


def _rises(solution: PathSolution, which: np.ndarray) -> np.ndarray:
    """Whether one of 600 points within 1e-6 of the actions returns more, by more than rounding."""
    asked, generator = solution.problem, np.random.default_rng(1)
    space: Any = asked.action_space
    actions = solution.trajectory.actions[which]
    ways = generator.normal(size=(300, *actions.shape[1:]))
    ways[::2] *= generator.random(ways[::2].shape) < 0.4  # along some of the actions alone
    ways = np.concatenate([1e-6 * ways, 1e-7 * ways]) / np.abs(ways).max((1, 2)).max()
    rises = np.zeros(len(which), bool)
    start = np.repeat(solution.trajectory.states[which][:, :1], actions.shape[1] + 1, 1)

    def earned(actions: np.ndarray) -> np.ndarray:
        states, total, horizon = start.copy(), np.zeros(len(which)), actions.shape[1]
        for k in range(horizon):
            s, a = torch.as_tensor(states[:, k]), torch.as_tensor(actions[:, k])
            total += asked.discount**k * asked.reward(s, a, k).numpy()
            states[:, k + 1] = asked.dynamics(s, a, k).numpy()
        end = asked.terminal_reward(torch.as_tensor(states[:, -1])).numpy()
        return np.asarray(total + asked.discount**horizon * end)

    here = earned(actions)
    for way in ways:
        rises |= earned(np.clip(actions + way, space.low, space.high)) > here + 2e-14 * (1.0 + np.abs(here))
    return rises


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize(("bound", "horizon"), [(np.inf, 2), (1.0, 3)])
def test_no_optimum_is_claimed_beside_a_kink_where_a_dense_search_rises(
    bend: str, bound: float, horizon: int, backend: str
) -> None:
    asked, generator = Bent(BENDS[bend], bound, horizon), np.random.default_rng(1)
    count = 128 if backend == "compiled" else 12  # torch takes a hundred times as long
    p, q = generator.normal(size=(2, count)).round(1)
    s, w = generator.choice([-0.5, 0.0, 0.0, 0.0, 0.5], count), generator.choice([0.5, 1.0, 3.0], count)
    states, claims = np.stack([s, p, q, w], -1), 0
    for start in (0.0, 0.25):
        first = np.full((horizon, 1), start)
        solution = solve_costate(asked, states, starts=[first], max_iterations=60, backend=backend)
        claimed = np.flatnonzero(solution.converged)
        wrong = claimed[_rises(solution, claimed)]
        assert not len(wrong), (states[wrong[:3]], solution.trajectory.actions[wrong[:3], :, 0])
        assert np.isfinite(solution.certificate.stationarity[claimed]).all()
        claims += len(claimed)
    assert claims >= count // 4


@pytest.mark.parametrize(
    "kink",
    [lambda s: s.abs(), lambda s: torch.maximum(s, -0.5 * s), lambda s: 3.0 * s.relu() ** 2, lambda s: 2.0 * s.relu()],
)
def test_a_kink_beside_an_action_that_converges_is_no_optimum(kink: Function, backend: str, made: Made) -> None:
    """At s = 0 the return rises to one side or both; the other action ends where its slope is rounding, not zero."""
    asked = made(
        lambda s, a, k: torch.stack([s[..., 0] + a[..., 0], s[..., 1]], -1),
        lambda s, a, k: kink(s[..., 0]) - a[..., 0] ** 2 + (a[..., 1] - 0.1) - 3.0 * (a[..., 1] - 0.1).exp(),
        n=2, m=2, horizon=3,
    )  # fmt: skip
    solution = solve_costate(asked, np.zeros(2), backend=backend)
    assert solution.value[0] > -8.0 or not solution.converged[0]  # -6.3 of the second action alone, 3 (-1 - ln 3)


def test_a_slope_that_is_infinite_at_a_kink_is_no_optimum(backend: str, made: Made) -> None:
    """Of ``-√|s|`` torch's slope at 0 is NaN, by infinity times the sign of zero."""
    root = made(lambda s, a, k: s + a, lambda s, a, k: -(s[..., 0].abs().sqrt()) - a[..., 0] ** 2, horizon=3)
    assert not solve_costate(root, np.zeros(1), backend=backend).converged[0]


def test_the_top_of_a_roof_is_stationary_and_beside_it_a_smooth_maximum_is_an_optimum(backend: str, made: Made) -> None:
    roof = made(lambda s, a, k: s + a, lambda s, a, k: -s[..., 0].abs() - a[..., 0] ** 2, horizon=3)
    assert solve_costate(roof, np.zeros(1), backend=backend).status == [STATIONARY]
    # The best a of -(a - 1e-3)² lies a thousandth from the kink of min(a, 0).
    near = made(lambda s, a, k: s, lambda s, a, k: a[..., 0].clamp(max=0.0) - (a[..., 0] - 1e-3) ** 2)
    solution = solve_costate(near, np.zeros(1), backend=backend)
    assert solution.status == [LOCAL]
    assert solution.curvature[0] == pytest.approx(2.0, rel=1e-12)


def test_where_pieces_of_a_maximum_meet_the_curvature_is_that_of_the_flattest(backend: str, made: Made) -> None:
    """``-3 s²`` below 0 and ``-s²`` above: a strict maximum at 0, on both sides."""
    pieces = made(
        lambda s, a, k: s + a, lambda s, a, k: 0.0 * s[..., 0], end=lambda s: (-(s**2) - 2.0 * (-s).relu() ** 2)[..., 0]
    )
    for start in (-0.5, 0.0, 0.5):
        solution = solve_costate(pieces, np.zeros(1), starts=[np.full((1, 1), start)], backend=backend)
        assert solution.status == [LOCAL]
        assert solution.curvature[0] == pytest.approx(2.0, rel=1e-6)


AT_A_BOUND: dict[str, tuple[Function, PathStatus]] = {
    "a strict maximum": (lambda a, b: -(a**2) - b**2, LOCAL),
    "a saddle": (lambda a, b: -(a**2) - b**2 + 3.0 * a * b, STATIONARY),
    "a maximum, by the cone alone": (lambda a, b: -(a**2) - b**2 - 3.0 * a * b, STATIONARY),
    "flat": (lambda a, b: -(a**4) - b**2, STATIONARY),
    "falling inside": (lambda a, b: -(a**3) - b**2, STATIONARY),
    "rising inside": (lambda a, b: a**3 - b**2, STATIONARY),
    "another free": (lambda a, b: -(a**2) - (b - 0.5) ** 2 + 0.5 * a * (b - 0.5), LOCAL),
    "another free, a saddle": (lambda a, b: -(a**2) - (b - 0.5) ** 2 + 3.0 * a * (b - 0.5), STATIONARY),
    "another pressed": (lambda a, b: -(a**2) - b, LOCAL),
}


@pytest.mark.parametrize("name", AT_A_BOUND)
def test_an_action_that_nothing_presses_at_its_bound_is_told_by_its_curvature_inside(
    name: str, backend: str, made: Made
) -> None:
    """Actions within [0, 1], from where the slope of the first is zero: a negative definite Hessian is enough."""
    reward, status = AT_A_BOUND[name]
    asked = made(lambda s, a, k: s, lambda s, a, k: reward(a[..., 0], a[..., 1]), low=0.0, high=1.0, m=2)
    first = np.array([[0.0, 0.5 if "free" in name else 0.0]])
    solution = solve_costate(asked, np.zeros(1), starts=[first], barrier=False, backend=backend)
    np.testing.assert_allclose(solution.trajectory.actions[0], first, atol=1e-12)
    assert solution.status == [status]


def test_kinks_are_the_zeros_that_a_problem_has() -> None:
    """The smooth car's speed limits and its end's hinge, and that a quadrotor has none."""
    assert Kinks(problem("hrl/Quadrotor-v0")).step == []
    car = Kinks(problem("hrl/SmoothMountainCar-v0"))
    assert (len(car.step), len(car.end)) == (2, 1)
