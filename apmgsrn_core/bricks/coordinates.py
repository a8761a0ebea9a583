"""Which bricks positions need, with which weights, and where they are in the coordinates of a brick's network.

Positions are those of `brick_layout.py`: value coordinates, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..brick_layout import BrickLayout

TILE_XYZ = (16, 4, 4)  # points that the kernels of a CPU compute at a time on a lattice
ROUNDING = 1e-6  # of a position, within which one is on a border


class BrickCoordinates:
    """Positions -> normalised coordinates of the networks of a layout's bricks.

    A brick's [-1, 1] reaches over its trained values; an axis with one value has 0. What is beyond is held at the
    border, so that the outer half of a border cell has its centre's value.
    """

    def __init__(self, layout: BrickLayout):
        self.layout = layout
        self._scales = [
            [np.array(numbers) for numbers in zip(*(self._scale(axis, part) for part in range(count)))]
            for axis, count in enumerate(layout.counts)
        ]

    def _scale(self, axis: int, part: int) -> tuple[float, float, float]:
        """(first trained position, scale, offset) of a part of an axis."""
        trained = self.layout.trained(self.layout.number(*(part if a == axis else 0 for a in range(3))))
        start, stop = trained.start[axis], trained.stop[axis]
        return (float(start), 2.0 / (stop - 1 - start), -1.0) if stop - start > 1 else (0.0, 0.0, 0.0)

    def along(self, axis: int, part, positions: np.ndarray) -> np.ndarray:
        """(n,) positions along an axis, in one part of it or each in its own (n,) -> (n,) float32."""
        start, scale, offset = (numbers[part] for numbers in self._scales[axis])
        return ((positions - start) * scale + offset).clip(-1.0, 1.0).astype(np.float32)

    def of_points(self, positions: np.ndarray, bricks) -> torch.Tensor:
        """(n, 3) positions, all in one brick or each in its own (n,) -> (n, 3) float32."""
        points = np.empty((len(positions), 3), dtype=np.float32)
        for axis, part in enumerate(self.layout.place(bricks)):
            points[:, axis] = self.along(axis, part, positions[:, axis])
        return torch.from_numpy(points)

    def slopes(self, positions: np.ndarray, bricks) -> np.ndarray:
        """d of_points / d position along each axis, (n, 3) float64; 0 where a position is held at the border.

        On the border itself it is that of the inner side.
        """
        slopes = np.empty(positions.shape)
        for axis, part in enumerate(self.layout.place(bricks)):
            start, scale, offset = (numbers[part] for numbers in self._scales[axis])
            point = (positions[:, axis] - start) * scale + offset
            slopes[:, axis] = np.where(np.abs(point) > 1.0 + ROUNDING * scale, 0.0, scale)
        return slopes


@dataclass(frozen=True)
class AxisPart:
    """The positions along an axis at which one part of the axis has weight.

    Attributes:
        part: Its number.
        run: Which of the positions they are.
        points: (m,) float32 normalised coordinates.
        weights: (m,) float32; None: all are 1.
    """

    part: int
    run: slice
    points: torch.Tensor
    weights: torch.Tensor | None

    def __getitem__(self, part: slice) -> "AxisPart":
        """Some of the positions."""
        run = slice(self.run.start + part.start, self.run.start + part.stop)
        weights = None if self.weights is None or (self.weights[part] == 1).all() else self.weights[part]
        return replace(self, run=run, points=self.points[part], weights=weights)

    def __len__(self) -> int:
        return len(self.points)

    def split(self, step: int) -> list["AxisPart"]:
        """The same in one or two: the last position comes apart where it is one more than a multiple of `step`."""
        n = len(self)
        alone = n > 4 * TILE_XYZ[2] and n % step == 1
        return [self[slice(0, n - 1)], self[slice(n - 1, n)]] if alone else [self]


def axis_parts(coordinates: BrickCoordinates, axis: int, positions: np.ndarray) -> list[AxisPart]:
    """The parts of an axis that positions (n,) in rising or falling order need, in the order of their numbers."""
    layout = coordinates.layout
    half = layout.half_widths[axis]
    first, last = layout.along(axis, np.array([positions.min() - half, positions.max() + half])).tolist()
    parts = []
    for part in range(first, last + 1):
        weights = layout.weight(axis, part, positions).astype(np.float32)
        some = np.flatnonzero(weights > 0)
        if len(some):
            run = slice(int(some[0]), int(some[-1]) + 1)
            points = torch.from_numpy(coordinates.along(axis, part, positions[run]))
            all_one = (weights[run] == 1).all()
            parts.append(AxisPart(part, run, points, None if all_one else torch.from_numpy(weights[run])))
    return parts


def contributions(layout: BrickLayout, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`BrickLayout.contributions`, several times faster: only positions in a band are weighed.

    Returns:
        rows (m,), bricks (m,) and weights (m,); sorted by brick, the rows of a brick in an order that is left open.
    """
    parts = [layout.along(axis, positions[:, axis]) for axis in range(3)]
    alone = np.ones(len(positions), dtype=bool)
    for axis, part in enumerate(parts):
        if layout.half_widths[axis]:
            low, high = _alone(layout, axis)
            alone &= (positions[:, axis] >= low[part]) & (positions[:, axis] <= high[part])
    single, shared = np.flatnonzero(alone), np.flatnonzero(~alone)
    rows, bricks, weights = layout.contributions(positions[shared])
    rows = np.concatenate([single, shared[rows]])
    bricks = np.concatenate([layout.number(*(part[single] for part in parts)), bricks])
    weights = np.concatenate([np.ones(len(single)), weights])
    short = np.uint16 if layout.count <= 1 << 16 else np.int64  # numpy sorts the former by its digits
    order = np.argsort(bricks.astype(short), kind="stable")
    return rows[order], bricks[order], weights[order]


def _alone(layout: BrickLayout, axis: int) -> Sequence[np.ndarray]:
    """(from, to) of each part of an axis: between these positions it has all the weight."""
    faces, half = layout.faces[axis], layout.half_widths[axis]
    low, high = faces[:-1] + half, faces[1:] - half
    low[0], high[-1] = -np.inf, np.inf
    return low, high
