"""How close a reconstruction is to the data."""

from __future__ import annotations

import math

import numpy as np

from ..errors import DataError

SLAB = 16  # layers compared at a time
SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03


def _check_shapes(reference: np.ndarray, values: np.ndarray) -> None:
    if reference.shape != values.shape or reference.size == 0:
        raise DataError(f"expected two arrays of one shape, not empty, found {reference.shape} and {values.shape}")


def _range(reference: np.ndarray) -> float:
    """Maximum minus minimum of the finite values."""
    finite = reference[np.isfinite(reference)] if reference.dtype.kind == "f" else reference
    return float(finite.max()) - float(finite.min()) if finite.size else math.nan


def psnr(reference: np.ndarray, values: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over the reference's range: 20 log10(max - min) - 10 log10(MSE).

    Args:
        reference: The data; places that are not finite in it are left out.
        values: The reconstruction, of the same shape.

    Returns:
        dB; infinite when equal, NaN when nothing is finite.

    Raises:
        DataError: The shapes differ, or are empty.

    Source: as Wurster et al. 2024 measure it (the authors' `test.py`).
    """
    _check_shapes(reference, values)
    total, count = 0.0, 0
    for first in range(0, len(reference), SLAB):
        expected = reference[first : first + SLAB].astype(np.float64)
        difference = expected - values[first : first + SLAB]
        difference = difference[np.isfinite(expected)]
        total += float(np.square(difference).sum())
        count += difference.size
    if not count:
        return math.nan
    if total == 0.0:
        return math.inf
    span = _range(reference)
    return 20 * math.log10(span) - 10 * math.log10(total / count) if span else -math.inf


def ssim(reference: np.ndarray, values: np.ndarray) -> float:
    """Mean structural similarity over 7-wide cubic windows that lie inside the volume.

    Args:
        reference, values: [z, y, x]; axes shorter than 7 take a window of their own length.

    Returns:
        At most 1, which is equality.

    Raises:
        DataError: The shapes differ or are empty, or a value is not finite.

    Source: Wang et al. 2004, IEEE TIP 13(4), equation 13, with K1 = 0.01, K2 = 0.03, uniform windows and sample
    covariances, in three dimensions.
    """
    _check_shapes(reference, values)
    x, y = reference.astype(np.float64), values.astype(np.float64)
    if x.ndim != 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("ssim: expected finite values [z, y, x]")
    return float(similarities(x, y, _range(reference)).mean())


def similarities(x: np.ndarray, y: np.ndarray, span: float) -> np.ndarray:
    """Structural similarity of each window inside of two blocks, see `ssim`.

    Args:
        x, y: [z, y, x] float64, finite.
        span: Maximum minus minimum of the whole data; 0 counts as 1.

    Returns:
        [z, y, x], one for each place of the window's first value.
    """
    span = span or 1.0
    x, y = x / span, y / span  # squares of any unit stay numbers
    size = np.prod([min(SSIM_WINDOW, n) for n in x.shape])
    sample = size / max(size - 1, 1)
    mean_x, mean_y = _window_means(x), _window_means(y)
    var_x = sample * (_window_means(x * x) - mean_x * mean_x)
    var_y = sample * (_window_means(y * y) - mean_y * mean_y)
    covariance = sample * (_window_means(x * y) - mean_x * mean_y)
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )


def _window_means(values: np.ndarray) -> np.ndarray:
    """Means over windows fully inside, by running sums along each axis."""
    for axis in range(3):
        window = min(SSIM_WINDOW, values.shape[axis])
        sums = np.cumsum(values, axis=axis)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
        upper = np.take(sums, range(window, sums.shape[axis]), axis)
        values = (upper - np.take(sums, range(0, sums.shape[axis] - window), axis)) / window
    return values
