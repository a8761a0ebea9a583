"""Boxes of values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import ConfigError


def triple(name: str, value, kind) -> tuple:
    """Three numbers; ConfigError when there are more or fewer."""
    values = tuple(value)
    if len(values) != 3:
        raise ConfigError(f"{name}: expected 3 numbers, found {len(values)}")
    return tuple(kind(v) for v in values)


@dataclass(frozen=True)
class Region:
    """A half-open box of values, `start <= index < stop` on each axis, (x, y, z)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self):
        object.__setattr__(self, "start", triple("Region.start", self.start, int))
        object.__setattr__(self, "stop", triple("Region.stop", self.stop, int))

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """The shape of the array `values[z, y, x]` of this box; 0 on an empty axis."""
        return tuple(max(b - a, 0) for a, b in zip(self.start, self.stop))[::-1]

    @property
    def count(self) -> int:
        """The number of values in the box."""
        return math.prod(self.shape_zyx)
