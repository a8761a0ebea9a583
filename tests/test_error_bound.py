"""Error bounds: every value of a model is within them, whatever the data are and whichever kernel writes and reads."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import ArraySpec, BrickLayout, ConfigError, FieldError, Grid, ModelConfig, ModelFile, ModelFileError, NeuralVolume
from apmgsrn_core import VolumeJob, drive_passes, train_samples, train_volume, volume_passes
from apmgsrn_core.kernels import cpu_library
from apmgsrn_core.residual.block_coding import encode_block
from apmgsrn_core.residual.residual_blocks import ResidualBlocks, block_slices, pack_blocks
from apmgsrn_core.residual.split import LEAST, MOST, network_bytes
from thread_ranks import on_ranks
from volumes import tiny, wave

KERNELS = ["torch", *(f"native {path}" for path in cpu_library.paths())]
TINY_NETWORK = ModelConfig(4, 1, (5, 5, 5), hidden_layers=1, hidden_width=16, bias=True)
SMALL = ModelConfig.of_bytes(4000, (17, 16, 15))


def errors(volume, values, field=None, dtype="float32"):
    """|value - data| at every value of the lattice, in float64; NaN where the data have none."""
    found = volume.sample_region(field=field, dtype=dtype).astype(np.float64)
    return np.abs(found - np.where(np.isfinite(values), values, np.nan))


def bound_model(values, grid, bound=0.01, model=SMALL, **settings):
    own = ("error_bound_mode", "error_bounds", "rounding", "rate_bytes", "iterations")
    train = {k: settings.pop(k) for k in own if k in settings}
    return train_volume(values, grid, model=model, train=tiny(error_bound=bound, **train), **settings)


def noisy_wave(dims=(17, 16, 15), **kind):
    """A smooth field with a jump and a little noise, none of which a network of a few steps meets."""
    values, grid = wave(dims, **kind)
    z, y, x = np.indices(values.shape[:3])
    extra = 25.0 * (x + y > z + 9) + np.random.default_rng(0).normal(size=values.shape[:3])
    values = values + (extra[..., None] if values.ndim == 4 else extra)
    return values.astype(kind.get("dtype", "float32")), grid


@pytest.mark.parametrize("bound", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_every_value_is_within_the_bound(dtype, bound):
    values, grid = noisy_wave(dtype=dtype)
    result = bound_model(values, grid, bound)
    span = float(values.max()) - float(values.min())
    volume = NeuralVolume.from_bytes(result.to_bytes(), "cpu")
    assert volume.header.bounds == ((pytest.approx(bound * span, rel=1e-12),),)
    for kind in ("float32", "original"):
        assert errors(volume, values, dtype=kind).max() <= bound * span
    assert result.psnr >= -20 * np.log10(bound)
    told = 10 * np.log10(span**2 / np.square(errors(volume, values)).mean())
    assert result.psnr == pytest.approx(told, abs=0.02) and result.history["psnr"][-1] == result.psnr


@settings(max_examples=12, deadline=None)
@given(
    dims=st.tuples(*[st.integers(1, 19)] * 3), counts=st.tuples(*[st.integers(1, 2)] * 3), exponent=st.floats(-4, -0.5),
    seed=st.integers(0, 99), scale=st.floats(-6, 6), offset=st.floats(-3, 3), cells=st.booleans(),
)  # fmt: skip
def test_bounds_of_any_data(dims, counts, exponent, seed, scale, offset, cells):
    association = "cell" if cells and min(dims) > 1 else "point"
    values, grid = wave(dims, association=association)
    generator = np.random.default_rng(seed)
    values = (10**scale * (values + 5 * generator.standard_t(2, values.shape) + 10 * offset)).astype("float32")
    values[generator.random(values.shape) < 0.1 * (seed % 2)] = np.nan
    if not np.isfinite(values).any() or np.nanmax(values) == np.nanmin(values):
        return
    counts = tuple(min(c, max(n - 1, 1)) for c, n in zip(counts, grid.value_dims))
    result = train_volume(
        values, grid, model=TINY_NETWORK, train=tiny(error_bound=10**exponent, iterations=8), bricks=counts
    )
    bound = result.volume.header.bounds[0][0]
    assert bound == pytest.approx(10**exponent * float(np.nanmax(values) - np.float64(np.nanmin(values))), rel=1e-6)
    assert np.nanmax(errors(result.volume, values)) <= bound


@pytest.mark.parametrize("counts, ghosts, overlap", [((2, 1, 1), 0, 1), ((2, 2, 2), 0, 0), ((3, 1, 2), 2, 3)])
def test_bricks_and_ranks(counts, ghosts, overlap):
    values, grid = noisy_wave()
    layout = BrickLayout(grid.value_dims, counts, ghosts, overlap)
    alone = bound_model(values, grid, bricks=layout)
    assert errors(alone.volume, values).max() <= alone.volume.header.bounds[0][0]
    if ghosts == 0 and overlap:
        models = on_ranks(2, lambda rank: _on_rank(values, grid, layout, rank))
        assert models == [alone.to_bytes()] * 2


def _on_rank(values, grid, layout, communicator):
    job = VolumeJob(grid, layout, (ArraySpec("values", 1, "float32"),), "float32", SMALL, tiny(error_bound=0.01))
    passes = volume_passes(job, communicator, [torch.device("cpu")], on_progress=lambda state: True)

    def cut(part):
        return None if part is None else values[tuple(slice(a, b) for a, b in zip(part.start, part.stop))[::-1]]

    return drive_passes(passes, cut).to_bytes()


@pytest.mark.parametrize("transform", ["log", "asinh"])
def test_transformed_arrays_are_bound_in_their_own_unit(transform):
    values, grid = wave((17, 16, 15))
    values = np.exp(values / 12).astype("float32")
    result = bound_model(values, grid, 1e-3, arrays=(ArraySpec("a", 1, "float32", transform=transform),))
    assert result.volume.arrays[0].transform.kind == transform
    assert errors(result.volume, values).max() <= 1e-3 * (values.max() - values.min())
    assert (result.volume.sample_region() > 0).all()


def test_each_array_has_its_bound():
    values, grid = noisy_wave(components=3)
    arrays = (ArraySpec("a", 1, "float32"), ArraySpec("b", 2, "float32"))
    absolute = bound_model(values, grid, 0.0, arrays=arrays, error_bounds=(0.0, 0.5), error_bound_mode="absolute")
    assert absolute.volume.header.bounds == ((0.0, 0.5),)
    assert errors(absolute.volume, values[..., 1:], "b").max() <= 0.5
    assert errors(absolute.volume, values[..., 0], "a").max() > 0.5
    relative = bound_model(values, grid, 0.01, arrays=arrays)
    for name, own in (("a", values[..., 0]), ("b", values[..., 1:])):
        assert errors(relative.volume, own, name).max() <= 0.01 * (own.max() - own.min())
    assert min(relative.array_psnr.values()) >= 40


def test_an_array_that_is_not_bound_keeps_its_network():
    values, grid = wave((17, 16, 15), components=2)
    arrays = (ArraySpec("a", 1, "float32"), ArraySpec("b", 1, "float32"))
    own = {"arrays": arrays, "train": tiny(error_bound_mode="absolute", error_bounds=(0.0, 0.25))}
    result = train_volume(values, grid, **own)
    assert errors(result.volume, values[..., 1], "b").max() <= 0.25 < errors(result.volume, values[..., 0], "a").max()
    assert result.array_psnr["a"] > 25, "a residual alone would leave the mean"
    constant = values.copy()
    constant[..., 0] = 3.5
    data = train_volume(constant, grid, **own).to_bytes()
    assert "config" in ModelFile(data).header.manifest["bricks"][0], "of one value nothing is lost without a network"
    assert np.abs(NeuralVolume.from_bytes(data, "cpu").sample_region(field="a") - 3.5).max() < 1e-6


def test_bounds_of_each_array_override_the_one_of_all():
    values, grid = noisy_wave()
    assert not tiny(error_bound=0.01, error_bounds=(0.0,)).bound
    assert not bound_model(values, grid, 0.01, error_bounds=(0.0,)).volume.header.bounded


@pytest.mark.parametrize("writer", KERNELS)
def test_what_one_kernel_writes_every_kernel_reads_within_the_bound(monkeypatch, writer):
    values, grid = noisy_wave()
    use(monkeypatch, writer)
    data = network_of_step(values, grid, 5e-4)
    read = []
    for reader in KERNELS:
        use(monkeypatch, reader)
        volume = NeuralVolume.from_bytes(data, "cpu", precision="fast")
        read.append(volume.sample_region())
        assert errors(volume, values).max() <= volume.header.bounds[0][0]
    assert max(np.abs(a - b).max() for a, b in itertools.combinations(read, 2)) <= 2e-5 * (values.max() - values.min())


def use(monkeypatch, kernel):
    word, _, path = kernel.partition(" ")
    monkeypatch.setenv("APMGSRN_KERNELS", word)
    monkeypatch.setenv("APMGSRN_CPU", path)


def network_of_step(values, grid, bound):
    """A model of one time step of several, which keeps its network in any case."""
    data = bound_model(values, grid, bound, rounding=0.02, rate_bytes=4000, iterations=8, series=True, time=0.0).to_bytes()
    assert "config" not in ModelFile(data).header.manifest["bricks"][0]
    return data


def test_a_brick_has_a_network_only_where_that_is_smaller():
    generator = np.random.default_rng(0)
    values, grid = wave((17, 16, 30))
    values[15:] = generator.uniform(0, 100, values[15:].shape)
    model = ModelConfig.of_bytes(4000, (17, 16, 15))
    data = train_volume(
        values, grid, model=model, train=tiny(error_bound=1e-3, iterations=300, rounding=0.02, rate_bytes=6000), bricks=(1, 1, 2)
    ).to_bytes()
    upper = ModelFile(data).header.manifest["bricks"][1]
    assert upper["config"]["lattices"] == [], "noise is not what a network is for"
    assert errors(NeuralVolume.from_bytes(data, "cpu"), values).max() <= 1e-3 * (values.max() - values.min())


def test_scattered_points_meet_the_lattice_and_go_on_between_its_values():
    values, grid = noisy_wave(spacing=(0.5, 1.0, 0.8), origin=(3, -1, 2))
    volume = bound_model(values, grid, bricks=(2, 1, 1)).volume
    whole = volume.sample_region()
    z, y, x = (axis.ravel() for axis in np.indices(values.shape))
    points = grid.index_to_world(np.stack([x, y, z], axis=1).astype(float))
    np.testing.assert_allclose(volume.sample_points(points), whole.ravel(), rtol=0, atol=2e-4)
    fine, middle = volume.sample_region(grid=grid.scaled(2)), volume.sample_points(points + 0.37 * np.array(grid.spacing))
    assert np.isfinite(fine).all() and fine.min() > values.min() - 20 and fine.max() < values.max() + 20
    assert np.isfinite(middle.reshape(values.shape)[:-1, :-1, :-1]).all()


def test_derivatives_are_those_of_the_sum():
    values, grid = noisy_wave()
    volume = bound_model(values, grid, 1e-3).volume
    points = np.random.default_rng(0).uniform(0.1, 13.9, (50, 3))
    points = np.floor(points) + 0.25 + 0.5 * (points % 1)  # in cells, not on their faces
    _, slopes = volume.sample_derivatives(points)
    for axis in range(3):
        step = 0.02 * np.eye(3)[axis]
        change = (volume.sample_points(points + step) - volume.sample_points(points - step)).astype(np.float64) / 0.04
        off = np.abs(change - slopes[:, 0, axis])
        assert np.median(off) < 0.05 and off.max() < 4, (axis, off)  # the decoder has kinks
    with pytest.raises(FieldError, match="residual is interpolated linearly"):
        volume.sample_second_derivatives(points)


def test_the_network_alone_is_there_too():
    values, grid = noisy_wave()
    data = network_of_step(values, grid, 0.005)
    alone, bounded = NeuralVolume.from_bytes(data, "cpu", bounded=False), NeuralVolume.from_bytes(data, "cpu")
    span = values.max() - values.min()
    assert errors(alone, values).max() > 0.02 * span and alone.sample_second_derivatives(np.full((1, 3), 5.0)).shape
    assert errors(bounded, values).max() <= 0.005 * span
    assert not alone.bounded and bounded.bounded and bounded.macrocells() is None


def test_a_missing_or_damaged_residual_is_an_error():
    values, grid = noisy_wave()
    data = bound_model(values, grid).to_bytes()
    residual = bytes(ModelFile(data).read_section(0, 0)["residual"])
    shape = values.shape
    ResidualBlocks(residual, shape, 1).block(0, 0)
    for damaged, text in (
        (residual[:2], "at least 11 bytes"), (b"\2" + residual[1:], "version 1"), (residual + b"0", "lengths of 1 blocks"),
        (pack_blocks([float("nan")], [[b""]]), "finite"), (pack_blocks([-1.0], [[b""]]), "not negative"),
        (pack_blocks([1.0, 1.0], [[b""], [b""]]), "1 components"), (pack_blocks([1.0], [[b"\x09"]]), "lanes"),
    ):  # fmt: skip
        with pytest.raises(ModelFileError, match=text):
            ResidualBlocks(damaged, shape, 1).block(0, 0)


def test_blocks_are_cut_and_found():
    shape = (70, 130, 9)
    generator, cuts = np.random.default_rng(0), block_slices((70, 130, 9))
    values = generator.integers(-5, 6, shape) * 1024
    residual = ResidualBlocks(pack_blocks([0.0, 0.5], [[encode_block(values[cut])[0] for cut in cuts]]), shape, 2)
    index = np.stack([generator.integers(0, n, 500) for n in shape], axis=1)
    assert len(cuts) == 2 and not residual.at(0, index).any()
    assert np.abs(residual.at(1, index) - 0.5 * values[tuple(index.T)]).max() <= 256  # half a step
    axes = [np.arange(60, 70), np.array([129, 64, 3]), np.arange(9)]
    assert np.abs(residual.on_lattice(1, axes) - 0.5 * values[np.ix_(*axes)]).max() <= 256
    assert (residual.on_lattice(1, [np.array([i]) for i in index[0]]) == residual.at(1, index[:1])).all()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"error_bound": -0.1}, "error_bound: expected a number from 0 to 1"),
        ({"error_bound": 1.5}, "error_bound: expected a number from 0 to 1"),
        ({"error_bound": float("nan")}, "error_bound: expected"),
        ({"error_bound": 0.1, "error_bound_mode": "both"}, "error_bound_mode: expected one of"),
        ({"error_bounds": (0.1, -1)}, "error_bounds: expected"),
        ({"error_bound": float("inf"), "error_bound_mode": "absolute"}, "error_bound: expected a finite number"),
    ],
)
def test_wishes_that_cannot_be(change, text):
    with pytest.raises(ConfigError, match=text):
        tiny(**change)


def test_bounds_that_cannot_be_held():
    values, grid = noisy_wave()
    with pytest.raises(ConfigError, match="error_bound of array 'values': expected at least .* found"):
        bound_model(values, grid, 1e-8)
    with pytest.raises(ConfigError, match=r"error_bounds: expected one for each of 1 arrays, found \(0.1, 0.1\)"):
        bound_model(values, grid, 0.0, error_bounds=(0.1, 0.1))
    offset = (values + 1e6).astype("float32")
    with pytest.raises(ConfigError, match="computed in float32"):
        bound_model(offset, grid, 1e-3)


def test_a_bound_too_tight_for_a_network_has_none():
    values, grid = noisy_wave()
    data = bound_model(values, grid, 4e-6).to_bytes()
    assert "config" in ModelFile(data).header.manifest["bricks"][0]
    assert errors(NeuralVolume.from_bytes(data, "cpu"), values).max() <= 4e-6 * (values.max() - values.min())


def test_constant_bricks_and_arrays_are_exact():
    values, grid = wave((17, 16, 30))
    values[14:] = 55.125
    result = train_volume(values, grid, train=tiny(error_bound=1e-3), bricks=(1, 1, 2))
    assert errors(result.volume, values).max() <= 1e-3 * (values.max() - values.min())
    flat = train_volume(np.full_like(values, 3.3), grid, train=tiny(error_bound=1e-3))
    assert flat.volume.header.bounds == ((0.0,),) and np.abs(flat.volume.sample_region() - 3.3).max() < 1e-6


def test_time_steps(tmp_path):
    values, grid = noisy_wave()
    path = tmp_path / "s.apmgsrn"
    for step in range(3):
        train_volume(
            values + 10 * step, grid, train=tiny(error_bound=0.01), time=float(step), series=True, path=path,
            append=path if step else None,
        )  # fmt: skip
    volume = NeuralVolume.open(path, "cpu")
    assert len(volume.header.bounds) == 3
    for step in range(3):
        found = volume.sample_region(time=float(step)).astype(np.float64)
        assert np.abs(found - values - 10 * step).max() <= volume.header.bounds[step][0]


def test_meshes_are_refused():
    points = np.random.default_rng(0).uniform(0, 8, (500, 3))
    with pytest.raises(ConfigError, match="error_bound of t: expected 0 for data that is not on a lattice"):
        train_samples(points, points[:, :1], Grid((9, 9, 9)), arrays=(ArraySpec("t", 1, "float32"),), train=tiny(error_bound=0.1))


def test_how_large_the_network_is():
    assert LEAST <= network_bytes(0.5, 1000) < network_bytes(0.01, 1 << 21) < network_bytes(0.001, 1 << 24) <= MOST
    assert network_bytes(0.01, 1 << 24, 8) == 8 * network_bytes(0.01, 1 << 21)
    values, grid = noisy_wave()
    for mode, bound in (("relative", 0.01), ("absolute", 2.0)):
        result = train_volume(values, grid, train=tiny(error_bound=bound, error_bound_mode=mode))
        assert result.volume.header.manifest["training"]["rate_bytes"] == LEAST


@pytest.mark.parametrize("constant", [False, True])
def test_a_bound_of_whole_numbers_that_is_too_tight_is_told_before_it_is_trained(constant):
    """0.995 of whole numbers is less than one: 0.49 are left, which float32 does not resolve at half a million."""
    values, grid = wave((17, 8, 7))
    values = np.rint(values * 2600).astype(np.int32)
    if constant:
        values[:, :, 8:] = 520_000
    settings = dict(train=tiny(error_bound=0.995, error_bound_mode="absolute"), bricks=(2, 1, 1), on_progress=lambda state: 1 / 0)
    with pytest.raises(ConfigError, match="expected at least .* are computed in float32, found 0.995"):
        train_volume(values, grid, arrays=[ArraySpec("f", dtype="int32", transform="identity")], **settings)
