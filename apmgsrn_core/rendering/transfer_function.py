"""From values to colours and opacities, as ParaView's transfer functions do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..errors import ConfigError
from ..grid import Grid

CURVE = 64  # straight parts of a curve between two points
STEEP, STRAIGHT = 0.99, 0.01  # sharpness of a step, of a straight line


class TransferFunction:
    """Colour and opacity of a value, linear between points, constant beyond the first and the last.

    Args:
        points: (n,) values, rising; two equal ones make a step.
        colours: (n, 3) red, green, blue from 0 to 1.
        opacities: (n,) from 0 to 1, of a length `unit_distance`.
        unit_distance: In the length unit of the world; ParaView calls it ScalarOpacityUnitDistance.

    Raises:
        ConfigError: Shapes, order or ranges are other than that.
    """

    def __init__(self, points: np.ndarray, colours: np.ndarray, opacities: np.ndarray, unit_distance: float = 1.0):
        self.points = np.asarray(points, dtype=np.float64)
        self.colours = np.asarray(colours, dtype=np.float64)
        self.opacities = np.asarray(opacities, dtype=np.float64)
        self.unit_distance = float(unit_distance)
        n = self.points.size
        if self.points.shape != (n,) or not n or not np.isfinite(self.points).all() or (np.diff(self.points) < 0).any():
            raise ConfigError(f"transfer function: expected rising finite points, found {self.points.tolist()}")
        for name, numbers, shape in (("colours", self.colours, (n, 3)), ("opacities", self.opacities, (n,))):
            if numbers.shape != shape:
                raise ConfigError(f"transfer function: {name}: expected shape {shape}, found {numbers.shape}")
            if not ((numbers >= 0) & (numbers <= 1)).all():
                raise ConfigError(f"transfer function: {name}: expected numbers from 0 to 1, found {numbers.tolist()}")
        if not (math.isfinite(self.unit_distance) and self.unit_distance > 0):
            raise ConfigError(f"transfer function: unit_distance: expected a positive number, found {unit_distance}")

    @classmethod
    def from_points(
        cls, rgb_points: Sequence[float], opacity_points: Sequence[float], unit_distance: float = 1.0
    ) -> "TransferFunction":
        """A function from the lists of ParaView's two.

        Args:
            rgb_points: x, red, green, blue of each point, as `RGBPoints`; linear in RGB between them.
            opacity_points: x, opacity, midpoint, sharpness of each point, as `Points` of a PiecewiseFunction.
            unit_distance: See the class.

        Raises:
            ConfigError: The lists are empty, or not of four numbers a point.

        Source: midpoint and sharpness as in VTK, vtkPiecewiseFunction::GetTable.
        """
        colours, curve = _fours("RGB points", rgb_points), _fours("opacity points", opacity_points)
        values, opacities = _opacity_curve(curve)
        places = np.unique(colours[:, 0])
        points, opacities = _inserted(values, opacities, places)
        return cls(points, _at(points, colours[:, 0], colours[:, 1:]), opacities, unit_distance)

    def colours_at(self, values: np.ndarray) -> np.ndarray:
        """(...) values -> (..., 3) red, green, blue float64; NaN gives 0."""
        return np.nan_to_num(_at(np.asarray(values, dtype=np.float64), self.points, self.colours))

    def opacities_at(self, values: np.ndarray) -> np.ndarray:
        """(...) values -> (...) opacities of the unit distance, float64; NaN gives 0."""
        return np.nan_to_num(_at(np.asarray(values, dtype=np.float64), self.points, self.opacities[:, None])[..., 0])

    def corrected(self, opacities, length):
        """Opacities of the unit distance -> those of other lengths: 1 - (1 - a)^(length / unit distance); arrays or tensors."""
        return 1.0 - (1.0 - opacities) ** (length / self.unit_distance)

    def opacity_range(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m,) the smallest and the largest opacity among the values from `low` to `high`, (m,) each."""
        low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        ends = self.opacities_at(low), self.opacities_at(high)
        first, stop = np.searchsorted(self.points, low, "left"), np.searchsorted(self.points, high, "right")
        between = stop > first
        level = np.log2(np.maximum(stop - first, 1)).astype(np.int64)
        start, last = np.minimum(first, len(self.points) - 1), np.maximum(stop - (1 << level), 0)
        found = []
        for pool, levels in zip((np.minimum, np.maximum), self._pooled):
            inner = pool(levels[level, start], levels[level, last])
            found.append(np.where(between, pool(pool(*ends), inner), pool(*ends)))
        return found[0], found[1]

    @cached_property
    def _pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """[level, i]: the smallest and the largest opacity of the 2^level points from i on, where there are as many."""
        lists = []
        for pool in (np.minimum, np.maximum):
            rows = [self.opacities]
            while 2 ** len(rows) <= len(self.points):
                step = 2 ** (len(rows) - 1)
                rows.append(np.concatenate([pool(rows[-1][:-step], rows[-1][step:]), rows[-1][-step:]]))
            lists.append(np.stack(rows))
        return lists[0], lists[1]


def usual_unit_distance(grid: Grid) -> float:
    """What ParaView takes for ScalarOpacityUnitDistance by itself: the diagonal over the cubic root of the number of cells."""
    sides = [b - a for a, b in zip(grid.bounds[::2], grid.bounds[1::2])]
    return math.hypot(*sides) / math.prod(max(n - 1, 1) for n in grid.dims) ** (1 / 3) or 1.0


def _at(values: np.ndarray, points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Numbers (n, c) at points (n,), interpolated at values."""
    return np.stack([np.interp(values, points, column) for column in numbers.T], axis=-1)


def _fours(name: str, numbers: Sequence[float]) -> np.ndarray:
    """(n, 4) of a flat list, by rising first numbers."""
    found = np.asarray(tuple(numbers), dtype=np.float64)
    if not found.size or found.size % 4 or not np.isfinite(found).all():
        raise ConfigError(f"{name}: expected four finite numbers a point, found {found.size}: {found.tolist()}")
    found = found.reshape(-1, 4)
    return found[np.argsort(found[:, 0], kind="stable")]


def _opacity_curve(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points x, opacity, midpoint, sharpness -> values and opacities with straight lines between them."""
    values, opacities = [curve[:1, 0]], [curve[:1, 1]]
    for (x, y, middle, sharpness), (end, last, _, _) in zip(curve[:-1], curve[1:]):
        middle = min(max(middle, 1e-5), 1 - 1e-5)
        if sharpness > STEEP:
            share, height = np.array([middle, middle]), np.array([0.0, 1.0])
        elif sharpness < STRAIGHT:
            share, height = np.array([middle]), np.array([0.5])
        else:
            straight = np.linspace(0, 1, CURVE + 1)[1:-1]
            share = np.where(straight < 0.5, 2 * straight * middle, middle + (2 * straight - 1) * (1 - middle))
            height = _bend(straight, sharpness)
        values.append(x + (end - x) * np.append(share, 1.0))
        opacities.append(y + (last - y) * np.append(height, 1.0))
    return np.concatenate(values), np.concatenate(opacities)


def _bend(straight: np.ndarray, sharpness: float) -> np.ndarray:
    """VTK's modified Hermite curve from 0 to 1; at 0.5 it is at the midpoint."""
    power = 1 + 10 * sharpness
    s = np.where(straight < 0.5, 0.5 * (2 * straight) ** power, 1 - 0.5 * (2 * (1 - straight)) ** power)
    tangents = (1 - sharpness) * (2 * s**3 - 3 * s**2 + s)
    return np.clip(3 * s**2 - 2 * s**3 + tangents, 0, 1)


def _inserted(values: np.ndarray, opacities: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with more points on it."""
    new = np.setdiff1d(places, values)
    at = np.searchsorted(values, new)
    return np.insert(values, at, new), np.insert(opacities, at, np.interp(new, values, opacities))
