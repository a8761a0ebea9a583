"""What a user chooses about a training, and the network and training that it comes to."""

from __future__ import annotations

import os
from dataclasses import replace

from apmgsrn_core import (
    AIMS,
    COMPACT_BYTES,
    PRESETS,
    Aim,
    BrickLayout,
    ConfigError,
    DataError,
    ModelConfig,
    TrainConfig,
    lattices_for,
    parameters_for,
    quality_rate_bytes,
    rate_bytes_for,
    trains_quickly,
    usual_rate_bytes,
)

from . import vtk_bridge
from .array_choice import ArrayChoice
from .bound_settings import BOUND, BoundSettings
from .ghost_marks import GHOSTS
from .proxy import selection, setting

MODEL, TRAIN, AIM = ModelConfig(), TrainConfig(), Aim()
ARCHITECTURE = (
    "number_of_grids", "features_per_grid", "grid_resolution", "interpolation",
    "hidden_layers", "hidden_width", "bias", "linear_skip",
)  # fmt: skip
PRESET_WORDS = (*tuple(PRESETS)[:3], "custom", *tuple(PRESETS)[3:], "compact", "automatic")  # saved states hold their places: only add at the end
WISHES = ("aim", "target_ratio", "target_bytes", "target_psnr")
TRAINING = (
    "quality", "placement", "precision", "iterations", "time_budget", "stop_psnr", "seed", "batch_size", "learning_rate",
    "rounding", *BOUND,
)  # fmt: skip


class TrainingSettings(BoundSettings):
    """The properties of `TrainNeuralVolume`; the fields in ARCHITECTURE act for the preset "custom" only."""

    SetAim = setting("aim", AIM.aim, AIMS)
    SetTargetRatio = setting("target_ratio", AIM.target_ratio)
    SetTargetBytes = setting("target_bytes", AIM.target_bytes)
    SetTargetPSNR = setting("target_psnr", AIM.target_psnr)
    SetPreset = setting("preset", "automatic", PRESET_WORDS)
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
    SetOutputError = setting("output_error", False)
    SetSeveralArrays = setting("several_arrays", False)
    SetValueTransform = setting("value_transform", "auto", ("auto", "identity", "log", "asinh"))
    SetMeshDimensions = setting("mesh_dimensions", (0, 0, 0))
    SetMeshSamples = setting("mesh_samples", 0)
    SetTimeSteps = setting("time_steps", "current", ("current", "all", "range", "append"))
    SetTimeStepRange = setting("time_step_range", (0, -1))

    AddPointArray, ClearPointArrays = selection("point_arrays")
    AddCellArray, ClearCellArrays = selection("cell_arrays")

    def model_config(self) -> ModelConfig:
        """The network of a brick; of the preset "compact" that of any data, see `fitted`."""
        chosen = self.settings
        if self.is_compact:
            return ModelConfig.of_bytes(COMPACT_BYTES, (128,) * 3)
        if (preset := self.preset) != "custom":
            model = replace(ModelConfig.preset(preset), storage=chosen["storage"])
            return model.for_series() if self.is_series and not preset.startswith("published") else model
        return ModelConfig(storage=chosen["storage"], **{field: chosen[field] for field in ARCHITECTURE})

    def train_config(self) -> TrainConfig:
        """The training; of the preset "compact" for as many bytes as it has by itself, see `fitted`."""
        own = {"rate_bytes": COMPACT_BYTES} if self.is_compact else {}
        return self.aim().train_config(TrainConfig(**own, **{field: self.settings[field] for field in TRAINING}))

    @property
    def preset(self) -> str:
        """The preset; what "automatic" comes to: compact, but small where other settings do not go with that or
        torch alone would train it."""
        chosen = self.settings
        if chosen["preset"] != "automatic":
            return chosen["preset"]
        plain = not (self.is_series or chosen["stop_psnr"] or chosen["parameters"])
        as_usual = chosen["placement"] == TRAIN.placement and chosen["storage"] == MODEL.storage and chosen["rounding"] != 0
        return "compact" if plain and as_usual and trains_quickly() else "small"

    @property
    def is_compact(self) -> bool:
        """Whether a network is trained for a number of bytes."""
        return self.preset == "compact"

    def fitted(
        self, model: ModelConfig, train: TrainConfig, components: int, source_bytes: int, layout: BrickLayout
    ) -> tuple[ModelConfig, TrainConfig, int]:
        """Network and training for the bricks of some data, and the numbers of all bricks together; 0: as many as the model has in
        each. Raises ConfigError."""
        if not self.is_compact:
            return model, train, self.parameters(components, source_bytes, layout.count)
        size = self.rate_bytes(source_bytes, layout.dims, layout.count)
        return lattices_for(size, layout, components), replace(train, rate_bytes=size), 0

    def rate_bytes(self, source_bytes: int, dims: tuple | None, bricks: int) -> int:
        """Of the coded numbers of a compact model; dims of the values, None: not known. Raises ConfigError."""
        aim = self.aim()
        if aim.aim == "size" and (source_bytes or aim.target_bytes):
            return rate_bytes_for(aim.file_bytes(source_bytes), bricks)
        if aim.aim == "quality":
            return quality_rate_bytes(aim.target_psnr, source_bytes, bricks)
        if self.chosen_bounds and self.settings["preset"] == "automatic":
            return self.bound_network_bytes(dims, bricks)
        return usual_rate_bytes(source_bytes, bricks)

    def aim(self) -> Aim:
        """What is wanted. Raises ConfigError when other settings contradict it."""
        chosen, aim = self.settings, Aim(**{field: self.settings[field] for field in WISHES})
        self.check_aim_of_bound(aim.aim)
        if aim.aim == "size" and self.is_series:
            raise ConfigError(f"Aim: expected TimeSteps to be Current with Size, found {chosen['time_steps'].capitalize()}")
        if self.is_compact and chosen["placement"] != TRAIN.placement:
            raise ConfigError(f"Placement: expected kdtree with the Preset Compact, which places no grids, found {chosen['placement']}")
        if self.is_compact and chosen["parameters"]:
            raise ConfigError(f"Parameters: expected 0 with the Preset Compact, which has bytes instead, found {chosen['parameters']}")
        if aim.aim == "size" and chosen["parameters"]:
            raise ConfigError(f"Parameters: expected 0 with the Aim Size, which finds them, found {chosen['parameters']}")
        return aim

    def without_part(self) -> str:
        """What was set for another aim than the one that is chosen, in words; "" where nothing was."""
        chosen, acting = self.settings, {"size": ("target_ratio", "target_bytes"), "quality": ("target_psnr",)}
        idle = [f for f in WISHES[1:] if f not in acting.get(chosen["aim"], ()) and chosen[f] != getattr(AIM, f)]
        names = {"target_ratio": "TargetRatio", "target_bytes": "TargetBytes", "target_psnr": "TargetPSNR"}
        return "".join(f"; {names[f]} {chosen[f]:g} has no part with the Aim {chosen['aim'].capitalize()}" for f in idle)

    def parameters(self, components: int, source_bytes: int, bricks: int) -> int:
        """Numbers of all bricks together; 0: as many as the model has in each. Raises ConfigError."""
        aim = self.aim()
        if aim.aim != "size":
            return self.settings["parameters"]
        return parameters_for(aim.file_bytes(source_bytes), self.model_config(), components, bricks)

    def network_bytes(self, components: int) -> int:
        """Of one brick's network, about, for its mask: that of a single model stays as fine when rounding is automatic. Raises
        ConfigError."""
        aim = self.aim()
        wanted = aim.target_bytes if aim.aim == "size" else COMPACT_BYTES if self.is_compact else 0
        rounding = self.rounding() if self.is_series or self.settings["rounding"] > 0 else 0.0
        return wanted or self.model_config().model_bytes(components, rounding)

    @property
    def is_series(self) -> bool:
        """Whether time steps are trained."""
        return self.settings["time_steps"] != "current"

    def rounding(self) -> float:
        """What `Rounding` comes to; 0: none."""
        chosen = self.settings
        if chosen["aim"] == "size" and not self.is_compact:
            return 0.0
        train = TrainConfig(rounding=chosen["rounding"])
        return train.with_rounding(self.is_series, chosen["storage"], bool(chosen["initial_model"])).rounding

    def chosen_times(self, times: tuple) -> tuple:
        """Those of an input's time steps that are trained. Raises DataError when there are none."""
        if not times:
            raise DataError("TimeSteps: expected an input with time steps, found one without")
        if self.settings["time_steps"] == "all":
            return times
        wanted = self.settings["time_step_range"]
        first, last = (number if number >= 0 else len(times) + number for number in wanted)
        if not 0 <= first <= last < len(times):
            raise DataError(f"TimeStepRange: expected numbers from {-len(times)} to {len(times) - 1}, found {wanted[0]} to {wanted[1]}")
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
