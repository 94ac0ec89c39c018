"""The compiled solver: eight problems side by side, each at an iteration of its own.

All eight lanes go through the same machine code (`kernels`): a trial path forward, then the backward pass. What
differs is kept in numbers: a lane whose trial fails tries a shorter step, one whose model is not concave is
shifted, one that is done hands its place to the next problem. While few lanes still search their line, the others go
on: a backward pass over a path that has not changed finds the same model again.

Notation as in `kernels`; arrays end with the lanes, ``(..., LANES)``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from hamiltonian_rl.compilation import announce_compiling
from hamiltonian_rl.solvers.costate import lane_arrays, lane_problems, machine_calls
from hamiltonian_rl.solvers.costate.lane_arrays import DONE as DONE
from hamiltonian_rl.solvers.costate.lane_arrays import NOT_FINITE as NOT_FINITE
from hamiltonian_rl.solvers.costate.lane_arrays import OUT_OF_ITERATIONS as OUT_OF_ITERATIONS
from hamiltonian_rl.solvers.costate.lane_arrays import RUNNING as RUNNING
from hamiltonian_rl.solvers.costate.lane_arrays import STUCK as STUCK
from hamiltonian_rl.solvers.costate.lane_arrays import Batch as Batch
from hamiltonian_rl.solvers.costate.lane_arrays import Result as Result
from hamiltonian_rl.solvers.costate.lane_arrays import inlined, new_lanes
from hamiltonian_rl.solvers.costate.lane_problems import (
    fill,
    forget_feedforward,
    forget_step,
    hand_over,
    hand_over_nothing,
    hand_over_values,
)
from hamiltonian_rl.solvers.costate.machine_calls import call, named_after
from hamiltonian_rl.tracing import vector_code
from hamiltonian_rl.tracing.vector_code import LANES

SUFFICIENT = 1e-4  # least part of the expected gain that a step must bring (Armijo)
SHORTER = 0.4
TRIALS = 8
FEW = 2  # lanes that may still search their line while the others go on
FIRST_SHIFT, LEAST_SHIFT = 1e-5, 1e-7
LARGEST_FIRST_SHIFT = 1e6
SMALL_GAIN, PATIENCE = 1e-9, 30  # relative gain that counts as none, and how many such in a row end the ascent


@inlined
def _run_forward(problem: Any, lanes: Any) -> None:
    """Compute the trial path of every lane, with its own step size, and its return."""
    for lane in range(LANES):
        lanes.trial[0, lane], lanes.trial[1, lane] = 0.0, 1.0
        for i in range(lanes.states.shape[1]):
            lanes.new_states[0, i, lane] = lanes.states[0, i, lane]
    for k in range(len(lanes.actions)):
        for lane in range(LANES):
            lanes.step[0, lane] = k
        call(
            problem.forward,
            (
                lanes.new_states[k].ctypes.data,
                lanes.step.ctypes.data,
                lanes.states[k].ctypes.data,
                lanes.actions[k].ctypes.data,
                lanes.d[k].ctypes.data,
                lanes.K[k].ctypes.data,
                lanes.size.ctypes.data,
                lanes.trial.ctypes.data,
                lanes.barrier.ctypes.data,
                lanes.below[k].ctypes.data,
                lanes.above[k].ctypes.data,
                lanes.weights[k].ctypes.data,
                lanes.penalty.ctypes.data,
                lanes.new_actions[k].ctypes.data,
                lanes.new_states[k + 1].ctypes.data,
                lanes.new_below[k].ctypes.data,
                lanes.new_above[k].ctypes.data,
                lanes.new_rewards[k].ctypes.data,
                lanes.trial.ctypes.data,
            ),
        )
    _run_terminal(problem, lanes, lanes.new_states)


@inlined
def _run_terminal(problem: Any, lanes: Any, states: Any) -> None:
    call(
        problem.terminal,
        (
            states[-1].ctypes.data,
            lanes.end_weights.ctypes.data,
            lanes.penalty.ctypes.data,
            lanes.terminal.ctypes.data,
            lanes.l.ctypes.data,
            lanes.P.ctypes.data,
        ),
    )


@inlined
def _accepted(lanes: Any, lane: int, value: float) -> bool:
    """Whether a trial brings its part of the expected gain; near the end, where rounding rules, loses none."""
    if not np.isfinite(value):
        return False
    if lanes.fresh[lane]:
        return True
    size = lanes.size[lane]
    expected = size * lanes.sums[0, lane] + size * size * lanes.sums[1, lane]
    gain, scale = value - lanes.value[lane], 1.0 + abs(lanes.value[lane])
    if abs(expected) < 1e-13 * scale:
        return bool(gain >= -1e-14 * scale)
    return bool(gain >= SUFFICIENT * max(expected, 0.0))


@inlined
def _try_paths(problem: Any, lanes: Any, result: Any) -> None:
    """Search each lane's line: shorter and shorter steps, then a shift for the next backward pass."""
    for lane in range(LANES):
        if not lanes.waiting[lane]:
            ready = lanes.fresh[lane] or lanes.size[lane] > 0.0
            lanes.waiting[lane] = lanes.owner[lane] >= 0 and ready and not lanes.follow[lane]
            lanes.failed[lane] = 0
    taken = np.zeros(LANES, np.bool_)
    while not _go_on(lanes):
        _run_forward(problem, lanes)
        for lane in range(LANES):
            value = lanes.trial[0, lane] + lanes.trial[1, lane] * lanes.terminal[0, lane]
            taken[lane] = lanes.waiting[lane] and _accepted(lanes, lane, value)
            if taken[lane]:
                lanes.value[lane] = value
                if not lanes.fresh[lane] and lanes.size[lane] >= 0.5:
                    lanes.growth[lane] = min(lanes.growth[lane] / 2.0, 0.5)
                    shift = lanes.shift[lane] * lanes.growth[lane]
                    lanes.shift[lane] = shift if shift >= LEAST_SHIFT else 0.0
                lanes.fresh[lane] = lanes.waiting[lane] = False
            elif lanes.waiting[lane]:
                _refuse(lanes, lane, result)
        _take(lanes, taken)


@inlined
def _go_on(lanes: Any) -> bool:
    """Whether the backward pass is next: few lanes are waiting, and those would find in it the model they have."""
    waiting, occupied = 0, 0
    for lane in range(LANES):
        occupied += lanes.owner[lane] >= 0
        waiting += lanes.waiting[lane]
        if lanes.waiting[lane] and (lanes.fresh[lane] or lanes.bend_used[lane]):
            return False
    return waiting <= FEW and (waiting == 0 or 2 * waiting <= occupied)


@inlined
def _refuse(lanes: Any, lane: int, result: Any) -> None:
    """Shorten a lane's step; after the last trial, or without any finite path, end its search."""
    if lanes.failed[lane] == 0:
        _keep_far_end(lanes, lane)
    lanes.size[lane] *= SHORTER
    lanes.failed[lane] += 1
    if lanes.fresh[lane]:  # the path that was given leads nowhere finite
        hand_over_nothing(result, lanes.owner[lane])
        lanes.owner[lane], lanes.waiting[lane] = -1, False
    elif lanes.failed[lane] == TRIALS:
        _raise_shift(lanes, lane)
        lanes.waiting[lane] = False


@inlined
def _keep_far_end(lanes: Any, lane: int) -> None:
    """Keep the end's expansion where a full step led, for `_bend`."""
    lanes.bent[lane] = True
    for i in range(len(lanes.P)):
        lanes.far_P[i, lane] = lanes.P[i, lane]
    for i in range(len(lanes.l)):
        lanes.far_state[i, lane] = lanes.new_states[len(lanes.actions), i, lane]
        lanes.far_slope[i, lane] = lanes.l[i, lane]


@inlined
def _take(lanes: Any, taken: Any) -> None:
    """Make the trial path the path, in the lanes where it was taken."""
    for k in range(len(lanes.actions)):
        for lane in range(LANES):
            if taken[lane]:
                lanes.rewards[k, 0, lane] = lanes.new_rewards[k, 0, lane]
        for i in range(lanes.actions.shape[1]):
            for lane in range(LANES):
                if taken[lane]:
                    lanes.actions[k, i, lane] = lanes.new_actions[k, i, lane]
                    if lanes.size[lane] > 0.0:  # a path that is only valued anew keeps its duals
                        lanes.below[k, i, lane] = lanes.new_below[k, i, lane]
                        lanes.above[k, i, lane] = lanes.new_above[k, i, lane]
        for i in range(lanes.states.shape[1]):
            for lane in range(LANES):
                if taken[lane]:
                    lanes.states[k + 1, i, lane] = lanes.new_states[k + 1, i, lane]


@inlined
def _raise_shift(lanes: Any, lane: int) -> None:
    """Make the model of a lane more concave (Tassa, Erez and Todorov 2012)."""
    lanes.growth[lane] = max(lanes.growth[lane] * 2.0, 2.0)
    lanes.shift[lane] = max(lanes.shift[lane] * lanes.growth[lane], FIRST_SHIFT)


@inlined
def _run_backward(problem: Any, lanes: Any) -> None:
    """Compute costates, the quadratic model of V and the next step, from the end to the beginning."""
    _run_terminal(problem, lanes, lanes.states)
    for lane in range(LANES):
        for i in range(len(lanes.l)):
            lanes.costates[len(lanes.actions), i, lane], lanes.p[i, lane] = lanes.l[i, lane], 0.0
        _bend(lanes, lane)
        for i in range(4):
            lanes.sums[i, lane] = 1.0 if i == 3 else 0.0
    for k in range(len(lanes.actions) - 1, -1, -1):
        for lane in range(LANES):
            lanes.step[0, lane] = k
        call(
            problem.backward,
            (
                lanes.states[k].ctypes.data,
                lanes.actions[k].ctypes.data,
                lanes.step.ctypes.data,
                lanes.costates[k + 1].ctypes.data,
                lanes.P.ctypes.data,
                lanes.p.ctypes.data,
                lanes.shift.ctypes.data,
                lanes.sums.ctypes.data,
                lanes.barrier.ctypes.data,
                lanes.below[k].ctypes.data,
                lanes.above[k].ctypes.data,
                lanes.weights[k].ctypes.data,
                lanes.penalty.ctypes.data,
                lanes.costates[k].ctypes.data,
                lanes.P.ctypes.data,
                lanes.p.ctypes.data,
                lanes.d[k].ctypes.data,
                lanes.K[k].ctypes.data,
                lanes.curvature[k].ctypes.data,
                lanes.sums.ctypes.data,
            ),
        )


@inlined
def _bend(lanes: Any, lane: int) -> None:
    """Model the end by its expansion where a full step failed, if it is more concave there, for one step.

    On the flat side of a hinge (a penalty that begins somewhere) the path's own model is blind to what is beyond.
    """
    if lanes.waiting[lane] or not lanes.bent[lane]:
        return
    n = lanes.p.shape[0]
    here, there = 0.0, 0.0
    for i in range(n):
        here += lanes.P[i * (i + 3) // 2, lane]
        there += lanes.far_P[i * (i + 3) // 2, lane]
    lanes.bent[lane] = there < here
    if not lanes.bent[lane]:
        return
    for i in range(len(lanes.P)):
        lanes.P[i, lane] = lanes.far_P[i, lane]
    for i in range(n):
        slope = lanes.far_slope[i, lane] - lanes.l[i, lane]
        for j in range(n):
            row, column = max(i, j), min(i, j)
            away = lanes.states[len(lanes.actions), j, lane] - lanes.far_state[j, lane]
            slope += lanes.far_P[row * (row + 1) // 2 + column, lane] * away
        lanes.p[i, lane] = slope


@inlined
def _judge(problem: Any, lanes: Any, lane: int) -> int:
    """Say how a lane stands after its backward pass, and set its next step."""
    tolerance, most, _, last_barrier = problem.settings
    residual = lanes.sums[2, lane]
    plain = lanes.shift[lane] == 0.0 and not lanes.bent[lane]
    lanes.bend_used[lane], lanes.bent[lane] = lanes.bent[lane], False
    lanes.iteration[lane] += 1
    if lanes.follow[lane]:
        _prepare_to_follow(lanes, lane)
        return RUNNING
    if last_barrier > 0.0:
        barrier = lanes.barrier[lane]
        if residual < 10.0 * barrier:
            if barrier <= last_barrier:
                return DONE
            lanes.barrier[lane] = max(last_barrier, min(0.2 * barrier, barrier**1.5))
            lanes.fresh[lane], lanes.size[lane] = True, 0.0
            lanes.before[lane], lanes.stalled[lane] = -np.inf, 0
            forget_step(lanes, lane)
            return RUNNING if lanes.iteration[lane] < most else OUT_OF_ITERATIONS
    elif residual < tolerance:
        if plain:
            return DONE
        # Once more without the shift: a shifted model's curvature certifies nothing, and its feedback is another.
        lanes.shift[lane], lanes.size[lane] = 0.0, 0.0
        return RUNNING if lanes.iteration[lane] < most else OUT_OF_ITERATIONS
    if lanes.iteration[lane] >= most:
        return OUT_OF_ITERATIONS
    value = lanes.value[lane]
    gained = value - lanes.before[lane] > SMALL_GAIN * (1.0 + abs(value))
    lanes.stalled[lane] = 0 if gained else lanes.stalled[lane] + 1
    lanes.before[lane] = value
    if lanes.stalled[lane] >= PATIENCE:
        return STUCK
    if lanes.sums[3, lane] < 0.5 or not np.isfinite(lanes.sums[0, lane]):
        _raise_shift(lanes, lane)
        lanes.size[lane] = 0.0
    else:
        lanes.size[lane] = 1.0
    return RUNNING


@inlined
def _prepare_to_follow(lanes: Any, lane: int) -> None:
    """Keep the feedback of the first backward pass and drop its step; without a sound model drop both."""
    sound = lanes.sums[3, lane] > 0.5 and np.isfinite(lanes.sums[0, lane])
    if not sound and lanes.shift[lane] < LARGEST_FIRST_SHIFT:
        _raise_shift(lanes, lane)
        return
    lanes.follow[lane], lanes.shift[lane], lanes.growth[lane] = False, 0.0, 1.0
    if sound:
        forget_feedforward(lanes, lane)
    else:
        forget_step(lanes, lane)


@numba.njit(cache=True, nogil=True, error_model="numpy")
@named_after(lane_arrays, lane_problems, machine_calls, vector_code)
def run(problem: Any, batch: Any, result: Any) -> None:
    """Solve the problems of a batch."""
    horizon, m = result.actions.shape[1:]
    begun = np.zeros(1, np.int64)
    lanes = new_lanes(horizon, batch.initial.shape[1], m, batch.weights.shape[2], batch.end_weights.shape[1])
    fill(problem, batch, lanes, begun)
    while (lanes.owner >= 0).any():
        _try_paths(problem, lanes, result)
        if problem.settings[1] == 0:
            hand_over_values(lanes, result)
        if (lanes.owner >= 0).any():
            _run_backward(problem, lanes)
        for lane in range(LANES):
            if lanes.owner[lane] >= 0 and not lanes.waiting[lane]:
                code = _judge(problem, lanes, lane)
                if code != RUNNING:
                    hand_over(lanes, lane, result, code)
        fill(problem, batch, lanes, begun)


announce_compiling(run, "the costate solver", 20)
