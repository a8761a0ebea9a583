"""What networks put out, in the unit and the type of an array."""

from __future__ import annotations

import numpy as np

from .manifest import ArrayInfo


def in_unit(outputs: np.ndarray, info: ArrayInfo, kind: np.dtype) -> np.ndarray:
    """Outputs (0 and 1 being the range of the array) in the array's unit and a type; computed in float64.

    They are clamped to what the type can hold; integers are rounded, and 0 where an output is NaN.
    """
    low, high = info.range
    values = outputs.astype(np.float64) * (high - low) + low
    if kind.kind == "f":
        return values.clip(np.finfo(kind).min, np.finfo(kind).max).astype(kind)  # NaN stays
    limits = np.iinfo(kind)
    rounded = np.rint(np.nan_to_num(values))
    clamped = rounded.clip(limits.min, limits.max).astype(np.float64)
    result = np.where(rounded >= limits.max, 0, clamped).astype(kind)
    return np.where(rounded >= limits.max, limits.max, result).astype(kind)
