"""Plans on a model that is learnt from one's own transitions: Bellman's equation where to go, costates how.

The state is the observation, of which an environment's spaces, transitions and signals tell all that is known here.
Dynamics and reward are fitted (`learned_model`), a rough value on them says where paths begin (`learned_value`), and
costates improve the paths (Eq. 13-15). While it learns, the agent plans on a model drawn from the posterior, so that it
tries what it does not know; it is asked for its best on the posterior's mean.

Where the reward is constant as long as the episode lasts its costate is zero. Then what ends episodes is learnt: of a
reward that is not negative the episode should go on, and a state is pulled to where episodes begin, in units of how
far it has been seen alive; of a negative one it should end, and is pulled to where episodes ended.

Reference:
    Deisenroth and Rasmussen (2011), "PILCO"; Osband, Russo and Van Roy (2013), "(More) efficient reinforcement learning
    via posterior sampling".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.action_codes import ActionCodes
from hamiltonian_rl.agents.learned_model import Features, Posterior, draw_waves, fit
from hamiltonian_rl.agents.learned_problem import LearnedProblem
from hamiltonian_rl.agents.learned_value import FittedValue, compared_actions
from hamiltonian_rl.agents.led_paths import Followed, PlannedPath
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.solvers.costate import prepare, solve_costate
from hamiltonian_rl.solvers.costate.following import along

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree

EFFORT = 0.1  # cost of a full action where the reward says nothing: without it the optimum is not strict
FIRST_ITERATIONS, ITERATIONS = 50, 8  # of a new path, and of one that goes on: it is soon planned anew
MEMBERS = 5  # of the ensemble
STOPPED = 0.01  # how far beyond a bound the model is where that stopped it, in units of the changes' spread
LEAVE = 1.0  # how far from its path a state may be, in units of the states' spread
ROUNDED = 3  # steps of another action that do not lead away from a path


@dataclass(frozen=True)
class LearnedPath(PlannedPath):
    """A path whose policy is ``a_k + K_k (s - s_k)``.

    Attributes:
        actions: ``(N, m)``.
        feedback: K, ``(N, m, n)``.
    """

    actions: np.ndarray
    feedback: np.ndarray


class ModelLearner:
    """Learns a model from transitions, and plans on it.

    Args:
        observation_space: A Box of shape ``(n,)``.
        action_space: Discrete, or a Box of shape ``(m,)``.
        waves: Random waves of the model.
        memory: Latest transitions that are learnt from.
        tol: Of the paths' stationarity.
        generator: Of every random choice.

    Attributes:
        figures: What is known of the model, to be logged.

    Raises:
        UsageError: A space is of another kind.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        waves: int,
        memory: int,
        tol: float,
        generator: np.random.Generator,
    ) -> None:
        space: Any = observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise UsageError(
                f"The observation space is {space}; a learned model needs a Box of shape (n,). Flatten the "
                "observations, or take another agent: images are beyond it."
            )
        self.codes = ActionCodes(action_space)
        self.problem = LearnedProblem(self.codes.low, self.codes.high, states=space.shape[0], waves=waves)
        self._bounds = space.low.astype(np.float64), space.high.astype(np.float64)
        self._tol, self._memory, self._generator = tol, memory, generator
        inputs = space.shape[0] + len(self.codes.low)
        self._waves = draw_waves(inputs, waves, generator)
        n = space.shape[0]
        self._inputs, self._outputs = np.zeros((0, inputs)), np.zeros((0, n + 1))
        self._ended, self._began = np.zeros(0, bool), np.zeros((0, n))
        self._posterior: Posterior | None = None
        self._member = np.zeros(0)
        self._values: list[FittedValue] = []  # the best one first
        self._phase: Any = None
        self.figures: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return self._posterior is not None

    def __len__(self) -> int:
        return len(self._inputs)

    def see(self, step: Transitions, began: np.ndarray) -> None:
        """Remember transitions.

        Args:
            step: Of all environments.
            began: Which of them begin an episode with it, ``(n,)`` of bool.
        """
        before, after = (np.asarray(x, np.float64)[step.valid] for x in (step.observations, step.next_observations))
        points = self.codes.points(step.actions)[step.valid]
        rows = np.concatenate([after - before, step.rewards[step.valid, None]], 1)
        self._inputs = np.concatenate([self._inputs, np.concatenate([before, points], 1)])[-self._memory :]
        self._outputs = np.concatenate([self._outputs, rows])[-self._memory :]
        self._ended = np.concatenate([self._ended, step.terminated[step.valid]])[-self._memory :]
        self._began = np.concatenate([self._began, before[began[step.valid]]])[-self._memory :]

    def learn(self, horizon: int) -> None:
        """Fit model and value to all transitions seen so far."""
        n = self.problem.state_space.shape[0]
        self.problem.set_circles(self._inputs[:, :n])
        self._posterior = self._fit()
        ensemble = np.array([self._posterior.draw(self._generator) for _ in range(MEMBERS)])
        self._member = ensemble[0]
        self._look(self._posterior, ensemble)
        self._shape()
        self._imagine(exploring=False)
        states, points = self._inputs[:, :n], self._inputs[:, n:]
        low, high = (np.where(np.isfinite(x), x, y) for x, y in self._ranges(points))
        actions = compared_actions(low, high, self._generator)
        self._values = FittedValue.draws(self.problem, states, actions, horizon, self._generator)

    def _fit(self) -> Posterior:
        """Fit the model, apart from where a bound of the observations stopped it, and note which bounds do."""
        n = self.problem.state_space.shape[0]
        bent = np.arange(n + 1) == n  # the reward
        x, y, low, high = self._inputs, self._outputs, *self._bounds

        def fit_where(rows: np.ndarray) -> Posterior:
            return fit(x[rows], y[rows], *self._waves, bent)

        arrived = x[:, :n] + y[:, :n]
        below, above = np.asarray(arrived <= low), np.asarray(arrived >= high)
        inside = np.asarray(~(below | above).any(1))
        if inside.all() or 2 * inside.sum() < len(x):
            self._stop(np.zeros(n, bool), np.zeros(n, bool))
            return fit_where(np.ones(len(x), bool))
        model = fit_where(inside)
        freely = x[:, :n] + (model.features(x) @ model.mean.T)[:, :n]
        beyond = STOPPED * y[:, :n].std(0)
        below, above = below & (freely < low - beyond), above & (freely > high + beyond)
        self._stop(below.any(0), above.any(0))
        return fit_where(~(below | above).any(1))

    def _stop(self, below: np.ndarray, above: np.ndarray) -> None:
        """Have the problem know which bounds stop a coordinate, each ``(n,)`` of bool."""
        self.problem.least.copy_(_tensor(np.where(below, self._bounds[0], -np.inf)))
        self.problem.most.copy_(_tensor(np.where(above, self._bounds[1], np.inf)))

    def _look(self, model: Posterior, ensemble: np.ndarray) -> None:
        """Note how well the model fits and how far its members are apart, in units of how much the outputs vary."""
        features, scale = model.features(self._inputs), self._outputs.std(0)
        scale = np.where(scale > 0.0, scale, 1.0)
        error = (self._outputs - features @ model.mean.T) / scale
        apart = (features @ np.swapaxes(ensemble, 1, 2)).std(0) / scale
        self.figures = {
            "transitions": float(len(self)),
            "one_step_error": float(np.sqrt((error**2).mean())),
            "disagreement": float(apart.mean()),
        }

    def _ranges(self, points: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        return (self.codes.low, points.min(0)), (self.codes.high, points.max(0))

    def _shape(self) -> None:
        """Say by a pull what the reward does not say; see above."""
        n = self.problem.state_space.shape[0]
        rewards, states = self._outputs[:, n], self._inputs[:, :n]
        arrived = states + self._outputs[:, :n]
        constant = bool(np.ptp(rewards) <= 1e-9 * (1.0 + np.abs(rewards).max()))
        goes_on = rewards.mean() >= 0.0
        goal, pull = np.zeros(n), np.zeros(n)
        if goes_on and (constant or self._ended.any()):
            goal = self._began.mean(0)
            reach = np.abs(np.concatenate([states, arrived[~self._ended]]) - goal).max(0)
            pull = (1.0 if constant else np.abs(rewards).mean()) / np.where(reach > 0.0, reach, 1.0) ** 2
        elif constant and self._ended.any():
            goal = arrived[self._ended].mean(0)
            spread = states.std(0)
            pull = 1.0 / np.where(spread > 0.0, spread, 1.0) ** 2
        for tensor, numbers in ((self.problem.goal, goal), (self.problem.pull, pull)):
            tensor.copy_(_tensor(numbers))
        self.problem.effort.fill_(EFFORT if constant else 0.0)

    def _imagine(self, *, exploring: bool) -> None:
        """Have the problem be the posterior's mean, or a model drawn from it."""
        assert self._posterior is not None
        self.problem.set_model(self._posterior.features, self._member if exploring else self._posterior.mean)

    def allowed(self) -> np.ndarray:
        """Return how far a state may be from its path, ``(n,)``.

        As far as states spread; and as far as a few actions other than the path's lead, where those are rounded: who
        balances better and better has seen little but small states.
        """
        n = self.problem.state_space.shape[0]
        spread, corners = LEAVE * self._inputs[:, :n].std(0), self.codes.corners
        if corners is None:
            return np.asarray(spread)
        states = np.repeat(self._inputs[-1:, :n], len(corners), 0)
        for _ in range(ROUNDED):
            states, _ = self.problem.ahead(states, corners)
        return np.asarray(np.maximum(spread, np.ptp(states, axis=0)))

    def plan(
        self, states: np.ndarray, steps: int, so_far: Sequence[Followed | None], *, exploring: bool
    ) -> list[LearnedPath]:
        """Return paths of some steps from states ``(B, n)``, their policies giving points (`ActionCodes`).

        Each is the best of what goes on from the path before and the greedy path of the value, all improved. A new path
        is the best of more: see `_led`.
        """
        assert self._values
        self._imagine(exploring=exploring)
        if self._phase is None:
            self._phase = prepare(self.problem)
        before = [(one[0], one[1]) if one is not None and isinstance(one[0], LearnedPath) else None for one in so_far]
        paths: dict[int, LearnedPath] = {}
        new = np.array([one is None for one in before])
        for rows, begins in ((np.flatnonzero(new), True), (np.flatnonzero(~new), False)):
            if len(rows):
                here = states[rows]
                starts = [self._going_on(here, steps, [before[row] for row in rows])]
                if begins:
                    starts += self._led(here, steps)
                else:
                    starts.append(self._values[0].greedy(here, steps))
                found = self._improved(here, starts, FIRST_ITERATIONS if begins else ITERATIONS)
                paths.update(zip(rows.tolist(), found, strict=True))
        return [paths[row] for row in range(len(states))]

    def _led(self, states: np.ndarray, steps: int) -> list[np.ndarray]:
        """Return actions that new paths begin with, each ``(B, steps, m)``: the best led one of each draw of the value.

        Of the first draw many: a path decides how many swings there are, and a poor choice is poor data too. Not where
        actions are rounded, for such paths are soon left and planned anew.
        """
        first, *others = self._values
        begun = first.many_led(states, steps) if self.codes.corners is None else [first.best_led(states, steps)]
        return begun + [value.best_led(states, steps) for value in others]

    def _going_on(self, states: np.ndarray, steps: int, before: list[tuple[LearnedPath, int] | None]) -> np.ndarray:
        """Return the actions that lead on along paths by their feedback, and after their ends as at last; or none."""
        n, m = states.shape[1], len(self.codes.low)
        past = (
            np.zeros((len(states), steps, n)),
            np.zeros((len(states), steps, m)),
            np.zeros((len(states), steps, m, n)),
        )
        for row, one in enumerate(before):
            if one is not None:
                path, gone = one
                for array, values in zip(past, (path.states[:-1], path.actions, path.feedback), strict=True):
                    rest = values[gone : gone + steps]
                    array[row, : len(rest)], array[row, len(rest) :] = rest, rest[-1] if len(rest) else 0.0
        chosen = []
        for step in range(steps):
            away = np.einsum("bmn,bn->bm", past[2][:, step], states - past[0][:, step])
            chosen.append(np.clip(past[1][:, step] + away, self.codes.low, self.codes.high))
            states, _ = self.problem.ahead(states, chosen[-1])
        return np.stack(chosen, 1)

    def _improved(self, states: np.ndarray, starts: list[np.ndarray], iterations: int) -> list[LearnedPath]:
        found = solve_costate(
            self.problem,
            states,
            horizon=starts[0].shape[1],
            starts=starts,
            tol=self._tol,
            max_iterations=iterations,
            barrier=False,
            second_order=False,
            backend=self._phase,
        )
        path, feedback = found.trajectory, found.feedback
        sound = np.isfinite(path.states).all((1, 2)) & np.isfinite(feedback).all((1, 2, 3))
        paths = []
        for i, state in enumerate(states):
            here, taken, gain = path.states[i], path.actions[i], feedback[i]
            if not sound[i]:  # the model leads nowhere
                here, taken, gain = np.tile(state, (len(taken) + 1, 1)), starts[-1][i], np.zeros_like(gain)
            paths.append(self._followed(here, taken, gain))
        return paths

    def state(self) -> Tree:
        """Return what was seen and learnt, for a checkpoint."""
        seen = {name: getattr(self, f"_{name}") for name in _SEEN}
        tree: dict[str, Any] = {"seen": seen, "directions": self._waves[0], "phases": self._waves[1], "model": None}
        if self._posterior is not None:
            features = self._posterior.features
            tree["model"] = {
                "directions": features.directions,
                "phases": features.phases,
                "mean": self._posterior.mean,
                "member": self._member,
                "noise": self._posterior.noise,
                **{name: getattr(self.problem, name).numpy().copy() for name in _SHAPED},
                "values": [value.state() for value in self._values],
            }
        return tree

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
        for name in _SEEN:
            setattr(self, f"_{name}", tree["seen"][name])
        self._waves = tree["directions"], tree["phases"]
        model = tree["model"]
        if model is None:
            return
        features = Features(model["directions"], model["phases"])
        no_spread = np.zeros((0, 0, 0))  # it has served: it is found anew with the next fit
        self._posterior = Posterior(features, model["mean"], no_spread, model["noise"])
        self._member = model["member"]
        for name in _SHAPED:
            getattr(self.problem, name).copy_(_tensor(model[name]))
        self._values = [FittedValue.from_state(self.problem, value) for value in model["values"]]

    def path_state(self, path: PlannedPath) -> Tree:
        """Return a path, for a checkpoint."""
        assert isinstance(path, LearnedPath)
        return {"states": path.states, "actions": path.actions, "feedback": path.feedback}

    def path(self, tree: Any) -> LearnedPath:
        """Return the path of what `path_state` returned."""
        return self._followed(tree["states"], tree["actions"], tree["feedback"])

    def _followed(self, states: np.ndarray, actions: np.ndarray, feedback: np.ndarray) -> LearnedPath:
        policy = along(self.problem, states[None], actions[None], feedback[None])
        return LearnedPath(states, policy, actions, feedback)


_SEEN = ("inputs", "outputs", "ended", "began")
_SHAPED = ("goal", "pull", "effort", "least", "most", "circles", "rest")


def _tensor(numbers: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(numbers)
