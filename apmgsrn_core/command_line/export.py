"""export: evaluates a model on a lattice and writes a .npy, .raw or .vti.

A .raw has x fastest; its dims and type are printed."""

from __future__ import annotations

import argparse

from ..grid import Grid, Region
from .arguments import add_model_arguments, add_quiet_argument, array_of, checked_output, opened, progress
from .volume_files import WRITTEN, write_volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The lattice, the part of it, and where it goes."""
    add_model_arguments(parser, "only this array (default: all of them; a .npy or .raw holds one)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".npy, .raw or .vti")
    lattice = parser.add_mutually_exclusive_group()
    lattice.add_argument("--scale", type=float, default=1.0, help="resolution, relative to the model's own lattice (default: 1)")
    lattice.add_argument("--dims", nargs=3, type=int, metavar=("NX", "NY", "NZ"), help="points of the lattice, in its place")
    parser.add_argument("--region", nargs=6, type=float, metavar=("X0", "X1", "Y0", "Y1", "Z0", "Z1"),
                        help="only the points in this box of the world")  # fmt: skip
    parser.add_argument("--dtype", choices=("float32", "original"), default="float32",
                        help="of the values; original: that of the data, rounded (default: float32)")  # fmt: skip
    add_quiet_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate and write."""
    ending = checked_output(options.output, *WRITTEN)
    volume = opened(options)
    named = options.array is not None or (len(volume.arrays) > 1 and ending != ".vti")
    infos = [array_of(volume, options.array)] if named else list(volume.arrays)
    whole = volume.grid.with_dims(options.dims) if options.dims else volume.grid.scaled(options.scale)
    region, grid = part_of(whole, options.region)
    arrays = {}
    for info in infos:
        with progress(info.name, options.quiet) as report:
            arrays[info.name] = volume.sample_region(
                region, whole, info.name, options.dtype, report, options.time, options.between
            )  # fmt: skip
    write_volume(options.output, arrays, grid)
    for name, values in arrays.items():
        components = values.shape[3] if values.ndim == 4 else 1
        print(f"{name}: {' x '.join(map(str, values.shape[2::-1]))} values, {components} x {values.dtype}")


def part_of(grid: Grid, bounds) -> tuple[Region, Grid]:
    """The values of a lattice whose points are in a box of the world (None: all), and their lattice."""
    if bounds is None:
        return grid.region, grid
    start, stop = grid.index_range(bounds)
    if grid.association == "cell":  # at least one cell
        stop = tuple(min(max(b, a + 2), n) for a, b, n in zip(start, stop, grid.dims))
        start = tuple(max(min(a, b - 2), 0) for a, b in zip(start, stop))
    dims = tuple(b - a for a, b in zip(start, stop))
    less = [1 if grid.association == "cell" and n > 1 else 0 for n in dims]
    return Region(start, tuple(b - n for b, n in zip(stop, less))), grid.part(start, dims)
