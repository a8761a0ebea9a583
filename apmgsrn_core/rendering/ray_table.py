"""A transfer function as tables on a device, for values of a field as they come from its networks."""

from __future__ import annotations

import numpy as np
import torch

from .ray_field import RayField
from .transfer_function import TransferFunction

SIZE = 4096
BEYOND = 0.02  # of the range, on both sides: what networks put out


class RayTable:
    """Colours and opacities of scaled values, for samples one step apart.

    Args:
        function: In the array's unit.
        field: Of the scaled values.
        step: In the world.
        preintegrated: Whether `between` will be asked.

    Attributes:
        rows: (SIZE, 4) float32 red, green, blue, opacity of the unit distance.
        first, rows_per_value: Scaled value of the first row, and rows to a step of 1 in scaled values.
        exponent: Unit distances in a step.
    """

    first, rows_per_value = -BEYOND, (SIZE - 1) / (1 + 2 * BEYOND)

    def __init__(self, function: TransferFunction, field: RayField, step: float, preintegrated: bool = False):
        self.preintegrated, self._function, self._step = preintegrated, function, step
        self.exponent = step / function.unit_distance
        scaled = np.linspace(-BEYOND, 1 + BEYOND, SIZE)
        values = field.unscaled(scaled)
        table = np.concatenate([function.colours_at(values), function.opacities_at(values)[:, None]], axis=1)
        self.rows = torch.tensor(table, dtype=torch.float32, device=field.device)
        if preintegrated:
            self._sums = torch.tensor(_integrals(table), dtype=torch.float64, device=field.device)

    def of_unit(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(m,) scaled values -> colours (m, 3) and opacities (m,) of the unit distance; NaN is transparent."""
        found = self._looked_up(self.rows, values)
        return found[:, :3], torch.where(values.isnan(), 0.0, found[:, 3])

    def at(self, values: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with the opacities of `lengths` (m,) steps; None: of one."""
        colour, alpha = self.of_unit(values)
        return colour, self._function.corrected(alpha, self._step if lengths is None else self._step * lengths)

    def between(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours (m, 3) and opacities (m,) of steps on which the values go from left to right, (m,) each, in a straight line.

        Source: Engel, Kraus, Ertl 2001, "High-quality pre-integrated volume rendering", without self-attenuation in a step.
        """
        rows = self._place(right) - self._place(left)
        thin = rows.abs() < 2.0
        one, other = (self._looked_up(self._sums, v) for v in (left, right))
        mean = (other - one) / torch.where(thin, 1.0, rows).to(torch.float64)[:, None]
        colour = (mean[:, :3] / mean[:, 3:].abs().clamp(min=1e-12) * mean[:, 3:].sign()).clamp(0, 1).to(torch.float32)
        alpha = (1.0 - torch.exp(-mean[:, 3].clamp(min=0) * (self._step / self._function.unit_distance))).to(torch.float32)
        plain, same = self.at((left + right) / 2)
        return torch.where(thin[:, None], plain, colour), torch.where(thin, same, alpha)

    def _place(self, values: torch.Tensor) -> torch.Tensor:
        """Where values are in the table, from 0 to its last row; NaN at 0."""
        place = ((values - self.first) * self.rows_per_value).clamp(0, SIZE - 1)
        return place.nan_to_num(0.0)

    def _looked_up(self, table: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        place = self._place(values)
        row = place.to(torch.int64).clamp_(max=SIZE - 2)
        return torch.lerp(table[row], table[row + 1], (place - row).to(table.dtype)[:, None])


def _integrals(table: np.ndarray) -> np.ndarray:
    """Running integrals over the rows of the table of extinction times colour, and of extinction, for the unit distance."""
    extinction = -np.log1p(-np.minimum(table[:, 3:], 1 - 1e-6))
    rows = np.concatenate([table[:, :3] * extinction, extinction], axis=1)
    return np.concatenate([np.zeros((1, 4)), np.cumsum((rows[1:] + rows[:-1]) / 2, axis=0)])
