"""sample: evaluates a model at points from a .csv or .npy file, and writes the same kind."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..file.model_writer import write_bytes
from .arguments import add_model_arguments, add_quiet_argument, array_of, checked_output, opened, progress
from .volume_files import array_bytes, numpy_array, reading

BLOCK = 1 << 18  # points at a time
HEADS = (("x", "y", "z"), ("points:0", "points:1", "points:2"), ("points_0", "points_1", "points_2"))  # plain, ParaView's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The points, what is wanted of them, and where it goes."""
    add_model_arguments(parser, "only this array (default: all of them)")
    parser.add_argument("points", metavar="POINTS", help=".csv with columns x, y, z (or its first three), or .npy of shape (n, 3)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE",
                        help=".csv: x, y, z and a column for each component; .npy: (n, components)")  # fmt: skip
    parser.add_argument("--derivatives", action="store_true", help="also the exact derivatives along x, y and z")
    add_quiet_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Read, evaluate block by block, write."""
    ending = checked_output(options.output, ".csv", ".npy")
    points, volume = read_points(options.points), opened(options)
    infos = [array_of(volume, options.array)] if options.array is not None else list(volume.arrays)
    heads, blocks = [], []
    with progress("sampling", options.quiet) as report:
        for first in range(0, max(len(points), 1), BLOCK):
            columns = [_columns(volume, info, points[first : first + BLOCK], options) for info in infos]
            heads = [name for names, _ in columns for name in names]
            blocks.append(np.concatenate([values for _, values in columns], axis=1))
            report((first + BLOCK) / max(len(points), 1))
    values = np.concatenate(blocks)
    write_bytes(options.output, array_bytes(values) if ending == ".npy" else _csv_text(points, heads, values))


def _columns(volume, info, points: np.ndarray, options: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """(names, (n, columns)) of an array at points."""
    names = [info.name] if info.components == 1 else [f"{info.name}:{c}" for c in range(info.components)]
    if not options.derivatives:
        values = volume.sample_points(points, info.name, options.time, options.between)
        return names, values.reshape(len(points), info.components)
    values, slopes = volume.sample_derivatives(points, info.name, options.time, options.between)
    names += [f"d({name})/d{axis}" for name in list(names) for axis in "xyz"]
    return names, np.concatenate([values, slopes.reshape(len(points), -1)], axis=1)


def read_points(path: str) -> np.ndarray:
    """(n, 3) float64 from a .csv or .npy.

    Raises:
        ConfigError: Another kind of file. DataError: It cannot be read, or holds something else than points.
    """
    path, kind = Path(path), Path(path).suffix.lower()
    if kind not in (".csv", ".npy"):
        raise ConfigError(f"{path}: expected points in a .csv or .npy")
    with reading(path):
        if kind == ".csv":
            return _read_csv(path)
        points = numpy_array(path)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected points of shape (n, 3), found {points.dtype} of {points.shape}")
    return points.astype(np.float64)


def _read_csv(path: Path) -> np.ndarray:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a .csv file: {error}") from error
    columns = [0, 1, 2]
    if rows and not _is_number(rows[0][1][0]):
        columns = _head_columns(rows.pop(0)[1], path)
    points = np.empty((len(rows), 3))
    for point, (number, row) in zip(points, rows):
        try:
            point[:] = [float(row[c]) for c in columns]
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}: line {number}: expected numbers x, y, z, found {','.join(row)!r}") from error
    return points


def _head_columns(head: list[str], path: Path) -> list[int]:
    """Which columns are x, y, z."""
    names = [name.strip().lower() for name in head]
    for wanted in HEADS:
        if all(name in names for name in wanted):
            return [names.index(name) for name in wanted]
    raise DataError(f"{path}: expected columns x, y, z, found {', '.join(head)}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _csv_text(points: np.ndarray, heads: list[str], values: np.ndarray) -> bytes:
    """Numbers with as many digits as tell them apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["x", "y", "z", *heads])
    digits = "%.9g" if values.dtype == np.float32 else "%.17g"
    for point, row in zip(points.tolist(), values.tolist()):
        writer.writerow([*map(repr, point), *(digits % v for v in row)])
    return text.getvalue().encode()
