"""Writing model files: in memory, to a path, or by many ranks into one file. `model_file.py` has the format."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..distributed import Communicator
from ..errors import DataError, ModelFileError
from ..grid import Grid
from .manifest import layout_of, parse_manifest, requirements
from .model_file import MAGIC, PREAMBLE, VERSION, ModelFile
from .whole_file import check_writable, drop_left, errors_of, replacing

PATIENCE = 10.0  # seconds until a file that rank 0 made must be there for the other ranks
PAUSE = 0.05  # seconds between two looks

Described = tuple[int, dict, int, str, int, str]


@dataclass(frozen=True)
class StoredBrick:
    """A finished brick on its way into a model file; its bytes are fetched when they are written.

    Args:
        brick: Its number in the layout.
        entry: Its entry of the manifest's `bricks[]`.
        length: Of its section in bytes.
        sha256: Of its section, hexadecimal.
        read: Returns the section, from memory or a file; called once.
        time: The number of its time step in the file.
        coder: Of the section, see `model_file.py`.
    """

    brick: int
    entry: dict
    length: int
    sha256: str
    read: Callable[[], bytes]
    time: int = 0
    coder: str = "none"

    @classmethod
    def of_bytes(cls, brick: int, entry: dict, section: bytes, time: int = 0, coder: str = "none") -> "StoredBrick":
        """A brick whose section is in memory."""
        return cls(brick, entry, len(section), hashlib.sha256(section).hexdigest(), lambda: section, time, coder)

    @property
    def described(self) -> Described:
        """All but the bytes: (brick, entry, length, sha256, time, coder)."""
        return self.brick, self.entry, self.length, self.sha256, self.time, self.coder

    def section(self) -> bytes:
        """The bytes, checked. Raises ModelFileError when they cannot be read or are not those that were described."""
        try:
            data = self.read()
        except OSError as error:
            raise ModelFileError(f"section of brick {self.brick}: cannot be read: {error}") from error
        if len(data) != self.length:
            raise ModelFileError(f"section of brick {self.brick}: expected {self.length} bytes, found {len(data)}")
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ModelFileError(f"section of brick {self.brick}: the checksum does not match what was described")
        return data


@dataclass(frozen=True)
class _Plan:
    """Where everything goes: the offset of the section of each (brick, time), then the manifest's text; the preamble is
    first."""

    offsets: dict[tuple[int, int], int]
    end: int
    text: bytes
    preamble: bytes

    @property
    def size(self) -> int:
        """Of the file in bytes."""
        return self.end + len(self.text)


def pack_model(manifest: dict, bricks: list[StoredBrick]) -> bytes:
    """A whole model file in memory.

    Args:
        manifest: Without `bricks` and `sections`; see `model_file`.
        bricks: All bricks of its layout at all of its time steps, in any order.

    Raises:
        DataError: A brick is missing, there twice, or not in the layout.
        ModelFileError: The manifest could not be opened again, or a section is not what was described.
    """
    plan = _plan("model", manifest, [b.described for b in bricks])
    sections = [b.section() for b in sorted(bricks, key=lambda b: (b.brick, b.time))]
    return b"".join([plan.preamble, *sections, plan.text])


def write_model(
    path: str | os.PathLike, manifest: dict, bricks: list[StoredBrick], communicator: Communicator
) -> None:
    """Write a model file from the bricks of all ranks, whole or not at all (collective).

    Only entries, lengths and digests travel between ranks. Each rank writes its sections to their places in one
    temporary file beside the target, on a file system that all ranks see; rank 0 completes and renames it. The file is
    the one that `pack_model` makes of all bricks, whatever the number of ranks.

    Args:
        path: Of the file, the same on each rank.
        manifest: As `pack_model` takes it; rank 0's is written.
        bricks: Those that this rank has; none is fine.
        communicator: The ranks.

    Raises:
        DataError, ModelFileError: As `pack_model`, and when the file cannot be written: on every rank, and an older
            file stays.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    described = [d for own in communicator.everywhere([b.described for b in bricks]) for d in own]
    plan = communicator.together(lambda: _plan(str(path), manifest, described))
    communicator.from_root(lambda: _create(path, partial))
    try:
        communicator.together(lambda: _write_sections(path, partial, plan, bricks))
        communicator.from_root(lambda: _complete(path, partial, plan))
    except BaseException:
        if communicator.rank == 0:
            with suppress(OSError):
                partial.unlink()
        raise


def _plan(name: str, manifest: dict, described: list[Described]) -> _Plan:
    """The plan of a file with these bricks; the same for any order of them."""
    layout, steps = layout_of(manifest, Grid.from_dict(manifest["grid"])), len(manifest["times"])
    _check_complete(name, Counter((brick, time) for brick, _, _, _, time, _ in described), layout.count, steps)
    entries, sections, offsets, offset = [], [], {}, PREAMBLE.size
    for brick, entry, length, digest, time, coder in sorted(described, key=lambda d: (d[0], d[4])):
        if time == 0:
            entries.append(entry)
        elif entry != entries[-1]:
            raise DataError(f"{name}: brick {brick}: expected one network at all time steps, found another at step {time}")
        sections.append({
            "brick": brick, "time": time, "offset": offset, "length": length, "sha256": digest, "coder": coder,
        })  # fmt: skip
        offsets[brick, time] = offset
        offset += length
    whole = {"format": "apmgsrn", "mask": None, **manifest}
    whole.update(bricks=entries, sections=sections)
    whole["requires"] = requirements(whole)
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")
    parse_manifest(text, offset + len(text), name)  # what is written can be opened
    preamble = PREAMBLE.pack(MAGIC, VERSION, 0, offset, len(text), hashlib.sha256(text).digest())
    return _Plan(offsets, offset, text, preamble)


def _check_complete(name: str, found: Counter, count: int, steps: int) -> None:
    """Raise DataError unless every brick is there once at each time step."""
    wanted = [(brick, time) for brick in range(count) for time in range(steps)]
    strange = [pair for pair in found if pair[0] not in range(count) or pair[1] not in range(steps)]
    wrong = strange or [pair for pair in wanted if found[pair] != 1]
    if wrong:
        (brick, time), last = wrong[0], count - 1
        when = f" at time step {time}" if steps > 1 else ""
        raise DataError(
            f"{name}: brick {brick}{when}: expected each of 0 to {last} once, found this {found[brick, time]} times"
        )


def _create(path: Path, partial: Path) -> None:
    """An empty temporary file; what an earlier run has left there is emptied, not replaced: other computers know it."""
    check_writable(path)
    with errors_of(path):
        drop_left(path.parent)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))


def _write_sections(path: Path, partial: Path, plan: _Plan, bricks: list[StoredBrick]) -> None:
    """This rank's sections, flushed to the disk."""
    if not bricks:
        return
    with _opened(path, partial) as handle:
        for stored in sorted(bricks, key=lambda b: (b.brick, b.time)):
            data = stored.section()
            with errors_of(path, plan.size):
                _write_at(handle, data, plan.offsets[stored.brick, stored.time])
        with errors_of(path, plan.size):
            os.fsync(handle)


def _complete(path: Path, partial: Path, plan: _Plan) -> None:
    """The manifest, then the preamble that makes it a model file, then its name."""
    with _opened(path, partial) as handle, errors_of(path, plan.size):
        _write_at(handle, plan.text, plan.end)
        _write_at(handle, plan.preamble, 0)
        os.fsync(handle)
    with errors_of(path):
        os.replace(partial, path)


def _write_at(handle: int, data: bytes, offset: int) -> None:
    """All bytes at an offset; one call to the system may write fewer."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(handle, rest, offset)
        rest, offset = rest[written:], offset + written


@contextmanager
def _opened(path: Path, partial: Path) -> Iterator[int]:
    """The temporary file that rank 0 has made, for writing. A network file system may show it a little late."""
    end = time.monotonic() + PATIENCE
    while not partial.exists() and time.monotonic() < end:
        time.sleep(PAUSE)
    if not partial.exists():
        raise ModelFileError(f"{path}: expected a folder that all ranks share, found no {partial.name} of rank 0 there")
    with errors_of(path):
        handle = os.open(partial, os.O_WRONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file or nothing: temporary file in the same folder, flush to disk, rename.

    Raises:
        ModelFileError: The folder does not exist or cannot be written, the disk is full. An older file stays.
    """
    with replacing(Path(path), len(data)) as file:
        file.write(data)


def copy_model(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy a model file block by block, whole or not at all; what was copied is checked. Raises ModelFileError."""
    model = ModelFile(source)
    with replacing(Path(target), model.size) as file:
        for block in model.blocks(0, model.size, model.name):
            file.write(block)
        file.flush()
        copy = ModelFile(file.name)  # the source may be written anew meanwhile
        copy.name = model.name
        copy.check_sections()
