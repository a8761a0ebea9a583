"""The exact derivatives of what the bricks of a layout put out, at scattered points.

The outputs are a sum over bricks of weight times network, f = sum_b w_b f_b, so that by the product rule

    f'  = sum_b w_b f_b' + w_b' f_b
    f'' = sum_b w_b f_b'' + w_b' f_b'^T + f_b' w_b'^T + w_b'' f_b

in the positions of `brick_layout.py`. A network's slopes jump where it has a kink: at the nodes of linearly interpolated grids and
where a ReLU begins. There they are those of one side, as they are on the border of the domain; beyond it the outputs are
constant and slopes 0. (Of cells this is the outer half of a border cell.)

These are the derivatives of the model. Where a band reaches beyond the values that a brick was trained on, which by default
it does (no ghosts, an overlap of 1), the brick's part in it is constant: between the values next to a face the slope across
the face is then a poor one of the data (19 % off where it is 2 % off with one ghost, and on the values themselves 4 %).
"""

from __future__ import annotations

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..network.network_curvatures import check_curved, network_curvatures
from .coordinates import contributions
from .networks import HeldNetwork
from .sampling import BrickSampler, summed

PIECE = 1 << 19  # points whose bricks are found together
CURVATURE_POINTS = 1 << 9  # points whose second derivatives are found at a time
INNER = 1.0 - 2.0**-22  # largest coordinate: on the border itself a kernel takes the constant side of a lattice


def slopes_at_points(
    sampler: BrickSampler, positions: np.ndarray, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Some of the outputs and their first derivatives.

    Args:
        sampler: Of the bricks.
        positions: (n, 3) value coordinates.
        columns: Which outputs, with numbers for start and stop.

    Returns:
        outputs (n, c) as `BrickSampler.at_points` has them, and d output / d position (n, c, 3); float32.
    """

    def read(held: HeldNetwork, points: torch.Tensor) -> torch.Tensor:
        outputs, slopes = held.kernel.derivatives(held.network, points.clamp(-INNER, INNER))
        return torch.cat([outputs[:, columns, None], slopes[:, columns]], dim=2)

    count = columns.stop - columns.start
    outputs = np.empty((len(positions), count), dtype=np.float32)
    slopes = np.empty((len(positions), count, 3), dtype=np.float32)
    for first in range(0, len(positions), PIECE):
        part = slice(first, first + PIECE)
        near = _Contributions(sampler, positions[part])
        values, changes = _split(sampler.in_bricks(near.positions, near.bricks, read), near)
        outputs[part] = near.summed(near.weights * values[:, c] for c in range(count))
        numbers = (near.slope(values[:, c], changes[:, c], a) for c in range(count) for a in range(3))
        slopes[part] = near.summed(numbers).reshape(-1, count, 3)
    return outputs, slopes


def curvatures_at_points(
    sampler: BrickSampler, positions: np.ndarray, columns: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some of the outputs, their first and their second derivatives.

    They are exact where the features have second derivatives and the decoder, piecewise linear, has no kink. Those of
    quadratic B-splines jump at the middle between two nodes, and those of the weights at the ends of a band.

    Args:
        sampler: Of the bricks.
        positions: (n, 3) value coordinates.
        columns: Which outputs, with numbers for start and stop.

    Returns:
        outputs (n, c), d output / d position (n, c, 3), d^2 output / d position^2 (n, c, 3, 3); float32.

    Raises:
        FieldError: The networks interpolate linearly.
    """
    check_curved(sampler.network(0))

    def read(held: HeldNetwork, points: torch.Tensor) -> torch.Tensor:
        return network_curvatures(held.network, points.clamp(-INNER, INNER), columns)

    count = columns.stop - columns.start
    outputs = np.empty((len(positions), count), dtype=np.float32)
    slopes = np.empty((len(positions), count, 3), dtype=np.float32)
    curvatures = np.empty((len(positions), count, 3, 3), dtype=np.float32)
    pairs = [(a, b) for a in range(3) for b in range(3)]
    for first in range(0, len(positions), PIECE):
        part = slice(first, first + PIECE)
        near = _Contributions(sampler, positions[part])
        found = sampler.in_bricks(near.positions, near.bricks, read, CURVATURE_POINTS)
        values, changes = _split(found[:, :, :4], near)
        bends = found[:, :, 4:].reshape(-1, count, 3, 3)
        outputs[part] = near.summed(near.weights * values[:, c] for c in range(count))
        numbers = (near.slope(values[:, c], changes[:, c], a) for c in range(count) for a in range(3))
        slopes[part] = near.summed(numbers).reshape(-1, count, 3)
        numbers = (near.curvature(values[:, c], changes[:, c], bends[:, c], *p) for c in range(count) for p in pairs)
        curvatures[part] = near.summed(numbers).reshape(-1, count, 3, 3)
    return outputs, slopes, curvatures


def _split(found: np.ndarray, near: "_Contributions") -> tuple[np.ndarray, np.ndarray]:
    """(m, c, 4) of a kernel -> outputs (m, c) and d output / d position (m, c, 3) float64."""
    return found[:, :, 0], found[:, :, 1:] * near.scales[:, None, :]


class _Contributions:
    """What positions need, and the product rule: entry by entry, (m,), a brick and its weight for one of the positions.

    Attributes:
        positions: (m, 3).
        bricks: (m,), in rising order; None when there is one.
        weights: (m,) float64.
        scales: (m, 3) d normalised coordinate / d position.
    """

    def __init__(self, sampler: BrickSampler, positions: np.ndarray):
        self._layout, self._count = sampler.layout, len(positions)
        if self._layout.count == 1:
            self._rows, self.bricks, self.weights = np.arange(len(positions)), None, np.ones(len(positions))
            self.positions = positions
        else:
            self._rows, self.bricks, self.weights = contributions(self._layout, positions)
            self.positions = positions[self._rows]
        self.scales = sampler.coordinates.slopes(self.positions, 0 if self.bricks is None else self.bricks)
        self._shared = np.flatnonzero(self.weights < 1.0)  # elsewhere the weights are constant
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def summed(self, numbers) -> np.ndarray:
        """Columns of numbers, each (m,) -> (positions, columns) float32."""
        return summed(numbers, self._rows, self._count)

    def slope(self, values: np.ndarray, changes: np.ndarray, axis: int) -> np.ndarray:
        """Outputs (m,) and their slopes (m, 3) of the bricks -> what they add to the slope along an axis, (m,) float64."""
        total = self.weights * changes[:, axis]
        total[self._shared] += values[self._shared] * self._weight(axis)
        return total

    def curvature(self, values, changes, bends, a: int, b: int) -> np.ndarray:
        """The same for the second derivative along axes a and b; bends: (m, 3, 3), in normalised coordinates."""
        total = self.weights * bends[:, a, b] * self.scales[:, a] * self.scales[:, b]
        at = self._shared
        total[at] += self._weight(a) * changes[at, b] + self._weight(b) * changes[at, a] + self._weight(a, b) * values[at]
        return total

    def _weight(self, *along: int) -> np.ndarray:
        """The derivative of the weights along one axis or two, where they are not constant."""
        if along not in self._known:
            product = np.ones(len(self._shared))
            if len(product):
                places = self._layout.place(self.bricks[self._shared])
                for axis, (part, where) in enumerate(zip(places, self.positions[self._shared].T)):
                    product *= weight_derivative(self._layout, axis, part, where, along.count(axis))
            self._known[along] = product
        return self._known[along]


def weight_derivative(layout: BrickLayout, axis: int, part, positions: np.ndarray, order: int) -> np.ndarray:
    """The derivative of `BrickLayout.weight` of an order (0, 1 or 2) in the position, (n,) float64."""
    if order == 0:
        return layout.weight(axis, part, positions)
    part = np.asarray(part)
    return _rise_derivative(layout, axis, part, positions, order) - _rise_derivative(layout, axis, part + 1, positions, order)


def _rise_derivative(layout: BrickLayout, axis: int, face, positions: np.ndarray, order: int) -> np.ndarray:
    """Of the weights' 3 t^2 - 2 t^3 across an inner face, t from 0 to 1 in its band; 0 outside and at the domain's ends."""
    half = layout.half_widths[axis]
    if not half:
        return np.zeros(len(positions))
    t = (positions - layout.faces[axis][face]) / (2 * half) + 0.5
    rise = 6 * t * (1 - t) / (2 * half) if order == 1 else (6 - 12 * t) / (2 * half) ** 2
    inside = (t > 0) & (t < 1) & (face > 0) & (face < layout.counts[axis])
    return np.where(inside, rise, 0.0)
