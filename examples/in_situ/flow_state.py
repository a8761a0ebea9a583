"""The state of a flow in a file, from which a simulation goes on, on any number of ranks."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np


def save_state(flow, path: Path) -> None:
    """Write time, steps and the velocity of all ranks together; the file is whole or the one before."""
    parts = flow.velocity()
    if flow.communicator is not None:
        parts = flow.communicator.gather(parts)
        if parts is None:
            return
        parts = np.concatenate(parts, axis=1)
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        np.savez(file, velocity=parts, time=flow.time, steps=flow.steps, reynolds=flow.reynolds)
    os.replace(unfinished, path)


def load_state(flow, path: Path) -> None:
    """Go on from a state, which the first rank reads. Raises on all ranks ValueError: it is of another flow; OSError: it cannot be
    read."""
    state = _read(path) if flow.communicator is None or flow.communicator.rank == 0 else None
    state = state if flow.communicator is None else flow.communicator.bcast(state)
    if isinstance(state, Exception):
        raise state
    velocity, reynolds, flow.time, flow.steps = state
    if velocity.shape[1] != flow.points or reynolds != flow.reynolds:
        raise ValueError(
            f"{path}: expected a flow of {flow.points} points and Re = {flow.reynolds:g}, "
            f"found {velocity.shape[1]} points and Re = {reynolds:g}"
        )
    flow.set_velocity(velocity[:, slice(*flow.planes)])


def _read(path: Path) -> tuple | Exception:
    """Velocity, Reynolds number, time and steps, or what stands in the way."""
    try:
        with np.load(path) as state:
            return state["velocity"], float(state["reynolds"]), float(state["time"]), int(state["steps"])
    except (OSError, ValueError) as error:
        return error
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        return ValueError(f"{path}: expected the state of a flow, found another file: {error}")
