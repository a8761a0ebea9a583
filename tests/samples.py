"""Scattered samples for the tests."""

import numpy as np

from apmgsrn_core.data.scattered_data import ScatteredData

DIMS = (20, 17, 15)
FEATURE = np.array([0.35, -0.2, 0.45])  # what a refined mesh is refined at
WIDTH = 2.0**-6  # of the feature, half


def cloud(count, components=1, seed=0, flat=()):
    """Random positions and smooth targets in [0, 1]."""
    positions = np.random.default_rng(seed).uniform(-1, 1, (count, 3)).astype("float32")
    positions[:, list(flat)] = 0
    return positions, np.stack([0.5 + 0.5 * np.sin(3 * positions[:, c % 3] + c) for c in range(components)], axis=1)


def refined(levels=8, cells=12):
    """Cell centres of nested lattices of cells^3, each half as large as the one before; the outer ones have holes."""
    parts, low, high = [], np.full(3, -1.0), np.full(3, 1.0)
    axis = (np.arange(cells) + 0.5) / cells
    unit = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    for level in range(levels):
        points = low + unit * (high - low)
        half = (high - low) / 4
        centre = np.clip(FEATURE, low + half, high - half)
        low, high = centre - half, centre + half
        inner = ((points > low) & (points < high)).all(axis=1) & (level + 1 < levels)
        parts.append(points[~inner])
    return parts


def feature(points):
    """A smooth field in about [0, 1] with a small feature."""
    radius = (points - FEATURE) / WIDTH
    small = np.exp(-(radius**2).sum(axis=1)) * np.cos(2 * radius[:, 0])
    return 0.4 + 0.15 * np.sin(2 * points[:, 0]) + 0.1 * points[:, 1] + 0.5 * small


def lattice_samples(data):
    """The values of a FieldData as samples."""
    axes = [data.grid.value_to_normalised(axis, np.arange(n)) for axis, n in enumerate(data.dims)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    targets = data.normalised(data.values).reshape(-1, data.components)
    return ScatteredData(np.stack([x, y, z], axis=-1).reshape(-1, 3), targets, data.dims)
