"""Networks to and from the sections of a model file."""

from __future__ import annotations

import numpy as np
import torch

from .model_config import ModelConfig
from .train_config import TrainConfig
from .errors import DataError, ModelFileError
from .grid import Grid
from .model import Network
from .model_file import ArrayInfo, ModelFile, pack


def pack_networks(
    networks: list[Network],
    grid: Grid,
    arrays: tuple[ArrayInfo, ...],
    times: tuple[float | None, ...],
    train: TrainConfig,
    key: str,
) -> bytes:
    """The model file of trained networks, one for each brick; see `model_file` for the format."""
    if len(networks) != 1:
        raise DataError(f"expected one brick, found {len(networks)}")
    network = networks[0]
    bricks = [{"start": [0, 0, 0], "stop": list(grid.value_dims), "grids": _describe_grids(network)}]
    manifest = {
        "grid": grid.to_dict(),
        "arrays": [a.to_dict() for a in arrays],
        "times": [{"value": t} for t in times],
        "bricks": bricks,
        "model": network.config.to_dict(),
        "training": train.to_dict(),
        "key": key,
    }
    return pack(manifest, {(0, 0): _stored_tensors(network)})


def _describe_grids(network: Network) -> list[dict]:
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


def _tensor_names(network: Network) -> dict[str, torch.Tensor]:
    """File name -> parameter."""
    names = {"features": network.features, "transforms": network.transforms}
    for index, layer in enumerate(network.layers):
        names[f"decoder.{index}.weight"] = layer.weight
        if layer.bias is not None:
            names[f"decoder.{index}.bias"] = layer.bias
    if network.skip is not None:
        names["skip.weight"] = network.skip.weight
    return names


def _stored_tensors(network: Network) -> dict[str, np.ndarray]:
    """Weights in the storage type (float32 where float16 would overflow); transforms always in float32."""
    tensors = {}
    for name, parameter in _tensor_names(network).items():
        values = parameter.detach().cpu().float().numpy()
        fits = not values.size or float(np.abs(values).max()) < float(np.finfo(np.float16).max)
        half = network.config.storage == "float16" and name != "transforms" and fits
        tensors[name] = values.astype(np.float16) if half else values
    return tensors


def read_network(file: ModelFile, brick: int, components: int) -> Network:
    """Rebuild a network; ModelFileError when the tensors do not fit the manifest."""
    manifest = file.header.manifest
    tensors = file.read_section(brick, 0)
    what = f"{file.name}: section of brick {brick}"
    try:
        config = ModelConfig.from_dict(manifest["model"])
        if config.output_components != components:
            raise ModelFileError(f"{what}: {config.output_components} outputs for {components} array components")
        if 4 * config.parameter_count(components) > 16 * file.size + (1 << 20):
            raise ModelFileError(f"{what}: the manifest asks for more parameters than the file can hold")
        network = Network(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{file.name}: damaged manifest: {type(error).__name__}: {error}") from error
    if manifest["bricks"][brick].get("grids") != _describe_grids(network):
        raise ModelFileError(f"{what}: the table of feature grids does not match the model")
    expected = _tensor_names(network)
    if set(tensors) != set(expected):
        raise ModelFileError(f"{what}: expected tensors {sorted(expected)}, found {sorted(tensors)}")
    for name, parameter in expected.items():
        if tensors[name].shape != tuple(parameter.shape):
            raise ModelFileError(
                f"{what}: {name!r}: expected shape {tuple(parameter.shape)}, found {tensors[name].shape}"
            )
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(tensors[name].astype(np.float32)))
    return network.requires_grad_(False)
