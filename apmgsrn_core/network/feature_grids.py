"""The boxes of a network's feature grids in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..grid import Grid, unit_box_corners
from .model import Network


@dataclass(frozen=True)
class FeatureGrid:
    """A feature grid's box: its number over all bricks, corners (8, 3) in world coordinates in the order of
    VTK_HEXAHEDRON, volume in the data set's length unit cubed, L2 norm of its features, and the brick that has it."""

    id: int
    corners: np.ndarray
    volume: float
    norm: float
    brick: int = 0


def feature_grids_of(network: Network, grid: Grid, first: int, brick: int) -> list[FeatureGrid]:
    """The grids of one brick; a global lattice's box is that of the brick.

    Args:
        network: Of the brick.
        grid: The lattice of the values that it was trained on.
        first: The number of its first feature grid.
        brick: Its number.

    Raises:
        DataError: A placed grid has no box, its transform being singular.
    """
    boxes = []
    transforms = iter(network.transforms.detach().cpu().double().numpy())
    for group in network.table.groups:
        features = group.features(network.features.detach())
        for norm in features.flatten(1).norm(dim=1).tolist():
            transform = next(transforms) if group.entry.placed else np.eye(3, 4)
            if not abs(np.linalg.det(transform[:, :3])) > 0:
                raise DataError(f"brick {brick}: grid {len(boxes)}: expected a regular transform, found {transform.tolist()}")
            corners = _corners(transform, grid)
            volume = abs(float(np.linalg.det(corners[[1, 3, 4]] - corners[0])))
            boxes.append(FeatureGrid(first + len(boxes), corners, volume, norm, brick))
    return boxes


def _corners(transform: np.ndarray, grid: Grid) -> np.ndarray:
    """(8, 3) world positions of the box that a transform (3, 4) maps to [-1, 1]^3."""
    normalised = np.linalg.solve(transform[:, :3], (unit_box_corners() - transform[:, 3]).T).T
    return grid.index_to_world(grid.normalised_to_index(normalised))
