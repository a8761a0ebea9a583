"""Batches of scattered samples: unbiased, where the error is, the same again."""

import numpy as np
import pytest
import torch
from samples import DIMS, cloud, feature, refined
from test_device_sampler import DEVICES, NO_CUDA, no_waiting

from apmgsrn_core import Grid, TrainConfig
from apmgsrn_core.training.checkpoint import pack_state, unpack_state
from apmgsrn_core.data.scattered_data import ScatteredData, node_starts
from apmgsrn_core.training.scattered_sampler import ScatteredSampler


def sampler_of(data, device="cpu", seed=0, **choices):
    choices = {"batch_size": 2000, "importance_start": 0, "importance_refresh": 1, **choices}
    return ScatteredSampler(data, TrainConfig(**choices).resolved(Grid(DIMS)), seed, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("components", [1, 4])
def test_batches_hold_samples_and_the_blocks_they_are_in(components, device):
    data = ScatteredData(*cloud(5003, components), DIMS)
    sampler = sampler_of(data, device)
    rows = {tuple(row): index for index, row in enumerate(data.samples)}
    starts = node_starts(len(data), data.depth)
    for iteration in range(40):
        batch = sampler.draw()
        found = torch.cat([batch.points, batch.targets], dim=1).cpu().numpy()
        index = np.array([rows[tuple(row)] for row in found])
        assert np.array_equal(np.searchsorted(starts, index, "right") - 1, batch.blocks.cpu().numpy())
        assert batch.points.shape == (2000, 3) and batch.targets.shape == (2000, components)
        assert all(t.is_contiguous() for t in vars(batch).values()) and batch.weights.shape == (2000, 1)
        sampler.report(iteration, batch, batch.targets[:, 0])
    assert len(np.unique(batch.weights.cpu())) > 50  # the blocks have come into it


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("blocks", [1, 3, 16])
def test_the_weighted_loss_is_the_mean_over_the_samples(blocks, device):
    data = ScatteredData(*(lambda p: (p, feature(p)))(np.concatenate(refined(6, 9))), DIMS)
    sampler = sampler_of(data, device, batch_size=10_000, importance_blocks=blocks)
    function = lambda batch: (1 + batch.points[:, 0].double()) ** 4 + batch.targets[:, 0]  # noqa: E731
    expected = ((1 + data.positions[:, 0].astype("float64")) ** 4 + data.targets[:, 0]).mean()
    drawn, weighted, weights = [], [], []
    for iteration in range(96):
        batch = sampler.draw()
        if iteration >= 32:
            drawn.append(float(function(batch).mean()))
            weighted.append(float((function(batch) * batch.weights[:, 0]).mean()))
            weights.append(float(batch.weights.mean()))
        sampler.report(iteration, batch, function(batch))
    assert blocks == 1 or np.mean(drawn) > 1.1 * expected  # it does look where the error is
    assert np.mean(weighted) == pytest.approx(expected, rel=0.005)
    assert np.mean(weights) == pytest.approx(1.0, rel=0.005)


def test_an_error_in_the_finest_level_is_found():
    """The finest level fills 2^-21 of the domain."""
    parts = refined()
    data = ScatteredData(np.concatenate(parts), feature(np.concatenate(parts)), DIMS)
    low, high = (torch.from_numpy(edge(parts[-1], axis=0)).float() for edge in (np.min, np.max))
    inside = lambda batch: ((batch.points >= low) & (batch.points <= high)).all(dim=1)  # noqa: E731
    sampler = sampler_of(data, importance_fraction=0.75)
    shares = []
    for iteration in range(64):
        batch = sampler.draw()
        shares.append(float(inside(batch).float().mean()))
        sampler.report(iteration, batch, inside(batch).float())
    assert shares[0] < 0.2 and shares[-1] > 0.6


@pytest.mark.parametrize("fraction", [0.0, 0.75])
def test_same_seed_same_batches_and_a_state_goes_on(fraction):
    data = ScatteredData(*cloud(3001, 2), DIMS)
    first, second, other = (sampler_of(data, seed=s, importance_fraction=fraction) for s in (0, 0, 1))
    for iteration in range(40):
        batches = [s.draw() for s in (first, second, other)]
        second.draw_uniform(10)
        assert torch.equal(batches[0].points, batches[1].points) and not torch.equal(batches[0].points, batches[2].points)
        for sampler, batch in zip((first, second, other), batches):
            sampler.report(iteration, batch, batch.points[:, 0] + 1)
        if iteration % 9 == 5:  # between the draws of 16 steps, and inside of them
            state = unpack_state(pack_state(first.state()))
            first = sampler_of(data, seed=7, importance_fraction=fraction)
            first.restore(state)
    assert bool((batches[0].weights == 1).all()) == (fraction == 0)


def test_check_samples_are_always_the_same_and_no_more_than_there_are():
    data = ScatteredData(*cloud(3001), DIMS)
    few, again = (sampler_of(data, seed=seed).draw_uniform(500) for seed in (0, 1))
    assert torch.equal(few.points, again.points) and len(few.points) == 500
    every = sampler_of(data).draw_uniform(1 << 16)
    assert np.array_equal(every.points.numpy(), data.positions) and bool((every.weights == 1).all())


@NO_CUDA
def test_no_step_waits_for_the_device():
    sampler = sampler_of(ScatteredData(*cloud(3001), DIMS), "cuda")
    sampler.draw()
    with no_waiting("cuda"):
        for iteration in range(40):
            batch = sampler.draw()
            sampler.report(iteration, batch, batch.targets[:, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_error_that_is_no_number_leaves_the_sampler_as_it_is(bad):
    """The step is taken back later, when the loss is looked at; on a GPU the batches between must be drawn all the same."""
    sampler = sampler_of(ScatteredData(*cloud(2003), DIMS), importance_start=2, importance_refresh=2, batch_size=64)
    for iteration in range(6):
        batch = sampler.draw()
        error = torch.full((len(batch.points),), bad if iteration == 2 else 0.1)
        sampler.report(iteration, batch, error)
    assert torch.isfinite(sampler.draw().weights).all() and torch.isfinite(sampler._root).all()
