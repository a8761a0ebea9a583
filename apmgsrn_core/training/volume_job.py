"""What a training of a volume depends on, except the values themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..brick_layout import BrickLayout
from ..bricks.budget import brick_models, constant_model
from ..bricks.survey import BrickSummary, Survey
from ..data.array_spec import ArraySpec, check_arrays
from ..data.array_values import normalised
from ..data.mask import VOXELS
from ..errors import ConfigError, DataError
from ..file.manifest import ArrayInfo
from ..file.model_file import ModelFile
from ..file.weights import brick_config, common_config
from ..grid import Grid
from ..network.model_config import ModelConfig
from .aim import step_cost
from .fingerprint import training_key
from .time_series import check_follows
from .train_config import TrainConfig

FLOAT32_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class VolumeJob:
    """Arrays on one lattice, cut into bricks, and how they are trained.

    Args:
        grid: The lattice of the whole domain.
        layout: Its bricks.
        arrays: In the order of their components in the values.
        dtype: Numpy's name of the type in which the values come.
        model: What a brick has on the average, as the user chose it; that of the base when there is one.
        train: As the user chose it, but for an automatic rounding, which is chosen.
        parameters: Of all bricks together; 0: those of `model` for each brick.
        initial: Bytes of the model to start from; b"" for none.
        time: Stored.
        mask: What the bits of a mask stand for, see `mask.py`.
        source_bytes: Of the arrays where they come from; 0: those of values on the whole grid.
        series: Whether more time steps may follow: every brick then gets a network that can learn.
        base: The model whose time steps this one follows; None: it is the first.

    Raises:
        DataError: Arrays of one name, or the base has other arrays, another grid, or no earlier time.
    """

    grid: Grid
    layout: BrickLayout
    arrays: tuple[ArraySpec, ...]
    dtype: str
    model: ModelConfig
    train: TrainConfig
    parameters: int = 0
    initial: bytes = b""
    time: float | None = None
    mask: str = "values"
    source_bytes: int = 0
    series: bool = False
    base: ModelFile | None = None

    def __post_init__(self):
        check_arrays(self.arrays)
        if self.series and self.time is None or self.time is not None and not math.isfinite(self.time):
            raise DataError(f"{self.name}: expected a time step with a finite time, found {self.time}")
        if self.train.bound and self.mask in VOXELS:
            raise ConfigError(f"error_bound of {self.name}: expected 0 for data that is not on a lattice, found {self.train.bound}")
        if self.base is not None:
            check_follows(self.base.header, self.arrays, self.grid, self.time, self.base.name)
            object.__setattr__(self, "model", common_config(self.base.header.manifest))
        object.__setattr__(self, "train", self.train.with_rounding(self.series, self.model.storage, bool(self.initial)))

    @property
    def name(self) -> str:
        """Of all arrays, for messages."""
        return ", ".join(array.name for array in self.arrays)

    @property
    def components(self) -> int:
        """Of all arrays together."""
        return sum(array.components for array in self.arrays)

    @property
    def byte_count(self) -> int:
        """Of the arrays in their own types."""
        return self.source_bytes or self.grid.region.count * sum(a.components * np.dtype(a.dtype).itemsize for a in self.arrays)

    @property
    def step(self) -> int:
        """The number of the time step in its model."""
        return 0 if self.base is None else len(self.base.header.manifest["times"])

    def infos(self, survey: Survey) -> tuple[ArrayInfo, ...]:
        """The arrays with their ranges at this step; their value transforms are those of the first step."""
        if self.base is None:
            return survey.infos(self.arrays)
        kept = [known.transform for known in self.base.header.arrays]
        fixed = tuple(replace(a, transform="identity") for a in self.arrays)
        infos = tuple(replace(i, transform=t) for i, t in zip(survey.infos(fixed), kept))
        wrong = next((i for i in infos if i.transform.kind == "log" and i.range[0] <= 0), None)
        if wrong is not None:
            raise DataError(f"array {wrong.name!r}: expected positive values as at the first time step, found {wrong.range[0]:g}")
        return infos

    def bounds(self, survey: Survey) -> tuple[float, ...]:
        """How far values of each array may be off at this step, in its unit; 0: not bound.

        Raises:
            ConfigError: Bounds that cannot be. DataError: values that float32 does not hold, in which bounds are kept.
        """
        if not self.train.bound:
            return (0.0,) * len(self.arrays)
        infos = self.infos(survey)
        bounds = self.train.bound.of(infos)
        for info, bound in zip(infos, bounds):
            largest = max(abs(end) for end in info.range)
            if bound and largest > FLOAT32_LARGEST:
                raise DataError(
                    f"array {info.name!r}: expected values up to {FLOAT32_LARGEST:.3g} for an error bound, which float32 holds,"
                    f" found {largest:.3g}"
                )
        return bounds

    def key(self, content: str) -> str:
        """The training's key, from the content of the values (`Survey.content`) and the steps before."""
        return training_key(
            content, self.grid, self.arrays, self.model, self.train, self.time, self.initial or None,
            self.layout, self.parameters, self.base.header.key if self.base is not None else "first" if self.series else "",
        )  # fmt: skip

    @property
    def fitted_model(self) -> ModelConfig:
        """The model for this data, stored as the model of all bricks."""
        return self.model.fitted_to(self.grid).with_components(self.components)


@dataclass(frozen=True)
class BrickPlan:
    """How one brick is trained.

    Attributes:
        brick: Its number.
        grid: The lattice of its trained values.
        model: With `output_components` set.
        train: Resolved for this brick.
        value: What stands for a constant brick of a domain that is not, of each component, 0 and 1 being the range; None: it
            is trained.
    """

    brick: int
    grid: Grid
    model: ModelConfig
    train: TrainConfig
    value: tuple[float, ...] | None = None

    @property
    def cost(self) -> float:
        """Of its training, relative to other bricks: steps by points, and numbers that each step moves."""
        if self.value is not None:
            return 0.0
        placed = self.model.number_of_grids > 0
        return self.train.iterations * step_cost(self.train.batch_size, self.model.parameter_count(), placed)


def plan_bricks(job: VolumeJob, survey: Survey) -> tuple[BrickPlan, ...]:
    """The plan of each brick, the same on every rank.

    Raises:
        ConfigError: The model cannot have the data's components, or the initial model does not fit the job.
    """
    models = brick_models(
        survey, job.layout, job.grid, job.model.with_components(job.components), job.parameters, constant=not job.series
    )
    if job.initial:
        models = _models_of(job)
    if job.base is not None:
        models = tuple(brick_config(job.base.header.manifest, brick) for brick in range(job.layout.count))
    infos = job.infos(survey)
    numbers = [m.parameter_count() * (not s.constant) for m, s in zip(models, survey.bricks)]
    plans = []
    for brick, (model, summary) in enumerate(zip(models, survey.bricks)):
        grid = job.layout.grid_of(brick, job.grid)
        value = None
        if summary.constant and job.layout.count > 1 and not job.series:
            value = _constant_value(summary, infos)
            model = constant_model(job.components, grid)
        elif job.initial and model == constant_model(job.components, grid) and job.layout.count > 1:
            raise ConfigError(f"the initial model cannot be refined: its brick {brick} is of one value, which it is no more")
        train = job.train.resolved(grid, job.series)
        train = replace(train, rate_bytes=train.rate_bytes * numbers[brick] // max(sum(numbers), 1))
        plans.append(BrickPlan(brick, grid, model, train, value))
    return tuple(plans)


def _constant_value(summary: BrickSummary, infos: tuple[ArrayInfo, ...]) -> tuple[float, ...]:
    """The output of each component in a brick whose arrays have one value, or none."""
    value: list[float] = []
    for (low, _), info in zip(summary.ranges, infos):
        output = float(normalised(np.array(low), info)) if math.isfinite(low) else 0.0
        value += [output] * info.components
    return tuple(value)


def _models_of(job: VolumeJob) -> tuple[ModelConfig, ...]:
    """The networks of the initial model, which the new one must have too."""
    file = ModelFile(job.initial, "initial model")
    layout, wanted = file.header.layout, job.fitted_model
    if layout != job.layout:
        raise ConfigError(f"the initial model has other bricks: expected {job.layout}, found {layout}")
    if layout.count == 1 and job.parameters:
        wanted = wanted.with_parameters(job.parameters).with_components(job.components)
    found = common_config(file.header.manifest)
    different = [k for k, v in wanted.to_dict().items() if k != "storage" and found.to_dict()[k] != v]
    if different:
        listed = ", ".join(f"{k} {getattr(wanted, k)} (the file has {getattr(found, k)})" for k in different)
        raise ConfigError(f"the initial model has another architecture: expected {listed}")
    return tuple(brick_config(file.header.manifest, brick) for brick in range(layout.count))
