"""Several time steps in one model: streamed, appended, taken up again, sampled between."""

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, DataError, Grid, ModelConfig, NeuralVolume, TrainConfig, psnr, train_series, train_volume
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.training.time_series import check_keeps, first_steps, steps_before

TINY = ModelConfig(6, 1, (5, 5, 5), hidden_layers=1, hidden_width=16, bias=True)
GRID = Grid((11, 9, 7))
FEW = TrainConfig(iterations=300)
TIMES = (0.5, 1.0, 3.0)


def at(time, holes=False):
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (7, 9, 11)), indexing="ij")
    values = (np.sin(3 * x - time) + y * z * (1 + time)).astype(np.float32)
    if holes:
        values[:3, :4] = np.nan
    return values


def trained(times=TIMES, bricks=(1, 1, 1), **settings):
    settings = {"model": TINY, "train": FEW, "bricks": bricks, **settings}
    return list(train_series(((t, at(t)) for t in times), GRID, **settings))


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1)])
def test_each_step_comes_back_at_its_time(bricks):
    results = trained(bricks=bricks)
    volume = results[-1].volume
    assert volume.times == TIMES and results[0].volume.times == TIMES[:1]
    for time, result in zip(TIMES, results):
        found = volume.sample_region(time=time)
        assert psnr(at(time), found) > 25
        assert abs(psnr(at(time), found) - result.psnr) < 1.5
        points = GRID.index_to_world([[0, 0, 0], [3, 4, 5]])
        np.testing.assert_allclose(volume.sample_points(points, time=time), found[[0, 5], [0, 4], [0, 3]], atol=1e-4)
    low, high = volume.header.ranges[2][0]
    assert (low, high) == (at(3.0).min(), at(3.0).max())


def test_between_two_steps_values_are_mixed():
    volume = trained()[-1].volume
    first, second = volume.sample_region(time=1.0), volume.sample_region(time=3.0)
    np.testing.assert_array_equal(volume.sample_region(time=2.5), first)
    np.testing.assert_allclose(volume.sample_region(time=2.5, between=True), 0.25 * first + 0.75 * second, atol=1e-5)
    np.testing.assert_array_equal(volume.sample_region(time=99.0, between=True), second)
    np.testing.assert_array_equal(volume.sample_region(time=-1.0, between=True), volume.sample_region())
    assert [volume.step_at(t) for t in (None, 0, 0.5, 0.9, 1.0 - 1e-12, 3, 4)] == [0, 0, 0, 0, 1, 2, 2]


@pytest.mark.slow
def test_appending_is_what_a_series_does(tmp_path):
    path = tmp_path / "m.apmgsrn"
    whole = trained()[-1].to_bytes()
    trained(TIMES[:2], path=path)
    train_volume(at(3.0), GRID, time=3.0, append=path, path=path, model=TINY, train=FEW)
    assert path.read_bytes() == whole
    assert first_steps(ModelFile(whole), 2) == trained(TIMES[:2])[-1].to_bytes()


@pytest.mark.slow
def test_a_series_goes_on_where_it_was_cut_off(tmp_path):
    path = tmp_path / "m.apmgsrn"
    trained(TIMES[:2], path=path)
    again = trained(path=path)
    assert [r.stop_reason for r in again] == ["taken from the file"] * 2 + ["iterations"]
    assert path.read_bytes() == trained()[-1].to_bytes()
    other = trained(TIMES[1:], path=path)  # another first step: all is trained anew
    assert [r.stop_reason for r in other] == ["iterations"] * 2 and NeuralVolume.open(path).times == TIMES[1:]


def test_a_brick_that_is_constant_at_first_can_learn_later():
    moving = [(0.0, np.where(np.arange(11) > 5, at(0.0), np.float32(0.25))), (1.0, at(1.0))]
    results = list(train_series(moving, GRID, model=TINY, train=FEW, bricks=(2, 1, 1)))
    assert psnr(at(1.0), results[-1].volume.sample_region(time=1.0)) > 25


def test_holes_and_ranges_are_those_of_each_step():
    steps = [(0.0, at(0.0)), (1.0, 5 * at(1.0, holes=True)), (2.0, at(2.0))]
    volume = list(train_series(steps, GRID, model=TINY, train=FEW))[-1].volume
    for time, values in steps:
        np.testing.assert_array_equal(np.isfinite(volume.sample_region(time=time)), np.isfinite(values))
    assert volume.header.ranges[1][0][1] == pytest.approx(np.nanmax(steps[1][1]))


def test_a_logarithm_stays_one():
    spec = (ArraySpec("f", 1, "float32", transform="log"),)
    steps = [(float(t), np.exp(3 * at(t))) for t in (0, 1)]
    volume = list(train_series(steps, GRID, arrays=spec, model=TINY, train=FEW))[-1].volume
    assert volume.header.arrays_at(1)[0].transform.kind == "log"
    with pytest.raises(DataError, match="expected positive values as at the first time step"):
        list(train_series([*steps, (2.0, at(2))], GRID, arrays=spec, model=TINY, train=FEW))


@pytest.mark.slow
@pytest.mark.parametrize(
    "time, values, change, message",
    [
        (1.0, at(1), {}, "expected a time after 1, its last one, found 1"), (None, at(1), {}, "expected a time step with a finite time, found None"),
        (2.0, at(1)[:5], {"grid": Grid((11, 9, 5))}, "on the same lattice"),
        (2.0, at(1), {"name": "other"}, "with the arrays point 'values'"),
        (2.0, np.stack([at(1)] * 2, 3), {}, "with the arrays point 'values'"),
    ],
)  # fmt: skip
def test_steps_that_cannot_follow(time, values, change, message):
    model = trained((0.5, 1.0))[-1].to_bytes()
    grid = change.pop("grid", GRID)
    with pytest.raises(DataError, match=message):
        train_volume(values, grid, time=time, append=model, model=TINY, train=FEW, **change)


def test_a_model_without_time_takes_no_step():
    model = train_volume(at(0), GRID, model=TINY, train=TrainConfig(iterations=5)).to_bytes()
    with pytest.raises(DataError, match="expected a model whose first step has a time"):
        train_volume(at(1), GRID, time=1.0, append=model, model=TINY, train=FEW)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"bricks": (2, 1, 1)}, {"bricks": (2, 1, 1), "parameters": 6000}, {"parameters": 5000}])
def test_steps_of_the_default_model(settings):
    """Its bricks have resolutions of their own in the manifest."""
    few = TrainConfig(iterations=40)
    results = trained(TIMES[:2], model=None, train=few, **settings)
    more = train_volume(at(3.0), GRID, time=3.0, append=results[-1].to_bytes(), train=few)
    assert more.volume.times == TIMES and psnr(at(3.0), more.volume.sample_region(time=3.0)) > 15


def test_a_model_of_one_step_takes_more(tmp_path):
    path = tmp_path / "m.apmgsrn"
    train_volume(at(0.5), GRID, time=0.5, model=TINY, train=FEW, path=path)
    base = steps_before(path, 1.0)
    assert train_volume(at(1.0), GRID, time=1.0, append=base, train=FEW).volume.times == (0.5, 1.0)


def test_writing_an_earlier_step_anew_loses_none(tmp_path):
    path = tmp_path / "m.apmgsrn"
    trained(path=path)
    times = ModelFile(path).header.manifest["times"]
    check_keeps(path, 1, times[1]["key"])
    check_keeps(path, 2, "other")  # the last one may be replaced
    check_keeps(path, 3, "new")
    check_keeps(tmp_path / "none", 0, "new")
    with pytest.raises(DataError, match="found other ones for 1, and 1 later steps that would be lost"):
        check_keeps(path, 1, "other")


@pytest.mark.parametrize("change", [{"rounding": 0.0}, {"batch_size": 5000}, {"series_steps": 0.3}, {"iterations": 1000}])
def test_other_settings_of_a_series_are_not_taken_from_the_file(tmp_path, change):
    """Of a single step, rounding 0 and batches of 5000 are what the automatic values come to."""
    path = tmp_path / "m.apmgsrn"
    automatic = {"series_steps": 0.02}
    steps = [(0.0, at(0.0))]
    first = next(train_series(steps, GRID, model=TINY, train=TrainConfig(**automatic), path=path))
    again = next(train_series(steps, GRID, model=TINY, train=TrainConfig(**automatic), path=path))
    other = TrainConfig(**{**automatic, **change})
    changed = next(train_series(steps, GRID, model=TINY, train=other, path=path))
    assert [r.stop_reason for r in (first, again)] == ["iterations", "taken from the file"]
    assert changed.stop_reason != "taken from the file"


def test_a_series_ends_where_the_user_stops_it():
    slow = TrainConfig(iterations=10**6)
    results = trained(model=TINY, train=slow, on_progress=lambda state: False)
    assert [r.stop_reason for r in results] == ["stopped by user"] and results[0].volume.times == TIMES[:1]


@pytest.mark.parametrize("time", [None, float("nan"), float("inf")])
def test_a_step_needs_a_finite_time(time):
    with pytest.raises(DataError, match=f"expected a time step with a finite time, found {time}"):
        next(train_series([(time, at(0))], GRID, model=TINY, train=FEW))
