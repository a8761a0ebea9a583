"""What a training's settings come to for the data that is known: the network, its numbers, its bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apmgsrn_core import BrickLayout, ModelConfig, TrainConfig, compact_file_bytes, estimated_bytes, lattices_for, step_cost

from .data_description import DataDescription

SPEED = 2.5e8  # cost of the steps of a second on two cores with AMX, see `cost_of_step`; until a training has measured it


@dataclass(frozen=True)
class ModelEstimate:
    """The model that a training would make.

    Args:
        model: As it is chosen, for one brick.
        parameters: Numbers of all bricks together; 0: as the model has them.
        bricks: Along x, y, z; 0: chosen for the data.
        data: What is known of it; None: nothing.
        base: Header of the model that a time step is appended to: its networks are used; None: there is none.
        series: Whether time steps are trained.
        rounding: See `TrainConfig`; 0: the stored numbers are not rounded.
        sized: Whether `parameters` were found for a size of the file, whatever the bricks.
        rate_bytes: Of the coded numbers of all bricks of a training for bytes; 0: of another.
        rate_psnr: For which no more of these bytes are taken than it needs; 0: all are.
        bound: In words, what is kept by residuals, whose bytes nobody knows before; "": there are none.

    Its methods raise ConfigError for a model that cannot be.
    """

    model: ModelConfig
    parameters: int
    bricks: tuple
    data: DataDescription | None
    base: object | None
    series: bool
    rounding: float
    sized: bool = False
    rate_bytes: int = 0
    rate_psnr: float = 0.0
    bound: str = ""

    def brick_count(self) -> int:
        """How many bricks there are, as far as it is known."""
        if self.base is None and (self.data is None or self.data.grid is None):
            return math.prod(max(n, 1) for n in self.bricks)
        return self._layout().count

    def number_of_parameters(self) -> int:
        """Of all bricks together, before constant ones are found."""
        if self.base is not None:
            return sum(model.parameter_count(self._components()) for model in self._base_models())
        return self.parameters or self.brick_count() * self._of_one_brick()

    def model_text(self) -> str:
        """The architecture in one line."""
        model, bricks = self._fitted_model(), self.brick_count()
        stored = self._bytes_text() if self.rate_bytes else "rounded" if self.rounding else f"in {model.storage}"
        which = f" in {bricks} bricks; on the average" if bricks > 1 else ":"
        kept = ", those of the model that the step is appended to" if self.base is not None else ""
        kept += f", plus what keeps {self.bound}" if self.bound else ""
        return (
            f"{self.number_of_parameters()} numbers {stored}{which} {_grids_text(model)} ({model.interpolation}),"
            f" decoder {model.hidden_layers} x {model.hidden_width}{kept}"
        )

    def _bytes_text(self) -> str:
        """What a training for bytes comes to."""
        if self.rate_psnr:
            return f"rounded to what {self.rate_psnr:g} dB need, at most {self.rate_bytes} bytes,"
        return f"rounded to {self.rate_bytes} bytes"

    def lattices(self, rate_bytes: int) -> ModelConfig:
        """The network of a brick when all are to have so many bytes."""
        known = self._grid() is not None
        components = self._components()
        return lattices_for(rate_bytes, self._layout(), components) if known else ModelConfig.of_bytes(rate_bytes, (128,) * 3, components)

    def training_text(self, train: TrainConfig) -> str:
        """What the automatic fields of a training come to; "" while the data's lattice is not known."""
        if self._grid() is None:
            return ""
        wished, train = train, self._resolved(train)
        ends = [f"{wished.time_budget:g} s"] if wished.time_budget else []
        ends += [f"{wished.stop_psnr:g} dB"] if wished.stop_psnr else []
        return (
            f"{'at most ' * bool(ends)}{train.iterations} steps of {train.batch_size} points"
            f"{' for each brick' if self.brick_count() > 1 else ''}, {train.placement}, {train.schedule} schedule"
            + "".join(f", until {end}" for end in ends)
        )

    def _grid(self):
        """The lattice of the values; None while it is not known."""
        return self.base.grid if self.base is not None else self.data.grid if self.data is not None else None

    def _resolved(self, train: TrainConfig) -> TrainConfig:
        return train.resolved(self._layout().grid_of(0, self._grid()), self.series)

    def ratio(self) -> float:
        """Bytes of the arrays, at one time step, over those of the file; 0 while one of them is not known."""
        return self.data.bytes / self.file_bytes() if self.data is not None and not self.bound else 0.0

    def file_bytes(self) -> int:
        """Of the model file with one time step, about; masks and residuals are left out."""
        if self.rate_bytes:
            return compact_file_bytes(self.rate_bytes, self.brick_count())
        if self.base is None:
            return estimated_bytes(self._fitted_model(), self._components(), self.brick_count(), self.rounding)
        return sum(estimated_bytes(model, self._components(), 1, self.rounding) for model in self._base_models())

    def seconds(self, train: TrainConfig, speed: float, ranks: int) -> float:
        """That a training takes, about, at a speed of each rank; 0 while the data's lattice is not known."""
        if self._grid() is None:
            return 0.0
        bricks, resolved = self.brick_count(), self._resolved(train)
        found = self.cost_of_step(train) * resolved.iterations * bricks / speed / min(ranks, bricks)
        return min(found, train.time_budget) if train.time_budget else found

    def cost_of_step(self, train: TrainConfig) -> float:
        """Of one brick on the average: its points, and the numbers that it moves (as `BrickPlan.cost`)."""
        points = self._resolved(train).batch_size if self._grid() is not None else train.batch_size or 5000
        return step_cost(points, self.number_of_parameters() // self.brick_count(), self.model.number_of_grids > 0)

    def _components(self) -> int:
        if self.base is not None:
            return sum(array.components for array in self.base.arrays)
        return self.data.components if self.data is not None else 1

    def _of_one_brick(self) -> int:
        return self.model.parameter_count(self._components())

    def _base_models(self) -> list[ModelConfig]:
        """The networks of the bricks of the base."""
        manifest = self.base.manifest
        return [ModelConfig.from_dict({**manifest["model"], **brick.get("config", {})}) for brick in manifest["bricks"]]

    def _layout(self) -> BrickLayout:
        """The bricks of a lattice that is known, as far as the memory of the machine is no matter."""
        if self.base is not None:
            return self.base.layout
        dims = self.data.grid.value_dims
        least = 1 if self.sized else max(-(-self.parameters // self._of_one_brick()), 1)
        value_bytes = self.data.bytes // max(math.prod(dims), 1)
        return BrickLayout.automatic(dims, self.bricks, value_bytes, least_bricks=least)

    def _fitted_model(self) -> ModelConfig:
        """The model for this data: flat grids for flat data."""
        if self.base is not None:
            return self._base_models()[0]
        model = self.model
        if self.parameters:
            model = model.with_parameters(self.parameters // self.brick_count())
        return model if self.data is None or self.data.grid is None else model.fitted_to(self.data.grid)


def _grids_text(model: ModelConfig) -> str:
    """The placed grids and global lattices of a network."""
    kinds = [(1, lattice.resolution, lattice.features) for lattice in model.lattices]
    if model.number_of_grids:
        kinds.insert(0, (model.number_of_grids, model.grid_resolution, model.features_per_grid))
    named = (f"{count} grids of" if count > 1 or not model.lattices else "a lattice of" for count, *_ in kinds)
    return ", ".join(f"{name} {' x '.join(map(str, resolution))} x {features}" for name, (_, resolution, features) in zip(named, kinds))
