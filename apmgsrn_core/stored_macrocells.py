"""Macrocells in a section of a model file.

The bytes are one record an array, in their order: uint32 length, and so many bytes of `Macrocells.to_bytes`. The ranges are
those of the stored network's scaled outputs, of an array of several components of its magnitude. They take a small share of
the section; a section that is too small for the coarsest of them has none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import torch

from .array_spec import columns_of
from .array_values import in_unit, normalised
from .errors import ModelFileError
from .grid import Grid
from .kernels import kernel_for
from .macrocells import Macrocells, counts_for, finer
from .manifest import ArrayInfo
from .model import Network
from .ray_field import scalar_of

SHARE = 0.04  # of the section's bytes
COUNTS = (16, 12, 8, 6)  # cells along an axis at most, tried in turn
MOST_VALUES = 1 << 22  # sampled
LENGTH = struct.Struct("<I")


def pack_macrocells(network: Network, grid: Grid, arrays: Sequence[ArrayInfo], size: int) -> np.ndarray | None:
    """The ranges of a network over the whole lattice.

    Args:
        network: As it is stored, on the CPU.
        grid: Of the model.
        arrays: What it puts out.
        size: Bytes of the section without them.

    Returns:
        (n,) uint8 with n at most SHARE of `size`; None: they would be larger, or the lattice is flat.
    """
    if min(grid.dims) < 2 or SHARE * size < 32 * len(arrays):
        return None
    lattice = finer(grid, MOST_VALUES)
    axes = [lattice.value_to_normalised(axis, np.arange(n)) for axis, n in enumerate(lattice.value_dims)]
    outputs = kernel_for(network).lattice(network, *(torch.from_numpy(a.astype(np.float32)) for a in axes)).numpy()
    scaled = [_scaled(outputs[..., own], info) for own, info in zip(columns_of(arrays), arrays)]
    for most in COUNTS:
        packed = [Macrocells.of_lattice(values, lattice, counts_for(grid, most)).to_bytes() for values in scaled]
        data = b"".join(LENGTH.pack(len(record)) + record for record in packed)
        if len(data) <= SHARE * size:
            return np.frombuffer(data, np.uint8)
    return None


def unpack_macrocells(data: np.ndarray, count: int, what: str) -> list[Macrocells]:
    """The ranges of so many arrays. Raises ModelFileError, which calls the section `what`."""
    data, found, first = data.tobytes(), [], 0
    for _ in range(count):
        if len(data) < first + LENGTH.size:
            raise ModelFileError(f"{what}: expected macrocells of {count} arrays, found {len(found)}")
        stop = first + LENGTH.size + LENGTH.unpack_from(data, first)[0]
        found.append(Macrocells.from_bytes(data[first + LENGTH.size : stop], what))
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
