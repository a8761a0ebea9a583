"""Errors summed block by block against their definitions on the whole."""

import numpy as np
import pytest
from thread_ranks import on_ranks

from apmgsrn_core.sampling import error_metrics
from apmgsrn_core import BrickLayout, Communicator, DataError, ErrorSums, Grid, Region, bricks_of_points, psnr, ssim
from apmgsrn_core.sampling.error_metrics import ssim_of_pieces

RNG = np.random.default_rng(3)
FIGURES = ("compared", "left_out", "max_error", "span", "rmse", "psnr", "relative_l2")


def figures(sums):
    return np.array([getattr(sums, name) for name in FIGURES])


def data(n=997, components=1, dtype="float32"):
    shape = (n, components) if components > 1 else (n,)
    reference = (RNG.normal(size=shape) * 40 + 7).astype(dtype)
    return reference, (reference + RNG.normal(size=shape)).astype("float32")


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_psnr_is_that_of_metrics(components, dtype):
    reference, values = data(components=components, dtype=dtype)
    sums = ErrorSums()
    sums.add(reference, values)
    assert sums.psnr[0] == pytest.approx(psnr(reference, values), rel=1e-12)
    assert (sums.compared[0], sums.left_out[0]) == (997, 0)


@pytest.mark.parametrize("components", [1, 3])
def test_figures_by_their_definitions(components):
    reference, values = data(components=components)
    sums = ErrorSums()
    sums.add(reference, values)
    error = (values.astype(float) - reference).reshape(997, components)
    assert sums.max_error[0] == pytest.approx(np.linalg.norm(error, axis=1).max())
    assert sums.rmse[0] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert sums.relative_l2[0] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(reference.astype(float)))
    assert sums.span[0] == reference.max().astype(float) - reference.min()


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("block", [7, 64, 1 << 18])
def test_merged_parts_are_the_whole(components, block, monkeypatch):
    monkeypatch.setattr(error_metrics, "BLOCK", block)
    reference, values = data(components=components)
    reference.reshape(997, -1)[::9, 0] = np.nan
    whole, merged, parted = ErrorSums(), ErrorSums(), ErrorSums(5)
    whole.add(reference, values)
    cuts = [0, 3, 3, 400, 997]
    for first, last in zip(cuts, cuts[1:]):
        piece = ErrorSums()
        piece.add(reference[first:last], values[first:last])
        merged.merge(piece)
    part = RNG.integers(0, 4, 997)  # the fifth has none
    parted.add(reference, values, part)
    np.testing.assert_allclose(figures(merged), figures(whole), rtol=1e-12)
    np.testing.assert_allclose(figures(parted.whole()), figures(whole), rtol=1e-12)
    for number in range(4):
        alone = ErrorSums()
        alone.add(reference[part == number], values[part == number])
        np.testing.assert_allclose(figures(parted)[:, number], figures(alone)[:, 0], rtol=1e-12)


def test_what_is_not_finite_is_left_out():
    reference, values = data(components=3)
    reference[5, 1], values[9], values[11, 2] = np.nan, np.nan, np.inf
    kept = np.ones(997, dtype=bool)
    kept[[5, 9, 11]] = False
    sums, expected = ErrorSums(), ErrorSums()
    sums.add(reference, values)
    expected.add(reference[kept], values[kept])
    assert (sums.compared[0], sums.left_out[0]) == (994, 3)
    np.testing.assert_allclose(figures(sums)[2:], figures(expected)[2:], rtol=1e-12)


def test_nothing_equal_and_constant():
    none, equal, constant, zero = (ErrorSums() for _ in range(4))
    none.add(np.zeros(0), np.zeros(0))
    equal.add(np.arange(9.0), np.arange(9.0))
    constant.add(np.full(9, 4.0), np.full(9, 5.0))
    zero.add(np.zeros(9), np.ones(9))
    assert np.isnan([none.psnr, none.rmse, none.max_error, none.span, none.relative_l2]).all()
    assert (equal.psnr[0], equal.relative_l2[0], equal.max_error[0]) == (np.inf, 0, 0)
    assert (constant.psnr[0], constant.relative_l2[0], constant.rmse[0]) == (-np.inf, 0.25, 1)
    assert zero.relative_l2[0] == np.inf


def test_what_does_not_fit_is_named():
    sums = ErrorSums()
    with pytest.raises(DataError, match="one shape"):
        sums.add(np.zeros(4), np.zeros(5))
    sums.add(np.zeros((4, 3)), np.zeros((4, 3)))
    with pytest.raises(DataError, match="3 components, found 1"):
        sums.add(np.zeros(4), np.zeros(4))
    with pytest.raises(DataError, match="found 2"):
        sums.merge(ErrorSums(2))


@pytest.mark.parametrize("association", ["point", "cell"])
def test_each_value_is_counted_with_the_brick_that_owns_it(association):
    grid = Grid((9, 8, 7), (1, 2, 3), (0.5, -1, 2), association=association)
    layout = BrickLayout(grid.value_dims, (2, 3, 1))
    shift = 0.5 if association == "cell" else 0.0
    for brick in range(layout.count):
        owned = layout.owned(brick)
        index = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(owned.start, owned.stop))), -1).reshape(-1, 3)
        assert (bricks_of_points(grid.index_to_world(index + shift), grid, layout) == brick).all()
    outside = np.array([[0.0, 2, 3], [np.nan, 0, 0]])
    assert bricks_of_points(outside, grid, layout).tolist() == [6, 6]


def cut(dims, axis, ranks, shared):
    """(held, own) of each rank: an axis cut into pieces; with `shared` the pieces have a plane in common, as points do."""
    faces = [part * (dims[axis] - 1) // ranks for part in range(ranks)] + [dims[axis] - shared]
    pieces = []
    for a, b in zip(faces, faces[1:]):
        start, stop, end = [0, 0, 0], list(dims), list(dims)
        start[axis], stop[axis], end[axis] = a, b + shared, b + shared * (b == dims[axis] - 1)
        pieces.append((Region(start, stop), Region(start, end)))
    return pieces


@pytest.mark.parametrize("dims", [(9, 8, 20), (21, 3, 9), (30, 9, 1)])
@pytest.mark.parametrize("ranks, shared", [(1, 0), (2, 0), (2, 1), (3, 1), (4, 0)])
def test_ssim_of_pieces_is_that_of_the_whole(dims, ranks, shared):
    x = RNG.random(dims[::-1])
    y = x + 0.1 * RNG.random(dims[::-1])
    pieces = cut(dims, int(np.argmax(dims)), ranks, shared)

    def work(communicator):
        held, own = pieces[communicator.rank]
        box = tuple(slice(a, b) for a, b in zip(held.start, held.stop))[::-1]
        return ssim_of_pieces(x[box], y[box], held, own, dims, np.ptp(x), communicator)

    assert on_ranks(ranks, work) == pytest.approx([ssim(x, y)] * ranks, rel=1e-9)


def test_ssim_of_a_volume_with_a_missing_piece_is_not_a_number():
    x = RNG.random((9, 9, 9))
    held = Region((0, 0, 0), (9, 9, 8))
    assert np.isnan(ssim_of_pieces(x[:8], x[:8], held, held, (9, 9, 9), 1.0, Communicator()))
