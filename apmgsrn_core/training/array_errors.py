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
    """

    def __init__(self, sampler, arrays: tuple[ArrayInfo, ...], count: int = ROW_POINTS):
        batch = sampler.draw_uniform(count)
        self._arrays, self._points = arrays, batch.points
        self._rows = np.flatnonzero(batch.weights[:, 0].cpu().numpy() > 0)
        targets = batch.targets.cpu().numpy()[self._rows]
        self._values = [_in_unit(targets[:, own], a) for a, own in zip(arrays, columns_of(arrays))]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays."""
        return tuple(array.name for array in self._arrays)

    def mean_squared(self, network: torch.nn.Module) -> tuple[float, ...]:
        """Of each array, relative to its squared range; 0 for one of a single value."""
        outputs = evaluate([network], self._points.to(network.features.device)).detach().cpu().numpy()[self._rows]
        errors = []
        for values, array, own in zip(self._values, self._arrays, columns_of(self._arrays)):
            span = array.range[1] - array.range[0]
            difference = (_in_unit(outputs[:, own], array) - values) / (span or 1.0)
            errors.append(float(np.square(difference).mean()) if difference.size else 0.0)
        return tuple(errors)

    def psnr(self, network: torch.nn.Module) -> tuple[float, ...]:
        """PSNR of each array in dB over its range."""
        return tuple(psnr_of(error) for error in self.mean_squared(network))


def _in_unit(outputs: np.ndarray, array: ArrayInfo) -> np.ndarray:
    return in_unit(outputs, array, np.dtype(np.float64))
