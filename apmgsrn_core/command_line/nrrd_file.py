"""NRRD files with a raw or gzip encoding, `.nrrd` and `.nhdr` with its data in another file.

Source: Teem, "Definition of NRRD File Format", versions 1 to 5.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from ..grid import Grid

NAMES = {
    "i1": "signed char|int8|int8_t", "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t", "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t", "f4": "float", "f8": "double",
}  # fmt: skip
TYPES = {name: code for code, names in NAMES.items() for name in names.split("|")}
ENCODINGS = ("raw", "gzip", "gz")
NO_SPACE = ("none", "???", "list", "vector", "point", "color", "RGB-color", "3-vector", "scalar")  # kinds of components


def read_nrrd(path: Path) -> tuple[np.ndarray, Grid]:
    """Values [z, y, x] or [z, y, x, component] and the lattice of a volume.

    Raises:
        DataError: No NRRD file, or one of another encoding, or not three axes in space.
    """
    head, data = _parts(path.read_bytes(), path)
    try:
        return _volume(_fields(head, path), data, path)
    except DataError:
        raise
    except (OverflowError, ValueError) as error:
        raise DataError(f"{path}: damaged header: {error}") from error


def _volume(fields: dict[str, str], data: bytes, path: Path) -> tuple[np.ndarray, Grid]:
    """Of the fields of a header and the data behind it."""
    sizes = [int(n) for n in _needed(fields, "sizes", path).split()]
    axes = _directions(fields, len(sizes), path)
    dims = sizes[-3:]
    if len(sizes) not in (3, 4) or min(sizes) < 1 or any(axis is None for axis in axes[-3:]):
        raise DataError(f"{path}: expected three axes in space, and perhaps one of components before them, found sizes {sizes}")
    dtype = _type(fields, path)
    data = _decoded(fields, data, path, math.prod(sizes) * dtype.itemsize + 1)
    if len(data) != math.prod(sizes) * dtype.itemsize:
        raise DataError(f"{path}: expected {math.prod(sizes)} numbers of {dtype.itemsize} bytes, found {len(data)} bytes")
    shape = [*dims[::-1], *([sizes[0]] if len(sizes) == 4 and sizes[0] > 1 else [])]
    values = np.frombuffer(data, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("=")), _grid(fields, dims, axes[-3:])


def _parts(data: bytes, path: Path) -> tuple[str, bytes]:
    """The lines of the header, and what follows the empty line after them."""
    if not re.match(rb"NRRD000[1-5]\r?\n", data):
        raise DataError(f"{path}: expected a NRRD file of version 1 to 5, found one that begins with {data[:8]!r}")
    head, _, rest = data.partition(b"\r\n\r\n" if data[8:10] == b"\r\n" else b"\n\n")
    return head.decode("ascii", "replace"), rest


def _fields(head: str, path: Path) -> dict[str, str]:
    fields = {}
    for line in head.splitlines()[1:]:
        name, colon, value = line.partition(":")
        if not line.startswith("#") and colon and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    if fields.get("encoding", "raw") not in ENCODINGS:
        raise DataError(f"{path}: encoding: expected one of {ENCODINGS}, found {fields['encoding']!r}")
    return fields


def _needed(fields: dict[str, str], name: str, path: Path) -> str:
    if name not in fields:
        raise DataError(f"{path}: {name}: missing")
    return fields[name]


def _type(fields: dict[str, str], path: Path) -> np.dtype:
    name = _needed(fields, "type", path)
    if name not in TYPES:
        raise DataError(f"{path}: type: expected integers or floating-point numbers, found {name!r}")
    return np.dtype((">" if fields.get("endian") == "big" else "<") + TYPES[name])


def _decoded(fields: dict[str, str], data: bytes, path: Path, most: int) -> bytes:
    """The bytes of the numbers, at most so many of packed ones; those of a detached header are in another file of its folder."""
    detached = fields.get("data file", fields.get("datafile"))
    if detached is not None:
        place = PurePosixPath(detached)
        if detached.startswith("LIST") or " " in detached or place.is_absolute() or {"..", ""} & {detached, *place.parts}:
            raise DataError(f"{path}: data file: expected one file in the folder of the header, found {detached!r}")
        data = (path.parent / detached).read_bytes()
    if any(int(fields.get(name, fields.get(name.replace(" ", ""), "0"))) > 0 for name in ("line skip", "byte skip")):
        raise DataError(f"{path}: expected data without skipped lines or bytes")
    if fields.get("encoding", "raw") == "raw":
        return data
    try:
        return zlib.decompressobj(31).decompress(data, most)
    except zlib.error as error:
        raise DataError(f"{path}: damaged gzip data: {error}") from error


def _directions(fields: dict[str, str], count: int, path: Path) -> list:
    """The vector of a step along each axis in the world; None of an axis of components."""
    if "space directions" in fields:
        found = re.findall(r"none|\(([^()]*)\)", fields["space directions"])
        axes = [np.array([float(n) for n in text.split(",")]) if text else None for text in found]
        if len(axes) != count or any(a is not None and len(a) != 3 for a in axes):
            raise DataError(f"{path}: space directions: expected {count}, found {fields['space directions']!r}")
        return axes
    kinds = fields.get("kinds", "").split() or ["domain"] * count
    steps = [float(s) for s in fields.get("spacings", "").split()] or [1.0] * count
    inner = [0] * (count - 3) + list(range(3))
    return [
        None if kind in NO_SPACE else np.eye(3)[axis] * (step if np.isfinite(step) else 1.0)
        for axis, kind, step in zip(inner, kinds, steps)
    ]


def _grid(fields: dict[str, str], dims, axes) -> Grid:
    spacing = [float(np.linalg.norm(axis)) for axis in axes]
    direction = tuple(map(tuple, np.transpose([axis / s if s else axis for axis, s in zip(axes, spacing)]).tolist()))
    origin = re.findall(r"[^(),\s]+", fields.get("space origin", "")) or ["0"] * 3
    return Grid(tuple(dims), tuple(float(n) for n in origin), tuple(spacing), direction)
