"""Keeping the values of bricks within error bounds: a network with a residual, or a residual that has all to say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data.array_spec import columns_of
from ..data.array_values import in_unit, normalised
from ..errors import ConfigError
from ..file.manifest import ArrayInfo
from ..file.weights import pack_section, round_to_stored, with_residual
from ..residual.residual_coding import BrickResidual
from ..training.volume_job import VolumeJob
from .budget import constant_model
from .coordinates import BrickCoordinates
from .storage import StoredNetwork, network_of_one_value


@dataclass(frozen=True)
class BoundNetwork:
    """A network whose section has a residual, and the errors of each array with it, see `CodedResidual`."""

    stored: StoredNetwork
    errors: tuple[float, ...]
    own_errors: tuple[float, ...]


class BrickBounds:
    """The error bounds of a job.

    Args:
        arrays: Of the job, with their ranges.
        bounds: Of each array in its unit; 0: none.
    """

    def __init__(self, job: VolumeJob, arrays: tuple[ArrayInfo, ...], bounds: tuple[float, ...]):
        self._job, self._arrays, self._bounds = job, arrays, bounds
        self._coordinates = BrickCoordinates(job.layout)

    def __bool__(self) -> bool:
        return any(self._bounds)

    def held(self, brick: int, values: np.ndarray, stored: StoredNetwork, mask: np.ndarray | None) -> BoundNetwork:
        """The smaller one of two ways to keep a brick within its bounds: with its network, or without one.

        Args:
            values: [z, y, x] or [z, y, x, component] of the brick.
            stored: Its network, without macrocells.
            mask: Packed, of the brick.

        Raises:
            ConfigError: The bound is too tight for both.
        """
        values = values.reshape(*values.shape[:3], -1)
        residual = BrickResidual(values, self._arrays, self._bounds, self._coordinates, brick)
        options = [self._option(stored, residual, False)]
        if not self._job.series and self._all_bound():  # the networks of a series are the same at all time steps
            options.append(self._option(self._without_network(brick, values, mask), residual, True))
        found = [option for option in options if option is not None]
        if not found:
            self._too_tight()
        return min(found, key=lambda option: len(option.stored.section))

    def _all_bound(self) -> bool:
        """Whether a residual can have all to say: of an array that is not bound it says nothing."""
        return all(bound or info.range[0] == info.range[1] for bound, info in zip(self._bounds, self._arrays))

    def of_one_value(self, brick: int, outputs: tuple[float, ...], stored: StoredNetwork) -> BoundNetwork:
        """A brick whose network puts out one number for each component, as its values are."""
        infos = [info for info in self._arrays for _ in range(info.components)]
        values = [in_unit(np.array(v), info, np.dtype(np.float64)) for v, info in zip(outputs, infos)]
        shape = (*self._job.layout.trained(brick).shape_zyx, len(values))
        residual = BrickResidual(
            np.broadcast_to(np.array(values), shape), self._arrays, self._bounds, self._coordinates, brick
        )  # fmt: skip
        return self._option(stored, residual, True) or self._too_tight()

    def _too_tight(self):
        raise ConfigError(f"error_bound of {self._job.name}: expected one that float32 can be held to, found {self._bounds}")

    def _without_network(self, brick: int, values: np.ndarray, mask: np.ndarray | None) -> StoredNetwork:
        """A network of the mean values; what the brick has beyond that is for the residual."""
        mean = []
        for info, own in zip(self._arrays, columns_of(self._arrays)):
            for column in range(own.start, own.stop):
                scaled = normalised(values[..., column], info)
                there = np.isfinite(scaled)
                mean.append(float(scaled[there].mean()) if there.any() else 0.0)
        grid = self._job.layout.grid_of(brick, self._job.grid)
        network = round_to_stored(network_of_one_value(constant_model(self._job.components, grid), tuple(mean)))
        return StoredNetwork(network, pack_section(network, mask), "none")

    @staticmethod
    def _option(stored: StoredNetwork, residual: BrickResidual, constant: bool) -> BoundNetwork | None:
        coded = residual.code(stored.network, constant)
        if coded is None:
            return None
        return BoundNetwork(replace(stored, section=with_residual(stored.section, coded.data)), coded.errors, coded.own_errors)
