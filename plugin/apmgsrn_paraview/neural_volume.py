"""The source that opens a model file and fills whatever extent is asked for."""

from __future__ import annotations

import os

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkImageData

from apmgsrn_core import ApmgsrnError, ConfigError, ModelFileError, list_devices, read_header

from . import vtk_bridge
from .image_frame import ImageFrame
from .proxy import Proxy, setting


class NeuralVolume(Proxy):
    """`NeuralVolume` (in the menu) and `NeuralVolumeReader` (File > Open): a model file as image data.

    Ranks sample their own extents and never talk to each other.
    """

    SetFileName = setting("file_name", "")
    SetScale = setting("scale", 1.0)
    SetDimensions = setting("dimensions", (0, 0, 0))
    SetUseRegionOfInterest = setting("use_region_of_interest", False)
    SetRegionOfInterest = setting("region_of_interest", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0))
    SetOutputType = setting("output_type", "float32", ("float32", "original"))
    SetDevice = setting("device", "auto")
    SetPrecision = setting("precision", "auto", ("auto", "full", "fast"))

    def __init__(self):
        super().__init__(inputs=0, outputs=1)
        self.frame, self._header, self._volume = ImageFrame(), None, None
        self._header_stamp, self._volume_stamp = None, None

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkImageData")
        return 1

    def GetDevices(self) -> list:
        return list_devices()

    def GetModelInformation(self) -> str:
        """What is in the file, in one line."""
        if self._header is None:
            return ""
        array = self._header.arrays[0]
        dims = " x ".join(map(str, self._header.grid.dims))
        count = self._header.layout.count
        bricks = f" in {count} bricks" if count > 1 else ""
        return (
            f"{array.name}: {array.components} component(s) of {array.dtype} on the {array.association}s of"
            f" {dims} points{bricks}, range {array.range[0]:g} to {array.range[1]:g}, {self._header.byte_count} bytes"
        )

    def RequestInformation(self, request, inputs, outputs) -> int:
        """Announce extent, array and times from the header; a failure is told when data is asked for."""
        info = outputs.GetInformationObject(0)
        self.frame = ImageFrame()
        try:
            header = self._read_header()
            self.frame = self._frame(header.grid)
            array = header.arrays[0]
            vtk_bridge.promise_array(info, array.name, array.association, array.components, self._dtype(array))
            vtk_bridge.promise_times(info, header.times)
        except Exception:  # RequestData meets it again and tells it
            self._header = self._header_stamp = None
            vtk_bridge.promise_times(info, ())
        self.frame.promise(info)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        header = self._read_header()
        lattice = self._lattice(header.grid)
        self.frame = self._frame(header.grid)
        array = header.arrays[0]
        extent = vtk_bridge.requested_extent(outputs)
        image = vtkImageData.GetData(outputs, 0)
        self.frame.place(image, extent)
        region = self.frame.region(extent, array.association, first=(0, 0, 0))
        values = self._sample(region, lattice)
        if values is None:
            self.status = "stopped by user"
            return
        vtk_bridge.fill_array(image, values, array.name, array.association)
        vtk_bridge.tag_model(image, self._path())
        if header.times:
            image.GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), header.times[0])
        self.status = f"{region.count} values sampled"

    def leave_empty(self, outputs) -> None:
        self.frame.place(vtkImageData.GetData(outputs, 0), vtk_bridge.requested_extent(outputs))

    # -- the model -------------------------------------------------------------------------

    def _path(self) -> str:
        if not self.settings["file_name"]:
            raise ModelFileError("FileName: expected a model file (*.apmgsrn), found nothing")
        return os.path.abspath(os.path.expanduser(self.settings["file_name"]))

    def _stamp(self) -> tuple:
        """Changes whenever the file does."""
        path = self._path()
        try:
            state = os.stat(path)
        except OSError as error:
            raise ModelFileError(f"FileName {path!r}: expected a model file, found: {error.strerror}") from None
        return path, state.st_mtime_ns, state.st_size

    def _read_header(self):
        stamp = self._stamp()
        if stamp != self._header_stamp:
            self._header, self._header_stamp = read_header(stamp[0]), stamp
        return self._header

    def _open_volume(self):
        stamp = (*self._stamp(), self.settings["device"], self.settings["precision"])
        if stamp != self._volume_stamp:
            from apmgsrn_core import NeuralVolume as Volume

            self._volume, self._volume_stamp = Volume.open(stamp[0], *stamp[-2:]), stamp
        return self._volume

    def _sample(self, region, lattice):
        """The values of a region, or None when the user stopped it."""
        stopped = []

        def on_progress(fraction: float) -> bool:
            self.UpdateProgress(min(max(fraction, 0.0), 1.0))
            if self.CheckAbort():
                stopped.append(True)
            return not stopped

        volume = self._open_volume()
        if region.count == 0:
            array = volume.arrays[0]
            components = (array.components,) if array.components > 1 else ()
            return np.zeros(region.shape_zyx + components, dtype=self._dtype(array))
        self.SetProgressText("sampling the neural volume")
        try:
            kind = "original" if self._dtype(volume.arrays[0]) != "float32" else "float32"
            return volume.sample_region(region, grid=lattice, dtype=kind, on_progress=on_progress)
        except ApmgsrnError:
            if not stopped:
                raise
            return None

    # -- the lattice -----------------------------------------------------------------------

    def _dtype(self, array) -> str:
        """The numpy type of the output; VTK has no float16."""
        original = self.settings["output_type"] == "original" and array.dtype != "float16"
        return array.dtype if original else "float32"

    def _lattice(self, grid):
        """The points on which the model is sampled: the trained ones, by Scale or by Dimensions."""
        wanted = self.settings["dimensions"]
        if min(wanted) < 0:
            raise ConfigError(f"Dimensions: expected three numbers >= 0, found {wanted}")
        if not 0.1 <= self.settings["scale"] <= 16:
            raise ConfigError(f"Scale: expected a number from 0.1 to 16, found {self.settings['scale']:g}")
        scaled = grid.scaled(self.settings["scale"])
        if not any(wanted):
            return scaled
        return grid.with_dims([new or old for new, old in zip(wanted, scaled.dims)])

    def _frame(self, grid) -> ImageFrame:
        lattice = self._lattice(grid)
        if not self.settings["use_region_of_interest"]:
            return ImageFrame.of_grid(lattice)
        start, stop = lattice.index_range(self.settings["region_of_interest"])
        if lattice.association == "cell":  # a range of one point holds no cell
            stop = tuple(min(max(b, a + 2), n) for a, b, n in zip(start, stop, lattice.dims))
            start = tuple(max(min(a, b - 2), 0) for a, b in zip(start, stop))
        return ImageFrame.of_grid(lattice, start, stop)
