"""The checkpoint of one network of the authors' published code, with torch's layers or those of tiny-cuda-nn."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from ..errors import ModelFileError
from .torch_archive import read_archive

PADDING = 16  # inputs and outputs of tiny-cuda-nn are multiples of it


@dataclass(frozen=True)
class ReferenceNetwork:
    """Numbers of one network, float32.

    Attributes:
        features: (grids, features, z, y, x).
        transforms: (grids, 3, 4).
        weights: (outputs, inputs) of each layer of the decoder, without padding.
        biases: (outputs,) of each; zeros where it has none.
        range: (low, high) that 0 and 1 of the output stand for, when the checkpoint has them.
    """

    features: np.ndarray
    transforms: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    range: tuple[float, float] | None


def read_checkpoint(
    path: str | os.PathLike, features_shape: tuple[int, ...], width: int, layers: int, outputs: int
) -> ReferenceNetwork:
    """Read a checkpoint.

    Args:
        path: Of `model.ckpt.tar`.
        features_shape: (grids, features, z, y, x), or (grids, features, y, x) of images.
        width, layers: Neurons of a hidden layer of the decoder, and hidden layers.
        outputs: Of the decoder.

    Raises:
        ModelFileError: Missing or damaged, or a tensor is not the one that these numbers ask for.
    """
    state = _State(path)
    dims = len(features_shape) - 2
    features = state.take("encoder.feature_grids", features_shape)
    matrices = state.take("encoder.transformation_matrices", (features_shape[0], dims + 1, dims + 1))
    inputs = features_shape[0] * features_shape[1]
    shapes = [(width, inputs), *[(width, width)] * (layers - 1), (outputs, width)]
    fused = "decoder.params" in state.tensors
    weights, biases = (_fused_layers if fused else _separate_layers)(state, shapes)
    ones = weights[0][:, inputs:].sum(axis=1)  # what the padded inputs, which are 1, add
    weights[0], biases[0] = weights[0][:, :inputs], biases[0] + ones
    range_ = None
    if "volume_min" in state.tensors:
        range_ = tuple(float(state.take(name, (1,))[0]) for name in ("volume_min", "volume_max"))
    state.check_empty()
    features = features.reshape(*features_shape[:2], *(1,) * (3 - dims), *features_shape[2:])
    return ReferenceNetwork(features, _in_space(matrices), tuple(weights), tuple(biases), range_)


def _in_space(matrices: np.ndarray) -> np.ndarray:
    """(grids, dims + 1, dims + 1) -> (grids, 3, 4); of images z stays as it is."""
    dims = matrices.shape[1] - 1
    transforms = np.tile(np.eye(3, 4, dtype=np.float32), (len(matrices), 1, 1))
    transforms[:, :dims, :dims], transforms[:, :dims, 3] = matrices[:, :dims, :dims], matrices[:, :dims, dims]
    return transforms


def _padded(count: int) -> int:
    return PADDING * math.ceil(max(1, count / PADDING))


def _fused_layers(state: "_State", shapes: list[tuple[int, int]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The matrices of tiny-cuda-nn, rows first, one after the other; source: their `convert_tcnn_to_pytorch`."""
    padded = [list(shape) for shape in shapes]
    padded[0][1], padded[-1][0] = _padded(shapes[0][1]), _padded(shapes[-1][0])
    sizes = [rows * columns for rows, columns in padded]
    flat = state.take("decoder.params", (sum(sizes),))
    matrices = [part.reshape(shape) for part, shape in zip(np.split(flat, np.cumsum(sizes)[:-1]), padded)]
    matrices[-1] = matrices[-1][: shapes[-1][0]]
    return matrices, [np.zeros(rows, np.float32) for rows, _ in shapes]


def _separate_layers(state: "_State", shapes: list[tuple[int, int]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The layers of torch; the inputs of the first may be padded as those of tiny-cuda-nn."""
    weights, biases = [], []
    for layer, (rows, columns) in enumerate(shapes):
        name = f"decoder.{layer}" if layer == len(shapes) - 1 else f"decoder.{layer}.linear"
        first = state.tensors.get(f"{name}.weight") if layer == 0 else None
        wide = first is not None and first.shape == (rows, _padded(columns))
        weights.append(state.take(f"{name}.weight", (rows, _padded(columns) if wide else columns)))
        bias = f"{name}.bias"
        biases.append(state.take(bias, (rows,)) if bias in state.tensors else np.zeros(rows, np.float32))
    return weights, biases


class _State:
    """The tensors of a checkpoint, each of which is taken once."""

    def __init__(self, path: str | os.PathLike):
        self._name, found = os.fspath(path), read_archive(path).get("state_dict")
        if not isinstance(found, dict):
            raise ModelFileError(f"{self._name}: state_dict: expected a dictionary of tensors, found {type(found).__name__}")
        self.tensors = found

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of this shape as float32. Raises ModelFileError."""
        tensor = self.tensors.pop(name, None)
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind != "f":
            found = "none" if tensor is None else str(getattr(tensor, "dtype", type(tensor).__name__))
            raise ModelFileError(f"{self._name}: {name}: expected a tensor of floating-point numbers, found {found}")
        if tensor.shape != tuple(shape):
            raise ModelFileError(f"{self._name}: {name}: expected shape {tuple(shape)} by the options, found {tensor.shape}")
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"{self._name}: {name}: expected finite numbers, found NaN or infinite ones")
        return tensor.astype(np.float32)

    def check_empty(self) -> None:
        """Raise ModelFileError when a tensor was not taken: the network has more than we know."""
        if self.tensors:
            raise ModelFileError(f"{self._name}: expected no more tensors, found {', '.join(sorted(map(str, self.tensors))[:9])}")
