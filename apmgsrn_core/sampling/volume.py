"""A trained model as a volume; how it is sampled is in `sampled_volume.py`."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch

from ..file.model_file import ModelFile
from ..file.network_reader import read_macrocells
from ..file.weights import brick_config
from ..network.feature_grids import FeatureGrid, feature_grids_of
from ..network.model import Network
from ..rendering.macrocells import Macrocells
from .failed_device import guarded
from .sampled_volume import SampledVolume
from .volume_step import VolumeStep

logger = logging.getLogger(__name__)

STEPS = 3  # time steps whose networks are kept


class NeuralVolume(SampledVolume):
    """A model opened for sampling. Made by `open` or `from_bytes`.

    The network of a brick is read when it is first needed. A model of one brick is read at once, so that damage shows
    when it is opened.
    """

    def __init__(self, file: ModelFile, device: str | Sequence[str] = "auto", precision: str = "auto", bounded: bool = True):
        super().__init__(file.header, device, precision)
        self.bounded = bounded and file.header.bounded
        self._file, self._devices = file, self._devices[: self.layout.count]
        self._steps: OrderedDict[int, VolumeStep] = OrderedDict()
        bricks, times = self.layout.count, max(len(self.header.times), 1)
        where = ", ".join(map(str, self._devices))
        logger.info("opened %s: %d bricks, %d time steps, %s on %s", file.name, bricks, times, self.precision, where)
        if self.layout.count == 1:
            self.network(0)

    @classmethod
    def open(
        cls, path: str | os.PathLike, device: str | Sequence[str] = "auto", precision: str = "auto", bounded: bool = True
    ) -> "NeuralVolume":
        """Open a model file.

        Args:
            path: Of the file.
            device: As `devices_of_rank` takes it, or several; the bricks are dealt among them.
            precision: "full" (what "auto" stands for in sampling): fp32; "fast": half precision in the decoder's
                products where the device is faster with it.
            bounded: Whether a model with an error bound keeps it; False: its networks alone.

        Raises:
            ModelFileError: Missing, foreign or damaged.
            DeviceError: The device cannot be used.
        """
        return cls(ModelFile(path), device, precision, bounded)

    @classmethod
    def from_bytes(
        cls, data: bytes, device: str | Sequence[str] = "auto", name: str = "model", precision: str = "auto", bounded: bool = True
    ) -> "NeuralVolume":
        """Open the bytes of a model file; messages call it `name`."""
        return cls(ModelFile(data, name), device, precision, bounded)

    def macrocells(self, field: str | None = None, time: float | None = None) -> Macrocells | None:
        """See `SampledVolume.macrocells`."""
        step = self.step_at(time)
        if self.bounded and any(self.header.bounds[step]):
            return None  # those of the networks are not of the values
        return read_macrocells(self._file, self._step(step).field(field)[0], step)

    def _begin_anew(self) -> None:
        self._steps.clear()

    @guarded
    def network(self, brick: int, step: int = 0) -> Network:
        """The network of a brick at a time step, on its device. Raises ModelFileError when it is missing or damaged."""
        return self._step(step).sampler.network(brick)

    @property
    def networks(self) -> list[Network]:
        """The networks of all bricks at the first time step, all of them read."""
        return [self.network(brick) for brick in range(self.layout.count)]

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

    def _step(self, step: int) -> VolumeStep:
        """A time step; the last used ones are kept."""
        if step not in self._steps:
            self._steps[step] = VolumeStep.of_file(self._file, step, self._devices, self.precision, self.bounded)
            while len(self._steps) > STEPS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(step)
        return self._steps[step]
