"""Opening whatever can be sampled, by what its path looks like."""

from __future__ import annotations

import os
from pathlib import Path

from ..device import require_torch
from ..errors import DataError, ModelFileError
from ..file.manifest import Header
from ..file.model_file import read_header
from ..foreign.network_description import ENDING, description_of, read_description
from ..foreign.network_source import REGISTERED, registered_network


def is_foreign(path: str | os.PathLike) -> bool:
    """Whether a path names a foreign network: a `*.network.json` or "registered:NAME"."""
    return str(path).startswith(REGISTERED) or str(path).lower().endswith(ENDING)


def absolute_path(text: str) -> str:
    """What a user names as an absolute path, `~` being the home; "registered:NAME" stays."""
    return text if text.startswith(REGISTERED) else os.path.abspath(os.path.expanduser(text))


def open_header(path: str | os.PathLike) -> Header:
    """What a model file, a description of a network or a registered network says about itself; runs nothing.

    Args:
        path: Of a model file, of a `*.network.json`, or "registered:NAME".

    Raises:
        ModelFileError: Missing, foreign or damaged. DataError: no network of that name is registered.
    """
    name = str(path)
    if name.startswith(REGISTERED):
        return description_of(registered_network(name[len(REGISTERED) :])[1], name, Path())
    return read_description(path) if is_foreign(path) else read_header(path)


def open_volume(
    path: str | os.PathLike, device: str = "auto", trust: bool = False, precision: str = "auto", bounded: bool = True
):  # fmt: skip
    """Open whatever can be sampled.

    Args:
        path: Of a model file, of a `*.network.json`, or "registered:NAME".
        device: As `devices_of_rank` takes it.
        trust: Whether foreign files that can run code are opened; a model file never runs any.
        precision: "auto", "full" or "fast".
        bounded: Whether a model with an error bound keeps it; False: its networks alone.

    Returns:
        A `NeuralVolume` for a model file, otherwise a `ForeignVolume`: what both can do is in `sampled_volume.py`.

    Raises:
        ModelFileError, DeviceError, and of foreign networks TrustError and DataError.
    """
    require_torch()
    if is_foreign(path):
        from ..foreign.volume import ForeignVolume

        if not bounded:
            raise DataError(f"{path}: expected a model file for the networks without their residuals, found a foreign network")
        return ForeignVolume.open(path, device, precision, trust)
    from .volume import NeuralVolume

    return NeuralVolume.open(path, device, precision, bounded)


def volume_stamp(path: str | os.PathLike) -> tuple:
    """Changes whenever what `open_volume` would open does: the file, one that it names, or the registration.

    Raises:
        ModelFileError: There is no such file. DataError: no network of that name is registered.
    """
    name = str(path)
    if name.startswith(REGISTERED):
        return name, registered_network(name[len(REGISTERED) :])[2]
    stamp = _file_stamp(name)
    if is_foreign(name):
        source = read_description(name).source
        stamp += tuple(s for p in (source.file, source.code) if p is not None and p.is_file() for s in _file_stamp(str(p)))
    return stamp


def _file_stamp(name: str) -> tuple:
    try:
        state = os.stat(name)
    except OSError as error:
        raise ModelFileError(f"model {name!r}: expected a model file, found: {error.strerror}") from None
    return name, state.st_ino, state.st_mtime_ns, state.st_size  # of two files the time may be the same
