"""What a user chooses about a training, and what the panel says back."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from apmgsrn_core import PRESETS, BrickLayout, ConfigError, DataError, ModelConfig, TrainConfig, list_devices

from . import vtk_bridge
from .array_choice import ArrayChoice
from .ghost_marks import GHOSTS
from .proxy import Proxy, selection, setting

MODEL, TRAIN = ModelConfig(), TrainConfig()
ARCHITECTURE = (
    "number_of_grids", "features_per_grid", "grid_resolution", "interpolation",
    "hidden_layers", "hidden_width", "bias", "linear_skip",
)  # fmt: skip
PRESET_WORDS = (*tuple(PRESETS)[:3], "custom", *tuple(PRESETS)[3:])  # saved states hold their places: only add at the end
TRAINING = (
    "quality", "placement", "precision", "iterations", "time_budget", "stop_psnr", "seed", "batch_size", "learning_rate",
    "rounding",
)  # fmt: skip


class TrainingSettings(Proxy):
    """The properties of `TrainNeuralVolume`; the fields in ARCHITECTURE act for the preset "custom" only."""

    SetPreset = setting("preset", "small", PRESET_WORDS)
    SetNumberOfGrids = setting("number_of_grids", MODEL.number_of_grids)
    SetFeaturesPerGrid = setting("features_per_grid", MODEL.features_per_grid)
    SetGridResolution = setting("grid_resolution", MODEL.grid_resolution)
    SetInterpolation = setting("interpolation", MODEL.interpolation, ("linear", "quadratic"))
    SetHiddenLayers = setting("hidden_layers", MODEL.hidden_layers)
    SetHiddenWidth = setting("hidden_width", MODEL.hidden_width)
    SetBias = setting("bias", MODEL.bias)
    SetLinearSkip = setting("linear_skip", MODEL.linear_skip)
    SetStorage = setting("storage", MODEL.storage, ("float16", "float32"))
    SetRounding = setting("rounding", TRAIN.rounding)
    SetPlacement = setting("placement", TRAIN.placement, ("kdtree", "published", "random"))
    SetQuality = setting("quality", TRAIN.quality, ("draft", "normal", "best"))
    SetPrecision = setting("precision", TRAIN.precision, ("auto", "full", "fast"))
    SetIterations = setting("iterations", TRAIN.iterations)
    SetTimeBudget = setting("time_budget", TRAIN.time_budget)
    SetStopPSNR = setting("stop_psnr", TRAIN.stop_psnr)
    SetSeed = setting("seed", TRAIN.seed)
    SetBatchSize = setting("batch_size", TRAIN.batch_size)
    SetLearningRate = setting("learning_rate", TRAIN.learning_rate)
    SetBricks = setting("bricks", (0, 0, 0))
    SetParameters = setting("parameters", 0)
    SetDevice = setting("device", "auto")
    SetModelFile = setting("model_file", "")
    SetInitialModel = setting("initial_model", "")
    SetCheckpointInterval = setting("checkpoint_interval", 60.0)
    SetReportProgress = setting("report_progress", 0.0)
    SetOutputReconstruction = setting("output_reconstruction", True)
    SetSeveralArrays = setting("several_arrays", False)
    SetValueTransform = setting("value_transform", "auto", ("auto", "identity", "log", "asinh"))
    SetMeshDimensions = setting("mesh_dimensions", (0, 0, 0))
    SetMeshSamples = setting("mesh_samples", 0)
    SetTimeSteps = setting("time_steps", "current", ("current", "all", "range", "append"))
    SetTimeStepRange = setting("time_step_range", (0, -1))

    AddPointArray, ClearPointArrays = selection("point_arrays")
    AddCellArray, ClearCellArrays = selection("cell_arrays")

    about_data = None  # `vtk_bridge.ArrayDescription` of the array, once it is known

    def model_config(self) -> ModelConfig:
        chosen = self.settings
        if chosen["preset"] != "custom":
            model = replace(ModelConfig.preset(chosen["preset"]), storage=chosen["storage"])
            return model.for_series() if self._is_series() and not chosen["preset"].startswith("published") else model
        return ModelConfig(storage=chosen["storage"], **{field: chosen[field] for field in ARCHITECTURE})

    def train_config(self) -> TrainConfig:
        return TrainConfig(**{field: self.settings[field] for field in TRAINING})

    def _is_series(self) -> bool:
        return self.settings["time_steps"] != "current"

    def _is_rounded(self) -> bool:
        rounding = self.settings["rounding"]
        return self._is_series() if rounding < 0 else rounding > 0

    def chosen_times(self, times: tuple) -> tuple:
        """Those of an input's time steps that are trained. Raises DataError when there are none."""
        if not times:
            raise DataError("TimeSteps: expected an input with time steps, found one without")
        if self.settings["time_steps"] == "all":
            return times
        first, last = self.settings["time_step_range"]
        last = last if last >= 0 else len(times) + last
        if not 0 <= first <= last < len(times):
            raise DataError(f"TimeStepRange: expected numbers from 0 to {len(times) - 1}, found {first} to {last}")
        return times[first : last + 1]

    def array_choice(self) -> ArrayChoice:
        """The arrays to train. Raises ConfigError when several are wanted and none is chosen."""
        chosen = self.settings
        several = [(n, "point") for n in chosen["point_arrays"]] + [(n, "cell") for n in chosen["cell_arrays"]]
        several = [array for array in several if array[0] != GHOSTS]  # ParaView offers it as well
        if chosen["several_arrays"] and not several:
            raise ConfigError("PointArrays, CellArrays: expected at least one array, found none chosen")
        names = tuple(several) if chosen["several_arrays"] else ()
        return ArrayChoice(*vtk_bridge.chosen_array(self), names, chosen["value_transform"])

    def model_path(self) -> str:
        """The absolute path of ModelFile; "" when the model has no name."""
        name = self.settings["model_file"]
        return os.path.abspath(os.path.expanduser(name)) if name else ""

    def GetDevices(self) -> list:
        return list_devices()

    def GetEffectiveModel(self) -> str:
        """The architecture that the preset, or the custom fields, come to."""
        try:
            model, bricks = self._fitted_model(), self._brick_count()
        except ConfigError as error:
            return f"not valid: {error}"
        resolution = " x ".join(map(str, model.grid_resolution))
        which = f" in {bricks} bricks; on the average" if bricks > 1 else ":"
        return (
            f"{self.GetNumberOfParameters()} numbers {'rounded' if self._is_rounded() else f'in {model.storage}'}{which} {model.number_of_grids} grids of {resolution}"
            f" x {model.features_per_grid} ({model.interpolation}), decoder {model.hidden_layers} x {model.hidden_width}"
        )

    def GetNumberOfParameters(self) -> int:
        """Of all bricks together, before constant ones are found."""
        try:
            return self.settings["parameters"] or self._brick_count() * self._of_one_brick()
        except ConfigError:
            return 0

    def GetEffectiveTraining(self) -> str:
        """The numbers that the automatic fields come to; "" while the data is not known."""
        if self.about_data is None:
            return ""
        try:
            layout = self._layout()
            train = self.train_config().resolved(layout.grid_of(0, self.about_data.grid), self._is_series())
        except ConfigError as error:
            return f"not valid: {error}"
        return (
            f"{train.iterations} steps of {train.batch_size} points{' for each brick' if layout.count > 1 else ''},"
            f" {train.placement}, {train.schedule} schedule"
        )

    def GetEstimatedRatio(self) -> float:
        """Bytes of the array over bytes of the model; 0 while the data is not known."""
        if self.about_data is None:
            return 0.0
        try:
            return self.about_data.bytes / (
                self._brick_count() * self._fitted_model().model_bytes(self.about_data.components, self._is_rounded())
            )
        except ConfigError:
            return 0.0

    def _of_one_brick(self) -> int:
        return self.model_config().parameter_count(self.about_data.components if self.about_data else 1)

    def _layout(self) -> BrickLayout:
        """The bricks of the data that is known, as far as the memory of the machine is no matter."""
        data = self.about_data
        least = max(-(-self.settings["parameters"] // self._of_one_brick()), 1)
        value_bytes = data.bytes // max(math.prod(data.grid.value_dims), 1)
        return BrickLayout.automatic(data.grid.value_dims, self.settings["bricks"], value_bytes, least_bricks=least)

    def _brick_count(self) -> int:
        if self.about_data is None:
            return math.prod(max(n, 1) for n in self.settings["bricks"])
        return self._layout().count

    def _fitted_model(self) -> ModelConfig:
        """The model for this data: flat grids for flat data."""
        model = self.model_config()
        if self.settings["parameters"]:
            model = model.with_parameters(self.settings["parameters"] // self._brick_count())
        return model if self.about_data is None else model.fitted_to(self.about_data.grid)
