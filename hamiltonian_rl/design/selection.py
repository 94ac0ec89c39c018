"""Choosing rows: several starts, each to a local optimum, beside the bound that says how much better any could be."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from typing import Any

import numpy as np

from hamiltonian_rl.design.relaxation import Relaxed, relax
from hamiltonian_rl.design.search import Progress, Search
from hamiltonian_rl.design.task import DesignTask, design_task
from hamiltonian_rl.errors import UsageError

WORKING = 20_000  # candidates that starts are tried among; of more, those of the largest slopes
RANDOM_CHOICES, NUMBERS_AT_ONCE = 100, 1_000_000
FEWEST_STARTS, MOST_STARTS = 10, 1000
WORK_OF_STARTS = 4e8  # candidates times rows times columns, of all starts: about two seconds
FOUND_OFTEN = 30  # starts that end at the best value; then others will hardly find a better one
SAME = 1e-9  # relative


class DesignStatus(Enum):
    """How the search ended; each member is a sentence."""

    OPTIMAL = "The bound is reached: no design is better by more than the tolerance."
    LOCAL_OPTIMUM = "No swap of one row improves the design; the gap to the bound is what it may lack at most."
    MAX_PASSES = "The passes were used up while swaps still improved the design; the bound holds. Try again from it."


@dataclass(frozen=True, eq=False)
class Design:
    """Rows that were chosen, and what they are worth: of all values the smaller the better.

    Attributes:
        indices: Of the candidates chosen, sorted; one that repeats stands there several times. Shape ``(n,)``.
        value: The criterion.
        lower_bound: No choice of n rows is below it, certified; zero where it was not asked for.
        greedy_value: What greedy alone reaches.
        weights: Of the relaxation, n in total, shape ``(N,)``; empty where the bound was not asked for.
        status: How the search ended.
    """

    indices: np.ndarray
    value: float
    lower_bound: float
    greedy_value: float
    weights: np.ndarray
    status: DesignStatus
    _by_chance: Callable[[], float] = field(repr=False)

    @cached_property
    def random_value(self) -> float:
        """The median criterion of a hundred random choices, infinite where most determine nothing; drawn when asked."""
        return self._by_chance()

    @property
    def gap(self) -> float:
        """By what share of its value the design could be better, at most."""
        return 1.0 - self.lower_bound / self.value


def choose_rows(
    task: DesignTask,
    *,
    n_starts: int | None = None,
    random_state: int | np.random.Generator | None = None,
    bound: bool = True,
    tol: float = 1e-4,
    progress: Progress = lambda text: None,
) -> Design:
    """Choose the rows of a `design_task`: greedy, then other starts, each improved by swaps until none helps.

    Args:
        task: What is asked.
        n_starts: Starts at the most, of which the first is greedy from nothing; the others are random, every other one
            greedy in its second half. Without it, as many as take about two seconds, 10 to 1,000. When thirty have
            ended at the same best value, no more are tried.
        random_state: Seed or generator; None for another choice each time.
        bound: Whether to compute the certified bound and the weights.
        tol: Relative gap that counts as none.
        progress: Is told what is being done.

    Raises:
        UsageError: No start leads to a design that determines all parameters; or an argument is none.

    Example:
        >>> x = np.linspace(-1.0, 1.0, 21)
        >>> task = design_task(np.stack([np.ones(21), x, x**2], 1), 4, repeat=True)
        >>> design = choose_rows(task, random_state=0)
        >>> x[design.indices].round(3).tolist(), round(design.value, 9)  # 8 / n
        ([-1.0, 0.0, 0.0, 1.0], 2.0)
        >>> design.status.name
        'OPTIMAL'
    """
    n_candidates = task.columns.shape[1]
    if n_starts is None:
        n_starts = int(np.clip(WORK_OF_STARTS / (task.columns.size * task.n_rows), FEWEST_STARTS, MOST_STARTS))
    if isinstance(n_starts, bool) or not isinstance(n_starts, int | np.integer) or n_starts < 1:
        raise UsageError(f"n_starts = {n_starts!r}; expected a whole number from 1 up.")
    try:
        generator = np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"random_state = {random_state!r}: {error}. Give a whole number from 0 up, a Generator or None."
        ) from None
    working = np.arange(n_candidates)
    if n_candidates > WORKING:
        working = _promising(task, generator, tol, progress)
    part = task if len(working) == n_candidates else task.among(working)
    rows, greedy_value, value, settled = _best_start(part, n_starts, generator, progress)
    rows = working[rows]
    if part is not task and np.isfinite(value):
        rows, value, settled = _settled_among_all(task, working, (rows, value, settled), progress)
    if not np.isfinite(value):
        raise UsageError(
            f"No choice of {task.n_rows} rows was found that determines all {len(task.target)} parameters. Choose more "
            "rows, or give a ridge prior above zero."
        )
    relaxed = relax(task, rows, tol, progress) if bound else None
    lower = 0.0 if relaxed is None else min(relaxed.lower_bound, value)
    status = DesignStatus.LOCAL_OPTIMUM if settled else DesignStatus.MAX_PASSES
    status = DesignStatus.OPTIMAL if value - lower <= tol * value else status
    weights = np.empty(0) if relaxed is None else relaxed.weights
    by_chance = partial(random_value, task, deepcopy(generator))  # of a caller's own no more is drawn, whenever asked
    return Design(np.sort(rows), value, lower, greedy_value, weights, status, by_chance)


def random_value(task: DesignTask, generator: np.random.Generator) -> float:
    """Return the median criterion of a hundred random choices."""
    p, n_candidates = task.columns.shape
    n, again = task.n_rows, task.repeat
    rows = [generator.choice(n_candidates, n, replace=again, shuffle=False) for _ in range(RANDOM_CHOICES)]
    parts = np.array_split(rows, min(RANDOM_CHOICES, 1 + RANDOM_CHOICES * task.n_rows * p // NUMBERS_AT_ONCE))
    values = np.concatenate([task.values_of(part) for part in parts])
    return float(np.sort(values)[RANDOM_CHOICES // 2])  # a median of infinities is one


def _best_start(
    task: DesignTask, n_starts: int, generator: np.random.Generator, progress: Progress
) -> tuple[np.ndarray, float, float, bool]:
    """Return the best rows of several starts, greedy's value, theirs, and whether they are a local optimum."""
    search, n_candidates = Search(task), task.columns.shape[1]
    best: tuple[np.ndarray, float, bool] | None = None
    greedy_value, found = np.inf, 0
    for start in range(n_starts):
        count = 0 if start == 0 else task.n_rows if start % 2 else task.n_rows // 2
        rows = search.greedy(generator.choice(n_candidates, count, replace=task.repeat))
        if start == 0:
            greedy_value = task.value(np.bincount(rows, minlength=n_candidates))

        def told(text: str, start: int = start) -> None:
            progress(f"start {start + 1} of {n_starts}, {text}")

        rows, value, settled = search.exchange(rows, told)
        if best is None or value < best[1] * (1.0 - SAME):
            best, found = (rows, value, settled), 0
        found += value <= best[1] * (1.0 + SAME)
        if found == FOUND_OFTEN and np.isfinite(value):
            break
    assert best is not None
    return best[0], greedy_value, best[1], best[2]


def _settled_among_all(
    task: DesignTask, working: np.ndarray, best: tuple[np.ndarray, float, bool], progress: Progress
) -> tuple[np.ndarray, float, bool]:
    """Look at all candidates, add those that improve to the working ones, and swap, until no candidate improves.

    Takes and returns rows, their value, and whether they are a local optimum.
    """
    rows, value, settled = best
    while len(missed := Search(task).better(rows, progress)):
        working = np.union1d(working, missed)
        found = Search(task.among(working)).exchange(np.searchsorted(working, rows), progress)
        if not found[1] < value:  # but for rounding
            return rows, value, False
        rows, value, settled = working[found[0]], *found[1:]
    return rows, value, settled


def _promising(task: DesignTask, generator: np.random.Generator, tol: float, progress: Progress) -> np.ndarray:
    """Return the candidates of the largest slopes at the optimum of the relaxation, where good designs lie."""
    n_candidates = task.columns.shape[1]
    count = max(WORKING, 4 * task.n_rows)
    if count >= n_candidates:
        return np.arange(n_candidates)
    some = np.sort(generator.choice(n_candidates, count, replace=False))
    rows, _, value, _ = _best_start(task.among(some), 1, generator, progress)
    if not np.isfinite(value):
        return some
    relaxed: Relaxed = relax(task, some[rows], tol, progress)
    steepest = np.argpartition(relaxed.slopes, n_candidates - count)[n_candidates - count :]
    return np.union1d(steepest, np.flatnonzero(relaxed.weights))


class AOptimalDesign:
    """Choose the rows to measure, in scikit-learn's habits: ``AOptimalDesign(n_rows=50).fit(X).indices_``.

    Args:
        n_rows: How many.
        criterion: ``"A"``: the parameters' variances added up; ``"D"``: their ellipsoid; ``"I"``: the prediction's
            variance in the mean over ``target``.
        target: ``M = E[xxᵀ]`` of where predictions are wanted, shape ``(p, p)``; for I, whose default is X's own.
        prior: Ridge: information there is before any row, times the identity; or a matrix. Above zero, fewer rows
            than columns do.
        repeat: Whether a row may be chosen more than once.
        n_starts: Starts of the search at the most; without it, as many as take about two seconds, 10 to 1,000.
        bound: Whether to compute the certified bound.
        random_state: Seed, for the same choice each time.

    Attributes:
        indices_: Rows of X that were chosen, sorted, shape ``(n_rows,)``.
        criterion_: Their criterion.
        lower_bound_: No choice is below it.
        gap_: By what share the criterion could be better, at most.
        weights_: Of the relaxation, shape ``(N,)``.
        design_: The `Design`: also what greedy and random choices are worth, and how the search ended.
        n_features_in_: p.

    Example:
        >>> X = np.random.default_rng(0).standard_normal((200, 3))
        >>> chosen = AOptimalDesign(n_rows=12, random_state=0).fit(X)
        >>> chosen.indices_.shape, bool(chosen.lower_bound_ <= chosen.criterion_ < chosen.design_.random_value)
        ((12,), True)
    """

    _names = ("n_rows", "criterion", "target", "prior", "repeat", "n_starts", "bound", "random_state")

    def __init__(
        self,
        n_rows: int = 10,
        *,
        criterion: str = "A",
        target: np.ndarray | None = None,
        prior: float | np.ndarray = 0.0,
        repeat: bool = False,
        n_starts: int | None = None,
        bound: bool = True,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        self.n_rows, self.criterion, self.target, self.prior = n_rows, criterion, target, prior
        self.repeat, self.n_starts, self.bound, self.random_state = repeat, n_starts, bound, random_state

    def fit(self, X: Any, y: Any = None, *, include: Any = None) -> AOptimalDesign:
        """Choose rows of X.

        Args:
            X: Candidates, shape ``(N, p)``.
            y: Not used; there because scikit-learn's pipelines give it.
            include: Rows that are in the design anyway, shape ``(m, p)``.

        Raises:
            UsageError: What is wrong with X or the arguments.
        """
        asked = {name: getattr(self, name) for name in ("criterion", "target", "prior", "repeat")}
        task = design_task(X, self.n_rows, include=include, **asked)
        design = choose_rows(task, n_starts=self.n_starts, random_state=self.random_state, bound=self.bound)
        self.design_, self.indices_, self.criterion_ = design, design.indices, design.value
        self.lower_bound_, self.gap_, self.weights_ = design.lower_bound, design.gap, design.weights
        self.n_features_in_ = task.columns.shape[0]
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with."""
        return {name: getattr(self, name) for name in self._names}

    def set_params(self, **params: Any) -> AOptimalDesign:
        """Change what it was made with.

        Raises:
            UsageError: There is no such parameter.
        """
        from hamiltonian_rl.errors import did_you_mean

        for name, value in params.items():
            if name not in self._names:
                raise UsageError(f'AOptimalDesign has no parameter "{name}". {did_you_mean(name, self._names)}')
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"AOptimalDesign(n_rows={self.n_rows}, criterion={self.criterion!r})"
