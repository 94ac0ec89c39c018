"""The computed truth beside a learned table: distance from V* and regret, where an environment tells its table.

Reference:
    Puterman (2005), "Markov decision processes", sections 6.1 (evaluating a policy) and 6.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.envs.behind import table_model
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import policy_iteration, policy_value
from hamiltonian_rl.tracking.logger import Logger


class Optimality:
    """Measures an agent's table against the optimum, which is computed once, when it is first asked for.

    Args:
        discount: The agent's ``γ``; with one there is no optimum without a limit, and nothing is measured.
        shape: ``(S, A)``.
    """

    def __init__(self, discount: float, shape: tuple[int, int]) -> None:
        self._discount, self._shape = discount, shape
        self._env: Any = None
        self._mdp: MDP | None = None
        self._policy: np.ndarray | None = None

    def record(self, logger: Logger, env: Any, value: np.ndarray, policy: np.ndarray) -> None:
        """Record `measure` under ``optimality/``, if the environment tells its table."""
        for name, number in self.measure(env, value, policy).items():
            logger.record(f"optimality/{name}", number)

    def measure(self, env: Any, value: np.ndarray, policy: np.ndarray) -> dict[str, float]:
        """Return the distances from the optimum; an empty dict where there is no table.

        * ``value_error``: ``max_s |V(s) - V*(s)|`` over the states that can occur. In the others nothing can
          be learnt.
        * ``discounted_regret``: ``Σ_s p_0(s) (V*(s) - V_π(s))`` for the first state's distribution ``p_0``.

        Args:
            env: What the agent learns from.
            value: ``V``, shape ``(S,)``.
            policy: Greedy actions, counted from zero, shape ``(S,)``.
        """
        if env is not self._env:
            self._meet(env)
        if self._mdp is None:
            return {}
        if self._policy is None or not np.array_equal(policy, self._policy):
            self._policy = policy.copy()
            self._regret = float(self._mdp.initial @ (self._optimum - policy_value(self._mdp, policy)))
        error = float(np.abs(value - self._optimum)[self._mdp.reachable].max())
        return {"value_error": error, "discounted_regret": self._regret}

    def _meet(self, env: Any) -> None:
        self._env, self._mdp, self._policy = env, None, None
        if self._discount >= 1:
            return
        try:
            mdp = table_model(env, self._discount, self._shape)
            # Exact evaluations come close at any discount; what rounding leaves is far below what is learnt.
            self._optimum = policy_iteration(mdp, tol=1e-9).value
        except UsageError:
            return
        self._mdp = mdp
