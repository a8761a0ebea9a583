"""Training a time series: its steps one after the other into one model, only one of them in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..grid import Grid
from .trainer import Values, train_volume
from .volume_training import TrainingResult


def train_series(
    steps: Iterable[tuple[float, Values]], grid: Grid, *, path: str | os.PathLike | None = None, **settings
) -> Iterator[TrainingResult]:
    """Train time steps as they come; each result's model holds all steps so far.

    Args:
        steps: (time, values) with rising times; the values as `train_volume` takes them.
        grid: Where the values are, at all steps.
        path: Write the model there after each step. The same call goes on from it after it was cut off, and steps that are
            added at the end are appended.
        settings: See `train_volume`: all but time, series, append.

    Yields:
        The result of each step, up to one that the user stopped; that of one which was in the file already says so in its
        stop_reason.

    Raises:
        DataError: Times do not rise, a step has other arrays or another shape; and what `train_volume` raises.
    """
    base = None
    for time, values in steps:
        result = train_volume(values, grid, time=time, series=True, append=base, path=path, **settings)
        base = path if result.model is None else result.model
        yield result
        if "stopped by user" in result.stop_reason:
            return
