"""What scripts and macros of ParaView's client call: `import apmgsrn; apmgsrn.show(view, model)`, or `follow`.

The only module of the plugin that runs in the client and knows `paraview.simple`.
"""

from __future__ import annotations

import os

from apmgsrn_core import ConfigError
from apmgsrn_paraview.view_follower import ViewFollower

RENDERER = "RenderNeuralVolume"
CAMERA = (
    "CameraPosition", "CameraFocalPoint", "CameraViewUp", "CameraViewAngle", "CameraParallelProjection", "CameraParallelScale",
    "ViewSize",
)  # fmt: skip
LINK = "NeuralRendering"  # links are registered as LINK.number of the proxy.name of the property
SOURCES = ("NeuralVolume", "NeuralVolumeReader")
SOURCE, TARGET = 1, 2  # of a link: vtkSMLink::INPUT and OUTPUT
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
        ConfigError: No render view, nothing to render, or what is given cannot be rendered.
    """
    from paraview import simple

    view = _render_view(simple, view)
    renderer = _renderer(simple, simple.GetActiveSource() if model is None else model)
    array = _find_array(renderer)
    empty = _is_empty(view)
    simple.Hide(renderer.Input, view)
    _display(simple, renderer, array, view)
    if empty:
        _reset_camera(view)
    link(view, renderer)
    return renderer


def _render_view(simple, view):
    """The view, or the active one; raises ConfigError when it is no render view."""
    view = simple.GetActiveView() if view is None else view
    if view is None or view.GetXMLName() != "RenderView":
        raise ConfigError(f"view: expected a render view, found {view.GetXMLName() if view is not None else None}")
    return view


def _is_empty(view) -> bool:
    return not any(shown.Visibility for shown in view.Representations if hasattr(shown, "Input"))


def _reset_camera(view) -> None:
    """Look at everything, and let the view's properties say so at once: links take them."""
    view.ResetCamera()
    view.SMProxy.SynchronizeCameraProperties()


def _renderer(simple, model):
    """The filter for what is to be rendered; a new one unless it is one itself."""
    if isinstance(model, (str, os.PathLike)):
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
    return _texts(renderer, "Array")[0] or _texts(renderer, "ArrayNames")[0]


def _texts(renderer, name: str) -> list[str]:
    """What a property of texts says, as a list also when it is one text."""
    found = renderer.SMProxy.GetProperty(name)
    return [found.GetElement(number) for number in range(found.GetNumberOfElements())]


def _display(simple, renderer, array: str, view) -> None:
    """Show the filter's quads as they are, with the array's own transfer functions, grown to the array's range, behind them."""
    colours, opacities = simple.GetColorTransferFunction(array), simple.GetOpacityTransferFunction(array)
    low, high = map(float, _texts(renderer, "ArrayRange"))
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


def link(view, follower) -> None:
    """Let a Render Neural Volume or a Neural Volume know the camera and the size of one view. States keep the links.

    Args:
        view: A render view.
        follower: The filter or source.
    """
    from paraview import servermanager

    manager = servermanager.ProxyManager().SMProxyManager
    names = {name: f"{LINK}.{follower.GetGlobalIDAsString()}.{name}" for name in CAMERA}

    def end(*_) -> None:
        """Once one of the two is deleted: saving a state with a link to nothing ends the whole program (5.11)."""
        for registered in names.values():
            manager.UnRegisterLink(registered)

    unlink(follower)
    for name, registered in names.items():
        setattr(follower, name, getattr(view, name))
        found = servermanager.vtkSMPropertyLink()
        found.AddLinkedProperty(view.SMProxy, name, SOURCE)
        found.AddLinkedProperty(follower.SMProxy, name, TARGET)
        manager.RegisterLink(registered, found)
    for proxy in (view, follower):
        proxy.SMProxy.AddObserver("DeleteEvent", end)


def unlink(follower) -> None:
    """End what `link` has begun, also in a session that has loaded it from a state.

    Args:
        follower: The filter or source.
    """
    from paraview import servermanager

    manager = servermanager.ProxyManager().SMProxyManager
    for name in [manager.GetLinkName(number) for number in range(manager.GetNumberOfLinks())]:
        found = manager.GetRegisteredLink(name) if name.startswith(LINK + ".") else None
        if found is not None and any(
            found.GetLinkedProxy(number) is follower.SMProxy and found.GetLinkedObjectDirection(number) == TARGET
            for number in range(found.GetNumberOfLinkedObjects())
        ):
            manager.UnRegisterLink(name)


def follow(view=None, model=None):
    """Let a neural volume give a view what it sees: coarse while the mouse moves the camera, fine once that is still.

    Args:
        view: A render view; the active one when None.
        model: A Neural Volume, or the path of a model file; the active source when None. It is shown as a volume when it is
            a path, or when the view shows nothing.

    Returns:
        The source, whose properties (Budget, SettleTime, ...) may be changed.

    Raises:
        ConfigError: No render view, or no Neural Volume.
    """
    from paraview import simple

    view = _render_view(simple, view)
    source = simple.GetActiveSource() if model is None else model
    if opened := isinstance(source, (str, os.PathLike)):
        source = simple.NeuralVolume(registrationName=os.path.basename(source), FileName=os.path.abspath(source))
    if source is None or source.GetXMLName() not in SOURCES:
        raise ConfigError(f"model: expected a Neural Volume or a path, found {source and source.GetXMLName()}")
    unfollow(source)
    source.Detail, source.FollowView = "Coarse", 1
    if opened or _is_empty(view):
        _show_volume(simple, source, view)
    link(view, source)
    source.Detail = "Auto"
    ViewFollower(view, source, _proxy)
    return source


def unfollow(model=None) -> None:
    """Let a neural volume give all of itself again, at the resolution of its Scale, whatever a view shows.

    Args:
        model: The Neural Volume; the active source when None.

    Raises:
        ConfigError: No Neural Volume.
    """
    from paraview import simple

    source = simple.GetActiveSource() if model is None else model
    if source is None or source.GetXMLName() not in SOURCES:
        raise ConfigError(f"model: expected a Neural Volume, found {source and source.GetXMLName()}")
    unlink(source)
    if (follower := ViewFollower.of(source)) is not None:
        follower.end()
    source.FollowView, source.Detail = 0, "Auto"


def _proxy(number: int):
    """The proxy with a number, None when there is none any more."""
    from paraview import servermanager

    connection = servermanager.ActiveConnection
    found = connection.Session.GetRemoteObject(number) if connection else None
    return servermanager._getPyProxy(found) if found is not None else None


def _show_volume(simple, source, view) -> None:
    """Show a source, coarse so far, in colours; the camera of an empty view looks at it."""
    empty = _is_empty(view)
    source.UpdatePipeline()
    display = simple.Show(source, view)
    sides = (("POINTS", source.PointData), ("CELLS", source.CellData))
    known = [(side, array.GetName()) for side, arrays in sides for array in arrays if array.GetName() != "vtkGhostType"]
    if known:
        simple.ColorBy(display, known[0])
        display.SetRepresentationType("Volume")
    if empty:
        _reset_camera(view)
