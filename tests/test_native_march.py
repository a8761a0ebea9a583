"""The native march against its readable twin: the same samples, and the same of every ray."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import tiny, trained_wave, wave

from apmgsrn_core import ArraySpec, FieldError, train_volume
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.kernels.cpu_library import load
from apmgsrn_core.kernels.cpu_march import FieldMarch, NativeMarch
from apmgsrn_core.rendering.macrocells import Macrocells
from apmgsrn_core.rendering.render_options import RenderOptions
from apmgsrn_core.rendering.renderer import VolumeRenderer
from apmgsrn_core.rendering.transfer_function import TransferFunction

RGB = [0, 1, 0, 0, 100, 0, 1, 0, 200, 0, 0, 1]
FUNCTIONS = {
    "opaque": TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 90, 0, 0.5, 0, 130, 0.6, 0.5, 0, 200, 0.9, 0.5, 0], 0.3),
    "peaks": TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 150, 0, 0.5, 0, 180, 0.3, 0.5, 0], 0.8),
    "fog": TransferFunction([0, 200], [[0.2, 0.4, 0.8]] * 2, [0.02, 0.05], 0.5),
}

pytestmark = pytest.mark.skipif(load()[0] is None, reason="the native CPU kernels are not built")


def pictures(volume, function, options, size=(33, 31), field=None, lengths=None):
    """(the native picture, its twin's)."""
    found = []
    for native in (True, False):
        renderer = VolumeRenderer(volume, field)
        assert renderer.field.native is not None
        if not native:
            renderer.field.native = None
        renderer.cells = Macrocells.of_field(renderer.field, (7, 9, 8))
        if lengths is not None:
            renderer.__dict__["_lengths"] = lengths
        eye = Camera.looking_at(volume.grid.bounds, 25, 35, size)
        found.append(renderer.render(eye, function, options))
    return found


def same(one, other, tolerance):
    assert other.rgba[..., 3].max() > 0.01, "a picture that shows something"
    colours = [p.rgba[..., :3] * p.rgba[..., 3:] for p in (one, other)]
    assert np.abs(colours[0] - colours[1]).max() < tolerance
    assert np.abs(one.rgba[..., 3] - other.rgba[..., 3]).max() < tolerance
    assert (np.isnan(one.depth) == np.isnan(other.depth)).mean() > 0.999
    clear = ~np.isnan(one.depth) & ~np.isnan(other.depth) & (np.abs(one.rgba[..., 3] - 0.5) > tolerance)
    assert np.median(np.abs(one.depth - other.depth)[clear]) < 1e-3


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("step", [0.0, 0.07])
@pytest.mark.parametrize("settings", [{}, {"skip": False}, {"shading": True}, {"mode": "maximum"}, {"mode": "average"}])
def test_the_picture_is_the_twins(function, step, settings):
    native, twin = pictures(trained_wave(), FUNCTIONS[function], RenderOptions(step=step, opacity_limit=0.99, **settings))
    same(native, twin, 2e-3)
    if settings.get("mode") != "maximum" and function == "fog" and not settings.get("shading"):
        # no ray ends early: the very same samples, but for those on a cell's border
        assert abs(native.samples - twin.samples) <= 2e-3 * twin.samples


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8)])
def test_few_rays(size):
    same(*pictures(trained_wave(), FUNCTIONS["opaque"], RenderOptions(), size), 2e-3)


def test_longer_steps_where_the_grids_are_coarse():
    lengths = np.random.default_rng(4).choice([1, 2, 4], size=(8, 9, 7))
    native, twin = pictures(trained_wave(), FUNCTIONS["fog"], RenderOptions(), lengths=lengths)
    every = pictures(trained_wave(), FUNCTIONS["fog"], RenderOptions(), lengths=np.ones_like(lengths))[0]
    same(native, twin, 2e-3)
    assert native.samples < 0.8 * every.samples


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"shading": True}, {"mode": "maximum"}, {"mode": "average"}])
@pytest.mark.parametrize("kind", ["cell", "stretched", "bricks", "vector", "gaps"])
def test_of_any_field(kind, settings):
    """Values come from the volume's own sampling."""
    if kind in ("cell", "stretched"):
        volume = trained_wave("cell" if kind == "cell" else "point", kind == "stretched")
    else:
        values, grid = wave((9, 8, 7), spacing=(0.5, 1.0, 0.8))
        if kind == "vector":
            values = np.stack([values, values[::-1], values[:, ::-1]], axis=3) / 2
        if kind == "gaps":
            values[:, 2:4, 3:5] = np.nan
        volume = train_volume(values, grid, train=tiny(), bricks=(2, 1, 1) if kind == "bricks" else (1, 1, 1)).volume
    assert type(VolumeRenderer(volume).field.native) is (NativeMarch if kind == "cell" else FieldMarch)
    same(*pictures(volume, FUNCTIONS["opaque"], RenderOptions(**settings)), 2e-3)


def test_what_goes_wrong_in_a_field_is_raised_and_ends_the_march():
    renderer, calls = VolumeRenderer(trained_wave(stretched=True)), []

    def values(points):
        calls.append(len(points))
        if len(calls) == 2:
            raise FieldError("gone")
        return points[:, 0] * 0

    renderer.cells = Macrocells.of_field(renderer.field, (2, 2, 2))
    renderer.field.values = values
    camera = Camera.looking_at(renderer.field.grid.bounds, 25, 35, (33, 31))
    with pytest.raises(FieldError, match="gone"):
        renderer.render(camera, FUNCTIONS["fog"], RenderOptions(skip=False, step=0.02))
    assert len(calls) == 2


@pytest.mark.parametrize("field", ["wave", "turned"])
def test_the_array_that_was_asked_for(field):
    values, grid = wave((9, 8, 7), spacing=(0.5, 1.0, 0.8))
    both = np.stack([values, values[::-1]], axis=3)
    volume = train_volume(both, grid, arrays=(ArraySpec("wave"), ArraySpec("turned")), train=tiny()).volume
    same(*pictures(volume, FUNCTIONS["opaque"], RenderOptions(shading=True), field=field), 2e-3)


def test_threads_change_no_bit(monkeypatch):
    volume, found = trained_wave(), []
    for threads in (1, 2, 3):
        monkeypatch.setattr("apmgsrn_core.kernels.cpu.thread_count", lambda: threads)
        renderer = VolumeRenderer(volume)
        camera = Camera.looking_at(volume.grid.bounds, 25, 35, (65, 63))
        found.append(renderer.render(camera, FUNCTIONS["opaque"], RenderOptions(shading=True)))
    for picture in found[1:]:
        assert picture.samples == found[0].samples
        assert (picture.rgba == found[0].rgba).all() and np.array_equal(picture.depth, found[0].depth, equal_nan=True)
