"""What the compiled solver works on: plain tuples of arrays, which numba knows by their names."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from hamiltonian_rl.tracing.vector_code import LANES

Problem = namedtuple("Problem", "backward forward terminal discount low high settings")
Batch = namedtuple("Batch", "initial path guess weights end_weights penalty")
Result = namedtuple("Result", "states actions rewards costates feedback curvature value residual iterations code")
Lanes = namedtuple(
    "Lanes",
    "states actions d K below above curvature new_states new_actions new_below new_above rewards new_rewards costates "
    "weights end_weights penalty l P p bent far_state far_slope far_P value terminal barrier shift growth size step "
    "sums trial before stalled iteration owner fresh follow waiting",
)


def new_lanes(horizon: int, n: int, m: int, constraints: int, ends: int) -> Any:
    """Return the arrays of eight problems, none of which has begun."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((*shape, LANES))

    return Lanes(
        states=zeros(horizon + 1, n),
        actions=zeros(horizon, m),
        d=zeros(horizon, m),
        K=zeros(horizon, m * n),
        below=zeros(horizon, m),
        above=zeros(horizon, m),
        curvature=zeros(horizon, m * (m + 1) // 2),
        new_states=zeros(horizon + 1, n),
        new_actions=zeros(horizon, m),
        new_below=zeros(horizon, m),
        new_above=zeros(horizon, m),
        rewards=zeros(horizon, 1),
        new_rewards=zeros(horizon, 1),
        costates=zeros(horizon + 1, n),
        weights=zeros(horizon, constraints),
        end_weights=zeros(ends),
        penalty=zeros(),
        l=zeros(n),
        P=zeros(n * (n + 1) // 2),
        p=zeros(n),
        bent=np.zeros(LANES, np.bool_),
        far_state=zeros(n),
        far_slope=zeros(n),
        far_P=zeros(n * (n + 1) // 2),
        value=zeros(),
        terminal=zeros(1),
        barrier=zeros(),
        shift=zeros(),
        growth=zeros() + 1.0,
        size=zeros(),
        step=zeros(1),
        sums=zeros(4),
        trial=zeros(2),
        before=zeros(),
        stalled=np.zeros(LANES, np.int64),
        iteration=np.zeros(LANES, np.int64),
        owner=np.full(LANES, -1),
        fresh=np.zeros(LANES, np.bool_),
        follow=np.zeros(LANES, np.bool_),
        waiting=np.zeros(LANES, np.bool_),
    )
