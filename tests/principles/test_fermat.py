"""The least time to learn: bounds, tight frames, and what greedy lacks of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import (
    criterion_bound,
    criterion_value,
    expected_error,
    filled_spectrum,
    greedy_excess,
    learning_time,
    row_norm_defect,
    tight_frame,
    tightness_defect,
    unit_rows,
)
from hamiltonian_rl.principles.kinematics.learning_time import times_to_threshold

SIZES = [(n, p) for p in range(1, 9) for n in range(p, 20)]


def test_the_learning_time_of_an_error_that_never_rises_is_its_samples_to_the_threshold():
    generator = np.random.default_rng(0)
    for _ in range(50):
        errors = np.sort(generator.uniform(0.0, 2.0, 20))[::-1]
        runs = [{"step": i, "seconds": 0.5 * i, "mean_reward": -e} for i, e in enumerate(errors)]
        times = times_to_threshold(runs, -1.0)
        expected = np.inf if times["steps_to_threshold"] is None else times["steps_to_threshold"]
        assert learning_time(errors, 1.0) == expected
        expected = np.inf if times["seconds_to_threshold"] is None else times["seconds_to_threshold"]
        assert learning_time(errors, 1.0, [0.5] * 19) == expected


def test_the_error_of_a_regression_is_what_a_simulation_of_it_measures():
    """4,000 regressions: the standard error of their mean squared error is below 1 %."""
    generator = np.random.default_rng(1)
    design = generator.standard_normal((9, 3))
    mixing = generator.standard_normal((3, 3))
    noise = 0.7
    answers = noise * generator.standard_normal((4000, 9))
    slips = answers @ np.linalg.pinv(design).T  # of β, which may be zero
    asked = generator.standard_normal((4000, 3)) @ mixing.T
    measured = noise**2 + ((asked * slips).sum(1) ** 2).mean()
    assert expected_error(design.T @ design, mixing @ mixing.T, noise**2) == pytest.approx(measured, rel=0.1)


def test_criteria_are_their_definitions_by_the_inverse():
    generator = np.random.default_rng(2)
    rows, asked = generator.standard_normal((7, 4)), generator.standard_normal((9, 4))
    information, target = rows.T @ rows, asked.T @ asked / 9
    inverse = np.linalg.inv(information)
    assert criterion_value(information) == pytest.approx(np.trace(inverse), rel=1e-12)
    assert criterion_value(information, "I", target) == pytest.approx(
        np.mean([x @ inverse @ x for x in asked]), rel=1e-12
    )
    assert criterion_value(information, "D") == pytest.approx(np.linalg.det(inverse) ** (1 / 4), rel=1e-12)
    assert criterion_value(np.outer(rows[0], rows[0])) == np.inf


@pytest.mark.parametrize(("n", "p"), [(3, 3), (4, 3), (7, 3), (9, 2), (12, 5)])
def test_no_unit_rows_are_below_the_bound(n, p):
    generator = np.random.default_rng(n)
    rows = generator.standard_normal((300, n, p))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    mixing = generator.standard_normal((p, p))
    target = mixing @ mixing.T
    values = [criterion_value(x.T @ x, "I", target) for x in rows]
    assert min(values) >= criterion_bound(n, target)


def test_unit_rows_of_the_target_s_root_reach_the_bound_of_any_target():
    target = np.diag([4.0, 1.0, 0.25])
    rows = unit_rows(np.sqrt(target) * 7 / 3.5, 7)  # S ∝ M^½ is what Jensen's inequality is an equality for
    assert row_norm_defect(rows) < 1e-14
    assert criterion_value(rows.T @ rows, "I", target) == pytest.approx(criterion_bound(7, target), rel=1e-12)


@pytest.mark.parametrize(("n", "p"), SIZES)
def test_there_is_a_tight_frame_of_unit_rows_for_every_n_from_p_up(n, p):
    frame = tight_frame(n, p)
    assert frame.shape == (n, p)
    assert row_norm_defect(frame) < 1e-14
    assert tightness_defect(frame) < 1e-13 * n  # rounding of n products
    assert criterion_value(frame.T @ frame) == pytest.approx(p**2 / n, rel=1e-12)


def test_there_is_no_tight_frame_of_fewer_rows_than_columns():
    with pytest.raises(UsageError, match="2 rows and 3 columns"):
        tight_frame(2, 3)
    with pytest.raises(UsageError, match="whole numbers"):
        tight_frame(2.5, 2)


def test_orthonormal_columns_do_not_make_an_optimal_design_of_unit_rows():
    """The paper's "any Stiefel matrix": scaled by √2, its rows are no units; made units, they miss the bound."""
    generator = np.random.default_rng(3)
    stiefel, _ = np.linalg.qr(generator.standard_normal((8, 4)))
    assert row_norm_defect(np.sqrt(2.0) * stiefel) > 0.1
    units = stiefel / np.linalg.norm(stiefel, axis=1, keepdims=True)
    assert criterion_value(units.T @ units) > 1.01 * 4**2 / 8


@pytest.mark.parametrize("seed", range(20))
def test_any_matrix_of_trace_n_and_rank_n_is_the_information_of_n_unit_rows(seed):
    generator = np.random.default_rng(seed)
    n, p = generator.integers(1, 9, 2)
    some = generator.standard_normal((min(n, p), p))
    information = some.T @ some
    information *= n / np.trace(information)
    rows = unit_rows(information, n)
    assert row_norm_defect(rows) < 1e-13
    np.testing.assert_allclose(rows.T @ rows, information, atol=1e-12 * n)


def test_what_no_unit_rows_have_is_refused():
    for information, n in [(np.eye(3), 2), (np.diag([3.0, -1.0]), 2), (np.eye(2), 3)]:
        with pytest.raises(UsageError, match="unit rows"):
            unit_rows(information, n)


@pytest.mark.parametrize("n_rows", [None, 2])
def test_filling_up_is_the_best_of_all_ways_to_share_on_a_grid(n_rows):
    spectrum = np.array([1.0, 3.0, 1.5])
    step = 0.05
    shares = [s for s in itertools.product(np.arange(0.0, 2.0 + step / 2, step), repeat=3) if abs(sum(s) - 2.0) < 1e-9]
    if n_rows is not None:
        shares = [s for s in shares if sum(x > 0 for x in s) <= n_rows]
    best = min((1.0 / (spectrum + s)).sum() for s in shares)
    filled = filled_spectrum(spectrum, 2.0, n_rows)
    assert filled.sum() == pytest.approx(spectrum.sum() + 2.0)
    assert (1.0 / filled).sum() <= best + 1e-12
    assert (1.0 / filled).sum() == pytest.approx(best, abs=step**2)  # flat at the minimum


@pytest.mark.parametrize("p", [2, 3, 10])
def test_greedy_from_an_orthonormal_basis_exceeds_the_bound_as_the_formula_says(p):
    """Greedy adds the best of 3,000 random unit rows and of the eigenvectors: always an eigenvector of the least."""
    generator = np.random.default_rng(p)
    pool = generator.standard_normal((3000, p))
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    information = np.eye(p)
    for n in range(p, 4 * p + 1):
        excess = np.trace(np.linalg.inv(information)) * n / p**2
        assert excess == pytest.approx(greedy_excess(n, p), abs=1e-5)
        assert excess <= 1.125 + 1e-12
        rows = np.vstack([pool, np.linalg.eigh(information)[1].T])
        inverse = np.linalg.inv(information)
        gains = ((rows @ inverse) ** 2).sum(1) / (1.0 + np.einsum("ni,ij,nj->n", rows, inverse, rows))
        best = rows[gains.argmax()]
        information = information + np.outer(best, best)


def test_bad_input_is_told_in_a_sentence():
    with pytest.raises(UsageError, match="one error more than durations"):
        learning_time([1.0, 2.0], 1.0, [1.0, 1.0])
    with pytest.raises(UsageError, match='no criterion "E"'):
        criterion_value(np.eye(2), "E")
    with pytest.raises(UsageError, match="needs a target"):
        criterion_value(np.eye(2), "I")
    with pytest.raises(UsageError, match="n >= p"):
        greedy_excess(2, 3)
