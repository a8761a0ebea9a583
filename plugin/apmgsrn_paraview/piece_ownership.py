"""Which values of a piece count with this rank, so that the ranks together count each value once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkRectilinearGrid, vtkStructuredGrid

from apmgsrn_core import Region

from .data_leaves import count_of, visible
from .mesh_cells import MeshCells
from .mesh_leaves import MeshLeaf

STRUCTURED = (vtkImageData, vtkRectilinearGrid, vtkStructuredGrid)


@dataclass(frozen=True)
class Lattice:
    """Where the piece of a structured data set is in the whole.

    Attributes:
        held: Its values.
        own: Those that count here, when they are a box; None when they are not.
        dims: Values of the whole along x, y, z.
    """

    held: Region
    own: Region | None
    dims: tuple


def extent_of(data) -> tuple | None:
    """The extent of a structured data set that is not part of a composite one; None of any other."""
    return tuple(data.GetExtent()) if isinstance(data, STRUCTURED) else None


def counted(
    leaf, association: str, extents: list, rank: int, covered: np.ndarray | None = None
) -> tuple[np.ndarray, Lattice | None]:
    """What counts of a data set.

    The pieces of a structured data set share the points between them: a value counts with the lowest rank that has it.
    Of another one those marked as another rank's (ghosts) do not count. What is hidden counts nowhere, nor do covered
    cells of AMR and points at which all cells are covered: a finer level has them.

    Args:
        leaf: The data set.
        association: "point" or "cell".
        extents: What `extent_of` gives on each rank.
        rank: This one.
        covered: (cells,) bool, of a grid of AMR that a finer one covers in part; see `mesh_leaves.covered_by_finer`.

    Returns:
        (n,) bool, and where a structured piece is; None of other data sets, and where something is hidden.
    """
    if covered is not None:
        return _uncovered(MeshCells(MeshLeaf("grid", leaf, covered)), association), None
    if extents[rank] is None:
        return visible(leaf, association, duplicates=False), None
    regions = [_region(extent, association) for extent in extents if extent is not None]
    mine, lower = _region(extents[rank], association), sum(extent is not None for extent in extents[:rank])
    own = np.ones(mine.shape_zyx, dtype=bool)
    for other in regions[:lower]:
        own[_common(other, mine)] = False
    seen = visible(leaf, association, duplicates=True)
    flags = own.ravel() & seen
    if not seen.all():
        return flags, None
    first = np.min([region.start for region in regions if region.count] or [mine.start], axis=0)
    stop = np.max([region.stop for region in regions if region.count] or [mine.stop], axis=0)
    return flags, Lattice(_moved(mine, first), _box_of(own, mine, first), tuple((stop - first).tolist()))


def _uncovered(mesh: MeshCells, association: str) -> np.ndarray:
    """(n,) bool: the points or cells that a training sees."""
    flags = np.zeros(count_of(mesh.leaf.data, association), dtype=bool)
    for ids in [mesh.points] if association == "point" else [group.cells for group in mesh.groups]:
        flags[ids] = True
    return flags


def _region(extent: tuple, association: str) -> Region:
    """The values of an extent of points; a flat axis has one cell."""
    less = 1 if association == "cell" else 0
    ends = [(a, max(b + 1 - less, a + 1) if b >= a else a) for a, b in zip(extent[::2], extent[1::2])]
    return Region([a for a, _ in ends], [b for _, b in ends])


def _common(other: Region, mine: Region) -> tuple:
    """The slices [z, y, x] of `mine` that the other one has as well."""
    return tuple(
        slice(max(a - first, 0), max(min(b, last) - first, 0))
        for a, b, first, last in zip(other.start, other.stop, mine.start, mine.stop)
    )[::-1]


def _box_of(own: np.ndarray, mine: Region, first: np.ndarray) -> Region | None:
    """The flags as a box, counted from the first value of the whole; None when they are none."""
    if not own.any():
        return Region((0, 0, 0), (0, 0, 0))
    places = [np.flatnonzero(own.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    start = [a + int(found[0]) for a, found in zip(mine.start, places)]
    stop = [a + int(found[-1]) + 1 for a, found in zip(mine.start, places)]
    box = Region(start, stop)
    return _moved(box, first) if box.count == np.count_nonzero(own) else None


def _moved(region: Region, first: np.ndarray) -> Region:
    return Region([a - f for a, f in zip(region.start, first)], [b - f for b, f in zip(region.stop, first)])
