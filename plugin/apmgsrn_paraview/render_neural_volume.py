"""The filter that renders a model by marching rays through its network, as a mesh that fits into the view."""

from __future__ import annotations

import contextlib

from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkPolyData
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

import apmgsrn_core as core  # names that need torch are looked up when rays are marched
from apmgsrn_core import ApmgsrnError, Communicator, FieldError, ModelFileError, list_devices

from . import vtk_bridge
from .agreed_input import AgreedInput
from .billboard import fill_billboard
from .camera_properties import CameraProperties
from .model_input import UNKNOWN_BOUNDS, ModelInput, TrustedFile, chosen_arrays
from .picture_march import PictureMarch, Scene
from .point_values import Stopped
from .proxy import Proxy, selection, setting, weakly
from .transfer_functions import TransferFunctions

MODES = ("composite", "isosurface", "maximum", "average")
OPTIONS = core.RenderOptions()  # the defaults
IDLE = 0.05  # seconds of a look at whether there is a better picture
LIT = ("composite", "isosurface")  # modes in which shading means something


class RenderNeuralVolume(TransferFunctions, CameraProperties, AgreedInput, TrustedFile, Proxy):
    """`RenderNeuralVolume`: quads with the colours of a picture, at the depths of its rays, on the first rank.

    While a window looks at it (it polls `GetNeedsUpdate`) the picture comes in passes of bounded time, coarse ones first;
    a script gets the finished one at once. The ranks march their own bricks, see `apmgsrn_core.rendering.compositing`.
    """

    SetArray = setting("array", "")
    SetMode = setting("mode", OPTIONS.mode, MODES)
    AddIsoValue, ClearIsoValues = selection("iso_values")
    SetScalarOpacityUnitDistance = setting("unit_distance", 0.0)
    SetStep = setting("step", OPTIONS.step)
    SetPreintegrated = setting("preintegrated", OPTIONS.preintegrated)
    SetShading = setting("shading", OPTIONS.shading)
    SetAmbient = setting("ambient", OPTIONS.ambient)
    SetDiffuse = setting("diffuse", OPTIONS.diffuse)
    SetSpecular = setting("specular", OPTIONS.specular)
    SetSpecularPower = setting("specular_power", OPTIONS.specular_power)
    SetUseClipBox = setting("use_clip_box", False)
    SetClipBox = setting("clip_box", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0))
    SetUseClipPlane = setting("use_clip_plane", False)
    SetClipPlaneOrigin = setting("clip_plane_origin", (0.0, 0.0, 0.0))
    SetClipPlaneNormal = setting("clip_plane_normal", (1.0, 0.0, 0.0))
    SetOpacityLimit = setting("opacity_limit", OPTIONS.opacity_limit)
    SetSkip = setting("skip", OPTIONS.skip)
    SetRefinement = setting("refinement", "auto", ("auto", "at once", "in passes"))
    SetPassTime = setting("pass_time", 0.3)
    SetDevice = setting("device", "auto")
    SetPrecision = setting("precision", "auto", ("auto", "full", "fast"))

    def __init__(self):
        super().__init__(inputs=1, outputs=1)
        self.model, self._volume, self._time, self._polled = ModelInput(), None, None, False
        self._march = PictureMarch(Communicator(vtk_bridge.pipeline_communicator()))
        self._mesh = vtkPolyData()
        vtk_bridge.after_requests(self._look_again)

    # -- what the panel and scripts ask ----------------------------------------------------

    def GetDevices(self) -> list:
        return list_devices()

    def GetArrayNames(self) -> list:
        """Of the model, once it is known."""
        return self.model.array_names

    def GetArrayRange(self) -> list:
        """Smallest and largest value of the array that is rendered, as text; none before the model is known."""
        try:
            return [repr(float(value)) for value in self._rendered().range] if self._volume is not None else []
        except FieldError:  # told when it is rendered
            return []

    def GetModelBounds(self) -> tuple:
        """x min, x max, y min, ... in world coordinates, what the box and the plane begin with; known once the input is."""
        data = self.GetInputDataObject(0, 0) if self.GetNumberOfInputConnections(0) else None
        path = vtk_bridge.named_model(data) if data is not None else ""
        try:
            return self.model.header(path).grid.bounds if path else UNKNOWN_BOUNDS
        except ModelFileError:  # told when it is rendered
            return UNKNOWN_BOUNDS

    def GetNeedsUpdate(self) -> bool:
        """Asked by the window again and again, on the first rank: whether there is a better picture to come. It then renders."""
        self._polled = True
        if not self._march.finished:
            self.Modified()
            return True
        with contextlib.suppress(ApmgsrnError):  # told when the next picture is rendered
            self._march.use_idle_time(IDLE)
        return False

    def NextPass(self) -> None:
        """For scripts that refine in passes: the next update makes the next one."""
        if not self._march.finished:
            self.Modified()

    def _look_again(self) -> None:
        """The window asks the first rank alone; the others are modified when a request of the client ends."""
        if not self._march.finished:
            self.Modified()

    # -- the pipeline ----------------------------------------------------------------------

    def FillInputPortInformation(self, port, info):
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
        return 1

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkPolyData")
        return 1

    def RequestInformation(self, request, inputs, outputs) -> int:
        vtk_bridge.promise_unstructured(outputs.GetInformationObject(0))
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        vtk_bridge.request_least(inputs[0])
        self.agree_on_input(self._state_above(inputs, request, outputs), [0], outputs)
        return 1

    def _state_above(self, inputs, request, outputs) -> tuple:
        """What changes on all ranks at once: the pipeline above, and the time that is asked for."""
        upstream = self.GetInputExecutive(0, 0)
        time = _step_time(inputs[0].GetInformationObject(0), vtk_bridge.requested_time(request, outputs))
        return upstream.__this__, upstream.GetPipelineMTime(), time

    def produce(self, request, inputs, outputs) -> None:
        """Make the next pass, unless the picture is there; whether to do so is decided alike on all ranks."""
        data, above = vtkDataObject.GetData(inputs[0], 0), self._state_above(inputs, request, outputs)
        self.check_input(above)
        key, time = (self._settings_key(), self.function_key(), *above), above[-1]
        if not self._march.holds(key):
            self.SetProgressText("rendering the neural volume")
            in_passes = self.settings["refinement"] == "in passes" or (self.settings["refinement"] == "auto" and self._polled)
            try:
                seconds = self.settings["pass_time"]
                self._march.advance(key, lambda: self._scene(data, time), in_passes, seconds, weakly(self._on_progress))
            except Exception as error:
                error.shown = vtk_bridge.rank_and_size()[0] != 0  # rank 0 shows it for all
                raise
            self._fill_mesh()
        vtkPolyData.GetData(outputs, 0).ShallowCopy(self._mesh)

    def _settings_key(self) -> tuple:
        """Equal for settings with equal pictures: each render makes the view-up a unit vector again, and its last bits turn."""
        found = dict(self.settings)
        found["camera_view_up"] = tuple(round(part, 12) for part in found["camera_view_up"])
        if not found["camera_parallel_projection"]:
            found["camera_parallel_scale"] = None
        return tuple(found.values())

    def _fill_mesh(self) -> None:
        """The newest picture as a mesh; none on ranks above the first."""
        self._mesh = vtkPolyData()
        picture, number = self._march.picture, self._march.pass_number
        if picture is None:
            self.status = f"rendered its part on rank {vtk_bridge.rank_and_size()[0]}"
            return
        bounds = self._volume.grid.bounds
        seen = fill_billboard(self._mesh, picture, self.camera(bounds), bounds)
        passes = f", pass {number}" if not self._march.finished else f", in {number} passes" if number > 1 else ""
        self.status = f"{seen} of {picture.depth.size} pixels show something, {picture.samples} samples{passes}"
        self.status += "".join(f"; {warning}" for warning in self._volume.warnings)

    def leave_empty(self, outputs) -> None:
        vtkPolyData.GetData(outputs, 0).Initialize()

    def _on_progress(self, share: float) -> None:
        self.UpdateProgress(min(max(share, 0.0), 1.0))
        if self.GetAbortExecute():
            raise Stopped("stopped by user")

    def fail(self, error: Exception) -> None:
        """What the user has stopped has not failed."""
        if isinstance(error, Stopped):
            self.status = "stopped by user"
        else:
            super().fail(error)

    # -- the scene -------------------------------------------------------------------------

    def _scene(self, data, time: float | None) -> Scene:
        """What is to be rendered. Raises ApmgsrnError."""
        path = vtk_bridge.named_model(data)
        if not path:
            raise ModelFileError(
                f"Input: expected an output of Train Neural Volume or Neural Volume, with the field data"
                f" {vtk_bridge.MODEL_FIELD!r}, found {data.GetClassName()} without it"
            )
        settings = self.settings
        self._volume = self.model.volume(path, settings["device"], settings["precision"], settings["trust_file"])
        self._time = time
        grid, array = self._volume.grid, self._rendered()
        length = settings["unit_distance"] or core.usual_unit_distance(grid)
        function = self.transfer_function(*array.range, length)
        return Scene(self._volume, array.name, time, self.camera(grid.bounds), function, self._options(array))

    def _array(self):
        """The array that is rendered: the chosen one, or the model's first. Raises FieldError."""
        name = self.settings["array"]
        return chosen_arrays(self._volume.arrays, (name,) if name else ())[0]

    def _rendered(self):
        """What is rendered of it: of several components their magnitude, with the range of the time step. Raises FieldError."""
        return core.rendered_array(self._volume, self._array().name, self._time)

    def _options(self, array):
        """The core's options; what acts only in some modes is left at rest in the others. Raises ConfigError."""
        settings, mode = self.settings, self.settings["mode"]
        same = ("mode", "step", "ambient", "diffuse", "specular", "specular_power", "opacity_limit", "skip")
        return core.RenderOptions(
            **{name: settings[name] for name in same},
            iso_values=(settings["iso_values"] or (sum(array.range) / 2,)) if mode == "isosurface" else (),
            preintegrated=settings["preintegrated"] and mode == "composite",
            shading=settings["shading"] and mode in LIT,
            clip_box=settings["clip_box"] if settings["use_clip_box"] else None,
            clip_planes=((*settings["clip_plane_origin"], *settings["clip_plane_normal"]),) if settings["use_clip_plane"] else (),
        )


def _step_time(info, time: float | None) -> float | None:
    """The time step upstream that a time belongs to; None without steps: then no other time gives another picture."""
    steps = info.Get(Pipeline.TIME_STEPS()) if info.Has(Pipeline.TIME_STEPS()) else ()
    if time is None or not steps:
        return None
    return max((step for step in steps if step <= time), default=steps[0])
