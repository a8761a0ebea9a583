"""Checks of settings: a ConfigError names the field, what was expected and what was found."""

from __future__ import annotations

import math
from dataclasses import fields

from .errors import ConfigError


def check(condition: bool, field: str, expected: str, found) -> None:
    """Raise a ConfigError that names the field unless the condition holds."""
    if not condition:
        raise ConfigError(f"{field}: expected {expected}, found {found!r}")


def check_number(config, field: str, low: float, high: float = math.inf, kind=float) -> None:
    """Store a field as `kind` after checking `low <= value <= high`; bool is not a number here."""
    value = getattr(config, field)
    expected = f"a number >= {low}" if high == math.inf else f"a number from {low} to {high}"
    try:
        number = kind(value)
        good = not isinstance(value, (bool, str)) and number == value and low <= number <= high
    except (TypeError, ValueError, OverflowError):
        good = False
    check(good, field, expected, value)
    object.__setattr__(config, field, number)


def check_resolution(field: str, value) -> tuple[int, int, int]:
    """Three whole numbers as a tuple of int."""
    try:
        resolution = tuple(int(r) for r in value)
        good = len(resolution) == 3 and all(r == v and 1 <= r <= 4096 for r, v in zip(resolution, value))
    except (TypeError, ValueError):
        good = False
    check(good, field, "three whole numbers (x, y, z) from 1 to 4096", value)
    return resolution


def from_dict(cls, data: dict):
    """A dataclass from plain values; an unknown field is a ConfigError that names it."""
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(f"{cls.__name__}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return cls(**data)
