"""Image data and rectilinear grids as the input of a training: bricks are asked of the pipeline one by one.

Where the pipeline does not give what it is asked for (a simulation that runs, some readers), every rank takes the piece it
is given and the rest travels between the ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkRectilinearGrid

import apmgsrn_core as core  # names that need torch are looked up when a training begins
from apmgsrn_core import ArraySpec, DataError, FieldError, Region

from . import vtk_bridge
from .array_choice import ArrayChoice, common_type
from .ghost_marks import GHOSTS, WITHOUT_VALUE, has_marks
from .image_frame import ImageFrame
from .vtk_arrays import attributes, numpy_type, read_values

LATTICES = (vtkImageData, vtkRectilinearGrid)


@dataclass(frozen=True)
class LatticeLook:
    """What a look at a corner of the input tells."""

    arrays: tuple[ArraySpec, ...]
    dtype: str  # in which the values of all arrays are given
    holes: bool  # whether some may be hidden
    time: float | None
    frame: ImageFrame  # of what has arrived
    obeyed: bool  # whether that holds the corner that was asked for

    @property
    def association(self) -> str:
        return self.arrays[0].association


def look_at_lattice(image, choice: ArrayChoice, frame: ImageFrame) -> LatticeLook | None:
    """What the arrays are; None when point and cell arrays are chosen together, which a lattice of values cannot hold.

    Raises:
        DataError, FieldError: The frame is empty, an array is not there or not numeric.
    """
    frame.check_not_empty()
    found = choice.of_data_set(image)
    specs = choice.specs([(n, side, a.GetNumberOfComponents(), numpy_type(a)) for a, n, side in found])
    if len({spec.association for spec in specs}) > 1:
        return None
    holes = any(has_marks(image, side) for side in ("point", "cell"))
    dtype = common_type(specs, holes).name
    obeyed = _holds(image.GetExtent(), frame.corner)
    return LatticeLook(specs, dtype, holes, vtk_bridge.data_time(image), ImageFrame.of_image(image), obeyed)


class LatticeInput:
    """What the pipeline gives, asked for by regions (collective).

    Args:
        look: Of this rank; where it has seen nothing, that of another one.
        frame: Where the whole input lies, as it was promised.
        communicator: Of the ranks.
        pull: Given an extent (None: the piece that is this rank's), returns the data object that the pipeline gives; None
            when it fails.
    """

    mask = "values"

    def __init__(self, look: LatticeLook, frame: ImageFrame, communicator, pull: Callable[[tuple | None], object]):
        self.look, self._communicator, self._pull = look, communicator, pull
        self.arrays, self.dtype, self.time = look.arrays, look.dtype, look.time
        self._obeys = all(communicator.everywhere(look.obeyed))
        whole = frame.extent  # not every source promises all of the frame
        self.frame = replace(look.frame, extent=whole, axes=None)
        self._pieces = None
        if look.frame.axes is not None:
            self.frame = replace(self.frame, axes=self._whole_axes(whole))
        self.grid = communicator.together(lambda: self.frame.grid(look.association))

    @property
    def value_bytes(self) -> int:
        """Of one value of all arrays."""
        return np.dtype(self.dtype).itemsize * sum(a.components for a in self.arrays)

    @property
    def source_bytes(self) -> int:
        """Of all values of the arrays in their own types."""
        return self.grid.region.count * sum(a.components * np.dtype(a.dtype).itemsize for a in self.arrays)

    def owners(self, layout) -> np.ndarray | None:
        """The rank of each brick where the pieces are fixed; None: any."""
        if self._obeys:
            return None
        self._pieces = self._own_pieces()
        return self._pieces.owners(layout)

    def fetch(self, region: Region | None):
        """The values of a region, what stands in their way as an exception, or None. All ranks ask, always: the filters
        above may work together as well."""
        if self._pieces is not None:
            return self._pieces.fetch(region)
        image = self._pull(self.frame.corner if region is None else self._extent_of(region))
        return None if region is None else self._values(image, region)

    def _extent_of(self, region: Region) -> tuple:
        """What is asked for; of points that may be hidden with the cells around them, which hide them as well."""
        extent = self.frame.extent_of(region, self.look.association)
        if not self.look.holes or self.look.association == "cell":
            return extent
        ends = zip(extent[::2], extent[1::2], self.frame.extent[::2], self.frame.extent[1::2])
        return tuple(v for a, b, low, high in ends for v in (max(a - 1, low), min(b + 1, high)))

    def _whole_axes(self, whole: tuple) -> tuple:
        """The coordinates along x, y, z, from a line of points along each or from the pieces of all ranks."""
        known: list[dict] = [{}, {}, {}]
        for axis in range(3):
            line = [v for a, b in zip(whole[::2], whole[1::2]) for v in (a, a)]
            line[2 * axis + 1] = whole[2 * axis + 1]
            image = self._pull(tuple(line) if self._obeys else None)
            frame = ImageFrame.of_image(image) if isinstance(image, vtkRectilinearGrid) else ImageFrame()
            for parts in self._communicator.everywhere((frame.extent, frame.axes or ((), (), ()))):
                known[axis].update(zip(range(parts[0][2 * axis], parts[0][2 * axis + 1] + 1), parts[1][axis]))
        return self._communicator.together(lambda: tuple(_all_of(known[a], whole, a) for a in range(3)))

    def _values(self, image, region: Region):
        try:
            arrived, piece = self._piece(image)
        except Exception as error:  # told to all ranks by who asked
            return error
        if any(a < b for a, b in zip(region.start, piece.start)) or any(a > b for a, b in zip(region.stop, piece.stop)):
            return DataError(
                f"input: expected the values {region.start} to {region.stop}, found {piece.start} to {piece.stop}"
            )
        cut = tuple(slice(a - f, b - f) for a, b, f in zip(region.start, region.stop, piece.start))[::-1]
        return arrived[cut]

    def _piece(self, image) -> tuple:
        """(values of all that has arrived, its region of the whole); DataError when an array is not there."""
        if not isinstance(image, LATTICES) or not image.GetNumberOfPoints():
            raise DataError("input: expected image data with values, found none")
        frame, side = ImageFrame.of_image(image), self.look.association
        grid, parts = frame.grid(side), []
        for spec in self.arrays:
            array, _, _ = vtk_bridge.choose_array(image, spec.name, side)
            found = (array.GetNumberOfComponents(), numpy_type(array).name)
            if found != (spec.components, spec.dtype):
                raise DataError(f"array {spec.name!r}: expected {spec.components} x {spec.dtype}, found {found[0]} x {found[1]}")
            parts.append(read_values(array, grid))
        return self._joined(parts, _hidden(image, frame, side)), self.frame.region(frame.extent, side)

    def _joined(self, parts: list[np.ndarray], hidden: np.ndarray | None) -> np.ndarray:
        """The arrays' components one after the other; a view when it is one array without holes."""
        if hidden is not None and hidden.any() and not self.look.holes:
            raise DataError(f"input: expected {GHOSTS!r} on all pieces or on none")
        if len(parts) == 1 and parts[0].dtype == self.dtype and (hidden is None or not hidden.any()):
            return parts[0]
        columns = [part[..., None] if part.ndim == 3 else part for part in parts]
        values = np.concatenate([c.astype(self.dtype) for c in columns], axis=3)
        if hidden is not None and hidden.any():
            values[hidden] = np.nan
        return values[..., 0] if values.shape[3] == 1 else values

    def _own_pieces(self):
        """What the ranks have, each its piece."""
        image = self._pull(None)

        def piece() -> tuple:
            try:
                return self._piece(image)
            except (DataError, FieldError):  # a rank without data gives nothing
                components = sum(a.components for a in self.arrays)
                shape = (0, 0, 0) if components == 1 else (0, 0, 0, components)
                return np.empty(shape, self.dtype), Region((0, 0, 0), (0, 0, 0))

        return core.Pieces(*self._communicator.together(piece), self._communicator)


def _all_of(known: dict, whole: tuple, axis: int) -> tuple:
    """The coordinates of all points along an axis. DataError when some are on no rank."""
    wanted = range(whole[2 * axis], whole[2 * axis + 1] + 1)
    missing = [index for index in wanted if index not in known]
    if missing:
        raise DataError(f"input: expected the coordinates of {len(wanted)} points along {'xyz'[axis]}, found {len(missing)} fewer")
    return tuple(known[index] for index in wanted)


def _hidden(image, frame: ImageFrame, side: str) -> np.ndarray | None:
    """[z, y, x] bool of points or cells: those that are hidden, cells at a hidden point, points with hidden cells only; None
    where nothing is marked."""
    points, cells = (_marked(image, frame, association) for association in ("point", "cell"))
    if side == "cell":
        for axis in range(3) if points is not None else ():
            low, high = (np.take(points, range(n, max(points.shape[axis] - 1, 1) + n), axis, mode="clip") for n in (0, 1))
            points = low | high
        return cells if points is None else points if cells is None else points | cells
    if cells is not None:
        seen = ~cells
        for axis, count in enumerate(frame.dims[::-1]):
            ends = [(1, 1) if a == axis and count > 1 else (0, 0) for a in range(3)]
            padded = np.pad(seen, ends)
            seen = padded if count < 2 else np.take(padded, range(count), axis) | np.take(padded, range(1, count + 1), axis)
        cells = ~seen
    return points if cells is None else cells if points is None else points | cells


def _marked(image, frame: ImageFrame, association: str) -> np.ndarray | None:
    """[z, y, x] bool by VTK's own marks; None where there are none."""
    if not has_marks(image, association):
        return None
    marks = attributes(image, association).GetArray(GHOSTS)
    return read_values(marks, frame.grid(association)) & WITHOUT_VALUE[association] != 0


def _holds(extent: tuple, part: tuple) -> bool:
    """Whether an extent of points holds another."""
    return all(a <= b for a, b in zip(extent[::2], part[::2])) and all(a >= b for a, b in zip(extent[1::2], part[1::2]))
