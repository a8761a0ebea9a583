"""A training from the first look at the bricks to the model, for those who bring the values pass by pass."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..brick_layout import BrickLayout
from ..bricks.folder import BrickFolder, FinishedBrick
from ..bricks.passes import survey_passes, training_passes
from ..bricks.survey import Survey
from ..bricks.training import OnProgress
from ..data.mask import VOXELS
from ..distributed import Communicator
from ..file.model_file import ModelFile, read_model
from ..file.model_writer import StoredBrick, check_writable, pack_model, write_bytes, write_model
from ..file.unchanged_file import UnchangedFile
from ..file.weights import describe_model
from ..grid import Region
from ..residual.shares import Shares
from ..sampling.volume import NeuralVolume
from .history import merged_table, psnr_of
from .time_series import known_step, stored_steps, time_entry
from .training_slice import TrainingSlice
from .volume_job import BrickPlan, VolumeJob, plan_bricks

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class TrainingResult:
    """What `train_volume` gives back, the same on every rank.

    Attributes:
        history: Columns iteration, seconds, loss, psnr, learning_rate, brick; of each brick one row after the other. A
            brick's last row has its loss and psnr as measured on the stored network at 65 536 of its values, the others are
            smoothed from the batches.
        psnr: In dB over the data's range: of all bricks, from their last rows; blending at their faces is left out. Of several
            arrays the mean of their errors relative to their ranges; of a transformed array that of the transformed values.
        array_psnr: Of each array by name, in dB over its own range.
        missing: Values that are NaN or infinite, or hidden: they are not trained, and the model has none there.
        stop_reason: "iterations", "time budget", "psnr reached", "converged", "stopped by user", "constant data"; of many
            bricks all that occurred, with commas.
        warnings: Readable lines: what a user should know of the data and the settings, and the notes.
        seconds: That the training took, the survey left out.
        key: Stored in the model; "" when the user stopped it.
        layout: The bricks.
        model: The bytes of the model file; None when it was written to `path`.
        path: See `train_volume`.
        device: That `volume` computes on.
        notes: Where a training did not go straight: it diverged, or its device failed.
    """

    history: dict[str, np.ndarray]
    psnr: float
    array_psnr: dict[str, float]
    missing: int
    stop_reason: str
    warnings: tuple[str, ...]
    seconds: float
    key: str
    layout: BrickLayout
    model: bytes | None
    path: str
    device: str
    notes: tuple[str, ...] = ()

    @cached_property
    def volume(self) -> NeuralVolume:
        """The trained model as it is stored."""
        if self.model is None:
            return NeuralVolume.open(self.path, self.device)
        return NeuralVolume.from_bytes(self.model, self.device)

    @cached_property
    def shares(self) -> Shares | None:
        """What networks and residuals take at the last time step; None where nothing is within an error bound."""
        file = ModelFile(self.path if self.model is None else self.model)
        step = len(file.header.bounds) - 1
        return Shares.of_file(file, step) if any(file.header.bounds[step]) else None

    @cached_property
    def shares_of_all(self) -> Shares | None:
        """The same of all time steps together; None where one of them is not bound."""
        shares = Shares.of_file(ModelFile(self.path if self.model is None else self.model))
        return shares if shares.bounds else None

    def to_bytes(self) -> bytes:
        """The whole model file."""
        return read_model(self.path) if self.model is None else self.model

    def save(self, path: str | os.PathLike) -> None:
        """Write the model file, whole or not at all. Raises ModelFileError."""
        write_bytes(path, self.to_bytes())


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
    on_look: Callable[[float], bool | None] | None = None,
    on_progress: OnProgress | None = None,
    on_warning: Callable[[str], None] | None = None,
    live: bool = False,
    unchanged: UnchangedFile | None = None,
) -> Generator[Region | TrainingSlice | None, np.ndarray | Exception | float | None, object]:
    """`train_volume` for those who bring the values pass by pass; see `brick_passes` for what is yielded and sent.

    Args:
        job: What to train.
        communicator, devices: Of this rank.
        path, checkpoint_interval, on_progress, on_warning, key: See `train_volume`.
        owners: The rank of each brick when its values can be had there only; None: anywhere.
        survey: Of the same values, when it is known.
        on_survey: Called on every rank with the survey before anything is trained (collective). What it returns, unless
            None, is returned instead of a training's result.
        on_look: Called on every rank after each brick that it has looked at, with the share done; returning False stops.
        live: Also yields a TrainingSlice again and again, and trains for as many seconds as are sent; see `LiveTraining`. The
            model does not depend on it.
        unchanged: `path` as it was before the job's base was read from there: what others have written meanwhile is not replaced.

    Returns:
        A TrainingResult.
    """
    fresh = survey is None
    at_hand, spread = None, job.layout.ranks(communicator.size) if owners is None else owners
    if fresh:
        survey, at_hand = yield from survey_passes(job, communicator, spread, on_look)
    other = on_survey(survey) if on_survey is not None else None
    if other is not None:
        return other
    own_key = communicator.together(lambda: job.key(survey.content))
    if job.series and path is not None:
        taken = communicator.from_root(lambda: known_step(path, job.step, own_key))
        if taken is not None:
            return _taken(job, survey.missing, taken, own_key, path, devices)
    communicator.together(lambda: job.bounds(survey))  # what cannot be is told before anything is begun
    plans = communicator.together(lambda: plan_bricks(job, survey))
    warnings = _warnings_about(job, plans, survey)
    communicator.from_root(lambda: [(on_warning or logger.warning)(line) for line in warnings] and None)
    where = ", ".join(map(str, devices))
    logger.info("trains %r: %d bricks, %d ranks, on %s", job.name, job.layout.count, communicator.size, where)
    folder = None
    if path is not None:
        communicator.from_root(lambda: check_writable(path))
        folder = BrickFolder(os.fspath(path), checkpoint_interval)
    if fresh and np.bincount(spread).max() == 1:
        owners = spread  # every rank has its only brick at hand
    else:
        at_hand = None
    try:
        finished, seconds = yield from training_passes(
            job, plans, survey, communicator, devices, folder, own_key, owners, at_hand, on_progress, live
        )
        return _result(job, survey, communicator, finished, warnings, seconds, key or own_key, path, folder, devices, unchanged)
    finally:
        if folder is not None:
            folder.close()


def drive_passes(passes: Generator, fetch: Callable[[Region | None], np.ndarray | Exception | None]):
    """Bring the values that a generator of passes asks for until it has its result, and return that.

    Args:
        passes: `volume_passes`, or one of `brick_passes`.
        fetch: Given a region, or None where another rank wants one, returns its values or what stands in their way.
    """
    try:
        region = next(passes)
        while True:
            region = passes.send(fetch(region))
    except StopIteration as end:
        return end.value


def _taken(job: VolumeJob, missing: int, model: bytes, key: str, path, devices: list) -> TrainingResult:
    """What is told of a time step that was in the file already."""
    unknown = {array.name: math.nan for array in job.arrays}
    return TrainingResult(
        merged_table([]), math.nan, unknown, missing, "taken from the file", (), 0.0, key, job.layout, model, os.fspath(path),
        ",".join(map(str, devices)),
    )  # fmt: skip


def _result(
    job: VolumeJob, survey: Survey, communicator: Communicator, finished: list[FinishedBrick], warnings, seconds: float,
    key: str, path, folder: BrickFolder | None, devices: list, unchanged: UnchangedFile | None,
) -> TrainingResult:  # fmt: skip
    """Write or pack the model and bring together what all ranks know of it."""
    told = [(f.stored.brick, f.reason, f.error, f.history, f.errors, f.notes) for f in finished]
    bricks = sorted((line for part in communicator.everywhere(told) for line in part), key=lambda line: line[0])
    reasons = [reason for _, reason, *_ in bricks]
    key = "" if "stopped by user" in reasons else key  # a partial result does not stand for its settings
    infos = job.infos(survey)
    before = [] if job.base is None else list(job.base.header.manifest["times"])
    mask = job.mask if survey.masked or job.mask in VOXELS else None if job.base is None else job.base.header.mask
    manifest = describe_model(
        job.grid, job.layout, infos if job.base is None else job.base.header.arrays,
        [*before, time_entry(job.time, infos, key, job.series, job.bounds(survey))], job.fitted_model, job.train.resolved(job.grid, job.series), key, mask,
    )  # fmt: skip
    earlier = [] if job.base is None else stored_steps(job.base, communicator)
    data = None
    if path is None:
        mine = [(f.stored.brick, f.stored.entry, f.stored.section(), f.stored.time, f.stored.coder) for f in finished]
        everything = [StoredBrick.of_bytes(*one) for part in communicator.everywhere(mine) for one in part]
        old = [] if job.base is None else stored_steps(job.base)
        data = pack_model(manifest, old + everything)
    else:
        if unchanged is not None:
            communicator.from_root(unchanged.check)
        write_model(path, manifest, earlier + [f.stored for f in finished], communicator)
        communicator.from_root(folder.remove)
    counts = [_values_in(job, survey, brick) for brick, *_ in bricks]
    error = sum(line[2] * n for line, n in zip(bricks, counts)) / sum(counts)
    errors = [sum(line[4][a] * n for line, n in zip(bricks, counts)) / sum(counts) for a in range(len(job.arrays))]
    notes = tuple(note if job.layout.count == 1 else f"brick {line[0]}: {note}" for line in bricks for note in line[5])
    stopped = sorted(set(reasons) - {"constant data"}) or ["constant data"]
    history = merged_table([(line[0], line[3]) for line in bricks])
    logger.info("trained %r: %s, %.2f dB", job.name, ", ".join(stopped), psnr_of(error))
    return TrainingResult(
        history, psnr_of(error), {a.name: psnr_of(e) for a, e in zip(job.arrays, errors)}, survey.missing, ", ".join(stopped), (*warnings, *notes), seconds, key, job.layout, data, "" if path is None else os.fspath(path),
        ",".join(map(str, devices)), notes,
    )  # fmt: skip


def _values_in(job: VolumeJob, survey: Survey, brick: int) -> float:
    """How many values a brick has for the mean of all: those that are missing do not count."""
    owned = job.layout.owned(brick).count
    return owned if job.mask in VOXELS else max(owned - survey.bricks[brick].missing / job.components, 0.0)


def _warnings_about(job: VolumeJob, plans: tuple[BrickPlan, ...], survey: Survey) -> tuple[str, ...]:
    """What a user should know before relying on the result."""
    warnings = []
    sizes = (p.train.rate_bytes or p.model.model_bytes(job.components, p.train.rounding) for p in plans)
    model, data = sum(sizes), job.byte_count
    if model > data / 4:
        warnings.append(
            f"the model (about {model} bytes) is larger than a quarter of array {job.name!r} ({data} bytes); "
            f"smaller networks would compress more"
        )
    for info in job.infos(survey):
        largest = max(abs(end) for end in info.range)
        if largest > float(np.finfo(np.float32).max):
            warnings.append(
                f"array {info.name!r} has values up to {largest:.3g}, which float32 does not hold: ask for them as {info.dtype}"
            )
    return tuple(warnings)
