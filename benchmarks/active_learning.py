"""Which patients to label: scikit-learn's diabetes data, error against the number of labels, 100 repeats.

Each repeat draws 300 of the 442 patients as a pool, and predicts the other 142 by least squares from n labels: of
patients drawn at random, chosen greedily, or chosen by exchange (criterion I: the prediction's variance in the mean
over the pool). The design looks at the ten measurements alone, never at an answer.

    python benchmarks/active_learning.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from hamiltonian_rl.design import choose_rows, design_task
from hamiltonian_rl.design.search import Search

LABELS, REPEATS, POOL = (15, 20, 30, 50, 100), 100, 300


def error(rows: np.ndarray, answers: np.ndarray, chosen: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean squared error of a least-squares fit to the chosen rows."""
    fit = np.linalg.lstsq(rows[chosen], answers[chosen], rcond=None)[0]
    return float(((asked @ fit - truth) ** 2).mean())


def repeat(seed: int, rows: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the errors of random, greedy and exchange, shape ``(labels, 3)``, and of all labels in a last row."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(rows))
    pool, rest = order[:POOL], order[POOL:]
    data = rows[pool], answers[pool]
    errors = []
    for n in LABELS:
        task = design_task(rows[pool], n, criterion="I")
        choices = (
            generator.choice(POOL, n, replace=False),
            Search(task).greedy(np.empty(0, np.int64)),
            choose_rows(task, n_starts=3, random_state=seed, bound=False).indices,
        )
        errors.append([error(*data, chosen, rows[rest], answers[rest]) for chosen in choices])
    return np.array([*errors, [error(*data, np.arange(POOL), rows[rest], answers[rest])] * 3])


def main() -> None:
    """Print the table: mean error and its standard error over the repeats."""
    rows, answers = load_diabetes(return_X_y=True)
    rows = np.c_[np.ones(len(rows)), rows * np.sqrt(len(rows))]
    errors = np.array([repeat(seed, rows, answers) for seed in range(REPEATS)])
    mean, spread = errors.mean(0), errors.std(0) / np.sqrt(REPEATS)
    print("| labels | random | greedy | exchange |\n| --- | --- | --- | --- |")
    for i, name in enumerate([*map(str, LABELS), f"all {POOL}"]):
        print(f"| {name} | " + " | ".join(f"{mean[i, j]:.0f} ± {spread[i, j]:.0f}" for j in range(3)) + " |")


if __name__ == "__main__":
    main()
