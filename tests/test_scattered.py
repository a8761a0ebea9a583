"""Trainings from scattered samples: the PSNR of the lattice path, and what only refined levels see."""

import numpy as np
import pytest
import torch
from samples import DIMS, FEATURE, WIDTH, cloud, feature, lattice_samples, refined
from volumes import wave

from apmgsrn_core import Grid, ModelConfig, TrainConfig
from apmgsrn_core.bricks.training import mean_squared_error, train_brick
from apmgsrn_core.training.checkpoint import Checkpoint
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.training.history import psnr_of
from apmgsrn_core.network.model import Network, evaluate
from apmgsrn_core.training.placement import start_transforms
from apmgsrn_core.training.sampler import Sampler
from apmgsrn_core.data.scattered_data import ScatteredData
from apmgsrn_core.training.scattered_placement import scattered_start_transforms
from apmgsrn_core.training.scattered_sampler import ScatteredSampler
from apmgsrn_core.training.training_step import DeviceStep, HostStep

MODEL = ModelConfig(
    number_of_grids=48, features_per_grid=1, grid_resolution=(5, 5, 5), hidden_width=32, bias=True
)  # fmt: skip


def train(data, seed=0, model=MODEL, **choices):
    """(network, PSNR at the samples) by the path of the data's kind, as a brick is trained."""
    config = TrainConfig(**{"iterations": 500, "batch_size": 2000, **choices}).resolved(Grid(DIMS))
    generator = torch.Generator().manual_seed(seed)
    network = Network(model.with_components(data.components), generator)
    scattered = isinstance(data, ScatteredData)
    start = scattered_start_transforms if scattered else start_transforms
    with torch.no_grad():
        network.transforms.copy_(start(data, network.config, config, generator))
    sampler = ScatteredSampler(data, config, seed, "cpu") if scattered else Sampler(data, config, generator)
    reason, _ = train_brick(network, sampler, config, lambda state: True)
    assert reason == "iterations"
    return network, psnr_of(mean_squared_error([network], sampler))


@pytest.mark.slow
@pytest.mark.parametrize("dims, components", [((25, 24, 23), 1), ((97, 96, 1), 1), ((17, 17, 17), 4)])
def test_samples_at_the_lattice_reach_what_the_lattice_does(dims, components):
    values, grid = wave(dims, components)
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in grid.value_dims[::-1]], indexing="ij")
    fine = 40 * np.sin(25 * axes[2] * axes[1]) * np.cos(20 * axes[0] * axes[2])
    fine += np.random.default_rng(0).normal(size=fine.shape)
    data = FieldData(values + (fine[..., None] if components > 1 else fine), grid)
    samples = lattice_samples(data)
    model = MODEL.fitted_to(grid)
    lattice, scattered = (np.mean([train(d, seed, model)[1] for seed in (0, 1)]) for d in (data, samples))
    assert lattice > 30 and scattered > lattice - 0.5, (lattice, scattered)


def test_a_feature_that_only_the_finest_levels_see_is_resolved():
    points = np.concatenate(refined())
    data = ScatteredData(points, feature(points), DIMS)
    near = FEATURE + np.random.default_rng(1).normal(size=(4000, 3)) * WIDTH
    found = [
        psnr_of(float(((evaluate([network], torch.from_numpy(near).float())[:, 0].numpy() - feature(near)) ** 2).mean()))
        for network in (train(data, placement=placement)[0] for placement in ("kdtree", "random"))
    ]
    assert found[0] > 34 and found[0] > found[1] + 6, found


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    data = ScatteredData(*cloud(2000, 2), DIMS)
    config = TrainConfig(iterations=60, batch_size=500, importance_start=10).resolved(Grid(DIMS))
    model = ModelConfig(number_of_grids=4, grid_resolution=(4, 4, 4), hidden_width=16).with_components(2)

    def run(checkpoint, stop):
        network = Network(model, torch.Generator().manual_seed(0))
        sampler = ScatteredSampler(data, config, 0, "cpu")
        train_brick(network, sampler, config, lambda state: state.iteration < stop, checkpoint=checkpoint)
        return network

    class Often(Checkpoint):
        def due(self, seconds):
            return True

    whole = run(None, 1000)
    run(Often(tmp_path / "state", 1, "key"), 0)
    resumed = run(Often(tmp_path / "state", 1, "key"), 1000)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))


@pytest.mark.parametrize("kind", [DeviceStep, HostStep])
def test_both_kinds_of_steps_take_the_batches(kind):
    data = ScatteredData(*cloud(2000, 2), DIMS)
    config = TrainConfig(iterations=150, batch_size=500, importance_start=20).resolved(Grid(DIMS))
    network = Network(MODEL.with_components(2), torch.Generator().manual_seed(0))
    sampler, step = ScatteredSampler(data, config, 0, "cpu"), kind(network, config)
    before = mean_squared_error([network], sampler)
    for iteration in range(config.iterations):
        batch = sampler.draw()
        sampler.report(iteration, batch, step.run(batch, True, iteration / config.iterations))
    assert mean_squared_error([network], sampler) < 0.02 * before
