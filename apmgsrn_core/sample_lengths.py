"""How far apart the samples along a ray are, from the local density of the feature grids.

A network changes over about the distance of two nodes of the finest grid there. Samples are half of it apart, at most LONGEST and at
least one step; the step is the finest of them, between half of the lattice's spacing and all of it.
"""

from __future__ import annotations

import numpy as np

from .ray_field import NetworkField, RayField

LONGEST = 4  # steps
BLOCK = 1 << 12  # cells looked at together


def base_step(field: RayField) -> float:
    """The distance in the world of two samples where they are closest."""
    return _lattice_spacing(field)


def _lattice_spacing(field: RayField) -> float:
    """The smallest mean distance of neighbouring points along an axis."""
    edges = np.linalg.norm(field.to_world(np.eye(3)) - field.to_world(np.zeros((1, 3))), axis=1)
    return float((edges / (np.array(field.grid.dims) - 1)).min())


def sample_lengths(field: RayField, counts: tuple[int, int, int]) -> np.ndarray | None:
    """int [z, y, x]: steps from one sample to the next in each of so many cells along x, y, z; None: 1 everywhere."""
    return None
