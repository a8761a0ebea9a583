"""Filling an image or a rectilinear grid with what a model has there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from apmgsrn_core import Grid

from .ghost_marks import hide_missing
from .image_frame import ImageFrame
from .vtk_arrays import add_array, attributes


@dataclass(frozen=True)
class VolumeOutput:
    """What is asked of a model.

    Args:
        volume: The opened model.
        lattice: The points on which it is sampled.
        frame: Where the output lies.
        first: The point of the frame with index 0 of the lattice.
        fields: Names of the arrays.
        time, between: See `NeuralVolume.sample_points`.
        original: Whether values are given in the arrays' own types.
        fill: What stands where there is no value; NaN, or a number.
    """

    volume: object
    lattice: Grid
    frame: ImageFrame
    first: tuple
    fields: tuple
    time: float | None = None
    between: bool = False
    original: bool = False
    fill: float = np.nan

    def fill_extent(self, image, extent: tuple, on_progress: Callable[[float], bool]) -> int:
        """Place an image and give it the values of an extent; returns how many values were sampled.

        Raises:
            ApmgsrnError: `on_progress` has stopped it; the image is left without arrays.
        """
        self.frame.place(image, extent)
        arrays = [array for array in self.volume.arrays if array.name in self.fields]
        sampled, valid, parts = 0, {}, []
        for number, array in enumerate(arrays):
            region, grid = self._region(extent, array.association), self._grid(array.association)
            if not region.count:
                continue
            there = self.volume.valid_region(region, grid, array.name, self.time, self.between)
            part = self.volume.sample_region(
                region, grid, array.name, "original" if self._keeps_type(array) else "float32",
                lambda share: on_progress((number + share) / len(arrays)), self.time, self.between,
            )  # fmt: skip
            if not there.all() and not (np.isnan(self.fill) and part.dtype.kind == "f"):
                part[~there] = self._fill_of(part.dtype)
            parts.append((part, array))
            valid[array.association] = valid.get(array.association, False) | there
            sampled += region.count
        for part, array in parts:
            _fill(image, part, array.name, array.association)
        for association, there in sorted(valid.items()):  # cells first
            hide_missing(image, there, association)
        return sampled

    def _fill_of(self, kind: np.dtype) -> float:
        """What stands in a type where there is no value: of integers the nearest one, and 0 for NaN."""
        if kind.kind == "f":
            return self.fill
        limits = np.iinfo(kind)
        return max(min(round(float(np.nan_to_num(self.fill))), limits.max), limits.min)

    def _keeps_type(self, array) -> bool:
        """VTK has no float16."""
        return self.original and array.dtype not in ("float16", "float32")

    def _region(self, extent: tuple, association: str):
        return self.frame.region(extent, association, first=self.first)

    def _grid(self, association: str) -> Grid:
        """The lattice with its values on points or cells; for a model of a lattice it is its own."""
        return self.lattice if association == self.lattice.association else replace(self.lattice, association=association)


def _fill(image, values: np.ndarray, name: str, association: str) -> None:
    """Give an image its values [z, y, x] (components last, when more than one), as what is shown first."""
    components = values.shape[3:]
    add_array(image, association, name, values.reshape(-1, *components))
    side = attributes(image, association)
    if components != (3,):
        side.SetActiveScalars(name)
    elif side.GetVectors() is None:
        side.SetActiveVectors(name)
