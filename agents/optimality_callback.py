"""The computed optimum beside the return of any agent in training, Stable-Baselines3's own included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.callbacks import Callback
from hamiltonian_rl.agents.evaluation import Episodes, Evaluator, greedy_episodes
from hamiltonian_rl.agents.settings import is_count
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.making import close_env, make_env
from hamiltonian_rl.envs.optimum import Optimum, optimum_of
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem


class OptimalityCallback(Callback):
    """Runs greedy episodes from the same start states again and again, and logs what they lack of the optimum.

    Goes into ``learn(callback=...)`` of Stable-Baselines3's models, alone, in a list or in a `CallbackList`, and of
    this toolkit's agents. At each evaluation it records with the model's own logger

    * ``eval/mean_reward``: the mean return of the episodes, without discount,
    * ``optimality/return_optimal``: the mean of the optimal returns from the very same start states (`Optimum`),
    * ``optimality/regret``: the second less the first.

    Each start state's optimum is computed once. Where a lower bound is all that is known of it, the regret is at least
    what is logged; ``certificate`` says.

    Args:
        problem: The environment's id, or the environment, of which an optimum can be computed (`optimum_of`); or a
            `ControlProblem`, for an environment of your own whose model it is.
        eval_env: What the episodes are run in, of which ``problem`` is the model; one of its own when None. An
            environment apart from the one that is learnt from: it is reset and stepped.
        eval_freq: Calls between evaluations, as for SB3's `EvalCallback`: one a step of all environments together.
        n_eval_episodes: Episodes in each evaluation.
        seed: Of their start states.
        mean_reward_tag: The first tag; another one beside an `EvalCallback`, which records the same.
        optimum: How the optimum is computed: arguments of `optimum_of` beside the environment.

    Attributes:
        evaluations: Of each evaluation the steps of training, and the three numbers.
        certificate: How the optimum is certified, after the first evaluation; see `OptimalReturns`.

    Raises:
        UsageError: There is no optimum, or an argument does not fit.

    Example:
        >>> from hamiltonian_rl.agents import RandomAgent
        >>> import gymnasium as gym
        >>> callback = OptimalityCallback("FrozenLake-v1", eval_freq=100, n_eval_episodes=2)
        >>> _ = RandomAgent(gym.make("FrozenLake-v1")).learn(200, callback=callback)
        >>> [round(one["return_optimal"], 6) for one in callback.evaluations], callback.certificate
        ([0.74419, 0.74419], 'exact')
    """

    def __init__(
        self,
        problem: str | Any,
        *,
        eval_env: Any = None,
        eval_freq: int = 10_000,
        n_eval_episodes: int = 20,
        seed: int = 0,
        mean_reward_tag: str = "eval/mean_reward",
        **optimum: Any,
    ) -> None:
        for name, value in (("eval_freq", eval_freq), ("n_eval_episodes", n_eval_episodes)):
            if not is_count(value, least=1):
                raise UsageError(f"{name} = {value!r}; expected a whole number from 1.")
        self.eval_freq, self.n_eval_episodes, self.seed = int(eval_freq), int(n_eval_episodes), seed
        self.mean_reward_tag = mean_reward_tag
        self.optimum: Optimum = optimum_of(problem, **optimum)
        self._env = eval_env if eval_env is not None else None if isinstance(problem, str) else problem
        self._run, self._spaces = _episodes_in(problem if self._env is None else self._env)
        self.evaluations: list[dict[str, float]] = []
        self.certificate = ""
        self._calls = 0

    def init_callback(self, model: Any) -> None:
        """Take the agent, or an SB3 model.

        Raises:
            UsageError: It learns from the environment that is to be evaluated in, or has other spaces.
        """
        super().init_callback(model)
        self._calls = 0
        for kind, theirs in self._spaces.items():
            ours = getattr(model, kind)
            if ours.shape != theirs.shape:
                raise UsageError(
                    f"The {kind} of the environment that OptimalityCallback evaluates in is {theirs}; the agent learns "
                    f"with {ours}. Give eval_env, an environment like the agent's own."
                )
        if self._env is not None and any(self._env is env for env in _parts(model.env)):
            raise UsageError(
                "The agent learns from the environment that OptimalityCallback evaluates in, which would disturb it. "
                "Give eval_env, another one of the same kind."
            )

    def on_step(self) -> bool:
        """Evaluate, where that is due; always go on."""
        self._calls += 1
        if self._calls % self.eval_freq == 0:
            self._evaluate()
        return True

    def _evaluate(self) -> None:
        model = self.agent
        found = self._run(_predictor(model), episodes=self.n_eval_episodes, seed=self.seed)
        best = self.optimum.returns(found.starts)
        self.certificate = best.certificate
        returns, optimal = float(found.returns.mean()), float(best.value.mean())
        self.evaluations.append(
            {
                "step": int(model.num_timesteps),
                "mean_reward": returns,
                "return_optimal": optimal,
                "regret": optimal - returns,
            }
        )
        model.logger.record(self.mean_reward_tag, returns)
        model.logger.record("optimality/return_optimal", optimal)
        model.logger.record("optimality/regret", optimal - returns)
        model.logger.record("time/total_timesteps", model.num_timesteps, exclude="tensorboard")
        model.logger.dump(model.num_timesteps)


def _episodes_in(env: Any) -> tuple[Callable[..., Episodes], dict[str, gym.Space]]:
    """Return what runs episodes of an agent, in copies of an environment by id or in the given one; and its spaces."""
    by_id = isinstance(env, str)
    stepper = Stepper(make_env(env) if by_id else ControlEnv(env) if isinstance(env, ControlProblem) else env)
    spaces = {kind: getattr(stepper, kind) for kind in ("observation_space", "action_space")}
    if by_id:
        close_env(stepper.env)
        return Evaluator(env).run, spaces
    limit = getattr(getattr(stepper.env, "spec", None), "max_episode_steps", None)
    return partial(greedy_episodes, stepper, limit=limit), spaces


class _Normalizing:
    """An SB3 model that is shown observations by the running normalisation that it has learnt with."""

    def __init__(self, model: Any, normalization: Any) -> None:
        self._model, self._normalization = model, normalization

    def predict(self, observation: np.ndarray, **options: Any) -> Any:
        return self._model.predict(self._normalization.normalize_obs(observation), **options)


def _predictor(model: Any) -> Any:
    """Return what predicts from plain observations."""
    normalization = None if isinstance(model, Agent) else model.get_vec_normalize_env()
    return model if normalization is None else _Normalizing(model, normalization)


def _parts(env: Any) -> list[Any]:
    """Return an environment, those in it, and those that these wrap."""
    found = []
    while env is not None and env not in found:
        found.append(env)
        found += [part for one in getattr(env, "envs", []) for part in _parts(one)]
        env = getattr(env, "env", None) or getattr(env, "venv", None)
    return found
