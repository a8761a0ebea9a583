"""A lattice of roots, each halved again and again where a field has detail: the tree that `refine` grows.

Nodes are halved along every axis on which the volume has an extent: an octree of 8 children, a quadtree of 4 for a flat
volume, 2 along a line. The arrays list the nodes root by root, x fastest, and within a root level by level; children
stand together, x fastest, in the order of their parents. That is the order in which `vtkHyperTreeGrid` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..data.array_values import rounded_to

NO_CHILD = -1


@dataclass(frozen=True, eq=False)
class RefinementTree:
    """Cells of different sizes that tile a box, and the values of fields in them.

    Args:
        borders: World coordinates between the roots along x, y, z, rising; one number on a flat axis.
        level: (n,) of each node; 0 for a root.
        position: (n, 3) of each node among those of its level, along x, y, z.
        first_child: (n,) index of a node's first child; NO_CHILD for a leaf.
        masked: (n,) bool: there is no data in the node, which is a leaf then.
        values: By field, (n,) or (n, components) float32 means over the nodes, or in other types; NaN where masked.
    """

    borders: tuple[np.ndarray, np.ndarray, np.ndarray]
    level: np.ndarray
    position: np.ndarray
    first_child: np.ndarray
    masked: np.ndarray
    values: dict[str, np.ndarray] = field(repr=False)

    @property
    def root_counts(self) -> tuple[int, int, int]:
        """Roots along x, y, z; 1 on a flat axis."""
        return tuple(max(len(border) - 1, 1) for border in self.borders)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes on which the box has an extent."""
        return extended_axes(self.borders)

    @cached_property
    def roots(self) -> np.ndarray:
        """Indices of the roots, x fastest."""
        return np.flatnonzero(self.level == 0)

    @cached_property
    def leaves(self) -> np.ndarray:
        """Indices of the nodes without children."""
        return np.flatnonzero(self.first_child == NO_CHILD)

    def boxes(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) world corners (n, 3) of some nodes."""
        level, position = self.level[nodes], self.position[nodes]
        return world_positions(self.borders, level, position, 0.0), world_positions(self.borders, level, position, 1.0)

    def centres(self, nodes: np.ndarray) -> np.ndarray:
        """World centres (n, 3) of some nodes."""
        return world_positions(self.borders, self.level[nodes], self.position[nodes], 0.5)

    def volumes(self, nodes: np.ndarray) -> np.ndarray:
        """(n,) volume of some nodes; area or length where the box is flat."""
        low, high = self.boxes(nodes)
        return (high - low)[:, self.axes].prod(axis=1)

    def find(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n,) leaves that hold world positions (n, 3) inside of the box; of two neighbours the upper one."""
        points_xyz = np.asarray(points_xyz, dtype=np.float64)
        roots, share = np.zeros((len(points_xyz), 3), dtype=np.int64), np.zeros((len(points_xyz), 3))
        for axis in self.axes:
            border, along = self.borders[axis], points_xyz[:, axis]
            roots[:, axis] = np.clip(np.searchsorted(border, along, side="right") - 1, 0, len(border) - 2)
            low, high = border[roots[:, axis]], border[roots[:, axis] + 1]
            share[:, axis] = np.clip((along - low) / (high - low), 0.0, 1.0)
        nodes = self.roots[np.ravel_multi_index(roots.T[::-1], self.root_counts[::-1])]
        while (inner := np.flatnonzero(self.first_child[nodes] != NO_CHILD)).size:
            share[inner] *= 2
            upper = np.minimum(share[inner].astype(np.int64), 1)
            share[inner] -= upper
            nodes[inner] = self.first_child[nodes[inner]] + upper[:, self.axes] @ (1 << np.arange(len(self.axes)))
        return nodes

    def sample_points(self, points_xyz: np.ndarray, field: str) -> np.ndarray:
        """Values (n,) or (n, components) of the leaves that hold world positions (n, 3) inside of the box."""
        return self.values[field][self.find(points_xyz)]

    def with_leaf_values(self, name: str, values: np.ndarray) -> "RefinementTree":
        """The tree with one more field: (leaves,) or (leaves, components) -> means over the nodes; NaN where masked."""
        found = np.full((len(self.level), *values.shape[1:]), np.nan)
        found[self.leaves] = values
        found[self.masked] = np.nan
        average_upwards(found, self.level, self.first_child, 1 << len(self.axes))
        return replace(self, values={**self.values, name: found.astype(np.float32)})

    def finished(self, kinds: Mapping[str, str], fill: float = np.nan) -> "RefinementTree":
        """The tree with fields as they are shown.

        Args:
            kinds: By field, its numpy type; integers are rounded and clamped. Fields that are not named stay as they are.
            fill: What stands where a field has no value; NaN is 0 in integers.
        """
        values = dict(self.values)
        for name, kind in kinds.items():
            filled = np.where(np.isnan(values[name]), fill, values[name])
            whole = np.dtype(kind).kind in "iu"
            values[name] = rounded_to(filled, np.dtype(kind)) if whole else filled.astype(kind)
        return replace(self, values=values)

    def pruned(self) -> "RefinementTree":
        """The tree without what is below masked nodes; VTK's filters end the program when a masked node has children."""
        inner = np.flatnonzero(self.first_child != NO_CHILD)
        family = self.first_child[inner, None] + np.arange(1 << len(self.axes))
        kept = np.ones(len(self.level), dtype=bool)
        kept[family[self.masked[inner]]] = False
        place = np.cumsum(kept) - 1
        child = np.where(self.masked | (self.first_child == NO_CHILD), NO_CHILD, place[self.first_child])[kept]
        values = {name: numbers[kept] for name, numbers in self.values.items()}
        return RefinementTree(self.borders, self.level[kept], self.position[kept], child, self.masked[kept], values)


def extended_axes(borders) -> tuple[int, ...]:
    """The axes that have more than one border."""
    return tuple(axis for axis, border in enumerate(borders) if len(border) > 1)


def world_positions(borders, level: np.ndarray, position: np.ndarray, share) -> np.ndarray:
    """World positions in nodes.

    Args:
        borders: Of the roots, see `RefinementTree`.
        level: (n,) of the nodes.
        position: (n, 3) of the nodes among those of their level.
        share: Of a node's edge: a number, or (m, 3) for m positions in each node.

    Returns:
        (n, 3), or (n, m, 3) float64.
    """
    share = np.broadcast_to(share, (*np.shape(share)[:-1], 3))
    result = np.empty((len(level), *share.shape))
    for axis, border in enumerate(borders):
        along = result[..., axis]
        if len(border) == 1:
            along[...] = border[0]
            continue
        root = position[:, axis] >> level
        inside = position[:, axis] - (root << level)
        shape = (-1, *(1,) * (share.ndim - 1))
        part = (inside.reshape(shape) + share[..., axis]) * (0.5**level).reshape(shape)
        low, high = border[root].reshape(shape), border[root + 1].reshape(shape)
        along[...] = low * (1 - part) + high * part
    return result


def child_lattice(count: int, axes: tuple[int, ...]) -> np.ndarray:
    """(count^axes, 3) positions of the parts of a cell that is cut into `count` along each of some axes, x fastest."""
    shape = [count if axis in axes else 1 for axis in range(3)]
    return np.indices(shape[::-1]).reshape(3, -1)[::-1].T.copy()


def tree_order(level: np.ndarray, first_child: np.ndarray, children: int) -> np.ndarray:
    """The order of `RefinementTree` for nodes in the order in which they grew, roots first: (n,) indices."""
    front, root = np.flatnonzero(level == 0), np.arange(np.count_nonzero(level == 0))
    fronts, roots = [front], [root]
    while (inner := first_child[front] != NO_CHILD).any():
        front = (first_child[front[inner], None] + np.arange(children)).ravel()
        root = np.repeat(root[inner], children)
        fronts.append(front)
        roots.append(root)
    return np.concatenate(fronts)[np.argsort(np.concatenate(roots), kind="stable")]


def average_upwards(values: np.ndarray, level: np.ndarray, first_child: np.ndarray, children: int) -> None:
    """Set the rows (n,) or (n, c) of nodes with children to the mean of those children that have values."""
    for depth in range(int(level.max()) - 1, -1, -1):
        nodes = np.flatnonzero((level == depth) & (first_child != NO_CHILD))
        of_children = values[first_child[nodes, None] + np.arange(children)]
        found = np.isfinite(of_children)
        count = found.sum(axis=1)
        total = np.where(found, of_children, 0.0).sum(axis=1)
        values[nodes] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
