"""Training: from an array to a model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .brick_training import OnProgress, mean_squared_error, train_brick
from .model_config import ModelConfig
from .train_config import TrainConfig
from .device import resolve_device
from .device_sampler import DeviceSampler
from .errors import ConfigError
from .field_data import FieldData
from .grid import Grid
from .history import History
from .model import Network
from .manifest import ArrayInfo
from .model_writer import write_bytes
from .placement import start_transforms
from .sampler import Sampler
from .fingerprint import training_key
from .training_step import stays_on_device
from .volume import NeuralVolume
from .weights import pack_networks

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # seeds of different bricks do not meet


@dataclass(frozen=True)
class TrainingResult:
    """What `train_volume` gives back.

    Attributes:
        volume: The trained network as it is stored (rounded to the file's type).
        history: Columns iteration, seconds, loss, psnr, learning_rate; the last row's psnr and loss are measured on
            the stored network at 65 536 random values, the others are smoothed from the batches.
        stop_reason: "iterations", "time budget", "psnr reached", "converged", "stopped by user", "constant data".
        warnings: Readable lines.
        model: The bytes of the model file.
    """

    volume: NeuralVolume
    history: dict[str, np.ndarray]
    stop_reason: str
    warnings: tuple[str, ...]
    model: bytes

    def to_bytes(self) -> bytes:
        """The whole model file."""
        return self.model

    def save(self, path: str | os.PathLike) -> None:
        """Write the model file, whole or not at all. Raises ModelFileError."""
        write_bytes(path, self.model)


def train_volume(
    values: np.ndarray,
    grid: Grid,
    *,
    name: str = "values",
    model: ModelConfig = ModelConfig.preset("small"),
    train: TrainConfig = TrainConfig(),
    device: str = "auto",
    initial: str | os.PathLike | bytes | None = None,
    time: float | None = None,
    unit: str = "",
    key: str = "",
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a network on one array.

    Args:
        values: [z, y, x] or [z, y, x, component] in its own type; a view is fine.
        grid: Where the values are; its association says whether they sit on points or in cells.
        name: Of the array, stored in the model.
        model: The network. Its resolution is fitted to flat data.
        train: How to train it.
        device: As `resolve_device` takes it.
        initial: A saved model (path or bytes) of the same architecture to start from.
        time: The time of this step, stored.
        unit: Of the values, stored.
        key: Stored; computed by `training_key` when "". A training that the user stopped stores none.
        on_progress: Called about five times a second; returning False stops and keeps what is there. None shows a
            progress bar when standard error is a terminal.
        on_warning: Called before the training starts with each line that a user should know; None logs it.

    Returns:
        The trained volume and its history.

    Raises:
        DataError, ConfigError, DeviceError, ModelFileError: As their messages say.
    """
    target = resolve_device(device)
    values = np.asarray(values)
    data = FieldData(values, grid, name)
    warnings = _warnings_about(data, model)
    for line in warnings:
        (on_warning or logger.warning)(line)
    key = key or training_key(values, grid, name, model, train, time, initial, unit)
    model = model.fitted_to(grid).with_components(data.components)
    train = train.resolved(grid)
    generator = torch.Generator().manual_seed(train.seed * SEED_STRIDE)
    network = _start(data, model, train, generator, initial)
    with _progress_bar(on_progress) as report:
        sampler = _make_sampler(data, train, generator, target)
        reason, history = train_brick(network.to(target), sampler, train, report, not data.span)
    info = ArrayInfo(
        name, grid.association, data.components, data.values.dtype.name, (data.minimum, data.maximum), unit
    )
    if reason == "stopped by user":
        key = ""  # a partial result does not stand for its settings
    stored = pack_networks([network], grid, (info,), (time,), train, key)
    volume = NeuralVolume.from_bytes(stored, device=str(target))
    _measure_stored(history, volume, Sampler(data, train, generator))
    logger.info("trained %r: %s after %d steps", name, reason, history.table()["iteration"][-1])
    return TrainingResult(volume, history.table(), reason, warnings, stored)


def _make_sampler(data: FieldData, train: TrainConfig, generator, device) -> Sampler | DeviceSampler:
    """What draws the batches of a training on a device."""
    if stays_on_device(device, train):
        return DeviceSampler(data, train, train.seed * SEED_STRIDE, device)
    return Sampler(data, train, generator)


def _start(data: FieldData, model: ModelConfig, train: TrainConfig, generator, initial) -> Network:
    """The network before the first step: fresh and placed, or a saved one."""
    network = Network(model, generator)
    if initial is None:
        with torch.no_grad():
            network.transforms.copy_(start_transforms(data, model, train, generator))
        return network
    saved = NeuralVolume.from_bytes(initial) if isinstance(initial, bytes) else NeuralVolume.open(initial, "cpu")
    found = saved.networks[0].config
    different = [k for k, v in model.to_dict().items() if k != "storage" and found.to_dict()[k] != v]
    if different:
        wanted = ", ".join(f"{k} {getattr(model, k)} (the file has {getattr(found, k)})" for k in different)
        raise ConfigError(f"the initial model has another architecture: expected {wanted}")
    network.load_state_dict(saved.networks[0].state_dict())
    return network


def _measure_stored(history: History, volume: NeuralVolume, sampler: Sampler) -> None:
    """Let the last row say what the stored network gives."""
    last = history.table()
    error = mean_squared_error(volume.networks, sampler)
    history.add_row(int(last["iteration"][-1]), error, float(last["learning_rate"][-1]))


def _warnings_about(data: FieldData, model: ModelConfig) -> tuple[str, ...]:
    """What a user should know before relying on the result."""
    warnings = []
    if data.missing:
        warnings.append(
            f"array {data.name!r}: {data.missing} of {data.values.size} values are NaN or infinite; they are left out "
            "of the range and of the training, and the model gives finite values there"
        )
    size = model.fitted_to(data.grid).model_bytes(data.components)
    if size > data.values.nbytes / 4:
        warnings.append(
            f"the model ({size / 1e6:.2f} MB) is larger than a quarter of array {data.name!r} "
            f"({data.values.nbytes / 1e6:.2f} MB); a smaller preset would compress more"
        )
    return tuple(warnings)


class _progress_bar:
    """The caller's callback, or a tqdm bar on a terminal."""

    def __init__(self, on_progress: OnProgress | None):
        self._callback = on_progress
        self._bar = None

    def __enter__(self) -> OnProgress:
        return self._callback or self._show

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, state: TrainingState) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=state.iterations, unit="it", disable=None)
        self._bar.set_postfix_str(f"{state.psnr:.2f} dB")
        self._bar.update(state.iteration - self._bar.n)
