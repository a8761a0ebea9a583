"""What a model gives on the input's own points and cells and, when it is asked for, what is wrong with it there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apmgsrn_core import DataError

from .data_leaves import drop_arrays, leaves_of, pass_on
from .image_frame import ImageFrame
from .point_positions import positions_of
from .point_values import PART, evaluate
from .volume_output import VolumeOutput
from .vtk_arrays import add_array, attributes, numbers_of

ERROR = "_error"  # after the name of the array: the reconstruction less the data, float32


class Reconstruction:
    """Fills outputs; the lattice of the last request is kept for the next port that asks."""

    def __init__(self):
        self._kept = self._stamp = None

    def fill_lattice(
        self, image, volume, frame: ImageFrame, extent: tuple, time: float | None, data_of: Callable | None, on_share: Callable
    ) -> None:
        """An extent of a lattice.

        Args:
            data_of: extent -> the input there; None: no errors are wanted.
            on_share: Told how much is done.
        """
        stamp = (volume, extent, volume.step_at(time), data_of is None)
        if self._stamp != stamp:
            kept = type(image)()
            fields = tuple(array.name for array in volume.arrays)
            output = VolumeOutput(volume, volume.grid, frame, frame.extent[::2], fields, time)
            output.fill_extent(kept, extent, lambda share: on_share(share) or True)
            if data_of is not None:
                _add_errors(kept, data_of(extent), volume.arrays)
            self._kept, self._stamp = kept, stamp
        image.ShallowCopy(self._kept)

    def fill_mesh(self, mesh, volume, piece, time: float | None, with_error: bool) -> None:
        """This rank's part of a mesh, at its points and the centres of its cells."""
        if piece is None:
            raise DataError("input: expected a mesh, found none")
        for _, leaf in pass_on(piece, mesh):
            drop_arrays(leaf)
            for association in ("point", "cell"):
                names = [array.name for array in volume.arrays if array.association == association]
                if not names:
                    continue
                values = evaluate(
                    positions_of(leaf, association),
                    lambda points: {name: volume.sample_points(points, name, time) for name in names}, lambda count: True,
                )  # fmt: skip
                for name, array in values.items():
                    add_array(leaf, association, name, array)
        if with_error:
            for own, data in zip(leaves_of(mesh), leaves_of(piece)):
                _add_errors(own, data, volume.arrays)


def _add_errors(own, data, arrays) -> None:
    """Add the error of each array of a data set, some values at a time. DataError: the input does not have it there."""
    for array in arrays:
        if not (own.GetNumberOfPoints() if array.association == "point" else own.GetNumberOfCells()):
            continue  # an empty block, or a rank without data
        found = attributes(data, array.association).GetArray(array.name) if data is not None else None
        model = numbers_of(attributes(own, array.association).GetArray(array.name))
        if found is None or found.GetNumberOfTuples() != len(model):
            count = found.GetNumberOfTuples() if found is not None else "none"
            raise DataError(f"OutputError: array {array.name!r}: expected {len(model)} values of the input, found {count}")
        values, error = numbers_of(found), np.empty(model.shape, np.float32)
        for first in range(0, len(model), PART):
            part = slice(first, first + PART)
            error[part] = model[part].astype(np.float64) - values[part]
        add_array(own, array.association, array.name + ERROR, error)
