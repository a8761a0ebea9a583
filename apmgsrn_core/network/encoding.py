"""Feature grids: where a point falls in each of them, and what they hold there. Readable torch.

Source: Wurster et al. 2024, TVCG 30(1), section 3 (adaptively placed multi-grid encoder and
feature density); checked against the authors' `Models/APMGSRN.py`.

Conventions, those of every kernel that will stand beside this file:
- points are (n, 3) float32 normalised coordinates, x first;
- the features of a model are ONE flat tensor; a grid's block in it is `[feature][z][y][x]`;
- a placed grid has a transform (3, 4): local = A @ x + t, and its nodes span [-1, 1]^3 there;
  outside of it features are zero, over a ramp of one node ("zero padding", as published);
- a global lattice has none: its nodes span the domain, and it has no outside;
- the columns of the encoded features stand in the order of the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F

from ..errors import ConfigError
from .model_config import ModelConfig


@dataclass(frozen=True)
class GridEntry:
    """One feature grid: resolution (x, y, z), features per node, whether it is placed, how it is read."""

    resolution: tuple[int, int, int]
    features: int
    placed: bool
    interpolation: str = "linear"
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype != "float32":
            raise ConfigError(f"GridEntry.dtype: expected 'float32', the only one so far, found {self.dtype!r}")

    @property
    def size(self) -> int:
        """Numbers in this grid."""
        return self.features * math.prod(self.resolution)


@dataclass(frozen=True)
class GridGroup:
    """Neighbouring grids of one kind: evaluated together. Slices index the table's tensors."""

    entry: GridEntry
    count: int
    block: slice
    columns: slice
    transforms: slice

    def features(self, flat: torch.Tensor) -> torch.Tensor:
        """(count, features, z, y, x): a view of the flat features."""
        return flat[self.block].view(self.count, self.entry.features, *self.entry.resolution[::-1])


@dataclass(frozen=True)
class GridTable:
    """The grids of one network, in order. Grids of one model may differ in everything."""

    entries: tuple[GridEntry, ...]

    @classmethod
    def from_config(cls, config: ModelConfig) -> "GridTable":
        """Lattices first, then the placed grids."""
        lattices = [GridEntry(x.resolution, x.features, False, config.interpolation) for x in config.lattices]
        placed = GridEntry(config.grid_resolution, config.features_per_grid, True, config.interpolation)
        return cls(tuple(lattices) + (placed,) * config.number_of_grids)

    @cached_property
    def groups(self) -> tuple[GridGroup, ...]:
        """Runs of equal grids."""
        groups, block, column, transform = [], 0, 0, 0
        for entry, run in groupby(self.entries):
            count = len(list(run))
            ends = (block + count * entry.size, column + count * entry.features, transform + count * entry.placed)
            starts = (block, column, transform)
            groups.append(GridGroup(entry, count, *(slice(a, b) for a, b in zip(starts, ends))))
            block, column, transform = ends
        return tuple(groups)

    @property
    def feature_count(self) -> int:
        """Numbers in all grids."""
        return sum(entry.size for entry in self.entries)

    @property
    def columns(self) -> int:
        """Features of one point."""
        return sum(entry.features for entry in self.entries)

    @property
    def placed_count(self) -> int:
        """Grids that have a transform."""
        return sum(entry.placed for entry in self.entries)


def to_local(transforms: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Normalised -> local coordinates of each placed grid: (m, 3, 4), (n, 3) -> (m, n, 3)."""
    columns = points.t().expand(len(transforms), 3, len(points))
    return torch.baddbmm(transforms[:, :, 3:], transforms[:, :, :3], columns).transpose(1, 2)


def encode(
    table: GridTable,
    features: torch.Tensor,
    transforms: torch.Tensor,
    points: torch.Tensor,
    transform_gradient: bool = False,
) -> torch.Tensor:
    """Read all grids at the points.

    Args:
        table: The grids.
        features: (table.feature_count,) all features.
        transforms: (table.placed_count, 3, 4).
        points: (n, 3) normalised coordinates.
        transform_gradient: Whether gradients reach `transforms` through the interpolation (the published
            training blocks them there and moves the grids by the density loss alone).

    Returns:
        (n, table.columns).
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and (transform_gradient or points.requires_grad)):
        local = to_local(transforms if transform_gradient else transforms.detach(), points)
    parts = []
    for group in table.groups:
        positions = local[group.transforms] if group.entry.placed else points.expand(group.count, -1, -1)
        read = _read_linear if group.entry.interpolation == "linear" else _read_quadratic
        parts.append(read(group.features(features), positions, group.entry.placed).flatten(0, 1))
    return torch.cat(parts).t() if len(parts) > 1 else parts[0].t()


def touching(table: GridTable, transforms: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Which placed grids are not zero everywhere in a box of normalised coordinates.

    Returns:
        (m,) bool; a grid whose apron only might touch the box counts.
    """
    centre = to_local(transforms, ((low + high) / 2)[None])[:, 0]
    half = torch.matmul(transforms[:, :, :3].abs(), (high - low) / 2)
    reach = torch.cat([_reach(g.entry).expand(g.count, 3) for g in table.groups if g.entry.placed])
    return (centre.abs() - half < reach.to(centre) + 1e-4).all(dim=1)


def _reach(entry: GridEntry) -> torch.Tensor:
    """(3,) the local |coordinate| beyond which a placed grid is zero; infinite on an axis with one node."""
    ramp = 1.0 if entry.interpolation == "linear" else 1.5
    return torch.tensor([1.0 + 2.0 * ramp / (r - 1) if r > 1 else math.inf for r in entry.resolution])


def _read_linear(grids: torch.Tensor, positions: torch.Tensor, placed: bool) -> torch.Tensor:
    """Trilinear interpolation. (g, f, z, y, x), (g, n, 3) -> (g, f, n)."""
    padding = "zeros" if placed else "border"
    return F.grid_sample(
        grids, positions[:, None, None], mode="bilinear", padding_mode=padding, align_corners=True
    )[:, :, 0, 0]


def _read_quadratic(grids: torch.Tensor, positions: torch.Tensor, placed: bool) -> torch.Tensor:
    """Quadratic B-spline, 27 taps. (g, f, z, y, x), (g, n, 3) -> (g, f, n).

    A node's weight along an axis is 3/4 - t^2 for |t| <= 1/2 and (3/2 - |t|)^2 / 2 up to 3/2, t in nodes. The nodes
    of a placed grid span [-1, 1]; those of a lattice reach half a node further, so that all taps exist.
    """
    count, features = grids.shape[:2]
    resolution = grids.shape[:1:-1]
    taps = [_quadratic_taps(positions[..., a], resolution[a], placed) for a in range(3)]
    strides = (1, resolution[0], resolution[0] * resolution[1])
    flat = grids.reshape(count, features, -1)
    result = 0.0
    for index_z, weight_z in taps[2]:
        for index_y, weight_y in taps[1]:
            for index_x, weight_x in taps[0]:
                index = index_x * strides[0] + index_y * strides[1] + index_z * strides[2]
                values = torch.gather(flat, 2, index[:, None].expand(-1, features, -1))
                result = result + values * (weight_x * weight_y * weight_z)[:, None]
    return result


def _quadratic_taps(position: torch.Tensor, resolution: int, placed: bool):
    """[(node index, weight)] of the taps along one axis, each (g, n). Nodes that do not exist weigh nothing."""
    if resolution == 1:
        return [(torch.zeros_like(position, dtype=torch.long), torch.ones_like(position))]
    centre, offset = nearest_nodes(position, resolution, placed)
    weights = (0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2)
    taps = []
    for step, weight in zip((-1, 0, 1), weights):
        index = centre + step
        inside = (index >= 0) & (index < resolution) & (offset.detach().abs() <= 0.5001)
        taps.append((index.clamp(0, resolution - 1), weight * inside))
    return taps


def nearest_nodes(position: torch.Tensor, resolution: int, placed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle one of three taps on an axis of several nodes, and a position's offset from it; above 1/2: no tap."""
    if placed:
        node = (position + 1) * (0.5 * (resolution - 1))
        centre = torch.round(node.detach()).clamp(-2, resolution + 1)
    else:
        node = (position.clamp(-1, 1) + 1) * (0.5 * (resolution - 2)) + 0.5
        centre = torch.round(node.detach()).clamp(1, resolution - 2)
    return centre.long(), node - centre


def feature_density(transforms: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
    """How many features per volume the placed grids spend at each point.

    rho(x) = sum over grids of det(A) / (2 pi)^(3/2) * exp(-1/2 * sum over axes of u^20), u the local coordinates: a
    flat-top Gaussian of each grid, differentiable in its transform.

    Args:
        transforms: (m, 3, 4).
        local: (m, n, 3), from `to_local`.

    Returns:
        (n,) density.

    Source: Wurster et al. 2024, section 3, feature density; the authors' `feature_density_pre_transformed`.
    """
    square = local * local
    fourth = square * square
    sixteenth = (fourth * fourth) * (fourth * fourth)
    coefficients = torch.linalg.det(transforms[:, :, :3]) / (2.0 * math.pi) ** 1.5
    return torch.matmul(coefficients, torch.exp(-0.5 * (sixteenth * fourth).sum(dim=2)))


def density_loss(density: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """KL divergence of the feature density from its error-sharpened target, a mean over the points.

    p = rho / sum(rho); target q ~ p^(mean(e) / e), normalised and held fixed: points with an error above the mean get
    a higher target; loss = mean of q * (log q - log p). The sum that normalises p is held fixed too, as published.

    Args:
        density: (n,) from `feature_density`.
        error: (n,) squared error of each point.

    Source: Wurster et al. 2024, section 3, grid placement loss; the authors' `train_step_APMGSRN`.
    """
    tiny = 1e-16
    error = error.detach()
    current = density / density.sum().detach()
    target = torch.exp(torch.log(current + tiny) * (error.mean() / (error + tiny)))
    target = (target / target.sum()).detach()
    return F.kl_div(torch.log(current + tiny), torch.log(target + tiny), reduction="none", log_target=True).mean()
