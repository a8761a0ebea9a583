"""What the filters that evaluate a model at places of their input have in common."""

from __future__ import annotations

from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm

from apmgsrn_core import list_devices

from . import vtk_bridge
from .agreed_input import AgreedInput
from .data_leaves import leaves_of
from .model_input import ModelArrays, ModelInput, TrustedFile, find_model
from .point_values import Stopped, Values, evaluate
from .proxy import Proxy, setting

DATA, MODEL = 0, 1  # input ports


class ModelFilter(AgreedInput, TrustedFile, ModelArrays, Proxy):
    """Two inputs: any data set or composite one, and perhaps an output of a neural volume that names the model.

    The model is that of FileName, otherwise of the port Model, otherwise of the input's own field data.
    """

    SetFileName = setting("file_name", "")
    SetDevice = setting("device", "auto")
    SetPrecision = setting("precision", "auto", ("auto", "full", "fast"))

    def __init__(self, outputs: int):
        super().__init__(inputs=2, outputs=outputs)
        self.settings["arrays"] = ()
        self.model = ModelInput()
        self._done = self._all = 0

    def GetDevices(self) -> list:
        return list_devices()

    # -- the pipeline ----------------------------------------------------------------------

    def FillInputPortInformation(self, port, info):
        if port == MODEL:
            info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
            info.Set(vtkAlgorithm.INPUT_IS_OPTIONAL(), 1)
            return 1
        info.Remove(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE())
        for kind in ("vtkDataSet", "vtkCompositeDataSet"):
            info.Append(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), kind)
        return 1

    def RequestDataObject(self, request, inputs, outputs) -> int:
        """The first output is of the input's own class."""
        vtk_bridge.provide_output(outputs, 0, vtkDataObject.GetData(inputs[DATA], 0))
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        """Of the model only the name of its file is wanted: what is there already, or as little as can be."""
        vtk_bridge.request_least(inputs[MODEL])
        self.agree_on_input(self.state_above(request, outputs), self._connected_ports(), outputs)
        return 1

    def _connected_ports(self) -> list:
        return [DATA, MODEL] if self.GetNumberOfInputConnections(MODEL) else [DATA]

    def state_above(self, request, outputs) -> tuple:
        """What changes on all ranks at once: the pipelines above, and the time that is asked for."""
        upstream = [self.GetInputExecutive(port, 0) for port in self._connected_ports()]
        above = tuple((executive.__this__, executive.GetPipelineMTime()) for executive in upstream)
        return above, vtk_bridge.requested_time(request, outputs)

    # -- the model -------------------------------------------------------------------------

    def model_path(self, inputs) -> str:
        """The model's file; "" when nothing names one. Raises ModelFileError."""
        data = vtkDataObject.GetData(inputs[DATA], 0)
        return find_model(self.settings["file_name"], self.connected_model(inputs), [data, *leaves_of(data)])

    def connected_model(self, inputs):
        """The data object at the port Model, or None."""
        return vtkDataObject.GetData(inputs[MODEL], 0) if inputs[MODEL].GetNumberOfInformationObjects() else None

    def open_volume(self, path: str):
        """The model, ready to be sampled. Raises what `ModelInput.volume` does."""
        settings = self.settings
        return self.model.volume(path, settings["device"], settings["precision"], settings["trust_file"])

    def fail(self, error: Exception) -> None:
        """What the user has stopped has not failed."""
        if isinstance(error, Stopped):
            self.status = "stopped by user"
        else:
            super().fail(error)

    # -- evaluation ------------------------------------------------------------------------

    def begin(self, text: str, places: int) -> None:
        """Show progress from nothing to all of so many places."""
        self.SetProgressText(text)
        self._done, self._all = 0, max(places, 1)

    def evaluate(self, positions, sample) -> Values:
        """`point_values.evaluate` with the progress of the filter."""
        return evaluate(positions, sample, self._on_part)

    def _on_part(self, count: int) -> bool:
        self._done += count
        self.UpdateProgress(min(self._done / self._all, 1.0))
        return not self.aborted()

    def aborted(self) -> bool:
        """Whether the user has stopped this run."""
        return bool(self.CheckAbort())
