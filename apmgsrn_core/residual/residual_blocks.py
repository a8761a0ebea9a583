"""The residual of a brick in its section: whole numbers in blocks, of which those that are needed are decoded.

- Bytes: `HEAD` (version, components); for each component float64, what a unit of its numbers is in the unit of its array, 0:
  it has none; of each component that has, in their order, uint32 for each block: its bytes; then the bytes of all blocks in
  the same order. Blocks are numbered with x fastest and cut each axis into parts of about EDGE values.
- Lattice: the values that the brick is trained on (`BrickLayout.trained`).
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..brick_layout import split_axis
from ..errors import ModelFileError
from ..kernels.threads import thread_count
from .block_coding import decode_block

VERSION = 1
HEAD = struct.Struct("<BH")
EDGE = 64  # values of a block along an axis, about
KEPT_BYTES = 64 << 20  # of decoded blocks of a brick

Shape = tuple[int, int, int]


def block_edges(shape: Shape) -> list[np.ndarray]:
    """Where blocks begin and end along z, y, x."""
    return [np.array(split_axis(n, count)) for n, count in zip(shape, _counts_of(shape))]


def _counts_of(shape: Shape) -> list[int]:
    """Blocks along z, y, x."""
    return [max(round(n / EDGE), 1) for n in shape]


def block_slices(shape: Shape) -> list[tuple[slice, slice, slice]]:
    """The blocks of a lattice [z, y, x], in the order of their numbers."""
    along = [[slice(a, b) for a, b in zip(edges, edges[1:])] for edges in block_edges(shape)]
    return list(itertools.product(*along))


def pack_blocks(units: list[float], blocks: list[list[bytes]]) -> bytes:
    """The bytes of a residual: a unit for each component, and the blocks of those whose unit is not 0."""
    lengths = np.array([len(data) for own in blocks for data in own], "<u4")
    head = HEAD.pack(VERSION, len(units)) + np.array(units, "<f8").tobytes()
    return head + lengths.tobytes() + b"".join(data for own in blocks for data in own)


class ResidualBlocks:
    """The residual of a brick, opened; blocks are decoded when they are asked for, and the last ones kept.

    Threads may share it.

    Args:
        data: From `pack_blocks`.
        shape: Values of the brick along z, y, x.
        components: Of all arrays together.
        what: What messages call it.

    Raises:
        ModelFileError: The bytes are not what they say.
    """

    def __init__(self, data: bytes, shape: Shape, components: int, what: str = "residual"):
        self.shape, self._what, self._data = shape, what, data
        self._counts = _counts_of(shape)
        self.units = self._read_units(components)
        self._starts = self._read_starts()
        self._edges = block_edges(shape) if self._starts else []  # as many as the bytes have lengths of blocks
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def _read_units(self, components: int) -> np.ndarray:
        least = HEAD.size + 8 * components
        if len(self._data) < least:
            raise ModelFileError(f"{self._what}: expected at least {least} bytes, found {len(self._data)}")
        version, found = HEAD.unpack_from(self._data)
        if (version, found) != (VERSION, components):
            raise ModelFileError(
                f"{self._what}: expected version {VERSION} and {components} components, found version {version} and {found}"
            )
        units = np.frombuffer(self._data, "<f8", components, HEAD.size)
        if not (np.isfinite(units) & (units >= 0)).all():
            raise ModelFileError(f"{self._what}: expected units that are finite and not negative, found {units.tolist()}")
        return units

    def _read_starts(self) -> dict[int, np.ndarray]:
        """Of each component that has blocks where they begin, and the last one's end."""
        own = np.flatnonzero(self.units).tolist()
        count, first = math.prod(self._counts), HEAD.size + self.units.nbytes
        begin = first + 4 * count * len(own)
        lengths = np.frombuffer(self._data[first:begin], "<u4").astype(np.int64) if begin <= len(self._data) else np.zeros(0)
        if len(lengths) != count * len(own) or begin + int(lengths.sum()) != len(self._data):
            raise ModelFileError(f"{self._what}: expected the lengths of {count} blocks of {len(own)} components, and their bytes")
        ends = begin + np.cumsum(lengths)
        starts = np.concatenate([[begin], ends])
        return {c: starts[i * count : (i + 1) * count + 1] for i, c in enumerate(own)}

    @property
    def byte_count(self) -> int:
        """Of the bytes and of the blocks that may be kept."""
        values = 4 * math.prod(self.shape) * len(self._starts)
        return len(self._data) + min(values, KEPT_BYTES)

    def block(self, component: int, number: int) -> np.ndarray:
        """[z, y, x] float32 of a block, in the unit of the array; not to be changed. Raises ModelFileError."""
        with self._lock:
            if (component, number) in self._kept:
                self._kept.move_to_end((component, number))
                return self._kept[component, number]
        place = np.unravel_index(number, self._counts)
        shape = tuple(int(edges[p + 1] - edges[p]) for edges, p in zip(self._edges, place))
        starts = self._starts[component]
        try:
            numbers = decode_block(self._data[starts[number] : starts[number + 1]], shape)
        except ModelFileError as error:
            raise ModelFileError(f"{self._what}, block {number}: {error}") from error
        values = (numbers * self.units[component]).astype(np.float32)
        with self._lock:
            self._kept[component, number] = values
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return values

    def at(self, component: int, index: np.ndarray) -> np.ndarray:
        """(n, 3) whole indices along z, y, x -> (n,) float32."""
        values = np.zeros(len(index), np.float32)
        if component not in self._starts:
            return values
        places = [np.searchsorted(edges, along, side="right") - 1 for edges, along in zip(self._edges, index.T)]
        numbers = np.ravel_multi_index(places, self._counts)
        order = np.argsort(numbers, kind="stable")
        firsts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for rows in np.split(order, firsts[1:]):
            if len(rows):
                low = [edges[places[a][rows[0]]] for a, edges in enumerate(self._edges)]
                z, y, x = (index[rows] - low).T
                values[rows] = self.block(component, int(numbers[rows[0]]))[z, y, x]
        return values

    def on_lattice(self, component: int, axes: list[np.ndarray]) -> np.ndarray:
        """Rising or falling whole indices along z, y, x -> [z, y, x] float32."""
        values = np.zeros(tuple(map(len, axes)), np.float32)
        if component not in self._starts:
            return values
        parts = []
        for along, edges in zip(axes, self._edges):
            place = np.searchsorted(edges, along, side="right") - 1
            parts.append([(int(p), np.flatnonzero(place == p)) for p in np.unique(place)])

        def fill(part) -> None:
            place, rows = zip(*part)
            block = self.block(component, int(np.ravel_multi_index(place, self._counts)))
            local = [along[r] - edges[p] for along, r, edges, p in zip(axes, rows, self._edges, place)]
            values[np.ix_(*rows)] = block[np.ix_(*local)]

        threaded(fill, list(itertools.product(*parts)))
        return values


def threaded(work, tasks: list) -> list:
    """What `work` gives for each task, several at a time where there are threads for it."""
    count = min(thread_count(), len(tasks))
    if count < 2:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, tasks))
