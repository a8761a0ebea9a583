"""Sampling a volume that is made of networks: values anywhere, regions at any resolution, at any of its time steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..device import devices_of_rank, place_from_environment
from ..errors import ApmgsrnError, DataError
from ..file.manifest import ArrayInfo, Header
from ..grid import Grid, Region
from ..rendering.macrocells import Macrocells
from ..training.train_config import PRECISIONS
from ..validation import check
from .failed_device import guarded
from .time_interpolation import Shares, mixed, mixed_in_type, step_at, time_shares
from .volume_step import VolumeStep

OnProgress = Callable[[float], bool | None]


class SampledVolume(ABC):
    """What a `NeuralVolume` and a `ForeignVolume` have in common; they say by `_step` what a time step is.

    Args:
        header: What the volume says about itself.
        device: As `devices_of_rank` takes it, or several.
        precision: "auto", "full" or "fast".

    Raises:
        ConfigError: Another precision, or no device. DeviceError: the device cannot be used.
    """

    movable = True  # whether it can be evaluated on another device than it began on

    def __init__(self, header: Header, device: str | Sequence[str], precision: str):
        self.header = header
        texts = [device] if isinstance(device, str) else device
        found = [devices_of_rank(text, place_from_environment()) for text in texts]
        self._devices = [device for devices in found for device in devices]
        self._may_move = all(devices.automatic for devices in found)
        self.warnings: tuple[str, ...] = ()  # what went wrong and was mended
        check(self._devices, "device", "at least one", device)
        self.device = self._devices[0]
        check(precision in PRECISIONS, "precision", f"one of {PRECISIONS}", precision)
        self.precision = "full" if precision == "auto" else precision

    @property
    def devices(self) -> tuple:
        """Those that its bricks are evaluated on."""
        return tuple(self._devices)

    def move_to_cpu(self) -> bool:
        """Leave devices that were chosen automatically for the CPU, once: whether that goes."""
        moves, self._may_move = self._may_move and self.movable, False
        if moves:
            self._devices = [torch.device("cpu")]
            self.device = self._devices[0]
            self._begin_anew()
        return moves

    @abstractmethod
    def _begin_anew(self) -> None:
        """Forget what was opened on another device."""

    @abstractmethod
    def _step(self, step: int) -> VolumeStep:
        """A time step."""

    def macrocells(self, field: str | None = None, time: float | None = None) -> Macrocells | None:
        """The ranges of an array's scaled values that are stored for pictures; None when there are none.

        Raises:
            FieldError: No such array. ModelFileError: The section is damaged.
        """
        return None

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

    def step_at(self, time: float | None) -> int:
        """The number of the time step that a time belongs to: the last one that is not later, or the first."""
        return step_at(self.times, time)

    @guarded
    def sample_points(
        self, points_xyz: np.ndarray, field: str | None = None, time: float | None = None, between: bool = False
    ) -> np.ndarray:
        """Evaluate the volume at world positions.

        Args:
            points_xyz: (n, 3) world coordinates in the data set's length unit.
            field: Name of the array; the first one when None.
            time: Of the time step, see `step_at`; the first one when None.
            between: Whether values are interpolated linearly between two time steps.

        Returns:
            (n,) or (n, components) float32 in the array's own unit; NaN outside the domain and where the data had no value,
            between two steps in one of them.

        Raises:
            FieldError: No such array; the message lists those there are.
            DataError: `points_xyz` has another shape.
        """
        points_xyz = _checked(points_xyz)
        values = mixed(self._shares(time, between), lambda step: self._step(step).points(points_xyz, field))
        return values[:, 0] if values.shape[1] == 1 else values

    @guarded
    def sample_derivatives(
        self, points_xyz: np.ndarray, field: str | None = None, time: float | None = None, between: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and exact first derivatives at world positions; arguments and errors as `sample_points`.

        Returns:
            values (n, components) float32, and d value / d (x, y, z), (n, components, 3) float64 in the array's unit per
            length unit; NaN outside the domain and where the data had no value.
        """
        points_xyz, shares = _checked(points_xyz), self._shares(time, between)
        found = {step: self._step(step).derivatives(points_xyz, field) for step, _ in shares}
        return mixed(shares, lambda step: found[step][0]), mixed(shares, lambda step: found[step][1])

    @guarded
    def sample_second_derivatives(
        self, points_xyz: np.ndarray, field: str | None = None, time: float | None = None
    ) -> np.ndarray:
        """d^2 value / d (x, y, z)^2 at world positions, (n, components, 3, 3) float64; as `sample_derivatives`.

        Raises:
            FieldError: No such array, or the model interpolates linearly: its slopes jump, and have no derivative.
        """
        return self._step(self.step_at(time)).second_derivatives(_checked(points_xyz), field)

    @guarded
    def valid_points(
        self, points_xyz: np.ndarray, field: str | None = None, time: float | None = None, between: bool = False
    ) -> np.ndarray:
        """Whether an array has a value at world positions, between two steps in both: (n, 3) -> (n,) bool.

        Arguments and errors as `sample_points`.
        """
        points_xyz = _checked(points_xyz)
        return self._in_all_steps(time, between, lambda step: step.valid_points(points_xyz, field))

    @guarded
    def sample_region(
        self,
        region: Region | None = None,
        grid: Grid | None = None,
        field: str | None = None,
        dtype: str = "float32",
        on_progress: OnProgress | None = None,
        time: float | None = None,
        between: bool = False,
    ) -> np.ndarray:
        """Evaluate a box of a lattice, in bounded memory beside the result.

        Args:
            region: Value indices of `grid`; all of it when None.
            grid: The lattice; the model's own when None (`grid.scaled(2)` for twice the resolution). Its association says
                whether the positions are its points or its cells' centres.
            field: Name of the array; the first one when None.
            dtype: "float32", or "original": the array's own type, rounded and clamped to what it can hold.
            on_progress: Called with the share done; returning False stops with an ApmgsrnError.
            time, between: See `sample_points`.

        Returns:
            values[z, y, x] or [z, y, x, component]; NaN outside the domain and where the data had no value (0 in integers).

        Raises:
            FieldError: No such array. DataError: the region is not inside the lattice, or an unknown dtype.
        """
        grid, region = _inside(grid or self.grid, region)
        if dtype not in ("float32", "original"):
            raise DataError(f"dtype: expected 'float32' or 'original', found {dtype!r}")
        info = self._step(0).field(field)[1]
        kind = np.dtype(info.dtype if dtype == "original" else "float32")

        def report(share: float) -> None:
            if on_progress is not None and on_progress(share) is False:
                raise ApmgsrnError("sampling was stopped")

        shares = self._shares(time, between)

        def sample(step: int, sampled: np.dtype) -> np.ndarray:
            done = step - shares[0][0]
            return self._step(step).region(region, grid, field, sampled, lambda s: report((done + s) / len(shares)))

        result = mixed_in_type(shares, sample, kind)
        return result[..., 0] if info.components == 1 else result

    @guarded
    def valid_region(
        self, region: Region | None = None, grid: Grid | None = None, field: str | None = None, time: float | None = None,
        between: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Where an array has a value in a box of a lattice, between two steps in both: bool [z, y, x].

        Arguments and errors as `sample_region`.
        """
        grid, region = _inside(grid or self.grid, region)
        return self._in_all_steps(time, between, lambda step: step.valid_region(region, grid, field))

    def reconstruct(self, scale: float = 1, field: str | None = None) -> np.ndarray:
        """The whole volume at a resolution: values[z, y, x] or with a component axis, float32."""
        return self.sample_region(grid=self.grid.scaled(scale), field=field)

    def _shares(self, time: float | None, between: bool) -> Shares:
        return time_shares(self.times, time, between)

    def _in_all_steps(self, time: float | None, between: bool, valid: Callable[[VolumeStep], np.ndarray]) -> np.ndarray:
        """Where each of the steps that a time needs has a value."""
        return np.logical_and.reduce([valid(self._step(step)) for step, _ in self._shares(time, between)])


def _checked(points_xyz: np.ndarray) -> np.ndarray:
    """Positions as (n, 3) float64."""
    points_xyz = np.asarray(points_xyz, dtype=np.float64)
    if points_xyz.ndim != 2 or points_xyz.shape[1] != 3:
        raise DataError(f"points: expected shape (n, 3), found {points_xyz.shape}")
    return points_xyz


def _inside(grid: Grid, region: Region | None) -> tuple[Grid, Region]:
    """A lattice and a region of it, all of it when None."""
    region = region or grid.region
    if any(a < 0 or b > n for a, b, n in zip(region.start, region.stop, grid.value_dims)):
        raise DataError(f"region {region.start} to {region.stop} is not inside the lattice of {grid.value_dims}")
    return grid, region
