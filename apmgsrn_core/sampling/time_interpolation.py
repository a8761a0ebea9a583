"""Which time steps a time needs, and values linearly between two of them.

A value is there only when both steps have one. Integers are mixed as floating-point numbers and rounded at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..data.array_values import rounded_to

TIME_TOLERANCE = 1e-9  # of a time, for those that went through other number formats
GAP_TOLERANCE = 1e-3  # of the time between two steps, at most: they may be as near to each other as numbers can be

Shares = list[tuple[int, float]]  # number of a time step, its part of the whole


def step_at(times: Sequence[float], time: float | None) -> int:
    """The number of the time step that a time belongs to: the last one that is not later, or the first."""
    if time is None or not times:
        return 0
    next_ = int(np.searchsorted(times, time, side="right"))
    if 0 < next_ < len(times) and times[next_] - time <= _tolerance(time, times[next_] - times[next_ - 1]):
        next_ += 1
    return max(next_ - 1, 0)


def is_step(times: Sequence[float], time: float) -> bool:
    """Whether a time is that of a step."""
    gap = min((b - a for a, b in zip(times, times[1:])), default=np.inf)
    return any(abs(time - step) <= _tolerance(time, gap) for step in times)


def _tolerance(time: float, gap: float) -> float:
    return min(TIME_TOLERANCE * max(abs(time), 1.0), GAP_TOLERANCE * gap)


def time_shares(times: Sequence[float], time: float | None, between: bool) -> Shares:
    """The step of a time with all of it, or the two steps that the time is between with a part of each."""
    first = step_at(times, time)
    if not between or time is None or first + 1 >= len(times) or time <= times[first]:
        return [(first, 1.0)]
    start, stop = times[first : first + 2]
    share = (time - start) / (stop - start)
    return [(first, 1.0)] if share <= TIME_TOLERANCE else [(first, 1.0 - share), (first + 1, share)]


def mixed(shares: Shares, sample: Callable[[int], np.ndarray]) -> np.ndarray:
    """What `sample` gives of the steps, each by its share; in the type of the samples, NaN where one step has NaN."""
    (step, share), *later = shares
    values = sample(step)
    for step, part in later:
        values = (values * share + sample(step) * part).astype(values.dtype)
    return values


def mixed_in_type(shares: Shares, sample: Callable[[int, np.dtype], np.ndarray], kind: np.dtype) -> np.ndarray:
    """`mixed` of what `sample` gives in a type. Between two steps integers are sampled as floating-point numbers that hold
    them, and rounded and clamped in the end; 0 where one step has no value."""
    if len(shares) == 1 or kind.kind == "f":
        return mixed(shares, lambda step: sample(step, kind))
    exact = np.dtype("float32" if kind.itemsize <= 2 else "float64")
    return rounded_to(mixed(shares, lambda step: sample(step, exact)), kind)
