"""Marching many rays at once, front to back: leaps over empty cells, blocks of samples, rays that are done drop out.

The samples of a ray are at whole multiples of a step (and a half) from the eye, wherever the volume begins: what is clipped or
cut into bricks leaves the places of the others as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .macrocells import VisibleCells
from .ray_field import RayField

LEAST_BLOCK, MOST_BLOCK = 8, 32  # samples of a ray evaluated together
BLOCK_POINTS = 1 << 17  # about, in a block of few rays


@dataclass
class RayBatch:
    """Rays, or those of them that are still marched.

    Attributes:
        rows: (n,) int64 which of the rays that the batch began with.
        start: (n, 3) float32 box coordinates of the first sample.
        along: (n, 3) float32 from one sample to the next.
        first: (n,) int64 number of the first sample on the ray.
        count: (n,) int64 samples.
        next: (n,) int64 the next one, 0 being `start`.
        left: (n,) float32 scaled value of the sample before; NaN: none.
    """

    rows: torch.Tensor
    start: torch.Tensor
    along: torch.Tensor
    first: torch.Tensor
    count: torch.Tensor
    next: torch.Tensor
    left: torch.Tensor

    @classmethod
    def between(
        cls, field: RayField, origins: np.ndarray, directions: np.ndarray, near: np.ndarray, far: np.ndarray, step: float
    ) -> "RayBatch":
        """The samples of rays (n, 3) at distances from `near` up to `far`, (n,) each; none where they are not in order."""
        hit = np.flatnonzero(near < far)
        numbers = [np.ceil(np.where(np.isfinite(e), e, 0)[hit] / step - 0.5).astype(np.int64) for e in (near, far)]
        first = np.maximum(numbers[0], 0)
        hit, first, last = (a[numbers[1] > first] for a in (hit, first, numbers[1]))
        start = field.to_box(origins[hit] + directions[hit] * ((first + 0.5) * step)[:, None])
        along = field.directions_to_box(directions[hit]) * step

        def tensor(array: np.ndarray, kind: torch.dtype) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(field.device, kind)

        whole, real = torch.int64, torch.float32
        rows, first, count = (tensor(a, whole) for a in (hit, first, last - first))
        empty = torch.full(rows.shape, torch.nan, dtype=real, device=rows.device)
        return cls(rows, tensor(start, real), tensor(along, real), first, count, torch.zeros_like(rows), empty)

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, which: torch.Tensor) -> "RayBatch":
        """Some of the rays, by numbers or flags."""
        if which.dtype == torch.bool and bool(which.all()):
            return self
        return RayBatch(*(tensor[which] for tensor in vars(self).values()))


@dataclass(frozen=True)
class Block:
    """Samples of rays that follow each other.

    Attributes:
        rays: The rays, `next` being the first of the samples.
        values: (n, k) float32 scaled; NaN where nothing was evaluated.
        seen: (m,) flat numbers of those that were evaluated.
        points: (m, 3) their box coordinates.
        lengths: (m,) float32 steps that each stands for; None: 1.
    """

    rays: RayBatch
    values: torch.Tensor
    seen: torch.Tensor
    points: torch.Tensor
    lengths: torch.Tensor | None


def march(field: RayField, rays: RayBatch, cells: VisibleCells | None, mode) -> int:
    """March rays to their ends, or until the mode has seen enough of them; returns how many values were evaluated.

    Args:
        field: What is evaluated.
        rays: Of any number.
        cells: What of the volume can be seen; None: everything.
        mode: `add(block) -> (n,) bool`, which rays go on; `between`: whether it looks at two samples at a time; `wanted(rays,
            cells)`: (n, k) flags of samples by the numbers of their cells, or None.
    """
    evaluated = 0
    while len(rays):
        if cells is not None:
            rays = leap(rays, cells, mode.between)
            if not len(rays):
                break
        size = min(max(BLOCK_POINTS // len(rays), LEAST_BLOCK), MOST_BLOCK)
        block = _block(field, rays, cells, mode, size)
        evaluated += len(block.seen)
        goes_on = mode.add(block)
        rays.next = rays.next + size
        rays.left = block.values[:, -1].clone()
        rays = rays.keep(goes_on & (rays.next < rays.count))
    return evaluated


def _block(field: RayField, rays: RayBatch, cells: VisibleCells | None, mode, size: int) -> Block:
    """The next samples of each ray, evaluated where they may be seen."""
    steps = rays.next[:, None] + torch.arange(size, device=rays.next.device)
    points = rays.start[:, None] + steps[:, :, None].to(torch.float32) * rays.along[:, None]
    wanted, lengths = steps < rays.count[:, None], None
    if cells is not None:
        where = cells.number_of(points)
        visible = cells.visible[where]
        if mode.between:
            visible = _with_neighbours(visible)
        wanted &= visible
        chosen = mode.wanted(rays, cells, where)
        wanted = wanted if chosen is None else wanted & chosen
        if cells.lengths is not None:
            lengths = cells.lengths[where].long()
            wanted &= ((rays.first[:, None] + steps) & (lengths - 1)) == 0
    seen = wanted.reshape(-1).nonzero()[:, 0]
    points = points.reshape(-1, 3)[seen]
    values = torch.full(steps.shape, torch.nan, dtype=torch.float32, device=points.device)
    values.view(-1)[seen] = field.values(points)
    return Block(rays, values, seen, points, None if lengths is None else lengths.reshape(-1)[seen].to(torch.float32))


def _with_neighbours(visible: torch.Tensor) -> torch.Tensor:
    """(n, k) flags, set also beside a set one; at the end of a block all are, for the next may begin with one."""
    spread = visible.clone()
    spread[:, 1:] |= visible[:, :-1]
    spread[:, :-1] |= visible[:, 1:]
    spread[:, 0] = True
    spread[:, -1] = True
    return spread


def leap(rays: RayBatch, cells: VisibleCells, one_before: bool) -> RayBatch:
    """The rays with `next` moved to the first sample in a visible cell, or the one before; those that see none are left out."""
    next_, moving = rays.next.clone(), torch.arange(len(rays), device=rays.next.device)
    while len(moving):
        points = rays.start[moving] + next_[moving, None].to(torch.float32) * rays.along[moving]
        jump = cells.steps_out(points, rays.along[moving])
        next_[moving] += jump
        moving = moving[(jump > 0) & (next_[moving] < rays.count[moving])]
    if one_before:
        moved = next_ > rays.next + 1
        next_[moved] -= 1
        seen = next_ + moved.long() < rays.count
    else:
        moved, seen = next_ > rays.next, next_ < rays.count
    rays.left = torch.where(moved, torch.nan, rays.left)
    rays.next = torch.where(moved, next_, rays.next)
    return rays.keep(seen)
