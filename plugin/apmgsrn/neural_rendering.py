"""A model rendered straight from its network, in a view."""

from __future__ import annotations

import os

from apmgsrn_core import ConfigError, absolute_path, open_header

from .view_links import link
from .views import is_empty, render_view, reset_camera, texts

RENDERER = "RenderNeuralVolume"
PLAIN = {"MapScalars": 0, "Interpolation": "Flat", "Ambient": 1.0, "Diffuse": 0.0, "Specular": 0.0}  # colours as they are


def show(view=None, model=None):
    """Show the neural rendering of a model in a view; it follows the camera, the size, and the array's transfer functions.

    Args:
        view: A render view; the active one when None.
        model: A Neural Volume or Train Neural Volume, a Render Neural Volume that is there already, or the path of a model
            file; the active source when None.

    Returns:
        The filter Render Neural Volume, whose properties may be changed.

    Raises:
        ConfigError: No render view, nothing to render, or what is given cannot be rendered. ModelFileError: there is no such file,
            or it is no model.
    """
    from paraview import simple

    view = render_view(simple, view)
    renderer = _renderer(simple, simple.GetActiveSource() if model is None else model)
    array = _find_array(renderer)
    empty = is_empty(view)
    simple.Hide(renderer.Input, view)
    _display(simple, renderer, array, view)
    if empty:
        reset_camera(view)
    link(view, renderer)
    return renderer


def _renderer(simple, model):
    """The filter for what is to be rendered; a new one unless it is one itself."""
    if isinstance(model, (str, os.PathLike)):
        open_header(absolute_path(os.fspath(model)))  # what is wrong with it is told before anything is in the pipeline
        model = simple.NeuralVolume(registrationName=os.path.basename(model), FileName=os.path.abspath(model))
    if model is None:
        raise ConfigError("model: expected a Neural Volume, a Train Neural Volume or the path of a model file, found nothing")
    if model.GetXMLName() == RENDERER:
        return model
    renderer = getattr(simple, RENDERER)(registrationName="NeuralRendering", Input=model)
    if model.GetProperty("TrustFile") is not None:
        renderer.SetPropertyWithName("TrustFile", model.GetPropertyValue("TrustFile"))
    return renderer


def _find_array(renderer) -> str:
    """Let the filter open its model, at the cost of one ray; returns the array it renders. Raises ConfigError.

    It keeps the size of one ray, which also has the model's bounds, until it is linked.
    """
    size, renderer.ViewSize = list(renderer.ViewSize), [1, 1]
    renderer.UpdatePipeline()
    renderer.UpdatePropertyInformation()
    error = renderer.GetPropertyValue("LastError")
    if error:
        renderer.ViewSize = size
        raise ConfigError(f"model: expected one that can be rendered, found: {error}")
    return texts(renderer, "Array")[0] or texts(renderer, "ArrayNames")[0]


def _display(simple, renderer, array: str, view) -> None:
    """Show the filter's quads as they are, with the array's own transfer functions, grown to the array's range, behind them."""
    colours, opacities = simple.GetColorTransferFunction(array), simple.GetOpacityTransferFunction(array)
    low, high = map(float, texts(renderer, "ArrayRange"))
    if colours.ScalarRangeInitialized:
        low, high = min(low, colours.RGBPoints[0]), max(high, colours.RGBPoints[-4])
    colours.RescaleTransferFunction(low, high)
    opacities.RescaleTransferFunction(low, high)
    colours.AutomaticRescaleRangeMode = "Never"  # the window would rescale it to the bytes of the quads' colours
    renderer.LookupTable, renderer.ScalarOpacityFunction = colours, opacities
    display = simple.Show(renderer, view, "GeometryRepresentation")
    for name, value in PLAIN.items():
        setattr(display, name, value)
    display.ColorArrayName = ["POINTS", "rgba"]
    display.LookupTable = colours  # last: with it, setting MapScalars would rescale it
