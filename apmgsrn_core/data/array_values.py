"""Between the values of an array and what networks put out, where 0 and 1 are the ends of its (transformed) range."""

from __future__ import annotations

import numpy as np

from ..file.manifest import ArrayInfo


def scaled_range(info: ArrayInfo) -> tuple[float, float]:
    """(lowest, length) of the range, transformed."""
    low, high = info.transform.forward(np.array(info.range)).tolist()
    return low, high - low


def normalised(values: np.ndarray, info: ArrayInfo) -> np.ndarray:
    """Values in the array's unit -> float64, 0 at the minimum and 1 at the maximum, transformed; NaN where not finite."""
    low, span = scaled_range(info)
    scaled = info.transform.forward(values) - low
    scaled = scaled / span if span else scaled * 0.0
    return np.where(np.isfinite(scaled), scaled, np.nan)


def slope_in_unit(outputs: np.ndarray, info: ArrayInfo) -> np.ndarray:
    """d value / d output, float64, of the shape of the outputs."""
    low, span = scaled_range(info)
    return span * info.transform.inverse_slope(outputs.astype(np.float64) * span + low)


def in_unit(outputs: np.ndarray, info: ArrayInfo, kind: np.dtype) -> np.ndarray:
    """Outputs (0 and 1 being the range of the array) in the array's unit and a type; computed in float64.

    They are clamped to what the type can hold; integers are rounded, and 0 where an output is NaN.
    """
    low, span = scaled_range(info)
    values = info.transform.inverse(outputs.astype(np.float64) * span + low)
    if kind.kind == "f":
        return values.clip(np.finfo(kind).min, np.finfo(kind).max).astype(kind)  # NaN stays
    return rounded_to(values, kind)


def rounded_to(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Floating-point values as integers of a type: rounded, clamped to what it can hold, and 0 where NaN."""
    limits = np.iinfo(kind)
    rounded = np.rint(np.nan_to_num(values))
    clamped = rounded.clip(limits.min, limits.max).astype(np.float64)
    result = np.where(rounded >= limits.max, 0, clamped).astype(kind)
    return np.where(rounded >= limits.max, limits.max, result).astype(kind)
