"""What a user wants of a training, and what comes out."""

import math

import pytest
from volumes import tiny, wave

from apmgsrn_core import (
    COMPACT_BYTES,
    Aim,
    ConfigError,
    ModelConfig,
    TrainConfig,
    estimated_bytes,
    parameters_for,
    quality_rate_bytes,
    train_volume,
)

QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None, "device": "cpu"}
FEW = Aim("size").train_config(tiny(iterations=2))


@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("wanted", [60_000, 164_000, 600_000])
def test_the_file_has_the_size_that_is_wanted(wanted, bricks):
    values, grid = wave((32, 31, 30))
    count, model = math.prod(bricks), ModelConfig.preset("small")
    result = train_volume(
        values, grid, model=model, train=FEW, bricks=bricks,
        parameters=parameters_for(wanted, model, 1, count), **QUIET,
    )  # fmt: skip
    assert len(result.to_bytes()) == pytest.approx(wanted, rel=0.08)


@pytest.mark.parametrize("dims, components", [((64, 50, 1), 1), ((20, 19, 18), 3)])
def test_flat_data_and_vectors(dims, components):
    values, grid = wave(dims, components=components)
    model = ModelConfig.preset("small")
    wanted = parameters_for(100_000, model, components, 1)
    result = train_volume(values, grid, model=model, train=FEW, bricks=(1, 1, 1), parameters=wanted, **QUIET)
    assert len(result.to_bytes()) == pytest.approx(100_000, rel=0.08)


def test_other_kinds_of_networks_get_other_numbers_of_grids():
    model = ModelConfig(number_of_grids=8, grid_resolution=(6, 6, 6), storage="float32")
    found = model.with_parameters(parameters_for(300_000, model, 1, 1))
    assert found.grid_resolution == (6, 6, 6) and found.number_of_grids > 100
    assert estimated_bytes(found, 1, 1) == pytest.approx(300_000, rel=0.02)


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match="TargetBytes, TargetRatio: expected a model file of at least .* for 4 bricks, found 1000"):
        parameters_for(1000, ModelConfig.preset("small"), 1, 4)
    with pytest.raises(ConfigError, match="TimeBudget: expected seconds"):
        Aim("time").train_config(TrainConfig())
    with pytest.raises(ConfigError, match="Rounding: expected 0 or -1"):
        Aim("size").train_config(TrainConfig(rounding=0.2))
    for wrong in ({"aim": "speed"}, {"target_ratio": 0.5}, {"target_bytes": -1}, {"target_psnr": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Aim(**wrong)


def test_the_training_of_each_aim():
    train = TrainConfig(time_budget=7)
    assert Aim().train_config(train) == train
    assert Aim("size").train_config(train) == TrainConfig(time_budget=7, rounding=0.0)  # what rounded numbers take is known too late
    assert Aim("size").train_config(TrainConfig(rate_bytes=9000)) == TrainConfig(rate_bytes=9000)
    assert Aim("quality", target_psnr=33).train_config(train).stop_psnr == 33
    compact = TrainConfig(rate_bytes=9000)
    assert Aim("quality", target_psnr=33).train_config(compact) == TrainConfig(rate_bytes=9000, rate_psnr=33)
    assert Aim("time").train_config(train).iterations > 10_000
    assert Aim("time").train_config(TrainConfig(time_budget=7, iterations=5)).iterations == 5
    assert Aim(target_ratio=10).file_bytes(5000) == 500 and Aim(target_bytes=77).file_bytes(5000) == 77


def test_bytes_for_a_quality_rise_with_it():
    sizes = [quality_rate_bytes(psnr, 10**8, 2) for psnr in (1, 30, 38, 44, 90)]
    assert sizes == sorted(sizes) and sizes[2] == 2 * COMPACT_BYTES and sizes[-1] == 8 * COMPACT_BYTES
    assert quality_rate_bytes(40, 100_000, 1) == 25_000 and quality_rate_bytes(20, 10_000, 3) == 12_000
    assert quality_rate_bytes(38, 0, 1) == COMPACT_BYTES
