"""In the client: a source that follows a view is told when the mouse moves the camera."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import ClassVar

from vtkmodules.vtkRenderingCore import vtkCamera

EARLY = 0.02  # seconds that a timer may fire before its time


class ViewFollower:
    """Tells a source when the mouse moves the camera of its view and when it is still, which links of properties do not.

    It knows view and source by their numbers, so that both can be deleted.

    Args:
        view, source: Proxies of the client.
        proxy: Gives the proxy with a global number; None when it is no longer there.
    """

    _of_source: ClassVar[dict[int, "ViewFollower"]] = {}

    def __init__(self, view, source, proxy: Callable[[int], object | None]):
        self._view, self._source, self._proxy = view.GetGlobalID(), source.GetGlobalID(), proxy
        self._of_source[self._source] = self
        self._moving, self._due = False, None
        self._pose, self._resetting = None, False
        self._observed = [(view.SMProxy.AddObserver("ResetCameraEvent", self.on_reset), self._view_proxy)]
        source.SMProxy.AddObserver("DeleteEvent", lambda *_: self.end())
        if view.SMProxy.MakeRenderWindowInteractor(True):  # pvbatch has none
            for event, act in (
                ("StartInteractionEvent", self.on_start), ("InteractionEvent", self.on_move),
                ("EndInteractionEvent", self.on_end), ("TimerEvent", self.on_timer),
            ):  # fmt: skip
                self._observed.append((self._interactor().AddObserver(event, act), self._interactor))

    @classmethod
    def of(cls, source) -> "ViewFollower | None":
        """That of a source, while there is one."""
        return cls._of_source.get(source.GetGlobalID())

    def end(self) -> None:
        """Follow no more."""
        for tag, subject in self._observed:
            if subject() is not None:
                subject().RemoveObserver(tag)
        self._observed = []
        self._of_source.pop(self._source, None)

    def _view_proxy(self):
        view = self._proxy(self._view)
        return view.SMProxy if view is not None else None

    def _interactor(self):
        view = self._view_proxy()
        return view.GetInteractor() if view is not None else None

    def on_reset(self, *_) -> None:
        """After a reset of the camera: one to all that is visible is meant for the whole volume. The links hear of it."""
        source, view = self._proxy(self._source), self._view_proxy()
        if self._resetting:
            return
        self._resetting = True
        if source.Detail == "Auto" and self._is_to_all(view):
            source.Detail = "Coarse"
            view.Update()
            view.ResetCamera()
            view.SynchronizeCameraProperties()
            source.Detail = "Auto"
        view.SynchronizeCameraProperties()
        self._resetting = False

    @staticmethod
    def _is_to_all(view) -> bool:
        """Whether a reset of the camera would look at the point that it looks at already."""
        before, camera = vtkCamera(), view.GetActiveCamera()
        before.DeepCopy(camera)
        view.Update()  # or the reset updates what it sees behind the back of the view's proxy, which then misses a change
        view.ResetCamera()
        same = math.dist(before.GetFocalPoint(), camera.GetFocalPoint()) < 1e-6 * camera.GetDistance()
        camera.DeepCopy(before)
        return same

    def on_start(self, *_) -> None:
        self._pose = _pose(self._view_proxy())

    def on_move(self, *_) -> None:
        source = self._proxy(self._source)
        self._due = None
        if not self._moving and source.Detail == "Auto":
            self._moving, source.Detail = True, "Coarse"
            self._view_proxy().Update()

    def on_end(self, interactor, _) -> None:
        if not self._moving and _pose(self._view_proxy()) != self._pose:  # the wheel has no move
            self.on_move()
        if self._moving:
            wait = self._proxy(self._source).SettleTime
            self._due = time.monotonic() + wait
            interactor.CreateOneShotTimer(max(int(1000 * wait), 1))

    def on_timer(self, *_) -> None:
        if self._due is not None and time.monotonic() >= self._due - EARLY:
            self._moving, self._due = False, None
            self._proxy(self._source).Detail = "Auto"
            self._view_proxy().StillRender()


def _pose(view) -> tuple:
    """Where the camera of a view is, and how much it sees."""
    camera = view.GetActiveCamera()
    places = camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp()
    return *places, camera.GetViewAngle(), camera.GetParallelScale()
