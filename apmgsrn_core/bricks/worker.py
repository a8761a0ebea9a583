"""One brick from its values to its stored network."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np
import torch

from ..data.array_spec import columns_of
from ..data.array_values import normalised
from ..data.field_data import FieldData
from ..data.mask import mask_region, pack_mask
from ..data.mesh_values import MeshValues
from ..data.scattered_data import ScatteredData
from ..file.coded_network import DecodedNetwork
from ..file.model_file import ModelFile
from ..file.model_writer import StoredBrick
from ..file.network_reader import read_decoded, read_network
from ..file.weights import describe_brick, pack_section, round_to_stored
from ..grid import Grid
from ..network.model import Network
from ..rendering.stored_macrocells import pack_macrocells
from ..training.array_errors import ArrayErrors, wants_columns
from ..training.device_sampler import DeviceSampler
from ..training.history import History, psnr_of
from ..training.placement import start_transforms
from ..training.sampler import Sampler
from ..training.scattered_placement import scattered_start_transforms
from ..training.scattered_sampler import ScatteredSampler
from ..training.time_series import KEY_EVERY
from ..training.time_start import FeaturePull, follow_ranges, starts_from_before
from ..training.train_config import TrainConfig
from ..training.training_step import stays_on_device
from ..training.volume_job import BrickPlan, VolumeJob
from .bounding import BrickBounds
from .budget import constant_model
from .failing import DeadNetwork, failed_device
from .folder import BrickFolder, FinishedBrick
from .storage import StoredNetwork, network_of_one_value, store_network
from .survey import Survey
from .training import CHECK_POINTS, BrickTraining, brick_steps, mean_squared_error, run_to_end

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # seeds of different bricks do not meet
ATTEMPTS, ATTEMPT_STRIDE = 4, 500_009  # with other seeds, when a network dies


class BrickWorker:
    """Trains bricks of one job.

    Args:
        survey, plans: Of all bricks.
        folder: Keeps checkpoints and finished bricks; None: in memory.
        may_move: Whether the CPU may take the place of a device that fails.
    """

    def __init__(
        self, job: VolumeJob, survey: Survey, plans: tuple[BrickPlan, ...], folder: BrickFolder | None, may_move: bool = False
    ):  # fmt: skip
        self._may_move, self._notes = may_move, {}
        self.job, self._plans, self.folder = job, plans, folder
        self.arrays = job.infos(survey)
        self._masks = [summary.mask for summary in survey.bricks]
        self._hidden = [all(low > high for low, high in summary.ranges) for summary in survey.bricks]  # without a value
        self.layout, self._bounds = job.layout, BrickBounds(job, self.arrays, job.bounds(survey))

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the arrays that have a column of their own."""
        return tuple(array.name for array in self.arrays) if wants_columns(self.arrays) else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the history of a brick."""
        return tuple(History(1, arrays=self._names).table())

    def constant(self, brick: int) -> FinishedBrick:
        """A brick of one value: exact, without training."""
        plan = self._plans[brick]
        network = network_of_one_value(plan.model, plan.value)
        exact = (0.0,) * len(self.arrays)
        names = self._names
        history = History(1, arrays=names)
        history.add_row(0, 0.0, 0.0, tuple(psnr_of(0.0) for _ in names))
        if self._bounds:
            stored = StoredNetwork(round_to_stored(network), pack_section(network, self._masks[brick]), "none")
            held = self._bounds.of_one_value(brick, plan.value, stored)
            return self._finished(brick, held.stored, "constant data", 0.0, exact, history)
        size = len(pack_section(network, self._masks[brick]))
        section = pack_section(network, self._masks[brick], self._cells_of(brick, network, size))
        stored = StoredNetwork(network, section, "none")
        return self._finished(brick, stored, "constant data", 0.0, exact, history)

    @property
    def masked(self) -> bool:
        """Whether a brick is not valid everywhere."""
        return any(mask is not None for mask in self._masks)

    def unfinished(self, brick: int, network: Network) -> StoredBrick:
        """A brick that is being trained, as it is now."""
        return self._stored(brick, network, self._masks[brick])

    def untrained(self, brick: int) -> StoredBrick:
        """A brick whose training has not begun: it has no values."""
        region = mask_region(self.layout, brick, self.job.mask)
        nothing = pack_mask(np.zeros((len(self.arrays), *region.shape_zyx), dtype=bool))
        model = constant_model(self.job.components, self._plans[brick].grid)
        return self._stored(brick, network_of_one_value(model, (0.0,) * self.job.components), nothing)

    def _stored(self, brick: int, network: Network, mask: np.ndarray | None) -> StoredBrick:
        entry = describe_brick(network, self.layout, brick, self.job.fitted_model)
        return StoredBrick.of_bytes(brick, entry, pack_section(network, mask), self.job.step, "none")

    def train(self, *arguments) -> FinishedBrick:
        """Train a brick; see `steps`."""
        return run_to_end(self.steps(*arguments))

    def steps(
        self, brick: int, values: np.ndarray, device: torch.device, budget: float, on_progress: Callable
    ) -> Generator[BrickTraining, None, FinishedBrick]:
        """Train a brick; yields after each step.

        Args:
            values: [z, y, x] or [z, y, x, component] of `layout.trained(brick)`.
            budget: Seconds; 0 = none.
            on_progress: See `train_brick`.

        Small networks die now and then: all neurons of a layer stop, the output is one value (10 of 64 bricks of a head at 1500 to
        5000 parameters). Then another seed and half the rates are tried. Where the values are a little noise, that one value is as
        good as it gets, and it stays after the last attempt. A brick whose GPU fails is trained on the CPU where it may be.

        Raises:
            MemoryShortage, DeviceError: The device has not enough memory for a step, or is lost.
        """
        try:
            return (yield from self._attempts(brick, values, device, budget, on_progress))
        except Exception as error:
            self._notes[brick] = failed_device(error, brick, device, self._may_move)
        return (yield from self._attempts(brick, values, torch.device("cpu"), budget, on_progress))

    def _attempts(
        self, brick: int, values: np.ndarray | MeshValues, device: torch.device, budget: float, on_progress: Callable
    ) -> Generator[BrickTraining, None, FinishedBrick]:
        """With other seeds and rates as long as networks die."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return (yield from self._steps(brick, values, attempt, device, budget, on_progress))
            except DeadNetwork as error:
                logger.info("brick %d, attempt %d: %s", brick, attempt, error)
        return (yield from self._steps(brick, values, ATTEMPTS - 1, device, budget, on_progress))

    def _data(self, brick: int, values: np.ndarray | MeshValues) -> FieldData | ScatteredData:
        """What the networks of a brick learn, scaled to the ranges of the arrays."""
        grid = self._plans[brick].grid
        if not isinstance(values, MeshValues):
            return FieldData.of_arrays(values, grid, self.arrays)
        scaled = [normalised(values.values[:, own], a) for a, own in zip(self.arrays, columns_of(self.arrays))]
        positions = grid.index_to_normalised(values.positions - self.layout.trained(brick).start)
        return ScatteredData(positions, np.concatenate(scaled, axis=1), grid.dims, self.job.name, _extents(grid))

    def _steps(
        self, brick: int, values: np.ndarray | MeshValues, attempt: int, device: torch.device, budget: float, on_progress: Callable
    ) -> Generator[BrickTraining, None, FinishedBrick]:
        """With the seed and the rates of one attempt; the last one may die."""
        plan, slower, data = self._plans[brick], 0.5**attempt, self._data(brick, values)
        train = replace(
            plan.train, time_budget=budget, learning_rate=plan.train.learning_rate * slower,
            transform_learning_rate=plan.train.transform_learning_rate * slower,
        )  # fmt: skip
        seed = train.seed * SEED_STRIDE + brick + attempt * ATTEMPT_STRIDE
        generator = torch.Generator().manual_seed(seed)
        check = _sampler(data, train, torch.Generator(), seed, torch.device("cpu"))
        network, before = self._start(data, plan, generator, check, attempt)
        network = network.to(device)
        sampler = _sampler(data, train, generator, seed, device)
        reference = None if before is None else torch.from_numpy(before.tensors["features"])
        logger.info("brick %d: %s on %s, %d numbers to learn", brick, plan.grid.value_dims, device, plan.model.parameter_count())
        reason, history = yield from brick_steps(
            network, sampler, train, lambda state: on_progress(replace(state, brick=brick)),
            constant=self._hidden[brick] or all(low == high for low, high in (a.range for a in self.arrays)),
            must_live=attempt + 1 < ATTEMPTS,
            checkpoint=self.folder.checkpoint(brick, attempt) if self.folder else None,
            errors=ArrayErrors(sampler, self.arrays, fills=data.fills) if wants_columns(self.arrays) else None,
            pull=FeaturePull(network.features, reference) if _is_pulled(train, reference) else None,
            values=math.prod(plan.grid.value_dims),
        )  # fmt: skip
        stored = store_network(
            network.cpu(), check.draw_uniform(CHECK_POINTS), train.rounding, before, self._masks[brick],
            functools.partial(self._cells_of, brick), network.feature_step, plan.train.rate_bytes,
        )  # fmt: skip
        if self._bounds:
            held = self._bounds.held(brick, values, stored, self._masks[brick])
            stored, errors = held.stored, held.own_errors
            error = float(np.average(held.errors, weights=[a.components for a in self.arrays]))
        else:
            error = mean_squared_error([stored.network], check)
            several = wants_columns(self.arrays)
            errors = ArrayErrors(check, self.arrays, CHECK_POINTS, data.fills).mean_squared(stored.network) if several else (error,)
        last = history.table()
        of_arrays = tuple(map(psnr_of, errors)) if wants_columns(self.arrays) else ()
        history.add_row(int(last["iteration"][-1]), error, float(last["learning_rate"][-1]), of_arrays)
        return self._finished(brick, stored, reason, error, errors, history)

    def _cells_of(self, brick: int, network: Network, size: int) -> np.ndarray | None:
        """The macrocells of a brick, see `store_network`; the many steps of a series, and what a network leaves within error
        bounds, are sampled when they are shown."""
        if self.job.series or self._bounds:
            return None
        return pack_macrocells(network, self.job.grid, self.arrays, size, self.layout, brick)

    def _start(
        self, data: FieldData | ScatteredData, plan: BrickPlan, generator: torch.Generator, check, attempt: int
    ) -> tuple[Network, DecodedNetwork | None]:
        """The network before the first step: fresh and placed, the initial model's, or that of the time step before; of that
        one also as it is stored, unless this step is to stand for itself."""
        job, network = self.job, Network(plan.model, generator)
        if job.base is not None and not attempt:
            before = read_decoded(job.base, plan.brick, job.components, job.step - 1)
            start = before.network()
            follow_ranges(start, job.base.header.arrays_at(job.step - 1), self.arrays)
            if starts_from_before(start, check):
                network.load_state_dict(start.state_dict())
                return network, before if job.step % KEY_EVERY else None
        if job.initial:
            saved = read_network(ModelFile(job.initial, "initial model"), plan.brick, job.components)
            network.load_state_dict(saved.state_dict())
            return network, None
        with torch.no_grad():
            placed = scattered_start_transforms if isinstance(data, ScatteredData) else start_transforms
            network.transforms.copy_(placed(data, plan.model, plan.train, generator))
        return network, None

    def _finished(
        self, brick: int, stored: StoredNetwork, reason: str, error: float, errors: tuple[float, ...], history: History
    ) -> FinishedBrick:
        entry = describe_brick(stored.network, self.layout, brick, self.job.fitted_model)
        packed = StoredBrick.of_bytes(brick, entry, stored.section, self.job.step, stored.coder)
        logger.info("brick %d: %s, %.2f dB, %d bytes", brick, reason, psnr_of(error), len(stored.section))
        finished = FinishedBrick(packed, reason, error, errors, history.table(), (*self._notes.get(brick, ()), *history.notes))
        if self.folder is None or reason == "stopped by user":
            return finished
        return self.folder.save(finished, stored.section)


def _sampler(data, train, generator: torch.Generator, seed: int, device: torch.device):
    """What draws the batches of a training on a device."""
    if isinstance(data, ScatteredData):
        return ScatteredSampler(data, train, seed, device)
    return DeviceSampler(data, train, seed, device) if stays_on_device(device, train) else Sampler(data, train, generator)


def _is_pulled(train: TrainConfig, reference: torch.Tensor | None) -> bool:
    """Whether features are moved so that they take fewer bits. Without a time step before, the published training and its schedule
    are left as they are: a rate that is not lowered would cost 1.6 dB (`tests/bench/quantised.py`)."""
    as_published = train.placement == "published" or train.schedule == "plateau"
    return bool(train.rounding) and not train.rate_bytes and (not as_published or reference is not None)


def _extents(grid: Grid) -> tuple[float, ...]:
    """Lengths of a lattice along x, y, z in the world; 0 on a flat axis."""
    return tuple(abs(s) * (n - 1) for s, n in zip(grid.spacing, grid.dims))
