"""A rendered picture: colours, depths, and a PNG of them."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from ..file.model_writer import write_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """What a renderer gives.

    Attributes:
        rgba: [h, w, 4] float32 from 0 to 1, straight alpha; the row at the bottom first.
        depth: [h, w] float32, distance from the eye's plane along the direction of view: the mean of what a ray has
            seen, by its share of the colour, or where it hit the first surface, or had its maximum; NaN where nothing was seen.
        samples: Evaluations of the networks so far.
        share: Of the pixels that have been rendered; 1: all, the others are filled with their neighbours.
        largest: [h, w] float32, of a picture of maxima: the scaled values, by which those of parts are put together; -inf where
            there are none. None for others.
    """

    rgba: np.ndarray
    depth: np.ndarray
    samples: int
    share: float = 1.0
    largest: np.ndarray | None = None

    def over(self, background) -> "Picture":
        """The same before a background (red, green, blue), opaque."""
        alpha = self.rgba[..., 3:]
        colour = self.rgba[..., :3] * alpha + np.asarray(background, dtype=np.float32) * (1 - alpha)
        return Picture(np.concatenate([colour, np.ones_like(alpha)], axis=2), self.depth, self.samples, self.share)

    def bytes(self) -> np.ndarray:
        """[h, w, 4] uint8, the row at the bottom first."""
        return np.rint(self.rgba.clip(0, 1) * 255).astype(np.uint8)

    def save(self, path: str | os.PathLike) -> None:
        """Write a PNG with alpha, the row at the top first, whole or not at all. Raises ModelFileError when it cannot be written.

        Source: PNG specification, third edition, W3C: chunks IHDR, IDAT, IEND; filter type 0.
        """
        rows = self.bytes()[::-1]
        height, width = rows.shape[:2]
        data = np.concatenate([np.zeros((height, 1), np.uint8), rows.reshape(height, -1)], axis=1).tobytes()
        header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
        chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data, 6)) + _chunk(b"IEND", b"")
        write_bytes(path, SIGNATURE + chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
