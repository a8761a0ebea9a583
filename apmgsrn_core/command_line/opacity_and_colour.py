"""The transfer function that options describe, or a file of ParaView's colour maps."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, one_line
from ..file.json_text import parse_json
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..rendering.transfer_function import TransferFunction, usual_unit_distance
from .volume_files import reading

COLOURS = (0.0, 0.231373, 0.298039, 0.752941, 0.5, 0.865003, 0.865003, 0.865003, 1.0, 0.705882, 0.0156863, 0.14902)  # ParaView's
OPACITIES = (0.0, 0.0, 0.5, 0.0, 1.0, 1.0, 0.5, 0.0)


def add_function_arguments(parser: argparse.ArgumentParser) -> None:
    """How colours and opacities are chosen."""
    group = parser.add_argument_group("the transfer function")
    group.add_argument("--colours", "--colors", nargs="+", type=float, metavar="N", help="value red green blue of each point")
    group.add_argument("--opacities", nargs="+", type=float, metavar="N", help="value opacity of each point")
    group.add_argument("--transfer-function", metavar="FILE",
                       help="colours and opacities as ParaView exports them (.json); stretched over the range")  # fmt: skip
    group.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="that a file and the defaults are stretched over (default: that of the array)")  # fmt: skip
    group.add_argument("--own-values", action="store_true", help="the file's values are taken as they are")
    group.add_argument("--unit-distance", type=float,
                       help="length for which the opacities are given (default: about that of a cell)")  # fmt: skip


def transfer_function(options: argparse.Namespace, array: ArrayInfo, grid: Grid) -> TransferFunction:
    """The function of the options.

    Raises:
        ConfigError: Lists of a wrong length, options that exclude each other. DataError: The file cannot be read.
    """
    low, high = options.range or array.range
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"--range: expected LOW <= HIGH, found {low} {high}")
    if options.own_values and (options.transfer_function is None or options.range):
        raise ConfigError("--own-values: expected only with --transfer-function and without --range")
    colours, opacities = COLOURS, OPACITIES
    if options.transfer_function is not None:
        colours, opacities = read_colour_map(options.transfer_function)
    if not options.own_values:
        colours, opacities = (_stretched(points, low, high) for points in (colours, opacities))
    colours = options.colours or colours
    if options.opacities:
        if len(options.opacities) % 2:
            raise ConfigError(f"--opacities: expected a value and an opacity a point, found {len(options.opacities)} numbers")
        pairs = np.reshape(options.opacities, (-1, 2))
        opacities = np.insert(pairs, [2, 2], (0.5, 0.0), axis=1).ravel()
    unit = options.unit_distance
    return TransferFunction.from_points(colours, opacities, usual_unit_distance(grid) if unit is None else unit)


def read_colour_map(path: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(`RGBPoints`, `Points`) of the first colour map in a file of ParaView; of one without opacities a rising line."""
    with reading(Path(path)):
        text = Path(path).read_bytes()
    try:
        found = parse_json(text, strict=False)
        found = found[0] if isinstance(found, list) else found
        colours = tuple(float(n) for n in found["RGBPoints"])
        first, last = colours[0], colours[-4]
        opacities = tuple(float(n) for n in found.get("Points") or (first, 0, 0.5, 0, last, 1, 0.5, 0))
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected a colour map of ParaView with RGBPoints, found none: {one_line(error)}") from error
    return colours, opacities


def _stretched(points, low: float, high: float) -> np.ndarray:
    """Points of four numbers, the first of which is a value: from the first to the last one over a range."""
    if len(points) % 4:
        raise DataError(f"transfer function: expected four numbers a point, found {len(points)}")
    rows = np.reshape(np.asarray(points, dtype=np.float64), (-1, 4)).copy()
    first, last = rows[:, 0].min(), rows[:, 0].max()
    rows[:, 0] = low + (rows[:, 0] - first) * ((high - low) / (last - first or 1.0))
    return rows.ravel()
