"""The exact second derivatives of a network whose features are quadratic B-splines.

The decoder is piecewise linear in the features e(x), so that an output o has d2o/dx2 = sum over features of do/de d2e/dx2.
A feature is a sum over 27 nodes of products of three weights. Their derivatives along each axis are known, and those in
local coordinates go to the network's by the matrix A of a grid's transform: H = A^T H_local A.
"""

from __future__ import annotations

import torch

from ..errors import FieldError
from .encoding import GridGroup, encode, nearest_nodes, to_local
from .model import Network

Taps = list[tuple[torch.Tensor, tuple]]  # of an axis: the index of a node; its weight and that one's two derivatives


def check_curved(network: Network) -> None:
    """Raise FieldError unless the network has second derivatives."""
    if not isinstance(network, Network):
        raise FieldError(
            f"second derivatives: expected a network of adaptively placed grids, found {type(network).__name__}, a foreign one"
        )
    if any(entry.interpolation == "linear" for entry in network.table.entries):
        raise FieldError(
            "second derivatives: expected a model with 'quadratic' interpolation of the features, found 'linear', whose "
            "slopes jump at every node of a feature grid and have no derivative there"
        )


def network_curvatures(network: Network, points: torch.Tensor, columns: slice) -> torch.Tensor:
    """Some of the outputs with their first and second derivatives, in normalised coordinates.

    Args:
        network: With quadratic interpolation.
        points: (n, 3) within [-1, 1].
        columns: Which outputs.

    Returns:
        (n, c, 13): the output, 3 slopes, and 9 second derivatives.
    """
    table, transforms = network.table, network.transforms.detach()
    with torch.no_grad():
        encoded = encode(table, network.features, transforms, points)
    outputs, slopes = _decoder_slopes(network, encoded, columns)
    with torch.no_grad():
        local = to_local(transforms, points)
        total = points.new_zeros(outputs.shape[1], 12, len(points))
        for group in table.groups:
            where = local[group.transforms] if group.entry.placed else points.expand(group.count, -1, -1)
            of_group = slopes[:, group.columns].unflatten(1, (group.count, -1))
            sums = _group_derivatives(group.features(network.features), of_group, where, group)
            matrices = transforms[group.transforms, :, :3] if group.entry.placed else None
            total += _in_network(sums, matrices)
    return torch.cat([outputs[:, :, None], total.permute(2, 0, 1)], dim=2)


def _decoder_slopes(network: Network, encoded: torch.Tensor, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (n, k) -> outputs (n, c), and d output / d feature (c, k, n)."""
    encoded = encoded.requires_grad_(True)
    with torch.enable_grad():
        outputs = network.decode(encoded)[:, columns]
        slopes = [torch.autograd.grad(o.sum(), encoded, retain_graph=True)[0].t() for o in outputs.unbind(1)]
    return outputs.detach(), torch.stack(slopes)


def _group_derivatives(
    grids: torch.Tensor, slopes: torch.Tensor, positions: torch.Tensor, group: GridGroup
) -> dict[tuple[int, int, int], torch.Tensor]:
    """Derivatives of what the decoder makes of each grid, in its local coordinates.

    Args:
        grids: (g, f, z, y, x).
        slopes: (c, g, f, n) d output / d feature.
        positions: (g, n, 3) local coordinates.

    Returns:
        {orders along x, y, z that sum to 1 or 2: (c, g, n)}.
    """
    resolution = group.entry.resolution
    x, y, z = (_curved_taps(positions[..., a], resolution[a], group.entry.placed) for a in range(3))
    flat = grids.flatten(2)
    sums: dict[tuple[int, int, int], torch.Tensor] = {}
    for index_z, weight_z in z:
        layer: dict[tuple[int, int], torch.Tensor] = {}
        for index_y, weight_y in y:
            row: dict[tuple[()] | tuple[int], torch.Tensor] = {}
            for index_x, weight_x in x:
                node = index_x + resolution[0] * (index_y + resolution[1] * index_z)
                values = torch.gather(flat, 2, node[:, None].expand(-1, flat.shape[1], -1))
                _add(row, weight_x, {(): (slopes * values).sum(2)})
            _add(layer, weight_y, row)
        _add(sums, weight_z, layer)
    return sums


def _add(sums: dict, weights: tuple, inner: dict) -> None:
    """Add inner sums times a weight and its derivatives along one more axis, up to two derivatives in all."""
    for orders, values in inner.items():
        for order in range(3 - sum(orders)):
            if weights[order] is not None:
                part = values * weights[order]
                known = sums.get((*orders, order))
                sums[(*orders, order)] = part if known is None else known.add_(part)


def _curved_taps(position: torch.Tensor, resolution: int, placed: bool) -> Taps:
    """The taps of `encoding._quadratic_taps` with the derivatives of their weights in the local coordinate, (g, n)."""
    if resolution == 1:
        return [(torch.zeros_like(position, dtype=torch.long), (torch.ones_like(position), None, None))]
    centre, offset = nearest_nodes(position, resolution, placed)
    scale = 0.5 * (resolution - 1 if placed else resolution - 2)  # nodes in a local coordinate of 1
    one = torch.ones_like(offset)
    below, above = 0.5 - offset, 0.5 + offset
    weights = ((0.5 * below**2, -below, one), (0.75 - offset**2, -2 * offset, -2 * one), (0.5 * above**2, above, one))
    taps = []
    for step, weight in zip((-1, 0, 1), weights):
        index = centre + step
        inside = (index >= 0) & (index < resolution) & (offset.abs() <= 0.5001)
        scaled = tuple(w * inside * scale**order for order, w in enumerate(weight))
        taps.append((index.clamp(0, resolution - 1), scaled))
    return taps


def _in_network(sums: dict, matrices: torch.Tensor | None) -> torch.Tensor:
    """Sums of `_group_derivatives` -> (c, 3 + 9, n) in the network's coordinates; matrices (g, 3, 3) are None of lattices."""
    some = next(iter(sums.values()))
    none, units = torch.zeros_like(some), torch.eye(3, dtype=torch.long).tolist()
    slope = torch.stack([sums.get(tuple(a), none) for a in units], dim=2)  # (c, g, 3, n)
    bends = [sums.get(tuple(i + j for i, j in zip(a, b)), none) for a in units for b in units]
    bend = torch.stack(bends, dim=2).unflatten(2, (3, 3))
    if matrices is not None:
        slope = torch.einsum("cgan,gai->cgin", slope, matrices)
        bend = torch.einsum("cgabn,gai,gbj->cgijn", bend, matrices, matrices)
    return torch.cat([slope.sum(1), bend.sum(1).flatten(1, 2)], dim=1)
