"""A trained model as a volume: values anywhere, regions at any resolution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .train_config import PRECISIONS
from .device import resolve_device
from .errors import ApmgsrnError, DataError, FieldError, ModelFileError
from .grid import Grid, Region, unit_box_corners
from .kernels import kernel_for
from .model import evaluate
from .model_file import ArrayInfo, Header, ModelFile
from .validation import check
from .weights import read_network

CHUNK = 1 << 18  # points evaluated at a time


@dataclass(frozen=True)
class FeatureGrid:
    """A feature grid's box: corners (8, 3) in world coordinates in the order of VTK_HEXAHEDRON, volume in the data
    set's length unit cubed, L2 norm of its features."""

    id: int
    corners: np.ndarray
    volume: float
    norm: float


class NeuralVolume:
    """A model opened for sampling. Made by `open` or `from_bytes`."""

    def __init__(self, file: ModelFile, device: str = "auto", precision: str = "auto"):
        self.header: Header = file.header
        self.device = resolve_device(device)
        check(precision in PRECISIONS, "precision", f"one of {PRECISIONS}", precision)
        self.precision = "full" if precision == "auto" else precision
        components = sum(a.components for a in file.header.arrays)
        self.networks = [
            read_network(file, brick, components).to(self.device)
            for brick in range(len(file.header.manifest["bricks"]))
        ]
        if len(self.networks) != 1:
            raise ModelFileError(f"{file.name}: {len(self.networks)} bricks; this version reads models of one brick")

    @classmethod
    def open(cls, path: str | os.PathLike, device: str = "auto", precision: str = "auto") -> "NeuralVolume":
        """Open a model file.

        Args:
            path: Of the file.
            device: As `resolve_device` takes it.
            precision: "full" (what "auto" stands for in sampling): fp32; "fast": half precision in the decoder's products
                where the device is faster with it.

        Raises:
            ModelFileError: Missing, foreign or damaged.
            DeviceError: The device cannot be used.
        """
        return cls(ModelFile(path), device, precision)

    @classmethod
    def from_bytes(
        cls, data: bytes, device: str = "auto", name: str = "model", precision: str = "auto"
    ) -> "NeuralVolume":
        """Open the bytes of a model file; messages call it `name`."""
        return cls(ModelFile(data, name), device, precision)

    @property
    def grid(self) -> Grid:
        """The lattice that the model was trained on."""
        return self.header.grid

    @property
    def arrays(self) -> tuple[ArrayInfo, ...]:
        """What the model holds."""
        return self.header.arrays

    @property
    def times(self) -> tuple[float, ...]:
        """Time steps; () when the data had no time."""
        return self.header.times

    @property
    def key(self) -> str:
        """The training's key, see `training_key`."""
        return self.header.key

    def sample_points(self, points_xyz: np.ndarray, field: str | None = None) -> np.ndarray:
        """Evaluate the volume at world positions.

        Args:
            points_xyz: (n, 3) world coordinates in the data set's length unit.
            field: Name of the array; the first one when None.

        Returns:
            (n,) or (n, components) float32 in the array's own unit; NaN outside the domain.

        Raises:
            FieldError: No such array; the message lists those there are.
            DataError: `points_xyz` has another shape.
        """
        points_xyz = np.asarray(points_xyz, dtype=np.float64)
        if points_xyz.ndim != 2 or points_xyz.shape[1] != 3:
            raise DataError(f"points: expected shape (n, 3), found {points_xyz.shape}")
        info, columns = self._field(field)
        values = np.full((len(points_xyz), info.components), np.nan, dtype=np.float32)
        inside = np.flatnonzero(self.grid.contains(points_xyz))
        for first in range(0, len(inside), CHUNK):
            rows = inside[first : first + CHUNK]
            normalised = self.grid.index_to_normalised(self.grid.world_to_index(points_xyz[rows]))
            values[rows] = _to_type(self._evaluate(normalised, info, columns), values.dtype)
        return values[:, 0] if info.components == 1 else values

    def sample_region(
        self,
        region: Region | None = None,
        grid: Grid | None = None,
        field: str | None = None,
        dtype: str = "float32",
        on_progress: Callable[[float], bool | None] | None = None,
    ) -> np.ndarray:
        """Evaluate a box of a lattice, in bounded memory beside the result.

        Args:
            region: Value indices of `grid`; all of it when None.
            grid: The lattice; the model's own when None (`grid.scaled(2)` for twice the resolution).
            field: Name of the array; the first one when None.
            dtype: "float32", or "original": the array's own type, rounded and clamped to what it can hold.
            on_progress: Called with the share done; returning False stops with an ApmgsrnError.

        Returns:
            values[z, y, x] or [z, y, x, component]; NaN outside the domain (0 in integers).

        Raises:
            FieldError: No such array. DataError: the region is not inside the lattice, or an unknown dtype.
        """
        grid = grid or self.grid
        region = region or grid.region
        info, columns = self._field(field)
        if any(a < 0 or b > n for a, b, n in zip(region.start, region.stop, grid.value_dims)):
            raise DataError(f"region {region.start} to {region.stop} is not inside the lattice of {grid.value_dims}")
        if dtype not in ("float32", "original"):
            raise DataError(f"dtype: expected 'float32' or 'original', found {dtype!r}")
        kind = np.dtype(info.dtype if dtype == "original" else "float32")
        result = np.empty((*region.shape_zyx, info.components), dtype=kind)
        axes = self._own_axes(region, grid)
        sample = self._sample_turned if axes is None else self._sample_aligned
        for slab in _slabs(region.shape_zyx):
            result[slab] = _to_type(sample(slab, region, grid, axes, info, columns), kind).reshape(result[slab].shape)
            depth, height, _ = region.shape_zyx
            done = ((slab[0].stop - 1) * height + slab[1].stop) / (depth * height)
            if on_progress is not None and on_progress(done) is False:
                raise ApmgsrnError("sampling was stopped")
        return result[..., 0] if info.components == 1 else result

    def _own_axes(self, region: Region, grid: Grid) -> list[np.ndarray] | None:
        """The model's own index coordinates of a region along x, y, z; None when the lattices are turned against each
        other, so that a position depends on all three indices."""
        if not np.allclose(grid.direction, self.grid.direction, rtol=0, atol=1e-12):
            return None
        axes = []
        for axis, positions in enumerate(_positions(region, grid)):
            index = np.zeros((len(positions), 3))
            index[:, axis] = positions
            axes.append(self.grid.world_to_index(grid.index_to_world(index))[:, axis])
        return axes

    def _sample_aligned(self, slab, region, grid, axes, info: ArrayInfo, columns: slice) -> np.ndarray:
        """Values of a slab as a lattice of the model's own coordinates; NaN outside."""
        own = [axis[part] for axis, part in zip(axes, slab[::-1])]
        normalised = []
        for axis, index in enumerate(own):
            column = np.zeros((len(index), 3))
            column[:, axis] = index
            points = self.grid.index_to_normalised(column)[:, axis].clip(-1.0, 1.0).astype(np.float32)
            normalised.append(torch.from_numpy(points).to(self.device))
        kernel = kernel_for(self.networks[0], self.precision)
        values = self._in_unit(kernel.lattice(self.networks[0], *normalised), info, columns)
        for axis, index in enumerate(own):
            outside = (index < -1e-6) | (index > self.grid.dims[axis] - 1 + 1e-6)
            np.moveaxis(values, 2 - axis, 0)[outside] = np.nan
        return values

    def _sample_turned(self, slab, region, grid, axes, info: ArrayInfo, columns: slice) -> np.ndarray:
        """Values of a slab point by point; NaN outside."""
        parts = [p[part] for p, part in zip(_positions(region, grid), slab[::-1])]
        z, y, x = np.meshgrid(*parts[::-1], indexing="ij")
        index = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1).astype(np.float64)
        own = self.grid.world_to_index(grid.index_to_world(index))
        values = self._evaluate(self.grid.index_to_normalised(own), info, columns)
        values[~self.grid.contains_index(own)] = np.nan
        return values

    def reconstruct(self, scale: float = 1, field: str | None = None) -> np.ndarray:
        """The whole volume at a resolution: values[z, y, x] or with a component axis, float32."""
        return self.sample_region(grid=self.grid.scaled(scale), field=field)

    def feature_grids(self) -> list[FeatureGrid]:
        """The box of each feature grid in the world; a global lattice's is the domain."""
        boxes = []
        for network in self.networks:
            transforms = iter(network.transforms.detach().cpu().double().numpy())
            for group in network.table.groups:
                features = group.features(network.features.detach())
                for norm in features.flatten(1).norm(dim=1).tolist():
                    transform = next(transforms) if group.entry.placed else np.eye(3, 4)
                    boxes.append(self._feature_grid(len(boxes), transform, norm))
        return boxes

    def _feature_grid(self, number: int, transform: np.ndarray, norm: float) -> FeatureGrid:
        normalised = np.linalg.solve(transform[:, :3], (unit_box_corners() - transform[:, 3]).T).T
        corners = self.grid.index_to_world(self.grid.normalised_to_index(normalised))
        edges = corners[[1, 3, 4]] - corners[0]
        return FeatureGrid(number, corners, abs(float(np.linalg.det(edges))), norm)

    def _field(self, name: str | None) -> tuple[ArrayInfo, slice]:
        first = 0
        for info in self.arrays:
            if name in (None, info.name):
                return info, slice(first, first + info.components)
            first += info.components
        raise FieldError(f"array {name!r} is not in the model; it has {', '.join(a.name for a in self.arrays)}")

    def _evaluate(self, normalised: np.ndarray, info: ArrayInfo, columns: slice) -> np.ndarray:
        """(n, 3) float64 normalised coordinates -> (n, components) float64 in the array's unit."""
        points = torch.from_numpy(normalised.astype(np.float32)).to(self.device)
        return self._in_unit(evaluate(self.networks, points, precision=self.precision), info, columns)

    def _in_unit(self, outputs: torch.Tensor, info: ArrayInfo, columns: slice) -> np.ndarray:
        """[..., outputs] of the network -> [..., components] float64 in the array's unit."""
        values = outputs[..., columns].cpu().numpy().astype(np.float64)
        low, high = info.range
        return values * (high - low) + low


def _slabs(shape_zyx: tuple[int, int, int]) -> Iterator[tuple[slice, ...]]:
    """Parts of at most CHUNK values that tile a shape: layers, or rows of a layer where one is larger than that."""
    depth, height, width = shape_zyx
    if 0 in shape_zyx:
        return
    rows = max(1, CHUNK // width)
    layers, rows = max(1, rows // height), min(rows, height)
    for z in range(0, depth, layers):
        for y in range(0, height, rows):
            yield slice(z, min(z + layers, depth)), slice(y, min(y + rows, height)), slice(0, width)


def _positions(region: Region, grid: Grid) -> list[np.ndarray]:
    """Index coordinates of a region's values along x, y and z."""
    centre = 0.0 if grid.association == "point" else 0.5
    return [
        np.arange(a, b) + (0.0 if n == 1 else centre) for a, b, n in zip(region.start, region.stop, grid.dims)
    ]


def _to_type(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """float64 -> the type, clamped to what it can hold; integers are rounded, and 0 where NaN."""
    if kind.kind == "f":
        return values.clip(np.finfo(kind).min, np.finfo(kind).max).astype(kind)  # NaN stays
    limits = np.iinfo(kind)
    rounded = np.rint(np.nan_to_num(values))
    clamped = rounded.clip(limits.min, limits.max).astype(np.float64)
    result = np.where(rounded >= limits.max, 0, clamped).astype(kind)
    return np.where(rounded >= limits.max, limits.max, result).astype(kind)
