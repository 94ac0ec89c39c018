"""What the compiled solver works on: plain tuples of arrays, which numba knows by their names."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numba
import numpy as np

from hamiltonian_rl.tracing.vector_code import LANES

RUNNING, DONE, STUCK, OUT_OF_ITERATIONS, NOT_FINITE = -1, 0, 1, 2, 3  # how a path stands

Problem = namedtuple("Problem", "backward forward terminal discount low high settings")
Batch = namedtuple("Batch", "initial path guess weights end_weights penalty")
Result = namedtuple("Result", "states actions rewards costates feedback curvature value residual iterations code")
Lanes = namedtuple(
    "Lanes",
    "states actions d K below above curvature new_states new_actions new_below new_above rewards new_rewards costates "
    "weights end_weights penalty l P p bent bend_used far_state far_slope far_P value terminal barrier shift growth "
    "size step sums trial before stalled iteration failed owner fresh follow waiting",
)


inlined = numba.njit(inline="always")  # one function to compile, not twenty that hand each other forty arrays


@inlined
def new_lanes(horizon: int, n: int, m: int, constraints: int, ends: int) -> Any:
    """Return the arrays of eight problems, none of which has begun."""
    return Lanes(
        states=np.zeros((horizon + 1, n, LANES)),
        actions=np.zeros((horizon, m, LANES)),
        d=np.zeros((horizon, m, LANES)),
        K=np.zeros((horizon, m * n, LANES)),
        below=np.zeros((horizon, m, LANES)),
        above=np.zeros((horizon, m, LANES)),
        curvature=np.zeros((horizon, m * (m + 1) // 2, LANES)),
        new_states=np.zeros((horizon + 1, n, LANES)),
        new_actions=np.zeros((horizon, m, LANES)),
        new_below=np.zeros((horizon, m, LANES)),
        new_above=np.zeros((horizon, m, LANES)),
        rewards=np.zeros((horizon, 1, LANES)),
        new_rewards=np.zeros((horizon, 1, LANES)),
        costates=np.zeros((horizon + 1, n, LANES)),
        weights=np.zeros((horizon, constraints, LANES)),
        end_weights=np.zeros((ends, LANES)),
        penalty=np.zeros(LANES),
        l=np.zeros((n, LANES)),
        P=np.zeros((n * (n + 1) // 2, LANES)),
        p=np.zeros((n, LANES)),
        bent=np.zeros(LANES, np.bool_),
        bend_used=np.zeros(LANES, np.bool_),
        far_state=np.zeros((n, LANES)),
        far_slope=np.zeros((n, LANES)),
        far_P=np.zeros((n * (n + 1) // 2, LANES)),
        value=np.zeros(LANES),
        terminal=np.zeros((1, LANES)),
        barrier=np.zeros(LANES),
        shift=np.zeros(LANES),
        growth=np.ones(LANES),
        size=np.zeros(LANES),
        step=np.zeros((1, LANES)),
        sums=np.zeros((4, LANES)),
        trial=np.zeros((2, LANES)),
        before=np.zeros(LANES),
        stalled=np.zeros(LANES, np.int64),
        iteration=np.zeros(LANES, np.int64),
        failed=np.zeros(LANES, np.int64),
        owner=np.full(LANES, -1),
        fresh=np.zeros(LANES, np.bool_),
        follow=np.zeros(LANES, np.bool_),
        waiting=np.zeros(LANES, np.bool_),
    )
