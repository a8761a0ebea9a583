"""The torch kernel with sorted points against its readable twin."""

import pytest
import torch
from test_cpu_kernels import assert_close, random_network, random_points

from apmgsrn_core import LatticeConfig, ModelConfig
from apmgsrn_core.kernels.readable import TorchKernel
from apmgsrn_core.kernels.torch_tiles import TiledTorchKernel, tiles_of

TWIN, TILED = TorchKernel(), TiledTorchKernel()
CONFIGS = [
    ModelConfig(number_of_grids=12, grid_resolution=(4, 5, 3), output_components=2, bias=True),
    ModelConfig(
        number_of_grids=7, lattices=(LatticeConfig((5, 5, 5), 3),), interpolation="quadratic", linear_skip=True, output_components=1
    ),
    ModelConfig(number_of_grids=0, lattices=(LatticeConfig((8, 8, 8), 2),), output_components=1),
]  # fmt: skip


def small_grids(config):
    network = random_network(config, 3)
    with torch.no_grad():
        network.transforms[:, :, :3] *= 2
    return network


@pytest.mark.parametrize("n", [0, 1, 511, 1025, 5001])
def test_tiles_are_all_points_and_near_each_other(n):
    points = random_points(n, 0, 1.0)
    tiles = tiles_of(points)
    assert torch.equal(torch.cat([*tiles, torch.empty(0, dtype=torch.long)]).sort().values, torch.arange(n))
    if n > 5000:
        spans = [(points[t].amax(0) - points[t].amin(0)).prod() for t in tiles]
        assert sum(spans) < 0.7 * 8 * len(tiles)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("n", [0, 1, 600, 5001])
def test_values_loss_and_gradients_are_the_twins(config, n):
    network, points = small_grids(config), random_points(n, 1)
    assert_close(TILED.values(network, points), TWIN.values(network, points), 1e-5)
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(n, config.output_components, generator=generator) + 5
    weights = torch.rand(n, 1, generator=generator)
    if not n:
        return
    expected_error = TWIN.backward(network, points, targets, weights, True)
    expected = {name: p.grad for name, p in network.named_parameters()}
    assert_close(TILED.backward(network, points, targets, weights, True), expected_error, 1e-5)
    for name, parameter in network.named_parameters():
        if parameter.numel() and expected[name] is not None:
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert_close(found, expected[name], 1e-4)


def test_the_density_loss_is_the_twins():
    points, error = random_points(5000, 2, 1.0), torch.rand(5000, generator=torch.Generator().manual_seed(1)) + 0.01
    start = torch.eye(3, 4) * 2 + 0.3 * torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    results = []
    for kernel in (TWIN, TILED):
        transforms = start.clone().requires_grad_(True)
        loss = kernel.density_loss(transforms, points, error)
        loss.backward()
        results.append((loss, transforms.grad))
    assert_close(results[1][0], results[0][0], 1e-4)
    assert_close(results[1][1], results[0][1], 1e-3)
