"""Pictures of volumes: against a readable march of one ray at a time, against formulas, and against each other."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from volumes import trained_wave

from apmgsrn_core import ApmgsrnError, ConfigError, DataError, FieldError, Grid
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.rendering.compositing import composite
from apmgsrn_core.rendering.macrocells import Macrocells
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.rendering.render_options import RenderOptions
from apmgsrn_core.rendering.renderer import VolumeRenderer
from apmgsrn_core.rendering.transfer_function import TransferFunction

RGB = [0, 1, 0, 0, 100, 0, 1, 0, 200, 0, 0, 1]
FUNCTION = TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 90, 0, 0.5, 0, 130, 0.6, 0.5, 0, 200, 0.9, 0.5, 0], 0.8)
PEAKS = TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 150, 0, 0.5, 0, 180, 0.9, 0.5, 0], 0.8)
EVEN = TransferFunction([0, 1], [[0.2, 0.4, 0.8]] * 2, [0.3, 0.3], 2.0)


class Formula:
    """A volume given by a function of the world position, as far as rendering asks."""

    times = ()

    def __init__(self, function, slopes=None, grid=None, components=1):
        self.grid = grid or Grid((9, 9, 9), (-1, -1, -1), (0.25, 0.25, 0.25))
        self.arrays = (ArrayInfo("f", "point", components, "float32", (0.0, 1.0)),)
        self._function, self._slopes = function, slopes

    def step_at(self, time):
        return 0

    def macrocells(self, field=None, time=None):
        return None

    def sample_points(self, points_xyz, field=None, time=None):
        values = self._function(points_xyz).astype(np.float32)
        values[~self.grid.contains(points_xyz)] = np.nan
        return values

    def sample_region(self, region=None, grid=None, field=None, time=None):
        z, y, x = np.meshgrid(*(np.arange(n) for n in grid.dims[::-1]), indexing="ij")
        points = grid.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))
        values = self._function(points).astype(np.float32)
        return values.reshape(*grid.dims[::-1], *values.shape[1:])

    def sample_derivatives(self, points_xyz, field=None, time=None):
        return self._function(points_xyz)[:, None].astype(np.float32), self._slopes(points_xyz)[:, None]


def camera_of(volume, size=(9, 7), scale=None) -> Camera:
    eye = Camera.looking_at(volume.grid.bounds, 25, 35, size)
    return Camera(eye.position, eye.focal_point, eye.view_up, 30.0, scale, size)


def premultiplied(picture) -> np.ndarray:
    return np.concatenate([picture.rgba[..., :3] * picture.rgba[..., 3:], picture.rgba[..., 3:]], axis=2)


def ray_by_ray(volume, camera, function, step) -> tuple[np.ndarray, np.ndarray]:
    """The readable twin: every sample of every ray, one after the other, in float64; ends found sample by sample."""
    colours, depths = np.zeros((camera.pixel_count, 4)), np.zeros(camera.pixel_count)
    origins, directions = camera.rays(np.arange(camera.pixel_count))
    for pixel, (origin, direction) in enumerate(zip(origins, directions)):
        distances = (np.arange(int(60 / step)) + 0.5) * step
        points = origin + distances[:, None] * direction
        inside = volume.grid.contains(points)
        values = volume.sample_points(points[inside])
        passed = 1.0
        alphas = function.corrected(function.opacities_at(values), step)
        for alpha, colour, point in zip(alphas, function.colours_at(values), points[inside]):
            colours[pixel, :3] += passed * alpha * colour
            depths[pixel] += passed * alpha * camera.depth_of(point[None])[0]
            passed *= 1 - alpha
        colours[pixel, 3] = 1 - passed
    shape = camera.size[::-1]
    depth = depths / np.where(colours[:, 3] > 0, colours[:, 3], np.nan)
    return colours.reshape(*shape, 4), depth.reshape(shape)


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("association, stretched", [("point", False), ("cell", False), ("point", True)])
def test_the_picture_is_that_of_a_march_ray_by_ray(association, stretched, scale):
    volume = trained_wave(association, stretched)
    camera = camera_of(volume, (9, 7), scale)
    expected, depth = ray_by_ray(volume, camera, FUNCTION, 0.11)
    options = RenderOptions(step=0.11)
    picture = VolumeRenderer(volume).render(camera, FUNCTION, options)
    assert expected[..., 3].max() > 0.5
    assert np.abs(premultiplied(picture) - expected).max() < 3e-3  # the table of the function, the limit of 0.999
    both = expected[..., 3] > 0.01
    assert both.any() and np.abs(picture.depth - depth)[both].max() < 0.02
    assert np.isnan(picture.depth[expected[..., 3] == 0]).all()


@pytest.mark.parametrize("step", [0.0, 0.07])
@pytest.mark.parametrize("settings", [{}, {"shading": True}, {"preintegrated": True}, {"mode": "maximum"}, {"mode": "average"}])
def test_skipping_changes_no_picture(step, settings):
    volume = trained_wave()
    renderer, camera = VolumeRenderer(volume), camera_of(volume, (33, 31))
    renderer.cells = Macrocells.of_field(renderer.field, (7, 9, 8))
    skipped = renderer.render(camera, PEAKS, RenderOptions(step=step, **settings))
    all_of_it = renderer.render(camera, PEAKS, RenderOptions(step=step, skip=False, opacity_limit=1.0, **settings))
    assert np.abs(premultiplied(skipped) - premultiplied(all_of_it)).max() <= 1.01e-3
    if "mode" not in settings:
        assert skipped.samples < 0.7 * all_of_it.samples
    assert skipped.rgba[..., 3].max() > 0.1


@pytest.mark.parametrize("preintegrated", [False, True])
def test_an_even_fog_has_the_opacity_of_its_length(preintegrated):
    volume = Formula(lambda p: np.full(len(p), 0.5))
    camera = Camera((0.1, 0.2, 9.0), (0.1, 0.2, 0.0), parallel_scale=0.5, size=(7, 7))
    options = RenderOptions(step=0.01, opacity_limit=1.0, preintegrated=preintegrated)
    picture = VolumeRenderer(volume).render(camera, EVEN, options)
    assert np.allclose(picture.rgba[..., 3], 1 - 0.7 ** (2.0 / 2.0), atol=2e-3)
    assert np.allclose(picture.rgba[..., :3], [0.2, 0.4, 0.8], atol=1e-4)


def test_preintegration_sees_a_layer_between_two_samples():
    volume = Formula(lambda p: (p[:, 2] + 1) / 2)
    thin = TransferFunction([0, 0.5, 0.51, 0.52, 1], np.ones((5, 3)), [0, 0, 0.9, 0, 0], 0.04)
    camera = Camera((0, 0, 9.0), (0, 0, 0), parallel_scale=0.5, size=(7, 7))
    renderer = VolumeRenderer(volume)
    exact = renderer.render(camera, thin, RenderOptions(step=0.0005)).rgba[..., 3]
    coarse = renderer.render(camera, thin, RenderOptions(step=0.4)).rgba[..., 3]
    integrated = renderer.render(camera, thin, RenderOptions(step=0.4, preintegrated=True)).rgba[..., 3]
    assert exact.min() > 0.3 and coarse.max() < 0.1
    assert np.abs(integrated - exact).max() < 0.02


SPHERE = Formula(lambda p: 1 - np.linalg.norm(p, axis=1) / 2, lambda p: -p / np.linalg.norm(p, axis=1, keepdims=True) / 2)


@pytest.mark.parametrize("size", [(33, 31), (16, 17)])
def test_a_surface_is_hit_where_it_is(size):
    camera = Camera((0, 0, 6), (0, 0, 0), size=size)
    picture = VolumeRenderer(SPHERE).render(camera, EVEN, RenderOptions("isosurface", iso_values=(0.7,), step=0.2))
    origins, directions = camera.rays(np.arange(camera.pixel_count))
    along = (origins * directions).sum(axis=1)
    under = along**2 - (6.0**2 - 0.6**2)  # the sphere of radius 0.6
    hit = under > 0.02  # rays that graze it may miss it between two samples
    expected = camera.depth_of(origins + directions * (-along - np.sqrt(under.clip(0)))[:, None])
    assert hit.sum() > 10
    assert np.abs(picture.depth.ravel() - expected)[hit].max() < 1e-4
    assert (picture.rgba[..., 3].ravel()[hit] == 1).all()
    assert np.isnan(picture.depth.ravel()[under < 0]).all() and (picture.rgba.reshape(-1, 4)[under < 0] == 0).all()


def test_surfaces_behind_a_clear_one_show_through():
    camera = Camera((0, 0, 6), (0, 0, 0), size=(15, 15))
    options = RenderOptions(
        "isosurface", iso_values=(0.7, 0.8), surface_opacities=(0.25, 0.5), step=0.1, ambient=1, diffuse=0, specular=0
    )
    picture = VolumeRenderer(SPHERE).render(camera, EVEN, options)
    through = 0.75 * 0.5 * 0.5 * 0.75  # both, twice each
    assert picture.rgba[7, 7, 3] == pytest.approx(1 - through, abs=1e-5)
    assert np.allclose(picture.rgba[7, 7, :3], [0.2, 0.4, 0.8], atol=1e-5)
    assert picture.depth[7, 7] == pytest.approx(5.4, abs=1e-3)


def test_light_is_brightest_where_a_surface_faces_the_eye():
    camera = Camera((0, 0, 6), (0, 0, 0), size=(31, 31))
    options = RenderOptions("isosurface", iso_values=(0.7,), step=0.1, specular=0)
    picture = VolumeRenderer(SPHERE).render(camera, EVEN, options)
    assert picture.rgba[15, 15, 2] == pytest.approx(0.8, abs=1e-3)
    rim = np.flatnonzero(picture.rgba[15, :, 3])[0]
    assert picture.rgba[15, rim, 2] < 0.6


def test_maximum_and_average_are_those_of_the_samples():
    volume = Formula(lambda p: 0.5 + 0.3 * np.sin(2 * p[:, 2]) + 0.1 * p[:, 0])
    white = TransferFunction([0, 1], [[0, 0, 0], [1, 1, 1]], [1, 1])
    camera = Camera((0, 0, 9.0), (0, 0, 0), parallel_scale=0.5, size=(7, 9))
    x = camera.rays(np.arange(63))[0][:, 0].reshape(9, 7)
    most = VolumeRenderer(volume).render(camera, white, RenderOptions("maximum", step=0.02))
    mean = VolumeRenderer(volume).render(camera, white, RenderOptions("average", step=0.02))
    assert np.allclose(most.rgba[..., 0], 0.8 + 0.1 * x, atol=2e-3)
    assert np.allclose(most.depth, 9 - np.pi / 4, atol=0.05)
    assert np.allclose(mean.rgba[..., 0], 0.5 + 0.1 * x, atol=2e-3)
    assert np.allclose(mean.depth, 9, atol=0.03)


@pytest.mark.parametrize("cut", [{"clip_box": True}, {"clip_planes": True}])
def test_two_halves_composited_are_the_whole(cut):
    """What ranks do with their bricks: samples are where they are, and each is in one half."""
    volume = trained_wave()
    camera, renderer = camera_of(volume, (17, 15)), VolumeRenderer(volume)
    x0, x1, y0, y1, z0, z1 = volume.grid.bounds
    middle = 0.5 * (x0 + x1) + 0.0123
    halves = []
    for low, high, sign in ((x0, middle, -1), (middle, x1, 1)):
        box = {"clip_box": (low, high, y0, y1, z0, z1)}
        plane = {"clip_planes": ((middle, 0, 0, sign, 0, 0),)}
        options = RenderOptions(step=0.09, opacity_limit=1.0, **(box if "clip_box" in cut else plane))
        halves.append(renderer.render(camera, FUNCTION, options))
    whole = renderer.render(camera, FUNCTION, RenderOptions(step=0.09, opacity_limit=1.0))
    found = composite(halves, [((middle, 0, 0, sign, 0, 0),) for sign in (-1, 1)], camera)
    assert np.abs(premultiplied(found) - premultiplied(whole)).max() < 1e-4
    seen = whole.rgba[..., 3] > 0.01
    assert np.abs(found.depth - whole.depth)[seen].max() < 1e-3
    assert min(h.rgba[..., 3].max() for h in halves) > 0.1


def test_maxima_of_parts_are_those_of_the_whole():
    volume = trained_wave()
    camera, renderer = camera_of(volume, (17, 15)), VolumeRenderer(volume)
    middle = volume.grid.bounds[0] + 1.9123
    planes = [((middle, 0, 0, sign, 0, 0),) for sign in (-1, 1)]
    options = {"mode": "maximum", "step": 0.09}
    parts = [renderer.render(camera, FUNCTION, RenderOptions(clip_planes=part, **options)) for part in planes]
    whole = renderer.render(camera, FUNCTION, RenderOptions(**options))
    found = composite([*parts, None], [*planes, None], camera)
    assert np.allclose(found.largest, whole.largest, atol=1e-5) and np.allclose(found.rgba, whole.rgba, atol=1e-3)
    assert np.isclose(found.depth, whole.depth, equal_nan=True, atol=1e-3).mean() > 0.99 and found.samples == sum(p.samples for p in parts)
    assert (found.rgba != parts[0].rgba).any() and (found.rgba != parts[1].rgba).any()


@pytest.mark.parametrize("size", [(33, 31), (8, 8), (7, 9), (1, 1)])
def test_passes_converge_to_the_picture(size):
    volume = trained_wave()
    renderer, camera = VolumeRenderer(volume), camera_of(volume, size)
    passes = list(renderer.passes(camera, FUNCTION, RenderOptions(step=0.1), seconds=0.001))
    picture = renderer.render(camera, FUNCTION, RenderOptions(step=0.1))
    shares = [p.share for p in passes]
    assert shares == sorted(shares) and shares[-1] == 1 and passes[-1].rgba.shape == (*size[::-1], 4)
    assert np.abs(premultiplied(passes[-1]) - premultiplied(picture)).max() < 1e-4
    if size[0] > 8:
        assert len(passes) > 2 and shares[0] < 0.1
        assert passes[0].rgba[..., 3].max() > 0.3, "the first pass shows something"


@pytest.mark.parametrize("most", [1 << 10, 1 << 14])
def test_bounded_memory_gives_the_same_picture(most):
    volume = trained_wave()
    renderer, camera = VolumeRenderer(volume), camera_of(volume, (33, 31))
    whole = renderer.render(camera, FUNCTION)
    parts = renderer.render(camera, FUNCTION, RenderOptions(most_points=most))
    assert np.abs(premultiplied(whole) - premultiplied(parts)).max() < 1e-4


def test_where_there_is_no_value_nothing_is_seen():
    hole = Formula(lambda p: np.where(np.abs(p[:, 0]) < 0.3, np.nan, 0.5))
    camera = Camera((0, 0, 9.0), (0, 0, 0), parallel_scale=0.9, size=(9, 9))
    alpha = VolumeRenderer(hole).render(camera, EVEN, RenderOptions(step=0.05)).rgba[..., 3]
    assert (alpha[:, 3:6] == 0).all() and (alpha[:, :2] > 0.2).all() and (alpha[:, -2:] > 0.2).all()


def test_of_a_vector_the_magnitude_is_rendered():
    vectors = Formula(lambda p: np.stack([p[:, 0] * 0 + 0.3, p[:, 0] * 0 - 0.4], axis=1), components=2)
    white = TransferFunction([0, 1], [[0, 0, 0], [1, 1, 1]], [1, 1])
    camera = Camera((0, 0, 9.0), (0, 0, 0), parallel_scale=0.9, size=(3, 3))
    picture = VolumeRenderer(vectors).render(camera, white, RenderOptions("maximum", step=0.1))
    assert np.allclose(picture.rgba[..., :3], 0.5, atol=1e-3)


def test_a_background_makes_the_picture_opaque():
    volume = trained_wave()
    renderer, camera = VolumeRenderer(volume), camera_of(volume, (33, 31))
    clear = premultiplied(renderer.render(camera, FUNCTION))
    filled = renderer.render(camera, FUNCTION, RenderOptions(background=(0.1, 0.5, 1.0))).rgba
    assert (filled[..., 3] == 1).all()
    assert np.allclose(filled[..., :3], clear[..., :3] + (1 - clear[..., 3:]) * np.array([0.1, 0.5, 1.0]), atol=1e-5)


def test_a_png_holds_the_picture_turned(tmp_path):
    volume = trained_wave()
    picture = VolumeRenderer(volume).render(camera_of(volume, (9, 7)), FUNCTION)
    picture.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (9, 7)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(7, 1 + 4 * 9)
    assert (rows[:, 0] == 0).all()
    assert (rows[::-1, 1:].reshape(7, 9, 4) == picture.bytes()).all()
    with pytest.raises(ApmgsrnError, match="cannot be written"):
        picture.save(tmp_path / "missing" / "a.png")


def test_rendering_can_be_stopped():
    volume = trained_wave()
    with pytest.raises(ApmgsrnError, match="stopped"):
        VolumeRenderer(volume).render(camera_of(volume), FUNCTION, on_progress=lambda share: False)


def test_what_cannot_be_rendered_is_named():
    with pytest.raises(FieldError, match="'g' is not in the volume; it has f"):
        VolumeRenderer(SPHERE, "g")
    with pytest.raises(DataError, match="at least 2 points"):
        VolumeRenderer(Formula(lambda p: p[:, 0], grid=Grid((9, 9, 1))))


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "isosurface"}, {"mode": "x"}, {"step": -1}, {"step": float("nan")}, {"iso_values": (1,)}, {"clip_box": (0, 1)},
        {"clip_box": (1, 0, 0, 1, 0, 1)}, {"clip_planes": ((0, 0, 0, 0, 0, 0),)}, {"background": (1, 1)}, {"opacity_limit": 2},
        {"mode": "maximum", "shading": True}, {"mode": "average", "preintegrated": True}, {"skip": 1}, {"most_points": 3},
        {"mode": "isosurface", "iso_values": (1, 2), "surface_opacities": (1,)},
    ],
)  # fmt: skip
def test_bad_options_are_named(settings):
    with pytest.raises(ConfigError):
        RenderOptions(**settings)
