"""The camera of a picture: from pixels to rays in the world, with the conventions of VTK's camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError
from ..region import triple

MOST_PIXELS = 1 << 28
FILL = 1.1  # of the picture's half height, over the radius of what is looked at


@dataclass(frozen=True)
class Camera:
    """A perspective or parallel camera.

    Args:
        position: Of the eye in the world.
        focal_point: What it looks at, in the middle of the picture.
        view_up: About upwards; not along the direction of view.
        view_angle: Vertical, in degrees, between 0 and 180.
        parallel_scale: Half of the picture's height in the world; None: perspective.
        size: Width and height in pixels.

    Raises:
        ConfigError: A number is missing, not finite or not allowed, or the directions do not make a camera.
    """

    position: tuple[float, float, float]
    focal_point: tuple[float, float, float]
    view_up: tuple[float, float, float] = (0.0, 1.0, 0.0)
    view_angle: float = 30.0
    parallel_scale: float | None = None
    size: tuple[int, int] = (512, 512)

    def __post_init__(self):
        for name in ("position", "focal_point", "view_up"):
            value = triple(f"Camera.{name}", getattr(self, name), float)
            if not np.isfinite(value).all():
                raise ConfigError(f"Camera.{name}: expected finite numbers, found {value}")
            object.__setattr__(self, name, value)
        if not (math.isfinite(self.view_angle) and 0 < self.view_angle < 180):
            raise ConfigError(f"Camera.view_angle: expected degrees between 0 and 180, found {self.view_angle}")
        scale = self.parallel_scale
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"Camera.parallel_scale: expected a positive number or None, found {scale}")
        self._check_size()
        along = np.array(self.focal_point) - np.array(self.position)
        if not np.linalg.norm(along) > 0:
            raise ConfigError(f"Camera.focal_point: expected another point than the position, found {self.focal_point}")
        across = np.cross(along, self.view_up)
        if np.linalg.norm(across) <= 1e-9 * np.linalg.norm(along) * np.linalg.norm(self.view_up):
            raise ConfigError(f"Camera.view_up: expected a direction across that of view, found {self.view_up}")

    def _check_size(self) -> None:
        try:
            width, height = (int(n) for n in self.size)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"Camera.size: expected width and height, found {self.size!r}") from error
        if min(width, height) < 1 or width * height > MOST_PIXELS:
            raise ConfigError(f"Camera.size: expected 1 to {MOST_PIXELS} pixels, found {self.size}")
        object.__setattr__(self, "size", (width, height))

    @classmethod
    def looking_at(
        cls, bounds: Sequence[float], azimuth: float = 30.0, elevation: float = 20.0, size=(512, 512), zoom: float = 1.0
    ) -> "Camera":
        """A perspective camera that sees all of a box.

        Args:
            bounds: (x min, x max, y min, y max, z min, z max) in the world.
            azimuth: Degrees around z: 0 looks from +y, 90 from +x.
            elevation: Degrees above the plane of x and y, -90 to 90.
            size: Width and height in pixels.
            zoom: Above 1 the box is larger than the picture.

        Raises:
            ConfigError: Not six finite numbers in order, or a zoom that is not positive.
        """
        box = np.asarray(tuple(bounds), dtype=np.float64)
        if box.shape != (6,) or not np.isfinite(box).all() or (box[::2] > box[1::2]).any():
            raise ConfigError(f"bounds: expected x min <= x max, ..., found {tuple(bounds)}")
        if not (math.isfinite(zoom) and zoom > 0):
            raise ConfigError(f"zoom: expected a positive number, found {zoom}")
        around, above = math.radians(azimuth), math.radians(elevation)
        away = np.array([math.sin(around) * math.cos(above), math.cos(around) * math.cos(above), math.sin(above)])
        steep = abs(math.cos(above)) < 1e-6
        up = (math.sin(around), math.cos(around), 0.0) if steep else (0.0, 0.0, 1.0)
        radius = float(np.linalg.norm(box[1::2] - box[::2])) / 2 or 1.0
        narrow = min(1.0, size[0] / size[1])
        half = math.atan(math.tan(math.radians(15.0)) * narrow)
        centre = (box[::2] + box[1::2]) / 2
        return cls(tuple(centre + away * radius / (math.sin(half) * zoom)), tuple(centre), up, 30.0, None, size)

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) unit vectors in the world, in rows: to the right, upwards and into the picture."""
        forward = np.array(self.focal_point) - np.array(self.position)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, self.view_up)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def pixel_count(self) -> int:
        """Pixels of the picture."""
        return self.size[0] * self.size[1]

    def rays(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rays through the middles of pixels.

        Args:
            pixels: (n,) flat numbers, row by row, the row at the bottom first.

        Returns:
            origins (n, 3): the eye, or in parallel projection a point of the plane through it; directions (n, 3) of unit
            length. float64, in the world.

        Raises:
            DataError: A number that is no pixel.
        """
        pixels = np.asarray(pixels, dtype=np.int64)
        if pixels.size and (pixels.min() < 0 or pixels.max() >= self.pixel_count):
            raise DataError(f"pixels: expected 0 to {self.pixel_count - 1}, found {pixels.min()} to {pixels.max()}")
        width, height = self.size
        row, column = np.divmod(pixels, width)
        across = (2 * column + 1 - width) / height
        above = (2 * row + 1 - height) / height
        right, up, forward = self.axes
        if self.parallel_scale is not None:
            offset = self.parallel_scale * (across[:, None] * right + above[:, None] * up)
            return np.array(self.position) + offset, np.broadcast_to(forward, (len(pixels), 3)).copy()
        slope = math.tan(math.radians(self.view_angle) / 2)
        directions = forward + slope * (across[:, None] * right + above[:, None] * up)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return np.broadcast_to(np.array(self.position), directions.shape).copy(), directions

    def depth_of(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> (n,) distance from the plane of the eye along the direction of view."""
        return (np.asarray(points_xyz, dtype=np.float64) - np.array(self.position)) @ self.axes[2]
