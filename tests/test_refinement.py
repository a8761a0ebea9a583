"""The tree of cells that is refined where a field has detail."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, ConfigError, FieldError, Grid, ModelConfig, RefinementTree, refine, train_volume
from apmgsrn_core.sampling.refinement_tree import NO_CHILD

TURNED = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
GRIDS = {
    "points": Grid((9, 8, 7)),
    "cells": Grid((8, 7, 10), origin=(5, -3, 2), spacing=(0.5, 2.0, 1.5), association="cell"),
    "falling": Grid((17, 8, 7), spacing=(-1.0, 2.0, -0.5)),
    "stretched": Grid((5, 4, 6), axes=((0, 1, 3, 7, 8), (4, 3, 1, 0), (0, 1, 2, 4, 8, 16))),
    "flat": Grid((33, 1, 20), origin=(0, 4, 0), spacing=(1, 3, 2)),
    "line": Grid((1, 1, 100)),
}


class Function:
    """A volume whose values are a function of the position, (n, 3) -> (n,) or (n, components); NaN outside."""

    def __init__(self, grid, field, **others):
        self.grid, self._fields, self.calls = grid, {"f": field, **others}, []
        self.arrays = tuple(SimpleNamespace(name=name) for name in self._fields)

    def sample_points(self, points_xyz, field=None, time=None, between=False):
        self.calls.append((len(points_xyz), field, time, between))
        values = np.asarray(self._fields[field](points_xyz), dtype=np.float32)
        values[~self.grid.contains(points_xyz)] = np.nan
        return values


def ball(grid, width=0.04, radius=0.3, centre=0.5):
    """A front on a sphere; lengths relative to the box."""
    low, high = np.reshape(grid.bounds, (3, 2)).T
    size = np.where(high > low, high - low, 1.0)

    def field(points):
        where = (points - low) / size - np.where(high > low, centre, 0.0)
        return np.tanh((np.linalg.norm(where, axis=1) - radius) / width)

    return field


def random_points(grid, count=2000, seed=0):
    low, high = np.reshape(grid.bounds, (3, 2)).T
    return low + (high - low) * np.random.default_rng(seed).random((count, 3))


def volume_of(grid):
    sizes = np.diff(np.reshape(grid.bounds, (3, 2)))
    return sizes[sizes > 0].prod()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(GRIDS)), st.integers(1, 3000))
def test_leaves_tile_the_box_within_the_budget(name, budget):
    grid = GRIDS[name]
    tree = refine(Function(grid, ball(grid)), budget=budget)
    assert len(tree.leaves) <= budget
    np.testing.assert_allclose(tree.volumes(tree.leaves).sum(), volume_of(grid), rtol=1e-9)
    low, high = tree.boxes(tree.leaves)
    bounds = np.reshape(grid.bounds, (3, 2)).T
    np.testing.assert_allclose([low.min(0), high.max(0)], bounds, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_every_point_is_in_the_leaf_that_is_found(name):
    tree = refine(Function(GRIDS[name], ball(GRIDS[name])), budget=500)
    points = random_points(GRIDS[name])
    low, high = tree.boxes(tree.leaves)
    inside = ((points[:, None] >= low) & (points[:, None] <= high)).all(axis=2)
    assert (inside.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(tree.leaves[inside.argmax(axis=1)], tree.find(points))


@pytest.mark.parametrize("name", GRIDS)
def test_nodes_stand_root_by_root_and_level_by_level(name):
    tree = refine(Function(GRIDS[name], ball(GRIDS[name])), budget=700)
    children = 1 << len(tree.axes)
    found = []
    for root in tree.roots.tolist():  # the readable twin of tree_order
        front = [root]
        while front:
            found += front
            inner = [node for node in front if tree.first_child[node] != NO_CHILD]
            front = [tree.first_child[node] + i for node in inner for i in range(children)]
    assert found == list(range(len(tree.level)))
    inner = np.flatnonzero(tree.first_child != NO_CHILD)
    family = tree.first_child[inner, None] + np.arange(children)
    low, high = tree.boxes(family.ravel())
    low, high = low.reshape(*family.shape, 3), high.reshape(*family.shape, 3)
    np.testing.assert_allclose(low.min(1), tree.boxes(inner)[0], atol=1e-12)
    np.testing.assert_allclose(high.max(1), tree.boxes(inner)[1], atol=1e-12)
    first = low[:, 0, tree.axes[0]] < low[:, 1, tree.axes[0]]
    assert first.all(), "children are listed x fastest"


def test_the_same_tree_every_time():
    grid = GRIDS["points"]
    one, two = (refine(Function(grid, ball(grid)), budget=900) for _ in range(2))
    for name in ("level", "position", "first_child", "masked"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.values["f"], two.values["f"])


@pytest.mark.parametrize("dims", [(65, 57, 49), (129, 1, 97)])
def test_leaves_gather_at_a_front(dims):
    grid = Grid(dims)
    field = ball(grid)
    tree = refine(Function(grid, field), budget=4000)
    centres = np.mean(tree.boxes(tree.leaves), axis=0)
    at_front = np.abs(field(centres)) < 0.99
    share_of_volume = tree.volumes(tree.leaves)[at_front].sum() / volume_of(grid)
    assert at_front.mean() > 2 * share_of_volume
    assert tree.level[tree.leaves][at_front].mean() > tree.level[tree.leaves][~at_front].mean()
    points = random_points(grid, 20000)
    error = np.sqrt(np.mean((tree.sample_points(points, "f") - field(points)) ** 2))
    assert error < 0.7 * uniform_error(grid, field, 4000, points)


def uniform_error(grid, field, budget, points):
    """Root mean square error of cells of one size, as many as `budget` or a few more, with the values at centres."""
    cells = np.array(grid.dims) - 1
    axes = cells > 0
    counts = np.where(axes, np.ceil(cells * (budget / cells[axes].prod()) ** (1 / axes.sum())), 1)
    index = np.floor(points / np.maximum(cells, 1) * counts).clip(0, counts - 1)
    centres = (index + 0.5) / counts * cells
    return np.sqrt(np.mean((field(centres) - field(points)) ** 2))


def test_small_detail_between_coarse_points_is_found():
    grid = Grid((129, 129, 129))
    small = ball(grid, width=0.01, radius=0.05, centre=0.52)
    tree = refine(Function(grid, lambda points: np.minimum(small(points), 0.0)), budget=3000)
    assert tree.level.max() == 7 and len(tree.leaves) > 2900


def test_leaves_hold_means_over_their_parts():
    grid = GRIDS["cells"]
    volume = Function(grid, lambda p: p @ [1.0, 2.0, -3.0] + 5)
    tree = refine(volume, budget=1500)
    np.testing.assert_allclose(
        tree.values["f"], np.mean(tree.boxes(np.arange(len(tree.level))), axis=0) @ [1.0, 2.0, -3.0] + 5, atol=1e-4
    )  # a linear field's mean is its value in the middle, on leaves and on nodes that were split


def test_a_constant_field_is_left_at_the_roots():
    tree = refine(Function(GRIDS["points"], lambda p: np.full(len(p), 300.0)), budget=5000)
    assert tree.level.max() == 0 and tree.values["f"].tolist() == [300.0] * len(tree.level)


@pytest.mark.parametrize("name", ["points", "flat", "line"])
def test_no_leaf_is_smaller_than_half_a_cell(name):
    grid = GRIDS[name]
    noise = Function(grid, lambda p: np.random.default_rng(1).random(len(p)))
    tree = refine(noise, budget=100_000)
    edges = np.subtract(*tree.boxes(tree.leaves)[::-1])[:, tree.axes] / np.array(grid.spacing)[list(tree.axes)]
    assert edges.max(axis=1).min() == pytest.approx(0.5, rel=0.1)
    assert len(tree.leaves) < 100_000


# -- masks -------------------------------------------------------------------------------------


def half_empty(points):
    """Data below x = 3.3 only, with a wave."""
    return np.where(points[:, 0] < 3.3, np.sin(points[:, 1]), np.nan)


def test_what_has_no_data_is_masked_and_not_split():
    tree = refine(Function(GRIDS["points"], half_empty), budget=3000)
    masked = tree.masked[tree.leaves]
    np.testing.assert_array_equal(np.isnan(tree.values["f"]), tree.masked)
    empty = tree.volumes(tree.leaves)[masked].sum() / volume_of(GRIDS["points"])
    assert empty == pytest.approx(4.7 / 8, abs=0.04)
    low, _ = tree.boxes(tree.leaves)
    assert set(tree.level[tree.leaves[low[:, 0] >= 4]]) == {0}, "leaves far from the data stay roots"


def test_nothing_stays_below_a_masked_node():
    grid = GRIDS["points"]
    tree = refine(Function(grid, ball(grid)), budget=2000)
    low, high = tree.boxes(np.arange(len(tree.level)))
    masked = high[:, 0] <= 4.0  # with all that is inside of it
    assert (tree.first_child[masked] != NO_CHILD).any()
    pruned = replace(tree, masked=masked).pruned()
    assert (pruned.first_child[pruned.masked] == NO_CHILD).all() and pruned.masked.any()
    np.testing.assert_allclose(pruned.volumes(pruned.leaves).sum(), volume_of(grid), rtol=1e-9)
    points = random_points(grid)
    np.testing.assert_array_equal(pruned.masked[pruned.find(points)], points[:, 0] < 4.0)
    shown = points[points[:, 0] > 4.0]
    np.testing.assert_array_equal(pruned.sample_points(shown, "f"), tree.sample_points(shown, "f"))


@pytest.mark.parametrize("budget", [300, 1000, 3000])
def test_masked_nodes_are_leaves(budget):
    grid = Grid((33, 31, 29))
    present = np.random.default_rng(3).random(grid.dims) < 0.3  # so that cells of any size have too little data

    def scattered(points):
        return np.where(present[tuple(np.rint(points).astype(int).T)], points[:, 2], np.nan)

    tree = refine(Function(grid, scattered), budget=budget)
    inner = np.flatnonzero(tree.first_child != NO_CHILD)
    assert tree.masked.any() and not tree.masked[inner].any()
    assert not tree.masked[tree.first_child[inner, None] + np.arange(8)].all(axis=1).any()


def test_the_border_of_the_data_is_refined():
    grid = Grid((65, 65, 65))
    tree = refine(Function(grid, lambda p: np.where(ball(grid)(p) < 0, p[:, 0] / 64, np.nan)), budget=4000)
    empty = tree.volumes(tree.leaves)[tree.masked[tree.leaves]].sum() / volume_of(grid)
    assert empty == pytest.approx(1 - 4 / 3 * np.pi * 0.3**3, abs=0.005)


def test_no_data_at_all_masks_everything():
    tree = refine(Function(GRIDS["flat"], lambda p: np.full(len(p), np.nan)), budget=3000)
    assert tree.masked.all() and tree.level.max() == 0


def test_a_leaf_is_masked_when_no_array_has_data():
    grid = GRIDS["points"]
    other = Function(grid, half_empty, g=lambda p: np.where(p[:, 0] > 5.2, 1.0, np.nan))
    tree = refine(other, budget=2000)
    gap = np.isnan(tree.values["f"]) & np.isnan(tree.values["g"])
    np.testing.assert_array_equal(tree.masked, gap)
    assert np.isnan(tree.values["g"])[~tree.masked].any()


# -- what is asked for --------------------------------------------------------------------------


def test_one_array_decides_and_all_are_sampled():
    grid = GRIDS["points"]
    volume = Function(grid, ball(grid), v=lambda p: p * [1.0, 2.0, 3.0])
    by_f, by_v = refine(volume, budget=600), refine(volume, "v", budget=600)
    assert not np.array_equal(by_f.first_child, by_v.first_child)
    for tree in (by_f, by_v):
        assert list(tree.values) == ["f", "v"] and tree.values["v"].shape == (len(tree.level), 3)
        centres = np.mean(tree.boxes(tree.leaves), axis=0)
        np.testing.assert_allclose(tree.values["v"][tree.leaves], centres * [1, 2, 3], atol=1e-4)
    assert list(refine(volume, budget=600, arrays=["v"]).values) == ["v"]


def test_the_time_reaches_the_volume():
    volume = Function(GRIDS["points"], ball(GRIDS["points"]), g=ball(GRIDS["points"]))
    refine(volume, budget=100, time=2.5, between=True)
    assert {call[1:] for call in volume.calls} == {("f", 2.5, True), ("g", 2.5, True)}


def test_points_are_evaluated_in_bounded_batches(monkeypatch):
    from apmgsrn_core.sampling import refinement

    monkeypatch.setattr(refinement, "MOST_POINTS", 2000)
    grid = GRIDS["points"]
    small, large = Function(grid, ball(grid)), Function(grid, ball(grid))
    tree = refine(small, budget=2000)
    monkeypatch.undo()
    np.testing.assert_array_equal(tree.values["f"], refine(large, budget=2000).values["f"])
    assert max(small.calls)[0] <= 2000 < max(large.calls)[0]


def test_progress_rises_and_can_stop():
    volume, seen = Function(GRIDS["points"], ball(GRIDS["points"])), []
    refine(volume, budget=2000, on_progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 4
    with pytest.raises(ApmgsrnError, match="refinement was stopped"):
        refine(volume, budget=2000, on_progress=lambda share: share < 0.5)


@pytest.mark.parametrize("budget", [0, -1, 1.5, True, "3", None])
def test_a_bad_budget_is_named(budget):
    with pytest.raises(ConfigError, match="budget: expected a whole number of leaves from 1, found"):
        refine(Function(GRIDS["points"], ball(GRIDS["points"])), budget=budget)


@pytest.mark.parametrize(
    "grid, message", [(Grid((9, 8, 7), direction=TURNED), "direction"), (Grid((1, 1, 1)), "single point")]
)
def test_a_grid_that_cannot_be_refined_is_an_error(grid, message):
    with pytest.raises(ConfigError, match=message):
        refine(Function(grid, lambda p: p[:, 0]))


def test_an_unknown_array_is_named():
    volume = Function(GRIDS["points"], ball(GRIDS["points"]))
    for wanted in ({"field": "g"}, {"arrays": ["f", "g"]}):
        with pytest.raises(FieldError, match="array 'g' is not in the model; it has f"):
            refine(volume, **wanted)
    with pytest.raises(ConfigError, match="arrays: expected at least one name"):
        refine(volume, arrays=[])


@pytest.mark.parametrize("dims, components", [((9, 8, 7), 1), ((17, 9, 1), 2)])
def test_a_trained_model_is_refined(dims, components):
    values, grid = wave(dims, components)
    model = ModelConfig(number_of_grids=6, grid_resolution=(4, 4, 4), hidden_width=16)
    volume = train_volume(values, grid, name="f", model=model, train=tiny(iterations=30)).volume
    tree = refine(volume, budget=800)
    assert isinstance(tree, RefinementTree) and 500 < len(tree.leaves) <= 800
    points = random_points(grid)
    found = volume.sample_points(points)
    error = tree.sample_points(points, "f") - found
    assert np.sqrt(np.mean(error**2)) < 0.25 * found.std()


@pytest.mark.parametrize("name", ["points", "cells", "falling", "stretched", "flat"])
def test_a_part_of_another_lattice_is_covered(name):
    volume = Function(GRIDS[name], ball(GRIDS[name]))
    fine = GRIDS[name].scaled(2)
    part = fine.part([0 if n == 1 else 2 for n in fine.dims], [1 if n == 1 else n - 3 for n in fine.dims])
    tree = refine(volume, budget=600, grid=part)
    assert tree.volumes(tree.leaves).sum() == pytest.approx(volume_of(part))
    ends = np.array([[border[0], border[-1]] for border in tree.borders])
    np.testing.assert_allclose(ends.ravel(), part.bounds)


def test_a_finer_lattice_allows_smaller_leaves():
    volume = Function(GRIDS["points"], lambda p: np.sin(40 * p).sum(axis=1))
    sizes = [
        (tree := refine(volume, budget=50_000, grid=GRIDS["points"].scaled(scale))).volumes(tree.leaves).min()
        for scale in (0.5, 1, 2)
    ]
    np.testing.assert_allclose(np.array(sizes) / sizes[1], [8 * 7 * 6 / (4 * 4 * 3), 1, 0.125])


def test_values_of_leaves_are_averaged_upwards():
    tree = refine(Function(GRIDS["points"], half_empty), budget=3000)
    rows = np.arange(2.0 * len(tree.leaves)).reshape(-1, 2)
    more = tree.with_leaf_values("g", rows)
    assert list(more.values) == ["f", "g"] and list(tree.values) == ["f"]
    found, there = more.values["g"], ~tree.masked[tree.leaves]
    np.testing.assert_array_equal(found[tree.leaves][there], rows[there])
    assert np.isnan(found[tree.masked]).all() and np.isfinite(found[~tree.masked]).all()
    node = np.flatnonzero((tree.first_child != NO_CHILD) & ~tree.masked)[-1]
    family = found[tree.first_child[node] + np.arange(8)]
    np.testing.assert_allclose(found[node], np.nanmean(family, axis=0), rtol=1e-6)
    low, high = tree.boxes(tree.leaves)
    np.testing.assert_allclose(tree.centres(tree.leaves), (low + high) / 2)


@pytest.mark.parametrize("kind, fill, expected", [("uint8", np.nan, 0), ("uint8", -5, 0), ("int16", 7.6, 8), ("float32", 3.5, 3.5)])
def test_fields_as_they_are_shown(kind, fill, expected):
    tree = refine(Function(GRIDS["points"], lambda p: 100 * half_empty(p)), budget=3000)
    found, plain = tree.finished({"f": kind}, fill).values["f"], tree.values["f"]
    assert found.dtype == kind and (found[np.isnan(plain)] == expected).all() and np.isnan(plain).sum() > 10
    there = np.isfinite(plain)
    wanted = np.clip(np.rint(plain[there]), 0, 255) if kind == "uint8" else np.rint(plain[there])
    np.testing.assert_array_equal(found[there], plain[there] if kind == "float32" else wanted)
