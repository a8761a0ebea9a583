"""Batches: right targets, unbiased weights, holes left out."""

import numpy as np
import pytest
import torch
from volumes import wave

from apmgsrn_core import Grid, TrainConfig
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.kernels import cpu_library
from apmgsrn_core.kernels.cpu_batch import TYPES
from apmgsrn_core.training.sampler import Sampler, random_numbers


def make(values, grid, **settings):
    data = FieldData(values, grid)
    config = TrainConfig(**settings).resolved(grid)
    return Sampler(data, config, torch.Generator().manual_seed(0)), data


@pytest.mark.parametrize("positions", ["values", "continuous"])
@pytest.mark.parametrize("dims", [(9, 8, 7), (1, 8, 7), (5, 1, 1)])
@pytest.mark.parametrize("association", ["point", "cell"])
def test_targets_are_the_data_at_the_points(positions, dims, association):
    grid = Grid(dims, association=association)
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in grid.value_dims]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    values = x + 2 * y + 4 * z  # linear: trilinear interpolation is exact
    if np.ptp(values) == 0:
        pytest.skip("a single cell")
    sampler, data = make(values, grid, positions=positions, batch_size=300)
    batch = sampler.draw()
    expected = (batch.points.double() @ torch.tensor([1.0, 2, 4], dtype=torch.double) - data.minimum) / data.span
    torch.testing.assert_close(batch.targets[:, 0].double(), expected, atol=1e-5, rtol=0)
    assert batch.points.abs().max() <= 1 and (batch.weights == 1).all()


def test_every_value_is_drawn_and_equally_often():
    values, grid = wave((5, 4, 3))
    sampler, _ = make(values, grid, batch_size=60_000, positions="values")
    points = sampler.draw().points
    _, counts = np.unique(points.numpy(), axis=0, return_counts=True)
    assert len(counts) == 60 and counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize("positions", ["values", "continuous"])
def test_importance_sampling_is_unbiased(positions):
    values, grid = wave((33, 20, 27))
    sampler, _ = make(
        values, grid, positions=positions, batch_size=20_000, importance_start=0, importance_refresh=1,
        importance_blocks=4,
    )  # fmt: skip
    function = lambda batch: (1 + batch.points[:, 0].numpy()) ** 4  # an error that sits on one side  # noqa: E731
    expected = np.mean([function(sampler.draw()).mean() for _ in range(20)])
    for iteration in range(30):
        batch = sampler.draw()
        sampler.report(iteration, batch, torch.from_numpy(function(batch)))
    batches = [sampler.draw() for _ in range(20)]
    assert np.mean([function(b).mean() for b in batches]) > 1.2 * expected  # it does look where the error is
    weighted = np.mean([(function(b) * b.weights[:, 0].numpy()).mean() for b in batches])
    assert weighted == pytest.approx(expected, rel=0.02)
    assert np.mean([b.weights.mean() for b in batches]) == pytest.approx(1.0, rel=0.01)


def test_holes_have_no_weight_and_no_error():
    values, grid = wave((9, 8, 7))
    values[:, :, :4] = np.nan
    values[0, 0, 8] = np.inf
    sampler, data = make(values, grid, batch_size=2000, importance_start=0, importance_refresh=1)
    assert data.missing == 7 * 8 * 4 + 1
    for iteration in range(5):
        batch = sampler.draw()
        hole = batch.points[:, 0] < -0.1
        assert (batch.weights[hole] == 0).all() and (batch.weights[~hole] > 0).float().mean() > 0.98
        assert torch.isfinite(batch.targets).all()
        sampler.report(iteration, batch, torch.from_numpy(np.full(2000, 0.5)))


def test_same_seed_same_batches_and_the_check_points_are_apart():
    values, grid = wave()
    first, _ = make(values, grid)
    second, _ = make(values, grid)
    second.draw_uniform(100)
    assert torch.equal(first.draw().points, second.draw().points)
    assert torch.equal(first.draw_uniform(50).points, second.draw_uniform(50).points)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
)
def test_every_numeric_type_keeps_its_memory(dtype):
    values, grid = wave(dtype=dtype)
    sampler, data = make(values, grid, batch_size=100)
    assert np.shares_memory(data.values, values)
    assert (data.minimum, data.maximum) == (float(values.min()), float(values.max()))
    targets = sampler.draw().targets
    assert 0 <= targets.min() and targets.max() <= 1


@pytest.mark.skipif(cpu_library.load()[0] is None, reason=cpu_library.load()[1] or "built")
@pytest.mark.parametrize("positions", ["values", "continuous"])
@pytest.mark.parametrize("dtype", [*TYPES, "float16"])
def test_native_batches_are_the_twins(positions, dtype, monkeypatch):
    """Also from a strided view, with components and holes; types that the library does not read take the twin."""
    monkeypatch.setenv("APMGSRN_KERNELS", "")
    generator = np.random.default_rng(0)
    values = (generator.random((7, 8, 18, 4)) * 100).astype(dtype)[:, ::-1, ::2, 1:3]
    if values.dtype.kind == "f":
        values[2, 3, 4] = np.nan
    config = TrainConfig(positions=positions, batch_size=1000).resolved(Grid((9, 8, 7)))
    sampler = Sampler(FieldData(values, Grid((9, 8, 7))), config, torch.Generator().manual_seed(0))
    assert (sampler._native is not None) == (dtype in TYPES)
    if sampler._native is None:
        return
    probability = generator.random(7 * 8 * 9)
    probability /= probability.sum()
    np.testing.assert_array_equal(sampler._native.random(7, 1000, 5001), random_numbers(7, 1000, 5001))
    for picks in (None, generator.random(400)):
        unit = generator.random((1000, 3))
        arguments = picks, np.cumsum(probability), probability
        found = sampler._native.gather(unit.copy(), *arguments)
        expected = sampler.gather(unit.copy(), *arguments)
        for a, b in zip(found, expected):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_random_numbers_are_uniform_and_continue():
    numbers = random_numbers(3, 0, 200_000)
    np.testing.assert_array_equal(numbers[1000:1500], random_numbers(3, 1000, 500))
    assert 0 <= numbers.min() and numbers.max() < 1
    counts = np.histogram(numbers, 50, (0, 1))[0]
    assert ((counts - 4000) ** 2 / 4000).sum() < 90  # chi squared of 49 degrees: 85 at 0.1 %
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.01
    assert not np.array_equal(random_numbers(4, 0, 100), numbers[:100])
