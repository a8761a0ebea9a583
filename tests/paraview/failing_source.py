"""A source for the tests: an image whose request fails on one rank, as a reader's does that finds its piece damaged."""

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from apmgsrn_paraview.vtk_bridge import tag_model

EXTENT = (-8, 7, -5, 5, 2, 12)


class FailingSource(VTKPythonAlgorithmBase):
    """Gives what it is asked for; `Fails` is the rank whose request fails, -1: none. `Model` is named by its field data."""

    def __init__(self):
        super().__init__(nInputPorts=0, nOutputPorts=1, outputType="vtkImageData")
        self._fails, self._model = -1, ""

    def SetFails(self, rank):
        self._fails = rank
        self.Modified()

    def SetModel(self, path):
        self._model = path
        self.Modified()

    def RequestInformation(self, request, inputs, outputs):
        info = outputs.GetInformationObject(0)
        info.Set(Pipeline.WHOLE_EXTENT(), EXTENT, 6)
        info.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)
        return 1

    def RequestData(self, request, inputs, outputs):
        if vtkMultiProcessController.GetGlobalController().GetLocalProcessId() == self._fails:
            return 0
        image = vtkImageData.GetData(outputs, 0)
        image.SetExtent(outputs.GetInformationObject(0).Get(Pipeline.UPDATE_EXTENT()))
        values = numpy_to_vtk(np.arange(image.GetNumberOfPoints(), dtype=np.float32), deep=1)
        values.SetName("RTData")
        image.GetPointData().SetScalars(values)
        if self._model:
            tag_model(image, self._model)
        return 1
