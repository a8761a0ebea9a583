"""Any PyTorch scene representation network as a volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch

from ..bricks.networks import HeldNetwork
from ..bricks.sampling import BrickSampler
from ..errors import DeviceError
from ..kernels.memory import is_of_accelerator, is_short
from ..network.feature_grids import FeatureGrid
from ..sampling.failed_device import replace_device
from ..sampling.sampled_volume import SampledVolume
from ..sampling.volume_opening import open_header
from ..sampling.volume_step import VolumeStep
from .kernel import ForeignKernel
from .network_description import NetworkDescription
from .network_loading import device_of_network, load_network


class ForeignNetworks:
    """One foreign network in the place of `BrickNetworks`."""

    def __init__(self, network: Callable, kernel: ForeignKernel, device: torch.device):
        self.device, self._held = device, HeldNetwork(network, kernel, 0)

    def get(self, brick: int) -> HeldNetwork:
        """The network; there is one brick."""
        return self._held


class ForeignVolume(SampledVolume):
    """A network that a description names, opened for sampling like a `NeuralVolume`. Made by `open` or `open_volume`.

    Its derivatives are exact where the network has autograd, otherwise central differences: `derivatives` says which. It
    has no second derivatives, no time steps, no mask and no feature grids.
    """

    def __init__(
        self, description: NetworkDescription, device: str | Sequence[str] = "auto", precision: str = "auto",
        trust: bool = False,
    ):  # fmt: skip
        super().__init__(description, device, precision)
        if len(self._devices) > 1 and device != "auto":
            raise DeviceError(f"device: expected one, of a foreign network, found {len(self._devices)}")
        self._asked, self._trust = device, trust
        self.movable = description.source.kind != "registered"
        try:
            self._open()
        except Exception as error:
            if not (is_short(error) or is_of_accelerator(error)):
                raise
            replace_device(self, error, "opening")

    def _open(self) -> None:
        """The network, on the device."""
        network = load_network(self.header, self.device, self._trust)
        if not self.movable:
            self.device = device_of_network(network, self._asked, self.device)
        self._devices = [self.device]
        self._kernel = ForeignKernel(self.header, self.device, self.precision)
        self._kernel.probe(network)
        sampler = BrickSampler(self.layout, [ForeignNetworks(network, self._kernel, self.device)])
        self._only_step = VolumeStep(self.grid, self.arrays, sampler)

    def _begin_anew(self) -> None:
        self._open()

    @classmethod
    def open(
        cls, path: str | os.PathLike, device: str = "auto", precision: str = "auto", trust: bool = False
    ) -> "ForeignVolume":
        """Open the network of a description.

        Args:
            path: Of a `*.network.json`, or "registered:NAME".
            device: As `resolve_device` takes it.
            precision: "full", which "auto" stands for; "fast": half precision on a GPU, by `torch.autocast`.
            trust: Whether files that can run code are opened.

        Raises:
            TrustError: The file can run code, and is not trusted.
            ModelFileError: Missing, damaged, or a package that it needs is missing.
            DataError: The network does not do what its description says. DeviceError: the device cannot be used.
        """
        return cls(open_header(path), device, precision, trust)

    @property
    def derivatives(self) -> str:
        """Where first derivatives come from: "autograd" or "central differences"."""
        return self._kernel.method

    @property
    def function(self) -> Callable:
        """The network, on its device."""
        return self._only_step.sampler.network(0)

    def feature_grids(self, bricks: Iterable[int] | None = None) -> list[FeatureGrid]:
        """None: where a foreign network keeps its parameters is not known."""
        return []

    def _step(self, step: int) -> VolumeStep:
        return self._only_step
