"""Networks as the sections of a model file, and what its manifest says of them. `network_reader.py` reads them."""

from __future__ import annotations

import copy

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..errors import ModelFileError
from ..grid import Grid
from ..network.model import Network
from ..network.model_config import ModelConfig
from ..training.train_config import TrainConfig
from .manifest import ArrayInfo
from .number_blocks import network_tensors

RANGES = "leveled ranges"  # what the macrocells are
MASK, CODED, MACROCELLS, RESIDUAL = "mask", "coded", "macrocells", "residual"  # the tensors of a section that are no weights


def describe_model(
    grid: Grid,
    layout: BrickLayout,
    arrays: tuple[ArrayInfo, ...],
    times: tuple[float | None, ...] | list[dict],
    model: ModelConfig,
    train: TrainConfig,
    key: str,
    mask: str | None = None,
) -> dict:
    """The manifest of a model without its bricks and sections, as `pack_model` and `write_model` take it; `times` are
    numbers, or entries of the manifest."""
    return {
        "grid": grid.to_dict(),
        "layout": layout.to_dict(),
        "arrays": [a.to_dict() for a in arrays],
        "times": [t if isinstance(t, dict) else {"value": t} for t in times],
        "model": model.to_dict(),
        "training": train.to_dict(),
        "key": key,
        "mask": mask,
        "macrocells": RANGES,
    }


def describe_brick(network: Network, layout: BrickLayout, brick: int, model: ModelConfig) -> dict:
    """The entry of a brick in `bricks[]`; its `config` holds what the network has other than the manifest's `model`."""
    core, common = layout.core(brick), model.to_dict()
    entry = {"start": list(core.start), "stop": list(core.stop), "grids": describe_grids(network)}
    own = {name: value for name, value in network.config.to_dict().items() if value != common[name]}
    return {**entry, "config": own} if own else entry


def pack_section(network: Network, mask: np.ndarray | None = None, cells: np.ndarray | None = None) -> bytes:
    """A network's weights as the bytes of a section, in the storage type of its own config, with a packed mask and macrocells."""
    from safetensors.numpy import save

    tensors = {**_stored_tensors(network), **_given({MASK: mask, MACROCELLS: cells})}
    return save({name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())})


def pack_coded(data: bytes, mask: np.ndarray | None = None, cells: np.ndarray | None = None) -> bytes:
    """The same of a network's coded numbers, see `coded_network.py`."""
    from safetensors.numpy import save

    return save({CODED: np.frombuffer(data, np.uint8), **_given({MASK: mask, MACROCELLS: cells})})


def with_residual(section: bytes, data: bytes) -> bytes:
    """A section with the residual of its brick, see `residual/residual_blocks.py`."""
    from safetensors.numpy import load, save

    tensors = {**load(section), RESIDUAL: np.frombuffer(data, np.uint8)}
    return save({name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())})


def _given(tensors: dict[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Those that there are."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def describe_grids(network: Network) -> list[dict]:
    """The table of feature grids of a network, in `bricks[]`."""
    return [
        {
            "count": group.count,
            "resolution": list(group.entry.resolution),
            "features": group.entry.features,
            "placed": group.entry.placed,
            "interpolation": group.entry.interpolation,
            "dtype": network.config.storage,
        }
        for group in network.table.groups
    ]


def _stored_tensors(network: Network) -> dict[str, np.ndarray]:
    """Weights in the storage type (float32 where float16 would overflow); transforms always in float32."""
    tensors = {}
    for name, parameter in network_tensors(network).items():
        values = parameter.detach().cpu().float().numpy()
        fits = not values.size or float(np.abs(values).max()) < float(np.finfo(np.float16).max)
        half = network.config.storage == "float16" and name != "transforms" and fits
        tensors[name] = values.astype(np.float16) if half else values
    return tensors


def brick_config(manifest: dict, brick: int) -> ModelConfig:
    """The config of a brick's network: the manifest's `model` with what the brick has of its own.

    Raises:
        ModelFileError: There is no such brick, or the two make no config.
    """
    bricks = manifest["bricks"]
    if brick not in range(len(bricks)):
        raise ModelFileError(f"expected a brick from 0 to {len(bricks) - 1}, found {brick}")
    try:
        return _config_of({**manifest["model"], **bricks[brick].get("config", {})})
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"brick {brick}: damaged config: {type(error).__name__}: {error}") from error


def common_config(manifest: dict) -> ModelConfig:
    """The manifest's `model`. Raises ModelFileError."""
    try:
        return _config_of(manifest["model"])
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"damaged config: {type(error).__name__}: {error}") from error


def _config_of(values: dict) -> ModelConfig:
    """Raises ConfigError, TypeError, ValueError."""
    try:
        return ModelConfig.from_dict(values)
    except (KeyError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def round_to_stored(network: Network) -> Network:
    """A frozen copy of a network with its numbers as a model file holds them."""
    rounded = copy.deepcopy(network)
    stored = _stored_tensors(network)
    with torch.no_grad():
        for name, parameter in network_tensors(rounded).items():
            parameter.copy_(torch.from_numpy(stored[name].astype(np.float32)))
    return rounded.requires_grad_(False)
