"""Models of several time steps: what a step that is added must have, and the steps that are there already.

Every time step has a network of its own in each brick, of the same shape; it starts from that of the step before where that is
near it, and is stored as differences to it where that is cheaper. Every KEY_EVERY-th step stands for itself: so many are decoded
at most to open one. Steps are added one after the other, so that a series streams, and a simulation can add to its model while
it runs.
"""

from __future__ import annotations

import math
import os

from ..data.array_spec import ArraySpec
from ..distributed import Communicator
from ..errors import DataError, ModelFileError
from ..file.manifest import ArrayInfo, Header
from ..file.model_file import ModelFile
from ..file.model_writer import StoredBrick, pack_model
from ..grid import Grid

KEY_EVERY = 8  # steps


def check_follows(
    header: Header, arrays: tuple[ArraySpec, ...], grid: Grid, time: float | None, name: str
) -> None:
    """Raise DataError unless a time step of such data can follow those of a model."""
    known = [(a.name, a.association, a.components) for a in header.arrays]
    given = [(a.name, a.association, a.components) for a in arrays]
    if known != given:
        raise DataError(f"{name}: expected a time step with the arrays {_listed(known)}, found {_listed(given)}")
    if header.grid != grid:
        raise DataError(
            f"{name}: expected a time step on the same lattice ({header.grid.dims} points in {header.grid.bounds}), "
            f"found {grid.dims} in {grid.bounds}"
        )
    if not header.times:
        raise DataError(f"{name}: expected a model whose first step has a time, found one without")
    if time is None or not math.isfinite(time) or time <= header.times[-1]:
        raise DataError(f"{name}: expected a time after {header.times[-1]:g}, its last one, found {time}")


def _listed(arrays: list) -> str:
    return ", ".join(f"{side} {name!r} ({components})" for name, side, components in arrays)


def time_entry(
    time: float | None, infos: tuple[ArrayInfo, ...], key: str, series: bool, bounds: tuple[float, ...] = ()
) -> dict:
    """The entry of a step in the manifest's `times[]`; one that may be followed says its ranges and its key, one that is within
    error bounds these."""
    entry = {"value": time, **({"bounds": list(bounds)} if any(bounds) else {})}
    return {**entry, "ranges": [list(info.range) for info in infos], "key": key} if series else entry


def stored_steps(base: ModelFile, communicator: Communicator | None = None) -> list[StoredBrick]:
    """The sections of a model as a writer takes them: all, or those of this rank's share of the bricks."""
    header = base.header
    owners = None if communicator is None else header.layout.ranks(communicator.size)
    return [
        StoredBrick(brick, header.manifest["bricks"][brick], length, sha256, _reader(base, offset, length), time, coder)
        for (brick, time), (offset, length, sha256, coder) in sorted(base.sections.items())
        if owners is None or owners[brick] == communicator.rank
    ]


def _reader(base: ModelFile, offset: int, length: int):
    """Reads a section when it is written."""
    return lambda: b"".join(base.blocks(offset, length, base.name))


def first_steps(base: ModelFile, steps: int) -> bytes:
    """The model with its first time steps only."""
    manifest = {k: v for k, v in base.header.manifest.items() if k not in ("bricks", "sections", "requires")}
    times = manifest["times"][:steps]
    kept = [stored for stored in stored_steps(base) if stored.time < steps]
    return pack_model({**manifest, "times": times, "key": times[-1].get("key", base.header.key)}, kept)


def known_step(path: str | os.PathLike, step: int, key: str) -> bytes | None:
    """The model in a file up to a time step, when the file has this very step; None when not, or there is no model."""
    try:
        file = ModelFile(path)
        times = file.header.manifest["times"]
        if step < len(times) and times[step].get("key") == key:
            file.check_sections()
            return first_steps(file, step + 1)
    except ModelFileError:  # missing, foreign or damaged: it is trained, and whether it may be written there is found then
        return None
    return None


def check_keeps(path: str | os.PathLike, step: int, key: str) -> None:
    """Raise DataError when writing a time step would drop later ones from the model in a file."""
    try:
        times = ModelFile(path).header.manifest["times"]
    except ModelFileError:  # as in `known_step`
        return
    later = len(times) - step - 1
    if later > 0 and times[step].get("key") != key:
        raise DataError(
            f"{path}: expected a time step after {times[-1]['value']:g}, its last one, or the same data and settings as before; "
            f"found other ones for {times[step]['value']:g}, and {later} later steps that would be lost"
        )


def steps_before(path: str | os.PathLike, time: float | None) -> bytes | None:
    """The model in a file up to the last step before a time; None when there is none. Raises ModelFileError, DataError: the
    time is none, or comes before the last step of the file without being one of its steps."""
    file = ModelFile(path)
    times = file.header.times
    if time is None or not times:
        raise DataError(f"{path}: expected time steps in the model and in the data, found {times} and {time}")
    count = sum(t < time for t in times)
    if count < len(times) and times[count] != time:
        raise DataError(f"{path}: expected a time after {times[-1]:g}, its last one, or one of its own, found {time:g}")
    return first_steps(file, count) if count else None
