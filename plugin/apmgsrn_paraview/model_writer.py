"""File > Save Data of a trained volume: a copy of the model file that the data names."""

from __future__ import annotations

import os

from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import ModelFileError, copy_model

from . import vtk_bridge
from .proxy import Proxy, setting


class ModelWriter(Proxy):
    """Writes `.apmgsrn` from any output that carries the field data `apmgsrn_model`; rank 0 only."""

    SetFileName = setting("file_name", "")

    def __init__(self):
        super().__init__(inputs=1, outputs=0)

    def FillInputPortInformation(self, port, info):
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
        return 1

    def Write(self) -> None:
        self.Modified()
        self.Update()

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        """Ask for the pieces that are there already, so that nothing upstream runs again."""
        info = inputs[0].GetInformationObject(0)
        rank, size = vtk_bridge.rank_and_size()
        whole = info.Get(Pipeline.WHOLE_EXTENT()) if info.Has(Pipeline.WHOLE_EXTENT()) else None
        vtk_bridge.request(info, whole, rank, size)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        if vtk_bridge.rank_and_size()[0] != 0:
            return
        source = vtk_bridge.model_of(vtkDataObject.GetData(inputs[0], 0))
        target = self.settings["file_name"]
        if not target:
            raise ModelFileError("FileName: expected the file to write, found nothing")
        target = os.path.abspath(os.path.expanduser(target))
        same = os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target)
        if not same:
            copy_model(source, target)
        self.status = f"written: {target}"

    def leave_empty(self, outputs) -> None:
        pass
