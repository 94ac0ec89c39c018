"""Optimizers as policies: gradient ascent of a log-likelihood, seen as an agent that moves its parameters.

The environment is the control problem of an estimation task: state ``θ``, action ``u = θ̇``, reward
``dt (ℓ - ½ m |u|²)``. Whatever takes a step from ``θ`` to ``θ'`` is a policy, ``u = (θ' - θ)/dt``, with a return and a
regret as any other. The least-action step is the optimal one where ``ℓ`` is quadratic; RMSprop and Adam are its limit
of small ``dt`` with a running diagonal for ``F`` (Eq. 31-32), and natural gradient its limit of large ``dt``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.envs.behind import ProblemSource, problem_behind
from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.optim.gains import step_gain
from hamiltonian_rl.problems.estimation import EstimationControl, EstimationTask

if TYPE_CHECKING:
    from hamiltonian_rl.envs.stepping import Transitions
    from hamiltonian_rl.tracking.checkpoint import Tree

TORCH = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
EXACT = ("least-action", "fisher-root", "natural-gradient")  # with the task's exact Fisher information at θ
SINGULAR = 1e-12  # eigenvalues of F below this share of the largest are zero: nothing is known along them


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer moves the parameters.

    Example:
        >>> OptimizerSettings(rule="adam", learning_rate=0.05).rule
        'adam'
    """

    rule: str = setting("least-action", f"one of {', '.join((*EXACT, *TORCH))}")
    learning_rate: float = setting(0.1, "of all but least-action, whose step the problem's dt and mass say", above=0)


class OptimizerAgent(Agent):
    """Moves the parameters of the estimation task behind its environment by an optimizer's steps; nothing is learnt.

    Averages (Adam's and RMSprop's) begin anew with each episode.

    Example:
        >>> import gymnasium as gym
        >>> agent = OptimizerAgent(gym.make("hrl/Estimation-v0"))
        >>> observation, _ = agent.env.reset(seed=0)
        >>> agent.predict(observation, deterministic=True)[0].shape
        (2,)
    """

    name = "optimizer"
    learns_from = "model"
    Settings = OptimizerSettings
    settings: OptimizerSettings

    def _build(self) -> None:
        rule = self.settings.rule
        if rule not in (*EXACT, *TORCH):
            raise UsageError(f'OptimizerAgent has no rule "{rule}". {did_you_mean(rule, [*EXACT, *TORCH])}')
        self._source: ProblemSource | None = None
        self._problem: EstimationControl | None = None
        self._met: Any = None
        self._training, self._predicting = _Rows(), _Rows()
        self._meet(self.env)

    def _meet(self, env: Any) -> None:
        """Take the problem behind the environment, unless that is done."""
        if env is None or env is self._met:
            return
        self._take(*problem_behind(env))
        self._met = env

    def _take(self, problem: Any, source: ProblemSource | None) -> None:
        if not isinstance(problem, EstimationControl):
            raise UsageError(
                f"OptimizerAgent moves the parameters of an estimation task, and the problem behind this environment "
                f"is {type(problem).__name__}. Take hrl/Estimation-v0, or ControlEnv(task.control_problem(...))."
            )
        self._problem, self._source = problem, source

    def _prepare(self) -> None:
        self._meet(self.env)
        self._training = _Rows()

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        return self._moved(self._training, observations)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        self._meet(self.env)  # it may have been set since
        return self._moved(self._predicting, observations)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or the actions for a batch, each row an environment of its own.

        Args:
            observation: As for every agent.
            state: Passed through.
            episode_start: Of bool, ``(n,)``: who begins an episode, and averages anew. Without it, nobody does.
            deterministic: Both are the same.

        Example:
            >>> import gymnasium as gym
            >>> agent = OptimizerAgent(gym.make("hrl/Estimation-v0"), rule="sgd")
            >>> agent.predict(np.zeros((3, 2)), episode_start=np.array([True, True, True]))[0].shape
            (3, 2)
        """
        if episode_start is not None:
            self._predicting.forget(np.atleast_1d(np.asarray(episode_start, bool)))
        return super().predict(observation, state, episode_start, deterministic)

    def _learn_from(self, step: Transitions) -> None:
        self._training.forget(step.over)

    def _moved(self, rows: _Rows, observations: np.ndarray) -> np.ndarray:
        """Return ``(θ' - θ)/dt``, within the bounds of the actions."""
        if self._problem is None:
            raise UsageError("This agent has no environment whose parameters to move. Give it one with set_env(env).")
        problem, rule, rate = self._problem, self.settings.rule, self.settings.learning_rate
        params = torch.as_tensor(np.asarray(observations, np.float64))
        gradients = _mean_scores(problem.task, params)
        if rule in TORCH:
            moves = rows.steps(TORCH[rule], rate, params, gradients)
        else:
            moves = torch.stack(
                [self._exact_step(theta, gradient) for theta, gradient in zip(params, gradients, strict=True)]
            )
        space: Any = self.action_space
        return np.asarray(np.clip((moves / problem.dt).numpy(), space.low, space.high), space.dtype)

    def _exact_step(self, theta: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return a step with the exact ``F(θ)``: ``gain(F) ∇ℓ``, none along what ``F`` knows nothing of."""
        problem, rule, rate = self._problem, self.settings.rule, self.settings.learning_rate
        assert problem is not None
        values, vectors = torch.linalg.eigh(problem.task.fisher(theta))
        known = values > SINGULAR * values.abs().max()
        values = torch.where(known, values, 1.0)
        if rule == "least-action":
            length = problem.dt / problem.mass**0.5
            gains = step_gain(values, length, 0.5 * length, 0.0)
        else:
            gains = rate / values if rule == "natural-gradient" else step_gain(values, rate, 0.0, 0.0)
        step: torch.Tensor = vectors @ (torch.where(known, gains, 0.0) * (gradient @ vectors))
        return step

    def _own_state(self) -> Tree:
        source = None if self._source is None else asdict(self._source)
        return {"problem": source, "training": self._training.state(), "predicting": self._predicting.state()}

    def _set_own_state(self, tree: Any) -> None:
        if self._problem is None and tree["problem"] is not None:
            source = ProblemSource(**tree["problem"])
            self._take(source.make(), source)
        self._training.set_state(tree["training"])
        self._predicting.set_state(tree["predicting"])


def _mean_scores(task: EstimationTask, params: torch.Tensor) -> torch.Tensor:
    """Return ``∇ℓ(θ)`` of each row, shape ``(B, P)``."""
    with torch.enable_grad():  # also where somebody rolls out without
        params = params.detach().requires_grad_()
        (gradients,) = torch.autograd.grad(task.mean_log_likelihood(params).sum(), params)
    return gradients


class _Rows:
    """An optimizer of torch for each environment, with averages of its own."""

    def __init__(self) -> None:
        self._averages: list[dict[str, torch.Tensor]] = []

    def forget(self, which: np.ndarray) -> None:
        """Begin anew in some environments, ``(n,)`` of bool."""
        for row in np.flatnonzero(which[: len(self._averages)]):
            self._averages[row] = {}

    def steps(
        self, kind: type[torch.optim.Optimizer], rate: float, params: torch.Tensor, gradients: torch.Tensor
    ) -> torch.Tensor:
        """Return each row's step uphill, shape ``(B, P)``."""
        if len(self._averages) != len(params):
            self._averages = [{} for _ in params]
        moves = []
        for row, (theta, gradient) in enumerate(zip(params, gradients, strict=True)):
            leaf = theta.clone().requires_grad_()
            optimizer: Any = kind([leaf], lr=rate, maximize=True)  # type: ignore[call-arg]
            optimizer.state[leaf].update(self._averages[row])
            leaf.grad = gradient
            optimizer.step()
            self._averages[row] = {name: x for name, x in optimizer.state[leaf].items() if x is not None}
            moves.append(leaf.detach() - theta)
        return torch.stack(moves)

    def state(self) -> Tree:
        """Return the averages, for a checkpoint."""
        return [{name: x.numpy().copy() for name, x in averages.items()} for averages in self._averages]

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
        self._averages = [{name: torch.as_tensor(x) for name, x in averages.items()} for averages in tree]
