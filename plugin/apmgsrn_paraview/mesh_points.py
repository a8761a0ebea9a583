"""Where the points of a data set are.

The points of a lattice (image, rectilinear, structured grid) are counted x fastest.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
from vtkmodules import vtkCommonDataModel as vtk

from .vtk_arrays import numbers_of

LATTICES = (vtk.vtkImageData, vtk.vtkRectilinearGrid, vtk.vtkStructuredGrid)


def point_positions(data) -> Callable:
    """The function from (n,) point ids of a data set to (n, 3) float64 world positions."""
    if isinstance(data, vtk.vtkPointSet):
        points = data.GetPoints()
        known = numbers_of(points.GetData()) if points is not None else np.zeros((0, 3))
        return lambda ids: known[ids].astype(np.float64)
    nx, ny, _ = lattice_dims(data)
    if isinstance(data, vtk.vtkRectilinearGrid):
        axes = [numbers_of(axis) for axis in (data.GetXCoordinates(), data.GetYCoordinates(), data.GetZCoordinates())]
        return lambda ids: np.stack(
            [axis[i].astype(np.float64) for axis, i in zip(axes, lattice_index(ids, nx, ny))], axis=1
        )
    first, matrix = np.array(data.GetExtent()[::2]), data.GetIndexToPhysicalMatrix()
    numbers = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(3)])
    return lambda ids: (
        np.einsum("ij,nj->ni", numbers[:, :3], np.stack(lattice_index(ids, nx, ny), axis=1) + first) + numbers[:, 3]
    )


def lattice_dims(data) -> tuple:
    """Points of a lattice along its three axes."""
    extent = data.GetExtent()
    return tuple(b - a + 1 for a, b in zip(extent[::2], extent[1::2]))


def lattice_index(ids: np.ndarray, nx: int, ny: int) -> tuple:
    """Ids of a lattice with nx * ny in a layer -> (i, j, k)."""
    rows, i = np.divmod(ids, nx)
    k, j = np.divmod(rows, ny)
    return i, j, k
