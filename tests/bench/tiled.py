"""Volumes of any size made of copies of a small periodic one, region by region: none of it need be in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from apmgsrn_core import Grid, Region


@dataclass(frozen=True)
class Tiled:
    """Copies of [z, y, x] values side by side, times a slow wave along each axis: no two copies are alike.

    The Taylor-Green volume is periodic, so that its copies have no seams. Called with a Region, gives its values.

    Args:
        base: The values of one period.
        dims: Values of the whole along x, y, z.
        dtype: "float32", or "uint8" with 0 to 255 for 0 to the largest value.
        depth: Of the wave along each axis; 0: all copies are the same.
    """

    base: np.ndarray
    dims: tuple[int, int, int]
    dtype: str = "float32"
    depth: float = 0.3

    @property
    def grid(self) -> Grid:
        """With unit spacing."""
        return Grid(self.dims)

    @property
    def nbytes(self) -> int:
        """Of all values, were they in memory."""
        return math.prod(self.dims) * np.dtype(self.dtype).itemsize

    def __call__(self, region: Region) -> np.ndarray:
        axes = [np.arange(a, b) for a, b in zip(region.start, region.stop)][::-1]
        values = self.base[np.ix_(*(axis % n for axis, n in zip(axes, self.base.shape)))]
        if self.depth:
            values = values.astype(np.float32, copy=False)
            for number, (axis, n) in enumerate(zip(axes, self.dims[::-1])):
                wave = 1 + self.depth * np.sin(2 * math.pi * axis / n + number)
                values *= wave.astype(np.float32).reshape([-1 if number == a else 1 for a in range(3)])
        if self.dtype == "uint8":
            most = float(self.base.max()) * (1 + self.depth) ** 3
            values = np.rint(values * np.float32(255 / most))
        return values.astype(self.dtype, copy=False)
