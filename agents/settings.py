"""Hyper-parameters as dataclasses: one declaration gives defaults, checks, `--set` and the logged table."""

from __future__ import annotations

import dataclasses
import datetime
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean

SettingsT = TypeVar("SettingsT")


def setting(
    default: Any, help: str, *, least: float | None = None, most: float | None = None, above: float | None = None
) -> Any:
    """Declare a dataclass field with a sentence of help and its bounds (of each item, for a tuple)."""
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most, "above": above})


def make_settings(kind: type[SettingsT], given: Mapping[str, Any], owner: str) -> SettingsT:
    """Make settings from names and values, checking names, types and bounds.

    Raises:
        UsageError: Names the setting, the value, what is expected, and the nearest known name.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     gamma: float = setting(0.99, "discount", least=0, most=1)
        >>> make_settings(Settings, {"gamma": 1}, "Agent")
        Settings(gamma=1.0)
        >>> make_settings(Settings, {"gama": 1}, "Agent")
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: Agent has no setting "gama". Did you mean "gamma"?
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in fields:
            raise UsageError(f'{owner} has no setting "{name}". {did_you_mean(name, fields)}')
        converted = _convert(value, hints[name])
        if converted is None and not (value is None and type(None) in typing.get_args(hints[name])):
            raise UsageError(f"{owner}: {name} = {value!r} is not {_describe(hints[name])}.")
        _check_bounds(owner, name, converted, fields[name].metadata)
        values[name] = converted
    return kind(**values)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read "key=value" as TOML reads it; what is no TOML value is a string, "64,64" a list.

    Example:
        >>> parse_assignment("gamma=0.9"), parse_assignment("hidden=64,64"), parse_assignment("name=ppo")
        (('gamma', 0.9), ('hidden', [64, 64]), ('name', 'ppo'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f'"{text}" is no assignment; expected key=value, for instance learning_rate=0.001.')
    value = value.strip()
    attempts = (value, value.lower(), f"[{value}]") if "," in value else (value, value.lower())
    for attempt in attempts:
        try:
            parsed = tomllib.loads(f"value = {attempt}")["value"]
            return name.strip(), value if isinstance(parsed, datetime.date | datetime.time) else parsed
        except tomllib.TOMLDecodeError:
            continue
    return name.strip(), value


def checked_seed(seed: Any) -> int:
    """Return the seed, or one from the operating system's randomness for None.

    Raises:
        UsageError: It is no whole number from 0 to 2**32 - 1, which is what NumPy, torch and Gymnasium take.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if not is_count(seed, least=0) or seed >= 2**32:
        raise UsageError(f"seed = {seed!r}; expected a whole number from 0 to {2**32 - 1:,}, or None to draw one.")
    return int(seed)


def is_count(value: Any, *, least: int) -> bool:
    """Return whether the value is a whole number from ``least`` (1e5 is one, True is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(np.isfinite(value) and value == int(value) and value >= least)


def plain_settings(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as a dict of what TOML and JSON can hold."""
    values = dataclasses.asdict(settings).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def _convert(value: Any, hint: Any) -> Any:
    """Return the value as the hinted type, or None when it is not of that type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return next((found for arg in args if (found := _convert(value, arg)) is not None), None)
    if origin is tuple:
        items = list(value) if isinstance(value, list | tuple) else [value]
        converted = [_convert(item, args[0]) for item in items]
        return None if any(item is None for item in converted) else tuple(converted)
    if origin is dict:
        return value if isinstance(value, dict) else None
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if isinstance(value, float) or abs(value) < 2**1023 else None
    if hint is int and isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if value == value and abs(value) < 2**63 and int(value) == value else None
    return value if type(value) is hint else None


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if typing.get_origin(hint) is tuple:
        return f"a list, each item {_describe(typing.get_args(hint)[0])} (written 64,64)"
    if typing.get_origin(hint) is dict:
        return "a table of names and values"
    if typing.get_args(hint):
        return " or ".join(_describe(arg) for arg in typing.get_args(hint) if arg is not type(None))
    return names.get(hint, str(hint))


def _check_bounds(owner: str, name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    least, most, above = (metadata.get(bound) for bound in ("least", "most", "above"))
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        rules = {
            "a finite number": abs(item) < float("inf"),
            f"at least {least}": least is None or item >= least,
            f"at most {most}": most is None or item <= most,
            f"greater than {above}": above is None or item > above,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UsageError(f"{owner}: {name} = {item} is out of range; expected {rule}.")


def linear_schedule(start: float, end: float, step: int, steps: int) -> float:
    """Return the value at a step of a schedule that goes from start to end within so many steps, and stays there.

    Example:
        >>> [linear_schedule(1.0, 0.0, step, 4) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """
    return end if step >= steps else start + (end - start) * step / steps
