"""Free horizons against minimum times in closed form and a trade-off that is searched by brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.double_integrator import DoubleIntegrator
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathStatus, solve_costate, solve_free_horizon

Made = Callable[..., ControlProblem]


class Hurried(DoubleIntegrator):
    """Bring a point to rest at the origin; each second costs ``haste`` beside the energy ``weight a² / 2``."""

    def __init__(self, haste: float, weight: float, action_bound: float = np.inf) -> None:
        super().__init__(horizon=10, duration=1.0, action_bound=action_bound)
        self.haste, self.weight = haste, weight

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return -self.time_step * (self.haste + 0.5 * self.weight * action[..., 0] ** 2)


@pytest.mark.parametrize("weight", [1e-2, 0.0])
def test_from_rest_to_rest_takes_as_many_steps_as_bang_bang_needs(backend: str, weight: float) -> None:
    """In N steps of dt, ``|a| <= b`` carries from rest to rest by ``⌊N² / 4⌋ b dt²``: full ahead, then full astern."""
    bound, places = 2.0, np.array([-0.05, -0.2, 0.31])
    asked = Hurried(haste=1.0, weight=weight, action_bound=bound)
    fewest = [min(n for n in range(1, 99) if n**2 // 4 * bound * 0.01 >= abs(place)) for place in places]
    states = np.stack([places, np.zeros(3)], 1)
    found = solve_free_horizon(asked, states, range(2, 11), backend=backend, tol=1e-7)
    assert found.horizon.tolist() == fewest == [4, 7, 8]
    for state, least in enumerate(fewest):
        for path in found.paths:
            assert path.problem.horizon is not None
            feasible = path.status[state] is not PathStatus.INFEASIBLE
            assert feasible == (path.problem.horizon >= least)
            assert (path.violation[state] <= 1e-7) == feasible
        best = found.trajectory(state)
        assert best.actions.shape == (1, least, 1)
        assert np.abs(best.actions).max() <= bound
        assert np.abs(best.states[0, -1]).max() <= 1e-7
    if weight == 0.0:
        np.testing.assert_allclose(found.value, -0.1 * np.array(fewest), rtol=1e-12)


def test_time_is_bought_with_energy_as_brute_force_over_the_closed_form_says() -> None:
    """The least energy of N steps of dt is ``6 x² / ((N dt)³ (1 - 1 / N²))`` of ``½ ∫ a²``."""
    places, numbers = np.array([-0.1, 0.5, -1.0, 2.0]), np.arange(2, 41)
    asked = Hurried(haste=3.0, weight=1.0)
    costs = 3.0 * 0.1 * numbers[:, None] + 6.0 * places**2 / ((0.1 * numbers) ** 3 * (1 - 1 / numbers**2))[:, None]
    found = solve_free_horizon(asked, np.stack([places, np.zeros(4)], 1), numbers.tolist())
    best = costs.argmin(0)
    assert found.horizon.tolist() == numbers[best].tolist()
    assert len(set(best)) == 4
    np.testing.assert_allclose(found.value, -costs.min(0), rtol=1e-7)
    assert found.status == [PathStatus.LOCAL_OPTIMUM] * 4


def test_each_horizon_is_solved_as_it_is_alone(backend: str) -> None:
    asked, state = Hurried(haste=3.0, weight=1.0), np.array([-1.0, 0.3])
    found = solve_free_horizon(asked, state, [9, 5, 9], backend=backend)
    assert [path.problem.horizon for path in found.paths] == [5, 9]
    alone = solve_costate(asked, state, horizon=9, backend=backend)
    np.testing.assert_array_equal(found.paths[1].trajectory.actions, alone.trajectory.actions)
    assert asked.horizon == 10


def test_where_no_horizon_suffices_the_nearest_is_infeasible(backend: str) -> None:
    asked = Hurried(haste=1.0, weight=1.0, action_bound=1.0)
    found = solve_free_horizon(asked, np.array([[-5.0, 0.0], [0.0, 0.0]]), range(2, 5), backend=backend)
    assert found.status == [PathStatus.INFEASIBLE, PathStatus.LOCAL_OPTIMUM]
    assert found.horizon.tolist() == [4, 2]


def test_of_horizons_that_are_worth_the_same_the_shortest_is_taken(backend: str, made: Made) -> None:
    """The first step decides; every further one is worth nothing."""
    asked = made(lambda s, a, k: 0.0 * s, lambda s, a, k: -((s - 1.0) ** 2)[..., 0] + 1.0 - a[..., 0] ** 2)
    assert solve_free_horizon(asked, np.array([0.5]), range(1, 5), backend=backend).horizon.tolist() == [1]


def test_no_horizons_are_refused() -> None:
    with pytest.raises(UsageError, match="horizons is empty"):
        solve_free_horizon(Hurried(1.0, 1.0), np.zeros(2), range(3, 3))
    with pytest.raises(UsageError, match="horizon = -1"):
        solve_free_horizon(Hurried(1.0, 1.0), np.zeros(2), range(-1, 3))
