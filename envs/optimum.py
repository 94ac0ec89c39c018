"""The optimal return of an episode from its start state, and how it is certified: what agents are held against.

Returns are those that Gymnasium counts: plain sums of rewards under the environment's own limit of steps, without
discount. Where an environment carries its table of transitions they come by backward induction (Eq. 18-19); where it
has a control problem, from the best path that both routes find (`solve_control`, Eq. 13-15).
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np

from hamiltonian_rl.envs.behind import copies_of, has_table, problem_behind, table_model
from hamiltonian_rl.envs.making import close_env, make_env
from hamiltonian_rl.envs.model_check import check_model
from hamiltonian_rl.errors import HamiltonianRLError, SolverError, UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.control_problem import can_end
from hamiltonian_rl.solvers import backward_induction, undiscounted

if TYPE_CHECKING:
    from hamiltonian_rl.solvers.grid_solution import GridSolution
    from hamiltonian_rl.solvers.solve_control import ControlSolution

BATCH, RELAXED_BATCH = 32, 8  # start states solved together; a relaxation takes seconds for each
SECONDS_BETWEEN_WORDS = 10.0
ROUNDING = 1e-6  # bounds as close as this, relative to the value, certify it exactly


class OptimalReturns(NamedTuple):
    """The optimal returns of episodes from some start states.

    Attributes:
        value: Shape ``(n,)``. Of a control problem that of a real path where there is one: a lower bound.
        error: How far the optimum may be from it, shape ``(n,)``; of a lower bound, above it. Zero where it is certain
            but for rounding, an estimate where it comes from a grid, NaN where nothing is known.
        certificate: "exact"; "lower bound"; "grid ± e", e the largest error; or "bounds ± e". For all states together:
            one of them that is less certain than the others decides.
    """

    value: np.ndarray
    error: np.ndarray
    certificate: str


class Optimum(ABC):
    """The optimum of one environment, asked by the first observations of its episodes; made by `optimum_of`.

    Attributes:
        tabulated: Whether all start states were solved at once, so that asking costs nothing.
        state_names: Of the coordinates of a state.
    """

    tabulated: bool
    state_names: tuple[str, ...]

    @abstractmethod
    def states(self, observations: np.ndarray) -> np.ndarray:
        """Return the states that first observations show: numbers ``(n,)`` of a table, or ``(n, state size)``."""

    @abstractmethod
    def returns(self, observations: np.ndarray) -> OptimalReturns:
        """Return the optimal returns of the episodes that begin with these observations, shape ``(n, ...)``.

        Raises:
            UsageError: They are not observations of the environment.
            SolverError: From one of them no path was found at all.
        """


class TableOptimum(Optimum):
    """The optimum of an environment that carries its table: exact, solved when it is made.

    Args:
        env: The environment, or a vector of equal ones.
    """

    tabulated = True
    state_names = ("state",)

    def __init__(self, env: Any) -> None:
        mdp = table_model(env, 1.0, horizon="auto")
        self._solution = backward_induction(mdp) if mdp.horizon is not None else undiscounted(mdp, tol=1e-9)
        self._first = int(getattr(copies_of(env)[0].observation_space, "start", 0))

    def states(self, observations: np.ndarray) -> np.ndarray:
        """Return the numbers of the states, from zero."""
        states = np.asarray(observations)
        count = len(self._solution.value)
        if states.ndim != 1 or states.dtype.kind not in "iu" or not _within(states - self._first, count):
            last = self._first + count - 1
            raise UsageError(f"The observations {observations!r} are no whole numbers from {self._first} to {last}.")
        return np.asarray(states - self._first)

    def returns(self, observations: np.ndarray) -> OptimalReturns:
        """Return what backward induction, or policy iteration where there is no limit, found."""
        states, found = self.states(observations), self._solution
        value = found.value[states]
        error = np.maximum(found.upper[states] - value, value - found.lower[states])
        exact = bool((error <= ROUNDING * (1.0 + np.abs(value))).all())
        return OptimalReturns(value, error, "exact" if exact else f"bounds ± {error.max():.2g}")


class ProblemOptimum(Optimum):
    """The optimum of a control problem: one grid for all, and the best path from each start state, kept.

    Args:
        problem: At the limit of steps; its discount is of no effect.
        points: Of the grid along each coordinate, as for `solve_control`.
        search: Whether to look for better optima by kicks, as for `solve_control`.
        announce: Told in words what begins.
        heartbeat: Called now and then while there is work; may raise to leave it.
    """

    tabulated = False

    def __init__(
        self,
        problem: ControlProblem,
        *,
        points: int | None = None,
        search: bool = True,
        announce: Callable[[str], None] = lambda text: None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem = copy.copy(problem)
        self.problem.discount = 1.0
        size = problem.state_space.shape[0]
        self.state_names = tuple(problem.state_names) or tuple(f"state {index}" for index in range(size))
        name = type(problem).__name__
        if problem.horizon is None:
            raise UsageError(
                f"Neither {name} nor its environment has a limit of steps, so that no return is optimal. Expected a "
                "horizon, or gymnasium.make(..., max_episode_steps=N)."
            )
        self._observed = self._observation_shape()
        self.states(np.zeros((1, *self._observed)))  # refuses a problem that does not say which these are
        self._points, self._search, self._announce, self._heartbeat = points, search, announce, heartbeat
        self._grid: GridSolution | None = None
        self._known: dict[bytes, tuple[float, float, bool]] = {}  # value, error, and whether that of a real path

    def _observation_shape(self) -> tuple[int, ...]:
        import torch

        nowhere = torch.zeros((1, *self.problem.state_space.shape), dtype=torch.float64)
        return tuple(self.problem.observation(nowhere).shape[1:])

    def states(self, observations: np.ndarray) -> np.ndarray:
        """Return the states, shape ``(n, state size)``."""
        import torch

        seen = np.asarray(observations)
        if seen.shape[1:] != self._observed or seen.dtype.kind not in "iuf" or not np.isfinite(seen).all():
            raise UsageError(
                f"The observations have shape {seen.shape}; expected finite numbers of shape (n, *{self._observed})."
            )
        found: np.ndarray = self.problem.state_of(torch.as_tensor(seen.astype(float))).numpy()
        return found

    def returns(self, observations: np.ndarray) -> OptimalReturns:
        """Return those of the best paths; where there can be none, of a grid."""
        states = self.states(observations)
        keys = [state.tobytes() for state in states]
        self._solve_all({key: state for key, state in zip(keys, states, strict=True) if key not in self._known})
        value, error, real = (np.array(column) for column in zip(*(self._known[key] for key in keys), strict=True))
        if (error == 0.0).all():
            return OptimalReturns(value, error, "exact")
        return OptimalReturns(value, error, "lower bound" if real.all() else f"grid ± {error[~real].max():.2g}")

    def _solve_all(self, starts: Mapping[bytes, np.ndarray]) -> None:
        """Solve in batches, and say how far that is."""
        if not starts:
            return
        self._announce(f"Computing the optimum from {len(starts)} start state{'s' * (len(starts) > 1)}.")
        begun = told = time.monotonic()
        size = BATCH if self.problem.relaxed() is None else RELAXED_BATCH
        for done in range(0, len(starts), size):
            now = time.monotonic()
            if now - told >= SECONDS_BETWEEN_WORDS:
                left = (now - begun) * (len(starts) / done - 1.0)
                self._announce(f"{done} of {len(starts)} start states are solved; about {left:.0f} seconds are left.")
                told = now
            self._solve(dict(list(starts.items())[done : done + size]))

    def _solve(self, starts: Mapping[bytes, np.ndarray]) -> None:
        from hamiltonian_rl.solvers.solve_control import solve_control  # torch takes seconds to load

        found = solve_control(
            self.problem,
            np.array(list(starts.values())),
            points=(self._points,) * self.problem.state_space.shape[0] if self._points else None,
            grid=self._grid,
            search=self._search,
            tol=1e-6,
            announce=lambda text: self._heartbeat(),
            progress=lambda sweeps, distance: self._heartbeat(),
        )
        self._grid = found.grid
        real = found.paths is not None or found.relaxed is not None
        value, error = self._bounded(found) if real else (found.grid_value, found.grid_error)
        if not np.isfinite(value).all():
            state = found.initial_states[int(np.argmin(np.isfinite(value)))].tolist()
            raise SolverError(f"No path of {type(self.problem).__name__} from {state} keeps its constraints.")
        self._known |= {key: (v, e, real) for key, v, e in zip(starts, value.tolist(), error.tolist(), strict=True)}

    def _bounded(self, found: ControlSolution) -> tuple[np.ndarray, np.ndarray]:
        """Return the best paths' returns, and how far above them the optimum may be."""
        value, problem = found.value, found.problem
        above = found.grid_value + found.grid_error - value
        error = np.where(above >= 0, above, np.nan)  # what is below a real path's return is refuted
        if type(problem).terminal_reward is ControlProblem.terminal_reward:
            steps = 1 if problem.reward_bound < 0 and can_end(problem) else problem.horizon or 0
            most = steps * problem.reward_bound
            if (value > most + ROUNDING * abs(most)).any():
                raise UsageError(
                    f"A path of {type(problem).__name__} earns {value.max():g}, more in {problem.horizon} steps than "
                    f"its reward_bound = {problem.reward_bound:g} allows. Correct it."
                )
            error = np.fmin(error, np.maximum(most - value, 0.0)) if np.isfinite(most) else error
        return value, error


def optimum_of(
    env: str | Any,
    settings: Mapping[str, Any] | None = None,
    *,
    points: int | None = None,
    search: bool = True,
    announce: Callable[[str], None] = lambda text: None,
    heartbeat: Callable[[], None] = lambda: None,
) -> Optimum:
    """Return the optimum of an environment, by its table of transitions where it carries one, or its control problem.

    Args:
        env: A registered id; an environment, or a vector of equal ones, without wrappers that make another problem; or
            a `ControlProblem` itself.
        settings: Keyword arguments of the environment that is named, ``max_episode_steps`` among them.
        points: Of a grid along each coordinate; as `solve_control` has it when None.
        search: Whether to look for better paths by kicks.
        announce: Told in words what begins, where it may take more than seconds.
        heartbeat: Called now and then while there is work; may raise to leave it.

    Raises:
        UsageError: There is neither a table nor a problem, or no limit of steps that makes returns finite; or the
            problem is not the process of the environment that is named (`check_model`).

    Example:
        >>> found = optimum_of("FrozenLake-v1").returns(np.array([0]))
        >>> round(float(found.value[0]), 6), found.certificate
        (0.74419, 'exact')
        >>> optimum_of("CliffWalking-v1").returns(np.array([36])).value.tolist()
        [-13.0]
    """
    options: dict[str, Any] = {"points": points, "search": search, "announce": announce, "heartbeat": heartbeat}
    if isinstance(env, ControlProblem):
        return ProblemOptimum(env, **options)
    made = make_env(env, settings=settings) if isinstance(env, str) else env
    try:
        if has_table(made):
            return TableOptimum(made)
        found = ProblemOptimum(_as_played(problem_behind(made)[0], made), **options)
        if made is not env and not isinstance(getattr(made.unwrapped, "problem", None), ControlProblem):
            check_model(made, found.problem)  # which steps the environment: only one of our own making
        return found
    finally:
        if made is not env:
            close_env(made)


def is_tabulated(env_id: str, settings: Mapping[str, Any] | None = None) -> bool:
    """Return whether an environment's optimum comes from its table, so that it costs next to nothing.

    Example:
        >>> is_tabulated("FrozenLake-v1"), is_tabulated("Pendulum-v1")
        (True, False)
    """
    env = make_env(env_id, settings=settings)
    try:
        return has_table(env) and TableOptimum(env).tabulated
    except HamiltonianRLError:  # its returns have no limit, or a wrapper makes another problem of it
        return False
    finally:
        close_env(env)


def _as_played(problem: ControlProblem, env: Any) -> ControlProblem:
    """Return the problem with the bounds that its environment gives to actions which have none."""
    ours = problem.action_space
    theirs = getattr(env, "single_action_space", getattr(env, "action_space", None))
    if isinstance(ours, gym.spaces.Box) and isinstance(theirs, gym.spaces.Box) and not ours.is_bounded("both"):
        problem.action_space = gym.spaces.Box(theirs.low.astype(float), theirs.high.astype(float), dtype=np.float64)
    return problem


def _within(states: np.ndarray, count: int) -> bool:
    return bool(((states >= 0) & (states < count)).all())
