"""Asking the pipeline above for more than it has given: other extents, other time steps."""

from __future__ import annotations

from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from . import vtk_bridge
from .image_frame import ImageFrame


class InputPuller:
    """Updates the first input of an algorithm again and again, inside of one RequestData.

    Args:
        algorithm: Whose input it is.
        inputs: As RequestData was given them.

    Attributes:
        time: Of the time step that is asked for; None: the one that was asked for before.
    """

    def __init__(self, algorithm, inputs):
        self._inputs = inputs
        self._info, self._port = inputs[0].GetInformationObject(0), algorithm.GetInputConnection(0, 0).GetIndex()
        self._executive = algorithm.GetInputExecutive(0, 0)
        self.time: float | None = None

    def __call__(self, extent: tuple | None):
        """What the pipeline gives for an extent (None: for the piece that is this rank's); None when it fails."""
        if self.time is not None:
            self._info.Set(Pipeline.UPDATE_TIME_STEP(), self.time)
        if extent is None:
            vtk_bridge.request_piece(self._info, self.frame.extent)
        else:
            vtk_bridge.request(self._info, extent)
        return vtkDataObject.GetData(self._inputs[0], 0) if self._executive.Update(self._port) else None

    @property
    def frame(self) -> ImageFrame:
        """Where the whole input lies, as it is promised now."""
        return ImageFrame.of_information(self._info)

    @property
    def times(self) -> tuple:
        """The time steps that the input offers."""
        return tuple(self._info.Get(Pipeline.TIME_STEPS()) or ()) if self._info.Has(Pipeline.TIME_STEPS()) else ()

    @property
    def asked_time(self) -> float | None:
        """The time that the pipeline asks for; None: any."""
        return self._info.Get(Pipeline.UPDATE_TIME_STEP()) if self._info.Has(Pipeline.UPDATE_TIME_STEP()) else None

    def go_to(self, time: float | None) -> None:
        """Let the input be that of a time again, after others were asked for; the first one when it may be any."""
        times = self.times
        if times:
            self._info.Set(Pipeline.UPDATE_TIME_STEP(), times[0] if time is None else time)
            self.first_look()

    def first_look(self):
        """The corner of a lattice, or this rank's piece of a mesh, at the time that is asked for."""
        return self(self.frame.corner if self._info.Has(Pipeline.WHOLE_EXTENT()) else None)
