"""Foreign networks with known values, for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from apmgsrn_core import Grid
from apmgsrn_core.file.manifest import ArrayInfo

GRID = Grid((9, 8, 7), (1.0, -2.0, 0.5), (0.5, 0.25, 1.0))
ARRAYS = (ArrayInfo("wave", "point", 1, "float32", (10.0, 30.0)),)
WEIGHTS = np.array([[0.7, -0.4], [0.3, 0.9], [-0.5, 0.2]], dtype=np.float32)


class Wave(nn.Module):
    """(n, 3) -> (n, outputs): sin(points @ weights)."""

    def __init__(self, outputs: int = 1):
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(WEIGHTS[:, :outputs].copy()))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return torch.sin(points @ self.weights)


def wave_at(points_xyz: np.ndarray, grid: Grid = GRID, outputs: int = 1) -> np.ndarray:
    """What `Wave` gives at world positions, (n, outputs) float64."""
    return np.sin(grid.index_to_normalised(grid.world_to_index(points_xyz)) @ WEIGHTS[:, :outputs].astype(np.float64))


def wave_slopes(points_xyz: np.ndarray, grid: Grid = GRID, outputs: int = 1) -> np.ndarray:
    """Its derivatives in the world, (n, outputs, 3), on a lattice without a direction matrix."""
    inner = grid.index_to_normalised(grid.world_to_index(points_xyz)) @ WEIGHTS[:, :outputs].astype(np.float64)
    scale = 2.0 / ((np.array(grid.value_dims) - 1) * np.array(grid.spacing))
    return np.cos(inner)[:, :, None] * WEIGHTS[:, :outputs].T * scale


def inside(count: int, grid: Grid = GRID, seed: int = 0) -> np.ndarray:
    """Random world positions within the lattice."""
    index = np.random.default_rng(seed).uniform(0, 1, (count, 3)) * (np.array(grid.dims) - 1)
    return grid.index_to_world(index)


def description(network: dict, **other) -> dict:
    """Plain values of a description of `Wave` on GRID."""
    places = {"dims": list(GRID.dims), "bounds": list(GRID.bounds)}
    arrays = [{"name": "wave", "range": [10.0, 30.0]}]
    return {"format": "apmgsrn network", "version": 1, "network": network, "grid": places, "arrays": arrays, **other}


def write_description(folder: Path, network: dict, **other) -> Path:
    """Write it as wave.network.json."""
    path = folder / "wave.network.json"
    path.write_text(json.dumps(description(network, **other)))
    return path


# -- ONNX, without the package onnx: a few fields of its protobuf messages ---------------------------


def _field(number: int, value) -> bytes:
    """One field of a message: a whole number, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def _tensor_type(name: str, last: int) -> bytes:
    shape = _field(1, _field(2, "n")) + _field(1, _field(1, last))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def onnx_wave(outputs: int = 1) -> bytes:
    """`Wave` as an ONNX model: MatMul, then Sin."""
    weights = np.ascontiguousarray(WEIGHTS[:, :outputs])
    tensor = _field(1, 3) + _field(1, outputs) + _field(2, 1) + _field(8, "weights") + _field(9, weights.tobytes())
    nodes = [("MatMul", ["points", "weights"], "inner"), ("Sin", ["inner"], "values")]
    graph = b"".join(
        _field(1, b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind))
        for kind, inputs, output in nodes
    )
    graph += _field(2, "wave") + _field(5, tensor)
    graph += _field(11, _tensor_type("points", 3)) + _field(12, _tensor_type("values", outputs))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
