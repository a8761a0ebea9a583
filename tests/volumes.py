"""Small analytic volumes for the tests."""

from functools import cache

import numpy as np

from apmgsrn_core import Grid, TrainConfig, train_volume

TINY = {"iterations": 60, "batch_size": 512}


def wave(dims=(9, 8, 7), components=1, dtype="float32", association="point", **grid):
    """(values[z, y, x(, c)], grid): a smooth field between about 0 and 200."""
    grid = Grid(dims, association=association, **grid)
    axes = [np.linspace(0, 1, n) if n > 1 else np.zeros(1) for n in grid.value_dims]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    parts = [100 + 60 * np.sin(3 * x + c) + 30 * np.cos(4 * y) - 10 * z * (c + 1) for c in range(components)]
    values = np.stack(parts, axis=-1) if components > 1 else parts[0]
    if np.dtype(dtype).kind in "iu":
        values = np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype), grid


def tiny(**settings) -> TrainConfig:
    """A training of a fraction of a second."""
    return TrainConfig(**{**TINY, **settings})


@cache
def trained_wave(association="point", stretched=False):
    """A small model of `wave`, also on a stretched lattice."""
    values, grid = wave((9, 8, 7), association=association, spacing=(0.5, 1.0, 0.8), origin=(3, -1, 2))
    if stretched:
        grid = Grid.stretched([np.cumsum(np.linspace(0.3, 0.7, n)).tolist() for n in grid.dims])
    return train_volume(values, grid, train=tiny()).volume
