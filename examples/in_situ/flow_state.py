"""The state of a flow in a file, from which a simulation goes on, on any number of ranks."""

from __future__ import annotations

import os
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
    """Go on from a state. Raises ValueError: it is of another flow; OSError: it cannot be read."""
    with np.load(path) as state:
        velocity, reynolds = state["velocity"], float(state["reynolds"])
        if velocity.shape[1] != flow.points or reynolds != flow.reynolds:
            raise ValueError(
                f"{path}: expected a flow of {flow.points} points and Re = {flow.reynolds:g}, "
                f"found {velocity.shape[1]} points and Re = {reynolds:g}"
            )
        flow.time, flow.steps = float(state["time"]), int(state["steps"])
    flow.set_velocity(velocity[:, slice(*flow.planes)])
