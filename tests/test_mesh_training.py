"""Training from scattered samples: a model of a mesh, its mask, its bricks."""

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, BrickLayout, Communicator, DataError, Grid, ModelConfig, NeuralVolume, TrainConfig, finest_cover, train_samples

TINY = ModelConfig(8, 1, (5, 5, 5), hidden_layers=1, hidden_width=16, bias=True)
GRID = Grid((9, 8, 7), (1.0, 2.0, 3.0), (0.5, 1.0, 2.0))


def field(points):
    x, y, z = ((points - GRID.origin) / (np.array(GRID.spacing) * (np.array(GRID.dims) - 1))).T
    return np.stack([100 + 50 * x * y, x - z, y, z * z], axis=1)


def samples(count=4000, seed=0):
    unit = np.random.default_rng(seed).random((count, 3))
    points = np.array(GRID.origin) + unit * np.array(GRID.spacing) * (np.array(GRID.dims) - 1)
    return points, field(points)


SPECS = (ArraySpec("t", 1, "float32", "cell"), ArraySpec("v", 3, "float64", "point"))


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 2)])
def test_a_mesh_comes_back(bricks):
    points, values = samples()
    result = train_samples(points, values, GRID, arrays=SPECS, model=TINY, train=TrainConfig(iterations=400), bricks=bricks)
    volume = result.volume
    assert [a.association for a in volume.arrays] == ["cell", "point"] and volume.header.mask == "voxels"
    others, expected = samples(500, 1)
    for name, own in (("t", expected[:, 0]), ("v", expected[:, 1:])):
        assert np.abs(volume.sample_points(others, name) - own).max() < 0.2 * np.ptp(own), name
    assert result.psnr > 25
    assert volume.reconstruct(field="v").shape == (7, 8, 9, 3)


def test_outside_of_the_mesh_there_is_nothing():
    points, values = samples()
    covered = np.ones((6, 7, 8), dtype=bool)
    covered[3:, :, :4] = False
    result = train_samples(points, values, GRID, arrays=SPECS, covered=covered, model=TINY, train=TrainConfig(iterations=20))
    z, y, x = np.meshgrid(*map(np.arange, covered.shape), indexing="ij")
    centres = GRID.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + 0.5)
    np.testing.assert_array_equal(np.isfinite(result.volume.sample_points(centres, "t")), covered.ravel())
    np.testing.assert_array_equal(result.volume.valid_points(centres), covered.ravel())


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_finer_voxels_than_those_of_the_grid(parts, bricks):
    points, values = samples()
    covered = np.random.default_rng(2).random([n * parts for n in (6, 7, 8)]) < 0.7
    result = train_samples(
        points, values, GRID, arrays=SPECS, covered=covered, model=TINY, train=TrainConfig(iterations=20), bricks=bricks
    )
    volume = NeuralVolume.from_bytes(result.to_bytes())
    assert volume.header.mask == f"voxels/{parts}" and "mask" in volume.header.manifest["requires"]
    z, y, x = np.meshgrid(*map(np.arange, covered.shape), indexing="ij")
    centres = GRID.index_to_world((np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + 0.5) / parts)
    np.testing.assert_array_equal(volume.valid_points(centres), covered.ravel())
    np.testing.assert_array_equal(np.isfinite(volume.sample_points(centres, "v")).all(axis=1), covered.ravel())
    lattice = Grid(tuple(2 * n + 3 for n in GRID.dims), GRID.origin, tuple(s / 3 for s in GRID.spacing))
    z, y, x = np.meshgrid(*map(np.arange, lattice.dims[::-1]), indexing="ij")
    at_points = volume.valid_points(lattice.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)))
    np.testing.assert_array_equal(volume.valid_region(grid=lattice).ravel(), at_points)


@pytest.mark.parametrize("first, later", [(1, 3), (3, 1), (2, 3), (4, 4)])
def test_a_further_step_has_the_voxels_of_the_first(first, later):
    points, values = samples(500)
    covered = np.arange(6 * 7 * 8).reshape(6, 7, 8) % 3 > 0
    fine = {n: covered.repeat(n, 0).repeat(n, 1).repeat(n, 2) for n in (first, later)}
    settings = {"arrays": SPECS, "model": TINY, "train": TrainConfig(iterations=10)}
    base = train_samples(points, values, GRID, covered=fine[first], time=0.0, series=True, **settings).to_bytes()
    volume = train_samples(points, values, GRID, covered=fine[later], time=1.0, append=base, **settings).volume
    assert volume.header.mask == ("voxels" if first == 1 else f"voxels/{first}")
    z, y, x = np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij")
    centres = GRID.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + 0.5)
    for time in (0.0, 1.0):
        np.testing.assert_array_equal(volume.valid_points(centres, time=time), covered.ravel())


def test_a_cover_is_as_fine_as_its_mask_is_short():
    random, asked = np.random.default_rng(0), []

    def cover(parts):
        asked.append(parts)
        return random.random((4 * parts, 5 * parts, 6 * parts)) < 0.5

    found = [finest_cover(cover, (4, 3, 2, 1), most, Communicator()).shape[0] // 4 for most in (10_000, 600, 0)]
    assert found[0] == 4 and found[1] in (2, 3) and found[2] == 1
    assert asked[:2] == [4, 4] and asked[-4:] == [4, 3, 2, 1]
    assert finest_cover(lambda parts: np.ones((4, 4, 4), bool), (4, 1), 0, Communicator()).all()


def test_the_same_samples_give_the_same_model_and_go_on_from_a_checkpoint(tmp_path):
    points, values = samples(1000)
    settings = dict(arrays=SPECS, model=TINY, train=TrainConfig(iterations=60, importance_start=20), bricks=(1, 2, 1))
    first = train_samples(points, values, GRID, **settings)
    path = tmp_path / "m.apmgsrn"
    seen = []

    def stop(state):
        seen.append(state.iteration)
        return len(seen) < 3

    with pytest.raises(Exception, match="stopped by user"):
        train_samples(points, values, GRID, **settings, path=path, checkpoint_interval=1e-9, on_progress=stop)
    again = train_samples(points, values, GRID, **settings, path=path, checkpoint_interval=1e-9)
    assert again.to_bytes() == first.to_bytes()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p, v: (p[:, :2], v), r"positions \(n, 3\)"), (lambda p, v: (p[:9], v), r"positions \(n, 3\)"),
        (lambda p, v: (p, v[:, :3]), r"values \(n, 4\) of 2 arrays"), (lambda p, v: (p, v.astype(int)), "floating-point"),
        (lambda p, v: (p[:0], v[:0]), "expected finite values, found 0"), (lambda p, v: (p, v * np.nan), "array 't': expected finite"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        train_samples(*change(*samples(100)), GRID, arrays=SPECS, model=TINY, train=TrainConfig(iterations=5))


def test_a_covered_part_must_have_the_voxels_of_the_grid():
    with pytest.raises(DataError, match=r"covered voxels: expected bool of shape \(6, 7, 8\)"):
        train_samples(*samples(50), GRID, arrays=SPECS, covered=np.ones((7, 8, 9), bool), model=TINY)


def test_bricks_with_ghosts_have_the_voxels_of_their_cores():
    points, values = samples(2000)
    covered = np.arange(6 * 7 * 8).reshape(6, 7, 8) % 3 > 0
    layout = BrickLayout(GRID.dims, (2, 1, 1), ghosts=1)
    settings = {"arrays": SPECS, "model": TINY, "train": TrainConfig(iterations=10)}
    volume = NeuralVolume.from_bytes(train_samples(points, values, GRID, covered=covered, bricks=layout, **settings).to_bytes())
    z, y, x = np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij")
    centres = GRID.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + 0.5)
    np.testing.assert_array_equal(volume.valid_points(centres), covered.ravel())
