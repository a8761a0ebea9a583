"""Boxes of values in smaller boxes; the order of axes is that of arrays, [z, y, x]."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..brick_layout import split_axis

Box = tuple[slice, ...]


def halved(box: Box, borders: Sequence[np.ndarray], most: int) -> Iterator[Box]:
    """Parts of at most so many values that tile a box: halved along the longest axis until they are small enough.

    Args:
        box: With numbers for start and stop.
        borders: For each axis sorted indices at which it had better be cut: the one nearest to the middle is taken.
        most: Values of a part, at least 1.
    """
    sizes = [part.stop - part.start for part in box]
    if math.prod(sizes) <= most:
        yield box
        return
    axis = int(np.argmax(sizes))
    start, stop = box[axis].start, box[axis].stop
    middle = (start + stop) // 2
    inner = borders[axis][(borders[axis] > start) & (borders[axis] < stop)]
    cut = int(inner[np.abs(inner - middle).argmin()]) if len(inner) else middle
    for half in (slice(start, cut), slice(cut, stop)):
        yield from halved((*box[:axis], half, *box[axis + 1 :]), borders, most)


def layered(shape: Sequence[int], most: int) -> Iterator[Box]:
    """Parts of at most so many values that tile a shape: equal stacks of layers, or of rows where one layer is more.

    A row is never cut. Nothing when the shape is empty.
    """
    depth, height, width = shape[:3]
    if 0 in (depth, height, width):
        return
    layers = max(1, most // (height * width))
    rows = max(1, most // width) if layers == 1 else height
    for z in _equal(depth, layers):
        for y in _equal(height, min(rows, height)):
            yield z, y, slice(0, width)


def _equal(count: int, most: int) -> list[slice]:
    """Slices of `count` that differ in length by at most one, each at most `most` long."""
    faces = split_axis(count, -(-count // most))
    return [slice(a, b) for a, b in zip(faces, faces[1:])]
