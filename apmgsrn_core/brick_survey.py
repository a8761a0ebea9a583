"""What is learnt about a brick's values before any training: range, need, fingerprint."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from .bricks import BrickLayout
from .errors import DataError
from .field_data import FieldData
from .fingerprint import content_hash
from .grid import Grid
from .placement import SLAB_VALUES, squared_detail

LOOKED_AT = 1 << 21  # values that the detail of a brick is taken from, about
BLUR_HALO = 6  # values that the blur of `squared_detail` reaches


@dataclass(frozen=True)
class BrickSummary:
    """Of the values that one brick is trained on.

    Attributes:
        minimum, maximum: Of the finite ones; (inf, -inf) when there are none.
        missing: Owned values that are NaN or infinite.
        detail: Sum of |value - blurred value| over the finite values, in the array's unit; of a large brick estimated from
            some layers of it.
        content: Hash of the values.
    """

    minimum: float
    maximum: float
    missing: int
    detail: float
    content: str

    @property
    def constant(self) -> bool:
        """Whether one number stands for all finite values."""
        return self.minimum >= self.maximum


@dataclass(frozen=True)
class Survey:
    """Of all bricks, in their order."""

    bricks: tuple[BrickSummary, ...]

    @property
    def range(self) -> tuple[float, float]:
        """(minimum, maximum) of the finite values of the whole domain."""
        return min(b.minimum for b in self.bricks), max(b.maximum for b in self.bricks)

    @property
    def missing(self) -> int:
        """Values that are NaN or infinite."""
        return sum(b.missing for b in self.bricks)

    @property
    def content(self) -> str:
        """Hash of all values; of one brick its own, as `content_hash` finds it."""
        if len(self.bricks) == 1:
            return self.bricks[0].content
        return hashlib.sha256("".join(b.content for b in self.bricks).encode()).hexdigest()

    def check(self, name: str) -> None:
        """Raise DataError when nothing could be trained: no finite value, or a range that overflows float64."""
        low, high = self.range
        if low > high:
            raise DataError(f"array {name!r}: expected finite values, found {self.missing} that are NaN or infinite")
        if not math.isfinite(high - low):
            raise DataError(f"array {name!r}: the range {low} to {high} overflows float64")


def survey_brick(values: np.ndarray, grid: Grid, layout: BrickLayout, brick: int, name: str) -> BrickSummary:
    """Look at the values that a brick is trained on.

    Args:
        values: [z, y, x] or [z, y, x, component] of `layout.trained(brick)`.
        grid: Of the whole domain.

    Raises:
        DataError: See `FieldData`; no finite values are no error here.
    """
    content = content_hash(values)
    missing = _missing(_owned(values, layout, brick))
    if missing and not any(np.isfinite(slab).any() for slab in values):
        return BrickSummary(math.inf, -math.inf, missing, 0.0, content)
    data = FieldData(values, layout.grid_of(brick, grid), name)
    detail = 0.0 if not data.span or layout.count == 1 else _detail(data)  # one brick needs all there is
    return BrickSummary(data.minimum, data.maximum, missing, detail, content)


def _owned(values: np.ndarray, layout: BrickLayout, brick: int) -> np.ndarray:
    first, owned = layout.trained(brick).start, layout.owned(brick)
    return values[tuple(slice(a - f, b - f) for a, b, f in zip(owned.start, owned.stop, first))[::-1]]


def _missing(values: np.ndarray) -> int:
    if values.dtype.kind != "f":
        return 0
    return sum(int(slab.size - np.isfinite(slab).sum()) for slab in values)


def _detail(data: FieldData) -> float:
    """Of the whole from some slabs of it, evenly spread; at the brick's border the blur sees no further."""
    layers, of_layer = len(data.values), max(math.prod(data.values.shape[1:]), 1)
    depth = min(max(1, SLAB_VALUES // (4 * of_layer)), layers)
    wanted = max(1, min(LOOKED_AT // (depth * of_layer), -(-layers // depth)))
    total, seen = 0.0, 0
    for z in np.linspace(0, layers - depth, wanted).round().astype(int).tolist():
        low = max(z - BLUR_HALO, 0)
        slab = data.normalised(data.values[low : z + depth + BLUR_HALO])
        squared = squared_detail(np.nan_to_num(slab, nan=0.0), np.isfinite(slab))[z - low :][:depth]
        total, seen = total + float(np.sqrt(squared).sum()), seen + len(squared)
    return total * data.span * layers / seen
