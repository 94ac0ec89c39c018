"""Settings: what is converted, what is refused, and what the refusal says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from hamiltonian_rl.agents.settings import make_settings, parse_assignment, setting
from hamiltonian_rl.errors import UsageError


@dataclass(frozen=True)
class Settings:
    gamma: float = setting(0.99, "discount", least=0, most=1)
    learning_rate: float = setting(1e-3, "step size", above=0)
    n_step: int = setting(3, "steps of the return", least=1)
    hidden: tuple[int, ...] = setting((64, 64), "widths of the hidden layers", least=1)
    scales: tuple[float, ...] = setting((1.0,), "scales", above=0)
    double: bool = setting(True, "two networks")
    name: str = setting("plain", "a name")
    limit: int | None = setting(None, "a limit", least=1)
    options: dict[str, Any] = field(default_factory=dict)


def make(**given: Any) -> Settings:
    return make_settings(Settings, given, "Agent")


def refusal(**given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        make(**given)
    return str(caught.value)


def test_settings_that_are_not_given_keep_their_defaults() -> None:
    assert make() == Settings()
    assert make(gamma=0.5) == Settings(gamma=0.5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gamma", 0.5, 0.5),
        ("gamma", 1, 1.0),
        ("n_step", 5, 5),
        ("n_step", 1e3, 1000),
        ("hidden", (32, 16), (32, 16)),
        ("hidden", [32, 16], (32, 16)),
        ("hidden", [32.0], (32,)),
        ("hidden", 32, (32,)),
        ("hidden", [], ()),
        ("scales", [1, 0.5], (1.0, 0.5)),
        ("double", False, False),
        ("name", "", ""),
        ("limit", 7, 7),
        ("limit", 7.0, 7),
        ("limit", None, None),
        ("options", {"a": [1, "x"]}, {"a": [1, "x"]}),
    ],
)
def test_value_becomes_the_declared_type(name: str, value: Any, expected: Any) -> None:
    found = getattr(make(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(expected, tuple):
        assert [type(item) for item in found] == [type(item) for item in expected]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gamma", "0.9", "a number"),
        ("gamma", True, "a number"),
        ("gamma", [0.9], "a number"),
        ("gamma", None, "a number"),
        ("n_step", 2.5, "a whole number"),
        ("n_step", False, "a whole number"),
        ("n_step", "3", "a whole number"),
        ("n_step", math.nan, "a whole number"),
        ("n_step", math.inf, "a whole number"),
        ("n_step", None, "a whole number"),
        ("hidden", "64", "a list, each item a whole number (written 64,64)"),
        ("hidden", [64, 1.5], "a list, each item a whole number (written 64,64)"),
        ("hidden", [64, None], "a list, each item a whole number (written 64,64)"),
        ("hidden", [True], "a list, each item a whole number (written 64,64)"),
        ("hidden", [[64]], "a list, each item a whole number (written 64,64)"),
        ("hidden", None, "a list, each item a whole number (written 64,64)"),
        ("double", 1, "true or false"),
        ("double", "yes", "true or false"),
        ("double", None, "true or false"),
        ("name", 3, "a text"),
        ("limit", "x", "a whole number"),
    ],
)
def test_value_of_another_type_is_refused_by_name_value_and_expectation(name: str, value: Any, expected: str) -> None:
    assert refusal(**{name: value}).startswith(f"Agent: {name} = {value!r} is not {expected}")


def test_refusal_of_what_is_no_table_is_written_for_people() -> None:
    message = refusal(options=3)
    assert message.startswith("Agent: options = 3 is not ")
    assert "typing" not in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gamma", -0.01, "at least 0"),
        ("gamma", 1.01, "at most 1"),
        ("gamma", math.nan, "a finite number"),
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", -1.0, "greater than 0"),
        ("learning_rate", math.inf, "a finite number"),
        ("learning_rate", -math.inf, "a finite number"),
        ("n_step", 0, "at least 1"),
        ("limit", 0, "at least 1"),
    ],
)
def test_value_out_of_bounds_is_refused_by_name_value_and_bound(name: str, value: float, expected: str) -> None:
    assert refusal(**{name: value}) == f"Agent: {name} = {value} is out of range; expected {expected}."


@pytest.mark.parametrize(("name", "value"), [("gamma", 0), ("gamma", 1), ("n_step", 1), ("learning_rate", 5e-324)])
def test_bounds_belong_to_the_range_except_open_ones(name: str, value: float) -> None:
    assert getattr(make(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden", [64, 0, 64], "hidden = 0 is out of range; expected at least 1."),
        ("scales", [1.0, 0.0], "scales = 0.0 is out of range; expected greater than 0."),
        ("scales", [1.0, math.nan], "scales = nan is out of range; expected a finite number."),
    ],
)
def test_bounds_of_a_list_hold_for_each_item(name: str, value: Any, expected: str) -> None:
    assert refusal(**{name: value}) == f"Agent: {expected}"


@pytest.mark.parametrize("name", ["gamma", "n_step", "scales"])
def test_whole_number_beyond_every_float_is_refused(name: str) -> None:
    assert refusal(**{name: 10**400}).startswith(f"Agent: {name} = 1000")


def test_unknown_setting_is_refused_with_the_nearest_known_name() -> None:
    assert refusal(learning_rat=0.1) == 'Agent has no setting "learning_rat". Did you mean "learning_rate"?'


def test_unknown_setting_far_from_all_is_refused_with_all_names() -> None:
    known = "double, gamma, hidden, learning_rate, limit, n_step, name, options, scales"
    assert refusal(zzzzzz=0.1) == f'Agent has no setting "zzzzzz". Known: {known}.'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("inf", math.inf),
        ("-Inf", -math.inf),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("64,64", [64, 64]),
        ("64, 64", [64, 64]),
        ("64,", [64]),
        ("[64,64]", [64, 64]),
        ("[]", []),
        ("0.1,1e-3", [0.1, 0.001]),
        ("ppo", "ppo"),
        ("CartPole-v1", "CartPole-v1"),
        ('"3"', "3"),
        ("'a,b'", "a,b"),
        ("a,b", "a,b"),
        ("a=b", "a=b"),
        ("", ""),
        ("None", "None"),
    ],
)
@pytest.mark.parametrize("template", ["name={}", "  name =  {}  "], ids=["tight", "spaced"])
def test_assignment_reads_a_value_as_toml_or_as_text(template: str, text: str, value: Any) -> None:
    name, found = parse_assignment(template.format(text))
    assert name == "name"
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["nan", "NaN"])
def test_assignment_reads_nan_as_the_number(text: str) -> None:
    assert math.isnan(parse_assignment(f"gamma={text}")[1])


@pytest.mark.parametrize("text", ["gamma", "", "=3", "  = 3"])
def test_assignment_without_a_name_or_a_sign_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_assignment(text)
    assert str(caught.value) == (f'"{text}" is no assignment; expected key=value, for instance learning_rate=0.001.')


def test_assignments_make_settings() -> None:
    texts = ["gamma=1", "learning_rate=1e-4", "n_step=1e1", "hidden=32", "scales=1,2.5", "double=False", "name=x"]
    found = make(**dict(map(parse_assignment, texts)))
    expected = Settings(
        gamma=1.0, learning_rate=1e-4, n_step=10, hidden=(32,), scales=(1.0, 2.5), double=False, name="x"
    )
    assert found == expected
