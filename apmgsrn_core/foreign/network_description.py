"""The description of a foreign network, `NAME.network.json`: a JSON object, read and checked without opening the network.

- `format`: "apmgsrn network"; `version`: 1.
- `network`: what is evaluated, by its `kind`; files are named relative to the description and lie in its folder or below.
  - "torchscript", "export" (of `torch.export.save`), "onnx": `file`.
  - "class": `class`, the import path package.module.Class of a torch module, `arguments` of its constructor, `file` with
    its weights (safetensors), and `code`, a Python file that defines the class, when it is not to be imported.
  - "registered": `name`, given to `register_network` by a script in the same process.
- `grid`: dims (points of the mesh, x y z) and either bounds (x min, x max, ...) or origin, spacing and perhaps direction;
  axes in their place for a stretched lattice; association "point" (when left out) or "cell".
- `arrays[]`: name and range [low, high]; components (1), dtype ("float32"), unit, transform ("identity") when others.
- `outputs`: "normalised" (when left out), 0 and 1 being the range of an array, or "unit", the array's own unit.
- `derivatives`: "auto" (when left out), "autograd" or "differences" (central, of half a lattice spacing at most).
- `most_points`: in one call of the network (65536 when left out).

The network's contract: (n, 3) float32 points in [-1, 1], x y z, -1 and +1 being the first and the last value of the lattice
along an axis -> (n, c), the components of all arrays one after the other, each row a function of its own point.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..brick_layout import BrickLayout
from ..data.value_transform import IDENTITY
from ..errors import ApmgsrnError, ConfigError, ModelFileError, one_line
from ..file.json_text import parse_json
from ..file.manifest import ArrayInfo, Header
from ..grid import Grid
from ..validation import check
from .network_source import NetworkSource

ENDING = ".network.json"
FORMAT, VERSION = "apmgsrn network", 1
OUTPUTS = ("normalised", "unit")
DERIVATIVES = ("auto", "autograd", "differences")
MOST_POINTS = 1 << 16
MOST_BYTES = 1 << 24  # of a description
KEYS = {"format", "version", "network", "grid", "arrays", "outputs", "derivatives", "most_points"}
GRID_KEYS = {"dims", "bounds", "origin", "spacing", "direction", "association", "axes"}


@dataclass(frozen=True)
class NetworkDescription(Header):
    """A description as the header of a volume, with what only a foreign network has.

    Attributes:
        name: What messages call it: the path.
        source: What is evaluated.
        outputs, derivatives, most_points: As above.
    """

    name: str
    source: NetworkSource
    outputs: str
    derivatives: str
    most_points: int

    @property
    def components(self) -> int:
        """Outputs of the network."""
        return sum(array.components for array in self.arrays)


def read_description(path: str | os.PathLike) -> NetworkDescription:
    """Read a `*.network.json`; nothing in it is run.

    Raises:
        ModelFileError: Missing, or not a description; what is wrong in it is named.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelFileError(f"{path}: expected a description of at most {MOST_BYTES} bytes, found {size}")
        data = parse_json(path.read_bytes())
    except OSError as error:
        raise error if isinstance(error, ApmgsrnError) else ModelFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: expected a description in JSON, found: {one_line(error)}") from error
    return description_of(data, str(path), path.parent)


def description_of(data, name: str, folder: Path) -> NetworkDescription:
    """A description of plain values.

    Args:
        data: As in the file.
        name: What messages call it.
        folder: Where its files are.

    Raises:
        ModelFileError: As `read_description`.
    """
    try:
        return _parsed(data, name, folder)
    except ApmgsrnError as error:
        raise ModelFileError(f"{name}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        found = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise ModelFileError(f"{name}: expected a description of a network, found: {found}") from error


def _parsed(data: dict, name: str, folder: Path) -> NetworkDescription:
    check(isinstance(data, dict), "description", "a JSON object", type(data).__name__)
    check(data.get("format") == FORMAT, "format", repr(FORMAT), data.get("format"))
    check(data.get("version") == VERSION, "version", str(VERSION), data.get("version"))
    _check_keys("description", data, KEYS)
    outputs, derivatives = data.get("outputs", OUTPUTS[0]), data.get("derivatives", DERIVATIVES[0])
    check(outputs in OUTPUTS, "outputs", f"one of {OUTPUTS}", outputs)
    check(derivatives in DERIVATIVES, "derivatives", f"one of {DERIVATIVES}", derivatives)
    most_points = data.get("most_points", MOST_POINTS)
    good = isinstance(most_points, int) and not isinstance(most_points, bool) and 1 <= most_points < 1 << 31
    check(good, "most_points", "a whole number from 1 on, of 31 bits", most_points)
    grid = grid_of(data["grid"])
    arrays = tuple(_array_of(entry, grid, outputs) for entry in data["arrays"])
    names = [array.name for array in arrays]
    check(arrays and len(set(names)) == len(names), "arrays", "at least one, with names that differ", names)
    source = NetworkSource.of_dict(data["network"], folder)
    ranges = (tuple(array.range for array in arrays),)
    return NetworkDescription(
        grid, BrickLayout(grid.value_dims), arrays, (), ranges, ((0.0,) * len(arrays),), None, "", data, source.byte_count, name,
        source, outputs, derivatives, most_points,
    )  # fmt: skip


def grid_of(data: dict) -> Grid:
    """The lattice of a description. Raises ConfigError, KeyError, TypeError, ValueError."""
    check(isinstance(data, dict), "grid", "a JSON object", type(data).__name__)
    _check_keys("grid", data, GRID_KEYS)
    association, whole = data.get("association", "point"), all(isinstance(n, int) for n in data.get("dims", ()))
    check(whole, "dims", "whole numbers", data.get("dims"))
    if data.get("axes") is not None:
        return Grid(tuple(map(len, data["axes"])), association=association, axes=tuple(map(tuple, data["axes"])))
    if "origin" in data or "spacing" in data:
        given = {key: data[key] for key in ("origin", "spacing", "direction") if key in data}
        return Grid(data["dims"], **given, association=association)
    dims, bounds = data["dims"], [float(b) for b in data["bounds"]]
    good = len(dims) == 3 and len(bounds) == 6 and all(map(math.isfinite, bounds))
    good = good and all(low < high or (n == 1 and low == high) for n, low, high in zip(dims, bounds[::2], bounds[1::2]))
    check(good, "bounds", "x min < x max, y min < y max, z min < z max (equal along an axis of one point)", data["bounds"])
    spacing = [(b - a) / (n - 1) if n > 1 else 1.0 for n, a, b in zip(dims, bounds[::2], bounds[1::2])]
    return Grid(dims, bounds[::2], spacing, association=association)


def _array_of(entry: dict, grid: Grid, outputs: str) -> ArrayInfo:
    check(isinstance(entry, dict), "array", "a JSON object", type(entry).__name__)
    defaults = {"association": grid.association, "components": 1, "dtype": "float32", "transform": "identity"}
    _check_keys("array", entry, {"name", "range", "unit", *defaults})
    array = ArrayInfo.from_dict({**defaults, **entry})
    what = f"array {array.name!r}"
    check(array.association == grid.association, what, f"on the {grid.association}s of the grid", array.association)
    if outputs == "unit":
        check(array.range[0] < array.range[1], f"{what}: range", "low < high", array.range)
        check(array.transform == IDENTITY, f"{what}: transform", "'identity' of outputs in the unit", array.transform.kind)
    return array


def _check_keys(what: str, data: dict, known: set) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(f"{what}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
