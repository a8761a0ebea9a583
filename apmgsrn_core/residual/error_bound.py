"""How far a value may be from the data, and what of that is left for the residual once everything else has had its part.

A reader's value differs from the one that the encoder saw: by what kernels and devices make of a network in fp32, which is
SAFETY times what this network's rounding does here, measured against float64, and at least LEAST_TOLERANCE of the range (tests
read with every kernel what each has written); and by the rounding of float32 on the way to the array's unit. Both are taken off
the bound before anything is coded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..data.array_values import scaled_range, slope_in_unit
from ..errors import ConfigError
from ..file.manifest import ArrayInfo
from ..validation import check

MODES = ("relative", "absolute")
LEAST_TOLERANCE, SAFETY = 1e-5, 5.0  # of a scaled output between two kernels
ROUNDING = 2.0**-23  # of float32, relative
ROUNDED = 4  # times that a number is rounded, at most


@dataclass(frozen=True)
class ErrorBound:
    """A wish.

    Args:
        value: 0: no bound.
        mode: "relative": of the range of an array at its time step; "absolute": in its unit.
        values: Of each array, 0 being none; (): `value` of each.

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    value: float = 0.0
    mode: str = "relative"
    values: tuple[float, ...] = ()

    def __post_init__(self):
        check(self.mode in MODES, "error_bound_mode", f"one of {MODES}", self.mode)
        most = 1.0 if self.mode == "relative" else math.inf
        for name, bound in (("error_bound", self.value), *(("error_bounds", value) for value in self.values)):
            good = isinstance(bound, (int, float)) and not isinstance(bound, bool) and 0 <= bound <= most and math.isfinite(bound)
            check(good, name, "a number from 0 to 1, of the range" if most == 1 else "a finite number from 0 on", bound)

    def __bool__(self) -> bool:
        return any(self.values or (self.value,))

    def of(self, arrays: tuple[ArrayInfo, ...]) -> tuple[float, ...]:
        """The bound of each array in its unit; 0: none.

        Raises:
            ConfigError: There are not as many values as arrays, or a bound is finer than float32 holds the values.
        """
        check(len(self.values) in (0, len(arrays)), "error_bounds", f"one for each of {len(arrays)} arrays", self.values)
        found = []
        for info, value in zip(arrays, self.values or (self.value,) * len(arrays)):
            low, high = info.range
            bound = value * (high - low) if self.mode == "relative" else value
            least = 2 * taken(info, max(abs(low), abs(high)), 0.0)
            if bound and _of_whole_numbers(bound, info) < least and high > low:
                raise ConfigError(
                    f"error_bound of array {info.name!r}: expected at least {least:.3g}, for its values up to "
                    f"{max(abs(low), abs(high)):.3g} are computed in float32, found {bound:.3g}"
                )
            found.append(bound if high > low else 0.0)  # of one value: met exactly
        return tuple(found)


def taken(info: ArrayInfo, largest: float, tolerance: float) -> float:
    """What of a bound is taken by computing, in the array's unit.

    Args:
        info: The array.
        largest: |value| at most.
        tolerance: Of a scaled output; 0: of a network that puts out one number everywhere.
    """
    _, span = scaled_range(info)
    ends = np.array([info.transform.forward(np.array(v)) for v in info.range])
    scaled = (ends - ends[0]) / span if span else ends * 0.0
    slope = float(np.abs(slope_in_unit(scaled, info)).max())  # of the transforms that there are it is largest at an end
    return slope * (tolerance + ROUNDED * ROUNDING) + ROUNDED * ROUNDING * largest


def left_for_coding(bound: float, info: ArrayInfo, largest: float, tolerance: float) -> float:
    """What of a bound is left for the residual; not above 0: it is too tight."""
    return _of_whole_numbers(bound, info) - taken(info, largest, tolerance)


def _of_whole_numbers(bound: float, info: ArrayInfo) -> float:
    """What must be kept for the bound to hold also when values are rounded to whole numbers, where the array's type has these alone."""
    return min(bound, math.floor(bound) + 0.49) if np.dtype(info.dtype).kind in "iu" else bound
