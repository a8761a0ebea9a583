"""Between VTK and the core: requests, the chosen array, tables and boxes.

Where a lattice lies is in `image_frame.py`, arrays as numpy has them in `vtk_arrays.py`, marks in `ghost_marks.py`.
"""

from __future__ import annotations

import weakref

import numpy as np
from vtkmodules.util.numpy_support import get_vtk_array_type, numpy_to_vtk
from vtkmodules.vtkCommonCore import VTK_DOUBLE, VTK_ID_TYPE, vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkDataObject, vtkDataSetAttributes
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from apmgsrn_core import FieldError, ModelFileError

from .ghost_marks import GHOSTS
from .image_frame import EMPTY_EXTENT, ImageFrame

MODEL_FIELD = "apmgsrn_model"
QUADS_OF_A_BOX = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (2, 3, 7, 6), (1, 2, 6, 5), (0, 4, 7, 3))
NAMELESS = "values"  # what an array without a name is called
CODES = {"point": vtkDataObject.FIELD_ASSOCIATION_POINTS, "cell": vtkDataObject.FIELD_ASSOCIATION_CELLS}


# -- outputs -------------------------------------------------------------------------------


def provide_output(outputs, port: int, like) -> None:
    """Make a port's data object one of the class of `like`; one that is there already stays.

    By the name of VTK's class: from VTK 9.5 on Python sees some as a subclass (`vtkmodules.util.data_model`).
    """
    found = vtkDataObject.GetData(outputs, port)
    if found is None or found.GetClassName() != like.GetClassName():
        outputs.GetInformationObject(port).Set(vtkDataObject.DATA_OBJECT(), like.NewInstance())


# -- the session ---------------------------------------------------------------------------


def after_requests(method) -> None:
    """Have a method called on every rank of a parallel server when a request of the client ends, as long as its object lives."""
    if rank_and_size()[1] < 2:
        return
    from paraview.modules.vtkRemotingCore import vtkProcessModule

    module, kept = vtkProcessModule.GetProcessModule(), weakref.WeakMethod(method)
    session = module.GetActiveSession() or module.GetSession()

    def end(_, __):
        if (call := kept()) is not None:
            call()

    session.GetProgressHandler().AddObserver("EndEvent", end)


# -- requests ------------------------------------------------------------------------------


def requested_extent(outputs, port: int = 0) -> tuple:
    info = outputs.GetInformationObject(port)
    return tuple(info.Get(Pipeline.UPDATE_EXTENT())) if info.Has(Pipeline.UPDATE_EXTENT()) else EMPTY_EXTENT


def requested_time(request, outputs):
    """The time that the asking port wants, or None."""
    info = outputs.GetInformationObject(max(request.Get(Pipeline.FROM_OUTPUT_PORT()), 0))
    return info.Get(Pipeline.UPDATE_TIME_STEP()) if info.Has(Pipeline.UPDATE_TIME_STEP()) else None


def request(info, extent=None, piece: int = 0, pieces: int = 1) -> None:
    """Ask upstream for a piece of an extent; piece 0 of 1 is what makes it exactly that extent."""
    info.Set(Pipeline.UPDATE_PIECE_NUMBER(), piece)
    info.Set(Pipeline.UPDATE_NUMBER_OF_PIECES(), pieces)
    info.Set(Pipeline.UPDATE_NUMBER_OF_GHOST_LEVELS(), 0)
    if extent is not None and info.Has(Pipeline.WHOLE_EXTENT()):
        info.Set(Pipeline.UPDATE_EXTENT(), extent, 6)


def request_piece(info, whole: tuple) -> None:
    """Ask upstream for the piece of the whole that it would give this rank."""
    rank, size = rank_and_size()
    request(info, whole, rank, size)


def request_least(inputs) -> None:
    """Ask a port for its model alone: for what is there already when that names one, otherwise for as little as can be."""
    info, data = inputs.GetInformationObject(0), vtkDataObject.GetData(inputs, 0)
    if info is None:
        return
    frame = ImageFrame.of_information(info)
    if not info.Has(Pipeline.WHOLE_EXTENT()):
        request_piece(info, frame.extent)
        return
    there = tuple(data.GetExtent()) if named_model(data) and hasattr(data, "GetExtent") else ()
    inside = there and all(a <= b <= c <= d for a, b, c, d in zip(frame.extent[::2], there[::2], there[1::2], frame.extent[1::2]))
    request(info, there if inside else frame.corner)


def promise_unstructured(info) -> None:
    """Of a table or mesh port: no extent, and pieces are handled (else ranks above 0 are not run)."""
    for key in (Pipeline.WHOLE_EXTENT(), vtkDataObject.ORIGIN(), vtkDataObject.SPACING(), vtkDataObject.DIRECTION()):
        info.Remove(key)
    info.Set(vtkAlgorithm.CAN_HANDLE_PIECE_REQUEST(), 1)


def promise_array(info, name: str, association: str, components: int, dtype: str) -> None:
    """Tell filters downstream of an array that is still to come."""
    code, kind = CODES[association], get_vtk_array_type(np.dtype(dtype))
    if association == "point":
        vtkDataObject.SetPointDataActiveScalarInfo(info, kind, components)
    vtkDataObject.SetActiveAttribute(info, code, name, vtkDataSetAttributes.SCALARS)
    vtkDataObject.SetActiveAttributeInfo(info, code, vtkDataSetAttributes.SCALARS, name, kind, components, -1)


def promise_times(info, times) -> None:
    for key in (Pipeline.TIME_STEPS(), Pipeline.TIME_RANGE()):
        info.Remove(key)
    for time in times:
        info.Append(Pipeline.TIME_STEPS(), time)
    for time in (times[0], times[-1]) if times else ():
        info.Append(Pipeline.TIME_RANGE(), time)


def data_time(data):
    """The time that a data set says it belongs to, or None."""
    info = data.GetInformation()
    return info.Get(vtkDataObject.DATA_TIME_STEP()) if info.Has(vtkDataObject.DATA_TIME_STEP()) else None


def rank_and_size() -> tuple:
    """This process among those that run this pipeline."""
    controller = vtkMultiProcessController.GetGlobalController()
    return (controller.GetLocalProcessId(), controller.GetNumberOfProcesses()) if controller is not None else (0, 1)


def pipeline_communicator():
    """The mpi4py communicator of the ranks that run this pipeline; None in a single process."""
    controller = vtkMultiProcessController.GetGlobalController()
    communicator = controller.GetCommunicator() if controller is not None else None
    if communicator is None or not communicator.IsA("vtkMPICommunicator") or rank_and_size()[1] < 2:
        return None
    from vtkmodules.vtkParallelMPI4Py import vtkMPI4PyCommunicator

    return vtkMPI4PyCommunicator.ConvertToPython(communicator)


# -- arrays --------------------------------------------------------------------------------


def chosen_array(algorithm) -> tuple:
    """(name, association) that SetInputArrayToProcess was given; None for what was not."""
    info = algorithm.GetInputArrayInformation(0)
    name = info.Get(vtkDataObject.FIELD_NAME()) if info.Has(vtkDataObject.FIELD_NAME()) else None
    code = info.Get(vtkDataObject.FIELD_ASSOCIATION()) if info.Has(vtkDataObject.FIELD_ASSOCIATION()) else None
    return name, next((side for side, number in CODES.items() if name and number == code), None)


def choose_array(image, name: str | None, association: str | None) -> tuple:
    """Find the array to train on.

    Args:
        image: Any data set.
        name: Its name; None or "" takes the active scalars, otherwise the first numeric array.
        association: "point", "cell", or None for either.

    Returns:
        (vtkDataArray, its name, "point" or "cell").

    Raises:
        FieldError: No such array; the message lists those there are.
    """
    sides = {"point": image.GetPointData(), "cell": image.GetCellData()}
    for side in (association,) if association else sides:
        array = _find_array(sides[side], name)
        if array is not None:
            return array, array.GetName() or NAMELESS, side
    listed = "; ".join(
        f"{side} arrays: " + (", ".join(d.GetArrayName(i) or NAMELESS for i in range(d.GetNumberOfArrays())) or "none")
        for side, d in sides.items()
    )
    wanted = f"the {association or 'point or cell'} array {name!r}" if name else "a numeric array"
    raise FieldError(f"TargetArray: expected {wanted}, found {listed}")


def _find_array(side, name: str | None):
    """The numeric array with this name, of an unnamed one NAMELESS; without a name the active or first one; or None."""
    arrays = [side.GetArray(number) for number in range(side.GetNumberOfArrays())]
    arrays = [array for array in arrays if array is not None and array.GetName() != GHOSTS]
    if name:
        return next((array for array in arrays if (array.GetName() or NAMELESS) == name), None)
    return side.GetScalars() or next(iter(arrays), None)


def fill_table(table, columns: dict, with_rows: bool) -> None:
    """Columns of equal length; without rows on all ranks but one, as ParaView concatenates them."""
    table.Initialize()
    for name, values in columns.items():
        array = numpy_to_vtk(np.asarray(values)[: None if with_rows else 0], deep=1)
        array.SetName(name)
        table.AddColumn(array)


def fill_boxes(mesh, boxes) -> None:
    """Draw feature grids as six quads each, with id, volume and norm as cell data."""
    mesh.Initialize()
    corners = np.array([box.corners for box in boxes], dtype=np.float64).reshape(-1, 3)
    points = vtkPoints()
    points.SetDataType(VTK_DOUBLE)
    points.SetData(numpy_to_vtk(corners, deep=1))
    quads = np.array(QUADS_OF_A_BOX) + 8 * np.arange(len(boxes))[:, None, None]
    cells = vtkCellArray()
    offsets = np.arange(0, 4 * 6 * len(boxes) + 1, 4, dtype=np.int64)
    cells.SetData(_ids(offsets), _ids(quads.ravel()))
    mesh.SetPoints(points)
    mesh.SetPolys(cells)
    for name, kind in (("id", np.int64), ("volume", np.float64), ("norm", np.float64)):
        array = numpy_to_vtk(np.repeat(np.array([getattr(box, name) for box in boxes], dtype=kind), 6), deep=1)
        array.SetName("feature_norm" if name == "norm" else name)
        mesh.GetCellData().AddArray(array)


def _ids(numbers: np.ndarray):
    return numpy_to_vtk(numbers.astype(np.int64), deep=1, array_type=VTK_ID_TYPE)


# -- the model's file travels as field data ---------------------------------------------------


def tag_model(data, path: str) -> None:
    """Say in the field data of an output which model file it comes from."""
    array = vtkStringArray()
    array.SetName(MODEL_FIELD)
    array.InsertNextValue(path)
    data.GetFieldData().AddArray(array)


def named_model(data) -> str:
    """The model file in the field data of a data object; "" when there is none."""
    fields = data.GetFieldData() if data is not None else None
    array = fields.GetAbstractArray(MODEL_FIELD) if fields is not None else None
    return array.GetValue(0) if array is not None and array.GetNumberOfValues() else ""


def model_of(data) -> str:
    """The model file that an output comes from; ModelFileError when it names none."""
    path = named_model(data)
    if not path:
        raise ModelFileError(
            f"no model to save: expected field data {MODEL_FIELD!r} on the input, found none"
            " (only outputs of Train Neural Volume and Neural Volume have one)"
        )
    return path
