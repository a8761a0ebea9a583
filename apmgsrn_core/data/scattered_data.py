"""Samples at any positions, in the order of a k-d tree: what a brick is trained from when its data is no lattice.

The tree halves the samples of a node at the median of the node's longest axis. With n samples, node i of the 2^l nodes of
level l holds rows i * n >> l to (i + 1) * n >> l: no tables, and the nodes of all levels are runs of rows.
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError

LEAF_SAMPLES = 32  # in a leaf of the tree, at least; less than twice as many
MOST_BEYOND = 2.0  # |normalised coordinate| of a sample; so far reaches the outer half of a border cell
LOOPED_NODES = 64  # a level with more nodes is split in one go
CHUNK_SAMPLES = 1 << 20  # that are split in one go, about


class ScatteredData:
    """Samples of one brick, those that are not finite left out.

    Args:
        positions: (n, 3) normalised coordinates, x first. What lies beyond [-1, 1], in the outer half of a border cell, is
            clamped, as a network is evaluated there.
        targets: (n, C) or (n,), 0 and 1 being the range of each array. A row counts when all of it is finite.
        dims: Values along x, y, z of the brick's lattice; 1 on a flat axis.
        extents: Lengths of the brick along x, y, z in any unit, 0 on a flat axis; None: dims - 1.
        name: For messages.

    Raises:
        DataError: Shapes do not fit together, a type is not numeric, a position is beyond the brick, dims or extents are no
            sizes, or fewer than two samples are finite.

    Attributes:
        samples: (n, 3 + C) float32, positions and targets in the order of the tree.
        depth: Levels of the tree below its root.
        missing: Samples that were left out.
    """

    fills = None  # of arrays without a value at some places, see `FieldData`: here such a sample is left out

    def __init__(self, positions: np.ndarray, targets: np.ndarray, dims, name: str = "values", extents=None):
        positions, targets = np.asarray(positions), np.asarray(targets)
        targets = targets[:, None] if targets.ndim == 1 else targets
        self.name = name
        self._check(positions, targets)
        self.dims = self._sizes("dims", dims, "iu", 1)
        self.extents = self._sizes("extents", np.array(self.dims) - 1 if extents is None else extents, "iuf", 0)
        finite = np.isfinite(positions).all(axis=1) & np.isfinite(targets).all(axis=1)
        count = int(finite.sum())
        self.missing = len(finite) - count
        if count < 2:
            raise DataError(f"array {name!r}: expected at least 2 finite samples, found {count} of {len(finite)}")
        positions = positions[finite].astype(np.float32)
        if (farthest := float(np.abs(positions).max())) > MOST_BEYOND:
            raise DataError(f"array {name!r}: expected normalised positions in [-1, 1], found {farthest:g}")
        np.clip(positions, -1, 1, out=positions)
        self.depth = max(0, (count // LEAF_SAMPLES).bit_length() - 1)
        order = tree_order(positions, self.extents, self.depth)
        self.samples = np.empty((count, 3 + targets.shape[1]), np.float32)
        self.samples[:, :3] = positions[order]
        self.samples[:, 3:] = targets[np.flatnonzero(finite)[order]]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def positions(self) -> np.ndarray:
        """(n, 3) float32 normalised, in the order of the tree."""
        return self.samples[:, :3]

    @property
    def targets(self) -> np.ndarray:
        """(n, C) float32, in the order of the tree."""
        return self.samples[:, 3:]

    @property
    def components(self) -> int:
        """Columns of the targets."""
        return self.samples.shape[1] - 3

    @property
    def span(self) -> float:
        """The largest difference of two targets of one column; 0 when all samples are equal."""
        return float(np.ptp(self.targets, axis=0).max())

    def _check(self, positions: np.ndarray, targets: np.ndarray) -> None:
        for what, array in (("positions", positions), ("targets", targets)):
            if array.dtype.kind not in "iuf":
                raise DataError(f"{what} of {self.name!r}: expected numbers, found {array.dtype}")
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise DataError(f"positions of {self.name!r}: expected shape (n, 3), found {positions.shape}")
        if targets.ndim != 2 or len(targets) != len(positions) or not targets.shape[1]:
            raise DataError(f"targets of {self.name!r}: expected shape ({len(positions)}, C), found {targets.shape}")

    def _sizes(self, what: str, values, kinds: str, least: int) -> tuple:
        """Three numbers of certain types, from `least` on."""
        sizes = np.asarray(values)
        good = sizes.shape == (3,) and sizes.dtype.kind in kinds
        if not good or not np.isfinite(sizes).all() or (sizes < least).any():
            numbers = "numbers" if "f" in kinds else "whole numbers"
            raise DataError(f"{what} of {self.name!r}: expected 3 {numbers} from {least} on, found {values}")
        return tuple(sizes.tolist())


def node_starts(count: int, level: int) -> np.ndarray:
    """(2^level + 1,) int64: the first row of each node of a level, and the end."""
    return np.arange(2**level + 1, dtype=np.int64) * count >> level


def tree_order(positions: np.ndarray, extents, depth: int) -> np.ndarray:
    """The rows in the order of a k-d tree.

    Args:
        positions: (n, 3) normalised.
        extents: What the axes are measured in: the longest axis of a node is that of its samples' box times these.
        depth: Levels; a leaf must hold at least one sample.

    Returns:
        (n,) int64, a permutation.
    """
    order = np.arange(len(positions))
    columns = np.ascontiguousarray(positions.T) * np.array(extents, dtype=np.float32)[:, None]
    for level in range(depth):
        starts = node_starts(len(order), level)
        sides = [np.maximum.reduceat(c, starts[:-1]) - np.minimum.reduceat(c, starts[:-1]) for c in columns]
        axes = np.argmax(sides, axis=0)
        halved = _halved(columns, axes, starts, node_starts(len(order), level + 1)[1::2])
        order, columns = order[halved], columns[:, halved]
    return order


def _halved(columns: np.ndarray, axes: np.ndarray, starts: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """(n,) rows: those of each node in two halves, the middle being the first row of the second half."""
    nodes = len(axes)
    if nodes <= LOOPED_NODES:
        parts = zip(axes, starts[:-1], starts[1:], middles)
        return np.concatenate([a + np.argpartition(columns[axis, a:b], m - a) for axis, a, b, m in parts])
    together = max(1, CHUNK_SAMPLES * nodes // columns.shape[1])
    chunks = [slice(i, i + together) for i in range(0, nodes, together)]
    return np.concatenate([_halved_together(columns, axes[c], starts[:-1][c], starts[1:][c], middles[c]) for c in chunks])


def _halved_together(columns, axes, starts, stops, middles) -> np.ndarray:
    """`_halved` for nodes that differ by one sample at most: rows of a table, filled up with infinity."""
    sizes, middles = (stops - starts)[:, None], middles - starts
    places = np.arange(sizes.max())
    rows = starts[:, None] + np.minimum(places, sizes - 1)
    keys = np.where(places < sizes, columns[axes[:, None], rows], np.inf)
    chosen = np.argpartition(keys, sorted({int(middles.min()), int(middles.max())}), axis=1)
    return (starts[:, None] + chosen)[chosen < sizes]
