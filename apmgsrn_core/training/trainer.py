"""Training: from an array to a model, on one process or on many."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..brick_layout import BrickLayout
from ..bricks.training import OnProgress
from ..data.array_spec import ArraySpec, check_arrays
from ..data.pieces import Pieces
from ..device import devices_of_rank, memory_for_values
from ..distributed import Communicator
from ..errors import DataError
from ..file.model_file import ModelFile, read_model
from ..file.unchanged_file import UnchangedFile
from ..grid import Grid, Region
from ..network.model_config import ModelConfig
from ..residual.error_bound import ErrorBound
from ..residual.split import USUAL_BOUND, network_bytes
from ..validation import check
from .aim import lattices_for
from .history import TrainingState
from .train_config import TrainConfig
from .volume_job import VolumeJob
from .volume_training import CHECKPOINT_SECONDS, TrainingResult, drive_passes, volume_passes

Values = np.ndarray | Callable[[Region], np.ndarray]


def train_volume(
    values: Values,
    grid: Grid,
    *,
    name: str = "values",
    arrays: Sequence[ArraySpec] = (),
    model: ModelConfig | None = None,
    train: TrainConfig = TrainConfig(),
    bricks: tuple[int, int, int] | BrickLayout = (0, 0, 0),
    parameters: int = 0,
    device: str = "auto",
    initial: str | os.PathLike | bytes | None = None,
    time: float | None = None,
    unit: str = "",
    key: str = "",
    path: str | os.PathLike | None = None,
    checkpoint_interval: float = CHECKPOINT_SECONDS,
    comm=None,
    region: Region | None = None,
    series: bool = False,
    append: str | os.PathLike | bytes | None = None,
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train networks on one array or several, one for each brick of them.

    With an mpi4py communicator all its ranks call this together and share the bricks. The model does not depend on the
    number of ranks.

    Args:
        values: [z, y, x] or [z, y, x, component] in its own type; a view or memory map is fine. Or a function that is
            given a Region and returns its values: no more than the bricks that are trained is then in memory.
        grid: Where the values are; its association says whether they sit on points or in cells.
        name: Of the array, stored in the model.
        arrays: Of several arrays, or to choose the value transform of one: what the components of the values are, those of
            the arrays one after the other, in a type that holds them all; () is one array of that name.
        model: The network of a brick, on the average of the bricks. Its resolution is fitted to flat data. None: lattices for
            `train.rate_bytes` where that is set (`lattices_for`) or chosen for an error bound, else the small preset, of a time step of several with twice the
            numbers (`ModelConfig.for_series`). A time step that is appended has the bricks and networks of the model that it follows.
        train: How to train it. A time budget is for all bricks together; looking at them and reading are not counted.
        bricks: Along x, y, z; 0 = automatic: one while it has at most 256^3 values, fits the memory and, with `parameters`,
            gives no brick more than `model` has (the memory of the computers may then decide). Or a layout of your own.
        parameters: Trained numbers of all bricks together; 0: as many as `model` has for each brick. Bricks get them by
            need; one of a single value needs almost none.
        device: As `devices_of_rank` takes it; "auto" uses all GPUs of this rank, a brick on each.
        initial: A saved model (path or bytes) of the same bricks and architecture to start from.
        time: The time of this step, stored.
        unit: Of the values, stored; of several arrays in their specs.
        key: Stored; computed by `training_key` when "". A training that the user stopped stores none.
        path: Write the model there, each rank its bricks. While it is trained, checkpoints and finished bricks are kept in
            the folder `PATH.training`; the same call goes on from them after it was cut off.
        checkpoint_interval: Seconds between two checkpoints of a brick; 0: none.
        comm: mpi4py communicator; None: this process alone.
        region: The box of `grid` that `values` of this rank are, when the ranks hold one piece each (with or without
            shared or ghost values); None: every rank can read everything.
        series: Whether this is a time step of several: steps with later times may then be added to the model. When `path` has
            this very step already, it is taken from there.
        append: The model (path or bytes) whose time steps this one follows; `path` may be the same. The result has them all.
        on_progress: Called about five times a second; returning False stops: one brick keeps what is there, several raise
            ApmgsrnError. None shows a progress bar when standard error is a terminal.
        on_warning: Called on rank 0 before the training starts with each line that a user should know; None logs it.

    Returns:
        The trained volume and its history.

    Raises:
        DataError, ConfigError, DeviceError, ModelFileError: As their messages say; with `comm` on all ranks.
    """
    communicator = Communicator(comm)
    series = series or append is not None
    chosen, model = model, model or default_model(series)
    devices = communicator.together(lambda: devices_of_rank(device, communicator.neighbours))
    pieces = owners = None
    components, dtype, value_bytes = _agreed_description(values, grid, region, name, communicator)
    communicator.together(lambda: _check_choices(bricks, parameters, checkpoint_interval, grid))
    arrays = communicator.together(lambda: _agreed_arrays(arrays, name, components, dtype, unit, grid))
    unchanged = None if path is None or append is None else UnchangedFile(path)
    base, start = base_of(append, communicator), initial_bytes(initial, communicator)
    layout = bricks if base is None else base.header.layout
    if not isinstance(layout, BrickLayout):
        layout = choose_layout(grid, bricks, value_bytes, model, components, parameters, devices, communicator)
    if chosen is None and train.bound and not (train.rate_bytes or series):
        share = relative_bound(train.bound, values, communicator)
        train = replace(train, rate_bytes=network_bytes(share, grid.region.count, layout.count))
    if chosen is None and train.rate_bytes:
        model = communicator.together(lambda: lattices_for(train.rate_bytes, layout, components))
    if region is not None:
        pieces = Pieces(values, region, communicator)
        owners = pieces.owners(layout)
    job = communicator.together(lambda: VolumeJob(
        grid, layout, arrays, dtype, model, train, parameters, start, time,
        series=series, base=base,
    ))  # fmt: skip
    return run_job(
        job, communicator, devices, pieces.fetch if pieces is not None else lambda part: _cut(values, part),
        path=path, checkpoint_interval=checkpoint_interval, owners=owners, key=key, on_progress=on_progress,
        on_warning=on_warning, unchanged=unchanged,
    )  # fmt: skip


def run_job(
    job: VolumeJob, communicator: Communicator, devices: list, fetch: Callable, *, on_progress: OnProgress | None, **settings
) -> TrainingResult:
    """Run the passes of a job with what `fetch` brings (collective), and show progress; see `volume_passes`."""
    with progress_bar(on_progress if communicator.rank == 0 else on_progress or (lambda state: True)) as report:
        return drive_passes(volume_passes(job, communicator, devices, on_progress=report, **settings), fetch)


def relative_bound(bound: ErrorBound, values: Values, communicator: Communicator) -> float:
    """The tightest error bound, relative to the range of all values (collective); 0.01 where that is not known before they are read."""
    tightest = min(value for value in bound.values or (bound.value,) if value)
    if bound.mode == "relative":
        return tightest
    known = np.asarray(values)[np.isfinite(values)] if not callable(values) else np.zeros(0)
    ends = communicator.everywhere((float(known.min()), float(known.max())) if known.size else None)
    spans = [end for end in ends if end is not None]
    span = max(high for _, high in spans) - min(low for low, _ in spans) if spans else 0.0
    return min(tightest / span, 1.0) if span else USUAL_BOUND


def default_model(series: bool) -> ModelConfig:
    """The network of a brick when none is chosen; `series`: of a time step of several."""
    small = ModelConfig.preset("small")
    return small.for_series() if series else small


def base_of(append: str | os.PathLike | bytes | None, communicator: Communicator) -> ModelFile | None:
    """The model that a time step is added to (collective); None for none."""
    return communicator.together(lambda: None if append is None else ModelFile(append, "model to append to"))


def _agreed_arrays(
    arrays: Sequence[ArraySpec], name: str, components: int, dtype: str, unit: str, grid: Grid
) -> tuple[ArraySpec, ...]:
    """The arrays that the components of the values are."""
    if not arrays:
        return (ArraySpec(name, components, dtype, grid.association, unit),)
    check_arrays(tuple(arrays))
    wanted = sum(array.components for array in arrays)
    if wanted != components:
        raise DataError(f"values: expected {wanted} components of {len(arrays)} arrays, found {components}")
    other = next((array for array in arrays if array.association != grid.association), None)
    if other is not None:
        raise DataError(f"array {other.name!r}: expected one on the {grid.association}s of the grid, found {other.association}s")
    return tuple(arrays)


def choose_layout(
    grid: Grid, counts, value_bytes: int, model: ModelConfig, components: int, parameters: int, devices: list,
    communicator: Communicator,
) -> BrickLayout:  # fmt: skip
    """The bricks that some counts (0 = automatic) come to on these ranks (collective); see `train_volume`."""
    memory = min(communicator.everywhere(memory_for_values(devices)))
    least = -(-parameters // model.parameter_count(components)) if parameters else 1
    return communicator.together(lambda: BrickLayout.automatic(grid.value_dims, tuple(counts), value_bytes, memory, least))


def _cut(values: Values, part: Region | None) -> np.ndarray | Exception | None:
    """The values of a region, or what stands in their way."""
    if part is None:
        return None
    try:
        if not callable(values):
            return np.asarray(values)[tuple(slice(a, b) for a, b in zip(part.start, part.stop))[::-1]]
        found = np.asarray(values(part))
    except Exception as error:  # told to all ranks by who asked
        return error
    if found.shape[:3] != part.shape_zyx:
        return DataError(f"values of {part.start} to {part.stop}: expected shape {part.shape_zyx}, found {found.shape}")
    return found


def _check_choices(bricks, parameters: int, interval: float, grid: Grid) -> None:
    """Raise ConfigError for what cannot be."""
    check(isinstance(parameters, int) and parameters >= 0, "parameters", "a whole number from 0 on", parameters)
    check(interval >= 0, "checkpoint_interval", "seconds from 0 on", interval)
    if isinstance(bricks, BrickLayout):
        check(bricks.dims == grid.value_dims, "bricks", f"a layout of {grid.value_dims} values", bricks.dims)
    else:
        check(len(tuple(bricks)) == 3, "bricks", "three numbers", tuple(bricks))


def _agreed_description(
    values: Values, grid: Grid, region: Region | None, name: str, communicator: Communicator
) -> tuple[int, str, int]:
    """`_describe_values` of all ranks; those with an empty piece have nothing to say."""
    mine = communicator.together(lambda: _describe_values(values, grid, region, name))
    empty = region is not None and region.count == 0
    told = [other for other in communicator.everywhere(None if empty else mine) if other is not None] or [mine]
    if len(set(told)) > 1:  # the same on all ranks
        kinds = ", ".join(f"{components} x {dtype}" for components, dtype, _ in sorted(set(told)))
        raise DataError(f"array {name!r}: expected the same components and type on all ranks, found {kinds}")
    return told[0]


def _describe_values(values: Values, grid: Grid, region: Region | None, name: str) -> tuple[int, str, int]:
    """(components, numpy type, bytes of one value) of what is given; DataError when it does not fit the grid."""
    if callable(values) and region is not None:
        raise DataError(f"array {name!r}: expected an array for the piece of a rank, found a function")
    if callable(values):
        corner = values(Region((0, 0, 0), tuple(min(2, n) for n in grid.value_dims)))
        shape, dtype = np.shape(corner), np.asarray(corner).dtype
    else:
        shape, dtype = np.shape(values), np.asarray(values).dtype
        expected = grid.value_dims[::-1] if region is None else region.shape_zyx
        if len(shape) not in (3, 4) or shape[:3] != expected:
            raise DataError(
                f"array {name!r}: expected shape {expected} (z, y, x) of {grid.association} values, found {shape}"
            )
    if dtype.kind not in "iuf":
        raise DataError(f"array {name!r}: expected an integer or floating-point type, found {dtype}")
    components = shape[3] if len(shape) == 4 else 1
    return components, dtype.name, components * dtype.itemsize


def initial_bytes(initial: str | os.PathLike | bytes | None, communicator: Communicator) -> bytes:
    """The bytes of the model to start from; b"" for none."""
    if initial is None or isinstance(initial, bytes):
        return initial or b""
    return communicator.together(lambda: read_model(initial))


class progress_bar:
    """The caller's callback, or a tqdm bar on a terminal."""

    def __init__(self, on_progress: OnProgress | None):
        self._callback = on_progress
        self._bar = None

    def __enter__(self) -> OnProgress:
        return self._callback or self._show

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, state: TrainingState) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=state.iterations, unit="it", disable=None)
        self._bar.set_postfix_str(f"{state.psnr:.2f} dB")
        self._bar.update(state.iteration - self._bar.n)
