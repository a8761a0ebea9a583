"""Bricks: cover, owner, inverse, weights, ranks; over thousands of layouts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import ConfigError, Grid
from apmgsrn_core.brick_layout import BrickLayout, split_axis

MANY = settings(max_examples=600, deadline=None)


@st.composite
def layouts(draw, most=24):
    dims = [draw(st.integers(1, most)) for _ in range(3)]
    counts = [draw(st.integers(1, max(n - 1, 1))) for n in dims]
    ghosts = draw(st.integers(0, 4))
    return BrickLayout(dims, counts, ghosts, draw(st.integers(0, ghosts + 1)))


def covered(layout, box_of):
    """How often each value [z, y, x] is in the boxes."""
    times = np.zeros(layout.dims[::-1], dtype=int)
    for brick in range(layout.count):
        region = box_of(brick)
        times[tuple(slice(a, b) for a, b in zip(region.start[::-1], region.stop[::-1]))] += 1
    return times


@MANY
@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_parts_tile_an_axis_and_are_equal_but_for_one(intervals, count):
    faces = split_axis(intervals, count)
    sizes = np.diff(faces)
    assert faces[0] == 0 and faces[-1] == intervals and len(faces) == count + 1
    assert sizes.max() - sizes.min() <= 1


@MANY
@given(layouts())
def test_bricks_own_every_value_once_and_share_their_faces(layout):
    assert (covered(layout, layout.owned) == 1).all()
    times = covered(layout, layout.core)
    inner = [np.isin(np.arange(n), f[1:-1]) for n, f in zip(layout.dims, layout.faces)]
    z, y, x = np.meshgrid(*inner[::-1], indexing="ij")
    assert (times == 2 ** (x.astype(int) + y + z)).all()


@MANY
@given(layouts())
def test_place_and_number_are_inverse(layout):
    bricks = np.arange(layout.count)
    assert (layout.number(*layout.place(bricks)) == bricks).all()
    assert len(set(zip(*layout.place(bricks)))) == layout.count


def positions_in(layout, seed, count=200):
    """Random, on values, on faces, and beyond the ends."""
    random = np.random.default_rng(seed)
    last = np.array(layout.dims) - 1
    free = random.uniform(-0.6, last + 0.6, (count, 3))
    on_values = random.integers(0, last + 1, (count, 3)).astype(float)
    on_faces = np.stack([random.choice(f, count) for f in layout.faces], axis=1).astype(float)
    return np.concatenate([free, on_values, on_faces, np.where(random.random((count, 3)) < 0.5, free, on_faces)])


@pytest.mark.slow
@MANY
@given(layouts(), st.integers(0, 10**6))
def test_the_owner_holds_its_positions(layout, seed):
    positions = positions_in(layout, seed)
    inside = np.clip(positions, 0, np.array(layout.dims) - 1)
    for brick, position in zip(layout.owner(positions), inside):
        core = layout.core(brick)
        assert (position >= core.start).all() and (position <= np.array(core.stop) - 1).all()


@MANY
@given(layouts(), st.integers(0, 10**6))
def test_weights_sum_to_one_and_stay_inside_the_trained_values(layout, seed):
    positions = positions_in(layout, seed)
    rows, bricks, weights = layout.contributions(positions)
    assert (weights > 0).all() and (weights <= 1).all()
    np.testing.assert_allclose(np.bincount(rows, weights, len(positions)), 1.0, rtol=0, atol=1e-15)
    assert np.bincount(rows).max() <= 8
    assert len(set(zip(rows.tolist(), bricks.tolist()))) == len(rows)
    assert (np.diff(bricks) >= 0).all() and (np.diff(rows)[np.diff(bricks) == 0] > 0).all()
    inside = np.clip(positions, 0, np.array(layout.dims) - 1)[rows]
    trained = [layout.trained(b) for b in range(layout.count)]
    start = np.array([t.start for t in trained])[bricks]
    stop = np.array([t.stop for t in trained])[bricks]
    beyond = max(layout.overlap - layout.ghosts, 0)  # where a border's value goes on
    assert (inside >= start - beyond).all() and (inside <= stop - 1 + beyond).all()


@settings(max_examples=300, deadline=None)
@given(layouts(most=12), st.integers(0, 10**6))
def test_contributions_are_the_products_of_the_axes_weights(layout, seed):
    positions = positions_in(layout, seed, 20)
    rows, bricks, weights = layout.contributions(positions)
    found = np.zeros((len(positions), layout.count))
    found[rows, bricks] = weights
    for brick in range(layout.count):
        expected = np.ones(len(positions))
        for axis, part in enumerate(layout.place(brick)):
            expected *= layout.weight(axis, part, positions[:, axis])
            half = layout.half_widths[axis]
            low, high = layout.faces[axis][part] - half, layout.faces[axis][part + 1] + half
            outside = (positions[:, axis] < low) & (part > 0)
            outside |= (positions[:, axis] > high) & (part + 1 < layout.counts[axis])
            assert not layout.weight(axis, part, positions[outside, axis]).any()
        np.testing.assert_allclose(found[:, brick], expected, rtol=0, atol=1e-15)


def test_weights_are_smooth_across_a_face_and_half_on_it():
    layout = BrickLayout((17, 9, 9), (2, 1, 1), 2, 2)
    positions = np.linspace(0, 16, 1601)
    left = layout.weight(0, 0, positions)
    assert left[800] == 0.5 and (left[:600] == 1).all() and (left[1001:] == 0).all()
    assert np.abs(np.diff(left)).max() < 0.005 and np.abs(np.diff(left, 2)).max() < 2e-4
    assert (BrickLayout((17, 9, 9), (2, 1, 1), 0, 0).weight(0, 0, positions) == (positions < 8)).all()


@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("dims", [(7, 8, 9), (13, 1, 2)])
def test_the_lattice_of_a_brick_lies_where_its_values_do(association, dims):
    grid = Grid(dims, (1, 2, 3), (0.5, -1, 2), ((0, -1, 0), (1, 0, 0), (0, 0, 1)), association)
    layout = BrickLayout(grid.value_dims, [2 if n > 2 else 1 for n in grid.value_dims], 1, 1)
    for brick in range(layout.count):
        part, region = layout.grid_of(brick, grid), layout.trained(brick)
        assert part.value_dims == tuple(b - a for a, b in zip(region.start, region.stop))
        np.testing.assert_allclose(part.index_to_world([(0, 0, 0)]), grid.index_to_world([region.start]), atol=1e-12)
        for corner in itertools.product(*((0, n - 1) for n in part.value_dims)):
            world = part.index_to_world([corner])
            np.testing.assert_allclose(world, grid.index_to_world([np.add(corner, region.start)]), atol=1e-12)


@MANY
@given(layouts(), st.integers(1, 40))
def test_ranks_have_boxes_and_none_is_idle_without_need(layout, size):
    ranks = layout.ranks(size)
    assert ranks.min() >= 0 and ranks.max() < size
    bricks = np.bincount(ranks, minlength=size)
    assert (bricks > 0).sum() == min(size, layout.count)
    i, j, k = layout.place(np.arange(layout.count))
    for rank in np.flatnonzero(bricks):
        extents = [np.ptp(axis[ranks == rank]) + 1 for axis in (i, j, k)]
        assert np.prod(extents) == bricks[rank]


def test_ranks_share_evenly_where_the_numbers_allow():
    for counts, size in (((4, 4, 4), 8), ((8, 8, 8), 512), ((2, 2, 2), 2), ((2, 2, 2), 4), ((6, 1, 1), 3)):
        bricks = np.bincount(BrickLayout((99, 99, 99), counts).ranks(size), minlength=size)
        assert (bricks == np.prod(counts) // size).all(), (counts, size)


@MANY
@given(st.tuples(*[st.integers(1, 3000)] * 3), st.integers(1, 16), st.integers(0, 10**9), st.integers(1, 600))
def test_automatic_counts_are_as_few_as_memory_and_target_allow(dims, value_bytes, memory, bricks):
    layout = BrickLayout.automatic(dims, (0, 0, 0), value_bytes, memory, bricks)
    largest = np.prod([max(np.diff(f).max(), 1) for f in layout.faces])
    exhausted = all(2 * c > n - 1 for c, n in zip(layout.counts, dims))
    fits = largest <= 256**3 and (not memory or largest * value_bytes <= memory)
    assert exhausted or (fits and layout.count >= bricks)
    if layout.count == 1:
        assert exhausted or bricks == 1
    one = BrickLayout.automatic((256, 256, 256), (0, 0, 0), 1)
    assert one.count == 1


def test_automatic_keeps_what_is_asked_for():
    assert BrickLayout.automatic((512, 512, 512)).counts == (2, 2, 2)
    assert BrickLayout.automatic((100, 100, 100), (3, 0, 1), 4, 4 * 10**5).counts == (3, 4, 1)
    assert BrickLayout.automatic((100, 100, 100), (3, 2, 1), 4, 1).counts == (3, 2, 1)
    assert BrickLayout.automatic((1, 1, 5), least_bricks=100).counts == (1, 1, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(counts=(7, 1, 1)), "at most 6 along x for 7 values"),
        (dict(counts=(1, 0, 1)), "counts"),
        (dict(ghosts=0, overlap=2), "overlap: expected from 0 to the ghosts and one \\(1\\)"),
        (dict(overlap=-1), "overlap"),
        (dict(ghosts=-1), "ghosts"),
    ],
)
def test_a_layout_that_cannot_be_is_told(arguments, words):
    with pytest.raises(ConfigError, match=words):
        BrickLayout((7, 7, 7), **arguments)


@MANY
@given(layouts())
def test_the_manifest_gives_the_layout_back(layout):
    assert BrickLayout.from_dict(layout.to_dict(), layout.dims) == layout


@pytest.mark.parametrize("data", [{}, {"counts": [1, 1], "ghosts": 0, "overlap": 0}, {"counts": [1, 1, 1.5], "ghosts": 0, "overlap": 0}])
def test_a_damaged_manifest_is_no_layout(data):
    with pytest.raises((ConfigError, KeyError)):
        BrickLayout.from_dict(data, (9, 9, 9))
