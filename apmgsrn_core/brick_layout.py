"""How a domain is cut into bricks: the one place that decides where they start, end and meet. Integers only.

Positions count values along an axis: 0 is the first value, n - 1 the last one. (Of point data these are the points, of
cell data the cells' centres.) Neighbouring bricks share the values of their face, as VTK pieces share points.

Around each inner face lies a band, `overlap` wide on either side, in which both neighbours are evaluated and blended, so
that the field is continuous. Beyond the values that it is trained on, its own and `ghosts` more, a brick goes on with the
value of its border. At the data's own resolution an overlap of 1 then blends the values on the face alone, which both
neighbours are trained on: ghosts are not needed, and would cost quality, for a brick's network would have to hold more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .errors import ConfigError
from .grid import MOST_POINTS, Grid, Region
from .validation import check

GHOSTS = 0  # values; each costs about 0.15 dB, see tests/bench/README.md
OVERLAP = 1
MOST_VALUES = 256**3  # of a brick, when the counts are automatic


def split_axis(intervals: int, count: int) -> list[int]:
    """The count + 1 faces of `count` parts of an axis with so many intervals between values: b * intervals // count.

    Parts differ by at most one interval.
    """
    return [part * intervals // count for part in range(count + 1)]


@dataclass(frozen=True)
class BrickLayout:
    """A lattice of bricks over a lattice of values.

    Bricks are numbered with x fastest. Everything follows from these numbers, so every rank agrees without a message.

    Args:
        dims: Values along x, y, z.
        counts: Bricks along x, y, z; each at most the intervals of its axis (1 on a flat axis).
        ghosts: Values beyond its own that a brick is trained on, where there are any.
        overlap: Half-width in intervals of the band around a face in which neighbours are blended, at most one more than the
            ghosts; 0: none.

    Raises:
        ConfigError: More bricks than intervals, or too wide an overlap.
    """

    dims: tuple[int, int, int]
    counts: tuple[int, int, int] = (1, 1, 1)
    ghosts: int = GHOSTS
    overlap: int = OVERLAP

    def __post_init__(self):
        for name in ("dims", "counts"):
            value = tuple(int(v) for v in getattr(self, name))
            check(len(value) == 3 and min(value) >= 1, name, "three whole numbers from 1 on", value)
            object.__setattr__(self, name, value)
        for axis, count, n in zip("xyz", self.counts, self.dims):
            most = max(n - 1, 1)
            check(count <= most, "bricks", f"at most {most} along {axis} for {n} values", count)
        check(0 <= self.ghosts <= MOST_POINTS, "ghosts", f"from 0 to {MOST_POINTS}", self.ghosts)
        check(0 <= self.overlap <= self.ghosts + 1, "overlap", f"from 0 to the ghosts and one ({self.ghosts + 1})", self.overlap)

    @classmethod
    def automatic(
        cls, dims, counts=(0, 0, 0), value_bytes: int = 0, memory_bytes: int = 0, least_bricks: int = 1
    ) -> "BrickLayout":
        """A layout in which the counts that are 0 are chosen: the axis with the longest bricks is halved until it is enough.

        Args:
            dims: Values along x, y, z.
            counts: Wanted; 0 = automatic.
            value_bytes: Of all components of one value.
            memory_bytes: That the values of one brick may take; 0: no limit but MOST_VALUES values.
            least_bricks: At least so many, as far as the axes can be cut (a target of parameters per brick).

        Raises:
            ConfigError: A count is negative, or larger than its axis allows.
        """
        check(min(counts) >= 0, "bricks", "numbers from 0 (automatic) on", tuple(counts))
        chosen = [c or 1 for c in counts]
        most = min(MOST_VALUES, memory_bytes // value_bytes) if memory_bytes and value_bytes else MOST_VALUES

        def long(axis: int) -> float:
            return (dims[axis] - 1) / chosen[axis]

        while True:
            values = math.prod(max(math.ceil(long(a)), 1) for a in range(3))  # the shared ones left out
            free = [a for a in range(3) if not counts[a] and 2 * chosen[a] <= dims[a] - 1]
            if (values <= most and math.prod(chosen) >= least_bricks) or not free:
                return cls(tuple(dims), tuple(chosen))
            chosen[max(free, key=long)] *= 2

    # -- where bricks are ------------------------------------------------------------------

    @property
    def count(self) -> int:
        """All bricks."""
        return math.prod(self.counts)

    @cached_property
    def faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions of the faces along x, y and z, the outer ones included."""
        return tuple(np.array(split_axis(n - 1, c)) for n, c in zip(self.dims, self.counts))

    @cached_property
    def half_widths(self) -> tuple[float, float, float]:
        """Of the bands along x, y, z: `overlap`, less where bricks are so narrow that two bands would meet."""
        return tuple(
            min(float(self.overlap), float(np.diff(faces).min()) / 2) if count > 1 else 0.0
            for faces, count in zip(self.faces, self.counts)
        )

    def place(self, brick: int) -> tuple[int, int, int]:
        """Where a brick is in the lattice of bricks, (i, j, k)."""
        nx, ny, _ = self.counts
        return brick % nx, brick // nx % ny, brick // (nx * ny)

    def number(self, i, j, k):
        """The inverse of `place`; arrays are fine."""
        nx, ny, _ = self.counts
        return (k * ny + j) * nx + i

    def core(self, brick: int) -> Region:
        """The values of a brick, those on its faces included, which its neighbours have too."""
        return self._region(brick, 0)

    def trained(self, brick: int) -> Region:
        """The values that a brick is trained on: its own and the ghosts. Its network's [-1, 1] reaches over these."""
        return self._region(brick, self.ghosts if self.count > 1 else 0)

    def owned(self, brick: int) -> Region:
        """The values that are counted with this brick: each value of the domain with exactly one."""
        start, stop = [], []
        for faces, i, count in zip(self.faces, self.place(brick), self.counts):
            start.append(int(faces[i]))
            stop.append(int(faces[i + 1]) + (i == count - 1))
        return Region(start, stop)

    def _region(self, brick: int, more: int) -> Region:
        start, stop = [], []
        for faces, i, n in zip(self.faces, self.place(brick), self.dims):
            start.append(max(int(faces[i]) - more, 0))
            stop.append(min(int(faces[i + 1]) + more, n - 1) + 1)
        return Region(start, stop)

    def grid_of(self, brick: int, grid: Grid) -> Grid:
        """The lattice of a brick's trained values, part of the data's `grid`."""
        region = self.trained(brick)
        more = [1 if grid.association == "cell" and n > 1 else 0 for n in grid.dims]
        dims = [b - a + m for a, b, m in zip(region.start, region.stop, more)]
        return grid.part(region.start, tuple(dims))

    # -- which bricks a position needs -----------------------------------------------------

    def along(self, axis: int, positions: np.ndarray) -> np.ndarray:
        """Which part of an axis positions are in, (n,) int; on a face the upper one, beyond the ends the outermost."""
        inner = self.faces[axis][1:-1]
        return np.searchsorted(inner, positions, side="right")

    def owner(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions -> (n,) number of the brick that each is in."""
        return self.number(*(self.along(axis, positions[:, axis]) for axis in range(3)))

    def weight(self, axis: int, part, positions: np.ndarray) -> np.ndarray:
        """Weight of a part of an axis at positions, (n,) float64 in [0, 1]; over all parts they sum to one.

        With s_f rising from 0 to 1 across face f as 3 t^2 - 2 t^3, part p has s_p - s_(p+1). `part` may be an array.
        The sum telescopes: a partition of unity with continuous first derivatives (where the half-width is not 0).
        """
        positions = np.asarray(positions, dtype=np.float64)
        return self._rise(axis, part, positions) - self._rise(axis, np.asarray(part) + 1, positions)

    def _rise(self, axis: int, face, positions: np.ndarray) -> np.ndarray:
        """0 below a face, 1 above; 1 at the domain's first face and 0 at its last one, wherever that is."""
        face, half = np.asarray(face), self.half_widths[axis]
        distance = positions - self.faces[axis][face]
        if half:
            t = np.clip(distance / (2 * half) + 0.5, 0.0, 1.0)
            rise = t * t * (3.0 - 2.0 * t)
        else:
            rise = (distance >= 0).astype(np.float64)
        rise = np.where(face == 0, 1.0, rise)
        return np.where(face == self.counts[axis], 0.0, rise)

    def contributions(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each position needs: rows (m,), bricks (m,) and weights (m,), the weights of a row summing to one.

        A position has one entry outside the bands, two in one, up to eight where bands cross. Sorted by brick, and by
        row within a brick.
        """
        rows = np.arange(len(positions))
        bricks, weights = np.zeros(len(positions), dtype=np.int64), np.ones(len(positions))
        for axis in (2, 1, 0):
            where = positions[rows, axis]
            part = self.along(axis, where)
            own = self.weight(axis, part, where)
            shared = np.flatnonzero(own < 1.0)
            upper = where[shared] > self.faces[axis][part[shared]] + self.half_widths[axis]  # which face's band it is
            other = part[shared] + np.where(upper, 1, -1)
            rows = np.concatenate([rows, rows[shared]])
            base = bricks * self.counts[axis]
            bricks = np.concatenate([base + part, base[shared] + other])
            weights = np.concatenate([weights * own, weights[shared] * (1.0 - own[shared])])
        kept = np.flatnonzero(weights > 0)
        order = kept[np.lexsort((rows[kept], bricks[kept]))]
        return rows[order], bricks[order], weights[order]

    # -- which rank has which brick --------------------------------------------------------

    def ranks(self, size: int) -> np.ndarray:
        """The rank of each brick, (count,): boxes of bricks, about equally many on each rank.

        The lattice of bricks is halved along its longest axis, and the ranks with it, until one rank or one brick is left.
        With at least as many bricks as ranks every rank has one; with fewer, some ranks have none.
        """
        result = np.zeros(self.counts[::-1], dtype=np.int64)
        self._hand_out(result, 0, size)
        return result.ravel()

    def _hand_out(self, box: np.ndarray, first: int, size: int) -> None:
        box[...] = first
        if size == 1 or box.size == 1:
            return
        axis = int(np.argmax(box.shape))
        share = size // 2
        cut = min(max(round(box.shape[axis] * share / size), 1), box.shape[axis] - 1)
        low, high = np.split(box, [cut], axis=axis)
        bounds = sorted((low.size, size - high.size))  # at least as many bricks as ranks on both sides, or as few
        share = min(max(share, bounds[0]), bounds[1])
        self._hand_out(low, first, share)
        self._hand_out(high, first + share, size - share)

    def to_dict(self) -> dict:
        """For the model file's manifest; `dims` are the grid's."""
        return {"counts": list(self.counts), "ghosts": self.ghosts, "overlap": self.overlap}

    @classmethod
    def from_dict(cls, data: dict, dims) -> "BrickLayout":
        """The inverse of `to_dict`. Raises ConfigError, KeyError, TypeError or ValueError for what is no layout."""
        numbers = [*data["counts"], data["ghosts"], data["overlap"]]
        if len(numbers) != 5 or not all(isinstance(n, int) for n in numbers):
            raise ConfigError(f"layout: expected three counts, ghosts and overlap, found {data}")
        return cls(tuple(dims), tuple(data["counts"]), data["ghosts"], data["overlap"])
