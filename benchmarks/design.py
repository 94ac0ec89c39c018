"""Chosen rows beside pyDOE3's five methods and doekit's ten starts: what they are worth, and how long it takes.

A fixed table of candidates and models. Each peer chooses in its own way; whether it repeats a candidate is counted, and
where any does, ours may too. Every choice is valued by one function, `criterion_value`, from the rows themselves. CPU
seconds of one thread, compilation left out: each method first works on a small instance.

    python benchmarks/design.py [--criterion A|D] [--only 1000] [--without-peers] [--large]
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from hamiltonian_rl.design import choose_rows, design_task
from hamiltonian_rl.principles.fermat import criterion_value

SAME = 1e-6  # relative: peers differ by rounding
STARTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of which the fewest that do as well as the best peer are shown
MOST_OF_DOEKIT = 20_000  # candidates times rows: with these it takes a minute
METHODS = ("sequential", "simple_exchange", "fedorov", "modified_fedorov", "detmax")


def levels(factors: int, count: int) -> np.ndarray:
    """Return all combinations of evenly spaced levels in [-1, 1]."""
    return np.array(list(itertools.product(np.linspace(-1.0, 1.0, count), repeat=factors)))


def scattered(n: int, factors: int, unit: bool = False) -> np.ndarray:
    """Return random points of the cube, or of the sphere."""
    generator = np.random.default_rng(0)
    points = generator.standard_normal((n, factors)) if unit else generator.uniform(-1.0, 1.0, (n, factors))
    return points / np.linalg.norm(points, axis=1, keepdims=True) if unit else points


# Name, factors of the candidates, degree of the polynomial, rows to choose.
TABLE: tuple[tuple[str, np.ndarray, int, int], ...] = (
    ("2^3 corners, main effects", levels(3, 2), 1, 5),
    ("2^5 corners, main effects", levels(5, 2), 1, 8),
    ("3^2 levels, quadratic", levels(2, 3), 2, 8),
    ("3^3 levels, quadratic", levels(3, 3), 2, 14),
    ("100 points of a square, quadratic", scattered(100, 2), 2, 9),
    ("200 points of a cube, quadratic", scattered(200, 3), 2, 12),
    ("300 points of the 5-sphere, main effects", scattered(300, 5, unit=True), 1, 10),
    ("1000 points of the 9-sphere, main effects", scattered(1000, 9, unit=True), 1, 20),
    ("1000 points of the 9-sphere, main effects", scattered(1000, 9, unit=True), 1, 50),
)


def expanded(points: np.ndarray, degree: int) -> np.ndarray:
    """Return the columns of the full polynomial of degree one or two."""
    columns = [np.ones(len(points)), *points.T]
    if degree == 2:
        pairs = itertools.combinations_with_replacement(range(points.shape[1]), 2)
        columns += [points[:, i] * points[:, j] for i, j in pairs]
    return np.stack(columns, 1)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work returns, and its CPU seconds."""
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


class Choice(NamedTuple):
    """What rows are worth, the CPU seconds of their choice, and how many of them repeat others."""

    value: float
    seconds: float
    repeated: int


def report(name: str, rows: np.ndarray, seconds: float, criterion: str, best: float | None = None) -> Choice:
    """Print a line, and return it."""
    value = criterion_value(rows.T @ rows, criterion)
    repeated = len(rows) - len(np.unique(rows.round(12), axis=0))
    beside = "" if best is None else f"  {value / best - 1.0:+9.3%}"
    print(f"    {name:28s} {value:12.6f}  {1e3 * seconds:10.1f} ms  {repeated} repeated{beside}", flush=True)
    return Choice(value, seconds, repeated)


def ours(points: np.ndarray, degree: int, n: int, criterion: str, repeat: bool) -> float:
    """Choose, print, and return what the choice is worth."""
    rows = expanded(points, degree)
    task = design_task(rows, n, criterion=criterion, repeat=repeat)
    found, seconds = timed(lambda: choose_rows(task, random_state=0, bound=False))
    value, *_ = report("hamiltonian_rl" + (", repeats" if repeat else ""), rows[found.indices], seconds, criterion)
    bounded, seconds = timed(lambda: choose_rows(task, random_state=0))
    print(f"    {'  with the bound':28s} {bounded.lower_bound:12.6f}  {1e3 * seconds:10.1f} ms")
    return value


def fewest_starts(points: np.ndarray, degree: int, n: int, criterion: str, peers: list[Choice]) -> None:
    """Print after how many starts ours are as good as the best peer, and how many times as fast as it that is.

    Where it repeats rows, ours may too.
    """
    level = min(peer.value for peer in peers) * (1.0 + SAME)
    best = min((peer for peer in peers if peer.value <= level), key=lambda peer: peer.seconds)
    task = design_task(expanded(points, degree), n, criterion=criterion, repeat=best.repeated > 0)
    for count in STARTS:
        runs = [timed(lambda: choose_rows(task, n_starts=count, random_state=0, bound=False)) for _ in range(3)]  # noqa: B023
        if runs[0][0].value <= level:
            own, least = sorted(run[1] for run in runs)[1], min(peer.seconds for peer in peers)
            print(
                f"    as good as the best peer after {count} starts, {1e3 * own:.1f} ms: "
                f"{best.seconds / own:.1f} times as fast; the fastest peer takes {least / own:.1f} times as long",
                flush=True,
            )
            return
    print(f"    never as good as the best peer with {STARTS[-1]} starts")


def pydoe(points: np.ndarray, degree: int, n: int, criterion: str, best: float) -> Iterator[Choice]:
    """Print what pyDOE3's methods choose."""
    from pyDOE3.doe_optimal import optimal_design

    for method in METHODS:
        try:
            (chosen, _), seconds = timed(
                lambda method=method: optimal_design(points, n, degree, criterion=criterion, method=method)  # type: ignore[misc]
            )
        except Exception as error:  # a peer's failure is a result
            print(f"    {'pyDOE3 ' + method:28s} {type(error).__name__}: {error}")
            continue
        yield report(f"pyDOE3 {method}", expanded(chosen, degree), seconds, criterion, best)


def doekit(points: np.ndarray, degree: int, n: int, criterion: str, best: float) -> Iterator[Choice]:
    """Print what doekit chooses from ten starts."""
    if len(points) * n > MOST_OF_DOEKIT:
        print(f"    {'doekit, ten starts':28s} left out: it takes minutes")
        return
    import doekit as kit
    import pandas

    factors = kit.as_factors(points.shape[1])
    names = [factor.name for factor in factors]
    model = (kit.Model.full_quadratic if degree == 2 else kit.Model.main_effects)(names)
    candidates = kit.Design(pandas.DataFrame(points, columns=names), factors, model)
    try:
        chosen, seconds = timed(lambda: kit.optimal_design(candidates, n, criterion=criterion, n_starts=10, seed=0))
    except Exception as error:  # a peer's failure is a result
        print(f"    {'doekit':28s} {type(error).__name__}: {error}")
        return
    rows = expanded(points[chosen.metadata["selected_rows"]], degree)
    yield report("doekit, ten starts", rows, seconds, criterion, best)


def large() -> None:
    """Choose 100 of a million unit rows of 20 columns, and print seconds and peak memory."""
    rows = scattered(1_000_000, 20, unit=True)
    wall = time.perf_counter()
    found, seconds = timed(lambda: choose_rows(design_task(rows, 100), random_state=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"N = 1e6, p = 20, n = 100: {found.value:.5f}, bound {found.lower_bound:.5f}, greedy {found.greedy_value:.5f}"
    )
    print(f"    {seconds:.1f} CPU s, {time.perf_counter() - wall:.1f} s, peak {peak:.2f} GiB with the rows themselves")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-peers", action="store_true", help="ours alone")
    parser.add_argument("--large", action="store_true", help="a million candidates too")
    parser.add_argument("--criterion", choices=("A", "D"), help="only this criterion")
    parser.add_argument("--only", default="", help="only rows of the table whose name has this in it")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # peers invert singular matrices on their way
    for criterion in given.criterion or "AD":
        choose_rows(design_task(expanded(levels(2, 3), 1), 5, criterion=criterion))  # compiles
        for name, points, degree, n in (row for row in TABLE if given.only in row[0]):
            print(f"{criterion}: {name}, {n} of {len(points)}, p = {expanded(points[:1], degree).shape[1]}")
            values = [ours(points, degree, n, criterion, repeat) for repeat in (False, True)]
            if not given.without_peers:
                peers = [peer(points, degree, n, criterion, min(values)) for peer in (pydoe, doekit)]
                fewest_starts(points, degree, n, criterion, [choice for some in peers for choice in some])
    if given.large:
        large()


if __name__ == "__main__":
    main()
