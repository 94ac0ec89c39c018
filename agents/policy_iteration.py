"""Policy iteration as an agent: policies evaluated exactly and improved, on the environment's own table.

Nothing is learnt: the plan is made before the first step, and `learn` follows it. The ceiling that learners of the same
table are measured against, as `RandomAgent` is the floor.

Reference:
    Puterman (2005), "Markov decision processes", section 6.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.plan import Plan, PlanSettings
from hamiltonian_rl.solvers import policy_iteration

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


class PolicyIteration(Agent):
    """Acts by the policy that `hamiltonian_rl.solvers.policy_iteration` finds for the environment's table ``P``.

    Example:
        >>> import gymnasium as gym
        >>> agent = PolicyIteration(gym.make("FrozenLake-v1"))
        >>> round(float(agent.plan.value[0]), 5)
        0.54203
    """

    name = "policy-iteration"
    learns_from = "model"
    Settings = PlanSettings
    settings: PlanSettings

    def _build(self) -> None:
        spaces = self.observation_space, self.action_space
        self.plan = Plan(*spaces, self.settings, policy_iteration, "PolicyIteration")
        self.plan.make(self.env)

    def _prepare(self) -> None:
        self.plan.make(self.env)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self.plan.actions(observations)

    def _log(self) -> None:
        self.plan.record(self.logger, self.env)

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the value and the policy, shape ``(S,)`` each."""
        return [self.plan.value, self.plan.policy]

    def _own_state(self) -> Tree:
        return self.plan.state()

    def _set_own_state(self, tree: Any) -> None:
        self.plan.set_state(tree)
