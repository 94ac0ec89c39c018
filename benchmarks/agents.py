"""Agents that plan by costates, on the known model and on a learned one, beside Stable-Baselines3's learners.

CartPole-v1: 20 greedy episodes each 50 environment steps (SB3's PPO: each 1,000), on the same start states, in an
environment of their own; "solved for good" is the first evaluation from which all to the end of the run are at 475 or
more, five of them at least. Pendulum-v1: the regret against the computed optimum (`optimum_of`) over the same 100
starts. SB3 has rl-zoo3's published settings. Seconds are CPU seconds of training alone, with one thread.

    python benchmarks/agents.py                   # all parts, 10 seeds; about two hours on one core
    python benchmarks/agents.py --part cartpole   # CartPole-v1, learned
    python benchmarks/agents.py --part pendulum   # Pendulum-v1, learned
    python benchmarks/agents.py --part known      # both with the known model

Nothing here is asserted: it prints one table a part.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np
import threadpoolctl

from hamiltonian_rl.agents import make_agent
from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.making import make_vector_env
from hamiltonian_rl.envs.optimum import optimum_of
from hamiltonian_rl.principles.kinematics import times_to_threshold

THRESHOLD = 475.0
STARTS = 10_000  # seed of the start states
# Every second step is planned on CartPole-v1, which halves the time of its long episodes.
LEARNED: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"model": "learned", "stride": 2},
    "Pendulum-v1": {"model": "learned"},
}


def learner(name: str, env_id: str, seed: int) -> Any:
    """Make an agent with its tuned settings, its budget and number of environments apart."""
    settings = dict(LEARNED[env_id]) if name == "costate" else tuned_settings(name, env_id)
    copies = settings.pop("n_envs", 1)
    settings.pop("steps", None)
    env = gym.make(env_id) if copies == 1 else make_vector_env(env_id, copies, native=False)
    return make_agent(name, env, seed=seed, **settings)


def cartpole(seeds: range, budget: int) -> None:
    """Print how many steps each agent takes until CartPole-v1 is solved for good."""
    rows: dict[str, list[tuple[int | None, float, float]]] = {}
    for name, every, total in (("costate", 50, budget), ("sb3:ppo", 1_000, 60_000)):
        for seed in seeds:
            agent, evaluator = learner(name, "CartPole-v1", seed), Evaluator("CartPole-v1")
            evaluations: list[dict[str, float]] = []
            seconds = 0.0
            while not evaluations or agent.num_timesteps < total:
                begin = time.process_time()
                agent.learn(every, reset_num_timesteps=not evaluations)
                seconds += time.process_time() - begin
                mean = float(evaluator.returns(agent, episodes=20, seed=STARTS).mean())
                evaluations.append({"step": agent.num_timesteps, "seconds": seconds, "mean_reward": mean})
            solved = times_to_threshold(evaluations, THRESHOLD)["steps_to_solved_for_good"]
            means = [evaluation["mean_reward"] for evaluation in evaluations]
            rows.setdefault(name, []).append((solved, means[-1], seconds))
            shown = [round(mean) for mean in means[:12]]
            print(f"  {name} seed {seed}: {solved}, end {means[-1]:.1f}, {seconds:.1f} CPU-s, {shown}", flush=True)
    print("\n| CartPole-v1 | solved for good: median steps (min-max) | never | worst end | CPU-s (median) |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in rows.items():
        solved_at = sorted(float("inf") if solved is None else solved for solved, _, _ in found)
        never = solved_at.count(float("inf"))
        print(
            f"| {name} | {statistics.median(solved_at):,.0f} ({solved_at[0]:,.0f}-{solved_at[-1]:,.0f}) | "
            f"{never} of {len(found)} | {min(end for _, end, _ in found):.1f} | "
            f"{statistics.median(seconds for _, _, seconds in found):.1f} |"
        )


def optimum(episodes: int) -> np.ndarray:
    """Return the optimal returns of Pendulum-v1 from the evaluation's starts."""
    agent = make_agent("random", gym.make("Pendulum-v1"), seed=0)
    starts = Evaluator("Pendulum-v1").run(agent, episodes=episodes, seed=STARTS).starts
    return np.asarray(optimum_of("Pendulum-v1").returns(starts).value)


def pendulum(seeds: range, episodes: int, budgets: dict[str, list[int]]) -> None:
    """Print the mean regret on Pendulum-v1 after some numbers of steps."""
    best = optimum(episodes)
    print(f"  mean optimal return of {episodes} starts: {best.mean():.2f}", flush=True)
    found: dict[tuple[str, int], list[float]] = {}
    for name, at in budgets.items():
        for seed in seeds:
            agent, evaluator, seconds = learner(name, "Pendulum-v1", seed), Evaluator("Pendulum-v1"), 0.0
            for steps in at:
                begin = time.process_time()
                agent.learn(steps - agent.num_timesteps, reset_num_timesteps=steps == at[0])
                seconds += time.process_time() - begin
                returns = evaluator.returns(agent, episodes=episodes, seed=STARTS)
                share = float((best - returns).mean() / abs(best.mean()))
                found.setdefault((name, steps), []).append(share)
                print(f"  {name} seed {seed}, {steps:,} steps: regret {share:.2%}, {seconds:.1f} CPU-s", flush=True)
    print(f"\n| Pendulum-v1, {episodes} starts | steps | mean regret / |optimum|: median (min-max) | within 5 % |")
    print("| --- | --- | --- | --- |")
    for (name, steps), shares in found.items():
        within = sum(share <= 0.05 for share in shares)
        print(
            f"| {name} | {steps:,} | {statistics.median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%}) | "
            f"{within} of {len(shares)} |"
        )


def known(episodes: int) -> None:
    """Print what the known model allows, without training."""
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


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("cartpole", "pendulum", "known"), help="only this part")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1 (default: 10)")
    parser.add_argument("--steps", type=int, default=1_000, help="of the learned model on CartPole-v1")
    parser.add_argument("--episodes", type=int, default=100, help="starts on Pendulum-v1")
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    with threadpoolctl.threadpool_limits(1):
        if arguments.part in (None, "cartpole"):
            cartpole(seeds, arguments.steps)
        if arguments.part in (None, "pendulum"):
            pendulum(seeds, arguments.episodes, {"costate": [1_000, 2_000], "sb3:sac": [2_000, 5_000, 10_000, 20_000]})
        if arguments.part in (None, "known"):
            known(arguments.episodes)


if __name__ == "__main__":
    main()
