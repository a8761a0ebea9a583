"""Lattice arithmetic: properties over many grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import ConfigError, Grid, Region

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

dims = st.tuples(*[st.integers(1, 9)] * 3)
numbers = st.floats(-1e3, 1e3)
spacings = st.floats(0.01, 50) | st.floats(-50, -0.01)


@st.composite
def grids(draw):
    angle = draw(st.floats(0, 6.28))
    c, s = np.cos(angle), np.sin(angle)
    rotation = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, draw(st.sampled_from([1.0, -1.0]))))
    return Grid(
        draw(dims), draw(st.tuples(*[numbers] * 3)), draw(st.tuples(*[spacings] * 3)), rotation,
        draw(st.sampled_from(["point", "cell"])),
    )  # fmt: skip


@given(grids(), st.tuples(*[st.floats(-3, 12)] * 3))
def test_world_and_index_are_inverse(grid, index):
    back = grid.world_to_index(grid.index_to_world(np.array([index])))
    np.testing.assert_allclose(back, [index], atol=1e-6)


@given(grids())
def test_first_and_last_values_are_minus_and_plus_one(grid):
    centre = 0.0 if grid.association == "point" else 0.5
    for axis in range(3):
        first, last = np.full((1, 3), centre), np.full((1, 3), centre)
        last[0, axis] += grid.value_dims[axis] - 1
        expected = (0.0, 0.0) if grid.value_dims[axis] == 1 else (-1.0, 1.0)
        found = (grid.index_to_normalised(first)[0, axis], grid.index_to_normalised(last)[0, axis])
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_allclose(grid.value_to_normalised(axis, [0, grid.value_dims[axis] - 1]), expected, atol=1e-12)


@given(grids())
def test_own_points_are_inside_and_far_ones_are_not(grid):
    corners = grid.index_to_world(np.array([[0, 0, 0], np.array(grid.dims) - 1]))
    assert grid.contains(corners).all()
    outside = grid.index_to_world(np.array([[-0.1, 0, 0], [0, grid.dims[1] - 0.9, 0]]))
    assert not grid.contains(outside).any()
    assert not grid.contains(np.full((1, 3), np.nan)).any()


@given(grids(), st.floats(0.1, 16))
def test_scaling_keeps_the_bounds(grid, scale):
    scaled = grid.scaled(scale)
    np.testing.assert_allclose(scaled.bounds, grid.bounds, rtol=1e-9, atol=1e-6)
    for old, new in zip(grid.dims, scaled.dims):
        assert new == (1 if old == 1 else max(round((old - 1) * scale) + 1, 2))


@given(grids())
def test_manifest_round_trip(grid):
    assert Grid.from_dict(grid.to_dict()) == grid


@given(grids())
def test_the_whole_box_is_the_whole_range(grid):
    if grid.direction[0][0] in (1.0, -1.0):
        assert grid.index_range(grid.bounds) == ((0, 0, 0), grid.dims)


def test_index_range_keeps_the_points_inside():
    grid = Grid((9, 8, 7), origin=(10, 20, 30), spacing=(2, 1, -1))
    assert grid.index_range((11, 15, 20, 20.4, 26, 28)) == ((1, 0, 2), (3, 1, 5))
    with pytest.raises(ConfigError, match="does not touch"):
        grid.index_range((100, 101, 0, 1, 0, 1))
    with pytest.raises(ConfigError, match="x min <= x max"):
        grid.index_range((3, 2, 0, 1, 0, 1))


def test_a_box_between_two_points_keeps_the_nearest():
    assert Grid((5, 5, 5)).index_range((1.6, 1.7, 0, 4, 0, 4)) == ((2, 0, 0), (3, 5, 5))


def test_cells_reach_half_a_cell_beyond_their_centres():
    grid = Grid((5, 5, 5), association="cell")
    assert grid.value_dims == (4, 4, 4)
    assert grid.bounds == (0, 4, 0, 4, 0, 4)
    np.testing.assert_allclose(grid.index_to_normalised(np.zeros((1, 3))), -1 - 1 / 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dims": (0, 1, 1)}, "dims"),
        ({"dims": (2, 2)}, "3 numbers"),
        ({"dims": (2, 2, 2), "spacing": (1, 0, 1)}, "spacing"),
        ({"dims": (2, 2, 2), "origin": (float("nan"), 0, 0)}, "finite"),
        ({"dims": (2, 2, 2), "direction": ((1, 0, 0), (1, 0, 0), (0, 0, 1))}, "direction"),
        ({"dims": (2, 2, 2), "association": "face"}, "association"),
    ],
)
def test_bad_grids_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Grid(**arguments)


def test_region_shape():
    assert Region((1, 2, 3), (4, 4, 4)).shape_zyx == (1, 2, 3)
    assert Region((1, 2, 3), (1, 4, 4)).count == 0


AXES = ((0.0, 1.0, 3.0, 4.5), (5.0, 4.0, 1.0), (-2.0, -1.5))


def stretched(association: str = "point") -> Grid:
    return Grid.stretched(AXES, association)


def test_a_stretched_lattice_is_linear_between_its_points():
    grid = stretched()
    assert grid.dims == (4, 3, 2) and grid.bounds == (0.0, 4.5, 1.0, 5.0, -2.0, -1.5)
    index = np.array([[0, 0, 0], [2, 1, 1], [1.5, 1.5, 0.5], [3, 2, 1]])
    world = grid.index_to_world(index)
    np.testing.assert_allclose(world, [[0, 5, -2], [3, 4, -1.5], [2, 2.5, -1.75], [4.5, 1, -1.5]])
    np.testing.assert_allclose(grid.world_to_index(world), index, atol=1e-12)
    assert grid.contains(np.array([[4.5, 1, -2], [4.6, 1, -2], [0, 5.1, -2]])).tolist() == [True, False, False]
    beyond = np.array([[-1.0, 3.5, 2.0]])
    np.testing.assert_allclose(grid.world_to_index(grid.index_to_world(beyond)), beyond, atol=1e-12)
    step = 1e-6
    for row, slopes in zip(world[2:3], grid.world_slopes(index[2:3])):
        finite = [(grid.world_to_index([row + d]) - grid.world_to_index([row - d]))[0] / (2 * step) for d in np.eye(3) * step]
        np.testing.assert_allclose(slopes, np.array(finite).T, atol=1e-6)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=8), st.integers(2, 9), st.booleans())
def test_stretched_lattices_keep_their_box(steps, new, falling):
    axis = np.concatenate([[0.0], np.cumsum(steps)]) * (-1 if falling else 1)
    grid = Grid.stretched((axis, (0.0, 1.0), (2.0,)))
    assert grid == Grid.from_dict(grid.to_dict())
    finer = grid.with_dims((new, 2, 1))
    assert finer.dims == (new, 2, 1)
    np.testing.assert_allclose(finer.bounds, grid.bounds)
    same = grid.with_dims(grid.dims)
    np.testing.assert_allclose(same.bounds, grid.bounds)
    part = grid.part((len(axis) - 2, 0, 0), (2, 2, 1))
    np.testing.assert_allclose(part.index_to_world([[0, 0, 0], [1, 1, 0]]), grid.index_to_world([[len(axis) - 2, 0, 0], [len(axis) - 1, 1, 0]]))


def test_equal_steps_make_a_uniform_lattice():
    grid = Grid.stretched((np.arange(5) * 0.1, np.arange(3) * 2.0 + 1, (0.0, 0.5)), "cell")
    assert grid.axes is None and grid.association == "cell" and grid.origin == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"axes": ((0, 1, 1, 2), *AXES[1:])}, "along x"), ({"axes": ((0, 1, float("nan"), 2), *AXES[1:])}, "along x"),
        ({"axes": AXES[:2]}, "coordinates"), ({"dims": (4, 3, 3)}, "coordinates"),
        ({"direction": ((0, 1, 0), (1, 0, 0), (0, 0, 1))}, "no direction"),
    ],
)  # fmt: skip
def test_axes_that_cannot_be(change, message):
    with pytest.raises(ConfigError, match=message):
        Grid(**{"dims": (4, 3, 2), "axes": AXES, **change})
