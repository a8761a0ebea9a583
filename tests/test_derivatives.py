"""Derivatives of networks, of blended bricks and of arrays in the world: against differences of the same model in float64,
and against fields that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import apmgsrn_core.bricks.derivatives as brick_derivatives
import apmgsrn_core.kernels.readable as readable
from apmgsrn_core import ApmgsrnError, FieldError, Grid, LatticeConfig, ModelConfig
from apmgsrn_core.data.array_values import in_unit
from apmgsrn_core.bricks.derivatives import curvatures_at_points, slopes_at_points, weight_derivative
from apmgsrn_core.bricks.networks import BrickNetworks
from apmgsrn_core.bricks.sampling import BrickSampler
from apmgsrn_core.brick_layout import BrickLayout
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.network.model import Network
from apmgsrn_core.network.network_curvatures import network_curvatures
from apmgsrn_core.data.value_transform import ValueTransform
from apmgsrn_core.sampling.volume_derivatives import first_derivatives, second_derivatives

CONFIG = ModelConfig(
    number_of_grids=3, features_per_grid=2, grid_resolution=(4, 3, 5), lattices=(LatticeConfig((4, 5, 3), 2),),
    hidden_layers=1, hidden_width=8, bias=True, linear_skip=True, output_components=3,
)  # fmt: skip
LAYOUTS = {
    "one": BrickLayout((9, 8, 7)),
    "odd": BrickLayout((7, 8, 9), (3, 2, 1)),
    "hard faces": BrickLayout((9, 8, 7), (2, 2, 2), overlap=0),
    "wide bands": BrickLayout((17, 9, 8), (3, 2, 2), ghosts=3, overlap=2),
    "narrow bricks": BrickLayout((7, 3, 5), (6, 2, 1), ghosts=2, overlap=2),
    "flat": BrickLayout((9, 1, 8), (4, 1, 3)),
    "a line": BrickLayout((1, 1, 9), (1, 1, 3)),
}
ALL, LAST_TWO = slice(0, 3), slice(1, 3)
GRIDS = {
    "plain": Grid((9, 8, 7)),
    "turned cells": Grid((9, 8, 7), (3, -2, 5), (0.2, 3.0, -0.7), ((0, -1, 0), (0.6, 0, 0.8), (0.8, 0, -0.6)), "cell"),
    "a flat axis": Grid((9, 1, 8), (1, 1, 1), (1e-3, 2, 1e-3)),
    "stretched": Grid.stretched((np.linspace(0, 2, 9) ** 2, np.linspace(3, 1, 8), (0, 1, 5, 6, 6.5, 8, 9)), "point"),
    "stretched cells": Grid.stretched((np.linspace(0, 2, 9) ** 2, np.linspace(3, 1, 8), (0, 1, 5, 6, 7, 9, 10)), "cell"),
}
IDENTITY, LOG, ASINH = ValueTransform(), ValueTransform("log"), ValueTransform("asinh", 0.3)


def make_network(brick: int, interpolation: str, config: ModelConfig = CONFIG) -> Network:
    """Outputs of about 1 that vary over the brick."""
    network = Network(replace(config, interpolation=interpolation), torch.Generator().manual_seed(brick))
    generator = torch.Generator().manual_seed(brick + 1000)
    network.requires_grad_(False).features.copy_(torch.randn(network.features.shape, generator=generator))
    return network


def make_sampler(layout: BrickLayout, interpolation: str, devices=("cpu",)) -> BrickSampler:
    networks = [make_network(brick, interpolation) for brick in range(layout.count)]
    return BrickSampler(layout, [BrickNetworks(networks.__getitem__, device) for device in devices])


def exact_outputs(layout: BrickLayout, interpolation: str):
    """positions (n, 3) -> the blended outputs of the readable networks (n, 3), all in float64."""
    networks = [make_network(brick, interpolation).double() for brick in range(layout.count)]

    def outputs(positions: np.ndarray) -> np.ndarray:
        total = np.zeros((len(positions), 3))
        for brick, network in enumerate(networks):
            region, weight, points = layout.trained(brick), np.ones(len(positions)), np.zeros((len(positions), 3))
            for axis, part in enumerate(layout.place(brick)):
                weight *= layout.weight(axis, part, positions[:, axis])
                first, last = region.start[axis], region.stop[axis] - 1
                if last > first:
                    points[:, axis] = np.clip(2 * (positions[:, axis] - first) / (last - first) - 1, -1, 1)
            some = weight > 0
            total[some] += weight[some, None] * network(torch.from_numpy(points[some])).numpy()
        return total

    return outputs


def differences(function, points: np.ndarray, step) -> tuple[np.ndarray, np.ndarray]:
    """Central differences (n, c, 3) of a function, and where those to both sides agree: no kink within a step, (n,)."""
    central, smooth, here = [], np.ones(len(points), dtype=bool), function(points)
    for axis in range(3):
        move = np.eye(3)[axis] * step
        above, below = (function(points + move) - here) / move[axis], (here - function(points - move)) / move[axis]
        central.append((above + below) / 2)
        scale = _scale(central[-1])
        smooth &= (np.abs(above - below) <= 5e-4 * scale).reshape(len(points), -1).all(1)
    return np.stack(central, axis=-1), smooth


def _scale(numbers: np.ndarray) -> np.ndarray:
    """What an error is compared with: each number, or a tenth of the largest one."""
    return np.maximum(np.abs(numbers), 0.1 * np.abs(numbers).max() + 1e-9)


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    assert found.shape == expected.shape and len(found)
    error = np.abs(found - expected) / _scale(expected)
    assert error.max() < tolerance, f"{error.max():.2e} at {np.unravel_index(error.argmax(), error.shape)}"


def random_positions(layout: BrickLayout, seed: int, count: int = 400) -> np.ndarray:
    """All over the domain and half a value beyond, many in bands."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-0.5, np.array(layout.dims) - 0.5, (count, 3))
    for axis in range(3):
        near, half = rng.random(count) < 0.5, layout.half_widths[axis]
        band = rng.choice(layout.faces[axis][1:-1], count) + rng.uniform(-half, half, count) if half else positions[:, axis]
        positions[near, axis] = band[near]
    return positions


# ---- of outputs, in positions ------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_slopes_are_differences_of_the_blended_networks(name, interpolation):
    layout, positions = LAYOUTS[name], random_positions(LAYOUTS[name], 1)
    sampler = make_sampler(layout, interpolation)
    outputs, slopes = slopes_at_points(sampler, positions, ALL)
    assert outputs.dtype == slopes.dtype == np.float32
    np.testing.assert_allclose(outputs, sampler.at_points(positions, ALL), atol=1e-5 * np.ptp(outputs))
    expected, smooth = differences(exact_outputs(layout, interpolation), positions, 1e-5)
    assert smooth.mean() > 0.9
    assert_near(slopes[smooth], expected[smooth])
    np.testing.assert_array_equal(slopes_at_points(sampler, positions, LAST_TWO)[1], slopes[:, LAST_TWO])


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_second_derivatives_are_differences_of_the_blended_networks(name):
    layout, positions = LAYOUTS[name], random_positions(LAYOUTS[name], 2, 100)
    outputs, slopes, curvatures = curvatures_at_points(make_sampler(layout, "quadratic"), positions, ALL)
    for found, fast in zip((outputs, slopes), slopes_at_points(make_sampler(layout, "quadratic"), positions, ALL)):
        np.testing.assert_allclose(found, fast, atol=1e-4 * np.ptp(fast))
    np.testing.assert_allclose(curvatures, np.swapaxes(curvatures, 2, 3), atol=1e-4 * np.abs(curvatures).max())
    exact = exact_outputs(layout, "quadratic")
    expected, smooth = differences(lambda where: differences(exact, where, 2e-5)[0], positions, 2e-5)
    smooth &= differences(exact, positions, 2e-5)[1]
    assert smooth.mean() > 0.8
    assert_near(curvatures[smooth], expected[smooth], 2e-3)


def automatic(network: Network, points: torch.Tensor) -> torch.Tensor:
    """The readable twin of `network_curvatures`: automatic differentiation twice, (n, outputs, 13)."""
    points = points.clone().requires_grad_(True)
    rows = []
    for output in network(points).unbind(1):
        slopes = torch.autograd.grad(output.sum(), points, create_graph=True)[0]
        bends = [torch.autograd.grad(s.sum(), points, retain_graph=True, materialize_grads=True)[0] for s in slopes.unbind(1)]
        rows.append(torch.cat([output[:, None], slopes, *bends], dim=1).detach())
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "change",
    [{}, {"number_of_grids": 0}, {"lattices": ()}, {"features_per_grid": 1, "hidden_layers": 0, "linear_skip": False},
     {"grid_resolution": (4, 1, 3), "lattices": (LatticeConfig((3, 1, 4), 1), LatticeConfig((1, 5, 3), 3))},
     {"grid_resolution": (1, 1, 2), "hidden_layers": 3}],
    ids=str,
)  # fmt: skip
def test_curvatures_of_a_network_are_those_of_automatic_differentiation(change, seed):
    network = make_network(seed, "quadratic", replace(CONFIG, **change)).double()
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 2 - 1
    found, expected = network_curvatures(network, points, ALL), automatic(network, points)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(network_curvatures(network, points, LAST_TWO), found[:, LAST_TWO])
    single = network_curvatures(network.float(), points.float(), ALL)
    torch.testing.assert_close(single, expected.float(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_weights_have_derivatives():
    for layout in LAYOUTS.values():
        for axis in range(3):
            where = np.random.default_rng(0).uniform(-1, layout.dims[axis], 200)
            if not layout.half_widths[axis]:
                where = where[(np.abs(where[:, None] - layout.faces[axis]) > 1e-3).all(1)]
            for part in range(layout.counts[axis]):
                for order, step, tolerance in ((1, 1e-6, 1e-5), (2, 1e-6, 1e-3)):
                    below, above = (weight_derivative(layout, axis, part, where + s, order - 1) for s in (-step, step))
                    found = weight_derivative(layout, axis, part, where, order)
                    np.testing.assert_allclose(found, (above - below) / (2 * step), atol=tolerance)


@pytest.mark.parametrize("name", ["odd", "wide bands", "one"])
def test_devices_and_pieces_do_not_change_a_bit(name, monkeypatch):
    layout, positions = LAYOUTS[name], random_positions(LAYOUTS[name], 3, 1000)
    expected = slopes_at_points(make_sampler(layout, "linear"), positions, ALL)
    several = slopes_at_points(make_sampler(layout, "linear", ("cpu",) * 3), positions, ALL)
    curved = curvatures_at_points(make_sampler(layout, "quadratic"), positions[:20], ALL)
    monkeypatch.setattr(brick_derivatives, "PIECE", 333)
    in_parts = slopes_at_points(make_sampler(layout, "linear"), positions, ALL)
    for a, b, c in zip(expected, several, in_parts):
        assert (a == b).all()
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(brick_derivatives, "CURVATURE_POINTS", 7)
    for a, b in zip(curved, curvatures_at_points(make_sampler(layout, "quadratic"), positions[:20], ALL)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_no_points_have_no_derivatives():
    for layout in (LAYOUTS["one"], LAYOUTS["odd"]):
        shapes = [a.shape for a in curvatures_at_points(make_sampler(layout, "quadratic"), np.zeros((0, 3)), ALL)]
        assert shapes == [(0, 3), (0, 3, 3), (0, 3, 3, 3)]


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_the_readable_kernel_finds_slopes_in_parts(interpolation, monkeypatch):
    network, points = make_network(0, interpolation), torch.rand(100, 3) * 2 - 1
    expected = readable.TorchKernel().derivatives(network, points)
    monkeypatch.setattr(readable, "SLOPE_POINTS", 33)
    for a, b in zip(expected, readable.TorchKernel().derivatives(network, points)):
        torch.testing.assert_close(a, b)
    assert [len(t) for t in readable.TorchKernel().derivatives(network, points[:0])] == [0, 0]


def test_a_model_of_linear_features_has_no_second_derivatives():
    for layout in (LAYOUTS["one"], LAYOUTS["odd"]):
        with pytest.raises(FieldError, match="'quadratic'.*found 'linear'"):
            curvatures_at_points(make_sampler(layout, "linear"), random_positions(layout, 0), ALL)
        info, nowhere = ArrayInfo("u", "point", 3, "float32", (0.0, 1.0)), np.full((1, 3), -9.0)
        with pytest.raises(FieldError, match="'quadratic'.*found 'linear'"):
            second_derivatives(make_sampler(layout, "linear"), Grid(layout.dims), nowhere, info, ALL)
    assert issubclass(FieldError, ApmgsrnError)


# ---- of a field that the features hold exactly ---------------------------------------------------------


def feature_model(interpolation: str, dims, function) -> BrickSampler:
    """One brick whose only output is `function` of node coordinates x, y, z, read from one lattice."""
    nodes = [np.arange(n, dtype=float) for n in dims]
    shape = [n + (interpolation == "quadratic") for n in dims]  # these reach half a node beyond the ends
    if interpolation == "quadratic":
        nodes = [np.arange(n) - 0.5 for n in shape]
    lattice = (LatticeConfig(shape, 1),)
    config = ModelConfig(0, lattices=lattice, hidden_layers=0, output_components=1, interpolation=interpolation)
    network = Network(config).requires_grad_(False)
    z, y, x = np.meshgrid(*nodes[::-1], indexing="ij")
    network.features.copy_(torch.from_numpy(function(x, y, z).ravel()))
    network.layers[0].weight.fill_(1.0)
    return BrickSampler(BrickLayout(dims), [BrickNetworks(lambda brick: network, "cpu")])


@pytest.mark.parametrize("force", ["torch", "native"])
@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_a_linear_field_has_its_slope_everywhere_also_on_the_border(interpolation, force, monkeypatch):
    monkeypatch.setenv("APMGSRN_KERNELS", force)
    dims = (5, 4, 7)
    sampler = feature_model(interpolation, dims, lambda x, y, z: 2 * x - 3 * y + z / 4)
    positions = np.stack(np.meshgrid(*(np.arange(0, n - 0.9, 0.5) for n in dims), indexing="ij"), axis=-1).reshape(-1, 3)
    outputs, slopes = slopes_at_points(sampler, positions, slice(0, 1))
    np.testing.assert_allclose(outputs[:, 0], positions @ [2, -3, 0.25], atol=1e-4)
    np.testing.assert_allclose(slopes[:, 0], np.broadcast_to([2, -3, 0.25], (len(positions), 3)), atol=1e-4)
    beyond = positions + [0, 0, 10]
    np.testing.assert_allclose(slopes_at_points(sampler, beyond, slice(0, 1))[1][:, 0, 2], 0)


def test_a_quadratic_field_has_its_second_derivatives():
    grid = Grid((6, 7, 8), (1, 2, 3), (0.5, -2.0, 4.0))
    # B-spline coefficients i^2 - 1/4 make u^2
    sampler = feature_model("quadratic", grid.dims, lambda x, y, z: (x * x - 0.25) + 3 * x * y - 2 * (y * y - 0.25) + y * z)
    points = np.random.default_rng(0).uniform(grid.bounds[::2], grid.bounds[1::2], (300, 3))
    info = ArrayInfo("f", "point", 1, "float32", (10.0, 12.0))
    found = second_derivatives(sampler, grid, points, info, slice(0, 1))
    in_index = np.array([[2, 3, 0], [3, -4, 1], [0, 1, 0]])
    expected = 2 * in_index / np.outer(grid.spacing, grid.spacing)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-3)


# ---- of an array, in the world -------------------------------------------------------------------------


def world_function(grid: Grid, layout: BrickLayout, info: ArrayInfo, interpolation: str):
    """World positions (n, 3) -> values (n, 3) of the model in float64, beyond the domain those of the border."""
    outputs, first = exact_outputs(layout, interpolation), [grid.association == "cell" and n > 1 for n in grid.dims]

    def values(points: np.ndarray) -> np.ndarray:
        return in_unit(outputs(grid.world_to_index(points) - np.array(first) / 2), info, np.dtype("float64"))

    return values


def cell_lengths(grid: Grid) -> np.ndarray:
    """How far in the world along x, y, z an index changes by about 1, (3,)."""
    middle = np.array([grid.dims]) / 2
    return 1 / np.abs(grid.world_slopes(middle)[0]).max(0)


def world_points(grid: Grid, seed: int, count: int = 300) -> np.ndarray:
    last = np.array(grid.dims) - 1
    return grid.index_to_world(np.random.default_rng(seed).uniform(0, last, (count, 3)))


@pytest.mark.parametrize("transform", [IDENTITY, LOG, ASINH], ids=lambda t: t.kind)
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("name", GRIDS)
def test_the_jacobian_is_differences_in_the_world(name, counts, transform):
    grid, info = GRIDS[name], ArrayInfo("u", "point", 3, "float64", (0.2, 3.0), transform=transform)
    layout, points = BrickLayout(grid.value_dims, counts), world_points(grid, 4)
    sampler = make_sampler(layout, "linear")
    values, jacobian = first_derivatives(sampler, grid, points, info, ALL)
    exact = world_function(grid, layout, info, "linear")
    np.testing.assert_allclose(values, exact(points), rtol=1e-4, atol=1e-4)
    expected, smooth = differences(exact, points, 1e-5 * cell_lengths(grid))
    assert smooth.mean() > 0.85 and values.dtype == np.float32
    for axis in range(3):  # anisotropic spacing: each axis has its own scale
        assert_near(jacobian[smooth][..., axis], expected[smooth][..., axis])


@pytest.mark.slow
@pytest.mark.parametrize("transform", [IDENTITY, LOG, ASINH], ids=lambda t: t.kind)
@pytest.mark.parametrize("name", GRIDS)
def test_the_hessian_is_differences_in_the_world(name, transform):
    grid, info = GRIDS[name], ArrayInfo("u", "point", 3, "float64", (0.2, 3.0), transform=transform)
    layout, points = BrickLayout(grid.value_dims, (2, 1, 2)), world_points(grid, 5, 150)
    exact, step = world_function(grid, layout, info, "quadratic"), 2e-5 * cell_lengths(grid)
    found = second_derivatives(make_sampler(layout, "quadratic"), grid, points, info, ALL)
    expected, smooth = differences(lambda where: differences(exact, where, step)[0], points, step)
    smooth &= differences(exact, points, step)[1]
    assert smooth.mean() > 0.7
    for a in range(3):
        for b in range(3):
            assert_near(found[smooth][..., a, b], expected[smooth][..., a, b], 3e-3)


@pytest.mark.parametrize("name", GRIDS)
def test_outside_the_domain_all_is_nan(name):
    grid, info = GRIDS[name], ArrayInfo("u", "point", 3, "float32", (0.0, 1.0))
    points = np.concatenate([world_points(grid, 6, 9), grid.index_to_world(np.full((2, 3), -1.0)), [[np.nan, 0, 0]]])
    sampler = make_sampler(BrickLayout(grid.value_dims), "quadratic")
    results = (*first_derivatives(sampler, grid, points, info, ALL), second_derivatives(sampler, grid, points, info, ALL))
    for result in results:
        assert np.isfinite(result[:9]).all() and np.isnan(result[9:]).all()
        assert (name != "a flat axis") or result.ndim == 2 or not result[:9, :, 1].any()


def test_the_outer_half_of_a_border_cell_is_constant_across_the_border():
    grid, info = Grid((9, 8, 7), association="cell"), ArrayInfo("u", "cell", 3, "float32", (0.0, 1.0))
    sampler = make_sampler(BrickLayout(grid.value_dims), "linear")
    points = np.array([[0.3, 4.0, 3.0], [0.3, 7.0, 3.0], [4.0, 4.0, 5.9]])
    _, jacobian = first_derivatives(sampler, grid, points, info, ALL)
    held = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    assert ((jacobian == 0).all(axis=1) == held).all() and (np.abs(jacobian).max(axis=1) > 0.01)[~held].all()
