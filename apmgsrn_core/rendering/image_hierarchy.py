"""A picture that is made from coarse to fine: which pixels come next, and what stands for those that are not there yet."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from .picture import Picture

COARSEST = 8  # pixels along a side that one stands for at first
EARLY = 0.7  # of the time between two pictures, from which on the next is shown
FIRST_RAYS = 1 << 14  # of a part whose speed is not known


class ImageHierarchy:
    """Pixels of a picture in parts.

    Args:
        size: Width and height.
        seconds: About, between two pictures; infinite: all pixels come in the largest parts.
        most_rays: In a part.
    """

    def __init__(self, size: tuple[int, int], seconds: float, most_rays: int):
        width, height = self._size = size
        self._seconds, self._most = seconds, max(most_rays, 1)
        self._colours = np.zeros((height, width, 4), np.float32)
        self._depth = np.full((height, width), np.nan, np.float32)
        self._largest: np.ndarray | None = None
        self._samples, self._done, self._stride = 0, 0, COARSEST
        self._first_level = len(self._level(COARSEST))
        self._rate, self._part_began, self._shown = 0.0, time.perf_counter(), time.perf_counter()
        self._looked_at = False

    def parts(self) -> Iterator[np.ndarray]:
        """(n,) flat numbers of the pixels to render next, until all have been."""
        if np.isinf(self._seconds):
            self._stride = 1
            pixels = np.arange(self._size[0] * self._size[1])
            yield from (pixels[a : a + self._most] for a in range(0, len(pixels), self._most))
            return
        stride = COARSEST
        while stride:
            self._stride, pixels, first = stride, self._level(stride), 0
            while first < len(pixels):
                part = pixels[first : first + self._rays_of_part()]
                first += len(part)
                yield part
                self._go_on()
            stride //= 2

    def _go_on(self) -> None:
        """The time that someone has looked at the last picture does not count."""
        if self._looked_at:
            self._shown = self._part_began = time.perf_counter()
            self._looked_at = False

    def put(self, pixels: np.ndarray, colours: np.ndarray, depth: np.ndarray, largest: np.ndarray | None, samples: int) -> None:
        """Take in a part: premultiplied colours (n, 4), depths (n,), of maxima their values (n,); `samples` so far."""
        if largest is not None and self._largest is None:
            self._largest = np.full(self._depth.shape, -np.inf, np.float32)
        row, column = np.divmod(pixels, self._size[0])
        for y in range(self._stride):
            for x in range(self._stride):
                there = (row + y < self._size[1]) & (column + x < self._size[0])
                at = row[there] + y, column[there] + x
                self._colours[at], self._depth[at] = colours[there], depth[there]
                if largest is not None:
                    self._largest[at] = largest[there]
        self._samples, self._done = samples, self._done + len(pixels)
        now = time.perf_counter()
        self._rate, self._part_began = len(pixels) / max(now - self._part_began, 1e-6), now

    def due(self) -> bool:
        """Whether it is time to show a picture that is not the last."""
        if self._done == self._size[0] * self._size[1]:
            return False
        late = time.perf_counter() - self._shown >= EARLY * self._seconds
        return np.isinf(self._seconds) or late or self._done == self._first_level

    def picture(self, background) -> Picture:
        """What there is, with straight alpha."""
        self._looked_at = True
        alpha = self._colours[..., 3:]
        rgba = np.concatenate([self._colours[..., :3] / np.maximum(alpha, 1e-12), alpha], axis=2)
        largest = None if self._largest is None else self._largest.copy()
        picture = Picture(rgba.clip(0, 1), self._depth.copy(), self._samples, self._done / self._depth.size, largest)
        return picture if background is None else picture.over(background)

    def _level(self, stride: int) -> np.ndarray:
        """The pixels of a stride that are not of a coarser one."""
        width, height = self._size
        row, column = np.meshgrid(np.arange(0, height, stride), np.arange(0, width, stride), indexing="ij")
        new = (row % (2 * stride) != 0) | (column % (2 * stride) != 0) | (stride == COARSEST)
        return (row * width + column)[new]

    def _rays_of_part(self) -> int:
        wanted = self._rate * self._seconds if self._rate else FIRST_RAYS
        return int(min(max(wanted, 256), self._most))
