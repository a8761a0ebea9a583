"""One training in the pipeline: pass by pass, on all ranks together.

A lattice of values is asked for brick by brick (`lattice_input.py`), a mesh is sampled part by part (`mesh_input.py`).

The passes are made inside of one RequestData, by updating the input again and again. (With CONTINUE_EXECUTING ParaView would
call RequestData once for each pass, but when a source fails in between it does so no more and never ends.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataSet

import apmgsrn_core as core  # names that need torch are looked up when a training begins
from apmgsrn_core import ConfigError, DataError

from .array_choice import ArrayChoice
from .image_frame import ImageFrame
from .input_puller import InputPuller
from .lattice_input import LATTICES, LatticeInput, LatticeLook, look_at_lattice
from .mesh_input import MeshInput
from .proxy import weakly
from .series_result import SeriesResult
from .trained_model import Memory, check_target


@dataclass
class TrainingRun:
    """What a filter wants from its input, and what becomes of it.

    Args:
        filter: The `TrainNeuralVolume` that asks, which holds this run: weakly, see `weakly`.
        communicator: The ranks of the pipeline.
        surveys: Remembers the surveys of data that has been looked at; the same on all ranks.
        state: Of the data above, the same on all ranks; key of `surveys`.
        pull: Asks the pipeline for more.
    """

    filter: object
    communicator: object
    surveys: Memory
    state: tuple
    pull: InputPuller
    frame: ImageFrame = ImageFrame()
    job: core.VolumeJob | None = None

    def result(self, data):
        """Train (collective); `data` is what arrived for the corner. Returns what `volume_passes` returns."""
        self.communicator.together(self.filter.aim)  # may contradict the time steps
        kind = self.filter.settings["time_steps"]
        if kind == "append":
            return self._appended(data)
        if kind != "current":
            return self._series()
        return self._step(data, on_survey=self._known)

    def begin(self, data) -> core.LiveTraining:
        """A training that is advanced slice by slice. ConfigError: of several time steps there is none."""
        kind = self.filter.settings["time_steps"]
        if kind != "current":
            raise ConfigError(
                f"Live: expected TimeSteps to be Current, found {kind.capitalize()}; several steps are trained with Live off"
            )
        return core.LiveTraining(*self._passes(data, self._known, live=True))

    def _step(self, *arguments, **settings):
        """Train one time step; see `_passes`."""
        return core.drive_passes(*self._passes(*arguments, **settings))

    def _passes(
        self, data, on_survey=None, base: core.ModelFile | None = None, series: bool = False, share: float = 1.0,
        live: bool = False, unchanged: core.UnchangedFile | None = None,
    ) -> tuple:  # fmt: skip
        """The passes of one time step, after those of a base, within a share of the time budget, and what brings their values."""
        filter_, communicator = self.filter, self.communicator
        devices = communicator.together(lambda: core.devices_of_rank(filter_.settings["device"], communicator.neighbours))
        source = self._source(data, base)
        self.frame = source.frame
        model, train = communicator.together(lambda: (filter_.model_config(), filter_.train_config()))
        train = replace(train, time_budget=train.time_budget * share)
        bricks, wanted = filter_.settings["bricks"], filter_.settings["parameters"]
        components = sum(a.components for a in source.arrays)
        layout = base.header.layout if base is not None else core.choose_layout(
            source.grid, bricks, source.value_bytes, model, components, wanted, devices, communicator
        )  # fmt: skip
        model, train, parameters = communicator.together(
            lambda: filter_.fitted(model, train, components, source.source_bytes, layout)
        )
        initial = communicator.from_root(filter_.read_initial) if base is None else b""
        time = source.time if self.pull.time is None else self.pull.time
        job = self.job = communicator.together(lambda: core.VolumeJob(
            source.grid, layout, source.arrays, source.dtype, model, train, parameters, initial, time, source.mask,
            source.source_bytes, series, base,
        ))  # fmt: skip
        state = (*self.state, time, job.arrays, job.grid, layout)

        def surveyed(survey):
            self.surveys.keep(state, survey)
            return on_survey(survey) if on_survey is not None else None

        passes = core.volume_passes(
            job, communicator, devices, owners=source.owners(layout), survey=self.surveys.get(state),
            on_survey=surveyed, live=live, unchanged=unchanged, **filter_.arguments(),
        )  # fmt: skip
        return passes, source.fetch

    def _known(self, survey):
        return self.communicator.from_root(lambda: self.filter.known_model(self.job, survey))

    def _series(self) -> SeriesResult:
        """Train the chosen time steps one after the other."""
        filter_, before, path = self.filter, self.pull.time, self.filter.model_path()
        times = self.communicator.together(lambda: filter_.chosen_times(self.pull.times))
        if path:
            self.communicator.from_root(lambda: check_target(path))
        series, base, asked = SeriesResult(times), None, self.pull.asked_time
        try:
            for number, self.pull.time in enumerate(times):
                filter_.begin_step(number, len(times))
                result = self._step(self.pull.first_look(), None, base, True, 1 / len(times))
                series.add(result, self.job)
                if "stopped by user" in result.stop_reason:
                    break
                base = core.ModelFile(path if result.model is None else result.model)
        finally:
            self.pull.time = before
            filter_.begin_step(0, 1)
        self.pull.go_to(asked)
        return series

    def _appended(self, data) -> SeriesResult:
        """Add the current time step to the model in ModelFile, or begin one there."""
        path = self.filter.model_path()
        time = self.communicator.everywhere(self.filter.current_time(data))[0]

        unchanged = core.UnchangedFile(path) if path else None

        def earlier() -> bytes | None:
            if not path:
                raise ConfigError("ModelFile: expected the model to append time steps to, found no name")
            check_target(path)
            return core.steps_before(path, time) if os.path.exists(path) and os.path.getsize(path) else None

        if time is None:
            raise DataError("TimeSteps: expected an input with a time to append, found one without")
        found = self.communicator.from_root(earlier)
        base = None if found is None else core.ModelFile(found, path)

        def nothing_is_lost(survey) -> None:
            self.communicator.from_root(lambda: core.check_keeps(path, self.job.step, self.job.key(survey.content)))

        series = SeriesResult((time,))
        series.add(self._step(data, nothing_is_lost, base, True, unchanged=unchanged), self.job)
        return series

    def _source(self, data, base: core.ModelFile | None) -> LatticeInput | MeshInput:
        """What the input is, agreed among the ranks: on some there may be nothing to see."""
        choice = self.filter.array_choice()
        try:
            mine = self._look(data, choice)
        except Exception as error:  # raised on all ranks when no rank has seen anything
            mine = error
        looks = self.communicator.everywhere(mine if isinstance(mine, (LatticeLook, str)) else None)
        seen = next((look for look in looks if look is not None), None)

        def failing():
            if seen is None:
                raise mine

        self.communicator.together(failing)
        self.filter.check_bounds_of(seen.arrays if isinstance(seen, LatticeLook) else None)
        if isinstance(seen, LatticeLook):
            look = replace(seen, obeyed=isinstance(mine, LatticeLook) and mine.obeyed)
            return LatticeInput(look, self.pull.frame, self.communicator, self.pull)
        settings = self.filter.settings
        return MeshInput(
            self.pull(None), choice, settings["mesh_dimensions"], settings["mesh_samples"], settings["seed"], self.communicator,
            weakly(self.filter.network_bytes), None if base is None else base.header,
        )  # fmt: skip

    def _look(self, data, choice: ArrayChoice) -> LatticeLook | str:
        """Of this rank's data: a look at its lattice, or "mesh"."""
        if isinstance(data, LATTICES):
            return look_at_lattice(data, choice, self.pull.frame) or "mesh"
        if not isinstance(data, (vtkDataSet, vtkCompositeDataSet)):
            found = "nothing" if data is None else data.GetClassName()
            raise DataError(f"input: expected a data set or composite data, found {found}")
        return "mesh"
