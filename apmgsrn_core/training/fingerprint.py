"""The name of a training: equal input and settings have an equal key, on every machine. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..brick_layout import BrickLayout
from ..data.array_spec import ArraySpec
from ..errors import ModelFileError
from ..grid import Grid
from ..network.model_config import ModelConfig
from .train_config import TrainConfig

CHUNK_VALUES = 1 << 22
TRAINING_VERSION = 7  # raise it when the same settings begin to give another model


def content_hash(values: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and values, read slab by slab."""
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    depth = max(1, CHUNK_VALUES // max(values[:1].size, 1))
    for first in range(0, len(values), depth):
        digest.update(np.ascontiguousarray(values[first : first + depth]))
    return digest.hexdigest()


def training_key(
    values: np.ndarray | str,
    grid: Grid,
    arrays: tuple[ArraySpec, ...],
    model: ModelConfig,
    train: TrainConfig,
    time: float | None = None,
    initial: str | os.PathLike | bytes | None = None,
    layout: BrickLayout | None = None,
    parameters: int = 0,
    before: str = "",
) -> str:
    """Hash of everything that decides what a training gives.

    Args:
        values: Of the arrays, or their `content_hash` when the caller remembers it.
        arrays: What is trained.
        grid, model, train, time, initial, parameters: As given to `train_volume`.
        layout: The bricks; None: one.
        before: Of a time series, the key of the step before; "first" of the first one.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelFileError: The initial model cannot be read.
    """
    if initial and not isinstance(initial, bytes):
        try:
            initial = Path(initial).read_bytes()
        except OSError as error:
            raise ModelFileError(f"initial model {os.fspath(initial)}: cannot be read: {error.strerror}") from error
    train = train.with_rounding(bool(before), model.storage, bool(initial)).resolved(grid, series=bool(before))
    parts = {
        "version": TRAINING_VERSION,
        "values": values if isinstance(values, str) else content_hash(values),
        "grid": grid.to_dict(),
        "arrays": [asdict(array) for array in arrays],
        "model": model.fitted_to(grid).to_dict(),
        "training": train.to_dict(),
        "time": time,
        "initial": hashlib.sha256(initial).hexdigest() if initial else None,
    }
    if layout is not None and layout.count > 1:
        parts["layout"] = layout.to_dict()
    if parameters:
        parts["parameters"] = parameters
    if before:
        parts["before"] = before
    if train.rounding and (train.stop_psnr or train.placement == "published" or train.schedule == "plateau"):
        parts["rounding"] = 2  # once a PSNR was that before rounding, and features of the published training were pulled
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
