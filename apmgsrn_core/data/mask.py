"""Where a model has data: bits for the values of each brick, packed into its section of the model file.

- Of a lattice of values the bits are of the values ("values"): a position is valid when all values that linear interpolation
  would read there are; of cell data, when the cell that it is in is.
- Of a mesh the bits are of the cells between the points of the model's grid ("voxels"), or of these cut in 2, 3 or 4 along each
  axis that has more than one point ("voxels/2", ...): a position is valid when its voxel, or one that it touches, meets the mesh.
- In a section the mask is a tensor of bytes: one that says how it is packed, then an LZMA2 stream of the bits of each array
  [z, y, x] over the core of the brick. No such tensor: all is valid.
"""

from __future__ import annotations

import itertools
import lzma
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from ..brick_layout import BrickLayout
from ..errors import ModelFileError
from ..grid import Region

SAME, ALONG_Z = 1, 2  # flags: one mask for all arrays; bits of a byte along z, not x
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
MOST_BYTES = 1 << 27  # of unpacked masks that are kept
EXPANSION = 8192  # bytes that LZMA2 makes of one, at most (6861 of zeros)
TOLERANCE = 1e-6  # of an interval; a position this near to a value is on it
TOUCH = 1e-3  # of a voxel; a position this near to another one touches it
VOXELS = ("voxels", "voxels/2", "voxels/3", "voxels/4")  # entry i: cut in i + 1 along each axis
KINDS = ("values", *VOXELS)


def voxel_parts(kind: str) -> int:
    """Into how many the voxels of a kind of mask are cut along an axis; 0: its bits are of values."""
    return 1 + VOXELS.index(kind) if kind in VOXELS else 0


def pack_mask(valid: np.ndarray) -> np.ndarray | None:
    """bool [array, z, y, x] -> bytes (n,) uint8; None when all is valid."""
    if valid.all():
        return None
    flags = SAME if (valid == valid[:1]).all() else 0
    kept = valid[:1] if flags else valid
    packed = [_compressed(kept), _compressed(np.moveaxis(kept, 1, 3))]
    shorter = int(len(packed[1]) < len(packed[0]))
    return np.frombuffer(bytes([flags | ALONG_Z * shorter]) + packed[shorter], dtype=np.uint8)


def _compressed(valid: np.ndarray) -> bytes:
    return lzma.compress(np.packbits(valid).tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)


def unpack_mask(data: np.ndarray, arrays: int, shape_zyx: Sequence[int], what: str) -> np.ndarray:
    """The inverse of `pack_mask`: bool [array, z, y, x]. Raises ModelFileError when the bytes are not such a mask."""
    flags = int(data[0]) if data.size else 255
    if flags & ~(SAME | ALONG_Z):
        raise ModelFileError(f"{what}: mask: expected a way of packing from 0 to 3, found {flags}")
    kept = 1 if flags & SAME else arrays
    bits = kept * math.prod(shape_zyx)
    if bits > 8 * EXPANSION * data.size:  # before memory is asked for them
        raise ModelFileError(f"{what}: mask: expected at most {8 * EXPANSION * data.size} bits in {data.size} bytes, found {bits}")
    try:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=FILTERS)
        packed = stream.decompress(data[1:].tobytes(), max_length=bits // 8 + 2)  # no more, whatever it claims
    except (lzma.LZMAError, EOFError) as error:
        raise ModelFileError(f"{what}: mask: damaged: {error}") from error
    if len(packed) != -(-bits // 8):
        raise ModelFileError(f"{what}: mask: expected {-(-bits // 8)} bytes, found {len(packed)}")
    valid = np.unpackbits(np.frombuffer(packed, np.uint8), count=bits).view(bool)
    z, y, x = shape_zyx
    valid = np.moveaxis(valid.reshape(kept, y, x, z), 3, 1) if flags & ALONG_Z else valid.reshape(kept, z, y, x)
    return np.broadcast_to(valid, (arrays, z, y, x))


def mask_region(layout: BrickLayout, brick: int, kind: str) -> Region:
    """Which bits the mask of a brick has: of values, or of voxels."""
    core, parts = layout.core(brick), voxel_parts(kind)
    return voxel_region(core, parts) if parts else core


def voxel_region(points: Region, parts: int) -> Region:
    """The voxels between the points of a region, each axis cut in `parts`; a flat axis has one layer that is not cut."""
    ends = [(a * parts, (b - 1) * parts) if b - a > 1 else (a, a + 1) for a, b in zip(points.start, points.stop)]
    return Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))


class DomainMask:
    """The masks of all bricks as one function of the position, which counts values as in `brick_layout.py`.

    Args:
        layout: Of the bricks.
        kind: One of KINDS.
        cells: Whether the values are of cells ("values" only).
        read: brick -> its mask [array, z, y, x], or None when all is valid.
    """

    def __init__(self, layout: BrickLayout, kind: str, cells: bool, read: Callable[[int], np.ndarray | None]):
        self._layout, self._kind, self._cells, self._read, self._parts = layout, kind, cells, read, voxel_parts(kind)
        self._held: OrderedDict[int, np.ndarray | None] = OrderedDict()
        self._last = [max((n - 1) * self._parts - 1, 0) if self._parts else n - 1 for n in layout.dims]

    def at_points(self, positions: np.ndarray, array: int) -> np.ndarray:
        """(n, 3) positions -> (n,) bool."""
        ends = [self._ends(axis, positions[:, axis]) for axis in range(3)]
        found = None
        for corner in itertools.product((0, 1), repeat=3):
            if any(c and (e[0] is e[1]) for c, e in zip(corner, ends)):
                continue
            here = self._bits(np.stack([e[c] for c, e in zip(corner, ends)], axis=1), array)
            found = here if found is None else self._joined(found, here)
        return found

    def on_lattice(self, axes: Sequence[np.ndarray], array: int) -> np.ndarray:
        """All combinations of positions along x, y and z: bool [z, y, x]."""
        ends = [self._ends(axis, np.asarray(positions)) for axis, positions in enumerate(axes)]
        first = [int(e[0].min()) for e in ends]
        stop = [int(e[1].max()) + 1 for e in ends]
        found = self._box(Region(first, stop), array)
        for axis in range(3):
            low, high = (np.take(found, e - first[axis], 2 - axis) for e in ends[axis])
            found = low if ends[axis][0] is ends[axis][1] else self._joined(low, high)
        return found

    def _joined(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return one | other if self._parts else one & other

    def _ends(self, axis: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first and last bit along an axis that a position depends on; one object when they are always the same."""
        last = self._last[axis]
        if self._parts:
            positions = positions * self._parts
            low, high = np.ceil(positions - TOUCH) - 1, np.floor(positions + TOUCH)
        elif self._cells:
            low = high = np.floor(positions + 0.5)
        else:
            low, high = np.floor(positions + TOLERANCE), np.ceil(positions - TOLERANCE)
        low, high = (np.clip(end, 0, last).astype(np.int64) for end in (low, high))
        return (low, low) if np.array_equal(low, high) else (low, high)

    def _bits(self, index: np.ndarray, array: int) -> np.ndarray:
        """The bits at indices (n, 3), each looked up in the brick that has it."""
        bricks = self._layout.owner((index + 0.5) / self._parts if self._parts else index)
        found = np.ones(len(index), dtype=bool)
        order = np.argsort(bricks, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(bricks[order])) + 1):
            if not len(rows):
                continue
            brick = int(bricks[rows[0]])
            mask = self._mask(brick)
            if mask is not None:
                x, y, z = (index[rows] - mask_region(self._layout, brick, self._kind).start).T
                found[rows] = mask[array, z, y, x]
        return found

    def _box(self, region: Region, array: int) -> np.ndarray:
        """The bits of a box, put together from its bricks."""
        box = np.ones(region.shape_zyx, dtype=bool)
        ends = np.array([region.start, [b - 1 for b in region.stop]], dtype=np.float64)
        ends = (ends + 0.5) / self._parts if self._parts else ends
        ranges = [self._layout.along(axis, ends[:, axis]) for axis in range(3)]
        for place in itertools.product(*(range(a, b + 1) for a, b in ranges)):
            brick = int(self._layout.number(*place))
            mask, own = self._mask(brick), mask_region(self._layout, brick, self._kind)
            start = [max(a, b) for a, b in zip(region.start, own.start)]
            stop = [min(a, b) for a, b in zip(region.stop, own.stop)]
            if mask is not None and all(a < b for a, b in zip(start, stop)):
                target = tuple(slice(a - f, b - f) for a, b, f in zip(start, stop, region.start))[::-1]
                source = tuple(slice(a - f, b - f) for a, b, f in zip(start, stop, own.start))[::-1]
                box[target] = mask[array][source]
        return box

    def _mask(self, brick: int) -> np.ndarray | None:
        if brick not in self._held:
            self._held[brick] = self._read(brick)
            while len(self._held) > 1 and sum(m.size for m in self._held.values() if m is not None) > MOST_BYTES:
                self._held.popitem(last=False)
        return self._held[brick]
