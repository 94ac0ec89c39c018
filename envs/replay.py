"""What a policy earns in an environment as it is registered: the check that no model can pass by being wrong alike."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.registry import OWN
from hamiltonian_rl.trajectory import Policy


def replay(env_id: str, policy: Policy, state: np.ndarray, **parameters: Any) -> tuple[float, int]:
    """Follow a policy of the problem's states in the real environment, and return the return and the number of steps.

    The policy sees the environment's own state, not its observation, rounded as the environment rounds it.

    Args:
        env_id: Of an environment with a control problem behind it: of classic control, or ours.
        policy: Of one state ``(1, n)`` and the step: actions ``(1, m)``, or ``(1,)`` where they are discrete.
        state: The first state, ``(n,)``, in the precision that the environment keeps.
        parameters: Of the environment.

    Example:
        >>> from hamiltonian_rl.envs.replay import replay
        >>> upright_and_left_alone = np.array([0.0, 0.0])
        >>> replay("Pendulum-v1", lambda state, step: np.zeros((1, 1)), upright_and_left_alone)
        (0.0, 200)
    """
    env = gym.make(env_id, **parameters)
    try:
        inner: Any = env.unwrapped
        if env_id.startswith(OWN):
            env.reset(seed=0, options={"state": np.asarray(state)})
        else:
            env.reset(seed=0)
            inner.state = np.asarray(state, dtype=np.asarray(inner.state).dtype).copy()
        total, step, done = 0.0, 0, False
        while not done:
            action = policy(np.asarray(inner.state, dtype=np.float64)[None], step)[0]
            discrete = isinstance(env.action_space, gym.spaces.Discrete)
            _, reward, terminated, truncated, _ = env.step(int(action) if discrete else action)
            total, step, done = total + float(reward), step + 1, terminated or truncated
        return total, step
    finally:
        env.close()
