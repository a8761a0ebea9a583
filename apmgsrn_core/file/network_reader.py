"""Networks and masks from the sections of a model file, through the steps that they are differences to."""

from __future__ import annotations

import numpy as np
import torch

from ..data.mask import mask_region, unpack_mask
from ..errors import ModelFileError
from ..network.model import Network
from ..network.model_config import ModelConfig
from ..rendering.brick_macrocells import joined
from ..rendering.macrocells import Macrocells
from ..rendering.stored_macrocells import macrocell_records
from ..residual.residual_blocks import ResidualBlocks
from .coded_network import DecodedNetwork, decode_network
from .model_file import ModelFile
from .number_blocks import network_tensors
from .weights import CODED, MACROCELLS, MASK, RANGES, RESIDUAL, brick_config, describe_grids


def read_network(file: ModelFile, brick: int, components: int, time: int = 0) -> Network:
    """Rebuild the network of a brick at a time step, with so many outputs; ModelFileError when the tensors do not fit the
    manifest."""
    config = _config(file, brick, components)
    if file.coder(brick, time) != "none":
        network = read_decoded(file, brick, components, time).network()
        _check_grids(file, brick, network)
        return network
    what, length = _name(file, brick), file.sections[brick, time][1]
    asked = config.parameter_count(components)
    if asked > length // 2:  # before memory is asked for them
        raise ModelFileError(
            f"{what}: the manifest asks for more parameters than the section can hold: "
            f"expected at most {length // 2} in {length} bytes, found {asked}"
        )
    tensors = file.read_section(brick, time)
    for name in (MASK, MACROCELLS, RESIDUAL):
        tensors.pop(name, None)
    network = Network(config)
    _check_grids(file, brick, network)
    _fill(network, tensors, what)
    return network.requires_grad_(False)


def read_decoded(file: ModelFile, brick: int, components: int, time: int) -> DecodedNetwork:
    """The numbers of a brick at a time step, as the next one may be differences to them: decoded from the last key frame on.
    Raises ModelFileError."""
    config = _config(file, brick, components)
    first = time
    while file.coder(brick, first) == "delta":
        first -= 1
    decoded = None
    for step in range(first, time + 1):
        what = f"{_name(file, brick)}, time step {step}"
        if file.coder(brick, step) == "none":
            decoded = DecodedNetwork.of(read_network(file, brick, components, step))
            continue
        data = file.read_section(brick, step).get(CODED)
        if data is None:
            raise ModelFileError(f"{what}: expected the bytes {CODED!r}, found none")
        try:
            decoded = decode_network(data.tobytes(), config, decoded)
        except ModelFileError as error:
            raise ModelFileError(f"{what}: {error}") from error
    return decoded


def read_mask(file: ModelFile, brick: int, time: int = 0) -> np.ndarray | None:
    """The mask of a brick at a time step, bool [array, z, y, x]; None when all is valid. Raises ModelFileError."""
    header = file.header
    if header.mask is None:
        return None
    data = file.read_section(brick, time).get(MASK)
    if data is None:
        return None
    what = f"{_name(file, brick)}, time step {time}"
    return unpack_mask(data, len(header.arrays), mask_region(header.layout, brick, header.mask).shape_zyx, what)


def read_residual(file: ModelFile, brick: int, components: int, time: int = 0) -> ResidualBlocks | None:
    """What a brick's network leaves of the data at a time step; None where no array is bound. Raises ModelFileError."""
    if not any(file.header.bounds[time]):
        return None
    what = f"{_name(file, brick)}, time step {time}: residual"
    data = file.read_section(brick, time).get(RESIDUAL)
    if data is None:
        raise ModelFileError(f"{what}: expected its bytes, found none")
    return ResidualBlocks(data.tobytes(), file.header.layout.trained(brick).shape_zyx, components, what)


def read_macrocells(file: ModelFile, array: int, time: int = 0) -> Macrocells | None:
    """The ranges of an array at a time step; None when one of the bricks has none. Raises ModelFileError."""
    header, cells = file.header, []
    if header.manifest.get("macrocells") != RANGES or min(header.grid.dims) < 2:  # a flat lattice has none
        return None
    for brick in range(header.layout.count):
        data = file.read_section(brick, time).get(MACROCELLS)
        if data is None:
            return None
        what = f"{_name(file, brick)}, time step {time}"
        cells.append((macrocell_records(data, len(header.arrays), what)[array], what))
    opened = (Macrocells.from_bytes(*record) for record in cells)  # one after the other: they are much larger
    if len(cells) == 1:
        return next(opened)
    return joined(opened, header.layout, header.grid, header.arrays[array].components)


def _name(file: ModelFile, brick: int) -> str:
    return f"{file.name}: section of brick {brick}"


def _config(file: ModelFile, brick: int, components: int) -> ModelConfig:
    try:
        config = brick_config(file.header.manifest, brick)
    except ModelFileError as error:
        raise ModelFileError(f"{file.name}: {error}") from error
    if config.output_components != components:
        raise ModelFileError(
            f"{_name(file, brick)}: {config.output_components} outputs for {components} array components"
        )
    return config


def _check_grids(file: ModelFile, brick: int, network: Network) -> None:
    if file.header.manifest["bricks"][brick].get("grids") != describe_grids(network):
        raise ModelFileError(f"{_name(file, brick)}: the table of feature grids does not match the model")


def _fill(network: Network, tensors: dict[str, np.ndarray], what: str) -> None:
    """Set the parameters; ModelFileError when names or shapes differ."""
    expected = network_tensors(network)
    if set(tensors) != set(expected):
        raise ModelFileError(f"{what}: expected tensors {sorted(expected)}, found {sorted(tensors)}")
    for name, parameter in expected.items():
        if tensors[name].shape != tuple(parameter.shape):
            raise ModelFileError(
                f"{what}: {name!r}: expected shape {tuple(parameter.shape)}, found {tensors[name].shape}"
            )
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(tensors[name].astype(np.float32)))
