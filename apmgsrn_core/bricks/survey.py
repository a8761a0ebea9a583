"""What is learnt about a brick's values before any training: range, need, fingerprint."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..brick_layout import BrickLayout
from ..data.array_spec import ArraySpec, columns_of
from ..data.field_data import FieldData
from ..data.mask import pack_mask
from ..data.value_transform import choose_transform
from ..errors import DataError
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..training.fingerprint import content_hash
from ..training.placement import SLAB_VALUES, squared_detail

LOOKED_AT = 1 << 21  # values that the detail of a brick is taken from, about
SAMPLED, LEAST_SAMPLED = 1 << 16, 64  # values from which a value transform is chosen; of each brick
BLUR_HALO = 6  # values that the blur of `squared_detail` reaches


@dataclass(frozen=True)
class BrickSummary:
    """Of the values that one brick is trained on.

    Attributes:
        ranges: (minimum, maximum) of the finite values of each array; (inf, -inf) when there are none.
        missing: Owned values that are NaN or infinite, of all arrays together.
        details: Of each array the sum of |value - blurred value| over the finite values, in the array's unit; of a large
            brick estimated from some layers of it.
        content: Hash of the values.
        sample: (n, components) some of the values.
        mask: Where they are finite, see `mask.pack_mask`; None: everywhere.
    """

    ranges: tuple[tuple[float, float], ...]
    missing: int
    details: tuple[float, ...]
    content: str
    sample: np.ndarray = field(compare=False, repr=False)
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def constant(self) -> bool:
        """Whether one number stands for all finite values of each array."""
        return all(low >= high for low, high in self.ranges)


@dataclass(frozen=True)
class Survey:
    """Of all bricks, in their order."""

    bricks: tuple[BrickSummary, ...]

    @cached_property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """(minimum, maximum) of the finite values of each array in the whole domain."""
        of_arrays = zip(*(b.ranges for b in self.bricks))
        return tuple((min(low for low, _ in ends), max(high for _, high in ends)) for ends in map(tuple, of_arrays))

    @property
    def missing(self) -> int:
        """Values that are NaN or infinite."""
        return sum(b.missing for b in self.bricks)

    @property
    def masked(self) -> bool:
        """Whether a brick is not valid everywhere."""
        return any(b.mask is not None for b in self.bricks)

    @property
    def content(self) -> str:
        """Hash of all values; of one brick its own, as `content_hash` finds it."""
        if len(self.bricks) == 1:
            return self.bricks[0].content
        return hashlib.sha256("".join(b.content for b in self.bricks).encode()).hexdigest()

    @cached_property
    def details(self) -> list[float]:
        """Of each brick, its arrays' relative to their ranges."""
        spans = [high - low or 1.0 for low, high in self.ranges]
        return [sum(d / span for d, span in zip(b.details, spans)) for b in self.bricks]

    def infos(self, arrays: tuple[ArraySpec, ...]) -> tuple[ArrayInfo, ...]:
        """The arrays as a model file describes them, with their ranges and value transforms. Raises what `check` does."""
        self.check(arrays)
        sample = np.concatenate([b.sample for b in self.bricks])
        return tuple(
            ArrayInfo(
                a.name, a.association, a.components, a.dtype, ends, a.unit,
                choose_transform(a.transform, sample[:, own].ravel(), *ends),
            )
            for a, ends, own in zip(arrays, self.ranges, columns_of(arrays))
        )  # fmt: skip

    def check(self, arrays: tuple[ArraySpec, ...]) -> None:
        """Raise DataError when an array could not be trained: no finite value, or a range that overflows float64."""
        for array, (low, high) in zip(arrays, self.ranges):
            if low > high:
                raise DataError(f"array {array.name!r}: expected finite values, found {self.missing} that are NaN or infinite")
            if not math.isfinite(high - low):
                raise DataError(f"array {array.name!r}: the range {low} to {high} overflows float64")


def survey_brick(
    values: np.ndarray, grid: Grid, layout: BrickLayout, brick: int, arrays: tuple[ArraySpec, ...]
) -> BrickSummary:
    """Look at the values that a brick is trained on.

    Args:
        values: [z, y, x] or [z, y, x, component] of `layout.trained(brick)`, the components of all arrays one after the other.
        grid: Of the whole domain.

    Raises:
        DataError: See `FieldData`; no finite values are no error here.
    """
    own = values[..., None] if values.ndim == 3 else values
    missing, parts = _missing(_owned(own, layout, brick)), []
    for array, columns in zip(arrays, columns_of(arrays)):
        part = own[..., columns]
        if part.dtype.kind == "f" and not any(np.isfinite(slab).any() for slab in part):
            parts.append(((math.inf, -math.inf), 0.0))
            continue
        data = FieldData(part, layout.grid_of(brick, grid), array.name)
        detail = 0.0 if not data.span or layout.count == 1 else _detail(data)  # one brick needs all there is
        parts.append(((data.minimum, data.maximum), detail))
    ranges, details = zip(*parts)
    mask = _mask(own, layout, brick, arrays) if own.dtype.kind == "f" else None
    return BrickSummary(ranges, missing, details, content_hash(values), _sample(own, layout.count), mask)


def _mask(values: np.ndarray, layout: BrickLayout, brick: int, arrays: tuple[ArraySpec, ...]) -> np.ndarray | None:
    """Where the arrays have finite values in the core of a brick, packed."""
    first, core = layout.trained(brick).start, layout.core(brick)
    inner = values[tuple(slice(a - f, b - f) for a, b, f in zip(core.start, core.stop, first))[::-1]]
    valid = np.empty((len(arrays), *inner.shape[:3]), dtype=bool)
    for array, columns in enumerate(columns_of(arrays)):
        for z, layer in enumerate(inner):
            np.isfinite(layer[..., columns]).all(axis=2, out=valid[array, z])
    return pack_mask(valid)


def sampled_rows(number: int, bricks: int) -> np.ndarray:
    """Evenly spread numbers of values of a brick that has so many, about SAMPLED in all bricks."""
    return np.linspace(0, number - 1, min(max(SAMPLED // bricks, LEAST_SAMPLED), number)).astype(np.int64)


def _sample(values: np.ndarray, bricks: int) -> np.ndarray:
    """(n, components) values, evenly spread over a brick, about SAMPLED in all bricks."""
    flat = values.reshape(-1, values.shape[3]) if values.flags.c_contiguous else None
    rows = sampled_rows(int(np.prod(values.shape[:3])), bricks)
    if flat is not None:
        return flat[rows].astype(np.float64)
    return values[np.unravel_index(rows, values.shape[:3])].astype(np.float64)


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
