"""Where the placed grids start, from scattered samples: boxes of equal complexity from a k-d tree over the samples.

The counterpart of `placement.py`: the box that holds most complexity is split across its longest axis. Each box is that of
its samples, so that grids lie where samples are: the empty parts of the domain cost none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..data.scattered_data import ScatteredData, node_starts
from ..network.model import near_identity
from ..network.model_config import ModelConfig
from .placement import BOX_JITTER, FLOOR, SMALLEST_BOX
from .train_config import TrainConfig

RIDGE = 1e-3  # of the variance of the positions: slopes that a neighbourhood does not determine are 0
SAMPLES_PER_NODE = 1.4  # along an axis of a grid: a box with fewer is not split, nor one of SMALLEST_BOX
LEAST_SHARE = 0.125  # of the length of a box, that a half gets
THIN = 1e-3  # of a box: a side that is shorter than so much of the longest one
MOST_GROUPS = 1 << 17  # of neighbouring samples, that boxes are made of
CHUNK_SAMPLES = 1 << 20  # looked at in one go, about


@dataclass(frozen=True)
class SampleBox:
    """The box of some groups of samples: their indices, (3,) low and high in the unit of the extents, and sums."""

    members: np.ndarray
    low: np.ndarray
    high: np.ndarray
    complexity: float
    count: int

    @property
    def spacing(self) -> float:
        """Between its samples, if they were evenly spread in it; along thin sides there is one. 0: all are at one place."""
        sides = self.high - self.low
        sides = sides[sides > THIN * sides.max()]
        return float((sides.prod() / self.count) ** (1 / len(sides))) if len(sides) else 0.0


@dataclass(frozen=True)
class SampleGroups:
    """Runs of neighbouring samples: their boxes (n, 3) in the unit of the extents, complexity (n,) and numbers (n,)."""

    low: np.ndarray
    high: np.ndarray
    complexity: np.ndarray
    counts: np.ndarray

    def box(self, members: np.ndarray) -> SampleBox:
        """Of the groups with these indices."""
        low, high = self.low[members].min(axis=0), self.high[members].max(axis=0)
        return SampleBox(members, low, high, float(self.complexity[members].sum()), int(self.counts[members].sum()))


def scattered_start_transforms(
    data: ScatteredData, model: ModelConfig, config: TrainConfig, generator: torch.Generator
) -> torch.Tensor:
    """(m, 3, 4) transforms by `config.placement`, see `placement.start_transforms`.

    Boxes are measured in the data's extents; where there are too few samples for so many boxes, the rest of the grids is near
    the identity.
    """
    transforms = near_identity(model.number_of_grids, generator)
    if config.placement != "kdtree":
        return transforms
    whole = min(config.global_grids, model.number_of_grids // 4)
    coarse = round(config.coarse_share * (model.number_of_grids - whole))
    groups = sample_groups(data, config.complexity_power)
    smallest = min(SMALLEST_BOX, SAMPLES_PER_NODE * max(model.grid_resolution))
    boxes = split_groups(groups, model.number_of_grids - whole - coarse, smallest)
    if len(boxes) == 1:
        return transforms
    if coarse:
        boxes = split_groups(groups, coarse, smallest) + boxes
    for index, box in enumerate(boxes):
        jitter = torch.randn(3, 3, generator=generator) * BOX_JITTER
        transforms[whole + index] = _box_transform(box, data.extents, config.box_overlap, jitter)
    return transforms


def sample_groups(data: ScatteredData, power: float) -> SampleGroups:
    """At most MOST_GROUPS runs of samples, with what there is to represent in each.

    The complexity of a sample is its squared detail to the `power`, over the mean, plus a floor.
    """
    complexity = squared_detail(data) ** power
    mean = complexity.mean()
    complexity = (complexity / mean if mean > 0 else complexity) + FLOOR
    first = np.arange(0, len(data), -(-len(data) // MOST_GROUPS))
    scale = np.array(data.extents) / 2
    low, high = (edge.reduceat(data.positions, first, axis=0) * scale for edge in (np.minimum, np.maximum))
    return SampleGroups(low, high, np.add.reduceat(complexity, first), np.diff(first, append=len(data)))


def squared_detail(data: ScatteredData) -> np.ndarray:
    """(n,) float64: squared residual of each sample, summed over the components, of a linear fit to its neighbourhood.

    Neighbourhoods are the leaves of the data's tree: a linear ramp has no detail, however coarsely it is sampled.
    """
    starts = node_starts(len(data), data.depth)
    together = max(1, CHUNK_SAMPLES * (len(starts) - 1) // len(data))
    chunks = [starts[i : i + together + 1] for i in range(0, len(starts) - 1, together)]
    scale = np.array(data.extents)
    return np.concatenate([_residuals(data.samples[c[0] : c[-1]], c - c[0], scale) for c in chunks])


def _residuals(samples: np.ndarray, starts: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`squared_detail` of the samples of some whole leaves."""
    sizes = np.diff(starts)
    samples = samples.astype(np.float64)
    samples[:, :3] *= scale
    mean = np.add.reduceat(samples, starts[:-1], axis=0) / sizes[:, None]
    samples -= np.repeat(mean, sizes, axis=0)
    x, y = samples[:, :3], samples[:, 3:]
    products = np.add.reduceat((x[:, :, None] * samples[:, None, :]).reshape(len(x), -1), starts[:-1], axis=0)
    products = products.reshape(len(sizes), 3, samples.shape[1])
    square, mixed = products[:, :, :3], products[:, :, 3:]
    ridge = RIDGE * np.trace(square, axis1=1, axis2=2) + 1e-30
    slopes = np.linalg.solve(square + ridge[:, None, None] * np.eye(3), mixed)
    fitted = np.einsum("ni,nic->nc", x, np.repeat(slopes, sizes, axis=0))
    return ((y - fitted) ** 2).sum(axis=1)


def split_groups(groups: SampleGroups, count: int, smallest: float) -> list[SampleBox]:
    """At most `count` boxes that hold all groups, each in one of them: the one with most complexity is split, again and again.

    One with fewer samples than `smallest` along its longest axis, if they were evenly spread, stays whole.
    """
    boxes = [groups.box(np.arange(len(groups.counts)))]
    weights = [boxes[0].complexity]
    while len(boxes) < count and max(weights) >= 0:
        heaviest = int(np.argmax(weights))
        halves = _split(groups, boxes[heaviest], smallest)
        if halves is None:
            weights[heaviest] = -1.0
            continue
        boxes[heaviest], weights[heaviest] = halves[0], halves[0].complexity
        boxes.append(halves[1])
        weights.append(halves[1].complexity)
    return boxes


def _split(groups: SampleGroups, box: SampleBox, smallest: float) -> tuple[SampleBox, SampleBox] | None:
    """Two halves across the longest axis, each at least LEAST_SHARE long; None when that holds fewer samples than `smallest`.

    The cut makes complexity * length, summed over both halves, least: that is the middle of a box that is alike everywhere,
    and just beside a small feature, which the median would cut in two again and again.
    """
    sides = box.high - box.low
    axis = int(np.argmax(sides))
    if sides[axis] < smallest * box.spacing * (1 - 1e-6):
        return None
    places = (groups.low[box.members, axis] + groups.high[box.members, axis]) / 2
    order = np.argsort(places, kind="stable")
    members, places = box.members[order], places[order]
    cuts = (places[1:] + places[:-1]) / 2 - box.low[axis]
    left = np.cumsum(groups.complexity[members])
    cost = left[:-1] * cuts + (left[-1] - left[:-1]) * (sides[axis] - cuts)
    least = LEAST_SHARE * sides[axis]
    good = (cuts >= least) & (cuts <= sides[axis] - least) & (places[1:] > places[:-1])
    if not good.any():
        return None
    cut = int(np.argmin(np.where(good, cost, np.inf))) + 1
    return groups.box(members[:cut]), groups.box(members[cut:])


def _box_transform(box: SampleBox, extents, overlap: float, jitter: torch.Tensor) -> torch.Tensor:
    """(3, 4) transform that maps the box, grown by `overlap`, to [-1, 1]^3."""
    least = box.spacing or THIN * max(extents)
    centre, half = torch.zeros(3), torch.ones(3)
    for axis, extent in enumerate(extents):
        if extent == 0:
            continue
        centre[axis] = float(box.low[axis] + box.high[axis]) / extent
        half[axis] = float(max(box.high[axis] - box.low[axis], least)) / extent * overlap
    matrix = torch.diag(1 / half) @ (torch.eye(3) + jitter)
    return torch.cat([matrix, -(matrix @ centre)[:, None]], dim=1)
