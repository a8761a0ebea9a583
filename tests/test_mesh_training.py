"""Training from scattered samples: a model of a mesh, its mask, its bricks."""

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, DataError, Grid, ModelConfig, TrainConfig, train_samples

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
