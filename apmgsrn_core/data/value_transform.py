"""Invertible transforms of values before they are scaled to a network's [0, 1]: for data over many decades.

A network of a few kilobytes holds its output to about a thousandth of the range. Where the values of interest span more decades
than that, the range is that of a transform of them: "log" of values that are all positive, "asinh" (linear around zero,
logarithmic far from it) of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..validation import check

KINDS = ("identity", "log", "asinh")
CHOICES = ("auto", *KINDS)
DECADES = 2.75  # between the middle of the magnitudes and the largest one, from which on a transform is chosen: the error of 55 dB
FEWEST = 16  # values from which it is chosen
NOISE = 2.0**-23  # of the largest magnitude: below it, values of both signs are what the rounding of float32 leaves of zeros
LINEAR_SHARE = 0.1  # quantile of the magnitudes above zero up to which "asinh" is about linear


@dataclass(frozen=True)
class ValueTransform:
    """A monotonic function of values.

    Args:
        kind: "identity": v; "log": the natural logarithm; "asinh": asinh(v / scale).
        scale: Of "asinh", in the unit of the values.

    Raises:
        ConfigError: Another kind, or a scale that is not positive and finite.
    """

    kind: str = "identity"
    scale: float = 1.0

    def __post_init__(self):
        check(self.kind in KINDS, "value transform", f"one of {KINDS}", self.kind)
        good = isinstance(self.scale, (int, float)) and math.isfinite(self.scale) and self.scale > 0
        check(good, "scale of a value transform", "a positive number", self.scale)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values in float64, transformed; NaN where a value is not finite, or not positive for "log"."""
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.kind == "log":
                values = np.log(np.where(values > 0, values, np.nan))
            elif self.kind == "asinh":
                values = np.arcsinh(values / self.scale)
        return values

    def inverse(self, transformed: np.ndarray) -> np.ndarray:
        """The inverse of `forward`, float64."""
        if self.kind == "log":
            return np.exp(np.minimum(transformed, 709.0))
        return np.sinh(np.clip(transformed, -709.0, 709.0)) * self.scale if self.kind == "asinh" else transformed

    def inverse_slope(self, transformed: np.ndarray) -> np.ndarray:
        """d value / d transformed."""
        if self.kind == "log":
            return np.exp(np.minimum(transformed, 709.0))
        if self.kind == "asinh":
            return np.cosh(np.clip(transformed, -709.0, 709.0)) * self.scale
        return np.ones_like(transformed)

    def to_text(self):
        """For the manifest: "identity" or a small object."""
        if self.kind == "identity":
            return "identity"
        return {"kind": self.kind, "scale": self.scale} if self.kind == "asinh" else {"kind": self.kind}

    @classmethod
    def from_text(cls, data) -> "ValueTransform":
        """The inverse of `to_text`. Raises ConfigError, TypeError."""
        if isinstance(data, str) and data != "identity":
            raise ConfigError(f"value transform: expected 'identity' or an object, found {data!r}")
        return cls() if data == "identity" else cls(**data)


IDENTITY = ValueTransform()


def choose_transform(choice: str, sample: np.ndarray, low: float, high: float) -> ValueTransform:
    """The transform of an array.

    Args:
        choice: "auto", or the kind.
        sample: (n,) some of its values.
        low, high: Of all its finite values.

    Raises:
        ConfigError: "log" for values that are not all positive.
    """
    check(choice in CHOICES, "value transform", f"one of {CHOICES}", choice)
    if choice == "log" and low <= 0:
        raise ConfigError(f"value transform 'log': expected positive values, found {low:g}")
    if choice in ("identity", "log"):
        return ValueTransform(choice)
    sizes = np.abs(sample[np.isfinite(sample)].astype(np.float64))
    largest = max(abs(low), abs(high))
    sizes = sizes[sizes > (NOISE * largest if low < 0 else 0.0)]
    if choice == "auto":
        if len(sizes) < FEWEST or math.log10(largest / np.median(sizes)) < DECADES:
            return IDENTITY
        if low > 0:
            return ValueTransform("log")
    scale = float(np.quantile(sizes, LINEAR_SHARE)) if len(sizes) else 1.0
    return ValueTransform("asinh", max(scale, 1e-300))
