"""The model file `.apmgsrn`, version 1.

- One file: a preamble of 64 bytes, sections one after the other, the manifest last. Little-endian.
- Preamble: 8 bytes magic `89 41 50 4D 47 53 52 4E` ("APMGSRN" after a byte that is no text), uint32 version,
  uint32 zero, uint64 offset and uint64 length of the manifest, 32 bytes SHA-256 of the manifest.
- Manifest: JSON in UTF-8, sorted keys, no spaces; readable without the sections.
- `requires[]` names what a reader must know beyond this text; a reader refuses a name it does not know.
- `grid`: dims (points of the mesh, x y z), origin (of the first point), spacing, direction, association, bounds.
- `arrays[]`: name, association, components, dtype of the original, range [min, max] over all components,
  value transform ("identity"), unit (or null). The network's outputs are the arrays' components in order.
- `times[]`: one entry a time step, `value` its time or null.
- `bricks[]`: start and stop (value indices, half-open) of a part of the domain, and `grids[]`, its table of feature
  grids: count, resolution, features, placed, interpolation, dtype.
- `sections[]`: one for each (brick, time step): offset, length, sha256, coder ("none").
- A section is a safetensors buffer: `features` (flat; a grid is [feature][z][y][x]), `transforms` (m, 3, 4),
  `decoder.<i>.weight`, `decoder.<i>.bias`, `skip.weight`; float16 or float32 (transforms, and what float16 would not
  hold, whatever the table's dtype).
- value = minimum + (maximum - minimum) * network output, the network reading normalised coordinates (`grid.py`).
- `axes`, `mask`, `residual`, `macrocells` are null in this version. `model`, `training`: both configs. `key`: hash of
  the training's input and settings.
- No date, duration, host, path, rank or thread count: the same training gives the same bytes.
- Opening executes nothing: JSON and safetensors are data. Lengths are checked against the file before memory is asked.
- A file is written beside its target, flushed to the disk and renamed: a reader never sees half a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import ApmgsrnError, ModelFileError
from .grid import Grid

MAGIC = b"\x89APMGSRN"
VERSION = 1
PREAMBLE = struct.Struct("<8sIIQQ32s")
KNOWN_REQUIREMENTS: frozenset[str] = frozenset()
LATER_PARTS = ("axes", "mask", "residual", "macrocells")


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
    arrays: tuple[ArrayInfo, ...]
    times: tuple[float, ...]
    key: str
    manifest: dict = field(repr=False)
    byte_count: int


class ModelFile:
    """A model file, or its bytes, opened for reading; the manifest is read and checked at once, sections on request.

    Args:
        source: A path, or the bytes of a file.
        name: What messages call the bytes.

    Raises:
        ModelFileError: Missing, foreign, of another version, damaged; the message says which and where.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str = "model"):
        self._bytes = source if isinstance(source, bytes) else None
        self.name = name if self._bytes is not None else os.fspath(source)
        self.size = len(self._bytes) if self._bytes is not None else self._size_on_disk()
        manifest = self._read_manifest()
        try:
            self.header = _parse_header(manifest, self.size)
            self.sections = _parse_sections(manifest)
        except ApmgsrnError as error:
            raise ModelFileError(f"{self.name}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ModelFileError(f"{self.name}: damaged manifest: {type(error).__name__}: {error}") from error

    def read_section(self, brick: int = 0, time: int = 0) -> dict[str, np.ndarray]:
        """The tensors of one brick at one time step, checked: present, whole, finite."""
        what = f"{self.name}: section of brick {brick}, time step {time}"
        offset, length, digest, coder = self.sections[brick, time]
        if coder != "none":
            raise ModelFileError(f"{what}: coder {coder!r} is not known to this version")
        data = self._read(offset, length, what)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ModelFileError(f"{what}: the checksum does not match, the file is damaged")
        return _read_tensors(data, what)

    def _size_on_disk(self) -> int:
        try:
            path = Path(self.name)
            if path.is_dir():
                raise ModelFileError(f"{self.name}: expected a model file, found a folder")
            return path.stat().st_size
        except OSError as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{self.name}: cannot be opened: {error.strerror}") from error

    def _read_manifest(self) -> dict:
        if self.size < PREAMBLE.size:
            raise ModelFileError(
                f"{self.name}: too short for a model file: expected at least {PREAMBLE.size} bytes, found {self.size}"
            )
        magic, version, _, offset, length, digest = PREAMBLE.unpack(self._read(0, PREAMBLE.size, self.name))
        if magic != MAGIC:
            raise ModelFileError(f"{self.name}: not an .apmgsrn file: it begins with {magic!r}")
        if version != VERSION:
            raise ModelFileError(f"{self.name}: format version {version}; this program reads version {VERSION}")
        data = self._read(offset, length, f"{self.name}: manifest")
        if hashlib.sha256(data).digest() != digest:
            raise ModelFileError(f"{self.name}: the manifest's checksum does not match, the file is damaged")
        try:
            manifest = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{self.name}: the manifest is not JSON: {error}") from error
        if not isinstance(manifest, dict):
            raise ModelFileError(f"{self.name}: the manifest is not a JSON object")
        return manifest

    def _read(self, offset: int, length: int, what: str) -> bytes:
        if offset + length > self.size:
            raise ModelFileError(
                f"{what}: truncated: expected {length} bytes at {offset}, found {max(self.size - offset, 0)}"
            )
        if self._bytes is not None:
            return self._bytes[offset : offset + length]
        try:
            with open(self.name, "rb") as file:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise ModelFileError(f"{what}: cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise ModelFileError(f"{what}: truncated: expected {length} bytes at {offset}, found {len(data)}")
        return data


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
    grid, bricks = Grid.from_dict(manifest["grid"]), manifest["bricks"]
    if not arrays or not isinstance(bricks, list) or not bricks:
        raise ValueError("expected at least one array and one brick")
    if any(a.association != grid.association for a in arrays):
        raise ValueError(f"arrays: expected all on the {grid.association}s of the grid")
    if len(bricks) == 1 and (bricks[0]["start"], bricks[0]["stop"]) != ([0, 0, 0], list(grid.value_dims)):
        raise ValueError(f"bricks: expected one that covers the values {grid.value_dims}, found {bricks[0]['stop']}")
    return Header(grid, arrays, numbers, str(manifest["key"]), manifest, size)


def _parse_sections(manifest: dict) -> dict[tuple[int, int], tuple[int, int, str, str]]:
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


def _read_tensors(data: bytes, what: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(f"{what}: not a safetensors buffer: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in (np.float16, np.float32):
            raise ModelFileError(f"{what}: {name!r}: expected float16 or float32, found {tensor.dtype}")
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"{what}: {name!r} holds NaN or infinite weights")
    return tensors


def read_header(source: str | os.PathLike | bytes) -> Header:
    """Read the manifest alone; the weights are not touched. Raises ModelFileError."""
    return ModelFile(source).header


def pack(manifest: dict, sections: dict[tuple[int, int], dict[str, np.ndarray]]) -> bytes:
    """A whole model file from the manifest (without `sections`) and the tensors of each (brick, time step)."""
    from safetensors.numpy import save

    parts, entries, offset = [], [], PREAMBLE.size
    for (brick, time), tensors in sorted(sections.items()):
        data = save({name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())})
        entries.append({
            "brick": brick, "time": time, "offset": offset, "length": len(data),
            "sha256": hashlib.sha256(data).hexdigest(), "coder": "none",
        })  # fmt: skip
        parts.append(data)
        offset += len(data)
    manifest = {"format": "apmgsrn", "requires": [], **dict.fromkeys(LATER_PARTS), **manifest, "sections": entries}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")
    preamble = PREAMBLE.pack(MAGIC, VERSION, 0, offset, len(text), hashlib.sha256(text).digest())
    return b"".join([preamble, *parts, text])


def check_writable(path: str | os.PathLike) -> None:
    """Raise ModelFileError when a model could not be written there; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path}: expected a file name, found a folder")
    try:
        handle, name = tempfile.mkstemp(prefix=".apmgsrn-", dir=path.parent)
    except OSError as error:
        raise ModelFileError(f"{path}: the folder {str(path.parent)!r} cannot be written: {error.strerror}") from error
    os.close(handle)
    os.unlink(name)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file or nothing: temporary file in the same folder, flush to disk, rename.

    Raises:
        ModelFileError: The folder does not exist or cannot be written, the disk is full. An older file stays.
    """
    path = Path(path)
    check_writable(path)
    handle, name = tempfile.mkstemp(prefix=".apmgsrn-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ModelFileError(f"{path}: cannot be written: {error.strerror}") from error


def read_model(path: str | os.PathLike) -> bytes:
    """All bytes of a model file, each section checked. Raises ModelFileError."""
    model = ModelFile(path)
    for brick, time in model.sections:
        model.read_section(brick, time)
    return model._read(0, model.size, model.name)


def copy_model(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a model file after checking it, whole or not at all. Raises ModelFileError."""
    write_bytes(target, read_model(source))
