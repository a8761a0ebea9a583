"""Macrocells in a section of a model file.

The bytes are one record an array, in their order: uint32 length, and so many bytes of `Macrocells.to_bytes`. The ranges are
those of the stored network's scaled outputs in the box of its brick (see `brick_macrocells.py`), of an array of several
components of its magnitude. They take a small share of the section; one that is too small for the coarsest of them has none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..bricks.coordinates import BrickCoordinates
from ..data.array_spec import columns_of
from ..data.array_values import in_unit, normalised
from ..errors import ModelFileError
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..kernels import kernel_for
from ..network.model import Network
from .brick_macrocells import BrickBoxes
from .macrocells import Macrocells, counts_of, places_along
from .ray_field import scalar_of

SHARE = 0.04  # of the section's bytes
# Cells along an axis at most, and levels of their ends, tried in turn. Fewer levels buy more cells, which save more: of the bytes
# of 16 cells at 255 levels, 24 at 31 save 8 to 29 % of the evaluations (three real volumes).
CHOICES = ((32, 31), (24, 31), (24, 15), (16, 63), (16, 31), (12, 31), (8, 31), (6, 31), (4, 31), (2, 31))
MOST_VALUES = 1 << 22  # sampled
LENGTH = struct.Struct("<I")


def pack_macrocells(
    network: Network, grid: Grid, arrays: Sequence[ArrayInfo], size: int, layout: BrickLayout | None = None, brick: int = 0
) -> np.ndarray | None:
    """The ranges of a network over its brick.

    Args:
        network: As it is stored, on the CPU.
        grid: Of the model.
        arrays: What it puts out.
        size: Bytes of the section without them.
        layout: Of the model; None: one brick.
        brick: Of the network.

    Returns:
        (n,) uint8 with n at most SHARE of `size`; None: they would be larger, or the lattice is flat.
    """
    layout = layout or BrickLayout(grid.value_dims)
    if min(grid.dims) < 2 or SHARE * size < 32 * len(arrays):
        return None
    positions, places = _lattice(layout, grid, brick)
    coordinates, place = BrickCoordinates(layout), layout.place(brick)
    axes = [torch.from_numpy(coordinates.along(axis, part, positions[axis])) for axis, part in enumerate(place)]
    outputs = kernel_for(network).lattice(network, *axes).numpy()
    scaled = [_scaled(outputs[..., own], info) for own, info in zip(columns_of(arrays), arrays)]
    own_dims = [int(n) + 1 for n in np.subtract(layout.core(brick).stop, layout.core(brick).start)]
    known, cells = 0, []
    for most, levels in CHOICES:
        if most != known:
            known, cells = most, [Macrocells.of_values(values, places, counts_of(own_dims, most)) for values in scaled]
        data = b"".join(LENGTH.pack(len(record)) + record for record in (own.to_bytes(levels) for own in cells))
        if len(data) <= SHARE * size:
            return np.frombuffer(data, np.uint8)
    return None


def _lattice(layout: BrickLayout, grid: Grid, brick: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Along x, y, z the positions of a lattice over a brick's values, at twice their resolution as far as MOST_VALUES allows,
    and their places in the brick's box."""
    core = layout.core(brick)
    finer = min(2.0, (MOST_VALUES / core.count) ** (1 / 3))
    positions, places = [], []
    for axis, (start, stop, box) in enumerate(zip(core.start, core.stop, BrickBoxes(layout, grid).box(brick))):
        along = np.linspace(start, stop - 1, max(round((stop - 1 - start) * finer) + 1, 2))
        positions.append(along)
        places.append((places_along(grid, axis, along) - box[0]) / (box[1] - box[0]))
    return positions, places


def macrocell_records(data: np.ndarray, count: int, what: str) -> list[bytes]:
    """What `Macrocells.from_bytes` takes, of so many arrays. Raises ModelFileError, which calls the section `what`."""
    data, found, first = data.tobytes(), [], 0
    for _ in range(count):
        if len(data) < first + LENGTH.size:
            raise ModelFileError(f"{what}: expected macrocells of {count} arrays, found {len(found)}")
        stop = first + LENGTH.size + LENGTH.unpack_from(data, first)[0]
        found.append(data[first + LENGTH.size : stop])
        first = stop
    if first != len(data):
        raise ModelFileError(f"{what}: expected {first} bytes of macrocells, found {len(data)}")
    return found


def _scaled(outputs: np.ndarray, info: ArrayInfo) -> np.ndarray:
    """Outputs [z, y, x, component] of an array -> scaled values [z, y, x] float32 as a `RayField` has them."""
    if info.components == 1:
        return outputs[..., 0]
    magnitude = np.linalg.norm(in_unit(outputs, info, np.dtype(np.float64)), axis=-1)
    return normalised(magnitude, scalar_of(info)).astype(np.float32)
