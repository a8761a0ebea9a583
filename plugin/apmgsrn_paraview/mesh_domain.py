"""Where a mesh has data: its bounds, a uniform lattice that resolves it, and which voxels of a lattice it meets.

Voxels are found from the cells, not the other way round: each cell is filled with a lattice of positions so fine that two
lie in a voxel along each axis, and the voxels that hold one are those that the cell meets. So surfaces and lines meet
voxels too, cells far smaller and far larger than a voxel are alike, and nothing is searched.
"""

from __future__ import annotations

import math

import numpy as np

from apmgsrn_core import DataError

from .cell_shapes import CellShape
from .mesh_arrays import select_arrays
from .mesh_cells import CellGroup, MeshCells, chunks
from .mesh_leaves import mesh_leaves
from .mesh_points import LATTICES
from .mesh_values import ArrayValues

MEASURED_CELLS = 200_000  # of which the sizes are looked at
FLAT = 1e-9  # an axis is flat when it is so short beside the longest
PULL = 1e-4  # towards the cell's centre, so that a position on a cell's face is in the voxel on the cell's side
POSITIONS = 16_384  # whose numbers fit in a core's cache
OVERSIZE = 4096  # positions in a cell for each voxel: more means that the lattice covers a small part of it
STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192])


def mesh_bounds(data) -> tuple:
    """The world box of the cells that count, or of the points where a data set has no cells.

    Args:
        data: A vtkDataSet or composite data.

    Returns:
        (x min, x max, y min, y max, z min, z max), floats in the data's unit of length.

    Raises:
        DataError: There are no such cells or points.
    """
    return _bounds([MeshCells(leaf) for leaf in mesh_leaves(data)])


def suggest_dims(data, limit: int = 4_000_000) -> tuple:
    """Points along x, y, z of a uniform lattice over the bounds that resolves the mesh reasonably.

    The spacing on an axis is the extent on it that a quarter of the cells stay below; for points without cells, so that
    a voxel holds about eight. An axis on which the mesh is flat has one point.

    Args:
        data: A vtkDataSet or composite data.
        limit: Points in all, at most; all axes are coarsened alike to keep it.

    Raises:
        DataError: There are no cells or points that count.
    """
    meshes = [MeshCells(leaf) for leaf in mesh_leaves(data)]
    extents = np.diff(np.reshape(_bounds(meshes), (3, 2)), axis=1)[:, 0]
    active = extents > FLAT * extents.max()
    steps = np.ones(3)
    intervals = np.divide(extents, _spacing(meshes, extents, active), out=steps, where=active)
    intervals = np.where(active, np.maximum(np.ceil(intervals - 1e-6), 1), 0)
    while np.prod(intervals + 1) > limit and intervals.max() > 1:
        scale = (limit / np.prod(intervals + 1)) ** (1 / np.count_nonzero(intervals > 1))
        intervals = np.where(intervals > 1, np.maximum(np.floor(intervals * min(scale, 0.999)), 1), intervals)
    return tuple(int(n) + 1 for n in intervals)


def mesh_mask(data, bounds, dims, arrays=()) -> np.ndarray:
    """Which voxels of a uniform lattice the mesh meets with data.

    Args:
        data: A vtkDataSet or composite data.
        bounds: (x min, x max, y min, ...) of the lattice.
        dims: Its points along x, y, z; a voxel lies between them, and a flat axis has one layer of voxels.
        arrays: [(name, "point" or "cell"), ...]: cells in which one has a value that is not finite do not count.

    Returns:
        [z, y, x] bool of the voxels. True where one of 2 x 2 x 2 places in the voxel lies in a cell (voxels that a cell
        touches by less may be True), or a corner of a cell does, or a point of a data set without cells.

    Raises:
        DataError: An array cannot be used (see `select_arrays`), or the bounds are no box or the dims no lattice.
    """
    low, steps, voxels = _lattice(bounds, dims)
    leaves = mesh_leaves(data)
    chosen = select_arrays(leaves, arrays) if arrays else []
    mask = np.zeros(math.prod(voxels), dtype=bool)
    for leaf in leaves:
        mesh = MeshCells(leaf)
        values = ArrayValues(mesh, chosen)
        if not leaf.data.GetNumberOfCells():
            points = mesh.points
            if chosen:
                points = points[np.isfinite(values.at_points(points)).all(axis=1)]
            _mark(mask, voxels, (mesh.positions(points).T - low[:, None]) / steps[:, None])
        for group in mesh.groups:
            _mark_cells(mask, voxels, mesh, group.take(np.flatnonzero(values.finite(group))), low, steps)
    return mask.reshape(voxels[::-1])


def _bounds(meshes: list[MeshCells]) -> tuple:
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for mesh in meshes:
        data = mesh.leaf.data
        if isinstance(data, LATTICES) and sum(len(g.cells) for g in mesh.groups) == data.GetNumberOfCells():
            ends = np.reshape(data.GetBounds(), (3, 2))
            low, high = np.minimum(low, ends[:, 0]), np.maximum(high, ends[:, 1])
            continue
        nodes = [n.ravel() for group in mesh.groups for _, n in chunks(group)]
        for ids in nodes if data.GetNumberOfCells() else [mesh.points]:
            positions = mesh.positions(ids)
            low = np.minimum(low, positions.min(axis=0, initial=np.inf))
            high = np.maximum(high, positions.max(axis=0, initial=-np.inf))
    if not np.isfinite([low, high]).all():
        raise DataError("input: expected cells or points at finite places, found none (ghosts, hidden and refined ones aside)")
    return tuple(np.stack([low, high], axis=1).ravel().tolist())


def _spacing(meshes: list[MeshCells], extents: np.ndarray, active: np.ndarray) -> np.ndarray:
    """(3,) world spacing that resolves most cells, or the distance of points where there are no cells."""
    parts = [(mesh, group) for mesh in meshes for group in mesh.groups if group.shape.dimension]
    stride = max(sum(len(group.cells) for _, group in parts) // MEASURED_CELLS, 1)
    sizes = [
        np.ptp(mesh.corners(nodes), axis=0)
        for mesh, group in parts
        for _, nodes in chunks(group, np.arange(0, len(group.cells), stride))
    ]
    count = sum(len(mesh.points) for mesh in meshes)
    fallback = 2 * (np.prod(extents[active]) / max(count, 1)) ** (1 / max(active.sum(), 1))
    if not sizes:
        return np.full(3, fallback)
    found = np.concatenate(sizes, axis=1)
    return np.array([np.quantile(s[s > FLAT * extents.max()], 0.25) if (s > 0).any() else fallback for s in found])


def _lattice(bounds, dims) -> tuple:
    """(low corner, size of a voxel, voxels along each axis); on a flat axis all places are in the one layer."""
    ends, voxels = np.asarray(tuple(bounds), dtype=np.float64), tuple(dims)
    if ends.shape != (6,) or not np.isfinite(ends).all() or (ends[::2] > ends[1::2]).any():
        raise DataError(f"mask: expected the bounds x min <= x max, ..., found {tuple(bounds)}")
    if len(voxels) != 3 or any(n != int(n) or n < 1 for n in voxels):
        raise DataError(f"mask: expected the dims to be three positive integers, found {voxels}")
    voxels = np.maximum(np.array(voxels, dtype=np.int64) - 1, 1)
    extents = ends[1::2] - ends[::2]
    flat = extents <= FLAT * extents.max()
    return ends[::2], np.where(flat, np.inf, extents / voxels), tuple(voxels.tolist())


def _mark_cells(mask, voxels, mesh: MeshCells, group: CellGroup, low: np.ndarray, steps: np.ndarray) -> None:
    """Set the voxels that cells of one shape meet; cells that need equally many positions are filled together."""
    if not len(group.cells):
        return
    shape = group.shape
    codes = np.concatenate(
        [_intervals(shape, mesh.corners(nodes) / steps[:, None]) for _, nodes in chunks(group)]
    )
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        kind = STEPS[list(np.unravel_index(codes[rows[0]], [len(STEPS)] * shape.dimension))]
        if np.prod(kind, dtype=np.float64) > OVERSIZE * len(mask):
            raise DataError(f"mask: expected bounds about as large as the mesh, found cells of {kind.tolist()} places")
        for p in (shape.nodes.T, *shape.lattice(kind)):
            p = shape.centre[:, None] + (1 - PULL) * (p - shape.centre[:, None])
            weights = shape.weights(p).T.copy()
            for _, nodes in chunks(group, rows):
                corners = (mesh.corners(nodes) - low[:, None]) / steps[:, None]
                flat, together = corners.reshape(len(corners), -1), max(POSITIONS // len(nodes), 1)
                for start in range(0, len(weights), together):
                    index = np.einsum("qk,kn->qn", weights[start : start + together], flat)
                    _mark(mask, voxels, index.reshape(-1, 3, len(nodes)).swapaxes(0, 1))


def _intervals(shape: CellShape, corners: np.ndarray) -> np.ndarray:
    """How finely cells are filled so that positions are half a voxel apart, on surfaces and lines a quarter: corners
    (k, 3, n) in voxels -> (n,) codes of the entries of STEPS along the parametric axes."""
    if not shape.dimension:
        return np.zeros(corners.shape[2], dtype=np.int16)
    tangents = shape.tangents(shape.nodes.T, corners)
    reach = np.abs(tangents).sum(axis=2).max(axis=0)
    if shape.simplex:
        reach[: shape.simplex] = reach[: shape.simplex].max(axis=0)
    dense = 2 if shape.dimension == 3 else 4
    entries = np.minimum(np.searchsorted(STEPS, dense * reach * (1 - 1e-9)), len(STEPS) - 1)
    code = np.zeros(corners.shape[2], dtype=np.int16)
    for entry in entries:
        code = code * np.int16(len(STEPS)) + entry.astype(np.int16)
    return code


def _mark(mask: np.ndarray, voxels: tuple, index: np.ndarray) -> None:
    """Set the voxels that hold these positions, (3, ...) in voxels; those outside of the lattice are in none."""
    inside = [(i >= -1e-6) & (i <= n + 1e-6) for i, n in zip(index, voxels)]
    x, y, z = (np.clip(i, 0, n - 1).astype(np.int32) for i, n in zip(index, voxels))
    mask[(x + voxels[0] * (y + voxels[1] * z.astype(np.int64)))[inside[0] & inside[1] & inside[2]]] = True
