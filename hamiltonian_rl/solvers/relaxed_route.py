"""Problems without slopes by costates: relax, solve, round, and follow the result in the problem itself.

Where actions are discrete H has no derivative, and where the reward is constant until the episode ends the costate is
zero almost everywhere. So a problem may state a `Relaxation`: viability (stay far from the limits) or minimum time
(the least horizon after which the goal is met, and its path is nearly bang-bang). What is reported is the return of the
rounded policy in the problem itself, a lower bound on V*; the relaxed optimum bounds nothing.

Reference:
    Sager, Bock and Diehl (2012), "The integer approximation error in mixed-integer optimal control": sum-up rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.outcomes import over
from hamiltonian_rl.solvers.costate import PathSolution, solve_costate
from hamiltonian_rl.solvers.costate.arguments import Start
from hamiltonian_rl.solvers.costate.following import along_paths
from hamiltonian_rl.solvers.costate.starts import energy_pump, receding_horizon
from hamiltonian_rl.trajectory import Policy, Trajectory, rollout

PUSHES = (0.1, 0.2, 0.3)  # of the pumps that begin a path of all steps, of the largest push
BEYOND = 5  # further horizons tried for a rounded path as short as its relaxation


@dataclass(frozen=True, eq=False)
class RelaxedRoute:
    """What relaxation and rounding found from B initial states.

    Attributes:
        problem: The relaxed problem.
        paths: Its solution from each state, one a state: their horizons may differ.
        policies: Of the problem itself, one a state: along the path by its feedback, rounded where actions are
            discrete.
        rounding: How each was rounded: "nearest", "sum-up", or "none" where actions are continuous.
        followed: The policies' paths in the problem itself; their value is a lower bound on V*.
        lengths: Steps after which these episodes are over, at the most the horizon, ``(B,)``.
        reached: Whether these episodes do what the relaxation is for, ``(B,)``: come to the end that is the goal, or
            last to the horizon. A relaxed path may be optimal and do neither: what is nearest may not be near enough.
    """

    problem: ControlProblem
    paths: list[PathSolution]
    policies: list[Policy]
    rounding: list[str]
    followed: Trajectory
    lengths: np.ndarray
    reached: np.ndarray


def solve_relaxed(
    problem: ControlProblem,
    initial_states: np.ndarray,
    starts: Sequence[Start] = (),
    *,
    tol: float = 1e-8,
    announce: Callable[[str], None] | None = None,
) -> RelaxedRoute | None:
    """Solve a problem's relaxation from each state, round, and follow; None where the problem states none.

    Args:
        problem: At its horizon.
        initial_states: ``(B, n)``.
        starts: First actions or policies of the relaxed problem, beside its own; of a path of least time, whose
            number of steps is not known, policies alone.
        tol: Of the costates' stationarity.
        announce: Told in words what begins.

    Raises:
        UsageError: If a start or an argument does not fit.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> found = solve_relaxed(problem("MountainCar-v0"), np.array([[-0.5, 0.0]]))
        >>> float(found.followed.value[0]) >= -110, found.followed.actions.shape
        (True, (1, 200))
    """
    relaxation = problem.relaxed()
    if relaxation is None:
        return None
    relaxed = relaxation.problem
    relaxed.horizon = problem.horizon
    announce = announce or (lambda text: None)
    if relaxation.minimum_time:
        policies_alone = [start for start in starts if callable(start)]
        if len(policies_alone) < len(starts):
            raise UsageError("A path of least time is sought at several horizons: expected policies as starts.")
        first = [*_pumps(relaxed, (1.0,)), *policies_alone]
        found = [_least_time(problem, relaxed, state[None], first, tol, announce) for state in initial_states]
    else:
        window = relaxation.window
        announce(f"Relaxation: first path of {relaxed.horizon} steps")
        own = [receding_horizon(relaxed, initial_states, window)] if window else _pumps(relaxed, PUSHES)
        announce(f"Relaxation: {relaxed.horizon} steps by costates")
        solved = solve_costate(relaxed, initial_states, starts=[*own, *starts], tol=tol)
        found = _best_starts(problem, initial_states, solved)
    paths, policies, rounding, followed = (list(part) for part in zip(*found, strict=True))
    parts = {name: np.concatenate([getattr(x, name) for x in followed]) for name in _PARTS}
    lengths = np.array([_arrival(problem, states) for states in parts["states"]])
    ended = over(problem, parts["states"])
    reached = np.asarray(ended.any(1) if relaxation.end_is_goal else lengths == problem.horizon)
    return RelaxedRoute(relaxed, paths, policies, rounding, Trajectory(**parts), lengths, reached)


_Found = tuple[PathSolution, Policy, str, Trajectory]
_PARTS = ("states", "actions", "rewards", "value")


def _best_starts(problem: ControlProblem, states: np.ndarray, solved: PathSolution) -> list[_Found]:
    """Return of each state the path that is worth most in the problem itself: the relaxed reward is a mere likeness."""
    followed = [
        (run, name, rollout(problem, states, rounded))
        for run in solved.from_all_starts or [solved]
        for name, rounded in _roundings(problem, along_paths(run)).items()
    ]
    best = np.argmax([path.value for _, _, path in followed], axis=0)
    found = []
    for index, which in enumerate(best):
        run, name, path = followed[which]
        one = run.one(index)
        own = {part: getattr(path, part)[index : index + 1] for part in _PARTS}
        found.append((one, _roundings(problem, along_paths(one))[name], name, Trajectory(**own)))
    return found


def _pumps(relaxed: ControlProblem, shares: Sequence[float]) -> list[Policy]:
    return [energy_pump(relaxed, share, direction) for share in shares for direction in (1.0, -1.0)]


def _least_time(
    problem: ControlProblem,
    relaxed: ControlProblem,
    state: np.ndarray,
    starts: list[Policy],
    tol: float,
    announce: Callable[[str], None],
) -> _Found:
    """Shorten the horizon while the relaxed path still ends the episode; then round at horizons from there on."""
    longest = relaxed.horizon or 0
    pumped = [rollout(relaxed, state, start, longest) for start in starts]
    arrivals = [_arrival(problem, path.states[0]) for path in pumped]
    steps = min(arrivals)
    pump = starts[int(np.argmin(arrivals))]

    def solve(count: int, before: Sequence[PathSolution]) -> PathSolution:
        announce(f"Relaxation: is the end reached in {count} steps?")
        shorter = copy.copy(relaxed)
        shorter.horizon = count
        warm = [part for path in before for part in _cut(path.trajectory.actions[0], count)]
        return solve_costate(shorter, state, starts=[*starts, *warm], tol=tol)

    best = solve(steps, [])
    # Where the end is out of reach in all of the horizon it is out of reach in less.
    stride = max(1, steps // 4) if steps < longest or over(problem, best.trajectory.states).any() else 0
    while stride:
        shorter = solve(steps - stride, [best]) if steps > stride else None
        if (
            shorter is not None
            and _arrival(problem, shorter.trajectory.states[0]) <= shorter.trajectory.actions.shape[1]
        ):
            best, steps = shorter, steps - stride
        else:
            stride //= 2
    after = pump if callable(pump) else None
    found = []
    for count in range(steps, min(steps + BEYOND, longest) + 1):
        best = best if count == steps else solve(count, [best])
        found.append((best, *_best_rounding(problem, state, along_paths(best, after))))
        if max(result[3].value[0] for result in found) >= -count:
            break
    return max(found, key=lambda result: float(result[3].value[0]))


def _cut(actions: np.ndarray, count: int) -> list[np.ndarray]:
    """Return so many actions of a path, from its beginning and to its end, repeated where there are too few."""
    extra = ((0, max(0, count - len(actions))), (0, 0))
    longer = np.pad(actions, extra, mode="edge")
    return [longer[:count], longer[len(longer) - count :]]


def _arrival(problem: ControlProblem, states: np.ndarray) -> int:
    """Return after how many steps the episode is over; the horizon where it is not."""
    ended = over(problem, states)
    return int(np.argmax(ended)) if ended.any() else int(problem.horizon or 0)


def _best_rounding(problem: ControlProblem, state: np.ndarray, policy: Policy) -> tuple[Policy, str, Trajectory]:
    """Return the rounding of a policy that returns most in the problem itself."""
    rounded = _roundings(problem, policy)
    followed = {name: rollout(problem, state, chosen) for name, chosen in rounded.items()}
    best = max(followed, key=lambda name: float(followed[name].value[0]))
    return rounded[best], best, followed[best]


def _roundings(problem: ControlProblem, policy: Policy) -> dict[str, Policy]:
    if isinstance(problem.action_space, gym.spaces.Discrete):
        return {"nearest": _nearest(policy), "sum-up": _sum_up(policy)}
    return {"none": policy}


def _nearest(policy: Policy) -> Policy:
    return lambda states, step: np.rint(policy(states, step)[:, 0])


def _sum_up(policy: Policy) -> Policy:
    """Return the policy whose actions' sum stays within half an action of the relaxed ones'; to be asked in order."""
    owed = np.zeros(())

    def choose(states: np.ndarray, step: int) -> np.ndarray:
        nonlocal owed
        wanted = policy(states, step)[:, 0]
        owed = wanted + (0.0 if step == 0 else owed)
        least, most = np.floor(wanted), np.ceil(wanted)
        chosen = np.clip(np.rint(owed), least, most)
        owed = owed - chosen
        return np.asarray(chosen)

    return choose
