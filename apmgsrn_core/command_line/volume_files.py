"""Volumes in files: .npy, .raw, .vti and .nrrd are read, .npy, .raw and .vti are written."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ..errors import ApmgsrnError, ConfigError, DataError, FieldError, one_line
from ..file.model_writer import write_bytes
from ..grid import Grid
from .image_data_file import image_data_text, read_image_data
from .nrrd_file import read_nrrd

RAW = (".raw", ".bin", ".dat")
MAPPED = (".npy", *RAW)  # only what is asked for is read of them
READ = (*MAPPED, ".vti", ".nrrd", ".nhdr")
WRITTEN = (".npy", ".raw", ".vti")
NAMED = re.compile(r"_(\d+)x(\d+)x(\d+)_(u?int(?:8|16|32|64)|float(?:16|32|64))$")


@dataclass(frozen=True)
class Volume:
    """Arrays on one lattice.

    Attributes:
        arrays: values[z, y, x] or [z, y, x, component] by name.
        grid: Where they are.
        placed: Whether the file tells where the grid is in the world.
    """

    arrays: dict[str, np.ndarray]
    grid: Grid
    placed: bool


def add_volume_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is in a file which does not."""
    group = parser.add_argument_group("what is in the data files")
    group.add_argument("--array", action="append", default=[], metavar="NAME",
                       help="of a .vti: only this array; may be repeated. Of the others: what their array is called")  # fmt: skip
    group.add_argument("--dims", nargs=3, type=int, metavar=("NX", "NY", "NZ"),
                       help="values of a .raw; else taken from a name as NAME_64x32x16_uint8.raw")  # fmt: skip
    group.add_argument("--dtype", help="type of a .raw, as numpy names it")
    group.add_argument("--components", type=int, help="components of a value of a .raw (default: 1)")
    group.add_argument("--skip-bytes", type=int, help="bytes before the values of a .raw (default: 0)")
    group.add_argument("--big-endian", action="store_true", help="the numbers of a .raw are big-endian")
    group.add_argument("--spacing", nargs=3, type=float, metavar=("X", "Y", "Z"), help="of a .npy or .raw (default: 1 1 1)")
    group.add_argument("--origin", nargs=3, type=float, metavar=("X", "Y", "Z"), help="of a .npy or .raw (default: 0 0 0)")
    group.add_argument("--cells", action="store_true", help="the values of a .npy or .raw are those of cells, not points")


def read_volume(path: str, options: argparse.Namespace) -> Volume:
    """The volume in a file; see `add_volume_arguments`.

    Raises:
        DataError: The file cannot be read. ConfigError: An option is missing, or of no use for such a file.
        FieldError: It has no array of that name.
    """
    path, kind = Path(path), Path(path).suffix.lower()
    if kind not in READ:
        raise DataError(f"{path}: expected a file that ends in one of {', '.join(READ)}")
    _check_options(path, kind, options)
    with reading(path):
        if kind == ".vti":
            return _chosen(path, *read_image_data(path), options.array)
        if kind in (".nrrd", ".nhdr"):
            values, grid = read_nrrd(path)
            return Volume({options.array[0] if options.array else path.stem: values}, grid, True)
        values = _mapped(path, options) if kind in RAW else _loaded(path)
    more = 1 if options.cells else 0
    dims = tuple(n + more if n > 1 else n for n in values.shape[2::-1])
    grid = Grid(dims, options.origin or (0, 0, 0), options.spacing or (1, 1, 1), association="cell" if more else "point")
    name = options.array[0] if options.array else array_name(path)
    return Volume({name: values}, grid, bool(options.origin or options.spacing))


def _check_options(path: Path, kind: str, options: argparse.Namespace) -> None:
    """Raise ConfigError for an option that such a file has no use for."""
    raw, plain = ("dims", "dtype", "components", "skip_bytes", "big_endian"), ("spacing", "origin", "cells")
    useless = [*(raw if kind not in RAW else ()), *(plain if kind not in RAW and kind != ".npy" else ())]
    for name in useless:
        if getattr(options, name) is not None and getattr(options, name) is not False:  # 0 was given
            kinds = ".raw" if name in raw else ".npy and .raw"
            raise ConfigError(f"{path}: --{name.replace('_', '-')}: expected only with {kinds}, which do not tell it themselves")
    if kind != ".vti" and len(options.array) > 1:
        raise ConfigError(f"{path}: --array: expected one name for its only array, found {len(options.array)}")


def array_name(path: Path) -> str:
    """What the array of a file is called that has no name for it."""
    return NAMED.sub("", path.stem) or path.stem


def _loaded(path: Path) -> np.ndarray:
    """The array of a .npy, mapped; one of two axes is a flat volume."""
    values = numpy_array(path, "r")
    values = values[None] if values.ndim == 2 else values
    if values.ndim not in (3, 4) or 0 in values.shape or values.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected numbers [z, y, x] or [z, y, x, component], found {values.dtype} of {values.shape}")
    return values


def numpy_array(path: Path, mapped: str | None = None) -> np.ndarray:
    """The array of a .npy; `mapped` as numpy's `mmap_mode`. Raises DataError."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # what is longer than the file says is refused
    except (EOFError, OverflowError, SyntaxError, TokenError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a .npy file of numbers: {one_line(error)}") from error
    if not isinstance(values, np.ndarray):  # an archive of several
        raise DataError(f"{path}: expected a .npy file of one array, found an archive")
    return values if mapped else np.array(values)


def _mapped(path: Path, options: argparse.Namespace) -> np.ndarray:
    """The values of a .raw, mapped."""
    told = NAMED.search(path.stem)
    dims = options.dims or (told and [int(n) for n in told.groups()[:3]])
    text = options.dtype or (told and told[4])
    if not dims or not text:
        raise ConfigError(f"{path}: expected --dims NX NY NZ and --dtype TYPE, or a name as NAME_64x32x16_uint8.raw")
    components, skipped = 1 if options.components is None else options.components, options.skip_bytes or 0
    try:
        dtype = np.dtype(text).newbyteorder(">" if options.big_endian else "<")
    except TypeError as error:
        raise ConfigError(f"--dtype: expected a type as numpy names it, found {text!r}") from error
    shape = (*dims[::-1], *([components] if components > 1 else []))
    if min(*shape, components) < 1 or skipped < 0 or dtype.kind not in "iuf":
        raise ConfigError(f"{path}: expected positive sizes and a type of numbers, found {shape}, {skipped} bytes, {dtype}")
    expected, found = skipped + int(np.prod([int(n) for n in shape])) * dtype.itemsize, path.stat().st_size
    if found != expected:
        raise DataError(f"{path}: expected {expected} bytes of {shape} (z, y, x) {dtype}, found {found}")
    return np.memmap(path, dtype, "r", skipped, shape)


def _chosen(path: Path, arrays: dict, grid: Grid, names: Sequence[str]) -> Volume:
    """Those of the arrays that are wanted; without names all on the points, or all in the cells when there are none."""
    if not arrays:
        raise DataError(f"{path}: expected an array of numbers, found none")
    for name in names:
        if not any(name == other for _, other in arrays):
            raise FieldError(f"{path}: no array {name!r}; there are {', '.join(sorted({n for _, n in arrays}))}")
    sides = ["point", "cell"]
    side = next(
        (s for s in sides if all((s, n) in arrays for n in names) and any(kind == s for kind, _ in arrays)), None
    )  # fmt: skip
    if side is None:
        raise DataError(f"{path}: expected arrays that are all on the points, or all in the cells, found {', '.join(names)}")
    chosen = names or [name for kind, name in arrays if kind == side]
    return Volume({name: arrays[side, name] for name in chosen}, replace(grid, association=side), True)


def write_volume(path: str, arrays: dict[str, np.ndarray], grid: Grid) -> None:
    """Write arrays[z, y, x] or [z, y, x, component], whole or not at all.

    Raises:
        DataError: Such files cannot be written, or hold only one array. ModelFileError: The folder cannot be written.
    """
    path, kind = Path(path), check_written(path)
    if kind == ".vti":
        return write_bytes(path, image_data_text(arrays, grid))
    if len(arrays) != 1:
        raise DataError(f"{path}: expected one array for a {kind}, found {', '.join(arrays)}; choose one with --array")
    (values,) = arrays.values()
    if kind == ".raw":
        return write_bytes(path, values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return write_bytes(path, array_bytes(values))


def check_written(path: str) -> str:
    """The ending of a volume's file; DataError when such are not written."""
    kind = Path(path).suffix.lower()
    if kind not in WRITTEN:
        raise DataError(f"{path}: expected a file that ends in one of {', '.join(WRITTEN)}")
    return kind


def array_bytes(values: np.ndarray) -> bytes:
    """The bytes of a .npy."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns the system's errors into DataErrors that name the file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ApmgsrnError):
            raise
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
