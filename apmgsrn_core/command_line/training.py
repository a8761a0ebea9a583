"""train: trains a model on volumes in files, several of them as time steps or as arrays.

While it is trained, finished bricks and checkpoints lie in MODEL.training; the same command started again goes on from
there, and a series from its last step."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os.path import commonprefix
from pathlib import Path

import numpy as np

from ..data.array_spec import ArraySpec
from ..data.value_transform import CHOICES
from ..device import devices_of_rank, trains_quickly
from ..distributed import Communicator
from ..errors import ConfigError, DataError
from ..grid import Grid
from ..network.model_config import PRESETS, LatticeConfig, ModelConfig
from ..training.aim import usual_rate_bytes
from ..training.train_config import TrainConfig
from .arguments import add_config_arguments, add_quiet_argument, checked_output, given_fields, option, readable_number
from .volume_files import MAPPED, Volume, add_volume_arguments, array_name, read_volume

NOT_OPTIONS = ("output_components", "lattices")
AUTOMATIC, COMPACT = "automatic", "compact"
NOT_COMPACT = {"stop_psnr", "placement", "schedule", "rounding", "error_bound", "error_bounds"}  # what it has not, or has by itself
NEEDS = {  # an option, and those of which one must be given for it to have a part
    "error_bound_mode": ("error_bound", "error_bounds"), "rate_step": ("rate_bytes",), "rate_noise": ("rate_bytes",),
    "rate_psnr": ("rate_bytes",),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Inputs, what to train, and every field of both configurations."""
    parser.add_argument("data", nargs="+", metavar="FILE", help=".npy, .raw, .vti or .nrrd; of several: see --files-are")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="the model file, *.apmgsrn")
    parser.add_argument("--files-are", choices=("steps", "arrays"), default="steps",
                        help="several files: time steps of a series, or arrays on one lattice (default: steps)")  # fmt: skip
    parser.add_argument("--times", nargs="+", type=float, metavar="T", help="of the steps (default of several: 0 1 2 ...)")
    parser.add_argument("--append", metavar="MODEL", help="add the steps to those of this model, which may be the output")
    parser.add_argument("--initial", metavar="MODEL", help="start from a model of the same bricks and networks")
    parser.add_argument("--unit", default="", help="of the values, stored")
    parser.add_argument("--transform", choices=CHOICES, default="auto", help="of the values before training (default: auto)")
    parser.add_argument("--preset", default=AUTOMATIC, metavar="WORD", help=(
        f"of the network: {', '.join(PRESETS)}; compact: trained for the bytes it takes, the best for its size; automatic: compact where "
        "all other options go with it and there are native kernels or a GPU, otherwise small (default: automatic)"
    ))  # fmt: skip
    parser.add_argument("--bricks", nargs=3, type=int, default=(0, 0, 0), metavar=("NX", "NY", "NZ"),
                        help="along x, y, z; 0: automatic (default: 0 0 0)")  # fmt: skip
    parser.add_argument("--parameters", type=int, default=0, help="trained numbers of all bricks together; 0: as the preset")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--checkpoint-interval", type=float, default=60.0, metavar="SECONDS", help="0: none (default: 60)")
    add_quiet_argument(parser)
    add_volume_arguments(parser)
    add_config_arguments(parser, "the network, instead of what the preset has", ModelConfig, NOT_OPTIONS)
    parser.add_argument("--lattice", nargs=4, type=int, action="append", metavar=("NX", "NY", "NZ", "FEATURES"),
                        help="a global lattice beside the placed grids; may be repeated")  # fmt: skip
    add_config_arguments(parser, "the training", TrainConfig)


def run(options: argparse.Namespace) -> None:
    """Train and say what has come out."""
    from .. import train_volume

    checked_output(options.output, ".apmgsrn")
    _check_together(options)
    steps = _planned(options)
    settings = {
        "model": _model(options), "initial": options.initial,
        "bricks": tuple(options.bricks), "parameters": options.parameters, "device": options.device,
        "path": options.output, "checkpoint_interval": options.checkpoint_interval,
        "on_progress": (lambda state: True) if options.quiet else None,
        "on_warning": lambda line: print(f"apmgsrn train: warning: {line}", file=sys.stderr),
    }  # fmt: skip
    series = options.append is not None or len(options.data) > 1 and options.files_are == "steps"
    base = options.append
    for time, read in steps:
        volume = read()
        specs = _specs(volume, options)
        values = _values(volume)
        result = train_volume(
            values, volume.grid, arrays=specs, time=time, series=series, append=base, train=_train(options, values, volume.grid), **settings
        )  # fmt: skip
        if series:  # of steps that were in the file already, the model up to this one
            base = options.output if result.model is None else result.model
        _show(result, volume, specs, time)


def _model(options: argparse.Namespace) -> ModelConfig | None:
    """The network; None where nothing was chosen, so that a series, and a training for bytes, has its own."""
    chosen = _chosen_network(options)
    if options.preset == COMPACT:
        for name in ("lattice" if "lattices" in chosen else next(iter(chosen), ""), "parameters" if options.parameters else ""):
            if name:
                raise ConfigError(f"{option(name)}: expected only with another preset than compact, which has bytes instead (--rate-bytes)")
        return None
    if not chosen and options.preset == AUTOMATIC:
        return None
    return replace(ModelConfig.preset("small" if options.preset == AUTOMATIC else options.preset), **chosen)


def _chosen_network(options: argparse.Namespace) -> dict:
    """The fields of the network that were given."""
    chosen = given_fields(options, ModelConfig)
    if options.lattice:
        chosen["lattices"] = tuple(LatticeConfig(tuple(found[:3]), found[3]) for found in options.lattice)
    return chosen


def _train(options: argparse.Namespace, values: np.ndarray, grid: Grid) -> TrainConfig:
    """The training of some data; of the preset compact for as many bytes as it has by itself, unless they were given."""
    given = given_fields(options, TrainConfig)
    if _is_compact(options, given) and not given.get("rate_bytes"):
        given["rate_bytes"] = usual_rate_bytes(values.nbytes, _brick_count(options, values, grid))
    return TrainConfig(**given)


def _brick_count(options: argparse.Namespace, values: np.ndarray, grid: Grid) -> int:
    """How many bricks `train_volume` will have."""
    from ..training.trainer import choose_layout, default_model

    alone, components = Communicator(), values.shape[3] if values.ndim == 4 else 1
    devices, value_bytes = devices_of_rank(options.device, alone.neighbours), values.dtype.itemsize * components
    return choose_layout(grid, tuple(options.bricks), value_bytes, default_model(False), components, 0, devices, alone).count


def _is_compact(options: argparse.Namespace, given: dict) -> bool:
    """Whether the network is trained for its bytes; with an error bound it is by itself."""
    if options.preset != AUTOMATIC:
        return options.preset == COMPACT
    series = options.append is not None or len(options.data) > 1 and options.files_are == "steps"
    apart = _chosen_network(options) or options.initial or options.parameters or given.keys() & NOT_COMPACT
    return not (series or apart) and trains_quickly()


def _check_together(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that would have no part in the training."""
    given = given_fields(options, TrainConfig)
    for name, needed in NEEDS.items():
        if name in given and not any(given.get(other) for other in needed):
            raise ConfigError(f"{option(name)}: expected {' or '.join(map(option, needed))} with it, found none")
    if given.get("error_bound") and given.get("error_bounds"):
        raise ConfigError("--error-bounds: expected no --error-bound with it, which is for all arrays, found both")


def _planned(options: argparse.Namespace) -> list[tuple[float | None, Callable[[], Volume]]]:
    """(time, what reads the volume) of each step: a file is read when its step is trained, but all of them are looked at before the
    first one is. Raises ConfigError, DataError."""
    files, times = options.data, options.times
    if options.files_are == "arrays":
        if times and len(times) > 1:
            raise ConfigError(f"--times: expected one for the arrays of one step, found {len(times)}")
        volume = _joined(files, options)
        return [(times[0] if times else None, lambda: volume)]
    if times is not None and len(times) != len(files):
        raise ConfigError(f"--times: expected {len(files)} for as many files, found {len(times)}")
    if times is None and options.append is not None:
        raise ConfigError(f"--times: expected {len(files)} for the steps that are appended, found none")
    numbers = times or (range(len(files)) if len(files) > 1 else [None])
    if any(not a < b for a, b in zip(numbers, numbers[1:])):
        raise DataError(f"--times: expected rising ones, found {' '.join(map(readable_number, numbers))}")
    _check_lattices(files, options)
    return [(number, partial(_step, path, options)) for number, path in zip(numbers, files)]


def _step(path: str, options: argparse.Namespace) -> Volume:
    """The volume of a file that is a time step."""
    volume = read_volume(path, options)
    if not options.array and len(options.data) > 1 and Path(path).suffix.lower() != ".vti":
        volume = replace(volume, arrays=dict.fromkeys([_common_name(options.data)], *volume.arrays.values()))
    return volume


def _check_lattices(files: list[str], options: argparse.Namespace) -> None:
    """Raise DataError when one of several files is not there, or has another lattice than the first one; of those that must be read
    whole for it that is seen when their step is trained."""
    for path in files:
        if not Path(path).is_file():
            raise DataError(f"{path}: cannot be read: No such file")
    mapped = [path for path in files if Path(path).suffix.lower() in MAPPED]
    grids = [(path, read_volume(path, options).grid) for path in mapped if len(files) > 1]
    for path, grid in grids[1:]:
        if grid != grids[0][1]:
            raise DataError(f"{path}: expected the lattice of {grids[0][0]}, {_lattice(grids[0][1])}, found {_lattice(grid)}")


def _common_name(files: list[str]) -> str:
    """What the names of the files of a series begin with: they have one array."""
    common = commonprefix([array_name(Path(file)) for file in files]).rstrip("_-.0123456789 ")
    return common or "values"


def _joined(files: list[str], options: argparse.Namespace) -> Volume:
    """The arrays of several files on one lattice."""
    volumes = [read_volume(path, options) for path in files]
    arrays: dict[str, np.ndarray] = {}
    for path, volume in zip(files, volumes):
        if volume.grid != volumes[0].grid:
            expected = _lattice(volumes[0].grid)
            raise DataError(f"{path}: expected the lattice of {files[0]}, {expected}, found {_lattice(volume.grid)}")
        twice = arrays.keys() & volume.arrays.keys()
        if twice:
            raise DataError(f"{path}: expected another array than in the files before it, found {sorted(twice)[0]!r} again")
        arrays.update(volume.arrays)
    return replace(volumes[0], arrays=arrays)


def _lattice(grid: Grid) -> str:
    return f"{' x '.join(map(str, grid.dims))} {grid.association}s from {grid.origin} with spacing {grid.spacing}"


def _specs(volume: Volume, options: argparse.Namespace) -> tuple[ArraySpec, ...]:
    """What the arrays are."""
    return tuple(
        ArraySpec(
            name, values.shape[3] if values.ndim == 4 else 1, values.dtype.newbyteorder("=").name,
            volume.grid.association, options.unit, options.transform,
        )
        for name, values in volume.arrays.items()
    )  # fmt: skip


def _values(volume: Volume) -> np.ndarray:
    """The components of all arrays one after the other; of one array as it is in its file."""
    arrays = list(volume.arrays.values())
    if len(arrays) == 1:
        native = arrays[0].dtype.newbyteorder("=")
        return arrays[0] if arrays[0].dtype == native else arrays[0].astype(native)
    return np.concatenate([v if v.ndim == 4 else v[..., None] for v in arrays], axis=3)


def _show(result, volume: Volume, specs: tuple[ArraySpec, ...], time: float | None) -> None:
    """A line for each thing that one wants to know of a training."""
    from ..file.model_file import read_header

    header = read_header(result.path)
    size = volume.grid.region.count * sum(s.components * np.dtype(s.dtype).itemsize for s in specs)
    stored = header.byte_count / max(len(header.times), 1)
    lines = {
        "time": None if time is None else readable_number(time),
        "psnr_db": f"{result.psnr:.2f}" if math.isfinite(result.psnr) else str(result.psnr),
        **({f"psnr_db of {name}": f"{psnr:.2f}" for name, psnr in result.array_psnr.items()} if len(specs) > 1 else {}),
        **_shares(result.shares),
        "stopped": result.stop_reason, "seconds": f"{result.seconds:.1f}", "model_bytes": str(header.byte_count),
        "ratio": f"{size / stored:.1f}", "model": str(result.path),
    }  # fmt: skip
    for name, text in lines.items():
        if text is not None:
            print(f"{name}: {text}")
    sys.stdout.flush()


def _shares(shares) -> dict[str, str]:
    """The lines of a model within error bounds, in the units of its arrays."""
    if shares is None:
        return {}
    return {f"error_bound of {name}": readable_number(bound) for name, bound in shares.bounds.items()} | {"residual": str(shares)}
