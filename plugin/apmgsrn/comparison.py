"""Data and a neural volume of it, side by side."""

from __future__ import annotations

import os

from apmgsrn_core import ConfigError

from .compression import SIDES
from .views import is_empty, reset_camera

MODELS = ("TrainNeuralVolume", "NeuralVolume", "NeuralVolumeReader")
RECONSTRUCTION, ERROR = "_reconstruction", "_error"
DIVERGING, WIDE = "Cool to Warm", 4.0
CAMERA = (
    "CameraPosition", "CameraFocalPoint", "CameraViewUp", "CameraViewAngle", "CameraParallelProjection", "CameraParallelScale",
)  # fmt: skip


def compare(original=None, model=None, array: str = ""):
    """Show data, what its neural volume gives back, and the difference, in three views with one camera.

    Args:
        original: The data; None: what the model was trained on, or the only other source that there is.
        model: A Train Neural Volume, a Neural Volume, or the path of a model file; the active source when None.
        array: Which of several; "": the first.

    Returns:
        The filter Compare Neural Volume, whose second output has the figures (PSNR, SSIM, largest error).

    Raises:
        ConfigError: There is nothing to compare, or it cannot be compared.
    """
    from paraview import simple

    model = simple.GetActiveSource() if model is None else model
    if model is None or not (isinstance(model, (str, os.PathLike)) or model.GetXMLName() in MODELS):
        raise ConfigError(f"model: expected a Train Neural Volume, a Neural Volume or a path, found {model and model.GetXMLName()}")
    comparison = _comparison(simple, _original_of(simple, model) if original is None else original, model)
    try:
        side, name, limit = _compared(comparison, array)
    except ConfigError:
        simple.Delete(comparison)
        raise
    before, views = simple.GetActiveView(), _three_views(simple)
    for view, part in zip(views, ("", RECONSTRUCTION, ERROR)):
        _show(simple, comparison, view, (side, name), part, limit)
    _look(views[0], before)
    for view in views[1:]:
        simple.AddCameraLink(views[0], view, f"Comparison.{comparison.GetGlobalIDAsString()}.{view.GetGlobalIDAsString()}")
    simple.SetActiveView(views[0])
    simple.SetActiveSource(comparison)
    return comparison


def _original_of(simple, model):
    """The data that a model is of."""
    if not isinstance(model, (str, os.PathLike)) and model.GetXMLName() == "TrainNeuralVolume":
        return model.Input
    others = [s for s in simple.GetSources().values() if s.GetProperty("Input") is None and s.GetXMLName() not in MODELS]
    if len(others) != 1:
        names = ", ".join(name for (name, _), s in simple.GetSources().items() if s in others) or "none"
        raise ConfigError(f"original: expected the data, or just one source beside the model, found {names}")
    return others[0]


def _comparison(simple, original, model):
    """The filter, evaluated; raises ConfigError when it failed."""
    path = os.path.abspath(model) if isinstance(model, (str, os.PathLike)) else ""
    comparison = simple.CompareNeuralVolume(registrationName="Comparison", Input=original, FileName=path)
    if not path:
        comparison.Model = model
    comparison.UpdatePipeline()
    comparison.UpdatePropertyInformation()
    if error := comparison.GetPropertyValue("LastError"):
        simple.Delete(comparison)
        raise ConfigError(f"the comparison failed: {error}")
    return comparison


def _compared(comparison, array: str) -> tuple[str, str, float]:
    """POINTS or CELLS and the name of the array, and the error that has the last colour: WIDE times the root mean square."""
    known = {
        found.GetName().removesuffix(RECONSTRUCTION): side
        for side, arrays in zip(SIDES, (comparison.PointData, comparison.CellData))
        for found in arrays
        if found.GetName().endswith(RECONSTRUCTION)
    }
    name = array or next(iter(known), "")
    if name not in known:
        raise ConfigError(f"array: expected {array or 'one'} that was compared, found {', '.join(known) or 'none'}")
    from paraview import servermanager

    table = servermanager.Fetch(comparison, idx=1)
    of_array = [row for row in range(table.GetNumberOfRows()) if table.GetColumnByName("array").GetValue(row) == name]
    return known[name], name, WIDE * table.GetColumnByName("rmse").GetValue(of_array[0]) or 1.0


def _three_views(simple) -> list:
    """Render views side by side in a layout of their own."""
    layout = simple.CreateLayout("Original, neural volume, difference")
    views = [simple.CreateView("RenderView") for _ in range(3)]
    layout.SplitHorizontal(0, 1 / 3)
    layout.SplitHorizontal(2, 1 / 2)
    for view, cell in zip(views, (1, 5, 6)):
        layout.AssignView(cell, view)
    return views


def _look(view, before) -> None:
    """As another render view that shows something does, else at everything."""
    if before is None or before.GetXMLName() != "RenderView" or is_empty(before):
        reset_camera(view)
        return
    before.SMProxy.SynchronizeCameraProperties()
    for name in CAMERA:
        view.SetPropertyWithName(name, before.GetPropertyValue(name))


def _show(simple, comparison, view, array: tuple[str, str], part: str, limit: float) -> None:
    """One of the three: the array itself, its reconstruction in the same colours, or the error in diverging ones."""
    side, name = array
    display = simple.Show(comparison, view)
    simple.ColorBy(display, (side, name + part))
    if comparison.GetDataInformation().GetDataSetTypeAsString() == "vtkImageData":
        display.SetRepresentationType("Volume")
    if part == ERROR:
        colours, opacities = simple.GetColorTransferFunction(name + part), simple.GetOpacityTransferFunction(name + part)
        colours.ApplyPreset(DIVERGING, True)
        colours.RescaleTransferFunction(-limit, limit)
        opacities.Points = [-limit, 1.0, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0, limit, 1.0, 0.5, 0.0]
        colours.AutomaticRescaleRangeMode = "Never"
    else:
        colours, opacities = simple.GetColorTransferFunction(name), simple.GetOpacityTransferFunction(name)
    display.LookupTable, display.ScalarOpacityFunction = colours, opacities
    display.SetScalarBarVisibility(view, True)
    bar = simple.GetScalarBar(colours, view)
    bar.HorizontalTitle, bar.TitleFontSize, bar.LabelFontSize, bar.ScalarBarLength = 1, 12, 10, 0.25
    bar.Title = name + {"": "", RECONSTRUCTION: ", reconstructed", ERROR: ", error"}[part]
