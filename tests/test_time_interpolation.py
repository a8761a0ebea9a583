"""Values between two time steps: each by its share, and only where both steps have one."""

from functools import cache

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, Grid, ModelConfig, TrainConfig, train_series
from apmgsrn_core.data.array_values import rounded_to
from apmgsrn_core.sampling.time_interpolation import is_step, mixed, mixed_in_type, step_at, time_shares

GRID = Grid((9, 8, 7))
TIMES = (1.0, 2.0, 4.0)


@pytest.mark.parametrize("between", [False, True])
def test_shares_are_those_of_the_straight_line(between):
    for time in (None, -3.0, 1.0, 1.25, 2.0 - 1e-12, 2.0, 3.5, 4.0, 9.0):
        shares = time_shares(TIMES, time, between)
        assert sum(share for _, share in shares) == pytest.approx(1.0) and all(share > 0 for _, share in shares)
        if between and time is not None:
            reached = sum(TIMES[step] * share for step, share in shares)
            assert reached == pytest.approx(np.clip(time, TIMES[0], TIMES[-1]))
        else:
            assert len(shares) == 1
    assert time_shares((), 3.0, between) == [(0, 1.0)]


@pytest.mark.parametrize("start, gap", [(0.0, 1e-12), (1.7e9, 1.0), (-3e-9, 1e-9), (2.46e6, 1 / 1440), (1e6, 1e-6)])
def test_steps_may_be_as_near_to_each_other_as_numbers_can_be(start, gap):
    """Seconds of a plasma, of Unix, days of Julius: each time is its own step's, and what is hardly before one is."""
    times = [start + number * gap for number in range(5)]
    assert [step_at(times, time) for time in times] == [0, 1, 2, 3, 4]
    assert [step_at(times, time - 0.4 * gap) for time in times] == [0, 0, 1, 2, 3]
    assert [step_at(times, time + 0.4 * gap) for time in times] == [0, 1, 2, 3, 4]
    assert all(is_step(times, time) for time in times) and not any(is_step(times, time + 0.4 * gap) for time in times)
    shares = time_shares(times, times[2] + gap / 2, True)
    assert [step for step, _ in shares] == [2, 3] and shares[1][1] == pytest.approx(0.5, abs=0.01)


def test_a_time_that_went_through_another_format_is_still_its_steps():
    times = [0.1 * number for number in range(9)]
    assert [step_at(times, float(f"{time:.9g}") - 1e-12) for time in times] == list(range(9))


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "int64"])
def test_integers_are_mixed_as_numbers_and_none_is_zero(kind):
    kind = np.dtype(kind)
    steps = (np.array([0, 100, np.nan, 3, np.iinfo(kind).max]), np.array([101, 100, 7, np.nan, np.iinfo(kind).max]))
    found = mixed_in_type([(0, 0.25), (1, 0.75)], lambda step, given: steps[step].astype(given), kind)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, [76, 100, 0, 0, np.iinfo(kind).max])


def test_one_step_is_sampled_in_its_type():
    seen = []
    mixed_in_type([(3, 1.0)], lambda step, given: seen.append((step, given)) or np.zeros(2, given), np.dtype("int16"))
    assert seen == [(3, np.dtype("int16"))]
    assert mixed([(0, 0.5), (1, 0.5)], lambda step: np.float32([step, np.nan])).dtype == np.float32


def test_rounding_to_a_type_clamps():
    np.testing.assert_array_equal(rounded_to(np.array([-3.0, 1.4, 1.6, np.nan, 999.0]), np.dtype("uint8")), [0, 1, 2, 0, 255])


def step_values(step):
    """100 + x; at step 1 200 + x, with a hole at x < 3 that step 0 has not, and another at x > 6 for the reverse."""
    x = np.broadcast_to(np.arange(9.0), (7, 8, 9))
    return np.where(x > 6, np.nan, 100 + x) if step == 0 else np.where(x < 3, np.nan, 200 + x)


@cache
def holes(dtype):
    steps = [(float(step), step_values(step)) for step in (0, 1)]
    settings = {"model": ModelConfig(8, 1, (4, 4, 4), hidden_layers=1, hidden_width=16), "train": TrainConfig(iterations=200)}
    return list(train_series(steps, GRID, arrays=[ArraySpec("f", 1, dtype)], device="cpu", **settings))[-1].volume


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_values_between_are_where_both_steps_have_one(dtype):
    volume, there = holes(dtype), np.isfinite(step_values(0) + step_values(1))
    at = {"time": 0.5, "between": True}
    np.testing.assert_array_equal(volume.valid_region(**at), there)
    points = GRID.index_to_world(np.argwhere(np.ones((7, 8, 9)))[:, ::-1])
    np.testing.assert_array_equal(volume.valid_points(points, **at), there.ravel())
    np.testing.assert_array_equal(np.isfinite(volume.sample_points(points, **at)), there.ravel())
    np.testing.assert_array_equal(np.isfinite(volume.sample_region(**at)), there)
    original = volume.sample_region(dtype="original", **at)
    expected = ((step_values(0) + step_values(1)) / 2)[there]
    assert original.dtype == dtype and np.abs(original[there] - expected).max() < 5
    assert (original[~there] == 0).all() if dtype == "int32" else np.isnan(original[~there]).all()
    np.testing.assert_array_equal(volume.valid_region(time=0.5), np.isfinite(step_values(0)))


def test_derivatives_between_are_mixed_too():
    volume = holes("float32")
    points = GRID.index_to_world(np.random.default_rng(1).uniform(0, 6, (200, 3)))
    values, jacobian = volume.sample_derivatives(points, time=0.25, between=True)
    first, last = (volume.sample_derivatives(points, time=time) for time in (0.0, 1.0))
    np.testing.assert_allclose(values, 0.75 * first[0] + 0.25 * last[0], rtol=1e-6)
    np.testing.assert_allclose(jacobian, 0.75 * first[1] + 0.25 * last[1], rtol=1e-12)
    assert np.isnan(jacobian[points[:, 0] < 3]).all() and np.isfinite(jacobian[points[:, 0] > 3]).all()


def test_progress_of_two_steps_rises_to_the_end():
    seen = []
    holes("float32").sample_region(time=0.5, between=True, on_progress=lambda share: seen.append(share) or True)
    assert seen == sorted(seen) and seen[-1] == 1.0 and min(seen) < 0.6
