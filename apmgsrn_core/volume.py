"""A trained model as a volume: values anywhere, regions at any resolution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .array_values import in_unit
from .brick_networks import BrickNetworks
from .brick_sampling import PIECE, BrickSampler
from .bricks import BrickLayout
from .device import devices_of_rank, place_from_environment
from .errors import ApmgsrnError, DataError, FieldError
from .feature_grids import FeatureGrid, feature_grids_of
from .grid import Grid, Region
from .manifest import ArrayInfo, Header
from .model import Network
from .model_file import ModelFile
from .region_sampling import RegionSampling, value_positions
from .train_config import PRECISIONS
from .validation import check
from .weights import brick_config, read_network

OnProgress = Callable[[float], bool | None]


class NeuralVolume:
    """A model opened for sampling. Made by `open` or `from_bytes`.

    The network of a brick is read when it is first needed. A model of one brick is read at once, so that damage shows
    when it is opened.
    """

    def __init__(self, file: ModelFile, device: str | Sequence[str] = "auto", precision: str = "auto"):
        self.header: Header = file.header
        texts = [device] if isinstance(device, str) else device
        devices = [found for text in texts for found in devices_of_rank(text, place_from_environment())]
        check(devices, "device", "at least one", device)
        self.device = devices[0]
        check(precision in PRECISIONS, "precision", f"one of {PRECISIONS}", precision)
        self.precision = "full" if precision == "auto" else precision
        components = sum(a.components for a in self.arrays)

        def read(brick: int) -> Network:
            return read_network(file, brick, components)

        devices = devices[: self.layout.count]
        self._sampler = BrickSampler(self.layout, [BrickNetworks(read, d, self.precision) for d in devices])
        if self.layout.count == 1:
            self.network(0)

    @classmethod
    def open(
        cls, path: str | os.PathLike, device: str | Sequence[str] = "auto", precision: str = "auto"
    ) -> "NeuralVolume":
        """Open a model file.

        Args:
            path: Of the file.
            device: As `devices_of_rank` takes it, or several; the bricks are dealt among them.
            precision: "full" (what "auto" stands for in sampling): fp32; "fast": half precision in the decoder's
                products where the device is faster with it.

        Raises:
            ModelFileError: Missing, foreign or damaged.
            DeviceError: The device cannot be used.
        """
        return cls(ModelFile(path), device, precision)

    @classmethod
    def from_bytes(
        cls, data: bytes, device: str | Sequence[str] = "auto", name: str = "model", precision: str = "auto"
    ) -> "NeuralVolume":
        """Open the bytes of a model file; messages call it `name`."""
        return cls(ModelFile(data, name), device, precision)

    @property
    def grid(self) -> Grid:
        """The lattice that the model was trained on."""
        return self.header.grid

    @property
    def layout(self) -> BrickLayout:
        """How the values of the grid are cut into bricks."""
        return self.header.layout

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

    def network(self, brick: int) -> Network:
        """The network of a brick, on its device. Raises ModelFileError when it is missing or damaged."""
        return self._sampler.network(brick)

    @property
    def networks(self) -> list[Network]:
        """The networks of all bricks, all of them read."""
        return [self.network(brick) for brick in range(self.layout.count)]

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
        for first in range(0, len(inside), PIECE):
            rows = inside[first : first + PIECE]
            own = self.grid.world_to_index(points_xyz[rows])
            positions = np.stack(value_positions(self.grid, own.T), axis=1)
            values[rows] = in_unit(self._sampler.at_points(positions, columns), info, values.dtype)
        return values[:, 0] if info.components == 1 else values

    def sample_region(
        self,
        region: Region | None = None,
        grid: Grid | None = None,
        field: str | None = None,
        dtype: str = "float32",
        on_progress: OnProgress | None = None,
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

        def report(share: float) -> None:
            if on_progress is not None and on_progress(share) is False:
                raise ApmgsrnError("sampling was stopped")

        RegionSampling(self._sampler, self.grid, region, grid, info, columns).fill(result, report)
        return result[..., 0] if info.components == 1 else result

    def reconstruct(self, scale: float = 1, field: str | None = None) -> np.ndarray:
        """The whole volume at a resolution: values[z, y, x] or with a component axis, float32."""
        return self.sample_region(grid=self.grid.scaled(scale), field=field)

    def feature_grids(self, bricks: Iterable[int] | None = None) -> list[FeatureGrid]:
        """The box of each feature grid of some bricks (None: all) in the world; only these bricks are read."""
        manifest = self.header.manifest
        wanted = set(range(self.layout.count) if bricks is None else bricks)
        boxes, first = [], 0
        for brick in range(max(wanted, default=-1) + 1):
            if brick in wanted:
                boxes += feature_grids_of(self.network(brick), self.layout.grid_of(brick, self.grid), first, brick)
            config = brick_config(manifest, brick)
            first += config.number_of_grids + len(config.lattices)
        return boxes

    def _field(self, name: str | None) -> tuple[ArrayInfo, slice]:
        first = 0
        for info in self.arrays:
            if name in (None, info.name):
                return info, slice(first, first + info.components)
            first += info.components
        raise FieldError(f"array {name!r} is not in the model; it has {', '.join(a.name for a in self.arrays)}")
