"""The baselines: what their papers say about structure and start, and that they train and open again."""

import math

import numpy as np
import pytest
import torch

from apmgsrn_core import BASELINES, ConfigError, DataError, Grid, TrainConfig, open_volume, psnr, save_network, train_baseline
from apmgsrn_core.baselines.fvsrn import FVSRN, snake_alt
from apmgsrn_core.baselines.hash_grid import PRIMES, HashGrid
from apmgsrn_core.baselines.perceptron import level_resolutions
from apmgsrn_core.baselines.siren import Siren
from apmgsrn_core.baselines.training import USED
from apmgsrn_core.foreign.network_source import OWN_CLASSES

SMALL = {
    "siren": dict(width=32, hidden_layers=2), "fvsrn": dict(resolution=(5, 6, 7), features=4, fourier=8),
    "hash_grid": dict(levels=4, table_bits=9, coarsest=4, finest=20), "dense_grids": dict(levels=3, coarsest=3, finest=9),
}  # fmt: skip
GRID = Grid((9, 8, 7), (1, 2, 3), (0.5, 1, 2))


def make(name, **settings):
    return BASELINES[name](**{**SMALL[name], **settings})


def wave(components=1):
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID.dims[::-1]], indexing="ij")
    waves = [50 + 20 * np.sin(2 * x + c) + 10 * y * z for c in range(components)]
    return np.stack(waves, axis=-1).astype(np.float32) if components > 1 else waves[0].astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("components", [1, 3])
def test_each_trains_is_saved_and_opened_without_trust(tmp_path, name, components):
    network, values = make(name, outputs=components), wave(components)
    config = TrainConfig(iterations=120, batch_size=300, learning_rate=2e-3 if name == "siren" else 0)
    states = []
    result = train_baseline(network, values, GRID, config, "cpu", "wave", on_progress=states.append)
    assert result.iterations == 120 and states[-1].iteration == 120
    path = save_network(tmp_path / "a.network.json", network, GRID, result.arrays)
    volume = open_volume(path, "cpu")
    found = psnr(values, volume.sample_region())
    assert found > 28 and found == pytest.approx(result.psnr, abs=1.0)
    assert volume.derivatives == "autograd"


@pytest.mark.parametrize("name", BASELINES)
def test_the_seed_gives_the_start_and_arguments_make_it_again(name):
    network = make(name, seed=3)
    again = BASELINES[name](**network.arguments)
    other = make(name, seed=4)
    pairs = list(zip(network.state_dict().values(), again.state_dict().values(), other.state_dict().values()))
    assert pairs and all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)
    assert f"{type(network).__module__}.{type(network).__qualname__}" in OWN_CLASSES


@pytest.mark.parametrize("name", BASELINES)
def test_each_point_stands_for_itself_and_has_its_gradient(name):
    network = make(name).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(1))
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.9 - 0.95
    points.requires_grad_(True)
    values = network(points)
    assert torch.allclose(values[7:9], network(points[7:9]))
    slopes = torch.autograd.grad(values.sum(), points)[0]
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-7
        with torch.no_grad():
            change = (network(points + step) - network(points - step))[:, 0] / 2e-7
        assert torch.allclose(slopes[:, axis], change, rtol=1e-4, atol=1e-5)


def test_siren_starts_as_published():
    network = Siren(width=256)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert float(network.layers[0].weight.detach().abs().max()) <= 1 / 3
    assert float(network.layers[2].weight.detach().abs().max()) <= math.sqrt(6 / 256) / 30
    with torch.no_grad():
        hidden = points
        for layer in network.layers[:-1]:
            inner = 30 * torch.nn.functional.linear(hidden, layer.weight)  # biases add their own share
            hidden = torch.sin(30 * layer(hidden))
        # theorem 1.8 of the supplement: inputs of a sine are standard normal in all layers, its outputs arcsine distributed
        assert float(inner.std()) == pytest.approx(1.0, abs=0.1)
        assert float(hidden.var()) == pytest.approx(0.5, abs=0.08)
    assert sum(p.numel() for p in network.parameters()) == 3 * 256 + 256 + 3 * (256 * 256 + 256) + 256 + 1


def test_fvsrn_encodes_as_published():
    network = FVSRN()
    assert network.layers[0].in_features == 3 + 28 + 16 and len(network.layers) == 4
    frequencies = network.frequencies / (2 * math.pi)
    assert torch.allclose(frequencies[:4], torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0]]))
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)
    assert torch.allclose(snake_alt(x), x / 2 + torch.sin(x) ** 2)


def test_levels_grow_geometrically():
    assert level_resolutions(8, 16, 173) == [16, 22, 31, 44, 62, 87, 123, 173]
    assert level_resolutions(1, 4, 9) == [4] and level_resolutions(2, 4, 9) == [4, 9]


def test_hash_is_that_of_unsigned_numbers():
    network = HashGrid(**SMALL["hash_grid"], hidden_layers=1)
    nodes = np.random.default_rng(0).integers(0, 1 << 19, (3, 500))
    found = network._entries([torch.from_numpy(n) for n in nodes], 1 << 19, 512).numpy()
    x, y, z = (n.astype(np.uint32) * np.uint32(p) for n, p in zip(nodes, PRIMES))
    assert np.array_equal(found, (x ^ y ^ z) % np.uint32(512))
    sizes = [len(table) for table in network.tables]
    assert sizes[0] == 125 and sizes[-1] == 512  # 5^3 nodes fit, 21^3 do not


def test_hash_grid_without_collisions_interpolates_its_nodes():
    network = HashGrid(levels=1, coarsest=4, finest=4, table_bits=10)
    with torch.no_grad():
        index = torch.arange(125)
        network.tables[0][:, 0] = (index % 5).float() + 10 * (index // 5 % 5) + 100 * (index // 25)
        points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
        found = network._level(network.tables[0], 4, 0.5 * points + 0.5)[:, 0]
    assert torch.allclose(found, (points * 2 + 2) @ torch.tensor([1.0, 10.0, 100.0]), atol=1e-3)


def test_training_ends_when_told(tmp_path):
    values = wave()
    config = TrainConfig(iterations=5000, batch_size=100)
    assert train_baseline(make("dense_grids"), values, GRID, config, "cpu", on_progress=lambda s: False).iterations == 50
    by_psnr = TrainConfig(iterations=5000, batch_size=300, stop_psnr=25.0)
    result = train_baseline(make("dense_grids"), values, GRID, by_psnr, "cpu")
    assert result.iterations < 5000 and result.psnr >= 25
    by_time = TrainConfig(iterations=100_000, batch_size=100, time_budget=0.3)
    assert train_baseline(make("dense_grids"), values, GRID, by_time, "cpu").seconds < 3


def test_settings_that_mean_nothing_here_are_refused():
    for field, value in (("placement", "random"), ("rounding", 0.5), ("precision", "fast"), ("schedule", "plateau")):
        assert field not in USED
        with pytest.raises(ConfigError, match=field):
            train_baseline(make("siren"), wave(), GRID, TrainConfig(**{field: value}), "cpu")
    with pytest.raises(DataError, match=r"\(n, 3\).*\(n, 1\)"):
        train_baseline(make("siren"), wave(3), GRID, TrainConfig(iterations=1), "cpu")
    with pytest.raises(ConfigError, match="learning_rate"):
        train_baseline(torch.nn.Linear(3, 1), wave(), GRID, TrainConfig(iterations=1), "cpu")


def test_values_that_are_missing_do_not_hurt():
    values = wave()
    values[2:4, 3, 1:5] = np.nan
    result = train_baseline(make("fvsrn"), values, GRID, TrainConfig(iterations=60, batch_size=300), "cpu")
    assert math.isfinite(result.psnr) and result.psnr > 20


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("siren", dict(width=0)), ("siren", dict(omega=0)), ("fvsrn", dict(resolution=(0, 1, 1))), ("fvsrn", dict(fourier=-1)),
        ("hash_grid", dict(table_bits=0)), ("hash_grid", dict(coarsest=30)), ("dense_grids", dict(coarsest=1)),
        ("dense_grids", dict(levels=0)),
    ],
)  # fmt: skip
def test_sizes_are_checked(name, settings):
    with pytest.raises(ConfigError):
        make(name, **settings)
