"""A small network over dense grids of features, of several resolutions.

Source: Mueller, Evans, Schied and Keller 2022, Instant Neural Graphics Primitives with a Multiresolution Hash Encoding, ACM
TOG 41(4), figure 2 (d), the dense grid of many resolutions: 8 of 16^3 to 173^3 nodes with 2 features each; hierarchies of
features on regular nodes came before (Takikawa et al. 2021, Neural Geometric Level of Detail, CVPR).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..validation import check
from .perceptron import Perceptron, level_resolutions

FEATURE_START = 1e-4  # features start uniform in +- this


class DenseGrids(nn.Module):
    """(n, 3) -> (n, outputs): trilinear features of all grids into a perceptron.

    Args:
        outputs: Components.
        levels: Grids (published: 8).
        features: Of a node (published: 2).
        coarsest, finest: Nodes along an axis of the first and the last grid (published: 16 and 173).
        width, hidden_layers: Of the perceptron (published: 64 and 2).
        seed: Of the start.

    Raises:
        ConfigError: A size is not allowed.
    """

    learning_rate = 0.01  # published, of the hash encoding that it is compared with

    def __init__(
        self, outputs: int = 1, levels: int = 8, features: int = 2, coarsest: int = 16, finest: int = 173, width: int = 64,
        hidden_layers: int = 2, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        sizes = outputs, levels, features, width, hidden_layers
        check(min(sizes) >= 1, "DenseGrids", "sizes from 1 on", sizes)
        check(2 <= coarsest <= finest <= 1024, "DenseGrids", "2 <= coarsest <= finest <= 1024", (coarsest, finest))
        self.arguments = dict(
            outputs=outputs, levels=levels, features=features, coarsest=coarsest, finest=finest, width=width,
            hidden_layers=hidden_layers, seed=seed,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.grids = nn.ParameterList(
            (torch.rand(1, features, n, n, n, generator=generator) * 2 - 1) * FEATURE_START
            for n in level_resolutions(levels, coarsest, finest)
        )
        self.perceptron = Perceptron(levels * features, width, hidden_layers, outputs, generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        where = points[None, None, None]
        encoded = [F.grid_sample(grid, where, align_corners=True, padding_mode="border")[0, :, 0, 0] for grid in self.grids]
        return self.perceptron(torch.cat(encoded).t())
