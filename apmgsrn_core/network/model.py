"""The network of one brick: feature grids, decoder, normalisation; and the evaluation of many bricks.

Source: Wurster et al. 2024, TVCG 30(1), section 3 and figure of the architecture: features of all grids at a point
are concatenated and decoded by a ReLU MLP without biases, the output is scaled to the data's range.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from ..kernels import kernel_for
from ..kernels.memory import halves, in_parts
from .encoding import GridGroup, GridTable, encode, touching
from .model_config import ModelConfig

FEATURE_START = 1e-4  # features start uniform in +- this (the authors' `reset_parameters`)
TRANSFORM_JITTER = 0.05  # standard deviation around the identity (the authors' `randomize_grids`)


class Network(nn.Module):
    """APMGSRN of one brick: (n, 3) normalised points -> (n, components), 0 and 1 being the data's range.

    Args:
        config: With `output_components` set.
        generator: A CPU generator; the same state gives the same start on every device.

    Attributes:
        feature_step: What its features were trained to be rounded to, see `rate_term.py`; 0: they were not.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config, self.feature_step = config, 0.0
        self.table = GridTable.from_config(config)
        features = torch.rand(self.table.feature_count, generator=generator) * 2 - 1
        self.features = nn.Parameter(features * FEATURE_START)
        self.transforms = nn.Parameter(near_identity(self.table.placed_count, generator))
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=config.bias) for o, i in config.decoder_shapes(config.output_components)
        )
        self.skip = (
            nn.Linear(self.table.columns, config.output_components, bias=False) if config.linear_skip else None
        )
        for layer in [*self.layers, *([self.skip] if self.skip is not None else [])]:
            nn.init.xavier_normal_(layer.weight, generator=generator)  # as published
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, points: torch.Tensor, transform_gradient: bool = False) -> torch.Tensor:
        """Values at (n, 3) normalised points; see `encoding.encode` for the arguments."""
        return self.decode(encode(self.table, self.features, self.transforms, points, transform_gradient))

    def decode(self, encoded: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """(n, columns) features -> (n, components); with `columns`, only those of them are given, the rest is zero."""
        hidden = encoded
        for layer in self.layers[:-1]:
            hidden = torch.relu(_linear(layer, hidden, columns if hidden is encoded else None))
        values = _linear(self.layers[-1], hidden, columns if hidden is encoded else None)
        return values if self.skip is None else values + _linear(self.skip, encoded, columns)

    def forward_near(self, points: torch.Tensor, transform_gradient: bool = False) -> torch.Tensor:
        """The same as `forward`, skipping the placed grids that cannot reach the points' bounding box."""
        placed = self.table.placed_count
        if not placed or not len(points):
            return self(points, transform_gradient)
        near = touching(self.table, self.transforms.detach(), points.amin(0), points.amax(0))
        if int(near.sum()) > 0.75 * placed:
            return self(points, transform_gradient)
        chosen = (self._encode_near(group, near, points, transform_gradient) for group in self.table.groups)
        parts, columns = zip(*chosen)
        return self.decode(torch.cat(parts, dim=1), torch.cat(columns))

    def _encode_near(self, group: GridGroup, near: torch.Tensor, points: torch.Tensor, transform_gradient: bool):
        """(n, k) features of one group's grids that are near, and which columns they are, (k,)."""
        entry = group.entry
        keep = torch.arange(group.count, device=points.device)
        if entry.placed:
            keep = keep[near[group.transforms]]
        columns = group.columns.start + keep[:, None] * entry.features
        columns = (columns + torch.arange(entry.features, device=points.device)).reshape(-1)
        if not len(keep):
            return points.new_zeros(len(points), 0), columns
        transforms = self.transforms[group.transforms][keep] if entry.placed else self.transforms[:0]
        features = group.features(self.features)[keep].reshape(-1)
        return encode(GridTable((entry,) * len(keep)), features, transforms, points, transform_gradient), columns


def _linear(layer: nn.Linear, inputs: torch.Tensor, columns: torch.Tensor | None) -> torch.Tensor:
    """The layer, reading only some of its input columns."""
    return F.linear(inputs, layer.weight if columns is None else layer.weight[:, columns], layer.bias)


def near_identity(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """(count, 3, 4) transforms close to the identity, the published start."""
    jitter = torch.randn(count, 3, 4, generator=generator) * TRANSFORM_JITTER
    return torch.eye(3, 4).expand(count, 3, 4) + jitter


def evaluate(
    networks: Sequence[Network],
    points: torch.Tensor,
    starts: Sequence[int] | None = None,
    derivatives: bool = False,
    precision: str = "full",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Values of many bricks in one call, and on request their derivatives.

    Args:
        networks: One for each brick.
        points: (n, 3) normalised coordinates, each in those of its own brick; clamped to [-1, 1], so that the outer
            half of a border cell has its centre's value.
        starts: Bricks + 1 offsets: points[starts[b]:starts[b + 1]] belong to brick b. None: all to the only one.
        derivatives: Whether to return d value / d normalised coordinate too.
        precision: Of the kernel, see `kernels.choose`.

    Returns:
        (n, components), or that and (n, components, 3).
    """
    starts = [0, len(points)] if starts is None else list(starts)
    if len(starts) != len(networks) + 1:
        raise ConfigError(f"starts: expected {len(networks) + 1} offsets for {len(networks)} bricks, found {len(starts)}")
    parts = []
    for network, first, last in zip(networks, starts[:-1], starts[1:]):
        block = points[first:last].clamp(-1.0, 1.0)
        kernel = kernel_for(network, precision)

        def work(part: torch.Tensor, kernel=kernel, network=network) -> tuple[torch.Tensor, ...]:
            return kernel.derivatives(network, part) if derivatives else (kernel.values(network, part),)

        parts += in_parts(work, block, len(block), halves, f"evaluation on {block.device}")
    joined = [torch.cat(p) for p in zip(*parts)]
    return tuple(joined) if derivatives else joined[0]
