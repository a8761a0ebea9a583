"""What is trained of a mesh: values at scattered positions, and which voxels of the model's lattice the mesh covers.

The lattice of such a model is no data of its own: it is the box that the network covers, cut into bricks as any other, and
its voxels (the cells between its points), perhaps cut along each axis, are the bits of the mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..brick_layout import BrickLayout
from ..bricks.survey import BrickSummary, sampled_rows
from ..distributed import Communicator
from ..errors import DataError
from ..grid import Grid
from ..region import Region
from .array_spec import ArraySpec, columns_of
from .mask import VOXELS, mask_region, pack_mask, voxel_parts, voxel_region
from .pieces import common_region


@dataclass(frozen=True)
class MeshValues:
    """The samples of a region.

    Attributes:
        positions: (n, 3) float64, counting the points of the lattice of the whole domain.
        values: (n, C) floating-point, the components of all arrays one after the other.
        covered: bool [z, y, x], the voxels of the region that meet the mesh.
    """

    positions: np.ndarray
    values: np.ndarray
    covered: np.ndarray

    @property
    def nbytes(self) -> int:
        """Of all arrays."""
        return self.positions.nbytes + self.values.nbytes + self.covered.nbytes


def survey_mesh_brick(
    mesh: MeshValues, layout: BrickLayout, brick: int, arrays: tuple[ArraySpec, ...], kind: str
) -> BrickSummary:
    """Look at the samples of a brick; see `brick_survey.survey_brick`. Values that are missing are those not finite; `kind`: of the
    voxels, see `mask.KINDS`."""
    ranges, details, missing = [], [], 0
    for columns in columns_of(arrays):
        part = mesh.values[:, columns]
        finite = part[np.isfinite(part)]
        missing += part.size - finite.size
        ranges.append((float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf))
        details.append(float(np.abs(finite - np.median(finite)).sum()) if finite.size else 0.0)
    digest = hashlib.sha256()
    for array in (mesh.positions, mesh.values, mesh.covered):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    rows = sampled_rows(len(mesh.values), layout.count)
    core, first = mask_region(layout, brick, kind), voxel_region(layout.trained(brick), voxel_parts(kind)).start
    covered = mesh.covered[tuple(slice(a - f, b - f) for a, b, f in zip(core.start, core.stop, first))[::-1]]  # without ghosts
    mask = pack_mask(np.broadcast_to(covered, (len(arrays), *covered.shape)))
    return BrickSummary(
        tuple(ranges), missing, tuple(details), digest.hexdigest(), mesh.values[rows].astype(np.float64), mask
    )


class MeshPieces:
    """The samples of all ranks, each those of its part of a mesh (collective).

    Args:
        positions: (n, 3) world positions.
        values: (n, C) floating-point.
        covered: bool [z, y, x] of the voxels of the whole lattice that meet this rank's part, or of voxels cut in 2, 3 or 4
            along each axis with more than one point; equally fine on all ranks.
        grid: The lattice.
        communicator: The ranks.
        mask: How fine the voxels of the time steps before are, which these are made too; None: there are no steps before.

    Attributes:
        mask: How fine the voxels are, see `mask.KINDS`.

    Raises:
        DataError: On all ranks, when shapes do not fit together on one.
    """

    def __init__(
        self, positions: np.ndarray, values: np.ndarray, covered: np.ndarray, grid: Grid, communicator: Communicator,
        mask: str | None = None,
    ):  # fmt: skip
        self._communicator, self._grid = communicator, grid
        communicator.together(lambda: _check(positions, values, covered, grid))
        index = grid.world_to_index(positions)
        self._positions = np.clip(index, 0, np.array(grid.dims) - 1)
        self._values = values
        self._covered, self._parts = _anywhere(covered, communicator), _parts_of(covered, grid)
        if mask in VOXELS and voxel_parts(mask) != self._parts:
            self._covered = _resampled(self._covered, self._parts, voxel_parts(mask), grid)
            self._parts = voxel_parts(mask)
        self.mask = VOXELS[self._parts - 1]

    def owners(self, layout: BrickLayout) -> np.ndarray:
        """The rank that trains each brick, (count,)."""
        return layout.ranks(self._communicator.size)

    def fetch(self, wanted: Region | None) -> MeshValues | Exception | None:
        """The samples of a region that this rank wants, from all ranks (collective); None for None."""
        regions = self._communicator.everywhere(wanted)
        outgoing = [[] if region is None else self._inside(region) for region in regions]
        incoming = self._communicator.exchange(outgoing)
        if wanted is None:
            return None
        try:
            positions, values = (np.concatenate(parts) for parts in zip(*(part for part in incoming if part)))
            return MeshValues(positions, values, self._covered_in(wanted))
        except MemoryError as error:  # told to all ranks by who asked
            return error

    def _inside(self, region: Region) -> list[np.ndarray]:
        """Positions and values of this rank's samples in a region, its faces included."""
        stop = np.array(region.stop) - 1
        rows = ((self._positions >= region.start) & (self._positions <= stop)).all(axis=1)
        return [self._positions[rows], self._values[rows]]

    def _covered_in(self, region: Region) -> np.ndarray:
        box = common_region(voxel_region(region, self._parts), Region((0, 0, 0), self._covered.shape[::-1]))
        return self._covered[tuple(slice(a, b) for a, b in zip(box.start, box.stop))[::-1]]


def voxel_dims(grid: Grid, parts: int = 1) -> tuple[int, int, int]:
    """Cells between the points of a lattice along x, y, z, each cut in `parts`; a flat axis has one."""
    return voxel_region(grid.region, parts).stop


def _parts_of(covered: np.ndarray, grid: Grid) -> int:
    """Into how many voxels are cut along an axis; 0: they are none of the grid."""
    return next((n for n in range(1, len(VOXELS) + 1) if covered.shape == voxel_dims(grid, n)[::-1]), 0)


def finest_cover(
    cover: Callable[[int], np.ndarray], parts: Sequence[int], most_bytes: float, communicator: Communicator
) -> np.ndarray:
    """The covered voxels of all ranks, as fine as their mask is short (collective).

    Args:
        cover: Into how many the voxels are cut along an axis -> bool [z, y, x] of this rank's part.
        parts: These numbers, falling; the last one is taken however long its mask is.
        most_bytes: Of a mask.

    Returns:
        bool [z, y, x], the same on all ranks.
    """
    for number in parts:
        covered = _anywhere(communicator.together(lambda: cover(number)), communicator)
        if _mask_bytes(covered) <= most_bytes:
            break
    return covered


def _anywhere(covered: np.ndarray, communicator: Communicator) -> np.ndarray:
    """Voxels that are covered on one of the ranks."""
    if communicator.size == 1:
        return covered
    packed = np.bitwise_or.reduce(communicator.everywhere(np.packbits(covered)))
    return np.unpackbits(packed, count=covered.size).astype(bool).reshape(covered.shape)


def _mask_bytes(covered: np.ndarray) -> int:
    packed = pack_mask(covered[None])
    return 0 if packed is None else packed.size


def _resampled(covered: np.ndarray, parts: int, wanted: int, grid: Grid) -> np.ndarray:
    """Covered voxels cut in `parts` along an axis -> cut in `wanted`; those that a covered one overlaps."""
    for axis, n in enumerate(grid.dims[::-1]):
        if n > 1:
            fine = np.repeat(covered, wanted, axis)
            shape = (*fine.shape[:axis], (n - 1) * wanted, parts, *fine.shape[axis + 1 :])
            covered = fine.reshape(shape).any(axis=axis + 1)
    return covered


def _check(positions: np.ndarray, values: np.ndarray, covered: np.ndarray, grid: Grid) -> None:
    """Raise DataError when the samples do not fit together or to the lattice."""
    if positions.ndim != 2 or positions.shape[1] != 3 or values.ndim != 2 or len(values) != len(positions):
        raise DataError(f"samples: expected positions (n, 3) and values (n, C), found {positions.shape} and {values.shape}")
    if values.dtype.kind != "f":
        raise DataError(f"samples: expected floating-point values, found {values.dtype}")
    if covered.dtype != bool or not _parts_of(covered, grid):
        raise DataError(
            f"covered voxels: expected bool of shape {voxel_dims(grid)[::-1]}, or cut in 2 to {len(VOXELS)} along each axis,"
            f" found {covered.dtype} {covered.shape}"
        )
