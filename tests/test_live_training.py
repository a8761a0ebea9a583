"""A training that is held between slices: the same model as at one go, shown, kept and continued in between."""

import numpy as np
import pytest
import torch
from thread_ranks import on_ranks
from volumes import tiny, wave

import apmgsrn_core as core
from apmgsrn_core import ArraySpec, BrickLayout, Communicator, DataError, LiveTraining, ModelConfig, NeuralVolume, VolumeJob

MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)


def passes(values, grid, counts=(1, 1, 1), communicator=None, live=True, train=None, **settings):
    communicator = communicator or Communicator()
    arrays = (ArraySpec("f", 1, values.dtype.name, grid.association, ""),)
    layout = BrickLayout.automatic(grid.value_dims, counts, 4)
    job = VolumeJob(grid, layout, arrays, values.dtype.name, MODEL, train or tiny())
    return core.volume_passes(job, communicator, [torch.device("cpu")], live=live, on_progress=lambda state: True, **settings)


def cut(values):
    return lambda part: None if part is None else values[tuple(slice(a, b) for a, b in zip(part.start, part.stop))[::-1]]


def finish(live, seconds=0.0):
    """The number of slices until the end."""
    slices = 1
    live.advance(seconds)
    while live.at is not None:
        live.advance(seconds)
        slices += 1
    return slices


@pytest.mark.parametrize("settings", [{}, {"rate_bytes": 5000}], ids=["", "for bytes"])
@pytest.mark.parametrize("counts, dims", [((1, 1, 1), (9, 8, 7)), ((2, 1, 2), (17, 9, 16))])
def test_slices_give_the_model_of_one_go(counts, dims, settings):
    values, grid = wave(dims)
    at_once = core.drive_passes(passes(values, grid, counts, live=False, train=tiny(**settings)), cut(values))
    live = LiveTraining(passes(values, grid, counts, train=tiny(**settings)), cut(values))
    bricks = int(np.prod(counts))
    assert finish(live) == bricks * 60 + 1  # a slice of no length is one step, and the last one ends it
    assert live.result.to_bytes() == at_once.to_bytes()
    assert live.result.stop_reason == "iterations"
    for name in ("iteration", "loss", "brick"):
        np.testing.assert_array_equal(live.result.history[name], at_once.history[name])


@pytest.mark.slow
def test_two_ranks_in_slices_give_the_model_of_one_process():
    values, grid = wave((17, 9, 16))
    at_once = core.drive_passes(passes(values, grid, (3, 1, 1), live=False), cut(values))

    def work(communicator):
        live, shown, slices = LiveTraining(passes(values, grid, (3, 1, 1), communicator), cut(values)), [], 0
        live.advance(0.0)
        while live.at is not None:
            if slices % 25 == 0:
                shown.append((live.at.model(), live.at.state().message.split(" dB")[0], len(live.at.history()["brick"])))
            live.advance(0.0)  # a step of each
            slices += 1
        return live.result.to_bytes(), shown

    one, two = on_ranks(2, work)
    assert one[0] == two[0] == at_once.to_bytes()
    assert len(one[1]) > 2 and one[1] == two[1]
    first, last = (NeuralVolume.from_bytes(shown[0], "cpu").reconstruct() for shown in (one[1][0], one[1][-1]))
    assert 0.2 < np.isnan(first).mean() < 0.5  # the third brick is not begun
    assert np.isfinite(last).all() and "2 of 3 done" in one[1][-1][1]


def test_what_is_shown_becomes_the_data_and_does_not_change_the_training():
    values, grid = wave((17, 16, 15))
    live, errors = LiveTraining(passes(values, grid, train=tiny(iterations=200)), cut(values)), []
    live.advance(0.0)
    while live.at is not None:
        shown = NeuralVolume.from_bytes(live.at.model(), "cpu")
        errors.append(float(np.abs(shown.reconstruct() - values).mean()))
        assert live.at.state().iteration <= 200 and live.at.history()["brick"].dtype == np.int64
        live.advance(0.005)
    assert len(errors) > 1 and errors[-1] < errors[0] / 3
    at_once = core.drive_passes(passes(values, grid, live=False, train=tiny(iterations=200)), cut(values))
    assert live.result.to_bytes() == at_once.to_bytes()


@pytest.mark.slow
def test_the_time_in_between_does_not_count(monkeypatch):
    from time import perf_counter, sleep

    values, grid = wave()
    live = LiveTraining(passes(values, grid, train=tiny(iterations=10**6, time_budget=0.5)), cut(values))
    live.advance(0.0)
    trained = 0.0
    while live.at is not None:
        sleep(0.2)
        start = perf_counter()
        live.advance(0.1)
        trained += perf_counter() - start
    assert live.result.stop_reason == "time budget" and 0.4 < trained < 1.0
    assert live.result.seconds < 1.0 and live.result.history["seconds"].max() < 0.7


def test_a_stop_psnr_ends_it():
    values, grid = wave()
    live = LiveTraining(passes(values, grid, train=tiny(iterations=2000, stop_psnr=20)), cut(values))
    finish(live, 0.05)
    assert live.result.stop_reason == "psnr reached"


def test_what_was_kept_goes_on_in_another_process(tmp_path):
    values, grid = wave((17, 9, 16))
    path = tmp_path / "m.apmgsrn"
    first = LiveTraining(passes(values, grid, (2, 1, 1), path=path, checkpoint_interval=0), cut(values))
    for _ in range(75):
        first.advance(0.0)
    assert first.at.state().iteration == 15 and first.at.state().finished == 1  # after 60 of the first brick
    first.at.keep()
    second = LiveTraining(passes(values, grid, (2, 1, 1), path=path, checkpoint_interval=0), cut(values))
    assert finish(second) < 60
    at_once = core.drive_passes(passes(values, grid, (2, 1, 1), live=False), cut(values))
    assert second.result.to_bytes() == at_once.to_bytes()


def test_slices_end_where_values_are_needed():
    values, grid = wave((17, 9, 16))
    live, asked = LiveTraining(passes(values, grid, (2, 1, 1)), cut(values)), 0
    live.advance(0.0)
    while live.at is not None:
        if not live.advance(10.0, may_fetch=False):
            asked += 1
            assert not live.advance(10.0, may_fetch=False)
            state, shown = live.at.state(), NeuralVolume.from_bytes(live.at.model(), "cpu").reconstruct()
            assert (state.finished, state.bricks, state.brick) == (1, 2, 0) and state.fraction == 0.5 and state.psnr > 5
            assert not np.isnan(shown[:, :, :8]).any() and np.isnan(shown[:, :, 9:]).all()  # of the one that has ended
            assert set(live.at.history()["brick"]) == {0}
            live.advance(10.0)
    assert asked == 1 and live.result.layout.count == 2


def test_what_stands_in_the_way_is_raised():
    values, grid = wave((17, 9, 16))
    given = iter([values[:, :, :9], values[:, :, 8:], DataError("the disk is gone")])
    live = LiveTraining(passes(values, grid, (2, 1, 1)), lambda part: next(given))
    with pytest.raises(DataError, match="the disk is gone"):
        finish(live)
