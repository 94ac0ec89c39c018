"""Ctrl-C at any time leaves certified bounds and a policy that attains the lower one, or nothing at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.principles.bellman import backup
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers import METHODS, average_reward, backward_induction, costate_sweep, linear_program

ROUNDING = 1e-11


def interrupted_after(calls):
    """A progress callback that is a person who presses Ctrl-C."""
    seen = []

    def progress(sweeps, gap):
        seen.append(gap)
        if len(seen) > calls:
            raise KeyboardInterrupt

    return progress


def random_mdp(seed: int, n_states: int, discount: float, horizon: int | None) -> MDP:
    """Rewards of both signs, ends, actions that are not available."""
    generator = np.random.default_rng(seed)
    rewards = generator.integers(-3, 4, (n_states, 2)).astype(float)
    rewards[generator.random(n_states) < 0.2, 0] = -np.inf
    terminal = generator.random(n_states) < 0.3
    table = generator.dirichlet(np.ones(n_states), (n_states, 2))
    return MDP.from_arrays(table, rewards, discount, terminal=terminal, horizon=horizon)


def value_of_steps(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """What a policy of shape (N, S) earns, step by step."""
    value = np.zeros(mdp.n_states)
    for actions in policy[::-1]:
        value = backup(mdp, value)[np.arange(mdp.n_states), actions]
    return value


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_states=st.integers(1, 5),
    discount=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    horizon=st.integers(1, 30),
    steps=st.integers(1, 30),
)
def test_bounds_of_a_horizon_cut_short_hold_for_the_policy_and_the_optimum(seed, n_states, discount, horizon, steps):
    mdp = random_mdp(seed, n_states, discount, horizon)
    solution = backward_induction(mdp, progress=interrupted_after(steps - 1))
    optimum = np.zeros(n_states)
    for _step in range(horizon):
        optimum = backup(mdp, optimum).max(axis=1)
    followed = value_of_steps(mdp, solution.policy)
    assert solution.status is (Status.INTERRUPTED if steps <= horizon else Status.CONVERGED)
    assert solution.iterations == min(steps, horizon)
    assert (solution.lower <= followed + ROUNDING).all()
    assert (optimum <= solution.upper + ROUNDING).all()
    assert (solution.lower <= solution.value).all()
    assert (solution.value <= solution.upper).all()


def test_horizon_cut_short_near_its_end_is_almost_known():
    mdp = MDP.from_gymnasium("FrozenLake-v1", 1.0, 1_000)
    truth = backward_induction(mdp).value
    early, late = (backward_induction(mdp, progress=interrupted_after(steps)) for steps in (10, 900))
    assert np.isfinite(early.gap)
    assert late.gap < 1e-2 < early.gap
    assert (early.lower <= truth).all()
    assert (truth <= early.upper).all()


def test_costates_of_a_horizon_are_interrupted_alike():
    mdp = random_mdp(0, 4, 0.9, 20)
    ours, theirs = (method(mdp, progress=interrupted_after(3)) for method in (costate_sweep, backward_induction))
    np.testing.assert_allclose(ours.lower, theirs.lower, rtol=0, atol=ROUNDING)
    assert ours.status is Status.INTERRUPTED


def test_ctrl_c_before_the_first_step_has_nothing_to_return():
    class Interrupting(MDP):
        @property
        def transition_matrix(self):
            raise KeyboardInterrupt

    mdp = MDP.from_gymnasium("FrozenLake-v1")
    fields = {name: getattr(mdp, name) for name in ("rewards", "first", "next_states", "probabilities", "initial")}
    with pytest.raises(KeyboardInterrupt):
        backward_induction(Interrupting(**fields, discount=1.0, horizon=5))


def known(method: str) -> tuple[MDP, np.ndarray]:
    """A process that the method takes, and its value by another library or by hand."""
    if method == "backward-induction":
        return MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], 1.0, horizon=3), np.array([4.0, 9.0])
    if method == "undiscounted":  # two ways to the end: -1 + -5, or -4
        return MDP.from_arrays([[1, -1], [-1, 0]], [[-1.0, -4.0], [-5.0, -1.0]], 1.0), np.array([-4.0, -5.0])
    return MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], 0.9), np.array([18.0, 20.0])


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"average-reward", "linear-program"}))
def test_every_method_returns_what_it_has_when_it_is_interrupted_at_once(method):
    mdp, truth = known(method)
    solution: Solution = METHODS[method](mdp, tol=1e-9, progress=interrupted_after(0))
    assert solution.status is Status.INTERRUPTED
    assert (solution.lower <= truth + ROUNDING).all()
    assert (truth <= solution.upper + ROUNDING).all()


def test_linear_program_interrupted_inside_highs_returns_one_certified_sweep(monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setitem(linear_program.__globals__, "linprog", interrupted)
    solution = linear_program(known("linear-program")[0])
    assert solution.status is Status.INTERRUPTED
    assert (solution.lower <= [18.0, 20.0]).all()
    assert (solution.upper >= [18.0, 20.0]).all()


@pytest.mark.parametrize("sweeps", [0, 1, 3])
def test_mean_reward_interrupted_lies_between_its_bounds(sweeps):
    mdp = MDP.from_arrays(np.full((3, 2, 3), 1 / 3), [[0.0, 1.0], [4.0, 0.0], [-2.0, -3.0]], 1.0)
    chain = MDP.from_arrays([[1], [2], [0]], [1.0, 2.0, 6.0], 1.0)
    for process, gain in ((mdp, 1.0), (chain, 3.0)):
        solution = average_reward(process, tol=1e-14, progress=interrupted_after(sweeps))
        assert (solution.lower <= gain).all()
        assert (gain <= solution.upper).all()
        assert solution.status in (Status.INTERRUPTED, Status.CONVERGED)
    assert solution.status is Status.INTERRUPTED
