"""Episodes as one endless process: where one ends, the next begins."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hamiltonian_rl.problems.checks import SUM_TOLERANCE
from hamiltonian_rl.problems.mdp import MDP


def restarted(mdp: MDP) -> MDP:
    """Return the process that begins anew, by its initial distribution, wherever an episode would end.

    Its mean reward a step in the long run is that of episodes one after the other: mean return over mean length.

    Example:
        >>> once = MDP.from_arrays([[1], [-1]], [[0.0], [6.0]], 1.0, initial=[1.0, 0.0])  # two steps, then 6
        >>> restarted(once).next_states.tolist()
        [1, 0]
    """
    missing = 1.0 - mdp.row_sums.reshape(-1, 1)
    missing[np.abs(missing) <= SUM_TOLERANCE] = 0.0
    starts = sparse.csr_array(mdp.initial[None, :])
    matrix = sparse.csr_array(mdp.transition_matrix + sparse.csr_array(missing) @ starts)
    return MDP(
        mdp.rewards,
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data,
        mdp.discount,
        mdp.initial,
        mdp.horizon,
    )
