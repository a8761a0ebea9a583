"""Rays of a camera: properties, and the conventions of VTK."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apmgsrn_core import ConfigError, DataError
from apmgsrn_core.rendering.camera import Camera

SIZES = [(7, 9), (9, 7), (8, 8), (1, 1)]


def camera(size=(9, 7), **settings) -> Camera:
    return Camera((3.0, -4.0, 2.5), (0.5, 0.25, -1.0), (0.1, 0.2, 1.0), size=size, **settings)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [None, 2.5])
def test_a_point_on_a_ray_is_projected_back_to_its_pixel(size, scale):
    """The inverse by hand: through the axes of the camera and the picture's half height."""
    eye = camera(size, view_angle=50.0, parallel_scale=scale)
    pixels = np.arange(eye.pixel_count)
    origins, directions = eye.rays(pixels)
    points = origins + directions * np.linspace(1, 9, len(pixels))[:, None]
    right, up, forward = ((points - np.array(eye.position)) @ axis for axis in eye.axes)
    half = scale if scale else forward * math.tan(math.radians(25.0))
    width, height = size
    column, row = (right / half * height + width) / 2 - 0.5, (up / half * height + height) / 2 - 0.5
    assert np.allclose(column, pixels % width, atol=1e-9)
    assert np.allclose(row, pixels // width, atol=1e-9)  # row 0 is at the bottom
    assert np.allclose(eye.depth_of(points), forward)


@pytest.mark.parametrize("scale", [None, 2.5])
def test_directions_have_unit_length_and_axes_are_orthonormal(scale):
    eye = camera(parallel_scale=scale)
    assert np.allclose(np.linalg.norm(eye.rays(np.arange(63))[1], axis=1), 1)
    assert np.allclose(eye.axes @ eye.axes.T, np.eye(3))
    assert np.linalg.det(eye.axes) == pytest.approx(-1)  # right, up, into the picture: left-handed, as on the screen
    assert eye.axes[1] @ np.array(eye.view_up) > 0


def test_the_middle_of_an_odd_picture_looks_at_the_focal_point():
    eye = camera((9, 7))
    origin, direction = eye.rays(np.array([31]))
    away = np.array(eye.focal_point) - origin[0]
    assert np.allclose(direction[0], away / np.linalg.norm(away))


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (30, 20), (200, -75), (90, 90), (45, -90)])
@pytest.mark.parametrize("size", SIZES[:3])
def test_a_box_that_is_looked_at_is_inside_of_the_picture(azimuth, elevation, size):
    bounds = (-1.0, 3.0, 2.0, 2.5, 0.0, 7.0)
    eye = Camera.looking_at(bounds, azimuth, elevation, size)
    corners = np.stack(np.meshgrid(*np.reshape(bounds, (3, 2))), axis=-1).reshape(-1, 3)
    right, up, forward = ((corners - np.array(eye.position)) @ axis for axis in eye.axes)
    half = np.tan(math.radians(eye.view_angle) / 2)
    assert (forward > 0).all()
    assert (np.abs(up) <= forward * half).all()
    assert (np.abs(right) <= forward * half * size[0] / size[1]).all()


def test_it_looks_from_where_the_angles_say():
    assert np.argmax(Camera.looking_at((0, 1, 0, 1, 0, 1), 0, 0).position) == 1
    assert np.argmax(Camera.looking_at((0, 1, 0, 1, 0, 1), 90, 0).position) == 0
    assert np.argmax(Camera.looking_at((0, 1, 0, 1, 0, 1), 0, 80).position) == 2


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"view_angle": 0}, "view_angle"), ({"view_angle": 180}, "view_angle"), ({"parallel_scale": -1}, "parallel_scale"),
        ({"size": (0, 4)}, "size"), ({"size": 4}, "size"), ({"size": (1 << 20, 1 << 20)}, "size"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        camera(**settings)


def test_directions_that_make_no_camera_are_named():
    with pytest.raises(ConfigError, match="focal_point"):
        Camera((1, 1, 1), (1, 1, 1))
    with pytest.raises(ConfigError, match="view_up"):
        Camera((0, 0, 0), (0, 1, 0), (0, -2, 0))
    with pytest.raises(ConfigError, match="position"):
        Camera((math.nan, 0, 0), (0, 1, 0))
    with pytest.raises(ConfigError, match="bounds"):
        Camera.looking_at((1, 0, 0, 1, 0, 1))


@pytest.mark.parametrize("pixels", [[-1], [63]])
def test_a_number_that_is_no_pixel_is_named(pixels):
    with pytest.raises(DataError, match="0 to 62"):
        camera().rays(np.array(pixels))
