"""One step of a training, on the host's time: gradients, placement, Adam. `graph_step.GraphStep` is its twin on a GPU."""

from __future__ import annotations

import math

import torch

from ..kernels import kernel_for
from .density_placement import DensityPlacement
from .graph_step import GraphStep
from .history import RunningMean
from .optimizer import Adam, ParameterGroup
from .rate_term import RateTerm
from .train_config import TrainConfig


class HostStep:
    """Runs training steps of one network and reads their losses.

    Args:
        network: On its device.
        config: Resolved.
        values: Of the data, that the network stands for.

    Attributes:
        groups: Of features, decoder and, with `transform_gradient`, transforms; a schedule changes their `rate`.
        last_loss: Weighted mean squared error of the last step.
    """

    def __init__(self, network, config: TrainConfig, values: int = 0):
        self._network, self._kernel = network, kernel_for(network, config.precision)
        self._rate = RateTerm(network, config, self._kernel, values) if config.rate_bytes else None
        decoder = [p for n, p in network.named_parameters() if n not in ("features", "transforms")]
        self.groups = [ParameterGroup(p, config.learning_rate) for p in ([network.features], decoder)]
        if config.transform_gradient:
            self.groups.append(ParameterGroup([network.transforms], config.transform_learning_rate))
        self._optimizer = Adam(self.groups, config, self._kernel)
        published = config.placement == "published"
        self._density = DensityPlacement(network.transforms, config, self._kernel) if published else None
        self._mean = RunningMean()
        self.last_loss = math.nan

    @property
    def settled(self) -> bool:
        """Whether the published placement, if it is used, has converged."""
        return self._density is None or self._density.converged

    @property
    def lost(self) -> bool:
        """Whether the loss of the last step is no number."""
        return not math.isfinite(self.last_loss)

    def run(self, batch, direct: bool, progress: float) -> torch.Tensor:
        """One step.

        Args:
            batch: See `sampler.Batch`.
            direct: Whether the loss moves the grids through the interpolation.
            progress: Share of the training that is done: whether the published placement moves grids now.

        Returns:
            (n,) squared error of each point.
        """
        batch = batch.to(self._network.features.device)
        weights = batch.weights[:, 0]
        if self._rate is not None:
            self._rate.begin(progress, self.loss())
        squared_error = self._kernel.backward(self._network, batch.points, batch.targets, batch.weights, direct)
        if self._rate is not None:
            self._rate.end()
        share = float((weights > 0).float().mean())
        self.last_loss = float((squared_error * weights).mean())
        if share:
            self._mean.add(self.last_loss / share)
        if self._density is not None and self._density.active(progress) and share:
            valid = weights > 0
            self._density.step(batch.points[valid], squared_error[valid])
        self._optimizer.step()
        return squared_error

    @property
    def has_loss(self) -> bool:
        """Whether a batch had a value yet: of a brick that is hidden but for a few there may be none for long."""
        return self._mean.weight > 0

    def loss(self) -> float:
        """Running mean of the loss; NaN before the first value."""
        return self._mean.value

    def state(self) -> dict:
        """For a checkpoint; the network's parameters are not in it."""
        return {
            "optimizer": self._optimizer.state(), "mean": self._mean.state(), "last_loss": self.last_loss,
            "density": None if self._density is None else self._density.state(),
            "rate": None if self._rate is None else self._rate.state(),
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self._optimizer.restore(state["optimizer"])
        self._mean.restore(state["mean"])
        self.last_loss = state["last_loss"]
        if self._density is not None:
            self._density.restore(state["density"])
        if self._rate is not None:
            self._rate.restore(state["rate"])


class DeviceStep:
    """The same without waiting for the GPU in a step; the published placement and schedule, which read the loss of each
    step, and a training for bytes stay with `HostStep`."""

    settled = True
    last_loss = math.nan  # stays on the device
    lost = False  # not known without waiting; `loss` tells

    def __init__(self, network, config: TrainConfig):
        self._step = GraphStep(network, kernel_for(network, config.precision), config)
        self.groups, self.loss = self._step.groups, self._step.loss

    @property
    def has_loss(self) -> bool:
        """See `HostStep.has_loss`. Waits for the device."""
        return self._step.has_loss

    def run(self, batch, direct: bool, progress: float) -> torch.Tensor:
        """See `HostStep.run`; the result is overwritten by the next step."""
        return self._step.run(batch, direct)

    def state(self) -> dict:
        """For a checkpoint, see `HostStep.state`; on the device."""
        return self._step.state()

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self._step.restore(state)


def stays_on_device(device: torch.device, config: TrainConfig) -> bool:
    """Whether a training runs without waiting for its device."""
    return device.type == "cuda" and config.placement != "published" and config.schedule == "cosine" and not config.rate_bytes


def make_step(network, config: TrainConfig, values: int) -> HostStep | DeviceStep:
    """What runs the steps of a network where it is; `values`: see `HostStep`."""
    if stays_on_device(network.features.device, config):
        return DeviceStep(network, config)
    return HostStep(network, config, values)
