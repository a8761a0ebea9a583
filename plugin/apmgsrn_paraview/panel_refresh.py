"""The panel of a proxy of this process shows its information anew: by itself it asks again after Apply only."""

from __future__ import annotations


def refresh_panel(algorithm) -> None:
    """Ask for the information properties of the proxy of an algorithm; nothing on a server, whose client knows the proxy."""
    from paraview.modules.vtkRemotingServerManager import vtkSMProxyIterator, vtkSMProxyManager

    session = vtkSMProxyManager.GetProxyManager().GetActiveSession()
    if session is None or not session.IsA("vtkSMSession"):
        return
    proxies = vtkSMProxyIterator()
    proxies.SetSession(session)
    proxies.SetModeToOneGroup()
    proxies.Begin("sources")
    while not proxies.IsAtEnd():
        if proxies.GetProxy().GetClientSideObject() is algorithm:
            proxies.GetProxy().UpdatePropertyInformation()
            return
        proxies.Next()
