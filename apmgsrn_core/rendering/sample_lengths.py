"""How far apart the samples along a ray are, from the local density of the feature grids.

A network changes over about the distance of two nodes of the finest grid there. Samples are half of that apart, at most LONGEST
steps and at least one; a step is half of the finest distance anywhere, but from half of the lattice's spacing to all of it.
"""

from __future__ import annotations

import numpy as np

from .ray_field import NetworkField, RayField

LONGEST = 4  # steps
MOST_CELLS = 16  # along an axis, in which the grids are looked for


def base_step(field: RayField) -> float:
    """The distance in the world of two samples where they are closest."""
    edges = np.linalg.norm(field.to_world(np.eye(3)) - field.to_world(np.zeros((1, 3))), axis=1)
    spacing = float((edges / (np.array(field.grid.dims) - 1)).min())
    if not isinstance(field, NetworkField):
        return spacing
    finest = min([nodes.min() for _, nodes, _ in _grids(field)], default=np.inf)
    return float(np.clip(finest / 2, spacing / 2, spacing))


def sample_lengths(field: RayField, counts: tuple[int, int, int]) -> np.ndarray | None:
    """int64 [z, y, x]: steps from one sample to the next, powers of 2, in so many cells along x, y, z; None: always 1."""
    if not isinstance(field, NetworkField):
        return None
    coarse = tuple(min(n, MOST_CELLS) for n in counts)
    finest = _finest(field, coarse).reshape(coarse[::-1])
    z, y, x = (np.arange(n) * m // n for n, m in zip(counts[::-1], coarse[::-1]))
    steps = np.clip(finest / 2 / base_step(field), 1, LONGEST)[np.ix_(z, y, x)]
    lengths = 2 ** np.floor(np.log2(steps)).astype(np.int64)
    return None if (lengths == 1).all() else lengths


def _finest(field: NetworkField, counts: tuple[int, int, int]) -> np.ndarray:
    """The smallest distance of two nodes of a grid that touches a cell, or one half as large around it, x fastest."""
    axes = [(np.arange(n) + 0.5) / n for n in counts]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    centres = np.stack([x.ravel(), y.ravel(), z.ravel()])
    half = 0.75 / np.array(counts)
    finest = np.full(centres.shape[1], np.inf)
    for transforms, nodes, reach in _grids(field):
        for transform, distance in zip(transforms, nodes):
            limits = reach + np.abs(transform[:, :3]) @ half
            near = (np.abs(transform[:, :3] @ centres + transform[:, 3:]) < limits[:, None]).all(axis=0)
            finest[near] = np.minimum(finest[near], distance)
    return finest


def _grids(field: NetworkField):
    """Of each group of equal grids: transforms (m, 3, 4) from box to local coordinates, the smallest distance of two nodes of
    each in the world (m,), and the local coordinates (3,) beyond which they are 0."""
    network, to_normalised = field.network, field.to_normalised
    for group in network.table.groups:
        if group.entry.placed:
            placed = network.transforms.detach().cpu().double().numpy()[group.transforms]
            matrix = placed[:, :, :3] @ to_normalised[:, :3]
            offset = placed[:, :, :3] @ to_normalised[:, 3] + placed[:, :, 3]
        else:
            matrix, offset = to_normalised[None, :, :3], to_normalised[None, :, 3]
        resolution = np.array(group.entry.resolution)
        apart = 2.0 / np.maximum(resolution - 1, 1)
        slopes = np.linalg.norm(matrix @ field.matrix, axis=2)
        nodes = np.where(resolution > 1, apart / slopes, np.inf).min(axis=1)
        reach = np.where(resolution > 1, 1.0 + apart, np.inf) if group.entry.placed else np.full(3, np.inf)
        yield np.concatenate([matrix, offset[:, :, None]], axis=2), nodes, reach
