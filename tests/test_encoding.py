"""Interpolation, feature density and its loss against literal loops in float64 numpy."""

import itertools
import math

import numpy as np
import pytest
import torch

from apmgsrn_core import LatticeConfig, ModelConfig
from apmgsrn_core.network.encoding import GridTable, density_loss, encode, feature_density, to_local, touching
from apmgsrn_core.network.model import Network, evaluate


def linear_weight(t):
    return max(0.0, 1.0 - abs(t))


def quadratic_weight(t):
    t = abs(t)
    return 0.75 - t * t if t <= 0.5 else 0.5 * (1.5 - t) ** 2 if t <= 1.5 else 0.0


def read_by_loops(grid_fzyx, local, interpolation, placed):
    """What a grid holds at local coordinates (x, y, z): the sum over ALL nodes of weight x value."""
    weight = linear_weight if interpolation == "linear" else quadratic_weight
    resolution = grid_fzyx.shape[:0:-1]
    weights = []
    for axis in range(3):
        n = resolution[axis]
        if n == 1:
            weights.append([1.0])
            continue
        if placed or interpolation == "linear":
            node = (local[axis] + 1) / 2 * (n - 1)
        else:
            node = (local[axis] + 1) / 2 * (n - 2) + 0.5
        weights.append([weight(node - i) for i in range(n)])
    result = np.zeros(grid_fzyx.shape[0])
    for z, y, x in itertools.product(*(range(n) for n in grid_fzyx.shape[1:])):
        result += weights[0][x] * weights[1][y] * weights[2][z] * grid_fzyx[:, z, y, x]
    return result


def encode_by_loops(network, points):
    rows = []
    transforms = network.transforms.detach().double().numpy()
    for point in points.double().numpy():
        row, placed_index = [], 0
        for group in network.table.groups:
            for grid in group.features(network.features.detach()).double().numpy():
                local = point
                if group.entry.placed:
                    matrix = transforms[placed_index]
                    local = matrix[:, :3] @ point + matrix[:, 3]
                    placed_index += 1
                row.extend(read_by_loops(grid, local, group.entry.interpolation, group.entry.placed))
        rows.append(row)
    return np.array(rows)


def make_network(interpolation, resolution=(3, 4, 5), features=2, grids=3, lattices=True, seed=0, **more):
    config = ModelConfig(
        number_of_grids=grids, features_per_grid=features, grid_resolution=resolution, interpolation=interpolation,
        lattices=(LatticeConfig((4, 3, 5), 1), LatticeConfig((3, 3, 3), 3)) if lattices else (), hidden_width=8, **more,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    network = Network(config.with_components(more.pop("components", 1)), generator)
    with torch.no_grad():
        network.features.copy_(torch.randn(network.features.shape, generator=generator))
        network.transforms[:, :, :3] += torch.randn(grids, 3, 3, generator=generator) * 0.4
        network.transforms[:, :, 3] += torch.randn(grids, 3, generator=generator) * 0.6
    return network


POINTS = torch.rand(41, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
BORDER = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=3)))


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
@pytest.mark.parametrize("resolution", [(3, 4, 5), (8, 7, 9), (1, 4, 3), (2, 2, 2), (1, 1, 1)])
def test_encoding_is_the_sum_over_nodes(interpolation, resolution):
    network = make_network(interpolation, resolution)
    points = torch.cat([POINTS, BORDER])
    found = encode(network.table, network.features, network.transforms, points)
    np.testing.assert_allclose(found.detach().numpy(), encode_by_loops(network, points), atol=2e-5)


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_lattices_reproduce_linear_functions_up_to_their_border(interpolation):
    config = ModelConfig(number_of_grids=0, lattices=(LatticeConfig((5, 5, 5), 1),), interpolation=interpolation)
    table = GridTable.from_config(config)
    span = 2.0 if interpolation == "linear" else 2.0 * 4 / 3  # quadratic nodes reach half a node beyond the domain
    axis = torch.linspace(-span / 2, span / 2, 5)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.cat([POINTS, BORDER])
    found = encode(table, (x + 2 * y - 3 * z).reshape(-1), torch.zeros(0, 3, 4), points)[:, 0]
    torch.testing.assert_close(found, points @ torch.tensor([1.0, 2.0, -3.0]), atol=1e-5, rtol=0)


def test_a_placed_grid_fades_over_one_node_and_is_zero_beyond():
    network = make_network("linear", (3, 3, 3), grids=1, lattices=False)
    with torch.no_grad():
        network.transforms[0] = torch.eye(3, 4)
        network.features.fill_(1.0)
    points = torch.tensor([[1.0, 0, 0], [1.5, 0, 0], [1.99, 0, 0], [2.0, 0, 0], [5.0, 5, 5]])
    found = encode(network.table, network.features, network.transforms, points)[:, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.5, 0.01, 0.0, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_skipping_far_grids_changes_nothing(interpolation):
    network = make_network(interpolation, grids=30, linear_skip=True, bias=True).requires_grad_(False)
    network.transforms[:, :, :3] *= 6
    network.transforms[:, :, 3] = torch.randn(30, 3, generator=torch.Generator().manual_seed(2)) * 4
    skipped = 0
    for centre in POINTS[:20]:
        points = centre + (POINTS - 0.5) * 0.05
        near = touching(network.table, network.transforms, points.amin(0), points.amax(0))
        skipped += int((~near).sum())
        torch.testing.assert_close(network.forward_near(points), network(points), atol=1e-5, rtol=1e-5)
    assert skipped > 100


def test_touching_never_misses_a_grid_that_is_not_zero():
    network = make_network("quadratic", grids=40, lattices=False).requires_grad_(False)
    network.transforms[:, :, :3] *= 5
    encoded = encode(network.table, network.features, network.transforms, POINTS)
    used = encoded.reshape(len(POINTS), 40, 2).abs().amax(2) > 0
    for i, point in enumerate(POINTS):
        near = touching(network.table, network.transforms, point, point)
        assert not (used[i] & ~near).any()


@pytest.mark.parametrize("interpolation", ["linear", "quadratic"])
def test_derivatives_agree_with_finite_differences(interpolation):
    network = make_network(interpolation, linear_skip=True).double()
    points = POINTS.double() * 0.9
    values, slopes = evaluate([network], points, derivatives=True)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.double)
        step[axis] = 1e-6
        numeric = (evaluate([network], points + step) - evaluate([network], points - step)) / 2e-6
        torch.testing.assert_close(slopes[:, :, axis], numeric, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values, evaluate([network], points))


def test_many_bricks_in_one_call_equal_one_by_one():
    networks = [make_network("linear", seed=s) for s in range(3)]
    starts = [0, 0, 17, 41]
    together = evaluate(networks, POINTS, starts)
    for network, first, last in zip(networks, starts, starts[1:]):
        torch.testing.assert_close(together[first:last], evaluate([network], POINTS[first:last]))
    values, slopes = evaluate(networks, POINTS, starts, derivatives=True)
    assert values.shape == (41, 1) and slopes.shape == (41, 1, 3)


def test_gradients_reach_the_transforms_only_on_request():
    network = make_network("linear")
    network(POINTS).sum().backward()
    assert network.transforms.grad is None
    network(POINTS, transform_gradient=True).sum().backward()
    assert network.transforms.grad.abs().max() > 0


def density_by_loops(transforms, points):
    """rho(x) = sum_i det(A_i) (2 pi)^(-3/2) exp(-1/2 sum_d (A_i x + t_i)_d^20)."""
    result = []
    for point in points:
        total = 0.0
        for matrix in transforms:
            u = matrix[:, :3] @ point + matrix[:, 3]
            total += np.linalg.det(matrix[:, :3]) / (2 * math.pi) ** 1.5 * math.exp(-0.5 * sum(c**20 for c in u))
        result.append(total)
    return np.array(result)


def test_feature_density_follows_the_published_equation():
    network = make_network("linear", lattices=False, grids=5)
    found = feature_density(network.transforms, to_local(network.transforms, POINTS)).detach().numpy()
    expected = density_by_loops(network.transforms.detach().double().numpy(), POINTS.double().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert expected.max() > 0.01


def test_feature_density_of_one_unit_grid_by_hand():
    eye = torch.eye(3, 4)[None]
    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.0, 1.0, 0], [2.0, 0, 0]])
    top = 0.06349363593424098  # (2 pi)^(-3/2)
    expected = [top, top * math.exp(-0.5), top * math.exp(-1.0), 0.0]
    np.testing.assert_allclose(feature_density(eye, to_local(eye, points)).numpy(), expected, rtol=1e-5)


def loss_by_loops(density, error):
    """p = rho / sum rho; q ~ exp(log p * mean(e) / e), normalised; mean of q (log q - log p)."""
    p = density / density.sum()
    q = np.array([math.exp(math.log(pi + 1e-16) * (error.mean() / (e + 1e-16))) for pi, e in zip(p, error)])
    q /= q.sum()
    return np.mean([qi * (math.log(qi + 1e-16) - math.log(pi + 1e-16)) for pi, qi in zip(p, q)])


def test_density_loss_follows_the_published_equation():
    generator = torch.Generator().manual_seed(3)
    density = torch.rand(50, generator=generator) + 0.01
    error = torch.rand(50, generator=generator) ** 3 + 1e-4
    found = float(density_loss(density, error))
    assert found == pytest.approx(loss_by_loops(density.double().numpy(), error.double().numpy()), rel=1e-5)


def test_density_loss_of_two_points_by_hand():
    # p = (1/4, 3/4); errors 1 and 3, mean 2: q ~ (1/4^2, (3/4)^(2/3)) = (0.0625, 0.825482)
    q = np.array([0.0625, 0.75 ** (2 / 3)])
    q /= q.sum()
    expected = (q * np.log(q / np.array([0.25, 0.75]))).mean()
    assert float(density_loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.0]))) == pytest.approx(expected, rel=1e-5)


def test_density_loss_pulls_density_to_the_error():
    density = torch.ones(4, requires_grad=True)
    density_loss(density, torch.tensor([1.0, 1.0, 1.0, 5.0])).backward()
    assert density.grad[3] < density.grad[0] <= 0  # the fixed normaliser leaves no positive side, as published
