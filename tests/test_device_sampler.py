"""Batches drawn on the device: right targets, unbiased, streamed so that every value comes by equally often."""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from volumes import wave

from apmgsrn_core import Grid, TrainConfig
from apmgsrn_core.training.device_sampler import DeviceSampler
from apmgsrn_core.errors import ConfigError
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.training.sampler import Sampler

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
DIMS = (20, 17, 15)
STREAMED = 9000  # bytes: less than half of DIMS in float32


def make(values, grid, device="cpu", budget=None, seed=0, **settings):
    data = FieldData(values, grid)
    config = TrainConfig(**{"batch_size": 2000, "iterations": 100, **settings}).resolved(grid)
    return DeviceSampler(data, config, seed, device, budget), data


def rounds(sampler, count=1):
    """Draw until all bricks have come by `count` times."""
    bricks, changes = sampler.bricks, 0
    while changes < count * bricks.count:
        before = bricks.slots.clone()
        yield sampler.draw()
        changes += int((bricks.slots != before).sum())


@contextlib.contextmanager
def no_waiting(device):
    """On a CUDA device: an error when torch waits for it."""
    if device == "cpu":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("positions", ["values", "continuous"])
@pytest.mark.parametrize(
    "dims, budget", [((9, 8, 7), None), ((1, 8, 7), None), ((5, 1, 1), None), (DIMS, STREAMED), ((90, 1, 60), STREAMED)]
)
@pytest.mark.parametrize("association", ["point", "cell"])
def test_targets_are_the_data_at_the_points(positions, dims, budget, association, device):
    grid = Grid(dims, association=association)
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in grid.value_dims]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    values = (x + 2 * y + 4 * z).astype(np.float32)  # linear: trilinear interpolation is exact
    sampler, data = make(values, grid, device, budget, positions=positions)
    assert (sampler.bricks.count > 1) == (budget is not None)
    for _ in range(30 if budget else 2):
        batch = sampler.draw()
        exact = batch.points.double().cpu() @ torch.tensor([1.0, 2, 4], dtype=torch.double)
        expected = (exact - data.minimum) / data.span
        torch.testing.assert_close(batch.targets[:, 0].double().cpu(), expected, atol=1e-5, rtol=0)
        assert batch.points.abs().max() <= 1 and (batch.weights - 1).abs().max() < 0.4
        assert batch.points.dtype == batch.targets.dtype == batch.weights.dtype == torch.float32


def test_every_value_is_drawn_and_equally_often():
    values, grid = wave((5, 4, 3))
    sampler, _ = make(values, grid, batch_size=60_000, positions="values")
    batch = sampler.draw()
    _, counts = np.unique(batch.points.numpy(), axis=0, return_counts=True)
    assert len(counts) == 60 and counts.min() > 850 and counts.max() < 1150 and (batch.weights == 1).all()


def test_streaming_brings_every_value_equally_often():
    values, grid = wave(DIMS)
    sampler, _ = make(values, grid, budget=STREAMED, batch_size=20_000, positions="values")
    assert sampler.bricks.resident < sampler.bricks.count / 3
    total = np.zeros(DIMS)
    one_brick = 0
    for batch in rounds(sampler):
        index = np.rint((batch.points.numpy() + 1) / 2 * (np.array(DIMS) - 1)).astype(int)
        np.add.at(total, tuple(index.T), batch.weights[:, 0].numpy())
        one_brick = max(one_brick, len(np.unique(index, axis=0)) / total.size)
    assert one_brick < 0.5  # a residency sees a part only
    share = total / total.mean()
    assert share.min() > 0.6 and share.max() < 1.5  # about 100 draws of each, and whole steps for each brick
    halves = [share[:10].mean(), share[10:].mean(), share[:, :8].mean(), share[:, 9:].mean(), share[:, :, :7].mean()]
    assert np.allclose(halves, 1, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("budget", [None, STREAMED])
@pytest.mark.parametrize("positions", ["values", "continuous"])
def test_importance_sampling_is_unbiased(positions, budget, device):
    values, grid = wave(DIMS)
    sampler, _ = make(
        values, grid, device, budget, positions=positions, batch_size=10_000, importance_start=0, importance_refresh=1,
        importance_blocks=8, iterations=160,
    )  # fmt: skip
    function = lambda batch: (1 + batch.points[:, 0]).double() ** 4  # an error that sits on one side  # noqa: E731
    axis = np.linspace(-1, 1, DIMS[0])
    expected = ((1 + axis) ** 4).mean() if positions == "values" else 3.2
    drawn, weighted, weights = [], [], []
    drawing = lambda count: rounds(sampler, count) if budget else (sampler.draw() for _ in range(30))  # noqa: E731
    for batch in drawing(1):  # learn
        sampler.report(1000, batch, function(batch))
    for batch in drawing(2):
        drawn.append(float(function(batch).mean()))
        weighted.append(float((function(batch) * batch.weights[:, 0]).mean()))
        weights.append(float(batch.weights.mean()))
    assert np.mean(drawn) > 1.15 * expected  # it does look where the error is
    assert np.mean(weighted) == pytest.approx(expected, rel=0.03)
    assert np.mean(weights) == pytest.approx(1.0, rel=0.02)


def test_the_error_map_is_that_of_the_sampler_on_the_host():
    values, grid = wave(DIMS)
    config = TrainConfig(batch_size=4000, importance_start=0, importance_refresh=1, importance_blocks=4).resolved(grid)
    data = FieldData(values, grid)
    host = Sampler(data, config, torch.Generator().manual_seed(0))
    device = DeviceSampler(data, config, 0, "cpu")
    for iteration in range(3):
        batch = host.draw()
        error = (1 + batch.points[:, 0]) ** 2
        host.report(iteration, batch, error)
        twin = type("Batch", (), {"weights": batch.weights, "blocks": torch.from_numpy(np.asarray(batch.blocks))})
        device.report(iteration, twin, error)
    device._ahead.clear()
    batch, reference = device.draw(), host.draw()
    expected = {int(b): float(w) for b, w in zip(reference.blocks, reference.weights)}
    for block, weight in zip(batch.blocks.tolist(), batch.weights[:, 0].tolist()):
        assert weight == pytest.approx(expected[block], rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("positions", ["values", "continuous"])
def test_holes_have_no_weight_and_no_error(positions, device):
    values, grid = wave((9, 8, 7))
    values[:, :, :4] = np.nan
    values[0, 0, 8] = np.inf
    sampler, _ = make(values, grid, device, importance_start=0, importance_refresh=1, positions=positions)
    for iteration in range(5):
        batch = sampler.draw()
        hole = batch.points[:, 0] < (-0.1 if positions == "values" else -0.001)
        assert (batch.weights[hole] == 0).all() and (batch.weights[~hole] > 0).float().mean() > 0.9
        assert torch.isfinite(batch.targets).all() and torch.isfinite(batch.weights).all()
        sampler.report(iteration, batch, torch.full((2000,), 0.5, device=device))


def test_same_seed_same_batches_and_the_check_points_are_those_of_the_host():
    values, grid = wave(DIMS)
    first, data = make(values, grid, budget=STREAMED)
    second, _ = make(values, grid, budget=STREAMED)
    other, _ = make(values, grid, budget=STREAMED, seed=1)
    for _ in range(20):
        points = first.draw().points
        second.draw_uniform(10)
        assert torch.equal(points, second.draw().points) and not torch.equal(points, other.draw().points)
    reference = Sampler(data, first._config, torch.Generator()).draw_uniform(50)
    found = first.draw_uniform(50)
    assert torch.equal(found.points, reference.points) and torch.equal(found.targets, reference.targets)


@pytest.mark.parametrize("budget", [None, 0.6])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", ">i2", "uint32", "int32", "uint64", "int64", "float16", ">f4", "float64"]
)
def test_every_numeric_type(dtype, budget):
    values, grid = wave(DIMS, components=2)
    values = values * (1 if np.dtype(dtype).itemsize < 2 else 100)
    if np.dtype(dtype).kind in "iu":
        values = np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.repeat(values.astype(dtype), 2, axis=2)[:, :, ::2]  # a view, and not writable
    values.setflags(write=False)
    if dtype == "uint64":
        values = values + np.uint64(2**63)
    sampler, data = make(values, grid, budget=budget and int(values.nbytes * budget), positions="values")
    batch = sampler.draw()
    index = np.rint((batch.points.numpy() + 1) / 2 * (np.array(DIMS) - 1)).astype(int)
    assert (sampler.bricks.count > 1) == bool(budget)
    np.testing.assert_allclose(batch.targets.numpy(), data.take(*index.T), atol=1e-6)


def test_a_budget_that_is_too_small_is_said():
    values, grid = wave(DIMS)
    with pytest.raises(ConfigError, match="budget_bytes: expected at least"):
        make(values, grid, budget=500)


@NO_CUDA
@pytest.mark.parametrize("budget", [None, STREAMED])
def test_no_step_waits_for_the_device(budget):
    values, grid = wave(DIMS)
    sampler, _ = make(values, grid, "cuda", budget, importance_start=0, importance_refresh=2, iterations=50)
    sampler.draw()
    with no_waiting("cuda"):
        for iteration in range(20):
            batch = sampler.draw()
            sampler.report(iteration, batch, batch.targets[:, 0])
