"""The manifest of a model file: what it says about itself, read and checked. `model_file.py` has the format's text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np

from ..brick_layout import BrickLayout
from ..data.mask import KINDS, VOXELS
from ..data.value_transform import IDENTITY, ValueTransform
from ..errors import ApmgsrnError, ModelFileError
from ..grid import Grid
from .json_text import parse_json

KNOWN_REQUIREMENTS = frozenset(("axes", "coded networks", "error bounds", "mask", "value transforms"))
CODERS = ("none", "rounded", "delta")
FIRST_SECTION = 64  # bytes: behind the preamble
MASKS = (None, *KINDS)
TYPE = re.compile(r"[<>=|]?[A-Za-z]+\d{0,3}")  # of an array, as numpy names it

Sections = dict[tuple[int, int], tuple[int, int, str, str]]  # (brick, time step) -> offset, length, sha256, coder


@dataclass(frozen=True)
class ArrayInfo:
    """One array of a model: its name, where it sits, its components, own numpy type, range, unit, value transform."""

    name: str
    association: str
    components: int
    dtype: str
    range: tuple[float, float]
    unit: str = ""
    transform: ValueTransform = IDENTITY

    def to_dict(self) -> dict:
        """The entry in the manifest."""
        return {
            "name": self.name, "association": self.association, "components": self.components,
            "dtype": self.dtype, "range": list(self.range), "transform": self.transform.to_text(),
            "unit": self.unit or None,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict) -> "ArrayInfo":
        """The inverse of `to_dict`; a value that cannot be is a ValueError."""
        name, unit = data["name"], data.get("unit") or ""
        if not isinstance(name, str) or not isinstance(unit, str) or not TYPE.fullmatch(data["dtype"]):
            raise ValueError(f"array: expected texts, found name {name!r}, unit {unit!r}, type {data['dtype']!r}")
        info = cls(
            name, data["association"], int(data["components"]), np.dtype(data["dtype"]).name,
            (float(data["range"][0]), float(data["range"][1])), unit,
            ValueTransform.from_text(data["transform"]),
        )  # fmt: skip
        if info.association not in ("point", "cell") or not 1 <= info.components <= 1024:
            raise ValueError(f"array {info.name!r}: association {info.association!r}, {info.components} components")
        low, high = info.range
        if not math.isfinite(high - low) or low > high or np.dtype(info.dtype).kind not in "iuf":
            raise ValueError(f"array {info.name!r}: range {info.range}, type {info.dtype}")
        if info.transform.kind == "log" and low <= 0:
            raise ValueError(f"array {info.name!r}: range {info.range} of a logarithm")
        return info


@dataclass(frozen=True)
class Header:
    """What a model file says about itself, without its weights.

    Attributes:
        arrays: With the ranges of the first time step.
        times: () when the data had no time.
        ranges: (low, high) of each array at each time step.
        bounds: Of each array at each time step how far a value may be from the data, in its unit; 0: not bound.
        mask: What the bits of its masks stand for, one of `mask.KINDS`; None: it has none.
    """

    grid: Grid
    layout: BrickLayout
    arrays: tuple[ArrayInfo, ...]
    times: tuple[float, ...]
    ranges: tuple[tuple[tuple[float, float], ...], ...]
    bounds: tuple[tuple[float, ...], ...]
    mask: str | None
    key: str
    manifest: dict = field(repr=False)
    byte_count: int

    @property
    def bounded(self) -> bool:
        """Whether an array is within a bound at some time step."""
        return any(map(any, self.bounds))

    def arrays_at(self, step: int) -> tuple[ArrayInfo, ...]:
        """The arrays with their ranges at a time step, 0 being the first."""
        return tuple(replace(a, range=r) for a, r in zip(self.arrays, self.ranges[step]))


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
        manifest = parse_json(data)
    except ValueError as error:
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
    for part in ("model", "training"):
        if not isinstance(manifest[part], dict):
            raise ValueError(f"{part}: expected a configuration, found {manifest[part]!r}")
    if not isinstance(manifest.get("macrocells"), str | None):
        raise ValueError(f"macrocells: expected the name of a kind or null, found {manifest['macrocells']!r}")
    times = tuple(entry["value"] for entry in manifest["times"])
    numbers = () if times == (None,) else tuple(float(t) for t in times)
    if not times or not all(math.isfinite(t) for t in numbers) or any(a >= b for a, b in zip(numbers, numbers[1:])):
        raise ValueError(f"times: expected one null or rising finite numbers, found {times}")
    arrays = tuple(ArrayInfo.from_dict(a) for a in manifest["arrays"])
    if not arrays:
        raise ValueError("arrays: expected at least one array, found none")
    ranges = tuple(_ranges_of(entry, arrays) for entry in manifest["times"])
    bounds = tuple(_bounds_of(entry, arrays) for entry in manifest["times"])
    grid, mask = Grid.from_dict(manifest["grid"]), manifest.get("mask")
    if mask not in MASKS:
        raise ValueError(f"mask: expected one of {MASKS}, found {mask!r}")
    if mask not in VOXELS and any(a.association != grid.association for a in arrays):  # of a mesh they may sit on both
        raise ValueError(f"arrays: expected at least one array, and all on the {grid.association}s of the grid")
    layout = layout_of(manifest, grid)
    _check_bricks(manifest["bricks"], layout)
    return Header(grid, layout, arrays, numbers, ranges, bounds, mask, str(manifest["key"]), manifest, size)


def _ranges_of(entry: dict, arrays: tuple[ArrayInfo, ...]) -> tuple[tuple[float, float], ...]:
    """The ranges of a time step; those of the arrays when it has none of its own."""
    if "ranges" not in entry:
        return tuple(a.range for a in arrays)
    if len(entry["ranges"]) != len(arrays):
        raise ValueError(f"times: expected ranges of {len(arrays)} arrays, found {entry['ranges']}")
    checked = (ArrayInfo.from_dict({**a.to_dict(), "range": r}) for a, r in zip(arrays, entry["ranges"]))
    return tuple(a.range for a in checked)


def _bounds_of(entry: dict, arrays: tuple[ArrayInfo, ...]) -> tuple[float, ...]:
    """The error bounds of a time step."""
    bounds = tuple(map(float, entry.get("bounds", (0.0,) * len(arrays))))
    if len(bounds) != len(arrays) or not all(math.isfinite(bound) and bound >= 0 for bound in bounds):
        raise ValueError(f"times: expected an error bound for each of {len(arrays)} arrays, found {entry['bounds']}")
    return bounds


def requirements(manifest: dict) -> list[str]:
    """What a reader must know to open a manifest with sections."""
    needed = {
        "axes": manifest["grid"].get("axes") is not None,
        "coded networks": any(section["coder"] != "none" for section in manifest["sections"]),
        "error bounds": any("bounds" in entry for entry in manifest["times"]),
        "mask": manifest.get("mask") is not None,
        "value transforms": any(a["transform"] != "identity" for a in manifest["arrays"]),
    }
    return [name for name, needs in needed.items() if needs]


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
        _check_coder(entry["coder"], *numbers[:2])
        sections[numbers[0], numbers[1]] = (numbers[2], numbers[3], str(entry["sha256"]), str(entry["coder"]))
    for pair in ((b, t) for b in range(len(manifest["bricks"])) for t in range(len(manifest["times"]))):
        if pair not in sections:
            raise ModelFileError(f"section of brick {pair[0]}, time step {pair[1]}: missing")
    if len(sections) != len(manifest["bricks"]) * len(manifest["times"]):
        raise ModelFileError(f"sections: expected one for each brick and time step, found {len(sections)}")
    _check_order(manifest["sections"])
    return sections


def _check_order(sections: list[dict]) -> None:
    """Raise ModelFileError unless sections come by brick and time, once each, one after the other in the file."""
    offset, before = FIRST_SECTION, (-1, 0)
    for entry in sections:
        place = entry["brick"], entry["time"]
        if place <= before or entry["offset"] != offset:
            raise ModelFileError(
                f"section of brick {place[0]}, time step {place[1]}: expected sections in order, this one at {offset}, "
                f"found it at {entry['offset']} after brick {before[0]}, time step {before[1]}"
            )
        offset, before = offset + entry["length"], place


def _check_coder(coder: str, brick: int, time: int) -> None:
    what = f"section of brick {brick}, time step {time}"
    if coder not in CODERS:
        raise ModelFileError(f"{what}: coder {coder!r} is not known to this version")
    if coder == "delta" and time == 0:
        raise ModelFileError(f"{what}: expected a first time step that stands for itself, found coder 'delta'")
