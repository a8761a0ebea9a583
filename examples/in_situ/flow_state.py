"""The state of a flow in a file, from which a simulation goes on, on any number of ranks."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np


def save_state(flow, time_step: float, path: Path) -> None:
    """Write time, steps and the velocity of all ranks together; the file is whole or the one before."""
    parts = flow.velocity()
    if flow.communicator is not None:
        parts = flow.communicator.gather(parts)
        if parts is None:
            return
        parts = np.concatenate(parts, axis=1)
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        np.savez(
            file, velocity=parts, time=flow.time, steps=flow.steps, reynolds=flow.reynolds, points=flow.points, time_step=time_step
        )
    os.replace(unfinished, path)


def check_same(flow, time_step: float, path: Path) -> None:
    """Raise ValueError, on all ranks, when a state is there that is of another simulation: its model would be mixed with this one's."""
    state = _of_first_rank(flow, path, ("points", "reynolds", "time_step"))
    found = None if isinstance(state, FileNotFoundError) else state
    if isinstance(found, Exception):
        raise found
    mine = flow.points, flow.reynolds, time_step
    if found is not None and tuple(map(float, found)) != tuple(map(float, mine)):
        raise ValueError(
            f"{path}: expected a flow of {_said(mine)}, found {_said(found)}: take another --output, or remove what is in that folder"
        )


def load_state(flow, path: Path) -> None:
    """Go on from a state, which the first rank reads. Raises on all ranks ValueError: it is no state; OSError: it cannot be read."""
    state = _of_first_rank(flow, path, ("velocity", "time", "steps"))
    if isinstance(state, FileNotFoundError):
        raise FileNotFoundError(f"{path}: expected the state of a simulation to go on from, found none")
    if isinstance(state, Exception):
        raise state
    velocity, flow.time, flow.steps = state[0], float(state[1]), int(state[2])
    flow.set_velocity(velocity[:, slice(*flow.planes)])


def _said(numbers) -> str:
    points, reynolds, time_step = map(float, numbers)
    return f"{points:g} points, Re = {reynolds:g} and time steps of {time_step:g}"


def _of_first_rank(flow, path: Path, names: tuple) -> tuple | Exception:
    """Some of a state, or what stands in the way, as the first rank finds it."""
    found = _read(path, names) if flow.communicator is None or flow.communicator.rank == 0 else None
    return found if flow.communicator is None else flow.communicator.bcast(found)


def _read(path: Path, names: tuple) -> tuple | Exception:
    try:
        with np.load(path) as state:
            return tuple(state[name] for name in names)
    except OSError as error:
        return error
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return ValueError(f"{path}: expected the state of a simulation, found another or a damaged file ({error})")
