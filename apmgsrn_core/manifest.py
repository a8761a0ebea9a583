"""The manifest of a model file: what it says about itself, read and checked. `model_file.py` has the format's text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from .bricks import BrickLayout
from .errors import ApmgsrnError, ModelFileError
from .grid import Grid

KNOWN_REQUIREMENTS: frozenset[str] = frozenset()
LATER_PARTS = ("axes", "mask", "residual", "macrocells")

Sections = dict[tuple[int, int], tuple[int, int, str, str]]  # (brick, time step) -> offset, length, sha256, coder


@dataclass(frozen=True)
class ArrayInfo:
    """One array of a model: its name, where it sits, its components, own numpy type, range and unit."""

    name: str
    association: str
    components: int
    dtype: str
    range: tuple[float, float]
    unit: str = ""

    def to_dict(self) -> dict:
        """The entry in the manifest."""
        return {
            "name": self.name, "association": self.association, "components": self.components,
            "dtype": self.dtype, "range": list(self.range), "transform": "identity", "unit": self.unit or None,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict) -> "ArrayInfo":
        """The inverse of `to_dict`; a value that cannot be is a ValueError."""
        info = cls(
            str(data["name"]), data["association"], int(data["components"]), np.dtype(data["dtype"]).name,
            (float(data["range"][0]), float(data["range"][1])), data.get("unit") or "",
        )  # fmt: skip
        if info.association not in ("point", "cell") or not 1 <= info.components <= 1024:
            raise ValueError(f"array {info.name!r}: association {info.association!r}, {info.components} components")
        low, high = info.range
        if not math.isfinite(high - low) or low > high or np.dtype(info.dtype).kind not in "iuf":
            raise ValueError(f"array {info.name!r}: range {info.range}, type {info.dtype}")
        if data["transform"] != "identity":
            raise ValueError(f"array {info.name!r}: value transform {data['transform']!r} is not known")
        return info


@dataclass(frozen=True)
class Header:
    """What a model file says about itself, without its weights."""

    grid: Grid
    layout: BrickLayout
    arrays: tuple[ArrayInfo, ...]
    times: tuple[float, ...]
    key: str
    manifest: dict = field(repr=False)
    byte_count: int


def parse_manifest(data: bytes, size: int, name: str) -> tuple[Header, Sections]:
    """Read and check the text of a manifest; no network is built.

    Args:
        data: The text.
        size: Of the whole file in bytes.
        name: What messages call the file.

    Raises:
        ModelFileError: It is not JSON, has something missing or wrong, or its bricks do not fit its layout.
    """
    try:
        manifest = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name}: the manifest is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ModelFileError(f"{name}: the manifest is not a JSON object")
    try:
        return _parse_header(manifest, size), _parse_sections(manifest)
    except ApmgsrnError as error:
        raise ModelFileError(f"{name}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"{name}: damaged manifest: {type(error).__name__}: {error}") from error


def _parse_header(manifest: dict, size: int) -> Header:
    unknown = [name for name in manifest["requires"] if name not in KNOWN_REQUIREMENTS]
    if unknown:
        raise ModelFileError(f"requires {', '.join(map(str, unknown))}, which this version does not know")
    present = [part for part in LATER_PARTS if manifest.get(part) is not None]
    if present:
        raise ModelFileError(f"has {', '.join(present)}, which this version does not know")
    times = tuple(entry["value"] for entry in manifest["times"])
    numbers = () if times == (None,) else tuple(float(t) for t in times)
    if not times or not all(math.isfinite(t) for t in numbers):
        raise ValueError(f"times: expected one null or finite numbers, found {times}")
    arrays = tuple(ArrayInfo.from_dict(a) for a in manifest["arrays"])
    grid = Grid.from_dict(manifest["grid"])
    if not arrays or any(a.association != grid.association for a in arrays):
        raise ValueError(f"arrays: expected at least one array, and all on the {grid.association}s of the grid")
    layout = layout_of(manifest, grid)
    _check_bricks(manifest["bricks"], layout)
    return Header(grid, layout, arrays, numbers, str(manifest["key"]), manifest, size)


def layout_of(manifest: dict, grid: Grid) -> BrickLayout:
    """The layout in a manifest; one brick when there is none. Raises what `BrickLayout.from_dict` does."""
    if "layout" not in manifest:
        return BrickLayout(grid.value_dims)
    return BrickLayout.from_dict(manifest["layout"], grid.value_dims)


def _check_bricks(bricks: list[dict], layout: BrickLayout) -> None:
    """Raise ModelFileError unless the entries are the layout's bricks."""
    if not isinstance(bricks, list) or len(bricks) != layout.count:  # before the layout makes as many numbers
        found = f"{len(bricks)} bricks" if isinstance(bricks, list) else repr(bricks)
        raise ModelFileError(f"bricks: expected {layout.count} for the layout's counts {layout.counts}, found {found}")
    for brick, entry in enumerate(bricks):
        core, start, stop = layout.core(brick), entry["start"], entry["stop"]
        if start != list(core.start) or stop != list(core.stop):
            raise ModelFileError(
                f"brick {brick}: expected start {list(core.start)} and stop {list(core.stop)} of the layout, "
                f"found {start} and {stop}"
            )


def _parse_sections(manifest: dict) -> Sections:
    sections = {}
    for entry in manifest["sections"]:
        numbers = [entry[name] for name in ("brick", "time", "offset", "length")]
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError(f"sections: expected whole numbers, found {numbers}")
        sections[numbers[0], numbers[1]] = (numbers[2], numbers[3], str(entry["sha256"]), str(entry["coder"]))
    for pair in ((b, t) for b in range(len(manifest["bricks"])) for t in range(len(manifest["times"]))):
        if pair not in sections:
            raise ModelFileError(f"section of brick {pair[0]}, time step {pair[1]}: missing")
    return sections
