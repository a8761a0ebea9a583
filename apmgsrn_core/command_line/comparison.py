"""compare: tells how far a model is from data: PSNR, SSIM, largest error, RMSE, relative L2 norm."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass

import numpy as np

from ..distributed import Communicator
from ..errors import DataError, FieldError
from ..grid import Grid
from ..sampling.error_metrics import ErrorSums, ssim_of_pieces
from ..sampling.metrics import SLAB
from .arguments import add_model_arguments, add_quiet_argument, array_of, opened, progress, readable_number, table
from .volume_files import Volume, add_volume_arguments, read_volume

HEAD = {
    "array": "array", "psnr": "PSNR dB", "ssim": "SSIM", "max_error": "max error", "rmse": "RMSE", "relative_l2": "relative L2",
    "compared": "compared", "left_out": "left out",
}  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    """An array of the data and the name of the model's array that stands for it."""

    name: str
    data: np.ndarray
    field: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data and the form of the result."""
    add_model_arguments(parser, array="")
    parser.add_argument("data", metavar="FILE", help=".npy, .raw, .vti or .nrrd")
    add_volume_arguments(parser)
    parser.add_argument("--no-ssim", action="store_true", help="leave the structural similarity out")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    add_quiet_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Compare array by array."""
    volume, data = opened(options), read_volume(options.data, options)
    grid = _lattice(volume, data, options.data)
    rows = []
    for pair in _pairs(volume, data, options):
        with progress(pair.name, options.quiet) as report:
            found = volume.sample_region(None, grid, pair.field, "float32", report, options.time, options.between)
        rows.append(errors_of(pair.name, pair.data, found, not options.no_ssim))
    if options.json:
        plain = [{k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in row.items()} for row in rows]
        print(json.dumps(plain, indent=1))
        return
    keys = [key for key in HEAD if key != "ssim" or not options.no_ssim]
    print(table([HEAD[key] for key in keys], [[_text(row[key]) for key in keys] for row in rows]))


def _lattice(volume, data: Volume, path: str) -> Grid:
    """Where the data is: by its file, or, of one that does not tell, on the model's own lattice."""
    if data.placed:
        return data.grid
    if data.grid.value_dims != volume.grid.value_dims:
        raise DataError(
            f"{path}: expected {volume.grid.value_dims} values as the model has, found {data.grid.value_dims};"
            " others need --spacing and --origin"
        )
    return volume.grid


def _pairs(volume, data: Volume, options: argparse.Namespace) -> list[_Pair]:
    """Arrays of one name; of a single one on both sides the name does not matter."""
    names = [info.name for info in volume.arrays]
    single = len(names) == len(data.arrays) == 1 and not options.array
    chosen = {name: names[0] for name in data.arrays} if single else {name: name for name in data.arrays if name in names}
    missing = [name for name in options.array if name not in chosen]
    if missing or not chosen:
        raise FieldError(f"the model has no array {', '.join(missing or data.arrays)}; there are {', '.join(names)}")
    pairs = []
    for name, field in chosen.items():
        values, components = data.arrays[name], array_of(volume, field).components
        found = values.shape[3] if values.ndim == 4 else 1
        if found != components:
            raise DataError(f"array {name!r}: expected the model's {components} components, found {found}")
        pairs.append(_Pair(name, values, field))
    return pairs


def errors_of(name: str, reference: np.ndarray, values: np.ndarray, with_ssim: bool = True) -> dict:
    """The row of an array: [z, y, x] or with a component axis, data and reconstruction; NaN for what cannot be had."""
    components = reference.shape[3] if reference.ndim == 4 else 1
    sums = ErrorSums()
    for first in range(0, len(reference), SLAB):
        layers = slice(first, first + SLAB)
        sums.add(np.asarray(reference[layers]).reshape(-1, components), values[layers].reshape(-1, components))
    whole = with_ssim and not sums.left_out[0] and sums.compared[0]
    ssim = _similarity(reference, values, components, float(sums.span[0])) if whole else math.nan
    return {
        "array": name, "psnr": float(sums.psnr[0]), "ssim": ssim, "max_error": float(sums.max_error[0]),
        "rmse": float(sums.rmse[0]), "relative_l2": float(sums.relative_l2[0]), "compared": int(sums.compared[0]),
        "left_out": int(sums.left_out[0]),
    }  # fmt: skip


def _similarity(reference: np.ndarray, values: np.ndarray, components: int, span: float) -> float:
    """The mean over the components."""
    dims = reference.shape[2::-1]
    region = Grid(dims).region
    columns = [(a.reshape(*a.shape[:3], components)) for a in (np.asarray(reference), values)]
    found = [
        ssim_of_pieces(columns[0][..., c], columns[1][..., c], region, region, dims, span, Communicator())
        for c in range(components)
    ]
    return float(np.mean(found))


def _text(value) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else readable_number(value)
    return str(value)
