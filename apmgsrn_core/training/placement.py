"""Where the placed grids start: boxes of equal complexity, from a k-d tree over the volume.

Source: our own (Wurster et al. 2024 start all grids near the identity and move them by the feature density; that is
`density_placement.py`). The tree splits the box that holds most complexity on its longest axis at the weighted median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..data.field_data import FieldData
from ..network.model import near_identity
from ..network.model_config import ModelConfig
from .train_config import TrainConfig

MAP_BLOCKS = 64  # of the complexity map, per axis, at most
BLUR_WINDOW = 7  # values; two passes of a box, about a Gaussian of sigma 3
FLOOR = 0.02  # complexity that every value has, relative to the mean
SMALLEST_BOX = 10  # values; a box with a shorter longest axis is not split
BOX_JITTER = 0.02
SLAB_VALUES = 1 << 21  # looked at in one go, about


@dataclass(frozen=True)
class Box:
    """A box of complexity-map blocks, half-open, (z, y, x)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, ...]:
        """For indexing the map."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))


def start_transforms(
    data: FieldData, model: ModelConfig, config: TrainConfig, generator: torch.Generator
) -> torch.Tensor:
    """(m, 3, 4) transforms by `config.placement`.

    "kdtree": the first `global_grids` (at most a quarter) stay near the identity and see the whole volume; of the
    others a share `coarse_share` gets the boxes of a coarse tree and the rest those of a fine one, so that most points are
    in a large and in a small box. Where the volume is too small for so many boxes, the rest is near the identity too.
    """
    transforms = near_identity(model.number_of_grids, generator)
    if config.placement != "kdtree":
        return transforms
    whole = min(config.global_grids, model.number_of_grids // 4)
    complexity, step = complexity_map(data, config.complexity_power)
    coarse = round(config.coarse_share * (model.number_of_grids - whole))
    boxes = split_boxes(complexity, step, model.number_of_grids - whole - coarse)
    if len(boxes) == 1:
        return transforms
    if coarse:
        boxes = split_boxes(complexity, step, coarse) + boxes
    for index, box in enumerate(boxes):
        jitter = torch.randn(3, 3, generator=generator) * BOX_JITTER
        transforms[whole + index] = _box_transform(box, step, data.dims, config.box_overlap, jitter)
    return transforms


def complexity_map(data: FieldData, power: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """How much there is to represent in each block of values.

    The complexity of a value is |value - blurred value|^(2 * power), over its mean, plus a floor.

    Returns:
        (sum over each block, [z, y, x] float64, values per block along (z, y, x)).
    """
    shape = data.dims[::-1]
    step = tuple(math.ceil(n / MAP_BLOCKS) for n in shape)
    blocks = tuple(math.ceil(n / s) for n, s in zip(shape, step))
    total, counts = np.zeros(blocks), np.zeros(blocks)
    halo = BLUR_WINDOW - 1
    depth = max(step[0], step[0] * (SLAB_VALUES // max(shape[1] * shape[2] * step[0], 1)))
    for z in range(0, shape[0], depth):
        low = max(z - halo, 0)
        slab = data.normalised(data.values[low : z + depth + halo])
        detail = squared_detail(np.nan_to_num(slab, nan=0.0), np.isfinite(slab))[z - low :][:depth]
        rows = slice(z // step[0], z // step[0] + math.ceil(len(detail) / step[0]))
        total[rows] += _block_sums(detail**power, step)
        counts[rows] += _block_sums(np.ones_like(detail), step)
    mean = total.sum() / counts.sum()
    return (total / mean if mean > 0 else total) + FLOOR * counts, step


def squared_detail(values: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """(z, y, x, c) -> (z, y, x) squared residual of a blur, summed over the components; 0 where the data is not finite."""
    blurred, share = values, finite
    for axis in range(3):
        for _ in range(2):
            blurred = _box_mean(blurred, axis)
            share = share if finite.all() else _box_mean(share, axis)
    blurred = np.where(finite, blurred / np.maximum(share, 1e-6), 0.0)  # of the finite values only
    return ((values - blurred) ** 2).sum(3) * finite.all(axis=3)


def _box_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over a window of BLUR_WINDOW values along an axis, cut at the border."""
    count, reach = values.shape[axis], BLUR_WINDOW // 2
    sums = np.cumsum(values, axis=axis, dtype=np.float64)
    sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
    index = np.arange(count)
    high, low = np.minimum(index + reach + 1, count), np.maximum(index - reach, 0)
    shape = [1] * values.ndim
    shape[axis] = count
    return (np.take(sums, high, axis) - np.take(sums, low, axis)) / (high - low).reshape(shape)


def _block_sums(values: np.ndarray, step: tuple[int, int, int]) -> np.ndarray:
    for axis in range(3):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], step[axis]), axis=axis)
    return values


def split_boxes(complexity: np.ndarray, step: tuple[int, int, int], count: int) -> list[Box]:
    """At most `count` boxes that tile the map and hold about the same complexity each."""
    boxes = [Box((0, 0, 0), complexity.shape)]
    weights = [float(complexity.sum())]
    while len(boxes) < count and max(weights) >= 0:
        heaviest = int(np.argmax(weights))
        halves = _split(complexity, step, boxes[heaviest])
        if halves is None:
            weights[heaviest] = -1.0
            continue
        boxes[heaviest] = halves[0]
        boxes.append(halves[1])
        weights[heaviest] = float(complexity[halves[0].slices].sum())
        weights.append(float(complexity[halves[1].slices].sum()))
    return boxes


def _split(complexity: np.ndarray, step: tuple[int, int, int], box: Box) -> tuple[Box, Box] | None:
    """Two halves at the weighted median of the longest axis, each at least a quarter; None when too small."""
    extents = [b - a for a, b in zip(box.start, box.stop)]
    axis = int(np.argmax([e * s for e, s in zip(extents, step)]))
    if extents[axis] * step[axis] < SMALLEST_BOX or extents[axis] < 2:
        return None
    profile = complexity[box.slices].sum(axis=tuple(a for a in range(3) if a != axis))
    median = int(np.searchsorted(np.cumsum(profile), profile.sum() / 2)) + 1
    quarter = max(1, math.ceil(extents[axis] / 4))
    cut = box.start[axis] + min(max(median, quarter), extents[axis] - quarter)
    stop = tuple(cut if a == axis else n for a, n in enumerate(box.stop))
    start = tuple(cut if a == axis else n for a, n in enumerate(box.start))
    return Box(box.start, stop), Box(start, box.stop)


def _box_transform(box: Box, step, dims, overlap: float, jitter: torch.Tensor) -> torch.Tensor:
    """(3, 4) transform that maps the box, grown by `overlap`, to [-1, 1]^3."""
    centre, half = torch.zeros(3), torch.ones(3)
    for axis in range(3):  # x, y, z; the box counts z, y, x
        last = dims[axis] - 1
        if last == 0:
            continue
        first = box.start[2 - axis] * step[2 - axis]
        final = min(box.stop[2 - axis] * step[2 - axis] - 1, last)
        centre[axis] = (first + final) / last - 1
        half[axis] = max(final - first, 1) / last * overlap
    matrix = torch.diag(1 / half) @ (torch.eye(3) + jitter)
    return torch.cat([matrix, -(matrix @ centre)[:, None]], dim=1)
