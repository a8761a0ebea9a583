"""The perceptron behind grid features: ReLU layers without biases, and the resolutions of levels.

Source: Mueller, Evans, Schied and Keller 2022, Instant Neural Graphics Primitives with a Multiresolution Hash Encoding, ACM
TOG 41(4), section 3, equations 2 and 3, and section 4 (architecture, start).
"""

from __future__ import annotations

import math

import torch
from torch import nn


class Perceptron(nn.Module):
    """(n, inputs) -> (n, outputs), started as Glorot and Bengio 2010 (AISTATS) have it."""

    def __init__(self, inputs: int, width: int, hidden_layers: int, outputs: int, generator: torch.Generator):
        super().__init__()
        widths = [inputs, *[width] * hidden_layers, outputs]
        self.layers = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in zip(widths[:-1], widths[1:]))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight, generator=generator)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """See the class."""
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return self.layers[-1](hidden)


def level_resolutions(levels: int, coarsest: int, finest: int) -> list[int]:
    """Cells along an axis of each level: a geometric progression, N_l = floor(N_min b^l) (equations 2 and 3)."""
    growth = math.exp((math.log(finest) - math.log(coarsest)) / (levels - 1)) if levels > 1 else 1.0
    return [int(math.floor(coarsest * growth**level + 1e-9)) for level in range(levels)]
