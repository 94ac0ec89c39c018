"""Agents that plan by costates, on the known model and on a learned one, beside Stable-Baselines3's learners.

CartPole-v1: 20 greedy episodes each 50 environment steps (SB3's PPO: each 1,000), on the same start states, in an
environment of their own; "solved for good" is the first evaluation from which all to the end of the run are at 475 or
more, five of them at least. Pendulum-v1: the regret against the computed optimum (`optimum_of`) over the same 100
starts. SB3 has rl-zoo3's published settings. Seconds are CPU seconds of training alone, with one thread.

    python benchmarks/agents.py                   # all parts, 10 seeds; about an hour on two cores
    python benchmarks/agents.py --part cartpole   # CartPole-v1, learned
    python benchmarks/agents.py --part pendulum   # Pendulum-v1, learned
    python benchmarks/agents.py --part known      # both with the known model, --seeds of a network for V

Nothing here is asserted: it prints one table a part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents import make_agent
from hamiltonian_rl.agents.callbacks import Callback
from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.making import make_vector_env
from hamiltonian_rl.envs.optimum import optimum_of
from hamiltonian_rl.principles.kinematics.learning_time import times_to_threshold

THRESHOLD = 475.0
STARTS = 10_000  # seed of the start states
# CartPole-v1 needs no long look ahead; Pendulum-v1 more waves, for its angle moves in no straight line.
LEARNED: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"model": "learned", "horizon": 50, "stride": 2},
    "Pendulum-v1": {"model": "learned", "waves": 128},
}


def learner(name: str, env_id: str, seed: int) -> tuple[Any, int]:
    """Make an agent with its tuned settings, and return the steps that these are meant for, or 0."""
    settings = dict(LEARNED[env_id]) if name == "costate" else tuned_settings(name, env_id)
    copies = settings.pop("n_envs", 1)
    budget = settings.pop("steps", 0)
    env = gym.make(env_id) if copies == 1 else make_vector_env(env_id, copies, native=False)
    return make_agent(name, env, seed=seed, **settings), budget


class Evaluations(Callback):
    """Greedy returns from the same start states after some numbers of steps, and the CPU seconds of training so far."""

    def __init__(self, evaluator: Evaluator, episodes: int, at: Sequence[int]) -> None:
        self._evaluator, self._episodes, self._at = evaluator, episodes, list(at)
        self.steps: list[int] = []
        self.returns: list[np.ndarray] = []
        self.seconds: list[float] = []
        self._begin = time.process_time()

    def on_step(self) -> bool:
        """Evaluate where it is time."""
        if self._at and self.agent.num_timesteps >= self._at[0]:
            self._at.pop(0)
            begin = time.process_time()
            self.steps.append(self.agent.num_timesteps)
            self.seconds.append(begin - self._begin)
            self.returns.append(self._evaluator.returns(self.agent, episodes=self._episodes, seed=STARTS))
            self._begin += time.process_time() - begin
        return bool(self._at)


def trained(name: str, env_id: str, seed: int, episodes: int, at: Sequence[int]) -> Evaluations:
    """Train an agent, and stop it after the last evaluation: rates of SB3's agents fall with the steps asked for."""
    agent, budget = learner(name, env_id, seed)
    found = Evaluations(Evaluator(env_id), episodes, at)
    agent.learn(max(at[-1], budget), callback=found)
    return found


def cartpole_run(name: str, seed: int, every: int, total: int) -> dict[str, Any]:
    """Train on CartPole-v1, and return when it was solved for good, how it ended, and the CPU seconds."""
    found = trained(name, "CartPole-v1", seed, 20, range(every, total + 1, every))
    means = [float(returns.mean()) for returns in found.returns]
    columns = zip(found.steps, found.seconds, means, strict=True)
    evaluations = [{"step": step, "seconds": seconds, "mean_reward": mean} for step, seconds, mean in columns]
    solved = times_to_threshold(evaluations, THRESHOLD)["steps_to_solved_for_good"]
    shown = [round(mean) for mean in means[:12]]
    print(f"  {name} seed {seed}: {solved}, end {means[-1]:.1f}, {found.seconds[-1]:.1f} CPU-s, {shown}", flush=True)
    return {"solved": float("inf") if solved is None else solved, "end": means[-1], "seconds": found.seconds[-1]}


def cartpole(seeds: range, budget: int, pool: ProcessPoolExecutor) -> None:
    """Print how many steps each agent takes until CartPole-v1 is solved for good."""
    plans = {"costate": (50, budget), "sb3:ppo": (1_000, 30_000)}
    runs = {name: [pool.submit(cartpole_run, name, seed, *plan) for seed in seeds] for name, plan in plans.items()}
    found = {name: [run.result() for run in some] for name, some in runs.items()}
    print("\n| CartPole-v1 | solved for good: median steps (min-max) | never | worst end | CPU-s (median) |")
    print("| --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        solved = sorted(row["solved"] for row in rows)
        print(
            f"| {name} | {statistics.median(solved):,.0f} ({solved[0]:,.0f}-{solved[-1]:,.0f}) | "
            f"{solved.count(float('inf'))} of {len(rows)} | {min(row['end'] for row in rows):.1f} | "
            f"{statistics.median(row['seconds'] for row in rows):.1f} |",
            flush=True,
        )


def optimum(episodes: int) -> np.ndarray:
    """Return the optimal returns of Pendulum-v1 from the evaluation's starts."""
    agent = make_agent("random", gym.make("Pendulum-v1"), seed=0)
    starts = Evaluator("Pendulum-v1").run(agent, episodes=episodes, seed=STARTS).starts
    return np.asarray(optimum_of("Pendulum-v1").returns(starts).value)


def pendulum_run(name: str, seed: int, at: list[int], best: np.ndarray) -> list[float]:
    """Train on Pendulum-v1, and return the mean regret after some numbers of steps, as a share of the optimum."""
    found = trained(name, "Pendulum-v1", seed, len(best), at)
    shares = [float((best - returns).mean() / abs(best.mean())) for returns in found.returns]
    for steps, share, seconds in zip(at, shares, found.seconds, strict=True):
        print(f"  {name} seed {seed}, {steps:,} steps: regret {share:.2%}, {seconds:.1f} CPU-s", flush=True)
    return shares


def pendulum(seeds: range, episodes: int, pool: ProcessPoolExecutor) -> None:
    """Print the mean regret on Pendulum-v1 after some numbers of steps."""
    best = optimum(episodes)
    print(f"  mean optimal return of {episodes} starts: {best.mean():.2f}", flush=True)
    budgets = {"costate": [2_000], "sb3:sac": [2_000, 5_000, 10_000]}
    runs = {name: [pool.submit(pendulum_run, name, seed, at, best) for seed in seeds] for name, at in budgets.items()}
    found = {name: [run.result() for run in some] for name, some in runs.items()}
    print(f"\n| Pendulum-v1, {episodes} starts | steps | mean regret / optimum: median (min-max) | within 5 % |")
    print("| --- | --- | --- | --- |")
    for name, rows in found.items():
        for steps, shares in zip(budgets[name], zip(*rows, strict=True), strict=True):
            within = sum(share <= 0.05 for share in shares)
            print(
                f"| {name} | {steps:,} | {statistics.median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%}) | "
                f"{within} of {len(shares)} |",
                flush=True,
            )


def value_run(seed: int, best: np.ndarray) -> tuple[float, float, float]:
    """Fit V on the known model of Pendulum-v1; return the regret's share, and the CPU seconds of both parts."""
    settings = tuned_settings("deep-value-iteration", "Pendulum-v1")
    begin, budget = time.process_time(), settings.pop("steps")
    agent = make_agent("deep-value-iteration", gym.make("Pendulum-v1"), seed=seed, **settings)
    agent.learn(budget)
    trained = time.process_time()
    regret = best - Evaluator("Pendulum-v1").returns(agent, episodes=len(best), seed=STARTS)
    share, seconds = float(regret.mean() / abs(best.mean())), (trained - begin, time.process_time() - trained)
    print(
        f"  deep-value-iteration seed {seed}: regret {share:.2%}, worst start {regret.max():.1f}, CPU-s of training "
        f"{seconds[0]:.0f}, of evaluation {seconds[1]:.0f}",
        flush=True,
    )
    return share, *seconds


def known(seeds: range, episodes: int, pool: ProcessPoolExecutor) -> None:
    """Print what the known model allows, without training, and with a network for V."""
    agent = make_agent("costate", gym.make("CartPole-v1"), seed=0)
    returns = Evaluator("CartPole-v1").returns(agent, episodes=episodes, seed=STARTS)
    print(
        f"\nKnown model, CartPole-v1: {int((returns == 500.0).sum())} of {episodes} resets are balanced for 500 steps."
    )
    best = optimum(episodes)
    agent = make_agent("costate", gym.make("Pendulum-v1"), seed=0)
    regret = best - Evaluator("Pendulum-v1").returns(agent, episodes=episodes, seed=STARTS)
    print(
        f"Known model, Pendulum-v1: mean regret {regret.mean():.3f}, {regret.mean() / abs(best.mean()):.3%} of the "
        f"optimum; worst start {regret.max():.2f}."
    )
    runs = [run.result() for run in [pool.submit(value_run, seed, best) for seed in seeds]]
    shares, training, evaluation = zip(*runs, strict=True)
    print(
        f"Known model, Pendulum-v1, deep-value-iteration, {len(runs)} seeds: regret {statistics.mean(shares):.2%} of "
        f"the optimum ({min(shares):.2%} to {max(shares):.2%}), {statistics.median(training):.0f} CPU-s of training, "
        f"{statistics.median(evaluation):.0f} of the evaluation."
    )


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("cartpole", "pendulum", "known"), help="only this part")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1 (default: 10)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (default: 2)")
    parser.add_argument("--steps", type=int, default=1_000, help="of the learned model on CartPole-v1")
    parser.add_argument("--episodes", type=int, default=100, help="starts on Pendulum-v1")
    arguments = parser.parse_args()
    seeds, context = range(arguments.seeds), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        if arguments.part in (None, "cartpole"):
            cartpole(seeds, arguments.steps, pool)
        if arguments.part in (None, "pendulum"):
            pendulum(seeds, arguments.episodes, pool)
        if arguments.part in (None, "known"):
            known(seeds, arguments.episodes, pool)


if __name__ == "__main__":
    main()
