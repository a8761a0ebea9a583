"""A neural volume that decodes what a view sees."""

from __future__ import annotations

import os

from apmgsrn_core import ConfigError

from .view_follower import ViewFollower
from .view_links import link, unlink
from .views import is_empty, render_view, reset_camera

SOURCES = ("NeuralVolume", "NeuralVolumeReader")


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

    view = render_view(simple, view)
    source = simple.GetActiveSource() if model is None else model
    if opened := isinstance(source, (str, os.PathLike)):
        source = simple.NeuralVolume(registrationName=os.path.basename(source), FileName=os.path.abspath(source))
    if source is None or source.GetXMLName() not in SOURCES:
        raise ConfigError(f"model: expected a Neural Volume or a path, found {source and source.GetXMLName()}")
    unfollow(source)
    source.Detail, source.FollowView = "Coarse", 1
    if opened or is_empty(view):
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
    empty = is_empty(view)
    source.UpdatePipeline()
    display = simple.Show(source, view)
    sides = (("POINTS", source.PointData), ("CELLS", source.CellData))
    known = [(side, array.GetName()) for side, arrays in sides for array in arrays if array.GetName() != "vtkGhostType"]
    if known:
        simple.ColorBy(display, known[0])
        display.SetRepresentationType("Volume")
    if empty:
        reset_camera(view)
