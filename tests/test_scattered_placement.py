"""Where grids start for scattered samples: boxes that hold all samples and follow the detail."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DIMS, FEATURE, WIDTH, cloud, feature, refined

from apmgsrn_core.training import scattered_placement
from apmgsrn_core import Grid, ModelConfig, TrainConfig
from apmgsrn_core.network.encoding import to_local
from apmgsrn_core.data.scattered_data import ScatteredData, node_starts
from apmgsrn_core.training.scattered_placement import sample_groups, scattered_start_transforms, split_groups, squared_detail


def transforms_of(data, grids=32, **choices):
    config = TrainConfig(**choices).resolved(Grid(DIMS))
    return scattered_start_transforms(data, ModelConfig(number_of_grids=grids), config, torch.Generator().manual_seed(0))


def sizes_of(transforms):
    """(m,) volume of each box, relative to that of the domain."""
    return 1 / torch.linalg.det(transforms[:, :, :3]).abs()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 1000), st.integers(1, 40), st.integers(0, 99), st.sets(st.integers(0, 2)))
def test_each_group_is_in_one_box(count, wanted, seed, flat):
    data = ScatteredData(*cloud(count, seed=seed, flat=flat), DIMS)
    groups = sample_groups(data, 0.5)
    boxes = split_groups(groups, wanted, 4)
    assert np.array_equal(np.sort(np.concatenate([box.members for box in boxes])), np.arange(count))
    assert 1 <= len(boxes) <= wanted
    assert groups.complexity.sum() == pytest.approx(count * (1.02 if squared_detail(data).any() else 0.02), rel=1e-6)
    for box in boxes:
        places = data.positions[box.members] * np.array(data.extents) / 2
        np.testing.assert_allclose([box.low, box.high], [places.min(axis=0), places.max(axis=0)], atol=1e-6)


def test_boxes_of_equal_detail_are_alike_and_an_edge_is_cut_off():
    positions, _ = cloud(20_000)
    noise = np.random.default_rng(1).random(20_000)
    boxes = split_groups(sample_groups(ScatteredData(positions, noise, (30, 20, 20)), 0.5), 16, 7)
    assert len(boxes) == 16 and max(b.complexity for b in boxes) < 2 * min(b.complexity for b in boxes)
    noise[positions[:, 0] < 0.6] = 0
    low, high = split_groups(sample_groups(ScatteredData(positions, noise, (30, 20, 20)), 0.5), 2, 7)
    assert low.high[0] == pytest.approx(0.6 * 29 / 2, abs=2) and low.complexity < 0.1 * high.complexity


def test_detail_is_what_a_linear_fit_leaves(monkeypatch):
    data = ScatteredData(*cloud(1003, 2), DIMS)
    monkeypatch.setattr(scattered_placement, "RIDGE", 0.0)
    found = squared_detail(data)
    starts = node_starts(len(data), data.depth)
    for first, last in zip(starts[:-1], starts[1:]):
        columns = np.column_stack([data.positions[first:last], np.ones(last - first)])
        slopes = np.linalg.lstsq(columns, data.targets[first:last], rcond=None)[0]
        expected = ((data.targets[first:last] - columns @ slopes) ** 2).sum(axis=1)
        np.testing.assert_allclose(found[first:last], expected, rtol=1e-3, atol=1e-9)
    monkeypatch.setattr(scattered_placement, "CHUNK_SAMPLES", 300)
    np.testing.assert_allclose(squared_detail(data), found, rtol=1e-9)


def test_a_ramp_has_no_detail():
    positions, _ = cloud(3000)
    noise = np.random.default_rng(0).normal(0, 0.01, 3000) * (positions[:, 0] > 0)
    data = ScatteredData(positions, 0.5 + 0.4 * positions[:, 1] + noise, DIMS)
    detail = squared_detail(data)
    assert np.sqrt(np.median(detail[data.positions[:, 0] < -0.1])) < 5e-4
    assert np.sqrt(np.median(detail[data.positions[:, 0] > 0.1])) > 5e-3


def test_neighbours_in_groups_fill_the_same_boxes(monkeypatch):
    data = ScatteredData(*cloud(6000), DIMS)
    whole = sample_groups(data, 0.5)
    monkeypatch.setattr(scattered_placement, "MOST_GROUPS", 2000)
    groups = sample_groups(data, 0.5)
    assert len(groups.counts) == 2000 and groups.counts.sum() == 6000
    assert groups.complexity.sum() == pytest.approx(whole.complexity.sum())
    np.testing.assert_array_equal(groups.box(np.arange(2000)).high, whole.box(np.arange(6000)).high)


def test_every_sample_is_inside_a_box_and_boxes_follow_the_samples():
    positions, _ = cloud(40_000)
    positions = positions[(positions[:, 0] < -0.5) | (positions[:, 1] > 0.7)]  # most of the domain is empty
    data = ScatteredData(positions, np.random.default_rng(0).random(len(positions)), DIMS)
    transforms = transforms_of(data, global_grids=0, coarse_share=0.0)
    inside = to_local(transforms, torch.from_numpy(data.positions)).abs().amax(dim=2) <= 1
    assert bool(inside.any(dim=0).all())
    assert int(inside.sum(dim=1).min()) > 10 and float(sizes_of(transforms).sum()) < 1.25**3 * 0.5


def test_boxes_are_small_where_the_refined_levels_are():
    points = np.concatenate(refined())
    transforms = transforms_of(ScatteredData(points, feature(points), DIMS), grids=64, coarse_share=0.0)[8:]
    centres = torch.linalg.solve(transforms[:, :, :3], -transforms[:, :, 3])
    near = (centres - torch.from_numpy(FEATURE)).abs().amax(dim=1) < 2 * WIDTH
    assert near.sum() > 8 and sizes_of(transforms)[near].max() < (4 * WIDTH) ** 3
    assert sizes_of(transforms).max() > 0.01


@pytest.mark.parametrize("placement", ["kdtree", "random", "published"])
@pytest.mark.parametrize("count, flat", [(2, ()), (20, ()), (2000, (0, 1, 2)), (40, (2,))])
def test_too_few_samples_and_other_placements_start_near_the_identity(placement, count, flat):
    data = ScatteredData(*cloud(count, flat=flat), tuple(1 if a in flat else 9 for a in range(3)))
    transforms = transforms_of(data, placement=placement)
    assert (transforms - torch.eye(3, 4)).abs().max() < 0.5


def test_flat_samples_get_flat_boxes():
    data = ScatteredData(*cloud(4000, flat=(2,)), (20, 17, 1))
    transforms = transforms_of(data)[8:]
    assert (transforms[:, 2] - torch.eye(3, 4)[2]).abs().max() < 0.2
    assert torch.linalg.det(transforms[:, :2, :2]).min() > 2  # placed in the plane


def test_many_samples_at_two_places_leave_finite_transforms():
    positions = np.repeat([[-0.5, 0, 0], [0.5, 0.1, 0]], 500, axis=0)
    data = ScatteredData(positions, positions[:, 0], DIMS)
    assert torch.isfinite(transforms_of(data)).all() and sizes_of(transforms_of(data)).min() > 0
