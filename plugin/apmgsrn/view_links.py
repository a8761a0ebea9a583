"""Links of properties, by which a filter or source knows the camera and the size of a view."""

from __future__ import annotations

CAMERA = (
    "CameraPosition", "CameraFocalPoint", "CameraViewUp", "CameraViewAngle", "CameraParallelProjection", "CameraParallelScale",
    "ViewSize",
)  # fmt: skip
LINK = "NeuralRendering"  # links are registered as LINK.number of the proxy.name of the property
SOURCE, TARGET = 1, 2  # of a link: vtkSMLink::INPUT and OUTPUT


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
