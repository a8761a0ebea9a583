"""What a training will come to, as the panel says it before it is run, and why that was chosen."""

from __future__ import annotations

from dataclasses import replace

from apmgsrn_core import ConfigError, ModelFileError, NetworkDescription, list_devices

from . import vtk_bridge
from .choice_table import aim_text, preset_reason
from .data_description import DataDescription
from .model_estimate import SPEED, ModelEstimate
from .model_input import ModelInput
from .training_settings import TrainingSettings


FEWEST_STEPS = 200  # from which a training tells the speed of the machine: of fewer most of the time goes to the start


class ExpectedTraining(TrainingSettings):
    """The information properties of `TrainNeuralVolume`; what follows from the data is empty until that is known."""

    about_data: DataDescription | None = None  # once it is known
    speed = SPEED  # of trainings in this process

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.base_model = ModelInput()

    def GetDevices(self) -> list:
        return list_devices()

    def GetEffectiveModel(self) -> str:
        """The architecture that the preset, or the custom fields, come to."""
        try:
            return self._estimate().model_text()
        except ConfigError as error:
            return f"not valid: {error}"

    def GetNumberOfParameters(self) -> int:
        """Of all bricks together, before constant ones are found."""
        try:
            return self._estimate().number_of_parameters()
        except ConfigError:
            return 0

    def GetEffectiveTraining(self) -> str:
        """The numbers that the automatic fields come to; "" while the data is not known."""
        try:
            return self._estimate().training_text(self.train_config())
        except ConfigError as error:
            return f"not valid: {error}"

    def GetEstimatedRatio(self) -> float:
        """Bytes of the arrays over bytes of the model file; 0 while the data is not known, and with an error bound."""
        try:
            return self._estimate().ratio()
        except ConfigError:
            return 0.0

    def GetEstimatedBytes(self) -> float:
        """Of the model file, about; with an error bound of its networks alone."""
        try:
            return self._estimate().file_bytes()
        except ConfigError:
            return 0.0

    def GetEstimatedTime(self) -> str:
        """Of the training; "" while the data is not known."""
        try:
            seconds = self._estimate().seconds(self.train_config(), self.speed, vtk_bridge.rank_and_size()[1])
        except ConfigError:  # told by the other texts
            return ""
        if not seconds:
            return ""
        ends = self.settings["stop_psnr"] or (self.settings["aim"] == "quality" and not self.is_compact)
        at_most = "at most " if ends else ""
        return at_most + (f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min")

    def choices(self, result: str) -> list[tuple[str, str]]:
        """What was chosen and why, and what came out."""
        chosen, preset, expected = self.settings, self.preset, self.GetEstimatedBytes()
        rows = [
            (aim_text(chosen), "Aim"), (f"preset {preset}", preset_reason(chosen, preset)),
            (self.GetEffectiveModel(), "the preset, the aim and the data"), (self.GetEffectiveTraining(), f"Quality {chosen['quality']}, the data"),
        ]  # fmt: skip
        return [*rows, (f"about {expected:.0f} bytes expected", "the network"), (result, "the training")]

    def note_speed(self, steps: int, seconds: float, ranks: int) -> None:
        """Of a training that has ended: the next estimates are of this machine."""
        if steps >= FEWEST_STEPS and seconds > 0.5:
            estimate, train = self._estimate(), self.train_config()
            ExpectedTraining.speed = estimate.cost_of_step(train) * steps / seconds / min(ranks, estimate.brick_count())

    def _estimate(self) -> ModelEstimate:
        chosen, data, sized = self.settings, self.about_data, self.settings["aim"] == "size"
        estimate = ModelEstimate(
            self.model_config(), 0 if sized else chosen["parameters"], chosen["bricks"], data, self._base(), self.is_series,
            self.rounding(), bound=self.bound_text(),
        )  # fmt: skip
        if self.is_compact:
            dims = None if data is None or data.grid is None else data.grid.value_dims
            size = self.rate_bytes(0 if data is None else data.bytes, dims, estimate.brick_count())
            psnr = chosen["target_psnr"] if chosen["aim"] == "quality" else 0.0
            return replace(estimate, model=estimate.lattices(size), rate_bytes=size, rate_psnr=psnr)
        if not sized or data is None or not (data.bytes or chosen["target_bytes"]):
            return estimate
        return replace(estimate, parameters=self.parameters(data.components, data.bytes, estimate.brick_count()), sized=True)

    def _base(self):
        """Header of the model that a time step would be appended to, or None."""
        path = self.model_path()
        if self.settings["time_steps"] != "append" or not path:
            return None
        try:
            header = self.base_model.header(path)
        except ModelFileError:  # none is there yet; what else is wrong is told when it is trained
            return None
        return None if isinstance(header, NetworkDescription) else header  # a foreign network cannot be appended to
