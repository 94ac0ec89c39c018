"""Chosen rows: textbook designs, exhaustive search, a certified bound, and bad input told in a sentence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hamiltonian_rl.design import AOptimalDesign, DesignStatus, choose_rows, design_task
from hamiltonian_rl.design.relaxation import certify
from hamiltonian_rl.design.search import Search
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import criterion_bound, criterion_value


def factorial(factors: int) -> np.ndarray:
    """Return the corners of a cube with an intercept before them, shape ``(2^k, k + 1)``."""
    return np.array([(1.0, *corner) for corner in itertools.product((-1.0, 1.0), repeat=factors)])


def parabola(points: int) -> np.ndarray:
    x = np.linspace(-1.0, 1.0, points)
    return np.stack([np.ones(points), x, x**2], 1)


def unit_rows_at_random(n: int, p: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, p))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def value_of(rows: np.ndarray, criterion: str, target: np.ndarray) -> float:
    return criterion_value(rows.T @ rows, criterion, target)


def test_a_parabola_is_measured_at_both_ends_once_and_twice_in_the_middle():
    """Pukelsheim (1993), section 9.5: weights 1/4, 1/2, 1/4 and trace 8 of a single measurement's worth."""
    chosen = AOptimalDesign(n_rows=4, repeat=True, random_state=0).fit(parabola(21))
    assert chosen.indices_.tolist() == [0, 10, 10, 20]
    assert chosen.criterion_ * 4 == pytest.approx(8.0, rel=1e-9)
    assert chosen.lower_bound_ * 4 == pytest.approx(8.0, rel=1e-6)
    np.testing.assert_allclose(chosen.weights_[[0, 10, 20]], [1.0, 2.0, 1.0], atol=1e-3)
    assert chosen.design_.status is DesignStatus.OPTIMAL


def test_d_optimal_weights_of_a_parabola_are_thirds():
    """Kiefer and Wolfowitz (1959): the determinant of the information is 4/27 then."""
    chosen = AOptimalDesign(n_rows=3, criterion="D", repeat=True, random_state=0).fit(parabola(21))
    assert chosen.indices_.tolist() == [0, 10, 20]
    assert (3 * chosen.criterion_) ** -3 == pytest.approx(4 / 27, rel=1e-9)
    assert (3 * chosen.lower_bound_) ** -3 == pytest.approx(4 / 27, rel=1e-5)


@pytest.mark.parametrize(("n", "trace"), [(4, 1.0), (5, 0.875), (6, 0.75), (7, 0.625), (8, 0.5)])
def test_main_effects_of_three_factors_have_the_known_trace(n, trace):
    chosen = AOptimalDesign(n_rows=n, random_state=0).fit(factorial(3))
    assert chosen.criterion_ == pytest.approx(trace, rel=1e-12)


def test_three_runs_of_two_factors_have_trace_one_and_a_half():
    assert AOptimalDesign(n_rows=3, random_state=0).fit(factorial(2)).criterion_ == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_the_choice_is_the_best_of_all_choices_of_small_instances(seed):
    generator = np.random.default_rng(1000 + seed)
    p = int(generator.integers(2, 5))
    n_candidates = int(generator.integers(8, 12))
    n = int(generator.integers(p, 7))
    rows = generator.standard_normal((n_candidates, p))
    target = rows.T @ rows / n_candidates
    for criterion in "ADI":
        best = min(
            value_of(rows[list(some)], criterion, target) for some in itertools.combinations(range(n_candidates), n)
        )
        design = choose_rows(design_task(rows, n, criterion=criterion), random_state=seed)
        assert design.value == pytest.approx(best, rel=1e-9)
        assert design.value == pytest.approx(value_of(rows[design.indices], criterion, target), rel=1e-9)
        assert design.lower_bound <= best


@pytest.mark.parametrize("criterion", ["A", "D", "I"])
def test_the_bound_is_below_the_best_of_all_whatever_weights_it_is_taken_at(criterion):
    """With rows included, a prior, and repeats or none: the certificate does not lean on the weights' quality."""
    generator = np.random.default_rng(5)
    rows, fixed = generator.standard_normal((9, 3)), generator.standard_normal((2, 3))
    target = rows.T @ rows / 9
    for repeat in (False, True):
        task = design_task(rows, 4, criterion=criterion, include=fixed, prior=0.3, repeat=repeat)
        choices = itertools.combinations_with_replacement if repeat else itertools.combinations
        known = fixed.T @ fixed + 0.3 * np.eye(3)
        best = min(
            criterion_value(known + rows[list(some)].T @ rows[list(some)], criterion, target)
            for some in choices(range(9), 4)
        )
        assert choose_rows(task, random_state=0).value == pytest.approx(best, rel=1e-9)
        bounds = []
        for _ in range(50):
            weights = generator.dirichlet(np.ones(9)) * 4
            if not repeat:
                weights = np.minimum(weights, 1.0)
                weights += (1.0 - weights) * (4 - weights.sum()) / (9 - weights.sum())
            bounds.append(certify(Search(task), weights).lower_bound)
        assert max(bounds) <= best
        assert choose_rows(task, random_state=0).lower_bound >= max(bounds) * (1 - 1e-4)


@pytest.mark.parametrize("criterion", ["A", "D"])
def test_the_bound_of_many_unit_rows_is_that_of_jensen_s_inequality(criterion):
    """1,000 unit rows hold a tight frame's weights: the relaxation reaches p²/n, and p/n of D's, to its tolerance."""
    rows = unit_rows_at_random(1000, 10, 0)
    for n in (20, 50):
        bound = choose_rows(design_task(rows, n, criterion=criterion), n_starts=1, random_state=0).lower_bound
        exact = criterion_bound(n, np.eye(10)) if criterion == "A" else 10 / n
        assert exact * (1 - 2e-4) <= bound <= exact * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "greedy", "ten"), [(20, 5.224, 5.163), (50, 2.0125, 2.0084)])
def test_ten_starts_are_better_than_greedy_and_as_good_as_a_published_prototype_s(n, greedy, ten, seed):
    """Figures of other random rows of the same kind, which scatter by half a percent."""
    design = choose_rows(design_task(unit_rows_at_random(1000, 10, seed), n), n_starts=10, random_state=seed)
    assert design.greedy_value == pytest.approx(greedy, rel=0.015)
    assert design.value < design.greedy_value
    assert design.value == pytest.approx(ten, rel=0.006)
    assert design.random_value > 1.15 * design.value


def test_swaps_are_not_stuck_where_there_are_as_many_rows_as_columns():
    """There a design without one of its rows is singular, so that taking out and putting in would not move."""
    task = design_task(unit_rows_at_random(300, 6, 1), 6)
    search = Search(task)
    start = np.arange(6)
    before = task.value(np.bincount(start, minlength=300))
    rows, after, settled = search.exchange(start, lambda text: None)
    assert settled
    assert after < 0.5 * before
    for r, x in itertools.product(range(6), range(300)):  # a local optimum: tried one by one
        others = rows.copy()
        others[r] = x
        assert task.value(np.bincount(others, minlength=300)) >= after * (1 - 1e-9)


def test_included_rows_are_built_upon_as_if_they_had_been_chosen():
    """Three corners of an orthogonal half of the cube are there: only the fourth makes it orthogonal again."""
    corners = factorial(3)
    half = np.flatnonzero(corners[:, 1:].prod(1) > 0)
    design = AOptimalDesign(n_rows=1, random_state=0).fit(corners, include=corners[half[:3]]).design_
    assert design.indices.tolist() == [half[3]]
    assert design.value == pytest.approx(1.0, rel=1e-12)


def test_a_prior_allows_fewer_rows_than_columns_and_the_best_are_chosen():
    rows = np.random.default_rng(3).standard_normal((9, 4))
    prior = 0.5
    best = min(
        np.trace(np.linalg.inv(rows[list(some)].T @ rows[list(some)] + prior * np.eye(4)))
        for some in itertools.combinations(range(9), 2)
    )
    assert AOptimalDesign(n_rows=2, prior=prior, random_state=0).fit(rows).criterion_ == pytest.approx(best, rel=1e-9)


def test_predictions_where_they_are_wanted_are_served_better_by_their_own_target():
    rows = parabola(41)
    end = rows[-1]
    at_end = AOptimalDesign(n_rows=6, criterion="I", target=np.outer(end, end), repeat=True, random_state=0).fit(rows)
    # At the end itself nothing is better than measuring there: σ²/6, but for what keeps the rest estimable.
    everywhere = AOptimalDesign(n_rows=6, criterion="I", repeat=True, random_state=0).fit(rows)
    spread = rows[everywhere.indices_]
    assert at_end.criterion_ < value_of(spread, "I", np.outer(end, end))
    assert at_end.criterion_ == pytest.approx(1 / 4, rel=1e-9)  # four there, one at each of two others


def test_columns_of_any_scale_and_offset_give_the_design_of_centred_ones():
    """D does not depend on the coordinates: temperatures of 300 to 310 K and their squares are as good as [-1, 1]."""
    x = np.linspace(-1.0, 1.0, 31)
    kelvin = 305.0 + 5.0 * x
    rows = np.stack([np.ones(31), kelvin, kelvin**2], 1)
    assert AOptimalDesign(n_rows=3, criterion="D", random_state=0).fit(rows).indices_.tolist() == [0, 15, 30]


def test_the_same_seed_chooses_the_same_rows():
    rows = unit_rows_at_random(200, 5, 2)
    one, other = (AOptimalDesign(n_rows=9, random_state=7).fit(rows).indices_ for _ in range(2))
    assert one.tolist() == other.tolist()


def test_random_choices_are_drawn_when_asked_for_and_never_from_the_caller_s_generator():
    """Any three corners of a square are worth 3/2, whichever chance takes."""
    generator = np.random.default_rng(3)
    design = choose_rows(design_task(factorial(2), 3), random_state=generator)
    before = generator.bit_generator.state
    assert design.random_value == pytest.approx(1.5, rel=1e-12)
    assert generator.bit_generator.state == before


@pytest.mark.parametrize("criterion", ["A", "D"])
def test_a_look_at_all_candidates_finds_the_best_swap_of_each_row(criterion, monkeypatch):
    monkeypatch.setattr("hamiltonian_rl.design.search.TOGETHER", 2)
    rows, chosen = np.random.default_rng(5).standard_normal((1500, 3)), np.arange(6)
    found = Search(design_task(rows, 6, criterion=criterion)).better(chosen, lambda text: None)
    others = np.arange(6, 1500)
    values = [[value_of(rows[[*np.delete(chosen, r), x]], criterion, np.eye(3)) for x in others] for r in range(6)]
    assert found.tolist() == sorted({int(others[np.argmin(of_one)]) for of_one in values})


def test_of_more_candidates_than_are_worked_with_at_once_none_is_left_out(monkeypatch):
    """As good with 500 of 4,000 candidates at a time, and no swap with any of all improves."""
    rows = unit_rows_at_random(4000, 4, 8)
    task = design_task(rows, 12)
    everywhere = choose_rows(task, random_state=0)
    monkeypatch.setattr("hamiltonian_rl.design.selection.WORKING", 500)
    monkeypatch.setattr("hamiltonian_rl.design.relaxation.ADDED", 100)
    in_blocks = choose_rows(task, random_state=0)
    assert in_blocks.value <= everywhere.value * 1.002
    assert in_blocks.lower_bound == pytest.approx(everywhere.lower_bound, rel=2e-4)
    assert Search(task).exchange(in_blocks.indices, lambda text: None)[1] >= in_blocks.value * (1 - 1e-9)


ROWS = unit_rows_at_random(10, 3, 0)


@pytest.mark.parametrize(
    ("candidates", "arguments", "sentence"),
    [
        ([["a", "b"]], {}, "no number"),
        (np.ones(3), {}, "shape"),
        (np.empty((0, 3)), {}, "shape"),
        (ROWS * [1.0, 1e-300, 1.0], {}, "column 1 is of size"),
        (ROWS * [1.0, 1.0, 1e300], {}, "column 2 is of size"),
        (np.array([[1.0, np.nan]]), {}, "Row 0 of candidates holds nan in column 1"),
        (ROWS, {"n_rows": 11}, "there are 10 candidates"),
        (ROWS, {"n_rows": 2}, "cannot determine 3 parameters"),
        (ROWS, {"n_rows": 0}, "whole number"),
        (ROWS, {"n_rows": 2.5}, "whole number"),
        (ROWS, {"criterion": "E"}, 'no criterion "E"'),
        (ROWS, {"prior": -1.0}, "eigenvalue"),
        (ROWS, {"prior": np.ones((2, 2))}, "3 x 3"),
        (ROWS, {"target": np.eye(3)}, 'take criterion "I"'),
        (ROWS, {"criterion": "I", "target": np.eye(2)}, "3 x 3"),
        (ROWS, {"prior": np.inf}, "finite numbers"),
        (ROWS, {"prior": 1e300}, "no candidate matters"),
        (ROWS, {"prior": None}, "finite numbers"),
        (ROWS, {"prior": "much"}, "prior holds what is no number"),
        (ROWS, {"repeat": "no"}, "repeat = 'no'"),
        (ROWS, {"criterion": "I", "target": np.zeros((3, 3))}, "target is zero"),
        (ROWS, {"criterion": "I", "target": [[1, 2], [3]]}, "target holds what is no number"),
        (ROWS + 1j, {}, "complex"),
        (np.ma.masked_greater(ROWS, 0.5), {}, "holds nan"),
        (ROWS, {"n_starts": 0}, "n_starts"),
        (ROWS, {"random_state": -1}, "random_state = -1"),
        (ROWS, {"random_state": "one"}, "random_state = 'one'"),
        (np.c_[ROWS, ROWS[:, 0] + 2 * ROWS[:, 2]], {"n_rows": 5}, "combination of column 0, column 2"),
        (np.c_[ROWS, np.zeros(10)], {"n_rows": 5}, "column 3 is zero"),
        (np.c_[ROWS, np.ones(10), 3 * np.ones(10)], {"n_rows": 6}, "column 4 is a combination of column 3"),
    ],
)
def test_bad_input_is_told_in_a_sentence(candidates, arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        AOptimalDesign(**{"n_rows": 4, "random_state": 0, **arguments}).fit(candidates)


def test_candidates_of_which_so_few_determine_nothing_are_told():
    """Two of three columns are never measured together: each row has one of them, and two rows have to have all."""
    rows = np.repeat(np.eye(3), 3, 0)
    with pytest.raises(UsageError, match="cannot determine 3 parameters"):
        AOptimalDesign(n_rows=2).fit(rows)
    assert AOptimalDesign(n_rows=3, random_state=0).fit(rows).criterion_ == pytest.approx(3.0)


def test_a_tensor_with_a_gradient_is_told():
    with pytest.raises(UsageError, match="detach"):
        AOptimalDesign(n_rows=4).fit(torch.tensor(ROWS, requires_grad=True))


def test_included_rows_of_another_width_are_told():
    with pytest.raises(UsageError, match="include has 2 columns; expected 3"):
        AOptimalDesign(n_rows=4).fit(ROWS, include=np.ones((1, 2)))


def test_it_has_scikit_learn_s_habits():
    chosen = AOptimalDesign(n_rows=4)
    assert AOptimalDesign(**chosen.get_params()).get_params() == chosen.get_params()
    assert chosen.set_params(n_rows=5, criterion="D").fit(ROWS) is chosen
    assert len(chosen.indices_) == 5
    assert chosen.n_features_in_ == 3
    with pytest.raises(UsageError, match='Did you mean "n_rows"'):
        chosen.set_params(n_row=5)


def test_of_many_local_optima_the_default_finds_one_no_worse_than_the_best_of_other_libraries():
    """pyDOE3 1.6.2, modified_fedorov: 4.196890, and its other methods and ten starts of doekit 0.9.1 more."""
    rows = np.column_stack([np.ones(1000), unit_rows_at_random(1000, 9, 0)])
    chosen = choose_rows(design_task(rows, 20), random_state=0, bound=False)
    assert criterion_value(rows[chosen.indices].T @ rows[chosen.indices]) < 4.19689
