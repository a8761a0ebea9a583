"""Values of a model's array and their exact derivatives in the world, at scattered points.

The chain rule, from a network's output o to the array's value v = T(o) and from positions in index coordinates i to the
world x, whose map is piecewise linear: dv/dx = T' do/di di/dx and d2v/dx2 = (T' d2o/di2 + T'' do/di (do/di)^T) (di/dx)^2.
"""

from __future__ import annotations

import numpy as np

from ..bricks.derivatives import PIECE, curvatures_at_points, slopes_at_points
from ..bricks.sampling import BrickSampler
from ..data.array_values import in_unit, slope_in_unit
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..network.network_curvatures import check_curved
from .region_sampling import value_positions


def first_derivatives(
    sampler: BrickSampler, grid: Grid, points_xyz: np.ndarray, info: ArrayInfo, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Values and their gradients at world positions, in bounded memory beside the result.

    Args:
        sampler: Of the model's bricks.
        grid: Where the values of the array are.
        points_xyz: (n, 3) float64, in the data set's length unit.
        info: The array.
        columns: Its outputs among those of the networks.

    Returns:
        values (n, components) float32 in the array's unit, and d value / d (x, y, z), (n, components, 3) float64 in the
        array's unit per length unit; NaN outside the domain. 0 along a flat axis, and along an axis in the outer half of
        a border cell, where the value is that of the cell.
    """
    values = np.full((len(points_xyz), info.components), np.nan, dtype=np.float32)
    jacobian = np.full((*values.shape, 3), np.nan)
    for rows, positions, changes in _pieces(grid, points_xyz):
        outputs, slopes = slopes_at_points(sampler, positions, columns)
        values[rows] = in_unit(outputs, info, values.dtype)
        jacobian[rows] = slope_in_unit(outputs, info)[:, :, None] * (slopes @ changes)
    return values, jacobian


def second_derivatives(
    sampler: BrickSampler, grid: Grid, points_xyz: np.ndarray, info: ArrayInfo, columns: slice
) -> np.ndarray:
    """d^2 value / d (x, y, z)^2 at world positions; the arguments are those of `first_derivatives`.

    Returns:
        (n, components, 3, 3) float64, symmetric, in the array's unit per squared length unit; NaN outside the domain.

    Raises:
        FieldError: The model interpolates linearly: its slopes jump, and have no derivative.
    """
    check_curved(sampler.network(0))  # also when no point is inside
    result = np.full((len(points_xyz), info.components, 3, 3), np.nan)
    for rows, positions, changes in _pieces(grid, points_xyz):
        outputs, slopes, curvatures = curvatures_at_points(sampler, positions, columns)
        slopes = slopes @ changes
        bends = np.swapaxes(changes, 1, 2)[:, None] @ curvatures @ changes[:, None]
        bends *= slope_in_unit(outputs, info)[:, :, None, None]
        bends += curvature_in_unit(outputs, info)[:, :, None, None] * slopes[..., :, None] * slopes[..., None, :]
        result[rows] = bends
    return result


def curvature_in_unit(outputs: np.ndarray, info: ArrayInfo) -> np.ndarray:
    """d^2 value / d output^2, float64, of the shape of the outputs.

    Of the inverse transforms exp(t) and scale sinh(t) the second derivative is the function itself, the value.
    """
    if info.transform.kind == "identity":
        return np.zeros(outputs.shape)
    low, high = info.transform.forward(np.array(info.range))
    return (high - low) ** 2 * info.transform.inverse(outputs.astype(np.float64) * (high - low) + low)


def _pieces(grid: Grid, points_xyz: np.ndarray):
    """(rows, positions (m, 3) in value coordinates, d index / d world (m, 3, 3)) of the points inside, part by part."""
    inside = np.flatnonzero(grid.contains(points_xyz))
    for first in range(0, len(inside), PIECE):
        rows = inside[first : first + PIECE]
        index = grid.world_to_index(points_xyz[rows])
        yield rows, np.stack(value_positions(grid, index.T), axis=1), grid.world_slopes(index)
