"""The model file `.apmgsrn`, version 1: the format, and reading it. `model_writer.py` writes it.

- One file: a preamble of 64 bytes, sections one after the other, the manifest last. Little-endian.
- Preamble: 8 bytes magic `89 41 50 4D 47 53 52 4E` ("APMGSRN" after a byte that is no text), uint32 version,
  uint32 zero, uint64 offset and uint64 length of the manifest, 32 bytes SHA-256 of the manifest.
- Manifest: JSON in UTF-8, sorted keys, no spaces; readable without the sections.
- `requires[]` names what a reader must know beyond this text; a reader refuses a name it does not know.
- `grid`: dims (points of the mesh, x y z), origin (of the first point), spacing, direction, association, bounds; of a
  stretched lattice also `axes`, the coordinates of its points along x, y, z (requires "axes").
- `arrays[]`: name, association, components, dtype of the original, range [min, max] over all components, value
  transform, unit (or null). The network's outputs are the arrays' components in order. The transform is "identity",
  {"kind": "log"} or {"kind": "asinh", "scale": s} (requires "value transforms").
- `times[]`: one entry a time step, rising; `value` its time or null, and `ranges`, the arrays' ranges at this step, left
  out when they are those in `arrays`.
- `layout`: how the values of the grid are cut into bricks: counts (along x y z), ghosts, overlap; see `brick_layout.py`,
  which also numbers them (x fastest). Missing: one brick.
- `bricks[]`: one entry a brick, in the order of the numbers: start and stop (value indices, half-open) of the brick's
  own values as the layout gives them, those on shared faces included; `grids[]`, its table of feature grids: count,
  resolution, features, placed, interpolation, dtype; and `config`, those fields of its network's config that differ
  from `model`, left out when none do.
- `sections[]`: one for each (brick, time step), sorted: brick, time, offset, length, sha256, coder. Their
  bytes lie in this order, the first at 64, without gaps.
- A section of coder "none" is a safetensors buffer: `features` (flat; a grid is [feature][z][y][x]), `transforms` (m, 3, 4),
  `decoder.<i>.weight`, `decoder.<i>.bias`, `skip.weight`; float16 or float32 (transforms, and what float16 would not
  hold, whatever the table's dtype); `mask`, bytes, when the brick is not valid everywhere.
- A section of coder "rounded", or "delta", has bytes `coded` instead of the weights: rounded numbers of the same tensors, of
  "delta" as differences to those of the brick at the time step before; see `time_coding.py` (requires "coded networks").
- T(value) = T(minimum) + (T(maximum) - T(minimum)) * network output with the array's transform T, the network reading normalised coordinates (`grid.py`): of the
  whole domain, or with several bricks of the values that the brick was trained on, those of others being blended in.
- `mask`: null, or what the bits of the masks in the sections stand for: "values", "voxels" (the cells between the
  points of the grid), or "voxels/2", "/3", "/4" (those cut along each axis); see `mask.py` (requires "mask").
- `macrocells`: null, or "leveled ranges": a section may have bytes `macrocells`, the ranges of what its network puts out; see
  `stored_macrocells.py`. They only make pictures quicker: a reader that does not know their kind leaves them.
- `times[].bounds`: of each array how far a value may be from the data, in its unit, 0: not bound; left out when none is. Its
  sections then have bytes `residual`, which are added to what the network says; see `residual/residual_blocks.py` (requires
  "error bounds").
- `model`, `training`: both configs. `key`: hash of
  the training's input and settings.
- No date, duration, host, path, rank or thread count: the same training gives the same bytes.
- Opening reads preamble and manifest, and executes nothing: JSON and safetensors are data. No name in a file leads to another
  file.
- A file is written beside its target, flushed to the disk and renamed: a reader never sees half a file.

Limits. What is beyond them is refused, before memory is asked for it:

    manifest             within the file; 32 lists and objects in each other; whole numbers of 64 bits, no NaN
    lattice              2^31 - 1 points along an axis; steps from 1e-150 on, places up to 1e150
    bricks, time steps   those of the layout and of `times[]`, each with its entry of `bricks[]` and `sections[]`
    array                1024 components, a type of numbers
    network              65536 placed grids, 4096 nodes along an axis, 64 features of a node, 16 hidden layers of 4096
    coder "none"         2 bytes for a number
    "rounded", "delta"   1092 numbers for a byte, 2^28 in all; decoding takes at most 48 bytes of memory for each
    mask                 65536 bits for a byte (LZMA2 gives less than 8192 bytes for one), each a byte of memory
    macrocells           64 cells along each axis of a brick; of several bricks those of one at a time are opened
    residual             4 bytes for each block of each component; a block has at most 96^3 values, 64 MiB are kept
    a message            1500 characters of what was found
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import weakref
from collections.abc import Iterator

import numpy as np

from ..errors import ModelFileError
from .manifest import Header, parse_manifest

MAGIC = b"\x89APMGSRN"
VERSION = 1
PREAMBLE = struct.Struct("<8sIIQQ32s")
BYTES = ("mask", "coded", "macrocells", "residual")  # tensors of a section that are bytes, not numbers
BLOCK = 1 << 26  # bytes read at a time where a file need not be in memory


class ModelFile:
    """A model file, or its bytes, opened for reading; the manifest is read and checked at once, sections on request.

    The file stays open: a model that is written to the same path later does not change this one.

    Args:
        source: A path, or the bytes of a file.
        name: What messages call the bytes.

    Raises:
        ModelFileError: Missing, foreign, of another version, damaged; the message says which and where.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str = "model"):
        self._bytes = source if isinstance(source, bytes) else None
        self.name = name if self._bytes is not None else os.fspath(source)
        self.size = len(self._bytes) if self._bytes is not None else self._open()
        self.header, self.sections = parse_manifest(self._read_manifest(), self.size, self.name)

    def coder(self, brick: int, time: int) -> str:
        """How a section is stored. Raises ModelFileError when there is none."""
        self._find(brick, time)
        return self.sections[brick, time][3]

    def read_section(self, brick: int = 0, time: int = 0) -> dict[str, np.ndarray]:
        """The tensors of one brick at one time step, checked: present, whole, finite."""
        what, offset, length, digest = self._find(brick, time)
        data = self._read(offset, length, what)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ModelFileError(f"{what}: the checksum does not match, the file is damaged")
        return _read_tensors(data, what)

    def check_sections(self) -> None:
        """Compare the checksums of all sections, block by block. Raises ModelFileError."""
        for brick, time in self.sections:
            what, offset, length, expected = self._find(brick, time)
            digest = hashlib.sha256()
            for block in self.blocks(offset, length, what):
                digest.update(block)
            if digest.hexdigest() != expected:
                raise ModelFileError(f"{what}: the checksum does not match, the file is damaged")

    def blocks(self, offset: int, length: int, what: str) -> Iterator[bytes]:
        """Some bytes of the file in parts of at most BLOCK. Raises ModelFileError when the file is shorter."""
        for first in range(offset, offset + length, BLOCK):
            yield self._read(first, min(BLOCK, offset + length - first), what)

    def _find(self, brick: int, time: int) -> tuple[str, int, int, str]:
        """(what messages call it, offset, length, sha256) of a section."""
        what = f"{self.name}: section of brick {brick}, time step {time}"
        if (brick, time) not in self.sections:
            raise ModelFileError(f"{what}: missing")
        offset, length, digest, _ = self.sections[brick, time]
        return what, offset, length, digest

    def _open(self) -> int:
        """Open the file for as long as this object lives; returns its size in bytes."""
        try:
            self._handle = os.open(self.name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe does not block
        except OSError as error:
            raise ModelFileError(f"{self.name}: cannot be opened: {error.strerror}") from error
        weakref.finalize(self, os.close, self._handle)
        status = os.fstat(self._handle)
        if stat.S_ISDIR(status.st_mode):
            raise ModelFileError(f"{self.name}: expected a model file, found a folder")
        return status.st_size

    def _read_manifest(self) -> bytes:
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
        return data

    def _read(self, offset: int, length: int, what: str) -> bytes:
        if offset + length > self.size:
            raise ModelFileError(
                f"{what}: truncated: expected {length} bytes at {offset}, found {max(self.size - offset, 0)}"
            )
        if self._bytes is not None:
            return self._bytes[offset : offset + length]
        parts, done = [], 0
        try:
            while done < length and (part := os.pread(self._handle, length - done, offset + done)):
                parts.append(part)  # one, up to 2 GiB
                done += len(part)
        except OSError as error:
            raise ModelFileError(f"{what}: cannot be read: {error.strerror}") from error
        if done != length:
            raise ModelFileError(f"{what}: truncated: expected {length} bytes at {offset}, found {done}")
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_tensors(data: bytes, what: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(f"{what}: not a safetensors buffer: {error}") from error
    for name, tensor in tensors.items():
        kinds = (np.uint8,) if name in BYTES else (np.float16, np.float32)
        if tensor.dtype not in kinds:
            expected = " or ".join(np.dtype(kind).name for kind in kinds)
            raise ModelFileError(f"{what}: {name!r}: expected {expected}, found {tensor.dtype}")
        if name in BYTES and tensor.ndim != 1:
            raise ModelFileError(f"{what}: {name!r}: expected one axis, found shape {tensor.shape}")
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"{what}: {name!r} holds NaN or infinite weights")
    return tensors


def read_header(source: str | os.PathLike | bytes) -> Header:
    """Read the manifest alone; the weights are not touched. Raises ModelFileError."""
    return ModelFile(source).header


def read_model(path: str | os.PathLike) -> bytes:
    """All bytes of a model file, the checksums of its sections compared. Raises ModelFileError."""
    model = ModelFile(path)
    data = model._read(0, model.size, model.name)
    ModelFile(data, model.name).check_sections()  # of what was read: the file may be written over meanwhile
    return data
