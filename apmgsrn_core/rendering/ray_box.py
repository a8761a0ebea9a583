"""Where rays are inside of a box and before planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def box_interval(origins: np.ndarray, directions: np.ndarray, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Distances at which rays (n, 3) enter and leave a box; the first is not below the second where they miss it."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (low - origins) / directions, (high - origins) / directions
    along = directions == 0
    inside = (origins >= low) & (origins <= high)
    near = np.where(along, np.where(inside, -np.inf, np.inf), np.minimum(one, other))
    far = np.where(along, np.where(inside, np.inf, -np.inf), np.maximum(one, other))
    return near.max(axis=1), far.min(axis=1)


def behind_planes(
    origins: np.ndarray, directions: np.ndarray, planes: Sequence[Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances between which rays are on the side of all normals; planes as `RenderOptions.clip_planes`."""
    near, far = np.full(len(origins), -np.inf), np.full(len(origins), np.inf)
    for plane in planes:
        point, normal = np.array(plane[:3]), np.array(plane[3:])
        height, slope = (origins - point) @ normal, directions @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            where = -height / slope
        near = np.where(slope > 0, np.maximum(near, where), near)
        far = np.where(slope < 0, np.minimum(far, where), far)
        hidden = (slope == 0) & (height < 0)
        near, far = np.where(hidden, np.inf, near), np.where(hidden, -np.inf, far)
    return near, far
