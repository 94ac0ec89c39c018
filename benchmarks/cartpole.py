"""CartPole-v1 and its classic-control siblings: this toolkit's DQN beside Stable-Baselines3's DQN and PPO.

Every method runs with its tuned settings (SB3 with rl-zoo3's published ones) through the same trainer:
20 greedy episodes each 1,000 environment steps, on the same start states, in an environment of their own.
"Solved for good" is the first evaluation from which all to the end of the run are at 475 or more, five of
them at least. Seconds are CPU seconds of training alone, with one thread; they do not travel between machines, the
ratios do.

    python benchmarks/cartpole.py                 # all parts, 10 seeds; about half an hour on two cores
    python benchmarks/cartpole.py --part speed    # steps per second with 64 environments
    python benchmarks/cartpole.py --part siblings # MountainCar-v0 and Acrobot-v1, 3 seeds

Nothing here is asserted: it prints one table a part.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

METHODS = ("dqn", "sb3:dqn", "sb3:ppo")
SIBLINGS = {"MountainCar-v0": -100.8, "Acrobot-v1": -76.6}  # what rl-zoo3 publishes for SB3's DQN


def learn(job: tuple[str, str, int, str]) -> dict[str, Any]:
    """Train one method on one environment with one seed; return its result."""
    from hamiltonian_rl.run_config import resolve
    from hamiltonian_rl.training import start_run

    env, agent, seed, folder = job
    return start_run(resolve(env, agent=agent, seed=seed), Path(folder)).execute()


def run_all(jobs: list[tuple[str, str, int, str]], workers: int) -> list[dict[str, Any]]:
    """Run jobs side by side, telling how far it is."""
    results = []
    with ProcessPoolExecutor(workers) as pool:
        for result in pool.map(learn, jobs):
            results.append(result)
            good = result["steps_to_solved_for_good"]
            print(
                f"  {result['env']} {result['agent']:8} seed {result['seed']}: solved for good at {good}, "
                f"end {result['mean_reward']:.1f}, {result['training_cpu_seconds']:.1f} CPU-s",
                flush=True,
            )
    return results


def compare(seeds: list[int], folder: str, workers: int) -> None:
    """Print the table of learning CartPole-v1."""
    jobs = [("CartPole-v1", method, seed, folder) for seed in seeds for method in METHODS]
    results = run_all(jobs, workers)
    by_method = {method: [r for r in results if r["agent"] == method] for method in METHODS}
    ppo = by_method["sb3:ppo"]
    ppo_seconds = _median([r["seconds_to_solved_for_good"] for r in ppo])
    ppo_steps = _median([r["steps_to_solved_for_good"] for r in ppo])
    print(
        "\n| method | solved for good: median steps (min-max) | / PPO | CPU-s (median) | / PPO | never "
        "| ends at 500.0 | worst end |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method, rows in by_method.items():
        steps = [r["steps_to_solved_for_good"] for r in rows]
        solved = [s for s in steps if s is not None]
        seconds = _median([r["seconds_to_solved_for_good"] for r in rows])
        ends = [r["mean_reward"] for r in rows]
        spread = f"({min(solved):,}-{max(solved):,})" if solved else ""
        print(
            f"| {method} | {_show(_median(steps), ',.0f')} {spread} | {_ratio(_median(steps), ppo_steps)} | "
            f"{_show(seconds, '.2f')} | {_ratio(seconds, ppo_seconds)} | {steps.count(None)} of "
            f"{len(rows)} | {sum(e == 500.0 for e in ends)} of {len(rows)} | {min(ends):.1f} |"
        )


def speed() -> None:
    """Print environment steps per CPU second at SB3's own ratio of gradient steps to samples."""
    import gymnasium as gym
    import threadpoolctl

    from hamiltonian_rl.agents import make_agent
    from hamiltonian_rl.agents.tuned import tuned_settings

    ratio = {"train_freq": 256, "gradient_steps": 128, "batch_size": 64, "learning_starts": 1000}
    zoo = {k: v for k, v in tuned_settings("sb3:dqn", "CartPole-v1").items() if k not in ("steps", "n_envs")}

    def ours(n_envs: int, hidden: tuple[int, ...]) -> Callable[[], Any]:
        def make() -> Any:
            env = gym.make("CartPole-v1")
            if n_envs > 1:
                env = gym.make_vec("CartPole-v1", num_envs=n_envs, vectorization_mode="vector_entry_point")
            return make_agent("dqn", env, **ratio, hidden=hidden)

        return make

    methods: dict[str, tuple[Callable[[], Any], int]] = {
        "sb3:dqn, 1 environment, [256, 256] (its settings)": (
            lambda: make_agent("sb3:dqn", gym.make("CartPole-v1"), **zoo),
            6_000,
        ),
        "sb3:dqn, 1 environment, [64, 64]": (
            lambda: make_agent("sb3:dqn", gym.make("CartPole-v1"), **{**zoo, "policy_kwargs": {"net_arch": [64, 64]}}),
            6_000,
        ),
        "dqn, 64 environments, [64, 64]": (ours(64, (64, 64)), 24_000),
        "dqn, 64 environments, [256, 256]": (ours(64, (256, 256)), 12_000),
        "dqn, 1 environment, [64, 64]": (ours(1, (64, 64)), 12_000),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    with threadpoolctl.threadpool_limits(1):
        for _ in range(5):  # interleaved, so that a slow moment of the machine meets every method
            for name, (make, steps) in methods.items():
                agent = make()
                agent.learn(2_000, log_interval=None)
                start = time.process_time()
                agent.learn(steps, reset_num_timesteps=False)
                rates[name].append(steps / (time.process_time() - start))
    reference = statistics.median(next(iter(rates.values())))
    print("\n| 0.5 gradient steps of batch 64 per environment step | steps per CPU-s (median of 5) | ratio |")
    print("| --- | --- | --- |")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {statistics.median(values) / reference:.1f} |")


def siblings(seeds: list[int], folder: str, workers: int) -> None:
    """Print the table of MountainCar-v0 and Acrobot-v1."""
    results = run_all([(env, "dqn", seed, folder) for env in SIBLINGS for seed in seeds], workers)
    print("\n| environment | steps | mean of 100 greedy episodes, each seed | rl-zoo3's DQN | at least that |")
    print("| --- | --- | --- | --- | --- |")
    for env, published in SIBLINGS.items():
        rows = [r for r in results if r["env"] == env]
        ends = [r["mean_reward"] for r in rows]
        print(
            f"| {env} | {rows[0]['steps']:,} | {', '.join(f'{e:.1f}' for e in ends)} | {published} | "
            f"{sum(e >= published for e in ends)} of {len(ends)} |"
        )


def _median(values: list[float | None]) -> float | None:
    """Return the median, a run that never got there counting as later than all others."""
    middle = statistics.median([float("inf") if value is None else value for value in values])
    return None if middle == float("inf") else middle


def _ratio(value: float | None, reference: float | None) -> str:
    return _show(value / reference if value and reference else None, ".2f")


def _show(value: float | None, form: str) -> str:
    return "never" if value is None else format(value, form)


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("learning", "speed", "siblings"), help="only this part")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1 (default: 10; siblings: at most 3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side")
    parser.add_argument("--run-dir", default="runs/benchmarks", help="where the runs are kept, for TensorBoard")
    arguments = parser.parse_args()
    seeds = list(range(arguments.seeds))
    if arguments.part in (None, "learning"):
        compare(seeds, arguments.run_dir, arguments.jobs)
    if arguments.part in (None, "siblings"):
        siblings(seeds[:3], arguments.run_dir, arguments.jobs)
    if arguments.part in (None, "speed"):
        speed()


if __name__ == "__main__":
    main()
