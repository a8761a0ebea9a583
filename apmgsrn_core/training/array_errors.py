"""How well a network gives back each of its arrays, in the array's own unit."""

from __future__ import annotations

import numpy as np
import torch

from ..data.array_spec import columns_of
from ..data.array_values import in_unit
from ..data.value_transform import IDENTITY
from ..file.manifest import ArrayInfo
from ..network.model import evaluate
from .history import psnr_of

ROW_POINTS = 1 << 12  # values on which a row of the history is measured


def wants_columns(arrays: tuple[ArrayInfo, ...]) -> bool:
    """Whether the loss does not say it all: there are several arrays, or the values are transformed."""
    return len(arrays) > 1 or arrays[0].transform != IDENTITY


class ArrayErrors:
    """Measures networks of one brick on the same values, always.

    Args:
        sampler: Of the brick's data; what it draws for batches does not change.
        arrays: With their ranges.
        count: Values.
        fills: (components,) what stands where an array has no value and others have one; None: there is no such place. Who has
            exactly that is left out: it is the mean of the others, and says nothing of them.
    """

    def __init__(self, sampler, arrays: tuple[ArrayInfo, ...], count: int = ROW_POINTS, fills: np.ndarray | None = None):
        batch = sampler.draw_uniform(count)
        self._arrays, self._points = arrays, batch.points
        self._rows = np.flatnonzero(batch.weights[:, 0].cpu().numpy() > 0)
        targets = batch.targets.cpu().numpy()[self._rows]
        self._values = [_in_unit(targets[:, own], a) for a, own in zip(arrays, columns_of(arrays))]
        own_rows = [None if fills is None else ~(targets[:, own] == fills[own]).all(axis=1) for own in columns_of(arrays)]
        self._own_rows = [slice(None) if rows is None else rows for rows in own_rows]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays."""
        return tuple(array.name for array in self._arrays)

    def mean_squared(self, network: torch.nn.Module) -> tuple[float, ...]:
        """Of each array, relative to its squared range; 0 for one of a single value."""
        outputs = evaluate([network], self._points.to(network.features.device)).detach().cpu().numpy()[self._rows]
        errors = []
        for values, array, own, rows in zip(self._values, self._arrays, columns_of(self._arrays), self._own_rows):
            span = array.range[1] - array.range[0]
            difference = (_in_unit(outputs[rows, own], array) - values[rows]) / (span or 1.0)
            errors.append(float(np.square(difference).mean()) if difference.size else 0.0)
        return tuple(errors)

    def psnr(self, network: torch.nn.Module) -> tuple[float, ...]:
        """PSNR of each array in dB over its range."""
        return tuple(psnr_of(error) for error in self.mean_squared(network))


def _in_unit(outputs: np.ndarray, array: ArrayInfo) -> np.ndarray:
    return in_unit(outputs, array, np.dtype(np.float64))
