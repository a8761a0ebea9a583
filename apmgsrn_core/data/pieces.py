"""Values that stay on the rank that has them: bricks are put together from the pieces of several ranks.

For data that cannot be asked for by region, as of a simulation that runs: each rank has one box of values. A brick belongs
to the rank that has most of it, and what that rank lacks, its halo, travels.
"""

from __future__ import annotations

import numpy as np

from ..brick_layout import BrickLayout
from ..distributed import Communicator
from ..errors import DataError
from ..grid import Region


class Pieces:
    """The pieces of all ranks (collective).

    Args:
        values: [z, y, x] or [z, y, x, component]: this rank's piece; it may be empty.
        region: Where it is in the whole lattice of values. Pieces may overlap, as with shared points or ghosts.
        communicator: The ranks.

    Raises:
        DataError: On all ranks, when values and region of one of them differ in shape.
    """

    def __init__(self, values: np.ndarray, region: Region, communicator: Communicator):
        def check():
            if values.shape[:3] != region.shape_zyx:
                raise DataError(f"piece: expected values of shape {region.shape_zyx} (z, y, x), found {values.shape}")

        communicator.together(check)
        self._values, self._communicator = values, communicator
        self._regions: list[Region] = communicator.everywhere(region)

    def owners(self, layout: BrickLayout) -> np.ndarray:
        """The rank that has most of each brick, (count,); the lowest of equals."""
        return owners_of(layout, self._regions)

    def fetch(self, wanted: Region | None) -> np.ndarray | Exception | None:
        """The values of a region that this rank wants, put together from all pieces (collective).

        Args:
            wanted: None: this rank wants nothing and only gives.

        Returns:
            Its values, a view where this rank has them all; None for None; a DataError when some are on no rank.
        """
        regions = self._communicator.everywhere(wanted)
        mine = self._regions[self._communicator.rank]
        outgoing = [self._parts_for(other, region, mine) for other, region in enumerate(regions)]
        incoming = self._communicator.exchange(outgoing)
        if wanted is None:
            return None
        if _inside(wanted, mine):
            return self._cut(wanted)
        try:
            return self._assembled(wanted, incoming)
        except MemoryError as error:  # told to all ranks by who asked
            return error

    def _parts_for(self, other: int, wanted: Region | None, mine: Region) -> list[np.ndarray]:
        """What another rank lacks and this one has, as one box; nothing for itself."""
        if wanted is None or other == self._communicator.rank or _inside(wanted, self._regions[other]):
            return []
        part = _without(common_region(wanted, mine), self._regions[other])
        return [self._cut(part)] if part.count else []

    def _assembled(self, wanted: Region, incoming: list[list[np.ndarray]]) -> np.ndarray | Exception:
        result = np.empty(wanted.shape_zyx + self._values.shape[3:], self._values.dtype)
        there = np.zeros(wanted.shape_zyx, dtype=bool)
        rank = self._communicator.rank
        for other, piece in enumerate(self._regions):
            common = common_region(wanted, piece)
            part = common if other == rank else _without(common, self._regions[rank])
            if not part.count:
                continue
            place = _slices(part, wanted.start)
            result[place] = self._cut(part) if other == rank else incoming[other][0]
            there[place] = True
        if not there.all():
            missing = int(there.size - there.sum())
            idle = [str(other) for other, piece in enumerate(self._regions) if not piece.count]
            more = f"; ranks without any: {', '.join(idle)}" if idle else ""
            return DataError(f"values {wanted.start} to {wanted.stop}: {missing} of {there.size} are on no rank{more}")
        return result

    def _cut(self, part: Region) -> np.ndarray:
        return self._values[_slices(part, self._regions[self._communicator.rank].start)]


def _slices(part: Region, first) -> tuple[slice, ...]:
    return tuple(slice(a - f, b - f) for a, b, f in zip(part.start, part.stop, first))[::-1]


def common_region(one: Region, other: Region) -> Region:
    """The box that two boxes share; an empty one when they share none."""
    start = tuple(max(a, b) for a, b in zip(one.start, other.start))
    return Region(start, tuple(max(min(a, b), s) for a, b, s in zip(one.stop, other.stop, start)))


def _inside(part: Region, whole: Region) -> bool:
    return all(a >= b for a, b in zip(part.start, whole.start)) and all(a <= b for a, b in zip(part.stop, whole.stop))


def _without(part: Region, known: Region) -> Region:
    """The part less what is known, where the rest is a box: planes that two pieces share do not travel."""
    common = common_region(part, known)
    if not part.count or not common.count:
        return part
    cut = [axis for axis in range(3) if (common.start[axis], common.stop[axis]) != (part.start[axis], part.stop[axis])]
    if not cut:
        return Region(part.start, part.start)
    if len(cut) > 1:
        return part
    axis, start, stop = cut[0], list(part.start), list(part.stop)
    if common.start[axis] == part.start[axis]:
        start[axis] = common.stop[axis]
    elif common.stop[axis] == part.stop[axis]:
        stop[axis] = common.start[axis]
    return Region(start, stop)


def owners_of(layout: BrickLayout, pieces: list[Region]) -> np.ndarray:
    """The piece that has most of each brick's trained values, (count,); the first of equals, and of none the first."""
    nx, ny, nz = layout.counts
    most, owners = np.zeros((nz, ny, nx), dtype=np.int64), np.zeros((nz, ny, nx), dtype=np.int64)
    more = layout.ghosts if layout.count > 1 else 0
    starts = [np.maximum(faces[:-1] - more, 0) for faces in layout.faces]
    stops = [np.minimum(faces[1:] + more, n - 1) + 1 for faces, n in zip(layout.faces, layout.dims)]
    for number, piece in enumerate(pieces):
        common = [
            np.minimum(stop, piece.stop[axis]) - np.maximum(start, piece.start[axis])
            for axis, (start, stop) in enumerate(zip(starts, stops))
        ]
        touched = [np.flatnonzero(c > 0) for c in common]
        if not all(len(t) for t in touched):
            continue
        x, y, z = (slice(t[0], t[-1] + 1) for t in touched)  # a piece touches neighbours only
        share = common[2][z][:, None, None] * common[1][y][:, None] * common[0][x]
        better = share > most[z, y, x]
        most[z, y, x][better] = share[better]
        owners[z, y, x][better] = number
    return owners.ravel()
