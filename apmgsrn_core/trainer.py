"""Training: from an array to a model, on one process or on many."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np

from .brick_folder import BrickFolder, FinishedBrick
from .brick_passes import survey_passes, training_passes
from .brick_survey import Survey
from .brick_training import OnProgress
from .bricks import BrickLayout
from .device import devices_of_rank, memory_for_values
from .distributed import Communicator
from .errors import DataError
from .grid import Grid, Region
from .history import TrainingState, merged_table, psnr_of
from .model_config import ModelConfig
from .model_file import read_model
from .model_writer import StoredBrick, check_writable, pack_model, write_bytes, write_model
from .pieces import Pieces
from .train_config import TrainConfig
from .volume import NeuralVolume
from .volume_job import BrickPlan, VolumeJob, plan_bricks
from .weights import describe_model

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0

Values = np.ndarray | Callable[[Region], np.ndarray]


@dataclass(frozen=True)
class TrainingResult:
    """What `train_volume` gives back, the same on every rank.

    Attributes:
        history: Columns iteration, seconds, loss, psnr, learning_rate, brick; of each brick one row after the other. A
            brick's last row has its loss and psnr as measured on the stored network at 65 536 of its values, the others are
            smoothed from the batches.
        psnr: In dB over the data's range: of all bricks, from their last rows; blending at their faces is left out.
        stop_reason: "iterations", "time budget", "psnr reached", "converged", "stopped by user", "constant data"; of many
            bricks all that occurred, with commas.
        warnings: Readable lines.
        seconds: That the training took, the survey left out.
        key: Stored in the model; "" when the user stopped it.
        layout: The bricks.
        model: The bytes of the model file; None when it was written to `path`.
        path: See `train_volume`.
        device: That `volume` computes on.
    """

    history: dict[str, np.ndarray]
    psnr: float
    stop_reason: str
    warnings: tuple[str, ...]
    seconds: float
    key: str
    layout: BrickLayout
    model: bytes | None
    path: str
    device: str

    @cached_property
    def volume(self) -> NeuralVolume:
        """The trained model as it is stored."""
        if self.model is None:
            return NeuralVolume.open(self.path, self.device)
        return NeuralVolume.from_bytes(self.model, self.device)

    def to_bytes(self) -> bytes:
        """The whole model file."""
        return read_model(self.path) if self.model is None else self.model

    def save(self, path: str | os.PathLike) -> None:
        """Write the model file, whole or not at all. Raises ModelFileError."""
        write_bytes(path, self.to_bytes())


def train_volume(
    values: Values,
    grid: Grid,
    *,
    name: str = "values",
    model: ModelConfig = ModelConfig.preset("small"),
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
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train networks on one array, one for each brick of it.

    With an mpi4py communicator all its ranks call this together and share the bricks. The model does not depend on the
    number of ranks.

    Args:
        values: [z, y, x] or [z, y, x, component] in its own type; a view or memory map is fine. Or a function that is
            given a Region and returns its values: no more than the bricks that are trained is then in memory.
        grid: Where the values are; its association says whether they sit on points or in cells.
        name: Of the array, stored in the model.
        model: The network of a brick, on the average of the bricks. Its resolution is fitted to flat data.
        train: How to train it. A time budget is for all bricks together.
        bricks: Along x, y, z; 0 = automatic: one while it has at most 256^3 values, fits the memory and, with `parameters`,
            gives no brick more than `model` has. Or a layout of your own.
        parameters: Trained numbers of all bricks together; 0: as many as `model` has for each brick. Bricks get them by
            need; one of a single value needs almost none.
        device: As `devices_of_rank` takes it; "auto" uses all GPUs of this rank, a brick on each.
        initial: A saved model (path or bytes) of the same bricks and architecture to start from.
        time: The time of this step, stored.
        unit: Of the values, stored.
        key: Stored; computed by `training_key` when "". A training that the user stopped stores none.
        path: Write the model there, each rank its bricks. While it is trained, checkpoints and finished bricks are kept in
            the folder `PATH.training`; the same call goes on from them after it was cut off.
        checkpoint_interval: Seconds between two checkpoints of a brick; 0: none.
        comm: mpi4py communicator; None: this process alone.
        region: The box of `grid` that `values` of this rank are, when the ranks hold one piece each (with or without
            shared or ghost values); None: every rank can read everything.
        on_progress: Called about five times a second; returning False stops: one brick keeps what is there, several raise
            ApmgsrnError. None shows a progress bar when standard error is a terminal.
        on_warning: Called on rank 0 before the training starts with each line that a user should know; None logs it.

    Returns:
        The trained volume and its history.

    Raises:
        DataError, ConfigError, DeviceError, ModelFileError: As their messages say; with `comm` on all ranks.
    """
    communicator = Communicator(comm)
    devices = communicator.together(lambda: devices_of_rank(device, communicator.neighbours))
    pieces = owners = None
    components, dtype, value_bytes = communicator.together(lambda: _describe_values(values, grid, region, name))
    layout = bricks
    if not isinstance(bricks, BrickLayout):
        layout = choose_layout(grid, bricks, value_bytes, model, parameters, devices, communicator)
    if region is not None:
        pieces = Pieces(values, region, communicator)
        owners = pieces.owners(layout)
    job = VolumeJob(
        grid, layout, name, components, dtype, model, train, parameters, _initial_bytes(initial, communicator), time, unit
    )
    with _progress_bar(on_progress if communicator.rank == 0 else on_progress or (lambda state: True)) as report:
        passes = volume_passes(
            job, communicator, devices, path=path, checkpoint_interval=checkpoint_interval, owners=owners, key=key,
            on_progress=report, on_warning=on_warning,
        )  # fmt: skip
        return _drive(passes, pieces.fetch if pieces is not None else lambda part: _cut(values, part))


def choose_layout(
    grid: Grid, counts, value_bytes: int, model: ModelConfig, parameters: int, devices: list, communicator: Communicator
) -> BrickLayout:
    """The bricks that some counts (0 = automatic) come to on these ranks (collective); see `train_volume`."""
    memory = min(communicator.everywhere(memory_for_values(devices, communicator.neighbours[1])))
    least = -(-parameters // model.parameter_count()) if parameters else 1
    return communicator.together(lambda: BrickLayout.automatic(grid.value_dims, tuple(counts), value_bytes, memory, least))


def volume_passes(
    job: VolumeJob,
    communicator: Communicator,
    devices: list,
    *,
    path: str | os.PathLike | None = None,
    checkpoint_interval: float = CHECKPOINT_SECONDS,
    owners: np.ndarray | None = None,
    survey: Survey | None = None,
    key: str = "",
    on_survey: Callable[[Survey], object] | None = None,
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Generator[Region | None, np.ndarray | Exception | None, object]:
    """`train_volume` for those who bring the values pass by pass; see `brick_passes` for what is yielded and sent.

    Args:
        job: What to train.
        communicator, devices: Of this rank.
        path, checkpoint_interval, on_progress, on_warning, key: See `train_volume`.
        owners: The rank of each brick when its values can be had there only; None: anywhere.
        survey: Of the same values, when it is known.
        on_survey: Called on every rank with the survey before anything is trained (collective). What it returns, unless
            None, is returned instead of a training's result.

    Returns:
        A TrainingResult.
    """
    fresh = survey is None
    at_hand, spread = None, job.layout.ranks(communicator.size) if owners is None else owners
    if fresh:
        survey, at_hand = yield from survey_passes(job, communicator, spread)
    other = on_survey(survey) if on_survey is not None else None
    if other is not None:
        return other
    key = key or communicator.together(lambda: job.key(survey.content))
    plans = communicator.together(lambda: plan_bricks(job, survey))
    warnings = _warnings_about(job, survey, plans)
    for line in warnings if communicator.rank == 0 else ():
        (on_warning or logger.warning)(line)
    folder = None
    if path is not None:
        communicator.from_root(lambda: check_writable(path))
        folder = BrickFolder(os.fspath(path), checkpoint_interval)
    if fresh and np.bincount(spread).max() == 1:
        owners = spread  # every rank has its only brick at hand
    else:
        at_hand = None
    start = perf_counter()
    finished = yield from training_passes(
        job, plans, survey, communicator, devices, folder, key, owners, at_hand, on_progress
    )
    seconds = perf_counter() - start
    return _result(job, survey, communicator, finished, warnings, seconds, key, path, folder, devices)


def _result(
    job: VolumeJob, survey: Survey, communicator: Communicator, finished: list[FinishedBrick], warnings, seconds: float,
    key: str, path, folder: BrickFolder | None, devices: list,
) -> TrainingResult:  # fmt: skip
    """Write or pack the model and bring together what all ranks know of it."""
    told = [(f.stored.brick, f.reason, f.error, f.history) for f in finished]
    bricks = sorted((line for part in communicator.everywhere(told) for line in part), key=lambda line: line[0])
    reasons = [reason for _, reason, _, _ in bricks]
    key = "" if "stopped by user" in reasons else key  # a partial result does not stand for its settings
    manifest = describe_model(
        job.grid, job.layout, (job.array_info(survey),), (job.time,), job.fitted_model, job.train.resolved(job.grid), key
    )
    data = None
    if path is None:
        mine = [(f.stored.brick, f.stored.entry, f.stored.section()) for f in finished]
        everything = [StoredBrick.of_bytes(*one) for part in communicator.everywhere(mine) for one in part]
        data = pack_model(manifest, everything)
    else:
        write_model(path, manifest, [f.stored for f in finished], communicator)
        communicator.from_root(folder.remove)
    counts = [job.layout.owned(brick).count for brick, _, _, _ in bricks]
    error = sum(e * n for (_, _, e, _), n in zip(bricks, counts)) / sum(counts)
    stopped = sorted(set(reasons) - {"constant data"}) or ["constant data"]
    history = merged_table([(brick, table) for brick, _, _, table in bricks])
    logger.info("trained %r: %s, %.2f dB", job.name, ", ".join(stopped), psnr_of(error))
    return TrainingResult(
        history, psnr_of(error), ", ".join(stopped), warnings, seconds, key, job.layout, data, "" if path is None else os.fspath(path),
        str(devices[0]),
    )  # fmt: skip


def _drive(passes, fetch: Callable[[Region | None], np.ndarray | Exception | None]) -> TrainingResult:
    """Bring the values that a generator of passes asks for until it has its result."""
    try:
        region = next(passes)
        while True:
            region = passes.send(fetch(region))
    except StopIteration as end:
        return end.value


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


def _describe_values(values: Values, grid: Grid, region: Region | None, name: str) -> tuple[int, str, int]:
    """(components, numpy type, bytes of one value) of what is given; DataError when it does not fit the grid."""
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


def _initial_bytes(initial: str | os.PathLike | bytes | None, communicator: Communicator) -> bytes:
    """The bytes of the model to start from; b"" for none."""
    if initial is None or isinstance(initial, bytes):
        return initial or b""
    return communicator.together(lambda: read_model(initial))


def _warnings_about(job: VolumeJob, survey: Survey, plans: tuple[BrickPlan, ...]) -> tuple[str, ...]:
    """What a user should know before relying on the result."""
    warnings = []
    size = job.grid.region.count * job.components
    if survey.missing:
        warnings.append(
            f"array {job.name!r}: {survey.missing} of {size} values are NaN or infinite; they are left out "
            "of the range and of the training, and the model gives finite values there"
        )
    model, data = sum(p.model.model_bytes(job.components) for p in plans), size * np.dtype(job.dtype).itemsize
    if model > data / 4:
        warnings.append(
            f"the model ({model / 1e6:.2f} MB) is larger than a quarter of array {job.name!r} "
            f"({data / 1e6:.2f} MB); a smaller preset would compress more"
        )
    return tuple(warnings)


class _progress_bar:
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
