"""Where grids start: the k-d tree's boxes tile the volume and follow the detail."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import wave

from apmgsrn_core import Grid, ModelConfig, TrainConfig
from apmgsrn_core.network.encoding import to_local
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.training.placement import complexity_map, split_boxes, start_transforms


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 24)] * 3), st.integers(1, 40), st.integers(0, 1000))
def test_boxes_tile_the_map(shape, count, seed):
    complexity = np.random.default_rng(seed).random(shape) ** 4
    boxes = split_boxes(complexity, (2, 2, 2), count)
    cover = np.zeros(shape, dtype=int)
    for box in boxes:
        cover[box.slices] += 1
    assert (cover == 1).all()
    assert len(boxes) <= count


def test_every_value_is_inside_some_box():
    data = FieldData(*wave((23, 17, 19)))
    config = TrainConfig(global_grids=0).resolved(data.grid)
    transforms = start_transforms(data, ModelConfig(number_of_grids=12), config, torch.Generator().manual_seed(0))
    axes = [torch.linspace(-1, 1, n) for n in (23, 17, 19)]
    points = torch.cartesian_prod(*axes)
    assert (to_local(transforms, points).abs().amax(2) <= 1.0).any(0).all()


def test_boxes_are_smaller_where_the_detail_is():
    values = np.zeros((64, 64, 64), dtype=np.float32)
    values[40:, 40:, 40:] = np.random.default_rng(0).random((24, 24, 24))
    data = FieldData(values, Grid((64, 64, 64)))
    config = TrainConfig(global_grids=4).resolved(data.grid)
    transforms = start_transforms(data, ModelConfig(), config, torch.Generator().manual_seed(0))
    centres = torch.linalg.solve(transforms[4:, :, :3], -transforms[4:, :, 3])
    volumes = 1 / torch.linalg.det(transforms[4:, :, :3]).abs()
    detailed = (centres > 0.2).all(1)
    assert detailed.sum() > 30
    assert volumes[detailed].median() < volumes[~detailed].median() / 4


@pytest.mark.parametrize("dims", [(65, 40, 9), (130, 7, 5), (9, 8, 1)])
def test_the_complexity_map_sums_the_whole_volume(dims):
    data = FieldData(*wave(dims))
    total, step = complexity_map(data, 0.5)
    assert total.shape == tuple(math.ceil(n / s) for n, s in zip(dims[::-1], step))
    assert max(total.shape) <= 64
    # mean 1 per value, and the floor
    assert total.sum() == pytest.approx(math.prod(dims) * 1.02, rel=1e-6)


def test_slabs_do_not_change_the_map(monkeypatch):
    data = FieldData(*wave((30, 29, 70)))
    whole, _ = complexity_map(data, 0.5)
    monkeypatch.setattr("apmgsrn_core.training.placement.SLAB_VALUES", 30 * 29 * 8)
    slabs, _ = complexity_map(data, 0.5)
    np.testing.assert_allclose(slabs, whole, rtol=1e-4)


def test_the_border_of_a_hole_is_not_detail():
    values, grid = wave((40, 20, 20))
    holes = values.copy()
    holes[:, :, 20:] = np.nan
    total, _ = complexity_map(FieldData(holes, grid), 0.5)
    profile = total.sum(axis=(0, 1))
    assert profile[12:20].max() < 4 * np.median(profile[4:16])


def test_missing_values_have_no_complexity():
    values, grid = wave((20, 20, 20))
    values[:10] = np.nan
    total, _ = complexity_map(FieldData(values, grid), 0.5)
    assert total[:10].max() < total[10:].max() / 10


@pytest.mark.parametrize("dims", [(2, 1, 1), (3, 3, 3), (7, 1, 9)])
def test_volumes_too_small_for_boxes_start_near_the_identity(dims):
    data = FieldData(*wave(dims))
    config = TrainConfig().resolved(data.grid)
    transforms = start_transforms(data, ModelConfig(), config, torch.Generator().manual_seed(0))
    assert torch.isfinite(transforms).all()
    assert (transforms - torch.eye(3, 4)).abs().max() < 0.5


def test_random_placement_is_near_the_identity():
    data = FieldData(*wave((40, 40, 40)))
    config = TrainConfig(placement="random").resolved(data.grid)
    transforms = start_transforms(data, ModelConfig(), config, torch.Generator().manual_seed(0))
    assert 0.03 < (transforms - torch.eye(3, 4)).std() < 0.07


def test_coarse_boxes_are_larger_than_fine_ones():
    data = FieldData(*wave((48, 48, 48)))
    config = TrainConfig(global_grids=4, coarse_share=0.25).resolved(data.grid)
    transforms = start_transforms(data, ModelConfig(number_of_grids=36), config, torch.Generator().manual_seed(0))
    volumes = 1 / torch.linalg.det(transforms[4:, :, :3]).abs()
    assert volumes[:8].mean() > 2 * volumes[8:].mean()
