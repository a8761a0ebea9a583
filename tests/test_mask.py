"""Masks: packing is exact and safe, and a position is valid exactly when what it would read is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import BrickLayout, Grid, ModelFileError, NeuralVolume, Region, TrainConfig, train_volume
from apmgsrn_core.data.mask import VOXELS, DomainMask, mask_region, pack_mask, unpack_mask, voxel_parts, voxel_region
from apmgsrn_core.network.model_config import ModelConfig

TINY = ModelConfig(2, 1, (3, 3, 3), hidden_layers=1, hidden_width=8)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3), st.tuples(*[st.integers(1, 9)] * 3), st.floats(0, 1), st.booleans(), st.integers(0, 99))
def test_packing_is_exact(arrays, shape, share, same, seed):
    valid = np.random.default_rng(seed).random((arrays, *shape)) < share
    valid = np.broadcast_to(valid[:1], valid.shape) if same else valid
    data = pack_mask(valid)
    if data is None:
        assert valid.all()
    else:
        np.testing.assert_array_equal(unpack_mask(data, arrays, shape, "m"), valid)


def test_damage_is_told():
    valid = np.random.default_rng(0).random((2, 7, 8, 9)) < 0.5
    data = pack_mask(valid)
    for broken in (data[:0], data[:1], data[:20], np.concatenate([[9], data[1:]]).astype(np.uint8)):
        with pytest.raises(ModelFileError, match="^s: mask"):
            unpack_mask(broken, 2, (7, 8, 9), "s")
    with pytest.raises(ModelFileError, match="expected 63 bytes"):  # a stream may claim more than was asked
        unpack_mask(pack_mask(np.arange(8000).reshape(1, 20, 20, 20) % 2 == 0), 1, (7, 8, 9), "s")
    large = pack_mask(np.random.default_rng(0).random((1, 30, 40, 50)) < 0.02)
    assert large.size < 30 * 40 * 50 / 8 / 4


def domain(layout, kind, cells, whole):
    def read(brick):
        region = mask_region(layout, brick, kind)
        box = [slice(a, b) for a, b in zip(region.start, region.stop)][::-1]
        return whole[(slice(None), *box)]

    return DomainMask(layout, kind, cells, read)


def expected(point, kind, cells, whole):
    """Readable: whether one position is valid in bool [z, y, x]."""
    reads = []
    for x, last in zip(point, np.array(whole.shape[::-1]) - 1):
        if kind != "values":
            x = x * voxel_parts(kind)
            near = [int(np.ceil(x - 1e-3)) - 1, int(np.floor(x + 1e-3))]
        elif cells:
            near = [int(np.floor(x + 0.5))]
        else:
            near = [int(np.floor(x)), int(np.ceil(x))]
        reads.append(sorted({min(max(i, 0), last) for i in near}))
    bits = [whole[k, j, i] for i in reads[0] for j in reads[1] for k in reads[2]]
    return all(bits) if kind == "values" else any(bits)


@pytest.mark.parametrize("kind, cells", [("values", False), ("values", True), *((v, False) for v in VOXELS)])
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 3, 1)])
def test_positions_read_what_interpolation_reads(kind, cells, counts):
    layout, random = BrickLayout((7, 9, 8), counts), np.random.default_rng(1)
    shape = (8, 9, 7) if kind == "values" else tuple(n * voxel_parts(kind) for n in (7, 8, 6))
    whole = random.random((2, *shape)) < 0.8
    mask = domain(layout, kind, cells, whole)
    points = random.random((300, 3)) * np.array([6, 8, 7])
    points[::3] = np.round(points[::3])
    points[1::3, 0] = np.round(points[1::3, 0])
    for array in (0, 1):
        found = mask.at_points(points, array)
        np.testing.assert_array_equal(found, [expected(p, kind, cells, whole[array]) for p in points])
    axes = [np.sort(random.random(5) * 6), np.arange(9.0)[::-1], np.array([0.0, 2.5, 7.0])]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    np.testing.assert_array_equal(mask.on_lattice(axes, 1).ravel(), mask.at_points(points, 1))


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_voxels_of_bricks_tile_those_of_the_lattice(parts):
    layout, seen = BrickLayout((7, 1, 8), (2, 1, 3)), np.zeros((7 * parts, 1, 6 * parts), dtype=int)
    for brick in range(layout.count):
        region = voxel_region(layout.core(brick), parts)
        seen[tuple(slice(a, b) for a, b in zip(region.start, region.stop))[::-1]] += 1
    assert (seen == 1).all()  # a flat axis is not cut


@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize("association", ["point", "cell"])
def test_a_model_has_no_value_where_the_data_had_none(bricks, association):
    dims = (11, 9, 7) if association == "point" else (12, 10, 8)
    grid = Grid(dims, (1, 2, 3), (0.5, 1, 2), association=association)
    values = np.random.default_rng(0).random((7, 9, 11)).astype(np.float32)
    values[2:4, :, 3:] = np.nan
    values[:, :3, :2] = np.inf
    result = train_volume(values, grid, model=TINY, train=TrainConfig(iterations=30), bricks=bricks)
    volume, there = result.volume, np.isfinite(values)
    assert volume.header.mask == "values" and "mask" in volume.header.manifest["requires"]
    np.testing.assert_array_equal(np.isfinite(volume.reconstruct()), there)
    np.testing.assert_array_equal(volume.valid_region(), there)
    z, y, x = np.meshgrid(*map(np.arange, (7, 9, 11)), indexing="ij")
    half = 0.5 if association == "cell" else 0.0
    world = grid.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + half)
    np.testing.assert_array_equal(np.isfinite(volume.sample_points(world)), there.ravel())
    np.testing.assert_array_equal(volume.valid_points(world), there.ravel())
    turned = Grid(dims, (1, 2, 3), (0.5, 1, 2), ((0, -1, 0), (1, 0, 0), (0, 0, 1)), association)
    found = volume.valid_region(Region((0, 0, 0), (3, 2, 2)), turned)
    np.testing.assert_array_equal(found, np.isfinite(volume.sample_region(Region((0, 0, 0), (3, 2, 2)), turned)))
    assert (volume.sample_region(dtype="original") == volume.reconstruct())[there].all()


def test_a_brick_without_any_value_and_a_whole_one():
    values = np.random.default_rng(0).random((8, 8, 8)).astype(np.float64)
    values[:4] = np.nan
    result = train_volume(values, Grid((8, 8, 8)), model=TINY, train=TrainConfig(iterations=20), bricks=(1, 1, 2))
    np.testing.assert_array_equal(np.isfinite(result.volume.reconstruct()), np.isfinite(values))
    whole = train_volume(values[4:], Grid((8, 8, 4)), model=TINY, train=TrainConfig(iterations=20))
    assert whole.volume.header.mask is None and whole.volume.header.manifest["requires"] == ["coded networks"]
    assert isinstance(NeuralVolume.from_bytes(result.model), NeuralVolume)
