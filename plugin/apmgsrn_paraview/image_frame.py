"""Where an image or a rectilinear grid lies, in VTK's terms and in the core's.

VTK's extents are inclusive point indices that need not start at 0, and an image's origin is the
position of the index (0, 0, 0) even when the extent does not hold it. The core's regions are
half-open value indices that start at 0, and a grid's origin is its first point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkRectilinearGrid
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import DataError, Grid, Region

EMPTY_EXTENT = (0, -1, 0, -1, 0, -1)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class ImageFrame:
    """Where an image lies: its whole extent, and the mapping from index to world.

    Of a rectilinear grid `axes` are the coordinates of the points of the extent along x, y, z; while they are not known,
    as from a pipeline's promises, it counts as uniform.
    """

    extent: tuple = EMPTY_EXTENT
    origin: tuple = (0.0, 0.0, 0.0)
    spacing: tuple = (1.0, 1.0, 1.0)
    direction: tuple = IDENTITY
    axes: tuple | None = None

    @classmethod
    def of_image(cls, image) -> "ImageFrame":
        if isinstance(image, vtkRectilinearGrid):
            axes = (image.GetXCoordinates(), image.GetYCoordinates(), image.GetZCoordinates())
            return cls(image.GetExtent(), axes=tuple(tuple(vtk_to_numpy(a).astype(float).tolist()) for a in axes))
        matrix = image.GetDirectionMatrix()
        direction = tuple(matrix.GetElement(i, j) for i in range(3) for j in range(3))
        return cls(image.GetExtent(), image.GetOrigin(), image.GetSpacing(), direction)

    @classmethod
    def of_information(cls, info) -> "ImageFrame":
        """What upstream promises; empty when it promises no structured data."""
        if not info.Has(Pipeline.WHOLE_EXTENT()):
            return cls()
        extent = tuple(info.Get(Pipeline.WHOLE_EXTENT()))
        keys = (vtkDataObject.ORIGIN(), vtkDataObject.SPACING(), vtkDataObject.DIRECTION())
        rest = [tuple(info.Get(key)) if info.Has(key) else None for key in keys]
        return cls(extent, rest[0] or cls.origin, rest[1] or cls.spacing, rest[2] or cls.direction)

    @classmethod
    def of_grid(cls, grid: Grid, start=None, stop=None) -> "ImageFrame":
        """The frame of a grid's points, or of the half-open range of them from start to stop."""
        start, stop = start or (0, 0, 0), stop or grid.dims
        extent = tuple(edge for a, b in zip(start, stop) for edge in (a, b - 1))
        if grid.axes is not None:
            return cls(extent, axes=tuple(axis[a:b] for axis, a, b in zip(grid.axes, start, stop)))
        return cls(extent, grid.origin, grid.spacing, sum(grid.direction, ()))

    @property
    def dims(self) -> tuple:
        return tuple(b - a + 1 for a, b in zip(self.extent[::2], self.extent[1::2]))

    @property
    def corner(self) -> tuple:
        """The extent of the first cell: little, but enough to see which arrays there are."""
        return tuple(v for a, b in zip(self.extent[::2], self.extent[1::2]) for v in (a, min(a + 1, b)))

    def dims_from(self, first: tuple) -> tuple:
        """Points along each axis, counted from `first` to our last."""
        return tuple(high - zero + 1 for high, zero in zip(self.extent[1::2], first))

    def check_not_empty(self) -> None:
        if min(self.dims) < 1:
            raise DataError(f"input: expected image data with points, found the empty extent {self.extent}")

    def grid(self, association: str) -> Grid:
        """The same lattice for the core, with its first point as origin."""
        self.check_not_empty()
        if self.axes is not None:
            return Grid.stretched(self.axes, association)
        rows = tuple(self.direction[i : i + 3] for i in (0, 3, 6))
        spacing = tuple(s or 1.0 if n == 1 else s for s, n in zip(self.spacing, self.dims))  # flat: any will do
        at_index_0 = Grid(self.dims, self.origin, spacing, rows, association)
        first = at_index_0.index_to_world([self.extent[::2]])[0]
        return Grid(self.dims, tuple(first.tolist()), spacing, rows, association)

    def promise(self, info) -> None:
        """Write the frame into an output port's information."""
        info.Set(Pipeline.WHOLE_EXTENT(), self.extent, 6)
        info.Set(vtkDataObject.ORIGIN(), self.origin, 3)
        info.Set(vtkDataObject.SPACING(), self.spacing, 3)
        info.Set(vtkDataObject.DIRECTION(), self.direction, 9)
        info.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)

    def place(self, image, extent) -> None:
        """Make `image`, of the kind that this frame is of, an empty one that covers `extent` of this frame."""
        image.Initialize()
        if isinstance(image, vtkRectilinearGrid):
            self._place_rectilinear(image, extent)
            return
        image.SetOrigin(self.origin)
        image.SetSpacing(self.spacing)
        image.SetDirectionMatrix(self.direction)
        image.SetExtent(extent)

    def _place_rectilinear(self, grid, extent) -> None:
        grid.SetExtent(extent)
        setters = (grid.SetXCoordinates, grid.SetYCoordinates, grid.SetZCoordinates)
        for axis, (low, high, first, setter) in enumerate(zip(extent[::2], extent[1::2], self.extent[::2], setters)):
            known = np.array(self.axes[axis] if self.axes is not None else ())
            setter(numpy_to_vtk(known[low - first : high - first + 1], deep=1))

    def region(self, extent, association: str, first=None) -> Region:
        """The values of an extent of points; `first` is the point with value index 0 (default: ours)."""
        first = self.extent[::2] if first is None else first
        start = tuple(low - zero for low, zero in zip(extent[::2], first))
        points = tuple(high - low + 1 for low, high in zip(extent[::2], extent[1::2]))
        if association == "cell":
            points = tuple(max(n - 1, 1) if n > 0 else 0 for n in points)
            # a plane of points has the cells behind it; the last plane those before it
            start = tuple(min(a, max(n - 2, 0)) for a, n in zip(start, self.dims_from(first)))
        return Region(start, tuple(a + n for a, n in zip(start, points)))

    def extent_of(self, region: Region, association: str) -> tuple:
        """The extent of the points that carry a region of our values."""
        more = 1 if association == "cell" else 0
        ends = (
            (low + a, min(low + b - 1 + more, high))
            for a, b, low, high in zip(region.start, region.stop, self.extent[::2], self.extent[1::2])
        )
        return tuple(edge for pair in ends for edge in pair)
