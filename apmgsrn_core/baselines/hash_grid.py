"""NGP: a small network over features in hash tables, of many resolutions.

Source: Mueller, Evans, Schied and Keller 2022, Instant Neural Graphics Primitives with a Multiresolution Hash Encoding, ACM
TOG 41(4), sections 3 and 4, table 1, equation 4 (the hash).
"""

from __future__ import annotations

import torch
from torch import nn

from ..validation import check
from .perceptron import Perceptron, level_resolutions

PRIMES = (1, 2654435761, 805459861)  # equation 4
FEATURE_START = 1e-4  # features start uniform in +- this


class HashGrid(nn.Module):
    """(n, 3) -> (n, outputs): trilinear features of all levels into a perceptron.

    A level whose nodes fit into its table has one entry for each; the nodes of a finer one share entries by their hash.

    Args:
        outputs: Components.
        levels: Published: 16.
        table_bits: Logarithm to base 2 of the most entries of a level (published: 14 to 24).
        features: Of an entry (published: 2).
        coarsest, finest: Cells along an axis of the first and the last level (published: 16, and 512 to 524288).
        width, hidden_layers: Of the perceptron (published: 64 and 2).
        seed: Of the start.

    Raises:
        ConfigError: A size is not allowed.
    """

    learning_rate = 0.01  # published, of signed distance functions: 1e-4; of radiance fields and volumes: 1e-2

    def __init__(
        self, outputs: int = 1, levels: int = 16, table_bits: int = 14, features: int = 2, coarsest: int = 16,
        finest: int = 512, width: int = 64, hidden_layers: int = 2, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        sizes = outputs, levels, features, width, hidden_layers
        check(min(sizes) >= 1 and 1 <= table_bits <= 24, "HashGrid", "sizes from 1 on, 1 to 24 bits", (*sizes, table_bits))
        check(1 <= coarsest <= finest <= 1 << 20, "HashGrid", "1 <= coarsest <= finest <= 2^20", (coarsest, finest))
        self.arguments = dict(
            outputs=outputs, levels=levels, table_bits=table_bits, features=features, coarsest=coarsest, finest=finest,
            width=width, hidden_layers=hidden_layers, seed=seed,
        )  # fmt: skip
        self._resolutions = level_resolutions(levels, coarsest, finest)
        self._most = 1 << table_bits
        generator = torch.Generator().manual_seed(seed)
        self.tables = nn.ParameterList(
            (torch.rand(min((n + 1) ** 3, self._most), features, generator=generator) * 2 - 1) * FEATURE_START
            for n in self._resolutions
        )
        self.perceptron = Perceptron(levels * features, width, hidden_layers, outputs, generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        unit = (0.5 * points + 0.5).clamp(0.0, 1.0)
        encoded = [self._level(table, n, unit) for table, n in zip(self.tables, self._resolutions)]
        return self.perceptron(torch.cat(encoded, dim=1))

    def _level(self, table: torch.Tensor, resolution: int, unit: torch.Tensor) -> torch.Tensor:
        """(n, features) of one level, interpolated trilinearly."""
        position = unit * resolution
        low = position.detach().floor().clamp(0, resolution - 1)
        share, low = position - low, low.long()
        features = torch.zeros_like(unit[:, :1])
        for corner in range(8):
            upper = [corner >> axis & 1 for axis in range(3)]
            node = [low[:, axis] + upper[axis] for axis in range(3)]
            weights = [share[:, axis] if upper[axis] else 1.0 - share[:, axis] for axis in range(3)]
            entry = self._entries(node, resolution, len(table))
            features = features + (weights[0] * weights[1] * weights[2])[:, None] * table[entry]
        return features

    def _entries(self, node: list[torch.Tensor], resolution: int, size: int) -> torch.Tensor:
        """(n,) the entry of each node: its number where all nodes have one, otherwise its hash."""
        x, y, z = node
        if (resolution + 1) ** 3 <= self._most:
            return (z * (resolution + 1) + y) * (resolution + 1) + x
        mixed = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])  # the low 32 bits are those of unsigned numbers
        return mixed & (size - 1)
