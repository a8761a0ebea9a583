"""Training end to end on small volumes."""

import time

import numpy as np
import pytest
import torch
from volumes import tiny, wave

from apmgsrn_core import (
    ConfigError, DataError, DeviceError, Grid, LatticeConfig, ModelConfig, NeuralVolume, TrainConfig, psnr, train_volume,
)  # fmt: skip

MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True}


def train(values, grid, model=MODEL, settings=None, **more):
    return train_volume(values, grid, model=model, train=settings or tiny(), **{**QUIET, **more})


@pytest.mark.parametrize("placement", ["kdtree", "published", "random"])
def test_a_smooth_volume_is_learned(placement):
    values, grid = wave((17, 16, 15))
    result = train(values, grid, settings=tiny(placement=placement, iterations=300))
    assert psnr(values, result.volume.reconstruct()) > 30
    assert result.stop_reason == "iterations"
    assert result.history["iteration"][-1] == 300


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(number_of_grids=0, lattices=(LatticeConfig((8, 8, 8), 2), LatticeConfig((4, 4, 4), 4))),
        ModelConfig(
            number_of_grids=6, grid_resolution=(5, 5, 5), lattices=(LatticeConfig((6, 6, 6), 2),),
            interpolation="quadratic", linear_skip=True, bias=True,
        ),
        ModelConfig(number_of_grids=8, grid_resolution=(4, 5, 6), hidden_layers=0),
    ],
)  # fmt: skip
def test_every_kind_of_model_is_learned(model):
    values, grid = wave((17, 16, 15))
    result = train(values, grid, model=model, settings=tiny(iterations=200))
    assert psnr(values, result.volume.reconstruct()) > 25


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_every_type_on_points_and_cells(dtype):
    for association in ("point", "cell"):
        values, grid = wave(dtype=dtype, association=association)
        volume = train(values, grid, settings=tiny(iterations=150)).volume
        assert psnr(values, volume.reconstruct()) > 20
        original = volume.sample_region(dtype="original")
        assert original.dtype == values.dtype and original.shape == values.shape


def test_vectors():
    values, grid = wave(components=3)
    result = train(values, grid, settings=tiny(iterations=200))
    assert result.volume.arrays[0].components == 3
    assert result.volume.reconstruct().shape == values.shape
    assert psnr(values, result.volume.reconstruct()) > 25


@pytest.mark.parametrize("dims", [(2, 1, 1), (9, 1, 1), (9, 8, 1), (1, 8, 7), (2, 2, 2)])
def test_flat_and_tiny_data(dims):
    values, grid = wave(dims)
    result = train(values, grid, settings=tiny(iterations=150))
    assert psnr(values, result.volume.reconstruct()) > 20


@pytest.mark.parametrize("value, dtype", [(7, "uint8"), (-2.5, "float64"), (0, "float32"), (1e30, "float32")])
def test_constant_data_is_exact(value, dtype):
    values = np.full((5, 4, 3), value, dtype=dtype)
    result = train(values, Grid((3, 4, 5)))
    assert result.stop_reason == "constant data"
    np.testing.assert_array_equal(result.volume.sample_region(dtype="original"), values)
    assert result.history["psnr"][-1] == np.inf


def test_same_seed_same_bytes_other_seed_other_bytes():
    values, grid = wave()
    assert train(values, grid).to_bytes() == train(values, grid).to_bytes()
    assert train(values, grid).to_bytes() != train(values, grid, settings=tiny(seed=1)).to_bytes()


def test_a_view_gives_the_same_as_its_copy():
    values, _ = wave((18, 16, 7))
    view, grid = values[:, ::2, ::2], Grid((9, 8, 7))
    assert train(view, grid).to_bytes() == train(view.copy(), grid).to_bytes()


def test_holes_are_left_out():
    values, grid = wave((17, 16, 15))
    holes = values.copy()
    holes[3, 4, 5], holes[0, 0, 0], holes[7] = np.nan, np.inf, np.nan
    result = train(holes, grid, settings=tiny(iterations=200))
    assert result.missing == 2 + 16 * 17
    reconstruction = result.volume.reconstruct()
    np.testing.assert_array_equal(np.isfinite(reconstruction), np.isfinite(holes))
    assert psnr(holes, reconstruction) > 25


def test_holes_do_not_pull_published_grids(monkeypatch):
    from apmgsrn_core.training.density_placement import DensityPlacement

    values, grid = wave((17, 16, 15))
    values[:, :, 8:] = np.nan
    seen, step = [], DensityPlacement.step
    monkeypatch.setattr(DensityPlacement, "step", lambda self, local, error: seen.append(len(error)) or step(self, local, error))
    result = train(values, grid, settings=tiny(placement="published", schedule="cosine", iterations=300, batch_size=400))
    assert seen and max(seen) < 300  # about half of 400 points
    # the smoothed PSNR is that of the data, not of the holes
    assert abs(result.history["psnr"][-2] - result.history["psnr"][-1]) < 3


def test_data_of_a_tiny_span_is_learned():
    values, grid = wave((17, 16, 15), dtype="float64")
    result = train(values * 1e-310, grid, settings=tiny(iterations=200))
    assert result.history["psnr"][-1] > 25


def test_warnings_come_before_the_training():
    values, grid = wave()
    lines = []
    train(values, grid, on_warning=lines.append, on_progress=lambda s: len(lines) > 0 or pytest.fail("too late"))
    assert lines


def test_a_model_that_is_large_for_its_data_is_said():
    values, grid = wave()
    assert any("larger than a quarter" in w for w in train(values, grid).warnings)


def test_published_grids_really_move_and_random_ones_do_not():
    values = np.zeros((16, 16, 16), dtype=np.float32)
    values[10:, 10:, 10:] = np.random.default_rng(0).random((6, 6, 6))
    grid = Grid((16, 16, 16))
    settings = {"iterations": 150, "batch_size": 400, "rounding": 0.0}
    start = train(values, grid, settings=TrainConfig(placement="published", transform_start=0.999, **settings))
    moved = train(values, grid, settings=TrainConfig(placement="published", transform_start=0.06, **settings))
    fixed = train(values, grid, settings=TrainConfig(placement="random", **settings))
    transforms = [r.volume.networks[0].transforms for r in (start, moved, fixed)]
    assert torch.equal(transforms[0], transforms[2])  # the same start
    shift = (transforms[1] - transforms[0]).abs()
    assert shift.max() > 0.01 and (shift.amax((1, 2)) > 1e-3).all()


def test_direct_gradient_moves_grids_and_can_be_switched_off():
    values, grid = wave((33, 32, 31))
    runs = {
        on: train(values, grid, settings=tiny(iterations=120, transform_gradient=on)).volume.networks[0].transforms
        for on in (True, False)
    }
    assert (runs[True] - runs[False]).abs().max() > 1e-3


def test_stops_at_the_psnr():
    values, grid = wave((17, 16, 15))
    result = train(values, grid, settings=tiny(iterations=5000, stop_psnr=28.0))
    assert result.stop_reason == "psnr reached" and result.history["iteration"][-1] < 5000
    assert psnr(values, result.volume.reconstruct()) > 27.5


def test_stops_at_the_time_budget_with_a_low_learning_rate():
    values, grid = wave((17, 16, 15))
    start = time.perf_counter()
    result = train(values, grid, settings=tiny(iterations=10**6, time_budget=1.0))
    assert result.stop_reason == "time budget" and time.perf_counter() - start < 20
    assert result.history["learning_rate"][-1] < 0.003


def test_stopping_keeps_the_partial_result():
    values, grid = wave((17, 16, 15))
    states = []
    result = train(values, grid, settings=tiny(iterations=10**6), on_progress=lambda s: states.append(s) or len(states) < 3)
    assert result.stop_reason == "stopped by user" and len(states) == 3
    assert result.volume.key == ""  # it is not what these settings would have given
    assert result.history["iteration"][-1] == states[-1].iteration
    assert "iteration" in states[-1].message and "dB" in states[-1].message
    assert 0 <= states[0].fraction <= states[-1].fraction <= 1


def test_history_says_what_the_stored_model_gives():
    values, grid = wave((17, 16, 15))
    result = train(values, grid, settings=tiny(iterations=200))
    assert set(result.history) == {"iteration", "seconds", "loss", "psnr", "learning_rate", "brick"}
    assert len({len(c) for c in result.history.values()}) == 1
    assert (np.diff(result.history["iteration"]) > 0).all() and (np.diff(result.history["seconds"]) >= 0).all()
    assert result.history["psnr"][-1] == pytest.approx(psnr(values, result.volume.reconstruct()), abs=0.2)


def test_refining_a_saved_model_starts_from_it(tmp_path):
    values, grid = wave((17, 16, 15))
    first = train(values, grid, settings=tiny(iterations=300))
    first.save(tmp_path / "first.apmgsrn")
    short = tiny(iterations=20, learning_rate=1e-3)
    again = train(values, grid, settings=short, initial=tmp_path / "first.apmgsrn")
    fresh = train(values, grid, settings=short)
    assert again.history["psnr"][-1] > fresh.history["psnr"][-1] + 5
    with pytest.raises(ConfigError, match="number_of_grids 4 .the file has 8"):
        train(values, grid, model=ModelConfig(number_of_grids=4, grid_resolution=(4, 4, 4), hidden_width=16),
              initial=first.to_bytes())  # fmt: skip


def test_a_saved_model_gives_the_same_values(tmp_path):
    values, grid = wave()
    for storage in ("float16", "float32"):
        model = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16, storage=storage)
        result = train(values, grid, model=model)
        result.save(tmp_path / "model.apmgsrn")
        opened = NeuralVolume.open(tmp_path / "model.apmgsrn")
        np.testing.assert_array_equal(opened.reconstruct(), result.volume.reconstruct())


@pytest.mark.parametrize(
    "values, grid, message",
    [
        (np.zeros((3, 3, 3)), Grid((3, 3, 4)), r"expected shape \(4, 3, 3\)"),
        (np.zeros((1, 1, 1)), Grid((1, 1, 1)), "at least 2 values"),
        (np.full((3, 3, 3), np.nan), Grid((3, 3, 3)), "27 that are NaN"),
        (np.zeros((3, 3, 3), dtype=complex), Grid((3, 3, 3)), "complex128"),
        (np.array([[[-1.7e308, 1.7e308]]]), Grid((2, 1, 1)), "overflows"),
    ],
)
def test_bad_data_is_named(values, grid, message):
    with pytest.raises(DataError, match=message):
        train_volume(values, grid, name="rho", **QUIET)


def test_unknown_device_is_named():
    values, grid = wave()
    for device in ("gpu", "cuda:99", "cuda:x"):
        with pytest.raises(DeviceError, match=device):
            train(values, grid, device=device)


@pytest.mark.slow
def test_values_beyond_float32_are_told_and_kept():
    grid, told = Grid((9, 8, 7)), []
    values = np.linspace(1e299, 1e300, 9 * 8 * 7).reshape(7, 8, 9)
    result = train_volume(values, grid, train=TrainConfig(iterations=200), on_warning=told.append)
    assert any("values up to 1e+300, which float32 does not hold: ask for them as float64" in line for line in told)
    found = result.volume.sample_region(dtype="original")
    assert np.abs(found / values - 1).max() < 0.2
