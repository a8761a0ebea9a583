"""One training in the pipeline: pass by pass, on all ranks together.

A lattice of values is asked for brick by brick (`lattice_input.py`), a mesh is sampled part by part (`mesh_input.py`).

The passes are made inside of one RequestData, by updating the input again and again. (With CONTINUE_EXECUTING ParaView would
call RequestData once for each pass, but when a source fails in between it does so no more and never ends.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataSet

import apmgsrn_core as core  # names that need torch are looked up when a training begins
from apmgsrn_core import DataError

from .array_choice import ArrayChoice
from .image_frame import ImageFrame
from .lattice_input import LATTICES, LatticeInput, LatticeLook, look_at_lattice
from .mesh_input import MeshInput
from .trained_model import Memory


@dataclass
class TrainingRun:
    """What a filter wants from its input, and what becomes of it.

    Args:
        filter: The `TrainNeuralVolume` that asks.
        frame: Where the whole input lies, empty for a mesh.
        communicator: The ranks of the pipeline.
        surveys: Remembers the surveys of data that has been looked at; the same on all ranks.
        state: Of the data above, the same on all ranks; key of `surveys`.
        pull: Given an extent (None: the piece that is this rank's), returns the data object that the pipeline gives; None
            when it fails.
    """

    filter: object
    frame: ImageFrame
    communicator: object
    surveys: Memory
    state: tuple
    pull: Callable[[tuple | None], object]
    job: core.VolumeJob | None = None

    def result(self, data):
        """Train (collective); `data` is what arrived for the corner. Returns what `volume_passes` returns."""
        filter_, communicator = self.filter, self.communicator
        devices = communicator.together(lambda: core.devices_of_rank(filter_.settings["device"], communicator.neighbours))
        source = self._source(data)
        self.frame = source.frame
        model, train = communicator.together(lambda: (filter_.model_config(), filter_.train_config()))
        bricks, parameters = filter_.settings["bricks"], filter_.settings["parameters"]
        components = sum(a.components for a in source.arrays)
        layout = core.choose_layout(
            source.grid, bricks, source.value_bytes, model, components, parameters, devices, communicator
        )
        initial = communicator.from_root(filter_.read_initial)
        job = self.job = core.VolumeJob(
            source.grid, layout, source.arrays, source.dtype, model, train, parameters, initial, source.time, source.mask,
            source.source_bytes,
        )  # fmt: skip
        state = (*self.state, job.arrays, job.grid, layout)
        passes = core.volume_passes(
            job, communicator, devices, owners=source.owners(layout), survey=self.surveys.get(state),
            on_survey=lambda found: self._surveyed(state, found), **filter_.arguments(),
        )  # fmt: skip
        return core.drive_passes(passes, source.fetch)

    def _surveyed(self, state: tuple, survey):
        self.surveys.keep(state, survey)
        return self.communicator.from_root(lambda: self.filter.known_model(self.job, survey))

    def _source(self, data) -> LatticeInput | MeshInput:
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
        if isinstance(seen, LatticeLook):
            look = replace(seen, obeyed=isinstance(mine, LatticeLook) and mine.obeyed)
            return LatticeInput(look, self.frame, self.communicator, self.pull)
        settings = self.filter.settings
        return MeshInput(
            self.pull(None), choice, settings["mesh_dimensions"], settings["mesh_samples"], settings["seed"], self.communicator
        )

    def _look(self, data, choice: ArrayChoice) -> LatticeLook | str:
        """Of this rank's data: a look at its lattice, or "mesh"."""
        if isinstance(data, LATTICES):
            return look_at_lattice(data, choice, self.frame) or "mesh"
        if not isinstance(data, (vtkDataSet, vtkCompositeDataSet)):
            found = "nothing" if data is None else data.GetClassName()
            raise DataError(f"input: expected a data set or composite data, found {found}")
        return "mesh"
