"""What deep value iteration asks of a model: states, the right-hand side of Eq. 17 and 18 there, and greedy actions.

`ControlModel` answers from a control problem, `TableModel` from a finite process. V is a function of a batch of states.
"""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.agents.box_maximum import box_maximum
from hamiltonian_rl.agents.value_fit import Targets
from hamiltonian_rl.agents.value_network import LearntValue, ValueNetwork
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.bellman import backup
from hamiltonian_rl.problems import MDP, ControlProblem
from hamiltonian_rl.problems.control_problem import can_end

MOST_GRIDDED = 2  # coordinates of the action whose ends and middles are all combined


class ControlModel:
    """The Bellman operator of a control problem, without its horizon.

    Args:
        problem: With bounds of its states; its dynamics and reward are asked at step zero.
        action_space: Of the environment: finite bounds.
        discount: ``γ``.

    Raises:
        UsageError: The problem has no bounds, is constrained, or does not say which state an observation shows.
    """

    def __init__(self, problem: ControlProblem, action_space: gym.Space, discount: float) -> None:
        self.problem, self.discount = problem, discount
        self.low, self.high = (bound.astype(float) for bound in (problem.state_space.low, problem.state_space.high))
        name = type(problem).__name__
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise UsageError(
                f"{name}.state_space is {problem.state_space}; expected finite bounds, for states are drawn from it."
            )
        self._space = action_space
        self._ends = can_end(problem)
        probe = torch.as_tensor(0.5 * (self.low + self.high))[None]
        problem.state_of(problem.observation(probe))  # refuses a problem that does not say which that is
        limits = problem.constraints(probe, self._candidates(1)[0], 0), problem.terminal_constraints(probe)
        if any(limit.shape[-1] for limit in limits):
            raise UsageError(f"{name} has constraints, which Bellman's equation here does not know. Take `costate`.")

    def network(self, hidden: tuple[int, ...], pieces: int, products: bool) -> ValueNetwork:
        """Return a network for V over the problem's states."""
        return ValueNetwork(self.low, self.high, hidden, pieces, self.problem.periodic, products=products)

    def draw(self, count: int, generator: np.random.Generator) -> torch.Tensor:
        """Draw states uniformly, ``(count, n)``; those where the episode is over have no V and are left out."""
        states = torch.as_tensor(generator.uniform(self.low, self.high, (count, len(self.low))))
        return states[~self.problem.terminated(states)] if self._ends else states

    def states(self, states: np.ndarray) -> torch.Tensor:
        """Return states as a tensor.

        Raises:
            UsageError: They have another number of coordinates.
        """
        array = np.asarray(states, float)
        if array.shape[-1:] != self.low.shape:
            raise UsageError(f"The states have shape {array.shape}; expected (..., {len(self.low)}).")
        return torch.as_tensor(array)

    def improve(self, value: LearntValue) -> None:
        """Do nothing: greedy actions are found when they are asked for."""

    def action_value(self, value: LearntValue, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return ``Q(s, a) = r(s, a) + γ V(f(s, a))``, of an end ``γ h`` for the second term; shape ``(B,)``."""
        successors = self.problem.dynamics(states, actions, 0)
        later = value(successors)
        if self._ends:
            over = self.problem.terminated(successors)
            later = torch.where(over, self.problem.terminal_reward(successors), later)
        return self.problem.reward(states, actions, 0) + self.discount * later

    def greedy(self, value: LearntValue, states: torch.Tensor) -> torch.Tensor:
        """Return ``argmax_a Q(s, a)``: among all discrete actions, or by `box_maximum`."""
        candidates = self._candidates(len(states))
        if isinstance(self._space, gym.spaces.Box):
            low, high = self._bounds()
            return box_maximum(lambda actions: self.action_value(value, states, actions), low, high, candidates)
        with torch.no_grad():
            q = torch.stack([self.action_value(value, states, actions) for actions in candidates])
        return candidates[q.argmax(0), 0]

    def targets(self, value: LearntValue, states: torch.Tensor, steps: int = 1) -> Targets:
        """Return ``max_a Q`` (Eq. 18) and its gradient ``r_s + γ f_sᵀ ∇V(f)`` (Eq. 17).

        By the envelope theorem that is the gradient of Q with the best action held, bounds or not.

        Args:
            value: V.
            states: ``(B, n)``.
            steps: Of the greedy policy whose rewards are in the value before V is: one is Eq. 18. More carry rewards
                further in a sweep (modified policy iteration), and errors of V less. The gradient is of one step
                always: back along a path whose actions are held it grows as the uncontrolled dynamics do.
        """
        actions = self.greedy(value, states)
        states = states.detach().requires_grad_()
        best = self.action_value(value, states, actions)
        (costate,) = torch.autograd.grad(best.sum(), states)
        if steps > 1:
            best = self._path_value(value, states.detach(), actions, steps)
        return Targets(best.detach(), costate)

    def _path_value(self, value: LearntValue, states: torch.Tensor, actions: torch.Tensor, steps: int) -> torch.Tensor:
        """Return ``r_0 + γ r_1 + ... + γ^N V(s_N)`` along the greedy policy, its first actions given."""
        total, weight = torch.zeros(len(states), dtype=states.dtype), torch.ones(len(states), dtype=states.dtype)
        for _ in range(steps - 1):
            total = total + weight * self.problem.reward(states, actions, 0)
            states = self.problem.dynamics(states, actions, 0)
            weight = self.discount * weight
            if self._ends:
                over = self.problem.terminated(states)
                total = total + torch.where(over, weight * self.problem.terminal_reward(states), 0.0)
                weight = torch.where(over, 0.0, weight)
            actions = self.greedy(value, states)
        return total + weight * self.action_value(value, states, actions)

    def moved(self, states: torch.Tensor, share: float, generator: np.random.Generator) -> torch.Tensor:
        """Return the states: they stay."""
        return states

    def forget(self, which: np.ndarray) -> None:
        """Do nothing: there is no memory of episodes."""

    def actions(self, value: LearntValue, observations: np.ndarray, *, told: bool = False) -> np.ndarray:
        """Return the greedy actions of observations, as the environment takes them, whoever began an episode."""
        states = self.problem.state_of(torch.as_tensor(np.asarray(observations, float)))
        return np.asarray(self.greedy(value, states).numpy(), self._space.dtype)

    def _bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        space = self._space
        assert isinstance(space, gym.spaces.Box)
        low, high = (torch.as_tensor(bound.astype(float)) for bound in (space.low, space.high))
        return low, high

    def _candidates(self, count: int) -> torch.Tensor:
        """Return actions to begin with for each of so many states, ``(K, count, m)``, or all ``(K, count)``.

        Ends and middles in all combinations; of many coordinates the middle of all, and each end of one.
        """
        if isinstance(self._space, gym.spaces.Discrete):
            every = torch.arange(int(self._space.start), int(self._space.start + self._space.n))
            return every[:, None].expand(-1, count)
        low, high = self._bounds()
        if len(low) <= MOST_GRIDDED:
            shares = torch.tensor(list(itertools.product([0.5, 0.0, 1.0], repeat=len(low)))).double()
        else:
            shares = torch.full((2 * len(low) + 1, len(low)), 0.5).double()
            shares[1 : len(low) + 1].fill_diagonal_(0.0)
            shares[len(low) + 1 :].fill_diagonal_(1.0)
        return (low + shares * (high - low))[:, None].expand(-1, count, -1)


class TableModel:
    """The Bellman operator of a finite process; its states are the unit vectors.

    On the simplex of distributions V is linear, and the costate there is V itself: there is nothing more to supervise.

    Args:
        observations: The environment's, Discrete.
        actions: The same.
        mdp: The process; None where an agent was loaded without its environment, and the policy is all there is.

    Attributes:
        policy: The greedy action of each state, shape ``(S,)``, since `improve` was called.
    """

    def __init__(self, observations: gym.spaces.Discrete, actions: gym.spaces.Discrete, mdp: MDP | None = None) -> None:
        self._observations, self._first_action, self._mdp = observations, int(actions.start), mdp
        self._units = torch.eye(int(observations.n), dtype=torch.float64)
        self.policy = np.full(len(self._units), self._first_action)

    def network(self, hidden: tuple[int, ...], pieces: int, products: bool) -> ValueNetwork:
        """Return a network for V over unit vectors, whose products say nothing."""
        width = np.ones(len(self._units))
        return ValueNetwork(-width, width, hidden, pieces, products=False)

    def draw(self, count: int, generator: np.random.Generator) -> torch.Tensor:
        """Return all states, ``(S, S)``: a finite process is swept whole."""
        return self._units

    def states(self, observations: np.ndarray) -> torch.Tensor:
        """Return the unit vectors of observations."""
        return self._units[self._rows(observations)]

    def targets(self, value: LearntValue, states: torch.Tensor, steps: int = 1) -> Targets:
        """Return ``max_a [r + γ Σ P V]`` (Eq. 19), whatever the steps."""
        return Targets(torch.as_tensor(self._q_values(value).max(1)), None)

    def improve(self, value: LearntValue) -> None:
        """Make the policy greedy."""
        self.policy = self._q_values(value).argmax(1) + self._first_action

    def moved(self, states: torch.Tensor, share: float, generator: np.random.Generator) -> torch.Tensor:
        """Return the states: all of them."""
        return states

    def forget(self, which: np.ndarray) -> None:
        """Do nothing: there is no memory of episodes."""

    def actions(self, value: LearntValue, observations: np.ndarray, *, told: bool = False) -> np.ndarray:
        """Return the policy's actions of observations."""
        chosen: np.ndarray = self.policy[self._rows(observations)]
        return chosen

    def _rows(self, observations: np.ndarray) -> np.ndarray:
        first, rows = int(self._observations.start), np.asarray(observations)
        if rows.dtype.kind not in "iu" or not ((rows >= first) & (rows < first + len(self._units))).all():
            raise UsageError(
                f"The observation {observations!r} is no whole number from {first} to {first + len(self._units) - 1}."
            )
        return rows - first

    def _q_values(self, value: LearntValue) -> np.ndarray:
        if self._mdp is None:
            raise UsageError("This agent has no environment to learn from. Give it one with set_env(env).")
        return backup(self._mdp, value(self._units).numpy())
