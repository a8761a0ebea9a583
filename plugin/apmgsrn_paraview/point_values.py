"""Evaluating a model at many places: part by part, with progress, and stopped when the user says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apmgsrn_core import ApmgsrnError

from .point_positions import Positions

PART = 1 << 18  # places evaluated at a time

Values = dict[str, np.ndarray]


class Stopped(ApmgsrnError):
    """The user has stopped the work. Shown as a status, not as an error."""


def evaluate(positions: Positions, sample: Callable[[np.ndarray], Values], on_part: Callable[[int], bool]) -> Values:
    """What a function gives at all of some places.

    Args:
        positions: The places.
        sample: (n, 3) float64 world coordinates -> {name: (n,) or (n, components)}, n may be 0.
        on_part: Called with the number of places done since the last call; False stops the work.

    Returns:
        {name: (count,) or (count, components)}.

    Raises:
        Stopped: By `on_part`.
    """
    results: Values = {}
    for first in range(0, max(positions.count, 1), PART):
        last = min(first + PART, positions.count)
        for name, values in sample(positions.part(first, last)).items():
            if name not in results:
                results[name] = np.empty((positions.count, *values.shape[1:]), values.dtype)
            results[name][first:last] = values
        if not on_part(last - first):
            raise Stopped("stopped by user")
    return results
