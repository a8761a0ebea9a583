"""Networks as rounded differences: coder "delta", rounding steps, and where a time step starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from apmgsrn_core import Grid, LatticeConfig, ModelConfig, TrainConfig
from apmgsrn_core.data.array_values import in_unit
from apmgsrn_core.file.coded_network import decode_network
from apmgsrn_core.errors import ConfigError, ModelFileError
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.file.lane_coding import LaneDecoder, LaneEncoder
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.network.model import Network, evaluate
from apmgsrn_core.file.number_blocks import network_tensors, number_blocks, tensor_shapes
from apmgsrn_core.file.rounding import mean_squared_slopes, rounding_steps
from apmgsrn_core.training.sampler import Sampler
from apmgsrn_core.file.time_coding import (
    NEIGHBOURS, NUMBERS_A_BYTE, _code_numbers, _rest, _step_codes, _step_sizes, pack_tensors, unpack_tensors,
)  # fmt: skip
from apmgsrn_core.training.time_start import DECAY, PULL, FeaturePull, follow_ranges, starts_from_before, unexplained_share
from apmgsrn_core.data.value_transform import ValueTransform

CONFIGS = [
    ModelConfig(number_of_grids=9, features_per_grid=1, grid_resolution=(3, 4, 5), hidden_width=8, bias=True, output_components=3),
    ModelConfig(number_of_grids=5, grid_resolution=(7, 1, 3), hidden_layers=0, linear_skip=True, output_components=1),
    ModelConfig(
        number_of_grids=3, lattices=(LatticeConfig((7, 8, 9), 2), LatticeConfig((3, 3, 3), 1)), grid_resolution=(4, 4, 4),
        hidden_width=7, output_components=2,
    ),
    ModelConfig(number_of_grids=0, lattices=(LatticeConfig((9, 8, 7), 4),), hidden_width=7, output_components=1),
]  # fmt: skip


def random_tensors(config, seed=0, scale=0.3):
    generator = np.random.default_rng(seed)
    return {n: (generator.standard_normal(s) * scale).astype(np.float32) for n, s in tensor_shapes(config).items()}


def equal_steps(config, step=0.01):
    return tuple(np.full(1 if b.one_step else b.lanes, step) for b in number_blocks(config))


def moved(tensors, amount=0.02, seed=7):
    generator = np.random.default_rng(seed)
    return {n: (t + amount * generator.standard_normal(t.shape)).astype(np.float32) for n, t in tensors.items()}


@pytest.mark.parametrize("config", CONFIGS)
def test_blocks_cover_each_number_once(config):
    tensors = {n: np.zeros(s, np.int64) for n, s in tensor_shapes(config).items()}
    for block in number_blocks(config):
        numbers = block.read(tensors[block.name])
        assert numbers.shape == (block.size // block.lanes, block.lanes)
        block.write(tensors[block.name], numbers + 1)
    assert all((t == 1).all() for t in tensors.values())


@pytest.mark.parametrize("config", CONFIGS)
def test_shapes_and_names_are_the_networks(config):
    found = {n: tuple(p.shape) for n, p in network_tensors(Network(config)).items()}
    assert found == tensor_shapes(config)


def test_large_grids_are_cut_into_slabs():
    config = replace(ModelConfig(number_of_grids=2, features_per_grid=3, grid_resolution=(64, 64, 9)), output_components=1)
    block = number_blocks(config)[0]
    assert (block.lanes, block.nodes) == (2 * 3 * 9, (1, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("referenced", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_read_is_within_half_a_step_and_stays(config, referenced):
    before = unpack_tensors(pack_tensors(random_tensors(config), equal_steps(config), config), config)
    tensors = moved(before)
    reference = before if referenced else None
    data = pack_tensors(tensors, equal_steps(config), config, reference)
    assert data == pack_tensors(tensors, equal_steps(config), config, reference)
    found = unpack_tensors(data, config, reference)
    for name, tensor in tensors.items():
        assert found[name].dtype == np.float32 and found[name].shape == tensor.shape
        assert np.abs(found[name] - tensor).max(initial=0) <= 0.0501 * 0.1 * 1.13  # the nearest step is at most an eighth off
    again = unpack_tensors(pack_tensors(found, equal_steps(config), config, reference), config, reference)
    assert all((again[n] == found[n]).all() for n in found)


def test_errors_do_not_add_up_along_a_chain():
    config, before = CONFIGS[0], None
    tensors = random_tensors(config)
    for step in range(16):
        tensors = moved(tensors, 0.02, step)
        before = unpack_tensors(pack_tensors(tensors, equal_steps(config), config, before), config, before)
        assert max(np.abs(before[n] - tensors[n]).max() for n in tensors) <= 0.0057


def test_differences_are_smaller_where_steps_are_alike_and_never_larger():
    config = replace(ModelConfig.of_size(5000), output_components=1)
    before = unpack_tensors(pack_tensors(random_tensors(config), equal_steps(config), config), config)
    alone = len(pack_tensors(moved(before), equal_steps(config), config))
    assert len(pack_tensors(moved(before), equal_steps(config), config, before)) < 0.6 * alone
    unlike = random_tensors(config, 9, 0.3)
    assert len(pack_tensors(unlike, equal_steps(config), config, before)) <= len(pack_tensors(unlike, equal_steps(config), config)) + 8


def test_smooth_grids_take_fewer_bytes():
    config = ModelConfig(number_of_grids=9, features_per_grid=1, grid_resolution=(8, 8, 8), hidden_width=4, output_components=1)
    rough = random_tensors(config)
    smooth = rough["features"].reshape(9, 8, 8, 8).copy()
    for axis in (1, 2, 3):
        smooth = (smooth + np.roll(smooth, 1, axis) + np.roll(smooth, 2, axis)) / 3
    smooth = smooth * rough["features"].std() / smooth.std()
    tensors = {**rough, "features": smooth.reshape(-1)}
    steps = equal_steps(config)
    assert len(pack_tensors(tensors, steps, config)) < 0.9 * len(pack_tensors(rough, steps, config))


def test_the_walk_predicts_what_the_whole_array_does():
    block = number_blocks(CONFIGS[0])[0]
    q = np.random.default_rng(0).integers(-50, 50, (block.size // block.lanes, block.lanes))
    weights = np.array([20, -9, 5, 31, 0, -40, 3])
    seen = []

    class Spy(LaneEncoder):
        def row(self, classes, numbers):
            seen.append(numbers)
            return super().row(classes, numbers)

    coder = Spy(block.lanes)
    np.testing.assert_array_equal(_code_numbers(coder, block, weights, q), q)
    np.testing.assert_array_equal(np.array(seen), _rest(block, q, weights))
    found = _code_numbers(LaneDecoder(coder.finish(), block.lanes), block, weights, None)
    np.testing.assert_array_equal(found, q)


def test_the_prediction_is_that_of_the_format():
    block = number_blocks(CONFIGS[0])[0]
    z, y, x = block.nodes
    q = np.random.default_rng(1).integers(-50, 50, (block.size // block.lanes, block.lanes))
    weights = [20, -9, 5, 31, 0, -40, 3]
    grid = q.reshape(z, y, x, block.lanes)
    order = ["x", "y", "xy", "z", "xz", "yz", "xyz"]
    assert ["".join(a for a, d in zip("zyx", n) if d)[::-1] for n in NEIGHBOURS] == order
    for k, j, i in ((0, 0, 0), (2, 1, 1), (z - 1, y - 1, x - 1), (1, 0, 2)):
        total = 0
        for weight, axes in zip(weights, order):
            place = [k - ("z" in axes), j - ("y" in axes), i - ("x" in axes)]
            total += weight * (int(grid[(*place, 4)]) if min(place) >= 0 else 0)
        assert _rest(block, q, np.array(weights))[(k * y + j) * x + i, 4] == grid[k, j, i, 4] - ((total + 32) // 64)


def test_steps_are_the_nearest_of_the_format():
    block = number_blocks(CONFIGS[0])[0]
    wanted = np.geomspace(1e-6, 1e3, block.lanes)
    sizes = _step_sizes(_step_codes(block, wanted, np.zeros((1, block.lanes))))
    assert (np.abs(sizes / wanted - 1) <= 0.125).all()
    limited = _step_sizes(_step_codes(block, wanted, np.full((1, block.lanes), 1e9)))
    assert limited.min() > 200  # no number gets more than about 2^22 steps


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_finite_numbers_can_be_stored(scale):
    config = CONFIGS[0]
    tensors = random_tensors(config, scale=scale)
    found = unpack_tensors(pack_tensors(tensors, equal_steps(config, 1e-12), config), config)
    for name, tensor in tensors.items():
        assert np.abs(found[name] - tensor).max() <= max(1e-12, 1e-6 * np.abs(tensor).max())


@pytest.mark.parametrize("what", ["name", "shape", "nan", "steps", "zero step", "step shape", "reference"])
def test_what_does_not_fit_is_refused(what):
    config = CONFIGS[0]
    tensors, steps, reference = random_tensors(config), list(equal_steps(config)), None
    if what == "name":
        tensors["other"] = tensors.pop("features")
    elif what == "shape":
        tensors["features"] = tensors["features"][:-1]
    elif what == "nan":
        tensors["transforms"][0, 0, 0] = np.nan
    elif what == "steps":
        steps.pop()
    elif what == "zero step":
        steps[0][0] = 0.0
    elif what == "step shape":
        steps[0] = steps[0][:2]
    else:
        reference = {}
    with pytest.raises(ConfigError, match="expected"):
        pack_tensors(tensors, tuple(steps), config, reference)


def test_a_difference_without_its_reference_is_refused():
    config = CONFIGS[0]
    before = random_tensors(config)
    data = pack_tensors(moved(before, 0.001), equal_steps(config), config, before)
    with pytest.raises(ModelFileError, match="time step before"):
        unpack_tensors(data, config)


def test_more_numbers_than_bytes_can_hold_are_refused_before_memory_is_asked():
    data = pack_tensors(random_tensors(CONFIGS[0]), equal_steps(CONFIGS[0]), CONFIGS[0])
    huge = ModelConfig(number_of_grids=0, lattices=(LatticeConfig((4096, 4096, 4096), 64),), output_components=1)
    with pytest.raises(ModelFileError, match="expected at most"):
        unpack_tensors(data, huge)


def test_the_limit_of_numbers_a_byte_holds_for_what_takes_least():
    config = replace(ModelConfig(number_of_grids=9, grid_resolution=(16, 16, 16)), output_components=1)
    zeros = {n: np.zeros(s, np.float32) for n, s in tensor_shapes(config).items()}
    data = pack_tensors(zeros, equal_steps(config), config)
    assert sum(t.size for t in zeros.values()) < NUMBERS_A_BYTE * len(data)
    assert all((t == 0).all() for t in unpack_tensors(data, config).values())


@pytest.mark.slow
def test_damaged_bytes_give_an_error_or_finite_numbers():
    config = CONFIGS[1]
    data = pack_tensors(random_tensors(config), equal_steps(config), config)
    for place in range(len(data)):
        for bad in (data[:place], data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]):
            try:
                found = unpack_tensors(bad, config)
            except ModelFileError:
                continue
            assert all(np.isfinite(t).all() for t in found.values())


# ---- rounding steps ---------------------------------------------------------------------------------


def trained_network(config, seed=0, scale=0.3):
    """A network with features as large as trained ones."""
    network = Network(config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        network.features.copy_(torch.randn(network.features.shape, generator=torch.Generator().manual_seed(seed + 1)) * scale)
    return network


def spread_points(count=1 << 14, seed=3):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_slopes_are_the_mean_squared_derivatives():
    network, points = trained_network(CONFIGS[0]), spread_points(4000)
    found = mean_squared_slopes(network.requires_grad_(False), points)
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    # the twin: difference quotients of the output, number by number
    with torch.no_grad():
        outputs = evaluate([network], points)
        for name, index in (("decoder.2.weight", (1, 3)), ("decoder.1.bias", (2,)), ("transforms", (4, 1, 3))):
            parameter = network_tensors(network)[name]
            kept = parameter[index].item()
            parameter[index] = kept + 1e-3
            exact = float((((evaluate([network], points) - outputs) / 1e-3) ** 2).mean())
            parameter[index] = kept
            assert exact / 6 < found[name][index] < exact * 4 or exact < 1e-9


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]])
def test_rounding_adds_the_share_of_the_error(config, share):
    network, points, error = trained_network(config), spread_points(), 1e-4
    tensors = {n: p.detach().numpy() for n, p in network_tensors(network).items()}
    found = unpack_tensors(pack_tensors(tensors, rounding_steps(network, points, (error,) * config.output_components, share), config), config)
    rounded = trained_network(config)
    with torch.no_grad():
        for name, parameter in network_tensors(rounded).items():
            parameter.copy_(torch.from_numpy(found[name]))
    others = spread_points(seed=4)
    added = float(((evaluate([network], others) - evaluate([rounded], others)) ** 2).mean())
    assert 0.5 < added / (share * error) < 2.0


def test_an_exact_network_is_rounded_finely_not_forever():
    network = trained_network(CONFIGS[0])
    assert all(np.isfinite(s).all() and (s > 0).all() for s in rounding_steps(network, spread_points(), (0.0,) * 3, 0.1))


def test_grids_without_effect_keep_a_place():
    """The boxes of the grids are shown: a transform that is rounded to nothing has none."""
    network = trained_network(CONFIGS[0])
    with torch.no_grad():
        for parameter in network.layers.parameters():
            parameter.zero_()
    tensors = {n: p.detach().numpy() for n, p in network_tensors(network).items()}
    found = unpack_tensors(pack_tensors(tensors, rounding_steps(network, spread_points(), (1e-4,) * 3, 0.2), CONFIGS[0]), CONFIGS[0])
    kept = np.linalg.svd(tensors["transforms"][:, :, :3], compute_uv=False).min(axis=1)
    assert (np.linalg.svd(found["transforms"][:, :, :3], compute_uv=False).min(axis=1) > 0.1 * kept).all()


def test_rounding_adds_to_each_output_what_its_error_allows():
    """An output that is met a thousand times better than the others stays so."""
    config, errors = CONFIGS[0], (1e-4, 1e-7, 1e-4)
    network, points = trained_network(config), spread_points()
    tensors = {n: p.detach().numpy() for n, p in network_tensors(network).items()}
    data = pack_tensors(tensors, rounding_steps(network, points, errors, 0.2), config)
    rounded = decode_network(data, config).network()
    added = ((evaluate([network], points) - evaluate([rounded], points)) ** 2).mean(dim=0) / torch.tensor(errors)
    assert 0.1 < float(added.mean()) < 0.4 and float(added.max()) < 1.5 * 3 * 0.2


# ---- where a time step starts --------------------------------------------------------------------------


def wave(shift):
    z, y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in (9, 8, 7)), indexing="ij")
    return (np.sin(x + 2 * y + shift) * np.cos(z - shift)).astype(np.float32)


def sampler_of(values):
    grid = Grid(values.shape[::-1])
    data = FieldData(values, grid, value_range=(-2.0, 2.0))
    return Sampler(data, TrainConfig().resolved(grid), torch.Generator().manual_seed(0))


def zero_network():
    network = Network(CONFIGS[3])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def test_the_unexplained_share_of_the_variance():
    values = wave(0.0)
    normalised = (values + 2) / 4
    share = unexplained_share(zero_network(), sampler_of(values))
    assert share == pytest.approx((normalised.astype(np.float64) ** 2).mean() / normalised.var(), rel=0.1)
    assert not starts_from_before(zero_network(), sampler_of(values))
    assert unexplained_share(zero_network(), sampler_of(np.full((9, 8, 7), -2.0, np.float32))) == 0.0
    assert unexplained_share(zero_network(), sampler_of(np.full((9, 8, 7), 2.0, np.float32))) == np.inf


def test_a_step_starts_from_one_that_explains_it():
    from apmgsrn_core.bricks.training import train_brick

    grid = Grid((7, 8, 9))
    config = TrainConfig(iterations=150, batch_size=504, importance_fraction=0.0).resolved(grid)
    network = Network(replace(ModelConfig.of_size(4000), output_components=1), torch.Generator().manual_seed(0))
    train_brick(network, sampler_of(wave(0.0)), config, lambda state: True)
    assert starts_from_before(network, sampler_of(wave(0.05)))
    assert not starts_from_before(network, sampler_of(wave(1.5)))


@pytest.mark.parametrize("kind", ["identity", "log"])
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[1]])
def test_values_stay_when_ranges_change(config, kind):
    sides = [[(1.0, 9.0), (2.0, 3.0), (5.0, 5.0)], [(0.5, 8.0), (2.0, 4.0), (5.0, 6.0)]]
    before, now = (
        tuple(
            ArrayInfo(str(i), "point", 1, "float64", r, transform=ValueTransform(kind))
            for i, r in enumerate(side[: config.output_components])
        )
        for side in sides
    )
    network, points = trained_network(config), spread_points(500)
    old = evaluate([network], points).numpy()
    follow_ranges(network, before, now)
    new = evaluate([network], points).numpy()
    for output in range(min(config.output_components, 2)):
        found, wanted = (in_unit(o[:, output], i[output], np.dtype("f8")) for o, i in ((new, now), (old, before)))
        if config.bias:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        else:  # one shift is missing
            gap = now[output].transform.forward(found) - before[output].transform.forward(wanted)
            np.testing.assert_allclose(gap, gap.mean(), atol=1e-4)


def test_features_shrink_or_come_to_the_reference():
    generator = torch.Generator().manual_seed(0)
    start, reference = torch.randn(99, generator=generator), torch.randn(99, generator=generator)
    reference[:9] = start[:9] + 1e-4
    features = start.clone()
    FeaturePull(features).step(0.02)
    torch.testing.assert_close(features, start * (1 - DECAY * 0.02))
    features = start.clone()
    FeaturePull(features, reference).step(0.02)
    assert torch.equal(features[:9], reference[:9])
    gap = (start - reference).abs() - PULL * 0.02
    torch.testing.assert_close((features - reference).abs(), gap.clamp_min(0))
