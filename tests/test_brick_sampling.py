"""Bricks that are sampled together: against a slow twin that sums over all bricks, on lattices and at points."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import apmgsrn_core.bricks.networks as brick_networks
import apmgsrn_core.bricks.sampling as brick_sampling
from apmgsrn_core import ModelConfig
from apmgsrn_core.bricks.coordinates import contributions
from apmgsrn_core.bricks.networks import BrickNetworks, in_order
from apmgsrn_core.bricks.sampling import BrickSampler
from apmgsrn_core.brick_layout import BrickLayout
from apmgsrn_core.kernels import kernel_for
from apmgsrn_core.network.model import Network

TINY = ModelConfig(number_of_grids=2, grid_resolution=(3, 3, 3), hidden_width=8, output_components=2)
BOTH, FIRST = slice(0, 2), slice(0, 1)
LAYOUTS = {
    "odd": BrickLayout((7, 8, 9), (3, 2, 1)),
    "hard faces": BrickLayout((9, 8, 7), (2, 2, 2), overlap=0),
    "wide bands": BrickLayout((17, 9, 8), (3, 2, 2), ghosts=3, overlap=2),
    "narrow bricks": BrickLayout((7, 3, 5), (6, 2, 4), ghosts=2, overlap=2),
    "flat": BrickLayout((9, 1, 8), (4, 1, 3)),
    "a line": BrickLayout((1, 1, 9), (1, 1, 3)),
    "one": BrickLayout((9, 8, 7)),
}


def make_network(brick: int, config: ModelConfig = TINY) -> Network:
    """Values of about 1 that vary over the brick."""
    network = Network(config, torch.Generator().manual_seed(brick)).requires_grad_(False)
    generator = torch.Generator().manual_seed(brick + 1000)
    network.features.copy_(torch.randn(network.features.shape, generator=generator))
    return network


class Getter:
    """brick -> network, and how often each one was asked for."""

    def __init__(self, count: int):
        self.networks, self.calls = [make_network(brick) for brick in range(count)], []

    def __call__(self, brick: int) -> Network:
        self.calls.append(brick)
        return self.networks[brick]


def make_sampler(layout: BrickLayout, devices=("cpu",)) -> BrickSampler:
    getter = Getter(layout.count)
    return BrickSampler(layout, [BrickNetworks(getter, device) for device in devices])


def slow_twin(layout: BrickLayout, positions: np.ndarray) -> np.ndarray:
    """The sum over all bricks of the product of their weights and the value of their network, (n, 2) float64."""
    total = np.zeros((len(positions), 2))
    for brick in range(layout.count):
        region, weight, points = layout.trained(brick), np.ones(len(positions)), np.zeros((len(positions), 3))
        for axis, part in enumerate(layout.place(brick)):
            weight *= layout.weight(axis, part, positions[:, axis])
            first, last = region.start[axis], region.stop[axis] - 1
            if last > first:
                points[:, axis] = np.clip(2 * (positions[:, axis] - first) / (last - first) - 1, -1, 1)
        some = weight > 0
        values = make_network(brick)(torch.from_numpy(points[some].astype(np.float32))).numpy()
        total[some] += weight[some, None] * values
    return total


def random_positions(layout: BrickLayout, seed: int, count: int = 300) -> np.ndarray:
    """All over the domain and half a value beyond, many on faces and at the ends of bands."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-0.5, np.array(layout.dims) - 0.5, (count, 3))
    for axis in range(3):
        special = rng.random(len(positions)) < 0.5
        half = layout.half_widths[axis]
        count = int(special.sum())
        positions[special, axis] = rng.choice(layout.faces[axis], count) + rng.choice([-half, 0, half], count)
    return positions


def lattice_positions(axes) -> np.ndarray:
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_points_are_those_of_the_slow_twin(name):
    layout = LAYOUTS[name]
    positions = random_positions(layout, 1)
    found, expected = make_sampler(layout).at_points(positions, BOTH), slow_twin(layout, positions)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("step", [1.0, 0.5, 0.37, -1.0])
def test_a_lattice_is_its_points(name, step, monkeypatch):
    layout = LAYOUTS[name]
    axes = [np.arange(-0.5 if step == 0.37 else 0.0, n, abs(step))[:: 1 if step > 0 else -1] for n in layout.dims]
    sampler, positions = make_sampler(layout), lattice_positions(axes)
    found = sampler.on_lattice(axes, BOTH)
    expected = sampler.at_points(positions, BOTH)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5 * np.ptp(expected))
    monkeypatch.setattr(brick_sampling, "CHUNK", 50)
    shares = []
    np.testing.assert_array_equal(sampler.on_lattice(axes, BOTH, shares.append), found)
    assert shares == sorted(shares) and shares[-1] == 1 and (len(shares) > 1 or len(positions) <= 50)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_layout_is_that_of_the_slow_twin(data):
    dims = [data.draw(st.integers(1, 12)) for _ in range(3)]
    counts = [data.draw(st.integers(1, min(max(n - 1, 1), 4))) for n in dims]
    ghosts = data.draw(st.integers(0, 3))
    layout = BrickLayout(dims, counts, ghosts, data.draw(st.integers(0, ghosts)))
    sampler = make_sampler(layout)
    positions = random_positions(layout, data.draw(st.integers(0, 99)), 40)
    expected = slow_twin(layout, positions)
    np.testing.assert_allclose(sampler.at_points(positions, BOTH), expected, atol=2e-5)
    axes = [np.unique(positions[:6, axis]) for axis in range(3)]
    on_lattice, at_points = sampler.on_lattice(axes, BOTH), slow_twin(layout, lattice_positions(axes))
    np.testing.assert_allclose(on_lattice.reshape(at_points.shape), at_points, atol=2e-5)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_contributions_are_those_of_the_layout(data):
    dims = [data.draw(st.integers(1, 24)) for _ in range(3)]
    counts = [data.draw(st.integers(1, max(n - 1, 1))) for n in dims]
    ghosts = data.draw(st.integers(0, 4))
    layout = BrickLayout(dims, counts, ghosts, data.draw(st.integers(0, ghosts)))
    positions = random_positions(layout, data.draw(st.integers(0, 99)), 100)
    rows, bricks, weights = contributions(layout, positions)
    assert (np.diff(bricks) >= 0).all()
    order = np.lexsort((rows, bricks))
    for found, expected in zip((rows[order], bricks[order], weights[order]), layout.contributions(positions)):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_values_do_not_jump_at_faces_with_an_overlap(overlap):
    layout = BrickLayout((17, 9, 9), (4, 2, 2), ghosts=2, overlap=overlap)
    sampler, jumps = make_sampler(layout), []
    for axis in range(3):
        for face in layout.faces[axis][1:-1]:
            below = random_positions(layout, int(face), 50)
            below[:, axis] = face - 1e-6
            above = below.copy()
            above[:, axis] = face + 1e-6
            jumps.append(np.abs(sampler.at_points(below, BOTH) - sampler.at_points(above, BOTH)).max())
    spread = np.ptp(sampler.at_points(random_positions(layout, 0, 1000), BOTH))
    assert (max(jumps) < 1e-4 * spread) == (overlap > 0)
    assert overlap > 0 or min(jumps) > 1e-2 * spread


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cpu",) * 3])
@pytest.mark.parametrize("name", ["odd", "wide bands", "narrow bricks", "one"])
def test_several_devices_give_the_same_bits(name, devices):
    layout = LAYOUTS[name]
    one, several = make_sampler(layout), make_sampler(layout, devices)
    positions = random_positions(layout, 3, 2000)
    axes = [np.arange(0, n - 0.5, 0.5) for n in layout.dims]
    assert (one.at_points(positions, BOTH) == several.at_points(positions, BOTH)).all()
    assert (one.on_lattice(axes, BOTH) == several.on_lattice(axes, BOTH)).all()
    kept = [set(networks._held) for networks in several.networks]
    assert sum(map(len, kept)) == layout.count == len(set.union(*kept))


def test_each_of_a_thousand_bricks_is_evaluated_once(monkeypatch):
    layout = BrickLayout((33, 33, 21), (16, 16, 5), ghosts=1)
    network = make_network(0)
    sampler = BrickSampler(layout, [BrickNetworks(lambda brick: network, "cpu")])
    kernel, calls = type(kernel_for(network)), []
    for method in ("values", "lattice"):
        original = getattr(kernel, method)
        monkeypatch.setattr(kernel, method, lambda *a, o=original: calls.append([t.numel() for t in a[2:]]) or o(*a))
    positions = random_positions(layout, 5, 50_000)
    assert np.isfinite(sampler.at_points(positions, FIRST)).all()
    assert len(calls) == layout.count == 1280
    assert sum(n for n, in calls) == 3 * len(layout.contributions(positions)[0])
    calls.clear()
    assert np.isfinite(sampler.on_lattice([np.arange(n) for n in layout.dims], FIRST)).all()
    shared_twice = sum(layout.core(brick).count for brick in range(layout.count))
    assert sum(np.prod(axes) if len(axes) == 3 else axes[0] // 3 for axes in calls) == shared_twice
    assert len(calls) == layout.count


@pytest.mark.parametrize("name", ["lattice", "values"])
def test_what_a_brick_has_more_than_whole_tiles_comes_apart(name, monkeypatch):
    """65 positions of a brick are 64 and one; the rest is cut in equal parts, and none is left out or taken twice."""
    network, calls = make_network(0), []
    kernel = type(kernel_for(network))
    original = getattr(kernel, name)
    monkeypatch.setattr(kernel, name, lambda s, n, *a: calls.append([len(p) for p in a]) or original(s, n, *a))
    monkeypatch.setattr(brick_sampling, "CHUNK", 65 * 20 * 14)
    sampler = BrickSampler(BrickLayout((129, 20, 21), (2, 1, 1)), [BrickNetworks(lambda brick: network, "cpu")])
    axes = [np.arange(n, dtype=float) for n in sampler.layout.dims]
    found = sampler.on_lattice(axes, FIRST)
    if name == "values":
        assert calls == [[20 * 20], [20]] * 2
    else:
        assert calls == [[64, 20, 10], [64, 20, 10], [64, 20, 1]] * 2
    expected = sampler.at_points(lattice_positions(axes), FIRST).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_networks_are_kept_as_long_as_there_is_room():
    getter = Getter(6)
    size = BrickNetworks(getter, "cpu").get(0).byte_count
    kept = BrickNetworks(getter, "cpu", most_bytes=3 * size)
    getter.calls.clear()
    for brick in (0, 1, 2, 0, 3, 0, 2, 1):
        assert kept.get(brick).network is getter.networks[brick]
        assert kept.byte_count <= 3 * size and len(kept) <= 3
    assert getter.calls == [0, 1, 2, 3, 1]  # 1 was used longest ago when 3 came
    least = BrickNetworks(getter, "cpu", most_bytes=0)
    assert [len(least) for brick in range(3) if least.get(brick)] == [1, 1, 1]


def test_the_bound_is_that_of_the_module(monkeypatch):
    monkeypatch.setattr(brick_networks, "MOST_BYTES", 0)
    layout = LAYOUTS["odd"]
    sampler, positions = make_sampler(layout), random_positions(layout, 2)
    np.testing.assert_allclose(sampler.at_points(positions, BOTH), slow_twin(layout, positions), atol=2e-5)
    assert len(sampler.networks[0]) == 1


@pytest.mark.parametrize("devices", [1, 2])
def test_a_failure_ends_the_work(devices):
    begun, before = [], threading.active_count()

    def work(number):
        begun.append(number)
        if number == 5:
            raise OSError("gone")
        return number

    tasks = ((n % devices, lambda n=n: work(n)) for n in range(1000))
    results = []
    with pytest.raises(OSError, match="gone"):
        results.extend(in_order(tasks, ["cpu"] * devices))
    assert results == [0, 1, 2, 3, 4] and len(begun) < 100
    taking = in_order(((n % devices, lambda n=n: n) for n in range(1000)), ["cpu"] * devices)
    assert next(taking) == 0
    taking.close()
    assert threading.active_count() == before
