"""How problems come into the lanes of the compiled solver, and their paths out of them.

Notation as in `lanes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.lane_arrays import NOT_FINITE, OUT_OF_ITERATIONS, inlined
from hamiltonian_rl.tracing.vector_code import LANES


@inlined
def fill(problem: Any, batch: Any, lanes: Any, begun: Any) -> None:
    """Give empty lanes the next problems; ``begun`` counts them, shape ``(1,)``."""
    barrier, first = problem.settings[3] > 0.0, problem.settings[2]
    for lane in range(LANES):
        if lanes.owner[lane] >= 0 or begun[0] >= len(batch.initial):
            continue
        owner = begun[0]
        begun[0] += 1
        lanes.owner[lane], lanes.fresh[lane], lanes.iteration[lane] = owner, True, 0
        lanes.shift[lane], lanes.growth[lane], lanes.size[lane], lanes.barrier[lane] = 0.0, 1.0, 0.0, first
        lanes.before[lane], lanes.stalled[lane], lanes.bent[lane] = -np.inf, 0, False
        lanes.penalty[lane] = batch.penalty[owner]
        for i in range(len(lanes.end_weights)):
            lanes.end_weights[i, lane] = batch.end_weights[owner, i]
        _set_path(batch, lanes, lane, owner)
        for k in range(len(lanes.actions)):
            for i in range(lanes.weights.shape[1]):
                lanes.weights[k, i, lane] = batch.weights[owner, k, i]
            for i in range(lanes.actions.shape[1]):
                action, low, high = batch.guess[owner, k, i], problem.low[i], problem.high[i]
                if barrier:
                    # A hundredth of the range away from the bounds, where the barrier is tame.
                    margin = 0.01 * min(high - low, 100.0)
                    action = min(max(action, low + margin), high - margin)
                    lanes.below[k, i, lane], lanes.above[k, i, lane] = first / (action - low), first / (high - action)
                lanes.actions[k, i, lane] = min(max(action, low), high)
        forget_step(lanes, lane)


@inlined
def _set_path(batch: Any, lanes: Any, lane: int, owner: int) -> None:
    """Set the states of a lane that are known: all of them, or the first.

    A path with its states is followed by feedback: its actions alone may lead elsewhere (unstable dynamics).
    """
    known = True
    for k in range(len(lanes.states)):
        for i in range(lanes.states.shape[1]):
            known = known and np.isfinite(batch.path[owner, k, i])
    lanes.follow[lane] = known
    for k in range(len(lanes.states)):
        for i in range(lanes.states.shape[1]):
            lanes.states[k, i, lane] = batch.path[owner, k, i] if known else 0.0
    for i in range(lanes.states.shape[1]):
        lanes.states[0, i, lane] = batch.initial[owner, i]


@inlined
def forget_step(lanes: Any, lane: int) -> None:
    """Make the next step none, without feedback."""
    forget_feedforward(lanes, lane)
    for k in range(len(lanes.K)):
        for i in range(lanes.K.shape[1]):
            lanes.K[k, i, lane] = 0.0


@inlined
def forget_feedforward(lanes: Any, lane: int) -> None:
    """Make the next step none but for the feedback."""
    for k in range(len(lanes.d)):
        for i in range(lanes.d.shape[1]):
            lanes.d[k, i, lane] = 0.0


@inlined
def hand_over(lanes: Any, lane: int, result: Any, code: int) -> None:
    """Hand over a path, and leave its lane empty."""
    owner = lanes.owner[lane]
    # Machine code may not notice: what is not finite and counts for nothing is simplified away (0 x = 0).
    finite = np.isfinite(lanes.value[lane])
    for k in range(len(lanes.states)):
        for i in range(lanes.states.shape[1]):
            finite = finite and np.isfinite(lanes.states[k, i, lane])
            result.states[owner, k, i] = lanes.states[k, i, lane]
            result.costates[owner, k, i] = lanes.costates[k, i, lane]
    for k in range(len(lanes.actions)):
        result.rewards[owner, k] = lanes.rewards[k, 0, lane]
        for i in range(lanes.actions.shape[1]):
            result.actions[owner, k, i] = lanes.actions[k, i, lane]
        for i in range(lanes.K.shape[1]):
            result.feedback[owner, k, i] = lanes.K[k, i, lane]
        for i in range(lanes.curvature.shape[1]):
            result.curvature[owner, k, i] = lanes.curvature[k, i, lane]
    result.value[owner], result.residual[owner] = lanes.value[lane], lanes.sums[2, lane]
    result.iterations[owner], result.code[owner] = lanes.iteration[lane], code
    if not finite:
        hand_over_nothing(result, owner)
    lanes.owner[lane] = -1


@inlined
def hand_over_nothing(result: Any, owner: int) -> None:
    """Hand over a path that is not finite."""
    result.code[owner], result.value[owner] = NOT_FINITE, np.nan
    result.states[owner], result.actions[owner], result.rewards[owner] = np.nan, np.nan, np.nan
    result.costates[owner], result.feedback[owner], result.curvature[owner] = np.nan, np.nan, np.nan


@inlined
def hand_over_values(lanes: Any, result: Any) -> None:
    """Hand over what the first paths are worth, and nothing else: no pass was asked for."""
    for lane in range(LANES):
        if lanes.owner[lane] >= 0 and not lanes.follow[lane]:
            result.value[lanes.owner[lane]], result.code[lanes.owner[lane]] = lanes.value[lane], OUT_OF_ITERATIONS
            lanes.owner[lane] = -1
