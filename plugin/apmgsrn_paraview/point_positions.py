"""Where the points and the cell centres of any data set are, some of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from vtkmodules.vtkCommonCore import vtkDoubleArray
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPointSet, vtkRectilinearGrid
from vtkmodules.vtkFiltersCore import vtkCellCenters

from apmgsrn_core import DataError

from .image_frame import ImageFrame
from .vtk_arrays import numbers_of


@dataclass(frozen=True)
class Positions:
    """Places in the world.

    Attributes:
        count: Of them all.
        part: (first, last) -> (last - first, 3) float64 world coordinates.
    """

    count: int
    part: Callable[[int, int], np.ndarray]

    def all(self) -> np.ndarray:
        """(count, 3) float64."""
        return self.part(0, self.count)


def positions_of(data, association: str) -> Positions:
    """The points ("point") or the centres of the cells ("cell") of a data set, in VTK's order.

    A centre is the parametric one, as of ParaView's Cell Centers. Those of images and rectilinear grids are computed,
    not stored.

    Raises:
        DataError: A kind of data set that is not known.
    """
    if isinstance(data, vtkImageData):
        return _of_image(data, association)
    if isinstance(data, vtkRectilinearGrid):
        axes = [numbers_of(c) for c in (data.GetXCoordinates(), data.GetYCoordinates(), data.GetZCoordinates())]
        return _of_lattice([_along(axis, association) for axis in axes])
    if not isinstance(data, vtkPointSet):
        raise DataError(f"input: expected points, meshes, images or rectilinear grids, found {data.GetClassName()}")
    points = numbers_of(data.GetPoints().GetData()) if data.GetNumberOfPoints() else np.empty((0, 3))
    if association == "cell":
        centres = vtkDoubleArray()
        centres.SetNumberOfComponents(3)
        centres.SetNumberOfTuples(data.GetNumberOfCells())
        vtkCellCenters.ComputeCellCenters(data, centres)
        points = numbers_of(centres).reshape(-1, 3)
    return Positions(len(points), lambda first, last: points[first:last].astype(np.float64))


def _of_image(image, association: str) -> Positions:
    frame = ImageFrame.of_image(image)
    low, high = frame.extent[::2], frame.extent[1::2]
    lattice = _of_lattice([_along(np.arange(a, b + 1.0), association) for a, b in zip(low, high)])
    matrix = np.array(frame.direction).reshape(3, 3) * np.array(frame.spacing)
    return Positions(lattice.count, lambda first, last: lattice.part(first, last) @ matrix.T + np.array(frame.origin))


def _along(axis: np.ndarray, association: str) -> np.ndarray:
    """Of the points along an axis, the points or the middles between them; a flat axis has itself."""
    axis = axis.astype(np.float64)
    return (axis[:-1] + axis[1:]) / 2 if association == "cell" and len(axis) > 1 else axis


def _of_lattice(axes: list) -> Positions:
    """All combinations of coordinates along x, y and z, x varying fastest."""
    nx, ny, nz = map(len, axes)

    def part(first: int, last: int) -> np.ndarray:
        number = np.arange(first, last)
        return np.stack([axes[0][number % nx], axes[1][number // nx % ny], axes[2][number // (nx * ny)]], axis=1)

    return Positions(nx * ny * nz, part)
