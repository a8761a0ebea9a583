"""What samples along rays add up to: emission and absorption, surfaces, the maximum, the average.

Each mode holds for every ray of a batch its colour, not yet divided by its opacity, its opacity, and the depth of what was
seen as a number of steps from the eye; `add` takes the next samples of the rays that are left.
"""

from __future__ import annotations

import torch

from .ray_field import RayField
from .ray_light import Light
from .ray_march import Block, RayBatch
from .ray_table import RayTable

FAINT = 1e-4  # of a picture: what is fainter is not lit
REFINEMENTS = 6  # of the place where a surface is hit


class Accumulation:
    """The state of `count` rays: premultiplied colour (n, 3), opacity (n,), depth (n,) in steps, NaN while nothing was seen.

    What native code marches says as what in `native`, and has `table`, `limit`, `light` and its own `sums` for it.
    """

    between = False
    native: str | None = None
    limit, light = 1.0, None
    largest: torch.Tensor | None = None  # (n,) scaled values, of maxima

    def __init__(self, count: int, device):
        self.colour = torch.zeros(count, 3, device=device)
        self.opacity = torch.zeros(count, device=device)
        self.depth = torch.full((count,), torch.nan, device=device)
        self.evaluated = 0  # gradients, refined hits

    def wanted(self, rays: RayBatch, cells, where: torch.Tensor) -> torch.Tensor | None:
        """Which samples, in cells of the numbers `where` (n, k), may matter; None: all that are visible."""
        return None

    def finish(self) -> None:
        """After the last block."""


class Composite(Accumulation):
    """Front-to-back compositing.

    c = sum_i T_i a_i c_i, T_i = prod_{j<i} (1 - a_j), a_i = 1 - (1 - a(v_i))^(length / unit distance).

    Source: Max 1995, TVCG 1(2), "Optical models for direct volume rendering"; pre-integrated segments: Engel et al. 2001.

    Args:
        table: Of the transfer function for one step.
        limit: Of the opacity; what is behind is left out.
        light: None: samples are not lit.
    """

    def __init__(self, count: int, field: RayField, table: RayTable, limit: float, light: Light | None):
        super().__init__(count, field.device)
        self._field, self.table, self.limit, self.light = field, table, limit, light
        self._least, self.between = 1.0 - limit, table.preintegrated
        self.native = None if self.between else "composite"
        self.sums = torch.zeros(count, device=field.device)  # depth times its share of the opacity

    def add(self, block: Block) -> torch.Tensor:
        rays, (n, k) = block.rays, block.values.shape
        colour, alpha, flat = self._segments(block)
        opacities = torch.zeros(n * k, device=alpha.device)
        opacities[flat] = alpha
        passed = torch.cumprod(1.0 - opacities.view(n, k), dim=1) * (1.0 - self.opacity[rays.rows])[:, None]
        before = torch.cat([(1.0 - self.opacity[rays.rows])[:, None], passed[:, :-1]], dim=1)
        shares = torch.where(before > self._least, before - passed, 0.0)
        flat_shares = shares.reshape(-1)[flat]
        if self.light is not None:
            colour = self._lit(block, flat, colour, flat_shares)
        part = torch.zeros(n * k, 3, device=alpha.device)
        part[flat] = colour * flat_shares[:, None]
        self.colour[rays.rows] += part.view(n, k, 3).sum(dim=1)
        first = (rays.first + rays.next).to(torch.float32) + 0.5
        column = torch.arange(k, dtype=torch.float32, device=alpha.device)
        self.sums[rays.rows] += (shares * (first[:, None] + column)).sum(dim=1)
        self.opacity[rays.rows] += shares.sum(dim=1)
        return 1.0 - self.opacity[rays.rows] > self._least

    def _segments(self, block: Block) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Colours (m, 3), opacities (m,) and flat numbers in the block of what is composited."""
        if not self.between:
            values = block.values.view(-1)[block.seen]
            colour, alpha = self.table.at(values, block.lengths)
            return colour, alpha, block.seen
        left = torch.cat([block.rays.left[:, None], block.values[:, :-1]], dim=1).view(-1)
        right = block.values.view(-1)
        flat = (~(left.isnan() | right.isnan())).nonzero()[:, 0]
        colour, alpha = self.table.between(left[flat], right[flat])
        return colour, alpha, flat

    def _lit(self, block: Block, flat: torch.Tensor, colour: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        bright = (shares > FAINT).nonzero()[:, 0]
        rows, steps = flat[bright] // block.values.shape[1], flat[bright] % block.values.shape[1]
        rays = block.rays
        points = rays.start[rows] + (rays.next[rows] + steps)[:, None].to(torch.float32) * rays.along[rows]
        self.evaluated += len(bright)
        colour = colour.clone()
        colour[bright] = self.light.lit(colour[bright], self._field.gradients(points), rays.rows[rows])
        return colour

    def finish(self) -> None:
        """A continuous depth, also between rays that end in something opaque and others."""
        seen = (self.opacity > 0).nonzero()[:, 0]
        self.depth[seen] = self.sums[seen] / self.opacity[seen]


class Surfaces(Accumulation):
    """Surfaces of equal value, hit where a line between two samples crosses one, refined with the field's own values.

    Args:
        levels: Scaled values.
        colours: (levels, 4) red, green, blue, opacity.
    """

    between = True

    def __init__(self, count: int, field: RayField, levels: list[float], colours, limit: float, light: Light):
        super().__init__(count, field.device)
        self._field, self._least, self._light = field, 1.0 - limit, light
        self._levels = torch.tensor(levels, dtype=torch.float32, device=field.device)
        self._colours = torch.tensor(colours, dtype=torch.float32, device=field.device)

    def add(self, block: Block) -> torch.Tensor:
        rays = block.rays
        left = torch.cat([rays.left[:, None], block.values[:, :-1]], dim=1)
        above = torch.stack([left, block.values], dim=-1)[..., None] > self._levels
        there = ~(left.isnan() | block.values.isnan())
        row, column, level = ((above[:, :, 0] != above[:, :, 1]) & there[..., None]).nonzero(as_tuple=True)
        if len(row):
            steps = self._refined(rays, row, column, level, left, block.values)
            self._blend(rays, row, level, steps)
        return 1.0 - self.opacity[rays.rows] > self._least

    def _refined(self, rays: RayBatch, row, column, level, left, right) -> torch.Tensor:
        """(m,) steps after `start` at which the surfaces are hit: regula falsi, Illinois' form."""
        wanted = self._levels[level]
        low, high = left[row, column] - wanted, right[row, column] - wanted
        end = (rays.next[row] + column).to(torch.float32)
        start, side = end - 1.0, torch.zeros_like(end)
        where = end
        for _ in range(REFINEMENTS):
            where = (start * high - end * low) / (high - low)
            found = self._field.values(rays.start[row] + where[:, None] * rays.along[row]) - wanted
            found = torch.where(found.isnan(), 0.0, found)
            same = (found > 0) == (high > 0)
            low = torch.where(same & (side > 0), low / 2, low)
            high = torch.where(~same & (side < 0), high / 2, high)
            end, high = torch.where(same, where, end), torch.where(same, found, high)
            start, low = torch.where(same, start, where), torch.where(same, low, found)
            side = torch.where(same, 1.0, -1.0)
            degenerate = high == low
            high = torch.where(degenerate, high + 1e-20, high)
        self.evaluated += REFINEMENTS * len(row)
        return where

    def _blend(self, rays: RayBatch, row, level, steps) -> None:
        """Composite hits in the order along each ray, the nearest of every ray together."""
        points = rays.start[row] + steps[:, None] * rays.along[row]
        rgba = self._colours[level]
        lit = self._light.lit(rgba[:, :3], self._field.gradients(points), rays.rows[row])
        self.evaluated += len(row)
        order = torch.argsort(steps, stable=True)
        order = order[torch.argsort(row[order], stable=True)]
        row, lit, opacity, steps = row[order], lit[order], rgba[order, 3], steps[order]
        firsts = torch.cat([torch.ones_like(row[:1], dtype=torch.bool), row[1:] != row[:-1]]).nonzero()[:, 0]
        rank = torch.arange(len(row), device=row.device)
        rank = rank - firsts.repeat_interleave(torch.diff(firsts, append=firsts.new_tensor([len(row)])))
        for turn in range(int(rank.max()) + 1):
            now = (rank == turn).nonzero()[:, 0]
            rows = rays.rows[row[now]]
            share = (1.0 - self.opacity[rows]) * opacity[now]
            share = torch.where(1.0 - self.opacity[rows] > self._least, share, 0.0)
            self.colour[rows] += share[:, None] * lit[now]
            self.opacity[rows] += share
            self._first_depth(rows, rays.first[row[now]].to(torch.float32) + 0.5 + steps[now])

    def _first_depth(self, rows, depth) -> None:
        unset = self.depth[rows].isnan() & (self.opacity[rows] > 0)
        self.depth[rows] = torch.where(unset, depth, self.depth[rows])


class Maximum(Accumulation):
    """The largest value along a ray, coloured by the function; with its own opacity."""

    native = "maximum"

    def __init__(self, count: int, field: RayField, table: RayTable):
        super().__init__(count, field.device)
        self.table, self.sums = table, torch.full((count,), -torch.inf, device=field.device)

    def wanted(self, rays: RayBatch, cells, where: torch.Tensor) -> torch.Tensor:
        return cells.highest[where] > self.sums[rays.rows][:, None]

    def add(self, block: Block) -> torch.Tensor:
        rays = block.rays
        values = torch.where(block.values.isnan(), -torch.inf, block.values)
        most, column = values.max(dim=1)
        more = most > self.sums[rays.rows]
        rows = rays.rows[more]
        self.sums[rows] = most[more]
        self.depth[rows] = (rays.first + rays.next + column)[more].to(torch.float32) + 0.5
        return torch.ones_like(more)

    def finish(self) -> None:
        self.largest = self.sums
        self._paint(self.sums, self.sums > -torch.inf)

    def _paint(self, values: torch.Tensor, there: torch.Tensor) -> None:
        rows = there.nonzero()[:, 0]
        colour, self.opacity[rows] = self.table.of_unit(values[rows])
        self.colour[rows] = colour * self.opacity[rows, None]
        self.depth[self.opacity == 0] = torch.nan


class Average(Maximum):
    """The mean of the values along a ray, coloured by the function; with its own opacity, at the depth of the middle."""

    native = "average"

    def __init__(self, count: int, field: RayField, table: RayTable):
        super().__init__(count, field, table)
        self.sums = torch.zeros(count, 3, device=field.device)  # number of values, their sum, that of their depths

    def wanted(self, rays: RayBatch, cells, where: torch.Tensor) -> None:
        return None

    def add(self, block: Block) -> torch.Tensor:
        rays, there = block.rays, ~block.values.isnan()
        column = torch.arange(block.values.shape[1], device=there.device)
        depth = ((rays.first + rays.next)[:, None] + column).to(torch.float32) + 0.5
        parts = [there.to(torch.float32), torch.where(there, block.values, 0.0), torch.where(there, depth, 0.0)]
        self.sums[rays.rows] += torch.stack([part.sum(dim=1) for part in parts], dim=1)
        return torch.ones_like(rays.rows, dtype=torch.bool)

    def finish(self) -> None:
        count = self.sums[:, 0]
        self.depth = self.sums[:, 2] / count
        self._paint(self.sums[:, 1] / count, count > 0)
