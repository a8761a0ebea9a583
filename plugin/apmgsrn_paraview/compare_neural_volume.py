"""The filter that compares a model with data: errors at its points and cells, and a table of figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkTable
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import Communicator, DataError

from . import vtk_bridge
from .comparison import SIDES, Comparison, Pair, arrays_in, merge_arrays, pairs_of, shared_arrays, time_in_model
from .data_leaves import count_of, leaves_of, pass_on
from .error_table import WHOLE, fill_errors
from .model_filter import DATA, ModelFilter
from .model_input import chosen_arrays, no_model
from .point_values import PART
from .proxy import setting, weakly
from .trained_model import Memory
from .vtk_arrays import add_array, attributes, numbers_of


@dataclass(frozen=True)
class Answer:
    """What all ranks agree on: which model and arrays, and the rows of the table; or why there are none."""

    path: str = ""
    pairs: tuple[Pair, ...] = ()
    time: float | None = None
    rows: tuple[dict, ...] = ()
    error: Exception | None = None


class CompareNeuralVolume(ModelFilter):
    """`CompareNeuralVolume`: the figures are found by all ranks together, once for each state of settings and input.

    They are those of the whole input, whatever part of it a filter downstream asks for. Whether to talk to the other
    ranks is decided by what changes on all of them at once, see `TrainNeuralVolume`.
    """

    SetComputeSSIM = setting("compute_ssim", True)

    def __init__(self):
        super().__init__(outputs=2)
        self._answers = Memory()  # question -> Answer
        self._touched = 0
        self._comparison = None  # of the last answer, with the values at hand

    def Modified(self):
        """A touched filter asks anew, also when its model file has changed."""
        self._touched += 1
        super().Modified()

    # -- the pipeline ----------------------------------------------------------------------

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), ("vtkDataObject", "vtkTable")[port])
        return 1

    def RequestInformation(self, request, inputs, outputs) -> int:
        outputs.GetInformationObject(0).Set(vtkAlgorithm.CAN_HANDLE_PIECE_REQUEST(), 1)
        vtk_bridge.promise_unstructured(outputs.GetInformationObject(1))
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        _ask(inputs[DATA].GetInformationObject(0), *self._wanted(request, inputs, outputs))
        return super().RequestUpdateExtent(request, inputs, outputs)

    def _wanted(self, request, inputs, outputs) -> tuple:
        """(extent or None, piece, pieces, ghost levels) for the first output; of a port never asked this rank's piece."""
        rank, size = vtk_bridge.rank_and_size()
        info, upstream = outputs.GetInformationObject(0), inputs[DATA].GetInformationObject(0)
        asked = info.Has(Pipeline.UPDATE_NUMBER_OF_PIECES()) and info.Get(Pipeline.UPDATE_NUMBER_OF_PIECES()) == size
        whole = upstream.Get(Pipeline.WHOLE_EXTENT()) if upstream.Has(Pipeline.WHOLE_EXTENT()) else None
        if whole is None:  # ghosts tell which rank has a point that several have
            ghosts = info.Get(Pipeline.UPDATE_NUMBER_OF_GHOST_LEVELS()) if asked else 0
            return None, rank, size, max(ghosts, 1 if size > 1 else 0)
        if asked and info.Has(Pipeline.UPDATE_EXTENT()) and info.Get(Pipeline.UPDATE_EXTENT_INITIALIZED()):
            return tuple(info.Get(Pipeline.UPDATE_EXTENT())), 0, 1, 0
        return tuple(whole), rank, size, 0

    def produce(self, request, inputs, outputs) -> None:
        self.check_input(self.state_above(request, outputs))
        question = self._question(request, outputs)
        answer = self._answers.get(question)
        if answer is None:
            wanted = self._wanted(request, inputs, outputs)
            answer = self._answer_together(inputs)
            self._answers.keep(question, answer)
            if answer.error is None:
                self._pull(inputs, wanted)
        if answer.error is not None:
            raise answer.error
        fill_errors(vtkTable.GetData(outputs, 1), answer.rows if vtk_bridge.rank_and_size()[0] == 0 else [])
        self._fill(answer, vtkDataObject.GetData(inputs[DATA], 0), vtkDataObject.GetData(outputs, 0))
        self.status = _told(answer)

    def leave_empty(self, outputs) -> None:
        pass_on(self.GetInputDataObject(DATA, 0), vtkDataObject.GetData(outputs, 0))
        fill_errors(vtkTable.GetData(outputs, 1), [])

    def aborted(self) -> bool:
        return bool(self.GetAbortExecute())  # CheckAbort would let this rank alone run again

    # -- the table -------------------------------------------------------------------------

    def _question(self, request, outputs) -> tuple:
        """What the answer depends on, as every rank can see it; equal questions have equal answers."""
        return self._touched, *self.state_above(request, outputs)

    def _answer_together(self, inputs) -> Answer:
        communicator = Communicator(vtk_bridge.pipeline_communicator())
        try:
            return self._compare(inputs, communicator)
        except Exception as error:
            error.shown = communicator.rank != 0  # rank 0 shows it for all
            return Answer(error=error.with_traceback(None))

    def _compare(self, inputs, communicator: Communicator) -> Answer:
        """Collective."""
        info = inputs[DATA].GetInformationObject(0)
        rank, size = communicator.rank, communicator.size
        whole = tuple(info.Get(Pipeline.WHOLE_EXTENT())) if info.Has(Pipeline.WHOLE_EXTENT()) else None
        ghosts = 1 if size > 1 and whole is None else 0
        data = communicator.together(lambda: self._pull(inputs, (whole, rank, size, ghosts)))
        path = next(filter(None, communicator.everywhere(communicator.together(lambda: self.model_path(inputs)))), "")
        if not path:
            raise no_model()
        volume = communicator.together(lambda: self.open_volume(path))
        chosen = communicator.together(lambda: chosen_arrays(volume.arrays, self.settings["arrays"]))
        time, pairs = self._what(data, volume, chosen, communicator)
        self._comparison = Comparison(
            volume, communicator, weakly(self.evaluate), data, time, with_ssim=self.settings["compute_ssim"]
        )
        self.begin("comparing with the neural volume", sum(_places(data, pairs)))
        rows = self._comparison.rows(pairs)
        return Answer(path, tuple(pairs), time, tuple(rows))

    def _what(self, data, volume, chosen: list, communicator: Communicator) -> tuple:
        """(time of the data, what to compare); nothing when no rank has points."""
        times = communicator.everywhere(vtk_bridge.data_time(data))
        time = next((t for t in times if t is not None), None)
        time_in_model(time, volume.times)
        present: dict = {}
        for found in communicator.everywhere(communicator.together(lambda: arrays_in(data))):
            merge_arrays(present, found)
        if not any(communicator.everywhere(sum(leaf.GetNumberOfPoints() for leaf in leaves_of(data)))):
            return time, []
        return time, shared_arrays(chosen, present, bool(self.settings["arrays"]))

    def _pull(self, inputs, wanted: tuple):
        """What the pipeline above gives for a request. Raises DataError when it fails."""
        _ask(inputs[DATA].GetInformationObject(0), *wanted)
        if not self.GetInputExecutive(DATA, 0).Update(self.GetInputConnection(DATA, 0).GetIndex()):
            raise DataError("input: expected data, found that the pipeline above has failed")
        return vtkDataObject.GetData(inputs[DATA], 0)

    # -- the errors where they are -----------------------------------------------------------

    def _fill(self, answer: Answer, source, target) -> None:
        """Give the first output its arrays; not collective."""
        comparison, used = self._comparison_of(answer), set()
        self.begin("comparing with the neural volume", sum(_places(source, answer.pairs)))
        for leaf, own in pass_on(source, target):
            for association in SIDES:
                here = pairs_of(leaf, answer.pairs, association)
                values = comparison.reconstruct(leaf, here, association) if here else {}
                used.add((leaf.GetMTime(), association))
                for pair in here:
                    data = numbers_of(attributes(leaf, association).GetArray(pair.name))
                    _add_errors(own, pair, data, values[pair.name])
        comparison.keep(used)
        vtk_bridge.tag_model(target, answer.path)

    def _comparison_of(self, answer: Answer) -> Comparison:
        """The one at hand when it is that of the answer: its values need not be evaluated again."""
        volume, known = self.open_volume(answer.path), self._comparison
        if known is None or known.volume is not volume or known.time != answer.time:
            self._comparison = Comparison(volume, Communicator(), weakly(self.evaluate), None, answer.time, with_ssim=False)
        return self._comparison


def _ask(info, extent: tuple | None, piece: int, pieces: int, ghosts: int) -> None:
    """Ask upstream for an extent, or a piece, with layers of ghosts."""
    vtk_bridge.request(info, extent, piece, pieces)
    info.Set(Pipeline.UPDATE_NUMBER_OF_GHOST_LEVELS(), ghosts)


def _places(data, pairs) -> list[int]:
    """How many points or cells are evaluated, of each leaf and side."""
    return [count_of(leaf, side) for leaf in leaves_of(data) for side in SIDES if pairs_of(leaf, pairs, side)]


def _add_errors(leaf, pair: Pair, data: np.ndarray, model: np.ndarray) -> None:
    """Add what the model gives, what is wrong with it, and the magnitude of that; some values at a time."""
    error, magnitude = np.empty(data.shape, np.float32), np.empty(len(data), np.float32)
    for first in range(0, len(data), PART):
        part = slice(first, first + PART)
        difference = model[part].astype(np.float64) - data[part]
        error[part] = difference
        magnitude[part] = np.abs(difference) if difference.ndim == 1 else np.linalg.norm(difference, axis=1)
    for ending, values in (("reconstruction", model), ("error", error), ("absolute_error", magnitude)):
        add_array(leaf, pair.association, f"{pair.name}_{ending}", values)


def _told(answer: Answer) -> str:
    """The figures of the whole in one line."""
    rows = [row for row in answer.rows if row["brick"] == WHOLE]
    return "; ".join(f"{r['array']}: {r['psnr']:.2f} dB, max error {r['max_error']:.4g}" for r in rows) or "nothing to compare"
