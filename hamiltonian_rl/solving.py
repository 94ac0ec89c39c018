"""The computed optimum of an environment: solved, drawn, and kept in a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np

from hamiltonian_rl.envs.making import close_env, make_env
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.files import atomic_write
from hamiltonian_rl.problems import MDP, restarted
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers import choose_method, solve
from hamiltonian_rl.tracking.run_folder import RunFolder

NO_ARROW = "·"
ARROWS = {(-1, 0): "↑", (1, 0): "↓", (0, -1): "←", (0, 1): "→"}


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedEnv:
    """An environment solved on its table: its optimum, and what there is to say and to draw of it.

    Attributes:
        env_id: The environment.
        env_settings: Its keyword arguments.
        mdp: Its model.
        method: Name of the method, as `solve` takes it.
        solution: Values, bounds and policy.
        tol: Distance of the bounds that was asked for.
        seconds: Seconds that the solver took.
        threshold: Return at which Gymnasium calls the environment solved, or None.
        limit: Steps after which Gymnasium cuts an episode off, or None.
        shape: Rows and columns, where the states are cells of a map.
        letters: A letter a cell, where the map has them; shape ``(S,)``.
    """

    env_id: str
    env_settings: dict[str, Any]
    mdp: MDP
    method: str
    solution: Solution
    tol: float
    seconds: float
    threshold: float | None
    limit: int | None
    shape: tuple[int, int] | None
    letters: np.ndarray | None

    @property
    def what(self) -> str:
        """What the values are: the "return", or the "gain", which is the mean reward a step in the long run."""
        return "gain" if self.solution.method == "average reward" else "return"

    @property
    def start_bounds(self) -> tuple[float, float, float]:
        """Optimal mean return (or gain) from the start: lower bound, value, upper bound."""
        starts = self.mdp.initial > 0
        lower, value, upper = (
            float(self.mdp.initial[starts] @ values[starts])  # elsewhere a bound may be infinite
            for values in (self.solution.lower, self.solution.value, self.solution.upper)
        )
        return lower, value, upper

    @property
    def first_policy(self) -> np.ndarray:
        """The optimal action of each state, in the first step where it depends on the step; shape ``(S,)``."""
        policy = self.solution.policy
        return policy[0] if policy.ndim == 2 else policy

    @property
    def shown_value(self) -> np.ndarray:
        """The value of each state, NaN where no episode acts and none has ended either; shape ``(S,)``.

        What the table says of such states (the cliff of CliffWalking, a taxi after the ride) never happens.
        """
        return np.where(self.mdp.reachable | self.mdp.absorbing, self.solution.value, np.nan)

    def arrows(self) -> np.ndarray | None:
        """Return one sign a state, shape ``(S,)``: where the optimal action leads on a map; None without a map.

        Where no episode takes an action (holes, goals, cells out of reach) stands the letter of the map, or a dot.
        """
        if self.shape is None:
            return None
        directions = _directions(self.mdp, self.shape)
        signs = np.array([directions.get(int(action), NO_ARROW) for action in self.first_policy])
        letters = np.full(len(signs), NO_ARROW) if self.letters is None else self.letters
        return np.where(self.mdp.reachable, signs, letters)

    def drawing(self) -> str | None:
        """Return the policy as a map of arrows, None where the states are no map."""
        signs = self.arrows()
        if signs is None or self.shape is None:
            return None
        return "\n".join(" ".join(row) for row in signs.reshape(self.shape))


def solve_env(
    env_id: str,
    *,
    env_settings: dict[str, Any] | None = None,
    method: str = "auto",
    horizon: str | int | None = "auto",
    discount: float = 1.0,
    tol: float = 1e-8,
    progress: Callable[[int, float], None] | None = None,
) -> SolvedEnv:
    """Compute the optimum of an environment that has a table of its transitions.

    Args:
        env_id: A registered id, or "module:Env-v0".
        env_settings: Keyword arguments of the environment.
        method: A solver's name, or "auto" for the one that suits. "average-reward" asks for the mean reward a step
            of episodes one after the other, not cut off.
        horizon: Steps after which an episode is cut off; "auto" is the environment's own limit, None none.
        discount: ``γ``; Gymnasium's returns have none, so one.
        tol: Largest distance of the bounds.
        progress: Called now and then with the number of sweeps and the distance of the bounds.

    Raises:
        UsageError: The environment is unknown or has no table, or an argument does not fit.
    """
    env = make_env(env_id, settings=env_settings)
    try:
        mdp = _model(env, method, discount, horizon)
        threshold = env.spec.reward_threshold if env.spec is not None else None
        limit = env.spec.max_episode_steps if env.spec is not None else None
        shape, letters = _map_of(env.unwrapped, mdp.n_states)
    finally:
        close_env(env)
    started = time.perf_counter()
    solution = solve(mdp, method=method, tol=tol, progress=progress)
    seconds = time.perf_counter() - started
    named = choose_method(mdp)[0] if method == "auto" else method
    return SolvedEnv(env_id, env_settings or {}, mdp, named, solution, tol, seconds, threshold, limit, shape, letters)


def _model(env: Any, method: str, discount: float, horizon: str | int | None) -> MDP:
    """Return the process that the method is to solve."""
    if method != "average-reward":
        return MDP.from_gymnasium(env, discount, horizon)
    if discount != 1.0:
        raise UsageError(f"discount = {discount!r}; a mean reward a step in the long run has none. Leave it out.")
    mdp = MDP.from_gymnasium(env, 1.0, None if horizon == "auto" else horizon)
    return mdp if mdp.horizon is not None else restarted(mdp)


def optimum_rows(optimum: SolvedEnv) -> dict[str, str]:
    """Return what there is to say of an optimum, as the rows of a table."""
    solution, mdp = optimum.solution, optimum.mdp
    lower, value, upper = optimum.start_bounds
    unreached = int((~mdp.reachable).sum())
    states = f"{mdp.n_states:,} states" + (f" ({unreached:,} of them never acted in)" if unreached else "")
    limit = _limit(mdp.horizon)
    answer = {"Optimal mean return from the start": f"{value:.6f} (discount {mdp.discount:g}, {limit})"}
    if optimum.what == "gain":
        answer = {"Largest mean reward a step": f"{value:.6f} (in the long run; episodes one after the other, uncut)"}
    return {
        **answer,
        "Certified": certified(lower, upper),
        "No state loses more by the policy than": rounded_up(solution.gap),
        "Method": f"{solution.method}, because {solution.reason}",
        "Work": f"{_counted(solution.iterations, 'iteration')}, {optimum.seconds:.2f} seconds, {states}",
        **({} if solution.converged else {"Not converged": solution.status.value}),
        **({} if optimum.threshold is None else {"Registered threshold": threshold_sentence(optimum)}),
    }


def certified(lower: float, upper: float) -> str:
    """Return two bounds as a number and how far from it the true one may be, of which rounding to digits is a part.

    Example:
        >>> certified(0.1 - 1e-13, 0.1 + 1e-13), certified(1 / 3, 1 / 3)
        ('0.1 ± 1.1e-13', '0.333333333333 ± 3.4e-13')
    """
    if not np.isfinite(upper - lower):
        return f"{lower:.12g} to {upper:.12g}"
    middle = Decimal(f"{0.5 * (lower + upper):.12g}")
    up = Context(prec=28, rounding=ROUND_CEILING)  # a lower bound of -1e-110 counts beside a half too
    return f"{middle} ± {rounded_up(max(up.subtract(Decimal(upper), middle), up.subtract(middle, Decimal(lower))))}"


def rounded_up(distance: float | Decimal) -> str:
    """Return a number of two digits that is not below ``distance``.

    Example:
        >>> rounded_up(1.01e-9)
        '1.1e-09'
    """
    return f"{float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(distance)):.1e}"


def _limit(horizon: int | None) -> str:
    """Say after how many steps an episode is cut off."""
    if horizon is None:
        return "no limit"
    return f"at most {_counted(horizon, 'step')}"


def _counted(count: int, thing: str) -> str:
    """Return a number of things."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def threshold_sentence(optimum: SolvedEnv) -> str:
    """Say whether an agent can reach the environment's registered threshold at all."""
    lower, value, upper = optimum.start_bounds
    threshold = optimum.threshold
    if threshold is None:
        raise UsageError(f"{optimum.env_id} has no registered threshold.")
    if optimum.what == "gain":
        return f"{threshold:g}, of returns; this optimum is a mean reward a step"
    if optimum.mdp.discount < 1.0:
        return f"{threshold:g}, of returns without discount; this optimum has discount {optimum.mdp.discount:g}"
    if optimum.mdp.horizon != optimum.limit:
        return (
            f"{threshold:g}, of episodes with {_limit(optimum.limit)}; this optimum has {_limit(optimum.mdp.horizon)}"
        )
    if upper < threshold:
        return f"{threshold:g} is above the optimum {value:.4f}: no agent can reach it"
    if lower >= threshold:
        return f"{threshold:g} is below the optimum {value:.4f}: it can be reached"
    return f"{threshold:g} lies within the bounds of the optimum"


@contextlib.contextmanager
def optimum_folder(env_id: str, root: Path) -> Iterator[RunFolder]:
    """Make a run folder before the work begins; take it away again, and a root made for it, if nothing comes of it.

    Raises:
        RunStorageError: The folder cannot be made.
    """
    made = not root.exists()
    folder = RunFolder.create(root, env_id, "optimum", 0)
    try:
        yield folder
    except BaseException:
        folder.remove(root)
        if made:
            root.rmdir()
        raise


def keep_optimum(optimum: SolvedEnv, folder: RunFolder) -> None:
    """Write an optimum to its run folder: configuration, result, tables, a picture, TensorBoard events.

    Raises:
        RunStorageError: The folder cannot be written.
    """
    from hamiltonian_rl.tracking.pictures import save_picture, value_picture
    from hamiltonian_rl.tracking.tensorboard import TensorBoardSink

    solution, mdp = optimum.solution, optimum.mdp
    folder.write_config(
        {
            "env": optimum.env_id,
            "env_settings": optimum.env_settings,
            "method": optimum.method,  # as --method takes it
            "horizon": "none" if mdp.horizon is None else mdp.horizon,
            "discount": mdp.discount,
            "tol": optimum.tol,
        }
    )
    folder.write_provenance()
    with atomic_write(folder.path / "optimum.npz") as file:
        np.savez(file, value=solution.value, lower=solution.lower, upper=solution.upper, policy=solution.policy)
    lower, value, upper = optimum.start_bounds
    title = f"Optimal {optimum.what} of {optimum.env_id}"
    if optimum.what == "return":
        title += f"\ndiscount {mdp.discount:g}, {_limit(mdp.horizon)}"
    picture = value_picture(
        optimum.shown_value, optimum.shape, optimum.arrows(), title, f"optimal value ({optimum.what})"
    )
    save_picture(picture, folder.path / "value.png")
    sink = TensorBoardSink(folder.path)
    sink.write({f"optimality/{optimum.what}": value, "optimality/value": Figure(picture)}, 0)
    sink.close()
    folder.write_result(
        {
            "status": solution.status.name.lower(),
            "method": solution.method,
            optimum.what: value,
            f"{optimum.what}_lower": lower,
            f"{optimum.what}_upper": upper,
            "gap": solution.gap,
            "iterations": solution.iterations,
            "seconds": optimum.seconds,
        }
    )


@dataclasses.dataclass(frozen=True)
class Figure:
    """A matplotlib figure as a value for TensorBoard, as SB3 passes them."""

    figure: Any
    close: bool = True


def _map_of(env: Any, n_states: int) -> tuple[tuple[int, int] | None, np.ndarray | None]:
    """Return the rows and columns of a grid world and its letters, as far as the environment tells them."""
    letters = getattr(env, "desc", None)
    shape = getattr(env, "shape", None) if letters is None else np.shape(letters)
    if not (isinstance(shape, tuple) and len(shape) == 2 and shape[0] * shape[1] == n_states):
        return None, None
    cells = None if letters is None else np.asarray(letters).astype(str).ravel()
    return (int(shape[0]), int(shape[1])), cells


def _directions(mdp: MDP, shape: tuple[int, int]) -> dict[int, str]:
    """Return an arrow for each action that moves one cell on average, whatever the environment calls it."""
    rows = np.repeat(np.arange(mdp.n_states * mdp.n_actions), np.diff(mdp.first))
    states, actions = np.divmod(rows, mdp.n_actions)
    moves = np.stack(np.divmod(mdp.next_states, shape[1])) - np.stack(np.divmod(states, shape[1]))
    near = np.abs(moves).sum(axis=0) == 1  # not a fall back to the start, nor a bump into the wall
    found = {}
    for action in range(mdp.n_actions):
        chosen = near & (actions == action)
        mean = (moves[:, chosen] * mdp.probabilities[chosen]).sum(axis=1)
        if np.abs(mean).max() > 0:
            axis = int(np.abs(mean).argmax())
            step = int(np.sign(mean[axis]))
            found[action] = ARROWS[(step, 0) if axis == 0 else (0, step)]
    return found
