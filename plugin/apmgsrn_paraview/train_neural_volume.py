"""The filter that turns an array into a neural volume: reconstruction, history, feature grids."""

from __future__ import annotations

import math
import sys
import time
import weakref

from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkImageData, vtkPolyData, vtkRectilinearGrid, vtkTable
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import Communicator, ConfigError, ModelFileError

from . import trained_model, vtk_bridge
from .agreed_input import AgreedInput
from .choice_table import add_choices
from .data_description import DataDescription, describe_data
from .expected_training import ExpectedTraining
from .image_frame import ImageFrame
from .input_puller import InputPuller
from .installation import InstallationCheck
from .lattice_input import LATTICES
from .live_controls import LIVE, LiveControls
from .proxy import weakly
from .reconstruction import Reconstruction
from .series_result import SeriesResult
from .trained_model import Answer, Memory, TrainedModel
from .training_run import TrainingRun

ENDING = ".apmgsrn"
OUTPUTS = (vtkImageData, vtkTable, vtkPolyData)
EMPTY = ImageFrame()
MISSED = 0.5  # dB: a training for bytes comes so near to the PSNR that is wanted
HEARD = 0.01  # ParaView's window hears clicks on its abort button where at least so much is done


class TrainNeuralVolume(AgreedInput, InstallationCheck, LiveControls, ExpectedTraining):
    """`TrainNeuralVolume`: the ranks train the bricks together, and every rank fills the piece that is asked of it.

    RequestData runs far more often than anything changes (other ports, other pieces), so the
    answer to one set of settings and one state of the input is remembered; of the failures the
    last one, until a setting is touched.
    """

    def __init__(self):
        super().__init__(inputs=1, outputs=3)
        self._answers = Memory()  # question -> Answer
        self._failure = None  # (question, our modification time), the error that it ended with
        self._served = self._saved = None  # the last question that was answered, and the one whose model lies in the file
        self._surveys = Memory()  # state of the input -> what a look at all of it has told
        self._volume = self._volume_stamp = self._boxes = self._boxes_stamp = None
        self._reconstruction = Reconstruction()
        self._frame, self._input_frame = ImageFrame(), ImageFrame()
        self._spoken, self._series = 0.0, (0, 1)

    # -- the pipeline ----------------------------------------------------------------------

    def FillInputPortInformation(self, port, info):
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
        return 1

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkDataObject" if port == 0 else OUTPUTS[port].__name__)
        return 1

    def RequestDataObject(self, request, inputs, outputs) -> int:
        """The reconstruction is of the input's own class (vtkImageData, vtkUnstructuredGrid, ...)."""
        data = vtkDataObject.GetData(inputs[0], 0)
        vtk_bridge.provide_output(outputs, 0, data if data is not None else vtkImageData())
        for port, kind in enumerate(OUTPUTS[1:], 1):
            vtk_bridge.provide_output(outputs, port, kind())
        return 1

    def RequestInformation(self, request, inputs, outputs) -> int:
        info = inputs[0].GetInformationObject(0)
        self._input_frame = ImageFrame.of_information(info)
        self._frame = self._input_frame if self.settings["output_reconstruction"] else EMPTY
        if info.Has(Pipeline.WHOLE_EXTENT()):
            self._frame.promise(outputs.GetInformationObject(0))
        else:
            vtk_bridge.promise_unstructured(outputs.GetInformationObject(0))
        for port in (1, 2):
            vtk_bridge.promise_unstructured(outputs.GetInformationObject(port))
        self.about_data = self._described(vtkDataObject.GetData(inputs[0], 0))
        return 1

    def _described(self, data) -> DataDescription | None:
        """What the panel is to know of the arrays that are chosen."""
        try:
            choice = self.array_choice()
        except ConfigError:  # told when it is trained
            return None
        return describe_data(data, self._input_frame, choice)

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        """Ask a lattice for a single cell, a training asks for what it needs; a mesh for this rank's part."""
        info = inputs[0].GetInformationObject(0)
        frame = ImageFrame.of_information(info)
        if isinstance(vtkDataObject.GetData(inputs[0], 0), LATTICES):
            vtk_bridge.request(info, frame.corner)
        else:
            vtk_bridge.request_piece(info, frame.extent)
        self.agree_on_input(self._question(request, outputs), [0], outputs)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        self.check_input(self._question(request, outputs))
        answer = self._answer(request, inputs, outputs)
        model, rank = answer.model, vtk_bridge.rank_and_size()[0]
        volume = self._open(model)
        image, table, mesh = (vtkDataObject.GetData(outputs, port) for port in range(3))
        time = vtk_bridge.requested_time(request, outputs)
        if not self.settings["output_reconstruction"]:
            self._frame = EMPTY
            self._place_nothing(image)
        else:
            self.SetProgressText("reconstructing")
            self._fill(image, volume, answer, InputPuller(self, inputs), vtk_bridge.requested_extent(outputs), time)
        vtk_bridge.fill_table(table, model.history, with_rows=rank == 0)
        add_choices(table, self.choices(model.status))
        vtk_bridge.fill_boxes(mesh, self._own_boxes(volume, model))
        for output in (image, table, mesh):
            vtk_bridge.tag_model(output, model.path)
        self.status = model.status

    def _fill(self, data, volume, answer: Answer, pull: InputPuller, extent: tuple, time: float | None) -> None:
        """The reconstruction."""
        with_error = self.settings["output_error"]
        if answer.of_mesh:
            piece = pull(extent if isinstance(data, LATTICES) else None)
            self._reconstruction.fill_mesh(data, volume, piece, time, with_error)
        else:
            self._frame = answer.frame
            self._reconstruction.fill_lattice(
                data, volume, answer.frame, extent, time, pull if with_error else None, self.UpdateProgress
            )

    def _own_boxes(self, volume, model: TrainedModel) -> list:
        """The feature grids of the bricks that this rank shows."""
        if self._boxes_stamp is not model:
            rank, size = vtk_bridge.rank_and_size()
            mine = [brick for brick, owner in enumerate(volume.layout.ranks(size)) if owner == rank]
            self._boxes, self._boxes_stamp = volume.feature_grids(mine), model
        return self._boxes

    def leave_empty(self, outputs) -> None:
        image = vtkDataObject.GetData(outputs, 0)
        unknown = isinstance(image, vtkRectilinearGrid) and self._frame.axes is None  # an extent without coordinates crashes filters
        if isinstance(image, LATTICES) and self._frame is not EMPTY and not unknown:
            self._frame.place(image, vtk_bridge.requested_extent(outputs))
        else:
            self._place_nothing(image)
        for port in (1, 2):
            OUTPUTS[port].GetData(outputs, port).Initialize()

    def _place_nothing(self, data) -> None:
        if isinstance(data, LATTICES):
            EMPTY.place(data, EMPTY.extent)
        else:
            data.Initialize()

    def _open(self, model: TrainedModel):
        """The model as the file has it, ready to sample."""
        stamp = (model, self.settings["device"])
        if self._volume_stamp is None or self._volume_stamp[0] is not model or self._volume_stamp[1] != stamp[1]:
            from apmgsrn_core import NeuralVolume as Volume

            volume = Volume.from_bytes(model.data, stamp[1]) if model.data else Volume.open(model.path, stamp[1])
            if volume.key != model.key:
                raise ModelFileError(f"ModelFile {model.path!r}: expected the model of this training, found another one")
            self._volume, self._volume_stamp = volume, stamp
        return self._volume

    # -- one answer for one question -------------------------------------------------------

    def _answer(self, request, inputs, outputs) -> Answer:
        """The model that belongs to the settings and the input, found together with all ranks.

        Whether to talk to the other ranks is decided by what changes on all of them at once: the
        settings and the modification time of the pipeline above, never by this rank's data.
        """
        question = self._question(request, outputs)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answer_together((question, self.GetMTime()), inputs)
            if answer is self._shown:
                return answer
            self._answers.keep(question, answer)
            if self.settings["time_steps"] == "append":
                self._forget_before(question)
            self._saved = question
        if answer.model.path:
            self._answers.forget(lambda other: other.model.ended_by(answer.model))
        self._served = question
        if question != self._saved and self.settings["time_steps"] != "append" and vtk_bridge.rank_and_size()[0] == 0:
            trained_model.save(answer.model, self.model_path())  # another time step lies there now
        self._saved = question  # after that: what the ranks remember must not depend on whether it goes on the first one
        return answer

    def _forget_before(self, question: tuple) -> None:
        """Forget what belongs to other states of the pipeline above: what a simulation gave before does not come again."""
        above = question[2:4]
        self._answers.forget_keys(lambda known: known[2:4] != above)
        self._surveys.forget_keys(lambda known: known[1:3] != above)

    def _answer_together(self, attempt: tuple, inputs) -> Answer:
        """Train, or find what was trained; an attempt that has failed is not made again."""
        if self._failure is not None and self._failure[0] == attempt:
            raise self._failure[1]
        try:
            answer = self._live_answer(attempt[0], inputs) if self.settings["live"] else self._whole_answer(attempt[0], inputs)
        except Exception as error:
            error.shown = vtk_bridge.rank_and_size()[0] != 0  # rank 0 shows it for all
            self._failure = attempt, error.with_traceback(None)
            self._drop()
            self._running = self._asked = False
            raise
        self._failure = None
        return answer

    def _whole_answer(self, question: tuple, inputs) -> Answer:
        """Train to the end; what was trained live goes on."""
        if self._live is not None and self._live_question == question:
            while self._live.result is None:
                self._live.advance(math.inf)
            return self._ended()
        self._drop()
        run, data = self._new_run(question, inputs)
        result = run.result(data)
        model = run.communicator.from_root(lambda: self._told(result, run.job))
        return Answer(model, run.frame, run.job.mask != "values")

    def _new_run(self, question: tuple, inputs) -> tuple[TrainingRun, object]:
        """A training of a question, and what is at the input."""
        communicator = Communicator(vtk_bridge.pipeline_communicator())
        run = TrainingRun(weakref.proxy(self), communicator, self._surveys, question[1:], InputPuller(self, inputs))
        return run, vtkDataObject.GetData(inputs[0], 0)

    def _question(self, request, outputs) -> tuple:
        """What the answer depends on, as every rank can see it; equal questions have equal answers."""
        upstream = self.GetInputExecutive(0, 0)
        return (
            tuple((field, value) for field, value in self.settings.items() if field not in LIVE),
            vtk_bridge.chosen_array(self),
            upstream.__this__,
            upstream.GetPipelineMTime(),
            vtk_bridge.requested_time(request, outputs) if self.settings["time_steps"] in ("current", "append") else None,
        )

    # -- what the run asks of the filter -----------------------------------------------------

    def read_initial(self) -> bytes:
        """The bytes of the model to start from; b"" without one."""
        return trained_model.read_initial(self.settings["initial_model"], self.model_path())

    def arguments(self) -> dict:
        """Of `volume_passes`."""
        return {
            "path": self.model_path() or None, "checkpoint_interval": self.settings["checkpoint_interval"],
            "on_look": weakly(self._show_look), "on_progress": weakly(self._show), "on_warning": weakly(self.warn),
        }  # fmt: skip

    def known_model(self, job, survey) -> TrainedModel | None:
        """The model when it was trained before: by this filter, or in its file. Checks that a new one could be written."""
        target = self.model_path()
        key = job.key(survey.content)
        afresh, self._afresh = self._afresh, False
        known = next((a.model for a in self._answers.values() if a.model.key == key and a.model.data), None)
        if afresh:
            known = None
        elif known is not None:
            trained_model.save(known, target)
        else:
            known = trained_model.load_if_trained(target, key)
        if known is None and target:
            trained_model.check_target(target)
            if not target.lower().endswith(ENDING):
                self.warn(f"ModelFile {target}: ParaView's File > Open knows a model by the ending {ENDING}, which this name has not")
        return known

    def begin_step(self, number: int, count: int) -> None:
        """A time step of so many is trained now: progress is that of all of them."""
        self._series = number, count

    def current_time(self, data) -> float | None:
        """The time of what is at the input."""
        return vtk_bridge.data_time(data) if data is not None else None

    def _show(self, state) -> bool:
        if self._in_poll:
            return True
        number, count = self._series
        message = f"time step {number + 1} of {count}: {state.message}" if count > 1 else state.message
        fraction = (number + state.fraction) / count
        self.SetProgressText(message)
        self.UpdateProgress(min(max(fraction, HEARD), 1.0))
        pause = self.settings["report_progress"]
        if pause and (time.monotonic() - self._spoken >= pause or state.iteration == state.iterations):
            self._spoken = time.monotonic()
            sys.stdout.write(f"rank {vtk_bridge.rank_and_size()[0]}: {message}\n")  # one write: ranks do not mix
            sys.stdout.flush()
        if self.settings["live"] and self.GetAbortExecute():
            self._running = False
            return True
        return not self.GetAbortExecute()  # CheckAbort would empty the outputs

    def _show_look(self, fraction: float) -> bool:
        self.SetProgressText("looking at the bricks")
        self.UpdateProgress(min(max(fraction, HEARD), 1.0))
        return not self.GetAbortExecute()

    def _told(self, result, job) -> TrainedModel:
        """On rank 0: what all ranks are told of a finished training, or of a model that was there."""
        if isinstance(result, TrainedModel):
            return result
        if isinstance(result, SeriesResult):
            return result.describe(self.model_path())
        self.note_speed(trained_model.steps_of(result.history), result.seconds, vtk_bridge.rank_and_size()[1])
        model = trained_model.describe(result, job, self.model_path())
        wanted = self.settings["target_psnr"] if self.settings["aim"] == "quality" else 0.0
        if "psnr reached" not in result.stop_reason and result.psnr < wanted - (MISSED if self.is_compact else 0.0):
            cure = "take the Aim Size with more bytes" if self.is_compact else "take a larger Preset"
            model.status += f"; TargetPSNR {wanted:g} dB is not reached: {cure}"
        model.status += self.without_part()
        return model
