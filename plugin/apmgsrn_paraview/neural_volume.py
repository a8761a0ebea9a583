"""The source that opens a model file and fills whatever extent is asked for, or a tree of cells."""

from __future__ import annotations

import math

from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkHyperTreeGrid, vtkImageData, vtkRectilinearGrid

import apmgsrn_core as core  # names that need torch are looked up when values are sampled
from apmgsrn_core import ConfigError, ModelFileError, list_devices

from . import vtk_bridge
from .derived_arrays import DerivedArrays
from .followed_view import FollowedView, values_of_point
from .hyper_tree import fill_hyper_tree_grid
from .image_frame import ImageFrame
from .installation import InstallationCheck
from .model_input import UNKNOWN_BOUNDS, ModelArrays, ModelInput, TrustedFile, chosen_arrays
from .point_sampler import DERIVED
from .point_values import Stopped
from .proxy import Proxy, setting
from .volume_output import VolumeOutput


class NeuralVolume(InstallationCheck, FollowedView, TrustedFile, ModelArrays, Proxy):
    """`NeuralVolume` (in the menu) and `NeuralVolumeReader` (File > Open): a model file as a lattice or a tree of cells.

    Ranks sample their own extents and never talk to each other; a tree is on rank 0. Of a followed view, see FollowedView,
    the lattice is the part that is seen.
    """

    SetFileName = setting("file_name", "")
    SetOutputKind = setting("output_kind", "lattice", ("lattice", "adaptive"))
    SetScale = setting("scale", 1.0)
    SetDimensions = setting("dimensions", (0, 0, 0))
    SetUseRegionOfInterest = setting("use_region_of_interest", False)
    SetRegionOfInterest = setting("region_of_interest", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0))
    SetCellBudget = setting("cell_budget", 100_000)
    SetOutputType = setting("output_type", "float32", ("float32", "original"))
    SetUseFillValue = setting("use_fill_value", False)
    SetFillValue = setting("fill_value", 0.0)
    SetInterpolateTime = setting("interpolate_time", False)
    SetComputeGradient = setting("compute_gradient", False)
    SetComputeDivergence = setting("compute_divergence", False)
    SetComputeVorticity = setting("compute_vorticity", False)
    SetComputeQCriterion = setting("compute_q_criterion", False)
    SetKeepErrorBound = setting("keep_error_bound", True)
    SetDevice = setting("device", "auto")
    SetPrecision = setting("precision", "auto", ("auto", "full", "fast"))

    def __init__(self):
        super().__init__(inputs=0, outputs=1)
        self.frame, self.model, self._header = ImageFrame(), ModelInput(), None
        self.settings["arrays"] = ()

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkDataObject")
        return 1

    def GetDevices(self) -> list:
        return list_devices()

    def GetModelInformation(self) -> str:
        """What is in the file, in a few lines."""
        if self._header is None:
            return ""
        dims = " x ".join(map(str, self._header.grid.dims))
        count, times = self._header.layout.count, len(self._header.times)
        bricks = f" in {count} bricks" if count > 1 else ""
        steps = f", {times} time steps" if times > 1 else ""
        arrays = "; ".join(
            f"{a.name}: {a.components} component(s) of {a.dtype} on the {a.association}s, range {a.range[0]:g} to {a.range[1]:g}"
            + (f" ({a.transform.kind})" if a.transform.kind != "identity" else "")
            + (f", within {bound:.4g} of the data" if bound else "")
            for a, bound in zip(self._header.arrays, map(max, zip(*self._header.bounds)))
        )
        return f"{arrays}; {dims} points{bricks}{steps}, {self._header.byte_count} bytes{self._foreign_information()}"

    def GetModelBounds(self) -> tuple:
        """x min, x max, y min, ... of the model in world coordinates, what RegionOfInterest begins with."""
        return UNKNOWN_BOUNDS if self._header is None else self._header.grid.bounds

    def _foreign_information(self) -> str:
        """What a foreign network is, and where its derivatives come from once it is open; "" of a model."""
        if not isinstance(self._header, core.NetworkDescription):
            return ""
        derivatives = f", derivatives by {self.model.derivatives}" if self.model.derivatives else ""
        return f"; foreign network ({self._header.source.kind}){derivatives}"

    def RequestDataObject(self, request, inputs, outputs) -> int:
        vtk_bridge.provide_output(outputs, 0, self._output_class()())
        return 1

    def _output_class(self) -> type:
        if self.settings["output_kind"] == "adaptive":
            return vtkHyperTreeGrid
        try:
            stretched = self._read_header().grid.axes is not None
        except Exception:  # RequestData meets it again and tells it
            stretched = False
        return vtkRectilinearGrid if stretched else vtkImageData

    def RequestInformation(self, request, inputs, outputs) -> int:
        """Announce extent, array and times from the header; a failure is told when data is asked for."""
        info = outputs.GetInformationObject(0)
        self.frame = ImageFrame()
        try:
            header = self._read_header()
            self.frame = self._frame(self.announce_part())
            array = chosen_arrays(header.arrays, self.settings["arrays"])[0]
            side = "cell" if self.settings["output_kind"] == "adaptive" else array.association
            vtk_bridge.promise_array(info, array.name, side, array.components, self._dtype(array))
            vtk_bridge.promise_times(info, header.times)
        except Exception:  # RequestData meets it again and tells it
            self._header = None
            vtk_bridge.promise_times(info, ())
        if self.settings["output_kind"] == "adaptive":
            vtk_bridge.promise_unstructured(info)
        else:
            self.frame.promise(info)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        self._read_header()
        settings = self.settings
        if settings["follow_view"] and settings["output_kind"] == "adaptive":
            raise ConfigError("FollowView: expected OutputKind Lattice, found Adaptive")
        volume = self.model.volume(
            self._path(), settings["device"], settings["precision"], settings["trust_file"], settings["keep_error_bound"]
        )
        output = vtkDataObject.GetData(outputs, 0)
        time = vtk_bridge.requested_time(request, outputs)
        fields = tuple(array.name for array in chosen_arrays(volume.arrays, self.settings["arrays"]))
        self.SetProgressText("sampling the neural volume")
        if isinstance(output, vtkHyperTreeGrid):
            self._fill_tree(output, volume, fields, time)
        else:
            self._fill_lattice(output, volume, fields, time, vtk_bridge.requested_extent(outputs))
        self.status += "".join(f"; {warning}" for warning in volume.warnings)
        if volume.times:
            output.GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), self._time_of_values(volume, time))
        vtk_bridge.tag_model(output, self._path())

    def _fill_lattice(self, image, volume, fields: tuple, time, extent: tuple) -> None:
        part, settings = self.part or self.announce_part(), self.settings
        self.frame = self._frame(part)
        between, original, fill = settings["interpolate_time"], settings["output_type"] == "original", self._fill_value()
        step = self._time_of_values(volume, time) if volume.times else None
        chosen = (settings[name] for name in ("keep_error_bound", *DERIVED))
        key = part.lattice, extent, fields, step, between, original, repr(fill), *chosen
        if self.from_cache(key, volume, image):
            self.status = f"{self.seen()}, kept from before"
            return
        derived = DerivedArrays(volume, settings, fields, time, self._on_progress)
        output = VolumeOutput(volume, part.lattice, self.frame, (0, 0, 0), fields, time, between, original, fill)
        sampled = output.fill_extent(image, extent, self._on_progress)
        derived.add_to(image)
        self.to_cache(key, image)
        self.status = f"{sampled} values sampled" + (f": {self.seen()}" if settings["follow_view"] else "")

    def _fill_tree(self, tree, volume, fields: tuple, time) -> None:
        """The same tree on every rank would be there several times."""
        if vtk_bridge.rank_and_size()[0] != 0:
            tree.Initialize()
            return
        budget, between = self.settings["cell_budget"], self.settings["interpolate_time"]
        lattice, derived = self._lattice(volume.grid), DerivedArrays(volume, self.settings, fields, time, self._on_progress)
        start, stop = self.lattice_range(lattice)
        lattice = lattice.part(start, [b - a for a, b in zip(start, stop)])
        found = core.refine(volume, fields[0], budget, fields, time, between, self._on_progress, lattice)
        kinds = {array.name: self._dtype(array) for array in volume.arrays if array.name in fields}
        fill_hyper_tree_grid(tree, derived.added_to_tree(found.finished(kinds, self._fill_value())))
        self.status = f"{len(found.leaves)} cells"

    def _fill_value(self) -> float:
        """What stands where there is no value."""
        return self.settings["fill_value"] if self.settings["use_fill_value"] else math.nan

    def _time_of_values(self, volume, time) -> float:
        """The time that the values belong to: of a step, or any between two of them."""
        step = volume.step_at(time)
        if time is not None and self.settings["interpolate_time"]:
            return min(max(time, volume.times[0]), volume.times[-1])
        return volume.times[step]

    def _on_progress(self, share: float) -> bool:
        self.UpdateProgress(min(max(share, 0.0), 1.0))
        if self.CheckAbort():
            raise Stopped("stopped by user")
        return True

    def fail(self, error: Exception) -> None:
        """What the user has stopped has not failed."""
        if isinstance(error, Stopped):
            self.status = "stopped by user"
        else:
            super().fail(error)

    def leave_empty(self, outputs) -> None:
        output = vtkDataObject.GetData(outputs, 0)
        if isinstance(output, vtkHyperTreeGrid):
            output.Initialize()
        else:
            self.frame.place(output, vtk_bridge.requested_extent(outputs))

    # -- the model -------------------------------------------------------------------------

    def _path(self) -> str:
        if not self.settings["file_name"]:
            raise ModelFileError("FileName: expected a model file (*.apmgsrn) or a *.network.json, found nothing")
        return core.absolute_path(self.settings["file_name"])

    def _read_header(self):
        self._header = self.model.header(self._path())
        return self._header

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

    def _frame(self, part) -> ImageFrame:
        return ImageFrame.of_grid(part.lattice, part.start, part.stop)

    def lattice_grid(self):
        return self._lattice(self._read_header().grid)

    def values_of_point(self) -> int:
        return values_of_point(chosen_arrays(self._read_header().arrays, self.settings["arrays"]), self.settings)

    def lattice_range(self, lattice) -> tuple[tuple, tuple]:
        if not self.settings["use_region_of_interest"]:
            return (0, 0, 0), lattice.dims
        start, stop = lattice.index_range(self.settings["region_of_interest"])
        if lattice.association == "cell":  # a range of one point holds no cell
            stop = tuple(min(max(b, a + 2), n) for a, b, n in zip(start, stop, lattice.dims))
            start = tuple(max(min(a, b - 2), 0) for a, b in zip(start, stop))
        return start, stop
