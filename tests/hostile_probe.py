"""What the fuzz test does with a file: all that a user would, on a small scale. A probe returns the numbers that were read."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_seeds import MODEL, QUIET, TRAINING
from volumes import tiny, wave

from apmgsrn_core import (
    Camera, NeuralVolume, Region, RenderOptions, TransferFunction, VolumeRenderer, convert_reference, open_volume, train_volume,
)  # fmt: skip
from apmgsrn_core.command_line import description
from apmgsrn_core.command_line.opacity_and_colour import read_colour_map
from apmgsrn_core.command_line.points import read_points
from apmgsrn_core.command_line.volume_files import read_volume
from apmgsrn_core.residual.shares import Shares

POINTS = np.random.default_rng(0).uniform(-1, 9, (12, 3))
NO_OPTIONS = {
    "array": [], "dims": None, "dtype": None, "components": None, "skip_bytes": None, "big_endian": False, "spacing": None,
    "origin": None, "cells": False,
}  # fmt: skip


def _told(*words: str) -> str:
    """What `apmgsrn info` prints."""
    parser = argparse.ArgumentParser()
    description.add_arguments(parser)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        description.run(parser.parse_args(words))
    return text.getvalue()


def _model(folder: Path) -> list:
    path = folder / "m.apmgsrn"
    _told(str(path))
    _told(str(path), "--json")
    return _sampled(NeuralVolume.open(path, "cpu"))


def _sampled(volume) -> list:
    """Values of all arrays at points, in a box, of derivatives and masks, and a picture where there are macrocells."""
    found, times = [], volume.times[:3] or (None,)
    first = Region((0, 0, 0), tuple(min(n, 6) for n in volume.grid.value_dims))
    last = Region(tuple(max(n - 3, 0) for n in volume.grid.value_dims), volume.grid.value_dims)
    inside = volume.grid.index_to_world(np.random.default_rng(1).uniform(0, 1, (12, 3)) * (np.array(volume.grid.dims) - 1.0))
    for info in volume.arrays[:3]:
        for time in times:
            found.append(volume.sample_points(POINTS, info.name, time))
            found.append(volume.sample_points(inside, info.name, time))
            found.append(volume.sample_region(first, field=info.name, time=time, dtype="original"))
            found.append(volume.valid_region(last, field=info.name, time=time))
        found.append(volume.sample_region(last, field=info.name))
        found.extend(volume.sample_derivatives(inside[:4], info.name))
        found.append(_pictured(volume, info.name))
    if len(times) > 1:
        found.append(volume.sample_points(inside, time=(times[0] + times[1]) / 2, between=True))
    found.extend(grid.corners for grid in volume.feature_grids(range(min(volume.layout.count, 4))))
    if volume.header.bounded:
        found.append(np.frombuffer(str(Shares.of_file(volume._file)).encode(), np.uint8))
    return found


def _pictured(volume, name: str) -> np.ndarray:
    """The stored ranges, and a picture of a few pixels."""
    cells = volume.macrocells(name)
    if cells is None:
        return np.zeros(0)
    low, high = volume.arrays[0].range
    function = TransferFunction.from_points((low, 0, 0, 0, high, 1, 1, 1), (low, 0, 0.5, 0, high, 1, 0.5, 0), 1.0)
    camera = Camera.looking_at(volume.grid.bounds, size=(6, 5))
    picture = VolumeRenderer(volume, name).render(camera, function, RenderOptions(most_points=1 << 12))
    return np.concatenate([cells.low.ravel(), cells.high.ravel(), picture.rgba.ravel()])


def _volume(folder: Path) -> list:
    (path,) = (p for p in folder.iterdir() if p.suffix in (".vti", ".nrrd", ".nhdr", ".npy"))
    read = read_volume(str(path), argparse.Namespace(**NO_OPTIONS))
    return [np.array(values) for values in read.arrays.values()] + [np.array(read.grid.bounds)]


def _reference(folder: Path) -> list:
    return _sampled(NeuralVolume.from_bytes(convert_reference(folder), "cpu"))


def _network(folder: Path) -> list:
    return _sampled(open_volume(folder / "n.network.json", "cpu"))


def _training(folder: Path) -> list:
    """The training is taken up where it was cut off."""
    values, grid = wave((9, 8, 7))
    result = train_volume(values, grid, path=folder / "m.apmgsrn", **TRAINING)
    return [result.volume.sample_region(), result.history["iteration"]]


def _appended(folder: Path) -> list:
    """A further time step of the model is trained."""
    values, grid = wave((9, 8, 7))
    train = tiny(iterations=6)
    result = train_volume(values, grid, train=train, time=9.0, append=folder / "m.apmgsrn", **QUIET)
    return [result.volume.sample_points(POINTS, time=9.0), result.volume.sample_points(POINTS, time=0.0)]


def _begun_with(folder: Path) -> list:
    """A training that begins with the model's network."""
    values, grid = wave((9, 8, 7), spacing=(0.5, 1, 2), dtype="int16")
    train = tiny(iterations=6, rounding=0.0)
    result = train_volume(values, grid, model=MODEL, train=train, initial=folder / "m.apmgsrn", **QUIET)
    return [result.volume.sample_region()]


def _colours(folder: Path) -> list:
    return [np.array(part) for part in read_colour_map(str(folder / "c.json"))]


def _points(folder: Path) -> list:
    return [read_points(str(folder / "p.csv"))]


PROBES: dict[str, Callable[[Path], list]] = {
    "model": _model, "volume": _volume, "reference": _reference, "network": _network, "training": _training, "colours": _colours,
    "points": _points, "append": _appended, "initial": _begun_with,
}  # fmt: skip


def probe(kind: str, folder: Path) -> str:
    """A hash of all that is read from a folder of this kind."""
    with np.errstate(all="ignore"):
        found = PROBES[kind](folder)
    digest = hashlib.sha256()
    for array in found:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
