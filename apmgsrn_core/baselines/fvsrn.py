"""fV-SRN: a small network over Fourier features and one coarse grid of learned features.

Source: Weiss, Hermueller and Westermann 2022, Fast Neural Representations for Direct Volume Rendering, Computer Graphics
Forum 41(6), sections 4 and 5.2 (grid), 5.5 (Fourier features), and the authors' code (activation, sizes, start).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..validation import check, check_resolution

FEATURE_START = 0.1  # standard deviation of the features


class FVSRN(nn.Module):
    """(n, 3) -> (n, outputs): position, Fourier features and trilinear grid features into a perceptron.

    Args:
        outputs: Components.
        width: Of the hidden layers (published: 32).
        hidden_layers: So many (published: 3 of 32 in the figures' command).
        fourier: Pairs of sine and cosine (published: 14, so that with the position and a constant they are 32 numbers);
            pair i is of axis i % 3, with frequency 2 pi 2^(i // 3) in positions of [0, 1], as NeRF has them.
        resolution: Nodes of the grid along x, y, z (published: 32).
        features: Of each node (published: 16).
        seed: Of the start.

    Raises:
        ConfigError: A size is not allowed.
    """

    learning_rate = 0.01  # published; the loss there is L1

    def __init__(
        self, outputs: int = 1, width: int = 32, hidden_layers: int = 3, fourier: int = 14, resolution=(32, 32, 32),
        features: int = 16, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        sizes = outputs, width, hidden_layers, features
        check(min(sizes) >= 1 and 0 <= fourier <= 60, "FVSRN", "sizes from 1 on, 0 to 60 Fourier features", (*sizes, fourier))
        resolution = check_resolution("resolution", resolution)
        self.arguments = dict(
            outputs=outputs, width=width, hidden_layers=hidden_layers, fourier=fourier, resolution=list(resolution),
            features=features, seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.grid = nn.Parameter(torch.randn(1, features, *resolution[::-1], generator=generator) * FEATURE_START)
        rows = [[2 * math.pi * 2 ** (i // 3) * (axis == i % 3) for axis in range(3)] for i in range(fourier)]
        self.register_buffer("frequencies", torch.tensor(rows).reshape(-1, 3), persistent=False)
        widths = [3 + 2 * fourier + features, *[width] * hidden_layers, outputs]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:]))
        for layer in self.layers:
            bound = 1 / math.sqrt(layer.in_features)  # torch's own start, with a generator
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        unit = 0.5 * points + 0.5
        phases = unit @ self.frequencies.t()
        features = F.grid_sample(self.grid, points[None, None, None], align_corners=True, padding_mode="border")
        hidden = torch.cat([unit, torch.cos(phases), torch.sin(phases), features[0, :, 0, 0].t()], dim=1)
        for layer in self.layers[:-1]:
            hidden = snake_alt(layer(hidden))
        return self.layers[-1](hidden)


def snake_alt(x: torch.Tensor) -> torch.Tensor:
    """(x + 1 - cos 2x) / 2 = x / 2 + sin^2 x, the paper's variant of Snake (Ziyin et al. 2020, NeurIPS)."""
    return 0.5 * (x + 1 - torch.cos(2 * x))
