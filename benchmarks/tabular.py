"""Q-learning of this toolkit, its plain loop over Gymnasium's `step` beside its compiled loop over the table.

Both have the same settings. Steps per CPU second are those of learning, one thread, after compiling; the ratio is what
counts. That both are the same method is put to a test: mean distance from V* over the states that can occur, after
equally many steps with each of many seeds, and the two-sample Kolmogorov-Smirnov test of the two samples (a small p
speaks against; of three, one is below 0.017 by chance in twenty calls).

    python benchmarks/tabular.py              # three environments, 30 seeds; about two minutes
    python benchmarks/tabular.py --seeds 5

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
from scipy.stats import ks_2samp

from hamiltonian_rl.agents import QLearning
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import policy_iteration

# Steps after which errors differ from seed to seed, neither still at the start nor already at the end.
STEPS = {"FrozenLake-v1": 10_000, "Taxi-v4": 20_000, "CliffWalking-v1": 3_000}
SETTINGS: dict[str, Any] = {"step_size": 0.2, "exploration_final_eps": 0.1}
TIMED = 4_000_000  # steps of the compiled loop that are timed
COMPILING = 1_000


def learn(env_id: str, seed: int, steps: int, *, compiled: bool) -> tuple[np.ndarray, float]:
    """Return the learned values of states, shape ``(S,)``, and the CPU seconds of learning."""
    env = gym.make(env_id)
    agent = QLearning(env, seed=seed, compiled=compiled, **SETTINGS)
    start = time.process_time()
    agent.learn(steps, log_interval=None)
    seconds = time.process_time() - start
    env.close()
    value: np.ndarray = agent.parameter_arrays()[0][0].max(axis=1)
    return value, seconds


def errors(env_id: str, seeds: int, *, compiled: bool) -> tuple[list[float], float]:
    """Return each seed's mean distance from V*, and the median CPU seconds of a seed."""
    mdp = MDP.from_gymnasium(env_id, QLearning.Settings.gamma, horizon=None)
    optimum, seconds, found = policy_iteration(mdp, tol=1e-9).unwrap().value, [], []
    for seed in range(seeds):
        value, taken = learn(env_id, seed, STEPS[env_id], compiled=compiled)
        seconds.append(taken)
        found.append(float(np.abs(value - optimum)[mdp.reachable].mean()))
    return found, statistics.median(seconds)


def measure(env_id: str, seeds: int, repeats: int) -> None:
    """Print the row of one environment."""
    learn(env_id, 0, COMPILING, compiled=True)
    plain, seconds = errors(env_id, seeds, compiled=False)
    fast, _ = errors(env_id, seeds, compiled=True)
    plain_speed = STEPS[env_id] / seconds
    fast_speed = TIMED / statistics.median(learn(env_id, seed, TIMED, compiled=True)[1] for seed in range(repeats))
    test = ks_2samp(plain, fast)
    means = " | ".join(f"{np.mean(sample):.4f} ({np.std(sample):.4f})" for sample in (plain, fast))
    print(
        f"| {env_id} | {plain_speed:,.0f} | {fast_speed:,.0f} | {fast_speed / plain_speed:.0f} | {STEPS[env_id]:,} | "
        f"{means} | {test.statistic:.2f} | {test.pvalue:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30, help="seeds of each loop (default: 30)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of the compiled loop (default: 3)")
    arguments = parser.parse_args()
    print(
        "| environment | plain: steps per CPU-s | compiled | ratio | steps | plain: error, mean (deviation) | compiled "
        "| KS distance | p |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for env_id in STEPS:
        measure(env_id, arguments.seeds, arguments.repeats)


if __name__ == "__main__":
    main()
