"""Points that several ranks have: where pieces of a mesh meet, each of them has the points of the border."""

from __future__ import annotations

import numpy as np

from ..distributed import Communicator

Bounds = tuple[np.ndarray, np.ndarray]  # lowest and highest x, y, z


def held_by_lower(places: dict[int, np.ndarray], communicator: Communicator) -> dict[int, np.ndarray]:
    """Which points a lower rank has as well (collective): what is left is with one rank only.

    Points are the same when their coordinates are. Only those travel that are in the bounds of another rank's points.

    Args:
        places: {number of a data set: its points (n, 3) float64 on this rank}. Points of different data sets are not
            compared.

    Returns:
        {number: (n,) bool}.
    """
    held = {number: np.zeros(len(points), dtype=bool) for number, points in places.items()}
    if communicator.size == 1:
        return held
    bounds = {number: (points.min(0), points.max(0)) for number, points in places.items() if len(points)}
    others, rank = communicator.everywhere(bounds), communicator.rank
    near = [
        {number: _inside(places[number], theirs[number]) for number in sorted(bounds.keys() & theirs.keys())}
        for theirs in others
    ]
    asked = communicator.exchange(
        [[places[n][rows] for n, rows in near[other].items()] if other < rank else [] for other in range(len(others))]
    )
    found = communicator.exchange([
        [_known(points, places[n][rows]) for points, (n, rows) in zip(asked[other], near[other].items())]
        if other > rank else [] for other in range(len(others))
    ])  # fmt: skip
    for other in range(rank):
        for (number, rows), known in zip(near[other].items(), found[other]):
            held[number][rows] |= known
    return held


def _inside(points: np.ndarray, bounds: Bounds) -> np.ndarray:
    """The numbers of the points in a box, borders included."""
    return np.flatnonzero(((points >= bounds[0]) & (points <= bounds[1])).all(axis=1))


def _known(points: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """(n,) bool: which of (n, 3) points are among (m, 3) others."""
    return np.isin(_keys(points), _keys(mine))


def _keys(points: np.ndarray) -> np.ndarray:
    """(n, 3) -> (n,) of one item for each; -0 and 0 are the same."""
    return np.ascontiguousarray(points + 0.0).view([(axis, np.float64) for axis in "xyz"])[:, 0]
