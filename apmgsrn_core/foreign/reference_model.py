"""Models that the authors' published code has trained, as model files of ours.

Their folder holds `options.json` and `model.ckpt.tar`; that of an ensemble holds its `options.json` and one such folder for
each part. What the numbers mean is taken from their code (Wurster et al. 2024; skywolf829/APMGSRN, `Models/APMGSRN.py`,
`Models/models.py`, `Models/ensemble_SRN.py`, `start_jobs.py`, `Datasets/datasets.py`):

- lists in the options (`full_shape`, `extents`, `grid_index`, `ensemble_grid`) follow the axes of the data, z, y, x, and the
  coordinates of a point are x, y, z; so are the rows of a transform, whose last row is (0, 0, 0, 1);
- the features are [grid][feature][z][y][x], read with zero padding, as ours;
- with `align_corners`, -1 and 1 are the first and the last value of the data, else the borders of their voxels;
- tiny-cuda-nn keeps all matrices of the decoder one after the other in one tensor. It pads its inputs to a multiple of 16
  with ones, whose columns are a bias then, and its outputs with rows that are not used;
- the output is scaled to the range of the data that the network was trained on: in an ensemble, of its part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..errors import ModelFileError, one_line
from ..file.json_text import parse_json
from ..file.manifest import ArrayInfo
from ..file.model_writer import StoredBrick, pack_model
from ..file.weights import describe_brick, describe_model, pack_section
from ..grid import Grid
from ..network.model import Network
from ..network.model_config import ModelConfig
from ..training.train_config import TrainConfig
from .reference_checkpoint import ReferenceNetwork, read_checkpoint

KINDS = ("APMGSRN", "AMGSRN")  # the older name
OPTIONS, CHECKPOINT = "options.json", "model.ckpt.tar"
MOST_LAYERS = 16  # hidden ones, as in `ModelConfig`


@dataclass(frozen=True)
class _Part:
    """A network and the values that it was trained on: `start` to `stop` along x, y, z; (low, high) of its output's scale."""

    network: ReferenceNetwork
    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    range: tuple[float, float]
    align_corners: bool


def convert_reference(
    folder: str | os.PathLike,
    storage: str = "float32",
    name: str = "",
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> bytes:
    """The bytes of a model file with the networks of a folder that the published code has saved.

    The parts of an ensemble become bricks without blending, each read where it was trained. Their faces are moved to the
    next lower value, where the published code has them between two values. Nothing of the folder is executed.

    Args:
        folder: With `options.json` and `model.ckpt.tar`, or that of an ensemble.
        storage: Type of the weights, "float32" or "float16".
        name: Of the array; "": that of the data file in the options.
        spacing, origin: Of the lattice, which their files do not tell.

    Raises:
        ModelFileError: A file is missing or damaged, of another kind of network, or the parts are not those of the ensemble.
        ConfigError: An option has a value that our networks cannot have.
    """
    folder = Path(folder)
    options = _Options(folder / OPTIONS)
    dims = _full_shape(options)
    if options.flag("ensemble"):
        counts = options.numbers("ensemble_grid", 3)[::-1]
        parts = _ensemble_parts(folder, counts, dims)
    else:
        counts, parts = (1, 1, 1), [_part(folder, options, (0, 0, 0), dims)]
    layout = BrickLayout(dims, counts, ghosts=0, overlap=0)
    low, high = min(part.range[0] for part in parts), max(part.range[1] for part in parts)
    networks = [_network(part, layout, brick, (low, high), storage) for brick, part in enumerate(parts)]
    name = name or Path(options.text("data", "values")).stem
    info = ArrayInfo(name, "point", networks[0].config.output_components, "float32", (low, high))
    grid = Grid(dims, origin, spacing)
    train = _train_config(options)
    model = networks[0].config
    stored = [
        StoredBrick.of_bytes(brick, describe_brick(network, layout, brick, model), pack_section(network))
        for brick, network in enumerate(networks)
    ]
    return pack_model(describe_model(grid, layout, (info,), (None,), model, train, ""), stored)


def _full_shape(options: "_Options") -> tuple[int, int, int]:
    """Values along x, y, z; those of an image lie in one layer."""
    count = options.number("n_dims", 3)
    if count not in (2, 3):
        raise ModelFileError(f"{options.path}: n_dims: expected 2 or 3, found {count}")
    return (*options.numbers("full_shape", count)[::-1], 1)[:3]


def _part(folder: Path, options: "_Options", start, stop) -> _Part:
    """The network of one folder."""
    kind = options.text("model", "")
    if kind not in KINDS:
        raise ModelFileError(f"{options.path}: model: expected {' or '.join(KINDS)}, found {kind!r}")
    shape = [options.number(name) for name in ("n_grids", "n_features")]
    resolution = options.numbers("feature_grid_shape", options.number("n_dims", 3))
    widths = [options.number(name) for name in ("nodes_per_layer", "n_layers", "n_outputs")]
    if widths[1] > MOST_LAYERS:
        raise ModelFileError(f"{options.path}: n_layers: expected at most {MOST_LAYERS}, found {widths[1]}")
    network = read_checkpoint(folder / CHECKPOINT, (*shape, *resolution), *widths)
    range_ = network.range or (options.real("data_min"), options.real("data_max"))
    if not range_[0] <= range_[1]:
        raise ModelFileError(f"{folder}: range of the data: expected low <= high, found {range_}")
    return _Part(network, start, stop, range_, options.flag("align_corners", True))


def _ensemble_parts(folder: Path, counts, dims) -> list[_Part]:
    """The networks of an ensemble in the order of the bricks."""
    parts: dict[tuple, _Part] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        options = _Options(path / OPTIONS)
        place = options.numbers("grid_index", 3, 0)[::-1]
        extents = options.numbers("extents", 6, 0)
        start, stop = tuple(extents[0::2][::-1]), tuple(extents[1::2][::-1])
        if place in parts or any(i >= n for i, n in zip(place, counts)):
            raise ModelFileError(f"{options.path}: grid_index: expected each place of {counts[::-1]} once, found {place[::-1]}")
        if any(a >= b or b > n for a, b, n in zip(start, stop, dims)):
            raise ModelFileError(f"{options.path}: extents: expected a box inside of {dims[::-1]}, found {extents}")
        parts[place] = _part(path, options, start, stop)
    nx, ny, nz = counts
    if len(parts) != nx * ny * nz:
        raise ModelFileError(f"{folder}: expected a folder for each of {nx * ny * nz} parts, found {len(parts)}")
    places = [(i, j, k) for k in range(nz) for j in range(ny) for i in range(nx)]
    return [parts[place] for place in places]


def _network(part: _Part, layout: BrickLayout, brick: int, span: tuple[float, float], storage: str) -> Network:
    """The network of a brick: the part's, in the coordinates and the scale of our layout."""
    its, region = part.network, layout.trained(brick)
    slope, offset = np.transpose([
        _coordinates(s, e, a, b, part.align_corners)
        for s, e, a, b in zip(region.start, region.stop, part.start, part.stop)
    ])  # fmt: skip
    matrices, shifts = its.transforms[:, :, :3], its.transforms[:, :, 3]
    transforms = np.concatenate([matrices * slope, (shifts + matrices @ offset)[..., None]], axis=2)
    whole = span[1] - span[0]
    factor, shift = ((part.range[1] - part.range[0]) / whole, (part.range[0] - span[0]) / whole) if whole else (1.0, 0.0)
    weights, biases = list(its.weights), list(its.biases)
    weights[-1], biases[-1] = weights[-1] * factor, biases[-1] * factor + shift
    grids, features, z, y, x = its.features.shape
    config = ModelConfig(
        grids, features, (x, y, z), hidden_layers=len(weights) - 1, hidden_width=len(weights[0]),
        bias=any(bias.any() for bias in biases), output_components=len(weights[-1]), storage=storage,
    )  # fmt: skip
    network = Network(config)
    with torch.no_grad():
        network.features.copy_(torch.from_numpy(its.features.reshape(-1)))
        network.transforms.copy_(torch.from_numpy(transforms))
        for layer, weight, bias in zip(network.layers, weights, biases):
            layer.weight.copy_(torch.from_numpy(weight))
            if config.bias:
                layer.bias.copy_(torch.from_numpy(bias))
    return network


def _coordinates(start: int, stop: int, first: int, end: int, align_corners: bool) -> tuple[float, float]:
    """(a, b) of their coordinate = a * ours + b along an axis.

    Ours is -1 and 1 at the values start and stop - 1; theirs is so at first and end - 1, or half a value beyond them.
    """
    if end - first == 1:
        return 1.0, 0.0
    half, middle = (stop - 1 - start) / 2, (stop - 1 + start) / 2
    if align_corners:
        return 2 * half / (end - 1 - first), 2 * (middle - first) / (end - 1 - first) - 1
    return 2 * half / (end - first), (2 * (middle - first) + 1) / (end - first) - 1


def _train_config(options: "_Options") -> TrainConfig:
    """How the network was trained, as far as our configuration has words for it."""
    return TrainConfig(
        placement="published", seed=42, iterations=options.number("iterations", 10_000),
        batch_size=options.number("points_per_iteration", 100_000), learning_rate=options.real("lr", 0.01),
        beta_1=options.real("beta_1", 0.9), beta_2=options.real("beta_2", 0.99),
    )  # fmt: skip


class _Options:
    """Their options; a value of another kind is a ModelFileError that names it."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._values = parse_json(path.read_bytes())
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be opened: {error.strerror}") from error
        except ValueError as error:
            raise ModelFileError(f"{path}: not JSON: {one_line(error)}") from error
        if not isinstance(self._values, dict):
            raise ModelFileError(f"{path}: expected a JSON object, found {type(self._values).__name__}")

    def _get(self, name: str, expected: str, good, default=None):
        found = self._values.get(name, default)
        if not good(found):
            raise ModelFileError(f"{self.path}: {name}: expected {expected}, found {found!r}")
        return found

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number from 1 on."""
        return self._get(name, "a whole number from 1 on", lambda n: type(n) is int and 1 <= n < 1 << 31, default)

    def real(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        good = lambda n: type(n) in (int, float) and abs(n) < 1e300  # noqa: E731
        return float(self._get(name, "a number", good, default))

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        return self._get(name, "true or false", lambda n: isinstance(n, bool), default)

    def text(self, name: str, default: str) -> str:
        """A text."""
        return self._get(name, "a text", lambda n: isinstance(n, str), default)

    def numbers(self, name: str, count: int, least: int = 1) -> tuple[int, ...]:
        """Whole numbers, a list or a text with commas."""
        found = self._values.get(name)
        words = found.split(",") if isinstance(found, str) else found
        try:
            numbers = tuple(int(word) for word in words)
        except (TypeError, ValueError, OverflowError):
            numbers = ()
        if len(numbers) != count or min(numbers) < least or max(numbers) >= 1 << 31:
            raise ModelFileError(f"{self.path}: {name}: expected {count} whole numbers from {least} on, found {found!r}")
        return numbers
