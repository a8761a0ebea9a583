"""One training in the pipeline: pass by pass, on all ranks together.

Each pass asks the pipeline above for the values of one brick. Where it does not give what it is asked for (a simulation
that runs, some readers), every rank takes the piece it is given and the rest travels between the ranks.

The passes are made inside of one RequestData, by updating the input again and again. (With CONTINUE_EXECUTING ParaView would
call RequestData once for each pass, but when a source fails in between it does so no more and never ends.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkImageData

import apmgsrn_core as core  # names that need torch are looked up when a training begins
from apmgsrn_core import ApmgsrnError, DataError, Region

from . import vtk_bridge
from .image_frame import ImageFrame
from .trained_model import Memory


@dataclass(frozen=True)
class ArrayLook:
    """What a look at a corner of the input tells of the array."""

    name: str
    association: str
    components: int
    dtype: str
    value_bytes: int
    time: float | None
    frame: ImageFrame  # of what has arrived
    obeyed: bool  # whether that holds the corner that was asked for


@dataclass
class TrainingRun:
    """What a filter wants from its input, and what becomes of it.

    Args:
        filter: The `TrainNeuralVolume` that asks.
        frame: Where the whole input lies.
        communicator: The ranks of the pipeline.
        surveys: Remembers the surveys of data that has been looked at; the same on all ranks.
        state: Of the data above, the same on all ranks; key of `surveys`.
        pull: Given an extent (None: the piece that is this rank's), returns the data object that the pipeline gives; None
            when it fails.
    """

    filter: object
    frame: ImageFrame
    communicator: object
    surveys: Memory
    state: tuple
    pull: Callable[[tuple | None], object]
    job: core.VolumeJob | None = None

    def result(self, image):
        """Train (collective); `image` is what arrived for the corner. Returns what `volume_passes` returns."""
        filter_, communicator = self.filter, self.communicator
        look = self._agreed_look(image)
        self.frame = replace(look.frame, extent=self.frame.extent)  # not every source promises all of it
        grid = communicator.together(lambda: self.frame.grid(look.association))
        devices = communicator.together(lambda: core.devices_of_rank(filter_.settings["device"], communicator.neighbours))
        model, train = communicator.together(lambda: (filter_.model_config(), filter_.train_config()))
        bricks, parameters = filter_.settings["bricks"], filter_.settings["parameters"]
        layout = core.choose_layout(
            grid, bricks, look.value_bytes, model, look.components, parameters, devices, communicator
        )
        initial = communicator.from_root(filter_.read_initial)
        job = self.job = core.VolumeJob(
            grid, layout, look.name, look.components, look.dtype, model, train, parameters, initial, look.time
        )
        state = (*self.state, look.name, look.association, layout)
        arguments = dict(
            filter_.arguments(), survey=self.surveys.get(state), on_survey=lambda found: self._surveyed(state, found)
        )
        if all(communicator.everywhere(look.obeyed)):
            passes = core.volume_passes(job, communicator, devices, **arguments)
            return core.drive_passes(passes, lambda region: self._fetch(look, region))
        pieces = self._pieces(look)
        passes = core.volume_passes(job, communicator, devices, owners=pieces.owners(layout), **arguments)
        return core.drive_passes(passes, pieces.fetch)

    def _fetch(self, look: ArrayLook, region):
        """The values of a region, asked of the pipeline; what stands in their way as an exception. All ranks ask, always:
        the filters above may work together as well."""
        image = self.pull(self.frame.corner if region is None else self.frame.extent_of(region, look.association))
        return None if region is None else self._values(image, look, region)

    def _surveyed(self, state: tuple, survey):
        self.surveys.keep(state, survey)
        return self.communicator.from_root(lambda: self.filter.known_model(self.job, survey))

    def _agreed_look(self, image) -> ArrayLook:
        """The look of the first rank that has one: on some there may be nothing to see."""
        try:
            mine = self._look(image)
        except Exception as error:  # raised on all ranks when no rank has seen anything
            mine = error
        looks = self.communicator.everywhere(mine if isinstance(mine, ArrayLook) else None)
        seen = next((look for look in looks if look is not None), None)

        def failing():
            if seen is None:
                raise mine

        self.communicator.together(failing)
        return replace(seen, obeyed=isinstance(mine, ArrayLook) and mine.obeyed)

    def _look(self, image) -> ArrayLook:
        if not isinstance(image, vtkImageData):
            found = "nothing" if image is None else image.GetClassName()
            raise DataError(f"input: expected image data (vtkImageData), found {found}; other kinds come later")
        self.frame.check_not_empty()
        array, name, association = vtk_bridge.choose_array(image, *vtk_bridge.chosen_array(self.filter))
        components, dtype = array.GetNumberOfComponents(), vtk_bridge.numpy_type(array)
        if dtype.kind not in "iuf":
            raise DataError(f"array {name!r}: expected an integer or floating-point type, found {dtype}")
        return ArrayLook(
            name, association, components, dtype.name, components * dtype.itemsize, vtk_bridge.data_time(image),
            ImageFrame.of_image(image), _holds(image.GetExtent(), self.frame.corner),
        )  # fmt: skip

    def _values(self, image, look: ArrayLook, region):
        """The values of a region as a view of what has arrived; a DataError when they are not there."""
        try:
            arrived, piece = self._piece(image, look)
        except Exception as error:  # told to all ranks by who asked
            return error
        if any(a < b for a, b in zip(region.start, piece.start)) or any(a > b for a, b in zip(region.stop, piece.stop)):
            return DataError(
                f"input: expected the values {region.start} to {region.stop}, found {piece.start} to {piece.stop}"
            )
        cut = tuple(slice(a - f, b - f) for a, b, f in zip(region.start, region.stop, piece.start))[::-1]
        return arrived[cut]

    def _piece(self, image, look: ArrayLook) -> tuple:
        """(values of all that has arrived, its region of the whole); DataError when the array is not there."""
        if not isinstance(image, vtkImageData) or not image.GetNumberOfPoints():
            raise DataError("input: expected image data with values, found none")
        frame = ImageFrame.of_image(image)
        array, _, _ = vtk_bridge.choose_array(image, look.name, look.association)
        return vtk_bridge.read_values(array, frame.grid(look.association)), self.frame.region(
            frame.extent, look.association
        )

    def _pieces(self, look: ArrayLook) -> core.Pieces:
        """What the ranks have, each its piece."""
        image = self.pull(None)
        try:
            values, region = self._piece(image, look)
        except ApmgsrnError:  # a rank without data gives nothing
            shape = (0, 0, 0) if look.components == 1 else (0, 0, 0, look.components)
            values, region = np.empty(shape, look.dtype), Region((0, 0, 0), (0, 0, 0))
        return core.Pieces(values, region, self.communicator)


def _holds(extent: tuple, part: tuple) -> bool:
    """Whether an extent of points holds another."""
    return all(a <= b for a, b in zip(extent[::2], part[::2])) and all(a >= b for a, b in zip(extent[1::2], part[1::2]))
