"""Training from samples of a mesh: from scattered values to a model, on one process or on many."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from ..brick_layout import BrickLayout
from ..bricks.training import OnProgress
from ..data.array_spec import ArraySpec
from ..data.mesh_values import MeshPieces, voxel_dims
from ..device import devices_of_rank
from ..distributed import Communicator
from ..errors import DataError
from ..file.unchanged_file import UnchangedFile
from ..grid import Grid
from ..network.model_config import ModelConfig
from .train_config import TrainConfig
from .trainer import base_of, choose_layout, default_model, initial_bytes, run_job
from .volume_job import VolumeJob
from .volume_training import CHECKPOINT_SECONDS, TrainingResult


def train_samples(
    positions_xyz: np.ndarray,
    values: np.ndarray,
    grid: Grid,
    *,
    arrays: Sequence[ArraySpec],
    covered: np.ndarray | None = None,
    model: ModelConfig | None = None,
    train: TrainConfig = TrainConfig(),
    bricks: tuple[int, int, int] | BrickLayout = (0, 0, 0),
    parameters: int = 0,
    device: str = "auto",
    initial: str | os.PathLike | bytes | None = None,
    time: float | None = None,
    path: str | os.PathLike | None = None,
    checkpoint_interval: float = CHECKPOINT_SECONDS,
    comm=None,
    series: bool = False,
    append: str | os.PathLike | bytes | None = None,
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train networks on values at scattered positions, as a mesh has them.

    Args:
        positions_xyz: (n, 3) world positions; what lies outside of the grid's box counts at its border.
        values: (n, C) floating-point, the components of the arrays one after the other; rows with NaN are left out.
        grid: The box of the model, on points: its extent is the domain, its dims the lattice that the model offers and that
            bricks are cut from.
        arrays: What the components are; their association may differ from the grid's.
        covered: bool [z, y, x] of the voxels (cells) of the grid that meet the mesh, or of these cut in 2, 3 or 4 along each
            axis with more than one point: elsewhere the model has no value; None: all.
        model, train, bricks, parameters, device, initial, time, path, checkpoint_interval, series, append, on_progress,
            on_warning: See `trainer.train_volume`.
        comm: mpi4py communicator; each rank gives the samples of its part of the mesh.

    Returns:
        The trained volume and its history.

    Raises:
        DataError, ConfigError, DeviceError, ModelFileError: As their messages say; with `comm` on all ranks.
    """
    communicator = Communicator(comm)
    series = series or append is not None
    model = model or default_model(series)
    devices = communicator.together(lambda: devices_of_rank(device, communicator.neighbours))
    values = np.asarray(values)
    communicator.together(lambda: _check(values, grid, arrays))
    covered = np.ones(voxel_dims(grid)[::-1], dtype=bool) if covered is None else covered
    unchanged = None if path is None or append is None else UnchangedFile(path)
    base, start = base_of(append, communicator), initial_bytes(initial, communicator)
    positions, mask = np.asarray(positions_xyz, dtype=np.float64), None if base is None else base.header.mask
    pieces = MeshPieces(positions, values, covered, grid, communicator, mask=mask)
    layout = bricks if base is None else base.header.layout
    if not isinstance(layout, BrickLayout):
        row = values.shape[1] * values.dtype.itemsize
        layout = choose_layout(grid, bricks, row, model, values.shape[1], parameters, devices, communicator)
    job = communicator.together(lambda: VolumeJob(
        grid, layout, tuple(arrays), values.dtype.name, model, train, parameters, start, time, pieces.mask,
        series=series, base=base,
    ))  # fmt: skip
    return run_job(
        job, communicator, devices, pieces.fetch, path=path, checkpoint_interval=checkpoint_interval,
        owners=pieces.owners(layout), on_progress=on_progress, on_warning=on_warning, unchanged=unchanged,
    )  # fmt: skip


def _check(values: np.ndarray, grid: Grid, arrays: Sequence[ArraySpec]) -> None:
    """Raise DataError when the grid or the arrays do not fit."""
    if grid.association != "point":
        raise DataError(f"grid of samples: expected one of points, found one of {grid.association}s")
    wanted = sum(array.components for array in arrays)
    if values.ndim != 2 or values.shape[1] != wanted:
        raise DataError(f"samples: expected values (n, {wanted}) of {len(arrays)} arrays, found {values.shape}")
