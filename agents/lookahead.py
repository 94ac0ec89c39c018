"""Bellman's equation over several steps: paths are planned ahead, and V is asked at their end.

    V(s)  =  max_a Σ_{k<N} γ^k r(s_k, a_k) + γ^N V(s_N)              (Eq. 18, N times)

with the maximum by costates (Eq. 13-15, the network's V for h). Errors of V count γ^N times, and where the path sees
the end of a swing V need not know how many there are.

Reference:
    Efroni, Dalal, Scherrer and Mannor (2018), "Beyond the one-step greedy approach in reinforcement learning"; Lowrey
    et al. (2019), "Plan online, learn offline".
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Timer

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.agents.deep_value_iteration_models import ControlModel
from hamiltonian_rl.agents.led_paths import Followed, LedPaths, PlannedPath
from hamiltonian_rl.agents.led_starts import HOLD, LedStarts
from hamiltonian_rl.agents.value_fit import Targets
from hamiltonian_rl.agents.value_network import LearntValue, ValueNetwork
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, solve_costate
from hamiltonian_rl.solvers.costate.backend import Phase, choose_backend
from hamiltonian_rl.solvers.costate.following import along

HOLDS, MOST_WAYS = (1, 4, 10, 2, 7), 16  # how many holds a first action is kept; and paths compared for one start
MOST_SWITCHED = 64  # paths that switch once
STATES_AT_ONCE = 1_000
ITERATIONS, TOL = 15, 1e-6
STEPS_TRIED = 200  # of a problem without a horizon
ENDLESS = 10**9  # steps: V has no limit
SECONDS_OF_SILENCE = 2.0

_log = logging.getLogger(__name__)


class ProblemAhead(ControlProblem):
    """A problem's next steps, at the end of which a network's V is earned.

    Its weights and unit are parameters: new ones are written into the compiled code.

    Args:
        problem: Asked at step zero.
        network: Of V.
        actions: Of the environment.
        discount: ``γ``.
        steps: N.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> pendulum = problem("Pendulum-v1")
        >>> network = ValueNetwork(pendulum.state_space.low, pendulum.state_space.high, (4,))
        >>> ahead = ProblemAhead(pendulum, network, pendulum.action_space, 0.99, 20)
        >>> ahead.take(LearntValue(network, network.initial(np.random.default_rng(0))))
        >>> solve_costate(ahead, np.array([[0.0, 0.0]])).value.tolist()  # upright, and V is zero at first
        [0.0]
    """

    parameters = "weights", "unit"

    def __init__(
        self, problem: ControlProblem, network: ValueNetwork, actions: gym.spaces.Box, discount: float, steps: int
    ) -> None:
        self.problem, self.network = problem, network
        self.state_space, self.periodic = problem.state_space, problem.periodic
        low, high = actions.low.astype(np.float64), actions.high.astype(np.float64)
        self.action_space = gym.spaces.Box(low, high, dtype=np.float64)
        self.discount, self.horizon = discount, steps
        self.weights = torch.zeros(network.size, dtype=torch.float64)
        self.unit = torch.ones((), dtype=torch.float64)

    def take(self, value: LearntValue) -> None:
        """Take V."""
        self.weights.copy_(value.parameters)
        self.unit.fill_(value.network.scale)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return the problem's next state."""
        return self.problem.dynamics(state, action, 0)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return the problem's reward."""
        return self.problem.reward(state, action, 0)

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """Return V."""
        return self.unit * self.network.in_units(self.weights, state)


class PlannedModel(ControlModel):
    """The Bellman operator of several steps of a control problem.

    Args:
        problem: As of `ControlModel`; its episodes do not end.
        action_space: A Box with finite bounds.
        discount: ``γ``.
        steps: Planned ahead.
        stride: Steps of a plan that are gone before the next.

    Raises:
        UsageError: Actions are discrete, or episodes can end.
    """

    def __init__(
        self, problem: ControlProblem, action_space: gym.Space, discount: float, steps: int, stride: int
    ) -> None:
        super().__init__(problem, action_space, discount)
        name = type(problem).__name__
        if not isinstance(action_space, gym.spaces.Box):
            raise UsageError(
                f"lookahead = {steps} with the actions {action_space}; costates plan a Box of them. Take lookahead=1."
            )
        if self._ends:
            raise UsageError(
                f"lookahead = {steps}, but episodes of {name} can end, which costates do not see. Take lookahead=1."
            )
        self._actions, self._steps, self._stride = action_space, steps, min(stride, steps)
        self._ahead: ProblemAhead | None = None
        self._phase: Phase | None = None
        self._value: LearntValue | None = None
        self._paths = LedPaths(self.problem, self._planned, steps=ENDLESS, stride=self._stride, ahead=steps)
        self._reached = torch.zeros(0, len(self.low), dtype=torch.float64)

    def targets(self, value: LearntValue, states: torch.Tensor, steps: int = 1) -> Targets:
        """Return the best paths' values, and the costates at their starts: ``∇V`` (Eq. 17)."""
        path = self.plan(value, states.numpy(), self._led(value, states.numpy())).trajectory
        assert path.costates is not None
        self._reached = torch.as_tensor(self._inside(path.states[:, -1]))
        self._paths.forget_all()  # they were planned with the V before
        found = Targets(torch.as_tensor(path.value), torch.as_tensor(path.costates[:, 0].copy()))
        lost = ~(found.value.isfinite() & found.costate.isfinite().all(-1))  # type: ignore[union-attr]
        if lost.any():
            for part, one in zip(found, super().targets(value, states[lost]), strict=True):
                part[lost] = one  # type: ignore[index,assignment]
        return found

    def moved(self, states: torch.Tensor, share: float, generator: np.random.Generator) -> torch.Tensor:
        """Return the states with the last share of them drawn from where the last paths ended: there V is asked."""
        count = min(round(share * len(states)), len(self._reached))
        drawn = generator.choice(len(self._reached), count, replace=False) if count else np.zeros(0, np.int64)
        return torch.cat([states[: len(states) - count], self._reached[drawn]])

    def plan(self, value: LearntValue, states: np.ndarray, starts: list[np.ndarray]) -> PathSolution:
        """Return the best path from each state ``(B, n)``, of those from some starts ``(B, N, m)``."""
        ahead, phase = self._ready(value)
        return solve_costate(
            ahead, states, starts=starts, tol=TOL, max_iterations=ITERATIONS, barrier=False, backend=phase
        )

    def actions(self, value: LearntValue, observations: np.ndarray, *, told: bool = False) -> np.ndarray:
        """Return the actions of the plans of observations, each row an environment's; ``told`` as of `LedPaths`."""
        self._value = value
        states = self.problem.state_of(torch.as_tensor(np.asarray(observations, float))).numpy()
        return np.asarray(self._paths.actions(states, told=told), self._actions.dtype)

    def tried(self, value: LearntValue, states: np.ndarray) -> float:
        """Return what plans with a V earn on the model, in the mean to the problem's horizon, from ``(B, n)``."""
        self._value = value
        paths = LedPaths(self.problem, self._planned, steps=ENDLESS, stride=self._stride, ahead=self._steps)
        now, earned = torch.as_tensor(states), torch.zeros(len(states), dtype=torch.float64)
        for _ in range(self.problem.horizon or STEPS_TRIED):
            action = torch.as_tensor(paths.actions(now.numpy(), told=True))
            earned += self.problem.reward(now, action, 0)
            now = self.problem.dynamics(now, action, 0)
        return float(earned.mean())

    def forget(self, which: np.ndarray) -> None:
        """Begin episodes in some environments, ``(n,)`` of bool."""
        self._paths.forget(which)

    def _planned(self, states: np.ndarray, steps: int, so_far: list[Followed | None]) -> list[PlannedPath]:
        """Return paths, each the better of one that begins anew and one that goes on as before."""
        value = self._value
        assert value is not None
        led = self._led(value, states, anew=any(one is None for one in so_far))
        going = led[0].copy()
        for row, one in enumerate(so_far):
            if one is not None and isinstance(one[0], Plan):
                rest = one[0].actions[one[1] :]
                going[row, : len(rest)], going[row, len(rest) :] = rest, one[0].actions[-1]
        found = self.plan(value, states, [*led, going] if any(so_far) else led)
        path = found.trajectory
        paths: list[PlannedPath] = []
        for row, state in enumerate(states):
            here, taken, gain = path.states[row], path.actions[row], found.feedback[row]
            if not (np.isfinite(here).all() and np.isfinite(gain).all()):  # it leads nowhere: for a step only
                best = self.greedy(value, torch.as_tensor(state[None])).numpy()
                here, taken, gain = state[None].repeat(2, 0), best, np.zeros_like(gain[:1])
            policy = along(found.problem, here[None], taken[None], gain[None])
            paths.append(Plan(here, policy, taken))
        return paths

    def _led(self, value: LearntValue, states: np.ndarray, *, anew: bool = False) -> list[np.ndarray]:
        """Return actions to begin with, each ``(B, N, m)``: one is kept for a while, then the greedy ones of V follow.

        The best for each first action: which of them a plan ends up with decides how many swings there are. All of them
        where a path begins ``anew``, and others that switch once: it decides for many steps, and V at its cliffs does
        not know which of them polishing makes the best.
        """
        actions = self._candidates(1)[:, 0].numpy()
        holds = np.sort(HOLDS[: max(1, (MOST_WAYS - 1) // len(actions))])
        starts = LedStarts(
            lambda states: self._held(torch.as_tensor(states), torch.as_tensor(actions)),
            lambda states: value(torch.as_tensor(states)).numpy(),
            actions,
            decay=self.discount**HOLD,
            ends=True,
        )
        parts = np.array_split(states, -(-len(states) // STATES_AT_ONCE))
        with torch.no_grad():
            if anew:
                found = [
                    starts.all(part, self._steps, holds) + starts.switched(part, self._steps, MOST_SWITCHED)
                    for part in parts
                ]
            else:
                found = [starts.best_of_each(part, self._steps, holds) for part in parts]
        return [np.concatenate(some) for some in zip(*found, strict=True)]

    def _held(self, states: torch.Tensor, actions: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return where each of k actions leads if it is kept, ``(B k, n)``, and what it pays, ``(B, k)``."""
        k = len(actions)
        state, action = states.repeat_interleave(k, 0), actions.repeat(len(states), 1)
        paid = torch.zeros(len(state), dtype=state.dtype)
        for step in range(HOLD):
            paid += self.discount**step * self.problem.reward(state, action, 0)
            state = self.problem.dynamics(state, action, 0)
        return state.numpy(), paid.reshape(-1, k).numpy()

    def _ready(self, value: LearntValue) -> tuple[ProblemAhead, Phase]:
        """Return the problem that is planned, with this V, and what solves it; the first time that is compiled."""
        if self._ahead is None or self._phase is None:
            self._ahead = ProblemAhead(self.problem, value.network, self._actions, self.discount, self._steps)
            name, size = type(self.problem).__name__, value.network.size
            say = Timer(SECONDS_OF_SILENCE, _log.warning, [f"Compiling {name} with V's {size} weights, once."])
            say.start()
            try:
                middle = 0.5 * (self.low + self.high)
                self._phase = choose_backend(self._ahead, middle[None], "auto", "cpu")
            finally:
                say.cancel()
        self._ahead.take(value)
        return self._ahead, self._phase

    def _inside(self, states: np.ndarray) -> np.ndarray:
        """Return those of states ``(B, n)`` that are in the box, angles by full turns."""
        turns = np.array(self.problem.periodic or [False] * len(self.low))
        width = np.where(turns, self.high - self.low, np.inf)
        states = states - np.where(turns, width, 0.0) * np.floor((states - self.low) / width)
        return np.asarray(states[((states >= self.low) & (states <= self.high)).all(-1)])


@dataclass(frozen=True)
class Plan(PlannedPath):
    """A path whose actions ``(N, m)`` may go on."""

    actions: np.ndarray
