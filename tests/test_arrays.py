"""Several arrays in one model, and value transforms."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from volumes import wave

from apmgsrn_core import ArrayInfo, ArraySpec, ConfigError, DataError, Grid, ModelConfig, TrainConfig, psnr, train_volume
from apmgsrn_core.data.array_values import in_unit, normalised, slope_in_unit
from apmgsrn_core.data.value_transform import ValueTransform, choose_transform

TINY = ModelConfig(4, 1, (5, 5, 5), hidden_layers=1, hidden_width=16, bias=True)


def two_arrays(shape=(9, 8, 7)):
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    scalar = 300.0 + 50.0 * x * y
    vector = np.stack([x, -y, z], axis=3) * 1e-3
    specs = (ArraySpec("t", 1, "float32", unit="K"), ArraySpec("v", 3, "float64"))
    return np.concatenate([scalar[..., None], vector], axis=3), specs


@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1)])
def test_each_array_comes_back_in_its_own_range_and_type(bricks):
    values, specs = two_arrays()
    result = train_volume(
        values, Grid((7, 8, 9)), arrays=specs, model=TINY, train=TrainConfig(iterations=400), bricks=bricks
    )
    volume = result.volume
    assert [(a.name, a.components, a.dtype, a.unit) for a in volume.arrays] == [("t", 1, "float32", "K"), ("v", 3, "float64", "")]
    for name, own in (("t", values[..., 0]), ("v", values[..., 1:])):
        found = volume.reconstruct(field=name)
        assert found.shape == own.shape
        assert np.abs(found - own).max() < 0.15 * np.ptp(own), name
    assert volume.sample_region(field="v", dtype="original").dtype == np.float64
    points = Grid((7, 8, 9)).index_to_world([[1, 2, 3], [6, 7, 8]])
    np.testing.assert_allclose(volume.sample_points(points, "v")[0], volume.reconstruct(field="v")[3, 2, 1], rtol=1e-4)


def test_gaps_of_one_array_leave_the_other_trained():
    values, specs = two_arrays()
    values[:, :4, :, 0] = np.nan
    result = train_volume(values, Grid((7, 8, 9)), arrays=specs, model=TINY, train=TrainConfig(iterations=400))
    vector = result.volume.reconstruct(field="v")
    assert np.isfinite(vector).all() and np.abs(vector - values[..., 1:]).max() < 0.15 * np.ptp(values[..., 1:])
    np.testing.assert_array_equal(np.isfinite(result.volume.reconstruct(field="t")), np.isfinite(values[..., 0]))


def test_a_constant_array_among_others_is_exact():
    values, specs = two_arrays()
    values[..., 0] = 7.25
    result = train_volume(values, Grid((7, 8, 9)), arrays=specs, model=TINY, train=TrainConfig(iterations=20))
    assert (result.volume.reconstruct(field="t") == 7.25).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v, s: (v, s[:1]), "expected 1 components of 1 arrays, found 4"),
        (lambda v, s: (v, (s[0], ArraySpec("t", 3))), "found 't' twice"),
        (lambda v, s: (v, (s[0], ArraySpec("v", 3, association="cell"))), "array 'v': expected one on the points"),
        (lambda v, s: (v * np.array([np.nan, 1, 1, 1]), s), "array 't': expected finite values"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    values, specs = change(*two_arrays())
    with pytest.raises(DataError, match=message):
        train_volume(values, Grid((7, 8, 9)), arrays=specs, model=TINY, train=TrainConfig(iterations=5))


TRANSFORMS = [ValueTransform(), ValueTransform("log"), ValueTransform("asinh", 1e-4)]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TRANSFORMS), st.lists(st.floats(1e-20, 1e5), min_size=2, max_size=9, unique=True))
def test_values_go_there_and_back(transform, numbers):
    values = np.array(numbers)
    assume(np.ptp(values) > 1e-5 * values.max())  # otherwise differences have no digits left
    info = ArrayInfo("f", "point", 1, "float64", (values.min(), values.max()), transform=transform)
    scaled = normalised(values, info)
    assert scaled.min() == 0 and scaled.max() == pytest.approx(1)
    tolerance = 1e-12 * (abs(values).max() if transform.kind == "identity" else 1e-4)
    np.testing.assert_allclose(in_unit(scaled, info, np.dtype("float64")), values, rtol=1e-9, atol=tolerance)
    middle = np.linspace(0.1, 0.9, 5)
    step = 1e-5
    slope = (in_unit(middle + step, info, np.dtype("f8")) - in_unit(middle - step, info, np.dtype("f8"))) / (2 * step)
    np.testing.assert_allclose(slope_in_unit(middle, info), slope, rtol=1e-4)


def test_the_transform_is_chosen_by_the_decades():
    random = np.random.default_rng(0)
    wide = 10.0 ** random.uniform(-12, 0, 1000)
    assert choose_transform("auto", wide, wide.min(), wide.max()).kind == "log"
    assert choose_transform("auto", wide * random.choice([-1, 1], 1000), -1, 1).kind == "asinh"
    assert choose_transform("auto", np.append(wide, 0), 0, wide.max()).kind == "asinh"
    for narrow in (random.random(1000), random.integers(0, 256, 1000), random.standard_normal(1000), np.zeros(100)):
        assert choose_transform("auto", narrow, narrow.min(), narrow.max()).kind == "identity"
    assert choose_transform("identity", wide, wide.min(), wide.max()).kind == "identity"
    with pytest.raises(ConfigError, match="expected positive values, found -1"):
        choose_transform("log", wide, -1, 1)


def test_rounded_zeros_of_a_velocity_are_no_small_values():
    random = np.random.default_rng(0)
    velocity = np.concatenate([random.uniform(-1, 1, 400), 1e-17 * random.standard_normal(600)])
    assert choose_transform("auto", velocity, -1, 1).kind == "identity"
    wide = 10.0 ** random.uniform(-6, 0, 400) * random.choice([-1, 1], 400)
    chosen = choose_transform("auto", np.concatenate([wide, velocity[400:]]), -1, 1)
    assert chosen.kind == "asinh" and 1e-6 < chosen.scale < 1e-5


def test_small_values_of_many_decades_come_out_right():
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, 16),) * 3, indexing="ij")
    values = 7.0 * 10.0 ** (-20.0 * np.sqrt((x**2 + y**2 + z**2) / 3))
    result = train_volume(values, Grid((16, 16, 16)), model=TINY, train=TrainConfig(iterations=600))
    assert result.volume.arrays[0].transform.kind == "log"
    decades = np.abs(np.log10(result.volume.reconstruct().astype(np.float64) / values))
    assert np.median(decades) < 0.3


def test_the_history_has_the_psnr_of_each_array():
    values, specs = two_arrays()
    result = train_volume(values, Grid((7, 8, 9)), arrays=specs, model=TINY, train=TrainConfig(iterations=300), bricks=(1, 2, 1))
    for name, own in (("t", values[..., 0]), ("v", values[..., 1:])):
        measured = result.array_psnr[name]
        assert abs(measured - psnr(own, result.volume.reconstruct(field=name))) < 1.5
        column = result.history[f"psnr {name}"]
        assert len(column) == len(result.history["psnr"]) and column[-1] > column[0] + 3
    alone = train_volume(values[..., 0], Grid((7, 8, 9)), model=TINY, train=TrainConfig(iterations=30))
    assert [c for c in alone.history if c.startswith("psnr")] == ["psnr"] and alone.array_psnr == {"values": alone.psnr}


def test_the_psnr_counts_what_is_there_alone():
    """Neither what fills the gaps of one array beside another, nor bricks that have no value."""
    values, grid = wave((32, 16, 16))
    noise = np.random.default_rng(0).normal(size=(*values.shape, 2)).astype(np.float32)
    noise[np.random.default_rng(1).random(values.shape) < 0.9, 1] = np.nan  # nine of ten of the second array
    config = TrainConfig(iterations=60)
    result = train_volume(noise, grid, arrays=[ArraySpec("a"), ArraySpec("b")], model=TINY, train=config)
    for name, part in zip("ab", (noise[..., 0], noise[..., 1])):
        true = psnr(part, result.volume.reconstruct(field=name))
        assert result.array_psnr[name] == pytest.approx(true, abs=0.5), name
    alone = noise[..., 0].copy()
    alone[:, :, 15:] = np.nan
    result = train_volume(alone, grid, model=TINY, train=config, bricks=(2, 1, 1))
    assert result.psnr == pytest.approx(psnr(alone, result.volume.reconstruct()), abs=0.5)


def test_the_psnr_of_a_transformed_array_within_a_bound_is_that_of_its_own_values():
    values, grid = wave((17, 16, 15))
    decades = 10.0 ** (values.astype(np.float64) / 40)
    config = TrainConfig(iterations=60, error_bound=0.01)
    result = train_volume(decades, grid, arrays=[ArraySpec("f", dtype="float64", transform="log")], model=TINY, train=config)
    true = psnr(decades, result.volume.reconstruct())
    assert true > 40 and result.array_psnr["f"] == pytest.approx(true, abs=0.5)
