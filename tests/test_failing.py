"""Numbers that are none any more: back to where they were good, at half the rate, and it is said."""

import math
import re

import numpy as np
import pytest
import torch
from test_checkpoint import Cut, Every, Training, assert_equal, device_steps  # noqa: F401  (a fixture)
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, ModelConfig, psnr, train_volume
from apmgsrn_core.bricks import failing
from apmgsrn_core.bricks import training as brick_training
from apmgsrn_core.training.optimizer import Adam
from apmgsrn_core.training.sampler import Sampler

MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
STEPS = 200  # a row of the history every other one


@pytest.fixture(autouse=True)
def kept_often(monkeypatch):
    monkeypatch.setattr(failing, "KEPT_EVERY", 10)


def train(dims=(17, 16, 15), bricks=(1, 1, 1), learning_rate=0.01, **more):
    values, grid = wave(dims)
    train_ = tiny(iterations=STEPS, learning_rate=learning_rate, rounding=0.0)
    return train_volume(values, grid, model=MODEL, train=train_, bricks=bricks, **{"on_progress": lambda s: True, **more})


def poisoned(monkeypatch, *numbers, what="gradient"):
    """Let the so many-th steps of all trainings have a NaN."""
    calls, step, draw = [], Adam.step, Sampler.draw

    def poison(adam):
        calls.append(1)
        if len(calls) in numbers:
            adam.groups[0].parameters[0].grad.view(-1)[3] = math.nan
        step(adam)

    def drawn(sampler):
        batch = draw(sampler)
        calls.append(1)
        if len(calls) in numbers:
            batch.targets[7] = math.nan
        return batch

    monkeypatch.setattr(Adam, "step", poison) if what == "gradient" else monkeypatch.setattr(Sampler, "draw", drawn)


@pytest.mark.parametrize("what", ["gradient", "target"])
@pytest.mark.parametrize("number", [1, 2, 99, 100, 101, STEPS])
def test_a_nan_takes_the_training_back_at_half_the_rate(monkeypatch, caplog, what, number):
    poisoned(monkeypatch, number, what=what)
    values, _ = wave((17, 16, 15))
    result = train()
    assert psnr(values, result.volume.reconstruct()) > 25
    (warning,) = [line for line in result.warnings if "diverged" in line]
    failed, start = map(int, re.search(r"diverged at iteration (\d+) .*: back to (\d+), with a learning rate", warning).groups())
    assert number <= failed <= number + 2 and number - 14 <= start < number
    assert f"training {warning}" in caplog.text
    history = result.history
    assert (np.diff(history["iteration"]) > 0).all() and np.isfinite(history["loss"]).all()
    whole = dict(zip(train().history["iteration"], train().history["learning_rate"]))
    for iteration, rate in zip(history["iteration"][:-1], history["learning_rate"][:-1]):
        expected = whole[iteration] * (0.5 if iteration > start else 1.0)
        assert rate == pytest.approx(expected)


def test_it_is_told_of_which_brick(monkeypatch):
    poisoned(monkeypatch, STEPS + 50)
    result = train(bricks=(2, 1, 1))
    (warning,) = [line for line in result.warnings if "diverged" in line]
    assert re.match(r"brick [01]: diverged", warning)


def test_the_same_training_backs_off_in_the_same_way(monkeypatch):
    models = []
    for _ in range(2):
        with monkeypatch.context() as patch:
            poisoned(patch, 60, 130)
            models.append(train().to_bytes())
    assert models[0] == models[1] != train().to_bytes()


def test_the_highest_rate_there_is_is_lowered_until_it_goes():
    result = train(learning_rate=10.0)
    assert any("diverged" in line for line in result.warnings)
    assert result.history["learning_rate"][-1] < 5.0 and np.isfinite(result.volume.reconstruct()).all()


def test_a_training_that_can_only_fail_ends_with_an_error(monkeypatch):
    poisoned(monkeypatch, *range(50, 10_000))
    with pytest.raises(ApmgsrnError, match=r"training diverged at iteration \d+: found .* not finite.* 8 times halved"):
        train()


class Finite(Every):
    """Looks at what is saved."""

    def save(self, state):
        assert all(torch.isfinite(parameter).all() for parameter in state["network"].values())
        super().save(state)


@pytest.mark.parametrize("placement", ["kdtree", "published"])
def test_no_checkpoint_has_a_nan_and_a_restart_goes_on_at_the_lower_rate(monkeypatch, tmp_path, placement):
    more = dict(transform_start=0.1, transform_stop=0.9, density_window=5) if placement == "published" else {}
    training = Training(placement=placement, **more)
    with monkeypatch.context() as patch:
        poisoned(patch, 20)
        whole = training.run()
    with monkeypatch.context() as patch:
        poisoned(patch, 20)
        checkpoint = Finite(tmp_path / "file", 1)
        with pytest.raises(Cut):
            training.run(checkpoint, 50)
    assert checkpoint.saved[-1] == 50 and sorted(set(checkpoint.saved)) != checkpoint.saved  # it went back once
    assert_equal(whole, training.run(Every(tmp_path / "file", 10**9), seed=9))


def test_the_steps_of_a_device_go_back_as_well(monkeypatch, device_steps):  # noqa: F811
    training, calls = Training(on_device=True), []
    fused = torch.optim.Adam.step

    def poison(adam, *arguments):
        calls.append(1)
        if len(calls) == 30:
            adam.param_groups[0]["params"][0].grad[3] = math.nan
        return fused(adam, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", poison)
    parameters, table, reason = training.run()
    assert reason == "iterations" and len(calls) > 60 and table["iteration"].tolist() == [*range(1, 61)]
    assert all(torch.isfinite(p).all() for p in parameters.values()) and np.isfinite(table["loss"]).all()


def test_stopped_by_the_user_in_a_bad_moment(monkeypatch):
    monkeypatch.setattr(brick_training, "PROGRESS_SECONDS", 0.0)
    poisoned(monkeypatch, *range(101, 10_000))
    result = train(on_progress=lambda state: state.iteration < 101)
    assert np.isfinite(result.volume.reconstruct()).all()


# -- bricks without values -------------------------------------------------------------------------


def hidden(keep):
    """Values of which only some are numbers in the second of two bricks."""
    values, grid = wave((17, 9, 8))
    values = values.copy()
    values[:, :, 9:] = np.nan
    for point in keep:
        values[point] = 100.0
    return values, grid


@pytest.mark.parametrize("settings", [{}, {"series": True, "time": 0.0}], ids=["", "series"])
@pytest.mark.parametrize("keep", [[], [(0, 0, 16), (7, 8, 16)]], ids=["none", "two"])
def test_a_brick_with_hardly_a_value_has_not_diverged(keep, settings):
    """A step of a batch without a value has no loss; that is no loss beyond all bounds."""
    values, grid = hidden(keep)
    config = tiny(iterations=STEPS, batch_size=8)
    result = train_volume(values, grid, model=MODEL, train=config, bricks=(2, 1, 1), on_progress=lambda s: True, **settings)
    assert not result.notes and "iterations" in result.stop_reason
    found = result.volume.reconstruct()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    assert psnr(values[:, :, :9], found[:, :, :9]) > 20


def test_nor_has_one_on_a_device(device_steps):  # noqa: F811
    test_a_brick_with_hardly_a_value_has_not_diverged([(0, 0, 16), (7, 8, 16)], {})
