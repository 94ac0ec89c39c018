"""All routes to the optimum agree, their bounds hold, and what cannot be solved is said."""

import itertools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import hamiltonian_rl
from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.principles.bellman import bellman_residual
from hamiltonian_rl.problems import MDP, Grid
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import (
    METHODS,
    block_kernels,
    choose_method,
    kernels,
    modified_policy_iteration,
    solve,
    sweeper,
    value_iteration,
)
from hamiltonian_rl.solvers.sweeper import Sweeper

DISCOUNTED = sorted(set(METHODS) - {"average-reward", "backward-induction", "undiscounted", "work-list"})
SWEEPING = ["value-iteration", "gauss-seidel", "modified-policy-iteration", "inexact-policy-iteration", "costate-sweep"]
LIMITED = ["backward-induction", "costate-sweep"]


def test_lower_bound_does_not_count_rewards_after_the_end():
    """A state that pays 1 and ends beside one that pays 1 for ever: one sweep from zero knows no more than that."""
    mdp = MDP.from_arrays([[-1], [1]], [[1.0], [1.0]], 0.9)
    solution = value_iteration(mdp, max_iterations=0)
    assert solution.lower[0] <= 1.0
    assert solution.upper[1] >= 10.0


def test_lower_bound_of_modified_policy_iteration_never_falls():
    bounds = [modified_policy_iteration(garnet(60, 0.999), tol=1e-9, max_iterations=k).lower for k in range(8)]
    for earlier, later in itertools.pairwise(bounds):
        assert (later >= earlier - 1e-9).all()  # rounding at values near 800


def garnet(n_states: int, discount: float, branching: int = 5) -> MDP:
    """Random process with 4 actions and successors drawn anew for each row."""
    generator = np.random.default_rng(1)
    rows = n_states * 4
    shares = generator.random((rows, branching))
    return MDP(
        rewards=generator.random((n_states, 4)),
        first=np.arange(rows + 1, dtype=np.int64) * branching,
        next_states=generator.integers(0, n_states, rows * branching).astype(np.int32),
        probabilities=(shares / shares.sum(axis=1, keepdims=True)).ravel(),
        discount=discount,
        initial=np.full(n_states, 1 / n_states),
    )


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_sweeps_equal_plain_ones(uniform, threads):
    """Kernels with constant and with varying rows, on one thread and on several, against NumPy and SciPy."""
    table = np.tril(np.random.default_rng(3).random((3, 40, 40))).transpose(1, 0, 2)  # rows of 1 to 40 successors
    rewards, ends = [[1.0, 0.0, -np.inf]] * 20 + [[0.0, -1.0, 2.0]] * 20, np.arange(40) < 3
    varying = MDP.from_arrays(table / table.sum(axis=2, keepdims=True), rewards, 0.9, terminal=ends)
    mdp = garnet(101, 0.9) if uniform else varying
    assert (mdp.branching is not None) == uniform
    plain, compiled = Sweeper(mdp, compiled=False), Sweeper(mdp, compiled=True, threads=threads)
    value = np.random.default_rng(0).normal(size=mdp.n_states)
    results = []
    for sweeps in (plain, compiled):
        out, policy, evaluated = np.empty(mdp.n_states), np.zeros(mdp.n_states, np.int32), np.empty(mdp.n_states)
        extremes = sweeps.backup(value, out, policy)
        sweeps.policy_sweep(policy)(value, evaluated)
        np.testing.assert_allclose(evaluated, out, rtol=0, atol=1e-14)  # the greedy policy attains the maximum
        results.append((*extremes, out, policy))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n_actions", "branching"), [(1, 1), (2, 3), (4, 5), (3, 9)])
@pytest.mark.parametrize("n_states", [1, 15, 16, 101])
def test_sweeps_in_blocks_equal_those_state_by_state_to_the_last_bit(n_actions, branching, n_states):
    """Whole blocks and the rest, whole vectors and the rest, from the first state and from within."""
    random = np.random.default_rng(n_states)
    entries = n_states * n_actions * branching
    r, p, v = random.normal(size=(n_states, n_actions)), random.random(entries), random.normal(size=n_states)
    z, first = random.integers(0, n_states, entries).astype(np.int32), np.zeros(1, np.int64)
    for start in {0, n_states // 3}:
        results = []
        for module in (kernels, block_kernels):
            out, policy, evaluated = np.zeros(n_states), np.zeros(n_states, np.int32), np.zeros(n_states)
            extremes = module.backup_kernel(n_actions, branching)(r, first, z, p, 0.9, v, out, policy, start, n_states)
            own = r[:, 0].copy(), first, z[: n_states * branching], p[: n_states * branching]
            of_policy = module.evaluation_kernel(branching)(*own, 0.9, v, evaluated, start, n_states)
            results.append((extremes, of_policy, out, policy, evaluated))
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
        table = r + 0.9 * (p * v[z]).reshape(n_states, n_actions, branching).sum(axis=2)
        np.testing.assert_allclose(out[start:], table.max(axis=1)[start:], rtol=0, atol=1e-12)


def test_kernels_are_compiled_once_and_found_again_by_the_next_process(tmp_path):
    script = """
import numpy as np
from hamiltonian_rl.solvers import block_kernels, kernels
r, first, z, p, v = np.ones((2, 2)), np.arange(5), np.zeros(4, np.int32), np.ones(4), np.zeros(2)
out, policy = np.zeros(2), np.zeros(2, np.int32)
used = [kernels.backup_kernel(2, 1), kernels.backup_kernel(2, None), block_kernels.backup_kernel(2, 1)]
for kernel in used:
    kernel(r, first, z, p, 0.5, v, out, policy, 0, 2)
of_policy = [kernels.evaluation_kernel(1), block_kernels.evaluation_kernel(1)]
for kernel in of_policy:
    kernel(out, first, z, p, 0.5, v, out, 0, 2)
used += [*of_policy, kernels.policy_rows_kernel(2, 1), kernels.gauss_seidel_kernel(2, 1)]
used[-2](r, first, z, p, policy, out, first, z.copy(), p.copy(), 0, 2)
used[-1](r, first, z, p, 0.5, v, False)
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in used))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    misses = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
        for _ in range(2)
    ]
    assert [int(done.stdout) for done in misses] == [7, 0]


def test_large_tables_are_swept_in_blocks(monkeypatch):
    """The same bounds and policy, whichever kernels are chosen."""
    mdp = garnet(1_000, 0.99)
    solutions = []
    for least in (0, 10_000):
        monkeypatch.setattr(sweeper, "BACKUP_BLOCKS", least)
        monkeypatch.setattr(sweeper, "POLICY_BLOCKS", least)
        sweeps = Sweeper(mdp, compiled=True)
        assert (sweeps._backup_kernel is block_kernels.backup_kernel(4, 5)) == (least == 0)
        solutions.append(METHODS["modified-policy-iteration"](mdp, tol=1e-8, compiled=True).unwrap())
    np.testing.assert_array_equal(solutions[0].lower, solutions[1].lower)
    np.testing.assert_array_equal(solutions[0].policy, solutions[1].policy)


def test_span_bounds_stop_long_before_the_distance_of_iterates_does():
    mdp = garnet(2_000, 0.99)
    solution = value_iteration(mdp, tol=1e-6).unwrap()
    assert solution.iterations < 60  # |TV - V| / (1 - γ) < 1e-6 needs ln(1e-8) / ln(0.99) = 1,833


@pytest.mark.parametrize("method", SWEEPING)
def test_running_out_of_sweeps_is_a_status_with_bounds(method):
    solution = METHODS[method](garnet(50, 0.999), tol=1e-9, max_iterations=2)
    assert solution.status is Status.MAX_ITERATIONS
    assert not solution.converged
    assert np.isfinite(solution.gap)
    with pytest.raises(SolverError, match=r"Raise max_iterations.*Reached after 2: gap"):
        solution.unwrap()


@pytest.mark.parametrize("method", sorted(set(DISCOUNTED) - {"linear-program"}))
def test_bounds_that_rounding_keeps_apart_are_a_status_not_a_hang(method):
    """With values near 800 and γ = 0.999, double precision certifies 1e-10 by no method."""
    solution = METHODS[method](garnet(50, 0.999), tol=1e-12)
    assert solution.status is Status.STAGNATED
    assert solution.gap < 1e-7
    with pytest.raises(SolverError, match="Rounding of double precision"):
        solution.unwrap()


def test_linear_program_that_is_not_exact_enough_says_so():
    solution = METHODS["linear-program"](garnet(50, 0.999), tol=1e-12)
    assert solution.status is Status.INEXACT
    assert solution.gap < 1e-6
    with pytest.raises(SolverError, match="take another method"):
        solution.unwrap()


def test_interrupted_solver_returns_the_bounds_that_it_has():
    truth = value_iteration(garnet(50, 0.99), tol=1e-9).value

    def interrupt(sweeps, gap):
        if sweeps == 3:
            raise KeyboardInterrupt

    solution = modified_policy_iteration(garnet(50, 0.99), tol=1e-9, progress=interrupt)
    assert solution.status is Status.INTERRUPTED
    assert (solution.lower <= truth).all()
    assert (truth <= solution.upper).all()


def test_warm_start_goes_on_where_it_stopped():
    mdp = garnet(200, 0.99)
    first = value_iteration(mdp, tol=1e-3)
    second = value_iteration(mdp, tol=1e-9, initial_value=first.value)
    cold = value_iteration(mdp, tol=1e-9)
    assert second.iterations < cold.iterations
    assert np.abs(bellman_residual(mdp, second.value)).max() < 1e-8


@pytest.mark.parametrize("method", DISCOUNTED)
def test_one_state_earns_the_geometric_series(method):
    mdp = MDP.from_arrays([[0]], [[3.0]], 0.75)
    assert METHODS[method](mdp, tol=1e-9).unwrap().value[0] == pytest.approx(12.0, abs=1e-9)


@pytest.mark.parametrize("method", DISCOUNTED)
def test_parts_that_are_not_connected_are_each_solved(method):
    mdp = MDP.from_arrays([[0], [1], [-1]], [[1.0], [-2.0], [7.0]], 0.9)
    np.testing.assert_allclose(METHODS[method](mdp, tol=1e-9).unwrap().value, [10.0, -20.0, 7.0], atol=1e-9)


@pytest.mark.parametrize("method", DISCOUNTED)
@pytest.mark.parametrize(
    ("mdp", "message"),
    [
        (MDP.from_arrays([[0]], [[1.0]], 1.0), "discount = 1 without a horizon: the value may be infinite"),
        (MDP.from_arrays([[0]], [[1e308]], 0.99), "more than double precision holds"),
    ],
)
def test_value_without_bound_is_refused(method, mdp, message):
    with pytest.raises(UsageError, match=message):
        METHODS[method](mdp)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("tol", [0.0, -1.0, float("nan"), "small", None, True])
def test_bad_tolerance_is_named(method, tol):
    mdp = MDP.from_arrays([[0]], [[1.0]], 0.9, horizon=3 if method == "backward-induction" else None)
    with pytest.raises(UsageError, match="tol ="):
        METHODS[method](mdp, tol=tol)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"backward-induction", "linear-program"}))
@pytest.mark.parametrize("count", [-1, 1.5, "3", True])
def test_bad_number_of_iterations_is_named(method, count):
    mdp = MDP.from_arrays([[0]], [[0.0]], 1.0 if method == "undiscounted" else 0.9)
    with pytest.raises(UsageError, match="max_iterations ="):
        METHODS[method](mdp, max_iterations=count)


@pytest.mark.parametrize("method", ["auto", *sorted(METHODS)])
@pytest.mark.parametrize("other", [None, np.eye(2), Grid])
def test_what_is_no_mdp_is_named(method, other):
    with pytest.raises(UsageError, match=r"is of class \w+; expected an MDP\. Make one: MDP\.from_arrays"):
        solve(other, method=method)


def test_a_control_problem_is_solved_by_both_routes_from_its_nominal_state():
    # Minimum energy from (-1, 0) to rest in one second, held over each of 50 steps: 6 / (1 - 1/N²) exactly.
    found = solve(hamiltonian_rl.problem("hrl/DoubleIntegrator-v0"), tol=1e-9)
    assert found.value == pytest.approx([-6 / (1 - 1 / 50**2)], abs=1e-7)


def test_a_solver_of_tables_sends_a_control_problem_to_both_routes():
    with pytest.raises(UsageError, match=r"expected an MDP\..*A ControlProblem is for solve"):
        value_iteration(hamiltonian_rl.problem("Pendulum-v1"))


@pytest.mark.parametrize("method", sorted(set(DISCOUNTED) - {"costate-sweep"}))
def test_method_for_endless_processes_names_the_one_for_limited_ones(method):
    with pytest.raises(UsageError, match=r"ends after 100 steps.*backward_induction"):
        METHODS[method](MDP.from_gymnasium("FrozenLake-v1"))


def test_backward_induction_asks_for_a_horizon_and_for_numbers_that_fit():
    endless = MDP.from_arrays([[0]], [[1.0]], 0.9)
    with pytest.raises(UsageError, match="no horizon"):
        METHODS["backward-induction"](endless)
    for method in LIMITED:
        with pytest.raises(UsageError, match="more than double precision holds"):
            METHODS[method](MDP.from_arrays([[0]], [[1e308]], 1.0, horizon=10))


def test_rewards_of_1e300_are_solved_with_bounds_that_say_how_far():
    solution = value_iteration(MDP.from_arrays([[0]], [[1e300]], 0.9))
    assert solution.status is Status.STAGNATED
    assert solution.lower[0] <= 1e301 <= solution.upper[0]


@pytest.mark.parametrize("initial", [[1.0], [np.nan, 0.0], [np.inf, 0.0]])
def test_bad_initial_value_is_named(initial):
    with pytest.raises(UsageError, match=r"`initial_value` has shape"):
        value_iteration(MDP.from_arrays([[0], [1]], [[1.0], [1.0]], 0.9), initial_value=np.array(initial))


def test_solve_chooses_by_structure_and_names_an_unknown_method():
    limited = MDP.from_gymnasium("FrozenLake-v1")
    assert choose_method(limited)[0] == "backward-induction"
    assert solve(limited).method == "backward induction"
    assert solve(limited).reason == choose_method(limited)[1]
    assert solve(limited, method="costate-sweep").reason == "it was named"
    assert solve(limited.finite_horizon(None)).method == "policy iteration"
    assert solve(garnet(5_000, 0.9)).method == "modified policy iteration"
    with pytest.raises(UsageError, match='Did you mean "value-iteration"'):
        solve(limited, method="value-iterations")


@pytest.mark.parametrize("discount", [0.9999, 0.99999])
def test_rounding_does_not_push_the_iterates_down_for_ever(discount):
    """The certified bound, taken as an iterate, would lose its allowance for rounding 1 / (1 - γ) times over."""
    mdp = MDP.from_gymnasium("FrozenLake-v1", discount, None)
    assert modified_policy_iteration(mdp, tol=1e-8).unwrap().iterations < 100


def test_sums_of_many_rounded_probabilities_are_within_the_bounds():
    """129 probabilities whose computed sum misses the exact one by more than eight roundings, at γ = 1 - 1e-7."""
    row = np.full(129, 1e-17)
    row[1], row[9::8] = 1.0, 1.1e-16
    mdp = MDP.from_arrays(np.tile(row, (129, 1)).reshape(129, 1, 129), np.ones((129, 1)), 0.9999999)
    solution = value_iteration(mdp, tol=1.0)
    exact = 1 / (1 - Fraction(0.9999999) * sum(Fraction(p) for p in mdp.probabilities[:129]))
    assert Fraction(solution.lower[0]) <= exact <= Fraction(solution.upper[0])


@pytest.mark.parametrize("kind", ["f4", "f2", ">f8"])
def test_tables_of_any_type_are_solved_as_the_numbers_that_they_hold(kind):
    plain = garnet(40, 0.99)
    shares, rewards = plain.probabilities.astype(kind) * 0.99, plain.rewards.astype(kind)
    fields = {"first": plain.first, "next_states": plain.next_states, "discount": 0.99, "initial": plain.initial}
    given = MDP(**fields, rewards=rewards, probabilities=shares)
    doubled = MDP(**fields, rewards=rewards.astype(float), probabilities=shares.astype(float))
    for method in ("value-iteration", "policy-iteration", "costate-sweep", "gauss-seidel"):
        ours, theirs = (METHODS[method](mdp, tol=1e-8).unwrap() for mdp in (given, doubled))
        np.testing.assert_array_equal(ours.value, theirs.value)


@pytest.mark.parametrize("method", ["value-iteration", "modified-policy-iteration", "backward-induction"])
def test_rewards_too_small_for_full_precision_are_within_the_bounds(method):
    rewards = np.array([[5e-324 * (state + 1)] for state in range(5)])
    mdp = MDP.from_arrays([[1], [2], [3], [4], [-1]], rewards, 0.5, horizon=9 if method in LIMITED else None)
    solution = METHODS[method](mdp)
    exact = Fraction(0)
    for state in range(4, -1, -1):
        exact = Fraction(rewards[state, 0]) + exact / 2
        assert Fraction(solution.lower[state]) <= exact <= Fraction(solution.upper[state])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_iterations": -1}, "max_iterations = -1"),
        ({"max_iterations": 2.5}, r"max_iterations = 2\.5"),
        ({"max_iterations": None}, "max_iterations = None"),
        ({"threads": -1}, "threads = -1"),
        ({"threads": "2"}, "threads = '2'"),
        ({"tol": "small"}, "tol = 'small'"),
        ({"evaluation_sweeps": 2.5}, r"evaluation_sweeps = 2\.5"),
        ({"initial_value": "zeros"}, "`initial_value` is no array"),
        ({"initial_value": np.full(50, 1e308)}, "`initial_value` has shape"),
    ],
)
def test_bad_argument_is_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        modified_policy_iteration(garnet(50, 0.9), **arguments)


def test_horizon_whose_policy_fits_into_no_memory_is_refused():
    with pytest.raises(UsageError, match="does not fit into memory"):
        METHODS["backward-induction"](MDP.from_gymnasium("FrozenLake-v1", 1.0, 2_000_000_000))
