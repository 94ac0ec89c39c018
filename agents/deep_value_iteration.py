"""Deep value iteration: a network for V, fitted to Bellman's equation, to the costate equation, or to both.

The model behind the environment is known. Each sweep asks it at a fixed set of states for the right-hand sides of

    V(s)  =  max_a r(s, a) + γ V(f(s, a))                                        (Eq. 18)
    ∇V(s) =  r_s + γ f_sᵀ ∇V(f(s, a)) at that action: the costate, λ = ∇V        (Eq. 14, 17)

and fits the network to them. In the field's names: heuristic dynamic programming (HDP) fits the first, dual heuristic
programming (DHP) the second, globalised dual heuristic programming (GDHP) both.

Reference:
    Werbos (1992), "Approximate dynamic programming for real-time control and neural modeling"; Prokhorov and Wunsch
    (1997), "Adaptive critic designs"; Munos and Szepesvári (2008), "Finite-time bounds for fitted value iteration".
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.deep_value_iteration_models import ControlModel, TableModel
from hamiltonian_rl.agents.q_table import checked_array
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.agents.value_fit import ValueFit
from hamiltonian_rl.agents.value_network import LearntValue
from hamiltonian_rl.envs.behind import ProblemSource, problem_behind, table_model
from hamiltonian_rl.errors import TrainingError, UsageError
from hamiltonian_rl.problems import ControlProblem

if TYPE_CHECKING:
    from hamiltonian_rl.agents.callbacks import Callbacks
    from hamiltonian_rl.tracking.checkpoint import Tree

ENOUGH = 0.99  # a fit that lowers the loss by less is done


@dataclass(frozen=True)
class DeepValueIterationSettings:
    """Hyper-parameters. A step is one state of one sweep: once that the model is asked for the right-hand sides."""

    gamma: float = setting(0.99, "discount", least=0, most=1)
    costate_weight: float = setting(
        0.5, "share of the loss that is the costate equation's (0: HDP, 1: DHP, between: GDHP)", least=0, most=1
    )
    states: int = setting(2_000, "states at which the equations are to hold, drawn once", least=1, most=10_000_000)
    hidden: tuple[int, ...] = setting((24, 24), "widths of the hidden layers", least=1, most=10_000)
    pieces: int = setting(1, "smooth functions that V is the maximum of", least=1, most=1_000)
    products: bool = setting(True, "a quadratic form of the coordinates beside the layers")
    n_step: int = setting(
        1, "steps of the greedy policy before V is asked, in the values' targets", least=1, most=10_000
    )
    lookahead: int = setting(
        1, "steps planned ahead by costates before V is asked, in targets and in predict", least=1, most=10_000
    )
    stride: int = setting(5, "steps of a plan that predict goes before the next", least=1)
    visited: float = setting(
        0.0, "share of the states that each sweep draws anew from where the plans before ended", least=0, most=1
    )
    trials: int = setting(
        0, "lookahead: starts from which each sweep's V is tried on the model; the best V acts (0: the last)", least=0
    )
    fit_steps: int = setting(3, "Gauss-Newton steps in one sweep", least=1, most=1_000)
    huber_threshold: float = setting(
        0.0, "error, in units of V, beyond which the loss grows linearly (0: squared loss)", least=0
    )
    ridge: float = setting(1e-9, "weight of the parameters' own squares in the loss", least=0)


class DeepValueIteration(Agent):
    """Fits V to the equations of the control problem, or of the table, behind its environment.

    V is that without a time limit, of the discount ``gamma``: for without one there is one policy for all steps. The
    environment is not stepped: it tells the problem, and is what the policy is measured in.

    Example:
        >>> agent = DeepValueIteration(gym.make("FrozenLake-v1"), hidden=())
        >>> agent.learn(16 * 100).value(np.array([0])).round(1)  # 100 sweeps
        array([0.5])
    """

    name = "deep-value-iteration"
    learns_from = "model"
    Settings = DeepValueIterationSettings
    settings: DeepValueIterationSettings

    def _build(self) -> None:
        s = self.settings
        if s.lookahead > 1 and s.n_step > 1:
            raise UsageError(
                f"lookahead = {s.lookahead} and n_step = {s.n_step}; expected one of them: a plan's rewards are all "
                "in its target. Take n_step=1."
            )
        if s.lookahead == 1 and s.visited:
            raise UsageError(f"visited = {s.visited} without plans whose ends are visited; expected lookahead above 1.")
        if s.lookahead == 1 and s.trials:
            raise UsageError(f"trials = {s.trials} without plans that could be tried; expected lookahead above 1.")
        self._told = False  # whether `predict` was told who begins an episode
        self._env_met: Any = None
        self._source: ProblemSource | None = None
        self._model: ControlModel | TableModel | None = None
        self._saved: Any = None  # what was learnt of a model that an environment is yet to tell
        self._meet(self.env)

    def _prepare(self) -> None:
        self._meet(self.env)

    def _meet(self, env: Any) -> None:
        """Take the model behind the environment, unless that is done."""
        if env is None or env is self._env_met:
            return
        gamma, observations, actions = self.settings.gamma, self.observation_space, self.action_space
        if isinstance(observations, gym.spaces.Discrete) and isinstance(actions, gym.spaces.Discrete):
            if gamma == 1:
                raise UsageError("gamma = 1; expected less: without discount the sweeps of a table need not converge.")
            if self.settings.lookahead > 1:
                raise UsageError(
                    f"lookahead = {self.settings.lookahead} of a table, whose states have no slopes. Take lookahead=1."
                )
            mdp = table_model(env, gamma, (int(observations.n), int(actions.n)))
            self._take(TableModel(observations, actions, mdp))
        else:
            problem, self._source = problem_behind(env)
            self._take(self._control_model(problem))
        self._env_met = env

    def _control_model(self, problem: ControlProblem) -> ControlModel:
        s = self.settings
        if s.lookahead == 1:
            return ControlModel(problem, self.action_space, s.gamma)
        from hamiltonian_rl.agents.lookahead import PlannedModel  # which takes a while to load

        return PlannedModel(problem, self.action_space, s.gamma, s.lookahead, s.stride)

    def _take(self, model: ControlModel | TableModel) -> None:
        """Take a model, and for a first one draw a network and states; what was learnt before stays."""
        first, self._model = self._model is None, model
        if first:
            s = self.settings
            # What was saved replaces what is drawn, and goes on with the generator as it was.
            generator = self._rng if self._saved is None else np.random.default_rng(0)
            self.network = model.network(s.hidden, s.pieces, s.products)
            self._params = self.network.initial(generator)
            self._states = model.draw(self.settings.states, generator)
            self._fit = ValueFit(
                self.network,
                0.0 if isinstance(model, TableModel) else self.settings.costate_weight,
                self.settings.huber_threshold or float("inf"),
                self.settings.ridge,
            )
            self.sweeps = 0
            self._best: tuple[LearntValue, float] | None = None
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self._set_learnt(saved)

    @property
    def model(self) -> ControlModel | TableModel:
        """The model that is asked.

        Raises:
            UsageError: No environment has told it.
        """
        if self._model is None:
            raise UsageError("This agent has no environment that tells its model. Give it one with set_env(env).")
        return self._model

    # Learning

    def _iterate(self, callbacks: Callbacks, log_interval: int | None) -> bool:
        """Sweep once; return whether to go on. Records are written every ``log_interval`` sweeps."""
        callbacks.rollout_start()
        self._sweep()
        go_on = callbacks.step({"infos": [], "dones": np.zeros(self.stepper.num_envs, bool)})
        callbacks.rollout_end()
        if log_interval is not None and self.sweeps % log_interval == 0:
            self.dump_logs()
        return go_on

    def _sweep(self) -> None:
        """Ask the model for the right-hand sides everywhere, then fit the network to them."""
        self.sweeps += 1
        self.num_timesteps += len(self._states)
        targets = self.model.targets(self._value, self._states, self.settings.n_step)
        size = float(targets.value.square().mean()) ** 0.5
        if not size < np.inf:
            raise TrainingError(
                f"Learning diverged: the root of the targets' mean square is {size} at step {self.num_timesteps}. Draw "
                f"more states (now {len(self._states)}), or take a larger ridge (now {self.settings.ridge:g})."
            )
        if size > 0:
            self.network.rescale(self._params, size)
        loss = self._fit.loss(self._params, self._states, targets)
        for _ in range(self.settings.fit_steps):
            before = loss
            self._params, loss = self._fit.improve(self._params, self._states, targets)
            if loss > ENOUGH * before:
                break
        if self.settings.costate_weight == 1 and targets.costate is not None:
            # Slopes say nothing of the constant in V: here the mean of Eq. 18 does.
            self.network.shift(self._params, float((targets.value - self._value(self._states)).mean()))
        self.model.improve(self._value)
        self._try()
        self._states = self.model.moved(self._states, self.settings.visited, self._rng)
        self.logger.record("train/loss", loss)
        self.logger.record("train/value_mean", float(targets.value.mean()))

    def _try(self) -> None:
        """Have the best V so far act, by what it earns on the model: sweeps do not settle where V has cliffs."""
        if not self.settings.trials or self.settings.lookahead == 1:
            return
        from hamiltonian_rl.agents.lookahead import PlannedModel

        assert isinstance(self.model, PlannedModel)
        starts = self.model.problem.initial_states(self.settings.trials, np.random.default_rng([self.seed, 1]))
        value = LearntValue(copy.copy(self.network), self._params.clone())
        earned = self.model.tried(value, starts)
        if self._best is None or earned > self._best[1]:
            self._best = value, earned
        self.logger.record("train/trials", earned)

    @property
    def _value(self) -> LearntValue:
        return LearntValue(self.network, self._params)

    @property
    def _acting(self) -> LearntValue:
        return self._value if self._best is None else self._best[0]

    # What was learnt

    def value(self, states: np.ndarray) -> np.ndarray:
        """Return V of states ``(..., n)``, or of a table's observations ``(...)``; shape ``(...)``."""
        asked = self.model.states(states)
        with torch.no_grad():
            found: np.ndarray = self._acting(asked).numpy()
        return found

    def costate(self, states: np.ndarray) -> np.ndarray:
        """Return ``∇V`` at states ``(..., n)``, of the same shape.

        Raises:
            UsageError: The states are a table's, which has no slopes.
        """
        if isinstance(self.model, TableModel):
            raise UsageError("A table's V has no slopes. On its simplex the costate is V itself: use value().")
        value = self._acting
        return value.network.slope(value.parameters, self.model.states(states))[1].detach().numpy()

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        self._meet(self.env)  # it may have been set since
        return self.model.actions(self._acting, observations, told=self._told)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return the action for one observation, or the actions for a batch.

        Args:
            observation: As for every agent. With ``lookahead`` each row is an environment of its own.
            state: Passed through.
            episode_start: Of bool, ``(n,)``: who begins an episode. Without it, who is off the path that was planned.
            deterministic: Both are the same.
        """
        self._told = episode_start is not None
        if self._told and self._model is not None:
            self._model.forget(np.atleast_1d(np.asarray(episode_start, bool)))
        return super().predict(observation, state, episode_start, deterministic)

    def _log(self) -> None:
        self.logger.record("train/sweeps", self.sweeps)

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the network's parameters."""
        return [] if self._model is None else [self._params.numpy()]

    def _own_state(self) -> Tree:
        if self._saved is not None or self._model is None:
            return self._saved
        return {
            "params": self._params.numpy(),
            "states": self._states.numpy(),
            "numbers": [self.network.scale, self._fit.damping],
            "sweeps": self.sweeps,
            "best": None
            if self._best is None
            else [self._best[0].parameters.numpy(), self._best[0].network.scale, self._best[1]],
            "policy": self._model.policy if isinstance(self._model, TableModel) else None,
            "problem": None if self._source is None else asdict(self._source),
        }

    def _set_own_state(self, tree: Any) -> None:
        self._saved = tree
        if self._model is not None:
            self._take(self._model)
        elif tree["policy"] is not None:
            self._take(TableModel(self.observation_space, self.action_space))  # type: ignore[arg-type]
        elif tree["problem"] is not None:
            self._source = ProblemSource(**tree["problem"])
            self._take(self._control_model(self._source.make()))

    def _set_learnt(self, tree: Any) -> None:
        def checked(name: str, shape: tuple[int, ...]) -> torch.Tensor:
            return torch.as_tensor(checked_array(tree[name], name, shape, np.dtype(float)))

        self._params = checked("params", (self.network.size,))
        self._states = checked("states", (len(tree["states"]), len(self.network.half_width)))
        self.network.scale, self._fit.damping = map(float, tree["numbers"])
        self.sweeps = int(tree["sweeps"])
        if tree["best"] is not None:
            network, (parameters, network.scale, earned) = copy.copy(self.network), tree["best"]
            best = checked_array(parameters, "best", (network.size,), np.dtype(float))
            self._best = LearntValue(network, torch.as_tensor(best)), float(earned)
        if isinstance(self._model, TableModel):
            policy = self._model.policy
            self._model.policy = checked_array(tree["policy"], "policy", policy.shape, policy.dtype)
