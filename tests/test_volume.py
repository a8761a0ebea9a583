"""Sampling: points, regions, resolutions, types."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import pack_networks
from volumes import tiny, wave

from apmgsrn_core import (
    ApmgsrnError, ArrayInfo, BrickLayout, ConfigError, DataError, FieldError, Grid, ModelConfig, ModelFileError,
    NeuralVolume, Region, train_volume,
)  # fmt: skip
from apmgsrn_core.network.model import Network
from apmgsrn_core.file.model_file import ModelFile

ROTATED = {"origin": (5, -3, 2), "spacing": (0.5, -2.0, 1.5), "direction": ((0, -1, 0), (1, 0, 0), (0, 0, 1))}
CASES = {
    "points": wave((9, 8, 7)),
    "cells": wave((9, 8, 7), association="cell"),
    "rotated": wave((9, 8, 7), **ROTATED),
    "vectors": wave((7, 9, 8), components=3, **ROTATED),
    "rotated cells": wave((8, 7, 9), association="cell", dtype="uint8", **ROTATED),
    "flat": wave((9, 8, 1), spacing=(1, 2, 3)),
    "flat cells": wave((9, 1, 7), association="cell"),
}
MODEL = ModelConfig(number_of_grids=6, grid_resolution=(4, 4, 4), hidden_width=16)


@pytest.fixture(scope="module")
def volumes():
    return {
        name: train_volume(
            values, grid, name="f", model=MODEL, train=tiny(iterations=30), on_progress=lambda s: True
        ).volume
        for name, (values, grid) in CASES.items()
    }  # fmt: skip


def value_positions(grid):
    """(n, 3) world positions of the values, x fastest."""
    centre = 0.0 if grid.association == "point" else 0.5
    axes = [np.arange(n) + (centre if d > 1 else 0.0) for n, d in zip(grid.value_dims, grid.dims)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    return grid.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [0.5, 1, 2, 1.7])
def test_a_region_is_its_points(volumes, case, scale):
    volume = volumes[case]
    grid = volume.grid.scaled(scale)
    region = volume.reconstruct(scale)
    assert region.shape[:3] == grid.value_dims[::-1]
    points = volume.sample_points(value_positions(grid))
    np.testing.assert_allclose(region.reshape(points.shape), points, atol=2e-3)
    assert np.isfinite(region).all()


@pytest.mark.parametrize("case", CASES)
def test_twice_the_resolution_keeps_the_shared_points(volumes, case):
    volume = volumes[case]
    if volume.grid.association == "cell":
        pytest.skip("cell centres are not shared")
    steps = tuple(slice(None, None, 1 if n == 1 else 2) for n in volume.grid.dims[::-1])
    difference = np.abs(volume.reconstruct(2)[steps] - volume.reconstruct())
    low, high = volume.arrays[0].range
    assert difference.max() <= 1e-5 * (high - low)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_box_is_a_part_of_the_whole(volumes, data):
    volume = volumes[data.draw(st.sampled_from(sorted(CASES)))]
    grid = volume.grid.scaled(data.draw(st.sampled_from([1, 3])))
    start, stop = [], []
    for n in grid.value_dims:
        a = data.draw(st.integers(0, n))
        start.append(a)
        stop.append(data.draw(st.integers(a, n)))
    part = volume.sample_region(Region(tuple(start), tuple(stop)), grid)
    whole = volume.sample_region(grid=grid)
    box = tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1]))
    np.testing.assert_allclose(part, whole[box], atol=2e-3)


def test_outside_is_nan(volumes):
    volume = volumes["cells"]
    points = np.array([[4, 4, 3], [8, 7, 6], [-0.01, 4, 3], [4, 7.01, 3], [np.nan, 0, 0], [1e30, 0, 0]])
    assert np.isnan(volume.sample_points(points)).tolist() == [False, False, True, True, True, True]
    assert volume.sample_points(np.zeros((0, 3))).shape == (0,)
    assert volumes["vectors"].sample_points(np.zeros((1, 3))).shape == (1, 3)


def test_the_outer_half_of_a_border_cell_has_its_value(volumes):
    volume = volumes["cells"]
    inside, border = volume.sample_points(np.array([[0.5, 3, 3], [0.0, 3, 3]]))
    assert inside == border


def test_another_lattice_than_the_own_one(volumes):
    volume = volumes["points"]
    grid = Grid((5, 5, 5), origin=(2, 2, 2), spacing=(2, 1, 0.5), direction=((0, 1, 0), (0, 0, 1), (1, 0, 0)))
    found = volume.sample_region(grid=grid)
    expected = volume.sample_points(value_positions(grid)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.isnan(found).any() and np.isfinite(found).any()


def test_original_type_is_rounded_and_clamped(volumes):
    volume = volumes["rotated cells"]
    original = volume.sample_region(dtype="original")
    assert original.dtype == np.uint8
    np.testing.assert_array_equal(original, np.clip(np.rint(volume.reconstruct()), 0, 255))
    far = Grid((2, 1, 1), origin=(100, 0, 0))
    assert (volume.sample_region(grid=Grid(far.dims, far.origin, association="cell"), dtype="original") == 0).all()


@pytest.mark.parametrize("dtype", ["int8", "uint64", "int64", "uint32"])
def test_extreme_integers_do_not_wrap(dtype):
    limits = np.iinfo(dtype)
    values = np.zeros((5, 5, 5), dtype=dtype)
    values[2:] = limits.max
    values[0] = limits.min
    volume = train_volume(
        values, Grid((5, 5, 5)), model=MODEL, train=tiny(iterations=200), on_progress=lambda s: True
    ).volume
    found = volume.sample_region(dtype="original")
    assert (found[3:] > limits.max // 2).all() and (found[0] < limits.max // 2).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_extreme_floats_do_not_overflow(dtype):
    values, grid = wave()
    values = (values / values.max() * float(np.finfo(dtype).max)).astype(dtype)
    volume = train_volume(values, grid, model=MODEL, train=tiny(), on_progress=lambda s: True).volume
    assert np.isfinite(volume.sample_region(dtype="original")).all()
    assert np.isfinite(volume.sample_points(value_positions(grid))).all()


def test_wrong_questions_are_named(volumes):
    volume = volumes["points"]
    with pytest.raises(FieldError, match="'g' is not in the model; it has f"):
        volume.sample_points(np.zeros((1, 3)), field="g")
    with pytest.raises(DataError, match=r"\(n, 3\)"):
        volume.sample_points(np.zeros(3))
    with pytest.raises(DataError, match="not inside the lattice"):
        volume.sample_region(Region((0, 0, 0), (10, 1, 1)))
    with pytest.raises(DataError, match="int3"):
        volume.sample_region(dtype="int3")


def test_progress_and_stop(volumes, monkeypatch):
    shares = []
    volumes["points"].sample_region(on_progress=shares.append)
    assert shares == [1.0]
    monkeypatch.setattr("apmgsrn_core.bricks.sampling.CHUNK", 1000)
    shares = []
    volumes["points"].sample_region(grid=volumes["points"].grid.scaled(5), on_progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 2
    with pytest.raises(ApmgsrnError, match="stopped"):
        volumes["points"].sample_region(on_progress=lambda share: False)


@pytest.mark.parametrize("case", CASES)
def test_feature_grids_are_boxes_in_the_world(volumes, case):
    boxes = volumes[case].feature_grids()
    assert [b.id for b in boxes] == list(range(6))
    network = volumes[case].networks[0]
    for box, transform in zip(boxes, network.transforms.double().numpy()):
        assert box.corners.shape == (8, 3) and box.volume >= 0 and box.norm > 0
        index = volumes[case].grid.world_to_index(box.corners)
        local = volumes[case].grid.index_to_normalised(index) @ transform[:, :3].T + transform[:, 3]
        if 1 not in volumes[case].grid.value_dims:
            np.testing.assert_allclose(np.abs(local), 1, atol=1e-4)


def test_opened_from_a_path_and_from_bytes(tmp_path):
    values, grid = wave()
    result = train_volume(values, grid, model=MODEL, train=tiny(), time=2.5, on_progress=lambda s: True)
    result.save(tmp_path / "m.apmgsrn")
    opened = NeuralVolume.open(str(tmp_path / "m.apmgsrn"), device="cpu")
    assert opened.times == (2.5,) and opened.key == result.volume.key and opened.grid == grid
    np.testing.assert_array_equal(opened.reconstruct(), result.volume.reconstruct())


# ---- many bricks -----------------------------------------------------------------------------------

BRICKS = {
    "points": (Grid((17, 13, 9), **ROTATED), BrickLayout((17, 13, 9), (4, 3, 2))),
    "cells": (Grid((18, 14, 10), association="cell", **ROTATED), BrickLayout((17, 13, 9), (4, 3, 2))),
    "flat": (Grid((17, 1, 9), spacing=(1, 2, 3)), BrickLayout((17, 1, 9), (5, 1, 2))),
}


@pytest.fixture(scope="module")
def bricked():
    """name -> the bytes of a model of many bricks, their features large enough to differ."""
    models = {}
    for name, (grid, layout) in BRICKS.items():
        networks = [Network(MODEL.with_components(3), torch.Generator().manual_seed(b)) for b in range(layout.count)]
        for network in networks:
            network.requires_grad_(False).features.mul_(10_000)
        arrays = (
            ArrayInfo("f", grid.association, 1, "float32", (0.0, 1.0)),
            ArrayInfo("g", grid.association, 2, "uint8", (0.0, 255.0)),
        )
        models[name] = pack_networks(networks, grid, arrays, (None,), tiny(), "", layout)
    return models


@pytest.fixture
def reads(monkeypatch):
    """The bricks whose sections are read, in order."""
    read, original = [], ModelFile.read_section
    monkeypatch.setattr(ModelFile, "read_section", lambda self, b, t: read.append(b) or original(self, b, t))
    return read


@pytest.mark.parametrize("case", BRICKS)
@pytest.mark.parametrize("scale", [0.7, 1, 2])
@pytest.mark.parametrize("field", ["f", "g"])
def test_a_region_of_many_bricks_is_its_points(bricked, case, scale, field):
    volume = NeuralVolume.from_bytes(bricked[case], "cpu")
    region = volume.reconstruct(scale, field)
    points = volume.sample_points(value_positions(volume.grid.scaled(scale)), field)
    assert np.isfinite(region).all()
    np.testing.assert_allclose(region.reshape(points.shape), points, atol=1e-5 * np.ptp(points))


@pytest.mark.parametrize("case", BRICKS)
def test_parts_of_many_bricks_are_those_of_the_whole(bricked, case, monkeypatch):
    volume = NeuralVolume.from_bytes(bricked[case], ("cpu", "cpu"))
    whole, grid = volume.sample_region(dtype="original", field="g"), volume.grid
    assert whole.dtype == np.uint8
    monkeypatch.setattr("apmgsrn_core.sampling.region_sampling.MOST_VALUES", 100)
    shares = []
    np.testing.assert_array_equal(volume.sample_region(dtype="original", field="g", on_progress=shares.append), whole)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 5
    for z in range(0, grid.value_dims[2], 2):
        start, stop = (3, 0, z), (*grid.value_dims[:2], min(z + 2, grid.value_dims[2]))
        part = volume.sample_region(Region(start, stop), dtype="original", field="g")
        np.testing.assert_array_equal(part, whole[start[2] : stop[2], :, 3:])
    with pytest.raises(ApmgsrnError, match="stopped"):
        volume.sample_region(on_progress=lambda share: share < 0.5)


def test_another_lattice_over_many_bricks(bricked):
    volume = NeuralVolume.from_bytes(bricked["cells"], "cpu")
    grid = Grid((9, 8, 7), origin=(-5, -3, 2), spacing=(2, 1, 1.5), direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    found = volume.sample_region(grid=grid)
    expected = volume.sample_points(value_positions(grid)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isnan(found).any() and np.isfinite(found).any()


def test_only_the_bricks_that_are_touched_are_read(bricked, reads):
    volume = NeuralVolume.from_bytes(bricked["points"], "cpu")
    layout = volume.layout
    assert reads == []
    core = layout.core(5)
    inside = Region([a + 1 for a in core.start], [b - 1 for b in core.stop])
    volume.sample_region(inside)
    volume.sample_points(volume.grid.index_to_world([np.add(core.start, 1.5)]))
    assert reads == [5]
    volume.sample_region(core)
    touched = [n for n in range(layout.count) if np.abs(np.subtract(layout.place(n), layout.place(5))).max() <= 1]
    assert sorted(reads) == touched
    volume.reconstruct()
    assert sorted(reads) == list(range(layout.count))
    assert [volume.network(b) for b in range(layout.count)] == volume.networks and len(reads) == layout.count


def test_feature_grids_of_some_bricks(bricked, reads):
    volume = NeuralVolume.from_bytes(bricked["cells"], "cpu")
    some = volume.feature_grids(bricks=[7, 2])
    assert sorted(reads) == [2, 7]
    assert [(b.id, b.brick) for b in some] == [(6 * brick + g, brick) for brick in (2, 7) for g in range(6)]
    every = volume.feature_grids()
    assert [b.id for b in every] == list(range(6 * volume.layout.count))
    assert all((a.corners == every[a.id].corners).all() for a in some)
    own, transform = volume.layout.grid_of(7, volume.grid), volume.network(7).transforms[0].double().numpy()
    local = own.index_to_normalised(own.world_to_index(every[42].corners)) @ transform[:, :3].T + transform[:, 3]
    np.testing.assert_allclose(np.abs(local), 1, atol=1e-9)
    assert volume.feature_grids(bricks=[]) == []


def test_a_brick_that_is_damaged_or_missing_is_named(bricked):
    first = ModelFile(bricked["points"]).sections[1, 0][0]
    damaged = bytearray(bricked["points"])
    damaged[first + 100] ^= 1
    volume = NeuralVolume.from_bytes(bytes(damaged), ("cpu", "cpu"))
    assert np.isfinite(volume.sample_region(Region((0, 0, 0), (3, 2, 2)))).all()
    with pytest.raises(ModelFileError, match="brick 1, .*checksum"):
        volume.reconstruct()
    with pytest.raises(ModelFileError, match="found 24"):
        volume.network(24)
    with pytest.raises(ConfigError, match="device"):
        NeuralVolume.from_bytes(bricked["points"], ())
