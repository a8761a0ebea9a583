"""The camera of a proxy: the properties that a script links to those of a view."""

from __future__ import annotations

import apmgsrn_core as core
from apmgsrn_core import ConfigError

from .proxy import setting

NOWHERE = (0.0, 0.0, 0.0)


class CameraProperties:
    """Of a proxy with `settings`: the camera of a render view, with the view's names for its properties.

    While position and focal point are both left at the origin, the camera is one that sees all of the model.
    """

    SetCameraPosition = setting("camera_position", NOWHERE)
    SetCameraFocalPoint = setting("camera_focal_point", NOWHERE)
    SetCameraViewUp = setting("camera_view_up", (0.0, 1.0, 0.0))
    SetCameraViewAngle = setting("camera_view_angle", 30.0)
    SetCameraParallelProjection = setting("camera_parallel_projection", False)
    SetCameraParallelScale = setting("camera_parallel_scale", 1.0)
    SetViewSize = setting("view_size", (512, 512))
    SetImageScale = setting("image_scale", 1.0)

    def camera(self, bounds: tuple):
        """The `apmgsrn_core.Camera` that the properties describe; without any it looks at the bounds. Raises ConfigError."""
        settings, size = self.settings, self._size()
        position, focal_point = settings["camera_position"], settings["camera_focal_point"]
        if position == focal_point == NOWHERE:
            return core.Camera.looking_at(bounds, size=size)
        parallel = settings["camera_parallel_scale"] if settings["camera_parallel_projection"] else None
        return core.Camera(
            position, focal_point, settings["camera_view_up"], settings["camera_view_angle"], parallel, size
        )

    def _size(self) -> tuple:
        """Width and height of the picture: those of the view, less or more by ImageScale."""
        scale, size = self.settings["image_scale"], self.settings["view_size"]
        if not 0.05 <= scale <= 4:
            raise ConfigError(f"ImageScale: expected a number from 0.05 to 4, found {scale:g}")
        if min(size) < 1:
            raise ConfigError(f"ViewSize: expected two numbers of pixels >= 1, found {size}")
        return tuple(max(round(scale * pixels), 1) for pixels in size)
