"""Sizes of other networks at a number of parameters: what their papers have, but for as little as can be.

Of `fvsrn` the nodes of the grid are chosen, of `hash_grid` levels, entries and cells, of `dense_grids` the coarsest and finest
grid, of `siren` the width; the rest is their default, as published.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from apmgsrn_core.baselines.perceptron import level_resolutions

MORE = 0.06  # parameters, at most so many more than wanted


def settings_for(name: str, parameters: int, dims: tuple[int, int, int], outputs: int) -> dict:
    """Arguments of a baseline with `parameters` numbers or up to MORE more, for so many values along x, y, z.

    Raises:
        ValueError: No choice has as many.
    """
    made = {"fvsrn": fvsrn_choices, "hash_grid": hash_choices, "dense_grids": dense_choices, "siren": siren_choices}
    for settings in made[name](dims):
        count = count_of(name, settings, outputs)
        if parameters <= count <= (1 + MORE) * parameters:
            return {**settings, "outputs": outputs}
    raise ValueError(f"{name}: expected a size with {parameters} parameters or {MORE:.0%} more, found none")


def fvsrn_choices(dims: tuple[int, int, int]) -> Iterator[dict]:
    """Nodes in proportion to the values along each axis, from few to many."""
    middle = math.prod(dims) ** (1 / 3)
    for size, more in itertools.product(np.arange(4, 128, 0.05), itertools.product((0, 1), repeat=3)):
        yield {"resolution": tuple(max(int(size * n / middle) + one, 2) for n, one in zip(dims, more))}


def hash_choices(dims: tuple[int, int, int]) -> Iterator[dict]:
    """The most levels, up to the published 16, with 8 to 16 cells in the coarsest, as near to the published 16 as can be; in
    the finest as many as values along the longest axis. Of what was tried that was best at 2^16 and 2^20 parameters."""
    for levels, coarsest, bits in itertools.product(range(16, 3, -1), range(16, 7, -1), range(8, 20)):
        yield {"levels": levels, "table_bits": bits, "coarsest": coarsest, "finest": max(dims)}


def dense_choices(dims: tuple[int, int, int]) -> Iterator[dict]:
    """8 grids of 2 features; the ratio of the finest to the coarsest as near to the published 173 / 16 as can be."""
    pairs = [(coarsest, finest) for coarsest in range(2, 33) for finest in range(coarsest, max(dims) + 1)]
    for coarsest, finest in sorted(pairs, key=lambda pair: abs(math.log(pair[1] / pair[0] * 16 / 173))):
        yield {"coarsest": coarsest, "finest": finest}


def siren_choices(dims: tuple[int, int, int]) -> Iterator[dict]:
    for width in range(8, 4096):
        yield {"width": width}


def count_of(name: str, settings: dict, outputs: int) -> int:
    """Parameters, without making the network, which would take seconds for all choices of grids."""
    if name == "fvsrn":
        return 16 * math.prod(settings["resolution"]) + (47 * 32 + 32) + 2 * (32 * 32 + 32) + 33 * outputs
    if name == "hash_grid":
        levels = level_resolutions(settings["levels"], settings["coarsest"], settings["finest"])
        return sum(2 * min((n + 1) ** 3, 1 << settings["table_bits"]) for n in levels) + perceptron_count(len(levels), outputs)
    if name == "dense_grids":
        levels = level_resolutions(8, settings["coarsest"], settings["finest"])
        return sum(2 * n**3 for n in levels) + perceptron_count(8, outputs)
    width = settings["width"]
    return 4 * width + 3 * (width + 1) * width + (width + 1) * outputs


def perceptron_count(levels: int, outputs: int) -> int:
    """Parameters behind so many levels of 2 features."""
    return 64 * (2 * levels + 64 + outputs)
