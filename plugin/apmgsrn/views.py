"""Views and properties of the client."""

from __future__ import annotations

from apmgsrn_core import ConfigError


def render_view(simple, view):
    """The view, or the active one; raises ConfigError when it is no render view."""
    view = simple.GetActiveView() if view is None else view
    if view is None or view.GetXMLName() != "RenderView":
        raise ConfigError(f"view: expected a render view, found {view.GetXMLName() if view is not None else None}")
    return view


def is_empty(view) -> bool:
    return not any(shown.Visibility for shown in view.Representations if hasattr(shown, "Input"))


def reset_camera(view) -> None:
    """Look at everything, and let the view's properties say so at once: links take them."""
    view.ResetCamera()
    view.SMProxy.SynchronizeCameraProperties()


def texts(renderer, name: str) -> list[str]:
    """What a property of texts says, as a list also when it is one text."""
    found = renderer.SMProxy.GetProperty(name)
    return [found.GetElement(number) for number in range(found.GetNumberOfElements())]
