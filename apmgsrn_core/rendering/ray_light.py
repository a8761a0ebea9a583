"""Light from the direction of view on what rays hit."""

from __future__ import annotations

import torch

TINY = 1e-20


class Light:
    """A head light that shines on both sides, as VTK's volume shading.

    colour = (ambient + diffuse |n.v|) colour + specular |n.v|^power, n the gradient's direction, v that of view (with a head
    light the half-way vector is v too). Where the gradient is 0 the colour is not lit.

    Args:
        directions: (n, 3) float32 of all rays, unit length, in the world.
        ambient, diffuse, specular, power: Also as `numbers`.
    """

    def __init__(self, directions: torch.Tensor, ambient: float, diffuse: float, specular: float, power: float):
        self.directions, self.numbers = directions, (ambient, diffuse, specular, power)

    def lit(self, colours: torch.Tensor, gradients: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Colours (m, 3) at gradients (m, 3) on the rays of numbers (m,) -> (m, 3)."""
        ambient, diffuse, specular, power = self.numbers
        length = gradients.norm(dim=1)
        facing = (gradients * self.directions[rows]).sum(dim=1).abs() / length.clamp(min=TINY)
        facing = facing.clamp(max=1.0)[:, None]
        lit = (ambient + diffuse * facing) * colours + specular * facing**power
        return torch.where(length[:, None] > TINY, lit.clamp(0, 1), colours)
