"""How the numbers of a network lie in lanes and rows for the coder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..network.encoding import GridGroup, GridTable
from ..network.model_config import ModelConfig

MOST_ROWS = 8192  # of a lane of features; larger grids are cut into slabs, each a lane


@dataclass(frozen=True)
class NumberBlock:
    """A part of a tensor: `lanes` lines of math.prod(nodes) numbers each.

    Attributes:
        name: Of the tensor.
        start: First number of the part in the flat tensor.
        lanes: Feature grids (each feature and slab one), transforms, or inputs of a layer; the numbers of a bias.
        nodes: Of a lane along z, y, x; neighbours there are alike in a feature grid.
        columns: Whether the lanes are the columns of a matrix and not consecutive numbers.
        one_step: Whether all lanes have the same rounding step.
    """

    name: str
    start: int
    lanes: int
    nodes: tuple[int, int, int]
    columns: bool = False
    one_step: bool = False

    @property
    def size(self) -> int:
        """Numbers in it."""
        return self.lanes * math.prod(self.nodes)

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """(rows, lanes) numbers of the block, from its tensor."""
        part = tensor.reshape(-1)[self.start : self.start + self.size]
        return part.reshape(-1, self.lanes) if self.columns else part.reshape(self.lanes, -1).T

    def write(self, tensor: np.ndarray, numbers: np.ndarray) -> None:
        """Put (rows, lanes) numbers into the tensor."""
        numbers = numbers if self.columns else numbers.T
        tensor.reshape(-1)[self.start : self.start + self.size] = numbers.reshape(-1)


def number_blocks(config: ModelConfig) -> tuple[NumberBlock, ...]:
    """The blocks of a network's tensors, in the order of the file.

    Args:
        config: With `output_components` set.
    """
    table = GridTable.from_config(config)
    blocks = [_feature_block(group) for group in table.groups]
    if table.placed_count:
        blocks.append(NumberBlock("transforms", 0, table.placed_count, (1, 1, 12)))
    for index, (outputs, inputs) in enumerate(config.decoder_shapes(config.output_components)):
        blocks.append(NumberBlock(f"decoder.{index}.weight", 0, inputs, (1, 1, outputs), columns=True))
        if config.bias:
            blocks.append(NumberBlock(f"decoder.{index}.bias", 0, outputs, (1, 1, 1), one_step=True))
    if config.linear_skip:
        shape = (1, 1, config.output_components)
        blocks.append(NumberBlock("skip.weight", 0, config.feature_columns, shape, columns=True))
    return tuple(blocks)


def _feature_block(group: GridGroup) -> NumberBlock:
    z, y, x = group.entry.resolution[::-1]
    slabs = next(n for n in range(1, z + 1) if z % n == 0 and (z // n * y * x <= MOST_ROWS or n == z))
    return NumberBlock("features", group.block.start, group.count * group.entry.features * slabs, (z // slabs, y, x))


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """{name: shape} of a network's tensors, as in a section of the file."""
    table, components = GridTable.from_config(config), config.output_components
    shapes = {"features": (table.feature_count,), "transforms": (table.placed_count, 3, 4)}
    for index, shape in enumerate(config.decoder_shapes(components)):
        shapes[f"decoder.{index}.weight"] = shape
        if config.bias:
            shapes[f"decoder.{index}.bias"] = shape[:1]
    if config.linear_skip:
        shapes["skip.weight"] = (components, config.feature_columns)
    return shapes


def network_tensors(network) -> dict[str, torch.nn.Parameter]:
    """{name: parameter} of a `model.Network`, as in a section of the file."""
    tensors = {"features": network.features, "transforms": network.transforms}
    for index, layer in enumerate(network.layers):
        tensors[f"decoder.{index}.weight"] = layer.weight
        if layer.bias is not None:
            tensors[f"decoder.{index}.bias"] = layer.bias
    if network.skip is not None:
        tensors["skip.weight"] = network.skip.weight
    return tensors
