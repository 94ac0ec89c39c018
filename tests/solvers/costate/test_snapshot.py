"""Whatever a problem's functions read is noticed when it changes, by the look that takes microseconds too."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.costate.fingerprint import fingerprint
from hamiltonian_rl.solvers.costate.kernel_cache import compiled, unchanged
from hamiltonian_rl.solvers.costate.snapshot import Snapshot

STRENGTH = 2.0
TABLE = {"slopes": [1.0, 3.0]}
ARRAY = np.array([0.5, 0.25])
FACTOR = [1.0]
GAIN = torch.tensor([1.5], dtype=torch.float64)


def helped(x: torch.Tensor, power: float = 2.0, *, scale: float = 1.0) -> torch.Tensor:
    return scale * abs(x) ** power


def _movable(goal: float) -> tuple[Callable[[], float], Callable[[float], None]]:
    """Return a function that reads a closure, and one that changes what it reads."""

    def move(value: float) -> None:
        nonlocal goal
        goal = value

    return lambda: goal, move


class Reader(ControlProblem):
    """It reads numbers of every kind that a snapshot follows."""

    state_space = gym.spaces.Box(-5.0, 5.0, (1,), np.float64)
    horizon = 2
    weight = 1.0
    move: ClassVar[Callable[[float], None]]

    def __init__(self) -> None:
        self.action_space = gym.spaces.Box(-3.0, 3.0, (1,), np.float64)
        self.mass = 1.0
        self.matrix = torch.eye(1, dtype=torch.float64)
        self.target, Reader.move = _movable(0.3)

    @property
    def heavy(self) -> float:
        return FACTOR[0] * self.mass

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return state * self.matrix[0, 0] + GAIN * action / self.heavy

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        pressed = self._pressed(action[..., 0])
        return -STRENGTH * self.weight * helped(action[..., 0]) - TABLE["slopes"][0] * pressed

    def _pressed(self, x: torch.Tensor) -> torch.Tensor:
        return float(ARRAY[0]) * x**2 + math.pi

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        return -((state[..., 0] - self.target()) ** 2)


def _snapshot(asked: ControlProblem) -> Snapshot:
    found = fingerprint(asked)
    assert found is not None
    return found.snapshot


def _set_data(asked: Any) -> None:
    asked.matrix.data = torch.full((1, 1), 2.0, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    numbers = ARRAY[0], FACTOR[0]
    yield
    ARRAY[0], FACTOR[0] = numbers


CHANGES: dict[str, Callable[[Any, pytest.MonkeyPatch], Any]] = {
    "a global": lambda asked, patch: patch.setitem(globals(), "STRENGTH", 2.5),
    "what lies in a global": lambda asked, patch: patch.setitem(TABLE, "slopes", [1.5, 3.0]),
    "an array in place": lambda asked, patch: ARRAY.__setitem__(0, 0.75),
    "a global function": lambda asked, patch: patch.setitem(globals(), "helped", lambda x: x**4),
    "a function's default": lambda asked, patch: patch.setattr(helped, "__defaults__", (4.0,)),
    "a default of a name": lambda asked, patch: patch.setitem(helped.__kwdefaults__, "scale", 3.0),
    "a function's code": lambda asked, patch: patch.setattr(helped, "__code__", (lambda x, p=2, *, scale: x).__code__),
    "a built-in, shadowed": lambda asked, patch: patch.setitem(globals(), "abs", torch.exp),
    "a global tensor in place": lambda asked, patch: patch.setitem(globals(), "GAIN", GAIN.clone() + 1.0),
    "a class's attribute": lambda asked, patch: patch.setattr(Reader, "weight", 3.0),
    "a class's method": lambda asked, patch: patch.setattr(Reader, "_pressed", lambda self, x: x**4),
    "what a property returns": lambda asked, patch: FACTOR.__setitem__(0, 2.0),
    "an attribute": lambda asked, patch: setattr(asked, "mass", 2.0),
    "the discount": lambda asked, patch: setattr(asked, "discount", 0.9),
    "a tensor's memory": lambda asked, patch: asked.matrix.numpy().fill(3.0),
    "a tensor's data": lambda asked, patch: _set_data(asked),
    "bounds in place": lambda asked, patch: asked.action_space.high.fill(2.0),
    "a method of the object's own": lambda asked, patch: setattr(asked, "_pressed", lambda x: x**4),
    "a closure": lambda asked, patch: Reader.move(0.5),
    "an attribute's type": lambda asked, patch: setattr(asked, "mass", np.float32(1.0)),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_whatever_is_read_is_noticed_when_it_changes(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Any = Reader()
    before = _snapshot(asked)
    assert before.exact
    assert before.is_of(asked)
    assert before.is_of(copy.copy(asked))
    CHANGES[changed](asked, monkeypatch)
    assert not before.is_of(asked)
    after = fingerprint(asked)
    assert after is None or after.snapshot.is_of(asked) is after.snapshot.exact


def test_what_no_kernel_depends_on_may_change() -> None:
    asked = problem("hrl/LinearQuadratic-v0")
    before = _snapshot(asked)
    asked.horizon, asked.start, asked.spread = 7, (2.0, 2.0), (0.0, 0.0)
    assert before.is_of(asked)
    assert before.is_of(problem("hrl/LinearQuadratic-v0"))  # the same numbers in another object
    assert not before.is_of(problem("hrl/LinearQuadratic-v0", R=[[0.2]]))
    assert not before.is_of(problem("hrl/Quadrotor-v0"))


@dataclasses.dataclass
class Scale:
    size: float = 1.0

    def __mul__(self, other: Any) -> Any:
        return STRENGTH * self.size * other


def reads_a_file(x: torch.Tensor) -> torch.Tensor:
    return x * len(open(__file__).name)


def imports(x: torch.Tensor) -> torch.Tensor:
    from hamiltonian_rl.solvers.costate import mirrored_starts

    return x * mirrored_starts.LATER


def names_in_a_string(x: torch.Tensor) -> torch.Tensor:
    return x * getattr(Scale(), "si" + "ze")


def marked(x: torch.Tensor) -> torch.Tensor:
    return x * marked.scale  # type: ignore[attr-defined]


marked.scale = 2.0  # type: ignore[attr-defined]
look_up = {"scale": 2.0}.get
of_class = Scale()


@pytest.mark.parametrize(
    "function",
    [
        reads_a_file,
        imports,
        names_in_a_string,
        marked,
        lambda x: x * look_up("scale"),
        lambda x: of_class * x,
    ],
)
def test_what_may_read_more_than_is_seen_is_never_taken_for_unchanged(made: Any, function: Any) -> None:
    asked = made(lambda s, a, k: s + a, lambda s, a, k: function(a[..., 0]))
    found = fingerprint(asked)
    assert found is None or not found.snapshot.is_of(asked)


def test_a_parents_function_is_not_taken_for_seen() -> None:
    class Child(Reader):
        def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
            return 2.0 * super().reward(state, action, step)

    assert not _snapshot(Child()).is_of(Child())


def test_what_is_bound_to_the_original_is_not_taken_for_the_copys() -> None:
    asked: Any = Reader()
    asked.terminal_reward = asked._end_of = lambda state: -asked.mass * state[..., 0] ** 2
    twin = copy.copy(asked)
    before = fingerprint(asked)
    asked.mass = 5.0
    assert before is None or not before.snapshot.is_of(twin)


def test_a_change_between_two_solves_is_solved() -> None:
    asked: Any = problem("hrl/LinearQuadratic-v0", horizon=5)
    state = np.array([1.0, 0.5])
    solve_costate(asked, state)
    for entry in (0.3, 0.7):
        asked.R[0, 0] = entry
        fresh = solve_costate(problem("hrl/LinearQuadratic-v0", horizon=5, R=[[entry]]), state, backend="torch")
        np.testing.assert_allclose(solve_costate(asked, state, backend="compiled").value, fresh.value, rtol=1e-12)


def test_functions_are_tried_again_with_another_number_of_states(made: Any) -> None:
    """What cannot be called with so many states is named although its kernels are kept."""

    def at_most_280(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
        return s + a + torch.zeros(280, 1).double()[: len(s)] if s.ndim > 1 else s + a

    asked = made(at_most_280, lambda s, a, k: -(a[..., 0] ** 2), horizon=2)
    for count in (1, 2):
        solve_costate(asked, np.zeros((count, 1)), backend="compiled")
    with pytest.raises(UsageError, match="dynamics fails for 300 states"):
        solve_costate(asked, np.zeros((300, 1)), backend="compiled")


class Tuned(LinearQuadratic):
    """A regulator whose dynamics may change without compiling anew."""

    parameters = ("A", "B")


def test_a_parameter_that_is_changed_in_place_is_read_anew_by_the_same_code():
    start, A = np.array([1.0, 0.5]), torch.tensor([[0.9, 0.2], [0.0, 1.1]], dtype=torch.float64)
    regulator, other = Tuned(), Tuned()
    assert compiled(regulator) is not compiled(other)  # of the same numbers, but not in the same place
    kernels = compiled(regulator)
    regulator.A.copy_(A)
    assert unchanged(regulator) is kernels
    expected = solve_costate(LinearQuadratic(A, regulator.B, regulator.Q, regulator.R, regulator.terminal_Q), start)
    np.testing.assert_allclose(solve_costate(regulator, start).value, expected.value, rtol=1e-12)
    np.testing.assert_allclose(solve_costate(other, start).value, solve_costate(LinearQuadratic(), start).value)


def test_a_parameter_that_is_replaced_is_noticed():
    regulator = Tuned()
    kernels = compiled(regulator)
    regulator.A = regulator.A.clone()
    assert unchanged(regulator) is None
    assert compiled(regulator) is not kernels


def test_a_parameter_that_is_no_tensor_is_refused_in_a_sentence():
    regulator = Tuned()
    regulator.A = 1.0
    with pytest.raises(UsageError, match='"A", which is float; expected a tensor of float64'):
        regulator.parameter_tensors()
