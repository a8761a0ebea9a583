"""The kernel in torch for a CPU without the native library: points sorted in space, so that each tile of them reads only
the grids that reach it. Readable twin: `readable.py`, which computes the same numbers for all points at once."""

from __future__ import annotations

import math

import torch

from ..network.encoding import density_loss, to_local
from .readable import TorchKernel

POINTS_IN_CELL = 512  # of the sorting grid, about
LEAST_TILE, MOST_TILES = 512, 16
DENSITY_REACH = 1.35  # local coordinate beyond which exp(-u^20 / 2) is below 1e-87


class TiledTorchKernel(TorchKernel):
    """`TorchKernel` with sorted points."""

    @torch.no_grad()
    def values(self, network, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) normalised points -> (n, outputs), without gradients."""
        result = points.new_empty(len(points), network.layers[-1].out_features)
        for tile in tiles_of(points):
            result[tile] = network.forward_near(points[tile])
        return result

    def loss(self, network, points, targets, weights, transform_gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TorchKernel.loss`."""
        total, squared_error = torch.zeros((), dtype=points.dtype), points.new_empty(len(points))
        for tile in tiles_of(points):
            values = network.forward_near(points[tile], transform_gradient)
            error = ((values - targets[tile]) ** 2).mean(dim=1)
            total = total + (error * weights[tile, 0]).sum()
            squared_error[tile] = error.detach()
        return total / max(len(points), 1), squared_error

    def density_loss(self, transforms: torch.Tensor, points: torch.Tensor, squared_error: torch.Tensor) -> torch.Tensor:
        """See `TorchKernel.density_loss`."""
        parts, tiles = [], tiles_of(points)
        determinants = torch.linalg.det(transforms[:, :, :3]) / (2.0 * math.pi) ** 1.5
        for tile in tiles:
            low, high = points[tile].amin(0), points[tile].amax(0)
            centre = to_local(transforms.detach(), ((low + high) / 2)[None])[:, 0]
            half = torch.matmul(transforms.detach()[:, :, :3].abs(), (high - low) / 2)
            near = (centre.abs() - half < DENSITY_REACH).all(dim=1)
            shapes = _Shapes.apply(transforms[near], points[tile])
            parts.append(torch.matmul(determinants[near], shapes))
        order = torch.cat(tiles) if tiles else torch.empty(0, dtype=torch.long)
        return density_loss(torch.cat(parts) if parts else points.new_empty(0), squared_error[order])


class _Shapes(torch.autograd.Function):
    """exp(-1/2 sum over axes of u^20) of grids at points: (m, 3, 4), (n, 3) -> (m, n)."""

    @staticmethod
    def forward(ctx, transforms, points):
        local = to_local(transforms, points).clamp_(-DENSITY_REACH, DENSITY_REACH)
        square = local * local
        fourth = square * square
        sixteenth = (fourth * fourth).square_()
        value = (sixteenth * fourth).sum(dim=2).mul_(-0.5).exp_()
        ctx.save_for_backward(sixteenth.mul_(square).mul_(local), value, points)  # u^19
        return value

    @staticmethod
    def backward(ctx, slopes):
        power, value, points = ctx.saved_tensors
        local = power * (slopes * value * -10.0)[:, :, None]  # (m, n, 3)
        linear = torch.matmul(local.transpose(1, 2), points)
        return torch.cat([linear, local.sum(dim=1)[:, :, None]], dim=2), None


def tiles_of(points: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Indices of points (n, 3) that lie near each other, a tensor for each tile; together all points."""
    count = len(points)
    tiles = min(count // LEAST_TILE, MOST_TILES)
    if tiles < 2:
        return (torch.arange(count),) if count else ()
    cells = max(2, min(round((count / POINTS_IN_CELL) ** (1 / 3)), 8))
    index = ((points.detach() + 1) * (cells / 2)).long().clamp_(0, cells - 1)
    key = sum((index >> bit & 1) << 3 * bit for bit in range(3)) * torch.tensor([1, 2, 4])  # a Z-curve
    return torch.argsort(key.sum(dim=1)).chunk(tiles)
