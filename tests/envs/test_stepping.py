"""Every kind of environment yields the same transitions, and a broken one is named in a sentence."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from hamiltonian_rl.envs.stepping import Stepper, Transitions
from hamiltonian_rl.errors import EnvironmentContractError, UsageError

# How the episodes of the two counting environments end: (length, terminated, truncated).
FIRST_ENDS = ((2, True, False), (3, False, True), (1, True, True))
SECOND_ENDS = ((3, True, True), (1, True, False), (2, False, True))

# What they must yield, written by hand: (episode, step) -> (episode, step), reward for action 0, terminated, truncated.
FIRST_TABLE = [
    ((0, 0), (0, 1), 1.0, False, False),
    ((0, 1), (0, 2), 2.0, True, False),
    ((1, 0), (1, 1), 11.0, False, False),
    ((1, 1), (1, 2), 12.0, False, False),
    ((1, 2), (1, 3), 13.0, False, True),
    ((2, 0), (2, 1), 21.0, True, True),
    ((3, 0), (3, 1), 31.0, False, False),
    ((3, 1), (3, 2), 32.0, False, False),
]
SECOND_TABLE = [
    ((0, 0), (0, 1), 1.0, False, False),
    ((0, 1), (0, 2), 2.0, False, False),
    ((0, 2), (0, 3), 3.0, True, True),
    ((1, 0), (1, 1), 11.0, True, False),
    ((2, 0), (2, 1), 21.0, False, False),
    ((2, 1), (2, 2), 22.0, False, True),
    ((3, 0), (3, 1), 31.0, False, False),
    ((3, 1), (3, 2), 32.0, False, False),
]


class Counting(gym.Env):
    """Shows [episode, step]; its episodes end as it is told; an action of 1 adds a half to the reward."""

    observation_space = gym.spaces.Box(0, 1000, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, ends: tuple[tuple[int, bool, bool], ...] = FIRST_ENDS) -> None:
        self.ends, self.episode, self.count = ends, -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return self.observation(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        length, terminated, truncated = self.ends[self.episode] if self.episode < len(self.ends) else (10**9, 0, 0)
        over = self.count == length
        reward = 10.0 * self.episode + self.count + 0.5 * int(action)
        return self.observation(), reward, over and terminated, over and truncated, {}

    def observation(self) -> Any:
        return np.array([self.episode, self.count], np.float32)


def first() -> Counting:
    return Counting(FIRST_ENDS)


def second() -> Counting:
    return Counting(SECOND_ENDS)


def vector(mode: AutoresetMode, **arguments: Any) -> SyncVectorEnv:
    return SyncVectorEnv([first, second], autoreset_mode=mode, **arguments)


KINDS = {
    "gym.Env": first,
    "NEXT_STEP": lambda: vector(AutoresetMode.NEXT_STEP),
    "SAME_STEP": lambda: vector(AutoresetMode.SAME_STEP),
    "DISABLED": lambda: vector(AutoresetMode.DISABLED),
    "VecEnv": lambda: DummyVecEnv([first, second]),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def transitions(step: Transitions, index: int) -> tuple[Any, ...]:
    """Return one environment's part of a step as a row of the tables above."""
    return (
        tuple(step.observations[index].tolist()),
        tuple(step.next_observations[index].tolist()),
        float(step.rewards[index]),
        bool(step.terminated[index]),
        bool(step.truncated[index]),
    )


def steps_of(stepper: Stepper, number: int, action: int = 0) -> list[Transitions]:
    return [stepper.step(np.full(stepper.num_envs, action)) for _ in range(number)]


@kinds
def test_every_kind_yields_the_transitions_known_by_hand(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    steps = steps_of(stepper, 12)  # eight true ones and up to three pseudo-steps
    for index, table in enumerate((FIRST_TABLE, SECOND_TABLE)[: stepper.num_envs]):
        if kind == "VecEnv":  # SB3's interface has one flag: what is both terminated and truncated is terminated
            table = [(*row[:4], row[4] and not row[3]) for row in table]
        seen = [transitions(step, index) for step in steps if step.valid[index]]
        assert seen[: len(table)] == table


@kinds
def test_the_mask_leaves_out_the_pseudo_steps_and_nothing_else(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    valid = np.array([step.valid for step in steps_of(stepper, 9)])
    expected = np.ones((9, stepper.num_envs), bool)
    if kind == "NEXT_STEP":  # after the ends at true steps 2, 5, 6 of the first, and 3, 4, 6 of the second
        expected[[2, 6, 8], 0] = False
        expected[[3, 5, 8], 1] = False
    np.testing.assert_array_equal(valid, expected)


@kinds
def test_the_next_actions_answer_to_the_first_observation_of_a_new_episode(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    assert stepper.observations[0].tolist() == [0, 0]
    steps_of(stepper, 2)  # the first environment's first episode is over
    if kind == "NEXT_STEP":
        assert stepper.observations[0].tolist() == [0, 2]
        steps_of(stepper, 1)
    assert stepper.observations[0].tolist() == [1, 0]


@kinds
def test_a_pseudo_step_reports_no_end_and_each_step_begins_where_the_last_one_left_off(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    expected = stepper.observations.copy()
    for _ in range(10):
        step = stepper.step(np.zeros(stepper.num_envs, int))
        np.testing.assert_array_equal(step.observations, expected)
        assert not step.over[~step.valid].any()
        expected = stepper.observations.copy()


@kinds
def test_rewards_are_those_of_the_actions_in_float64(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    step = stepper.step(np.array([1, 0][: stepper.num_envs]))
    assert step.rewards.dtype == np.float64
    assert step.rewards.tolist() == [1.5, 1.0][: stepper.num_envs]


@kinds
def test_what_was_kept_continues_a_stepper_in_the_middle_of_an_episode_end(kind: str) -> None:
    stepper = Stepper(KINDS[kind]())
    stepper.reset(seed=0)
    steps_of(stepper, 2)
    other = Stepper(stepper.env)
    other.set_state(stepper.state())
    step = other.step(np.zeros(other.num_envs, int))
    assert bool(step.valid[0]) == (kind != "NEXT_STEP")
    assert other.n_steps == 3


def test_a_native_vector_environment_steps_as_the_single_one_does() -> None:
    """The native CartPole against Gymnasium's single one, put into each state that the native one showed."""
    number, limit = 4, 15
    native = gym.make_vec(
        "CartPole-v1", num_envs=number, vectorization_mode="vector_entry_point", max_episode_steps=limit
    )
    stepper, single = Stepper(native), gym.make("CartPole-v1").unwrapped
    single.reset(seed=0)
    stepper.reset(seed=3)
    generator = np.random.default_rng(0)
    lengths, after_end = np.zeros(number, int), np.zeros(number, bool)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(200):
        actions = generator.integers(0, 2, number)
        step = stepper.step(actions)
        np.testing.assert_array_equal(step.valid, ~after_end)
        for index in np.nonzero(step.valid)[0]:
            single.state = tuple(step.observations[index].astype(float))
            single.steps_beyond_terminated = None
            observation, _, terminated, _, _ = single.step(int(actions[index]))
            # The state was rounded to float32 on the way (relative 6e-8); one step changes that by less than tenfold.
            np.testing.assert_allclose(step.next_observations[index], observation, rtol=1e-6, atol=1e-6)
            lengths[index] += 1
            assert bool(step.terminated[index]) == terminated
            assert bool(step.truncated[index]) == (lengths[index] == limit)
        ends["terminated"] += int(step.terminated.sum())
        ends["truncated"] += int(step.truncated.sum())
        lengths[step.over] = 0
        after_end = step.over
        # A pseudo-step ends in a start state, whose numbers are all below 0.05.
        assert (np.abs(stepper.observations[~step.valid]) <= 0.05).all()
    assert min(ends.values()) > 0


def test_an_unknown_object_is_refused_with_what_is_expected() -> None:
    with pytest.raises(UsageError, match=r"Cannot step a str\. Expected a gymnasium\.Env") as caught:
        Stepper("CartPole-v1")
    assert "gymnasium.make" in str(caught.value)


# Environments that break the contract


class Broken(Counting):
    """Counts until its second step, or its second reset; then it does something wrong."""

    def __init__(self, **faults: Any) -> None:
        super().__init__()
        self.faults = faults

    def reset(self, **arguments: Any) -> Any:
        result = super().reset(**arguments)
        late = self.episode == 1
        return self.faults["second_reset" if late else "reset"](*result) if self._has(late) else result

    def step(self, action: Any) -> Any:
        result = super().step(action)
        return self.faults["step"](*result) if "step" in self.faults and self.count == 2 else result

    def _has(self, late: bool) -> bool:
        return ("second_reset" if late else "reset") in self.faults


def raises(*ignored: Any) -> Any:
    raise KeyError("fuel")


def observe(value: Any) -> Any:
    return lambda observation, *rest: (value, *rest)


def reward(value: Any) -> Any:
    return lambda observation, old, *rest: (observation, value, *rest)


STEP_FAULTS = {
    "four parts": (lambda *parts: (parts[0], parts[1], True, {}), "a tuple of 4"),
    "only an observation": (lambda *parts: parts[0], "ndarray"),
    "None": (lambda *parts: None, "NoneType"),
    "a wrong shape": (observe(np.zeros(3, np.float32)), "(3,)"),
    "a number for an array": (observe(np.float32(1)), "()"),
    "NaN observed": (observe(np.array([0, np.nan], np.float32)), "nan"),
    "infinity observed": (observe(np.array([np.inf, 0], np.float32)), "inf"),
    "NaN reward": (reward(float("nan")), "nan"),
    "infinite reward": (reward(-np.inf), "-inf"),
    "None reward": (reward(None), "None"),
    "text reward": (reward("lots"), "lots"),
    "number as text reward": (reward("1.5"), "1.5"),
    "list reward": (reward([1.0, 2.0]), "[1.0, 2.0]"),
    "an error": (raises, "KeyError: 'fuel'"),
}


def message_of(env: Any, number: int = 3) -> str:
    def run(stepper: Stepper) -> None:
        stepper.reset(seed=0)
        steps_of(stepper, number)

    with pytest.raises(EnvironmentContractError) as caught:
        run(Stepper(env))
    return str(caught.value)


@pytest.mark.parametrize("fault", STEP_FAULTS)
def test_a_broken_step_is_one_sentence_with_the_environment_the_call_and_the_value(fault: str) -> None:
    change, value = STEP_FAULTS[fault]
    message = message_of(Broken(step=change))
    assert message.startswith("Broken.step()")
    assert value in message
    assert "\n" not in message
    assert "step 2" in message or "expected (observation" in message


RESET_FAULTS = {
    "only an observation": (lambda observation, info: observation, "ndarray"),
    "three parts": (lambda observation, info: (observation, info, False), "a tuple of 3"),
    "a wrong shape": (observe(np.zeros((2, 2), np.float32)), "(2, 2)"),
    "NaN observed": (observe(np.array([np.nan, 0], np.float32)), "nan"),
    "an error": (raises, "KeyError: 'fuel'"),
}


@pytest.mark.parametrize("when", ["reset", "second_reset"])
@pytest.mark.parametrize("fault", RESET_FAULTS)
def test_a_broken_reset_is_named_also_where_it_follows_an_episode(fault: str, when: str) -> None:
    change, value = RESET_FAULTS[fault]
    message = message_of(Broken(**{when: change}))
    assert message.startswith("Broken.reset()")
    assert value in message
    assert "\n" not in message


@pytest.mark.parametrize("wrap", [lambda env: SyncVectorEnv([lambda: env]), lambda env: DummyVecEnv([lambda: env])])
@pytest.mark.parametrize(
    ("faults", "call", "value"),
    [
        ({"step": raises}, "step", "KeyError: 'fuel'"),
        ({"step": reward(np.nan)}, "step", "nan"),
        ({"step": observe(np.array([np.inf, 0], np.float32))}, "step", "inf"),
        ({"step": observe(np.zeros(3, np.float32))}, "step", "shape"),
        ({"step": reward("lots")}, "step", "lots"),
        ({"reset": raises}, "reset", "KeyError: 'fuel'"),
        ({"reset": observe(np.array([np.nan, 0], np.float32))}, "reset", "nan"),
    ],
)
def test_a_fault_inside_a_vector_is_one_sentence_too(wrap: Any, faults: Any, call: str, value: str) -> None:
    env = wrap(Broken(**faults))
    message = message_of(env)
    assert message.startswith(f"{type(env).__name__}.{call}()")
    assert value in message


def test_a_registered_environment_is_named_by_its_id() -> None:
    gym.register("tests/Broken-v0", entry_point=Broken)
    try:
        env = gym.make("tests/Broken-v0", disable_env_checker=True, step=raises)
        assert message_of(env).startswith("tests/Broken-v0.step() raised KeyError: 'fuel' (at step 2)")
    finally:
        del gym.registry["tests/Broken-v0"]


def test_an_interruption_is_not_blamed_on_the_environment() -> None:
    def interrupt(*ignored: Any) -> Any:
        raise KeyboardInterrupt

    stepper = Stepper(Broken(step=interrupt))
    stepper.reset()
    with pytest.raises(KeyboardInterrupt):
        steps_of(stepper, 2)


# Environments that hand out the arrays that they go on writing into


class Reusing(Counting):
    """Hands out the same array each time."""

    def __init__(self, ends: Any = FIRST_ENDS) -> None:
        super().__init__(ends)
        self._buffer = np.zeros(2, np.float32)

    def observation(self) -> Any:
        self._buffer[:] = self.episode, self.count
        return self._buffer


class ReusingVector(gym.vector.VectorEnv):
    """Two counting environments, stepped in NEXT_STEP manner in arrays that it never makes anew."""

    def __init__(self) -> None:
        self.num_envs = 2
        self._inner = vector(AutoresetMode.NEXT_STEP)
        self.single_observation_space = self._inner.single_observation_space
        self.single_action_space = self._inner.single_action_space
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._arrays = [np.zeros((2, 2), np.float32), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool)]

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._arrays[0][:] = self._inner.reset(seed=seed, options=options)[0]
        return self._arrays[0], {}

    def step(self, actions: Any) -> Any:
        for mine, new in zip(self._arrays, self._inner.step(actions)[:4], strict=True):
            mine[:] = new
        return (*self._arrays, {})


class ReusingVecEnv(VecEnvWrapper):
    """Two counting environments behind SB3's interface, in arrays that are never made anew."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        self._arrays = [np.zeros((2, 2), np.float32), np.zeros(2), np.zeros(2, bool)]

    def reset(self) -> Any:
        self._arrays[0][:] = self.venv.reset()
        return self._arrays[0]

    def step_wait(self) -> Any:
        *new, infos = self.venv.step_wait()
        for mine, theirs in zip(self._arrays, new, strict=True):
            mine[:] = theirs
        return (*self._arrays, infos)


REUSING = {
    "gym.Env": lambda: Reusing(FIRST_ENDS),
    "NEXT_STEP": lambda: vector(AutoresetMode.NEXT_STEP, copy=False),
    "SAME_STEP": lambda: vector(AutoresetMode.SAME_STEP, copy=False),
    "DISABLED": lambda: SyncVectorEnv(
        [lambda: Reusing(FIRST_ENDS), lambda: Reusing(SECOND_ENDS)], copy=False, autoreset_mode=AutoresetMode.DISABLED
    ),
    "VectorEnv": ReusingVector,
    "VecEnv": lambda: ReusingVecEnv(DummyVecEnv([first, second])),
}


@pytest.mark.parametrize("kind", REUSING)
def test_buffers_that_an_environment_reuses_do_not_change_what_was_returned(kind: str) -> None:
    stepper = Stepper(REUSING[kind]())
    stepper.reset(seed=0)
    steps = steps_of(stepper, 12)
    for index, table in enumerate((FIRST_TABLE, SECOND_TABLE)[: stepper.num_envs]):
        if kind == "VecEnv":
            table = [(*row[:4], row[4] and not row[3]) for row in table]
        seen = [transitions(step, index) for step in steps if step.valid[index]]
        assert seen[: len(table)] == table
