"""Sample a model with ParaView's own Programmable Source: no plugin is loaded, only `apmgsrn_core` is needed.

Output Data Set Type: vtkImageData. Paste this as both `Script (RequestInformation)` and `Script`; it finds out which of
the two it is. It fills exactly the extent that is asked for, at SCALE times the trained resolution. From pvpython:

    text = open(...).read()
    ProgrammableSource(OutputDataSetType="vtkImageData", ScriptRequestInformation=text, Script=text)
"""

import inspect
import os
import tempfile

from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import NeuralVolume, Region, read_header

MODEL_FILE = os.environ.get("APMGSRN_MODEL", os.path.join(tempfile.gettempdir(), "programmable.apmgsrn"))
SCALE = float(os.environ.get("APMGSRN_SCALE", "1"))

info = self.GetOutputInformation(0)  # noqa: F821  (given by the Programmable Source)
grid = read_header(MODEL_FILE).grid.scaled(SCALE)
if grid.association != "point":
    raise ValueError(f"{MODEL_FILE}: this example serves models of point data; the plugin's source serves cells too")
direction = [number for row in grid.direction for number in row]

if inspect.currentframe().f_code.co_name == "RequestInformation":  # ParaView wraps each script in a function
    whole = [edge for n in grid.dims for edge in (0, n - 1)]
    info.Set(Pipeline.WHOLE_EXTENT(), whole, 6)
    info.Set(vtkDataObject.ORIGIN(), grid.origin, 3)
    info.Set(vtkDataObject.SPACING(), grid.spacing, 3)
    info.Set(vtkDataObject.DIRECTION(), direction, 9)
    info.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)
else:  # fill the extent
    volume = NeuralVolume.open(MODEL_FILE)
    image, extent = self.GetOutputDataObject(0), info.Get(Pipeline.UPDATE_EXTENT())  # noqa: F821
    values = volume.sample_region(Region(extent[::2], tuple(n + 1 for n in extent[1::2])), grid=grid)
    image.SetExtent(extent)
    image.SetOrigin(grid.origin)
    image.SetSpacing(grid.spacing)
    image.SetDirectionMatrix(direction)
    array = numpy_to_vtk(values.reshape((-1,) + values.shape[3:]), deep=1)
    array.SetName(volume.arrays[0].name)
    image.GetPointData().SetScalars(array)
