"""SIREN: a network of sines.

Source: Sitzmann, Martel, Bergman, Lindell and Wetzstein 2020, Implicit Neural Representations with Periodic Activation
Functions (NeurIPS), sections 3 and 3.2 and the supplement's section 1.5 on the factor omega_0 of all layers.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..validation import check


class Siren(nn.Module):
    """(n, 3) -> (n, outputs): x -> sin(omega (W x + b)) in each hidden layer, then a linear one.

    The published network learns values in [-1, 1]; its outputs are moved to [0, 1] here.

    Args:
        outputs: Components.
        width: Of the hidden layers (published: 256).
        hidden_layers: So many square layers between the first and the last (published: 3).
        omega: Factor of the frequencies, of all layers (published: 30).
        seed: Of the start.

    Raises:
        ConfigError: A size is less than 1, or omega is not positive.
    """

    learning_rate = 1e-4  # published, of images and shapes

    def __init__(self, outputs: int = 1, width: int = 256, hidden_layers: int = 3, omega: float = 30.0, seed: int = 0):
        super().__init__()
        check(min(outputs, width, hidden_layers) >= 1, "Siren", "sizes from 1 on", (outputs, width, hidden_layers))
        check(omega > 0, "omega", "a positive number", omega)
        self.arguments = dict(outputs=outputs, width=width, hidden_layers=hidden_layers, omega=omega, seed=seed)
        self._omega = float(omega)
        widths = [3, *[width] * (hidden_layers + 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:]))
        generator = torch.Generator().manual_seed(seed)
        for number, layer in enumerate(self.layers):
            inputs = layer.in_features
            bound = 1.0 / inputs if number == 0 else math.sqrt(6.0 / inputs) / self._omega
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden = points
        for layer in self.layers[:-1]:
            hidden = torch.sin(self._omega * layer(hidden))
        return 0.5 + 0.5 * self.layers[-1](hidden)
