"""The filter that turns an array into a neural volume: reconstruction, history, feature grids."""

from __future__ import annotations

import sys
import time

from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkImageData, vtkPolyData, vtkTable
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import Communicator

from . import trained_model, vtk_bridge
from .trained_model import Answer, Memory, TrainedModel
from .training_run import TrainingRun
from .training_settings import TrainingSettings
from .vtk_bridge import ImageFrame

OUTPUTS = (vtkImageData, vtkTable, vtkPolyData)
EMPTY = ImageFrame()


class TrainNeuralVolume(TrainingSettings):
    """`TrainNeuralVolume`: the ranks train the bricks together, and every rank fills the piece that is asked of it.

    RequestData runs far more often than anything changes (other ports, other pieces), so the
    answer to one set of settings and one state of the input is remembered; of the failures the
    last one, until a setting is touched. A training takes several passes through the pipeline, in each of
    which RequestData is called once more (`CONTINUE_EXECUTING`).
    """

    def __init__(self):
        super().__init__(inputs=1, outputs=3)
        self._answers = Memory()  # question -> Answer
        self._failure = None  # (question, our modification time), the error that it ended with
        self._served = None  # the last question that was answered
        self._surveys = Memory()  # state of the input -> what a look at all of it has told
        self._volume = self._volume_stamp = self._values = self._values_stamp = None
        self._frame, self._input_frame = ImageFrame(), ImageFrame()
        self._run = self._passes = self._wanted = None  # the training that is under way
        self._spoken = 0.0

    # -- the pipeline ----------------------------------------------------------------------

    def FillInputPortInformation(self, port, info):
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), "vtkDataObject")
        return 1

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), OUTPUTS[port].__name__)
        return 1

    def RequestDataObject(self, request, inputs, outputs) -> int:
        """The reconstruction is of the input's own class (vtkImageData, vtkUniformGrid)."""
        data = vtkDataObject.GetData(inputs[0], 0)
        kinds = (type(data) if isinstance(data, vtkImageData) else vtkImageData, *OUTPUTS[1:])
        for port, kind in enumerate(kinds):
            if type(vtkDataObject.GetData(outputs, port)) is not kind:
                outputs.GetInformationObject(port).Set(vtkDataObject.DATA_OBJECT(), kind())
        return 1

    def RequestInformation(self, request, inputs, outputs) -> int:
        self._input_frame = ImageFrame.of_information(inputs[0].GetInformationObject(0))
        self._frame = self._input_frame if self.settings["output_reconstruction"] else EMPTY
        self._frame.promise(outputs.GetInformationObject(0))
        for port in (1, 2):
            vtk_bridge.promise_unstructured(outputs.GetInformationObject(port))
        self.about_data = vtk_bridge.describe_array(self, vtkDataObject.GetData(inputs[0], 0), self._input_frame)
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        """Ask for what the training wants next; while there is none, for a single cell."""
        info = inputs[0].GetInformationObject(0)
        frame = ImageFrame.of_information(info)
        if self._passes is None:
            vtk_bridge.request(info, frame.corner)
        elif self._wanted is None:
            vtk_bridge.request_piece(info, frame.extent)
        else:
            vtk_bridge.request(info, self._wanted)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        try:
            answer = self._answer(request, inputs, outputs)
        except Exception:
            self._end_run(request)
            raise
        if answer is None:
            request.Set(Pipeline.CONTINUE_EXECUTING(), 1)
            return
        self._end_run(request)
        self._fill(answer, outputs)

    def _fill(self, answer: Answer, outputs) -> None:
        model, rank = answer.model, vtk_bridge.rank_and_size()[0]
        self._frame = answer.frame if self.settings["output_reconstruction"] else EMPTY
        volume = self._open(model)
        image, table, mesh = (kind.GetData(outputs, port) for port, kind in enumerate(OUTPUTS))
        extent = vtk_bridge.requested_extent(outputs) if self._frame is not EMPTY else EMPTY.extent
        self._frame.place(image, extent)
        if self._frame is not EMPTY and self._frame.region(extent, answer.association).count:
            values = self._reconstruct(volume, model, extent, answer.association)
            vtk_bridge.fill_array(image, values, volume.arrays[0].name, answer.association)
        vtk_bridge.fill_table(table, model.history, with_rows=rank == 0)
        vtk_bridge.fill_boxes(mesh, volume.feature_grids(self._own_bricks(volume)))
        for output in (image, table, mesh):
            vtk_bridge.tag_model(output, model.path)
        self.status = model.status

    @staticmethod
    def _own_bricks(volume) -> list:
        """The bricks whose feature grids this rank shows."""
        rank, size = vtk_bridge.rank_and_size()
        return [brick for brick, owner in enumerate(volume.layout.ranks(size)) if owner == rank]

    def leave_empty(self, outputs) -> None:
        extent = vtk_bridge.requested_extent(outputs) if self._frame is not EMPTY else EMPTY.extent
        self._frame.place(vtkImageData.GetData(outputs, 0), extent)
        for port in (1, 2):
            OUTPUTS[port].GetData(outputs, port).Initialize()

    def _open(self, model: TrainedModel):
        """The model as the file has it, ready to sample."""
        stamp = (model.key, model.path, self.settings["device"])
        if stamp != self._volume_stamp:
            from apmgsrn_core import NeuralVolume as Volume

            source = (Volume.from_bytes, model.data) if model.data else (Volume.open, model.path)
            self._volume, self._volume_stamp = source[0](source[1], stamp[2]), stamp
        return self._volume

    def _reconstruct(self, volume, model: TrainedModel, extent: tuple, association: str):
        """The values of an extent; those of the last request are kept for the next port that asks."""
        stamp = (model.key, self.settings["device"], extent)
        if stamp != self._values_stamp:
            self.SetProgressText("reconstructing")
            region = self._frame.region(extent, association)
            self._values = volume.sample_region(region, on_progress=lambda f: self.UpdateProgress(f) or True)
            self._values_stamp = stamp
        return self._values

    # -- one answer for one question -------------------------------------------------------

    def _answer(self, request, inputs, outputs) -> Answer | None:
        """The model that belongs to the settings and the input, found together with all ranks; None: in a later pass.

        Whether to talk to the other ranks is decided by what changes on all of them at once: the
        settings and the modification time of the pipeline above, never by this rank's data.
        """
        question = self._question(request, outputs)
        answer = self._answers.get(question) if self._passes is None else None
        if answer is None:
            answer = self._next_pass((question, self.GetMTime()), vtkDataObject.GetData(inputs[0], 0))
            if answer is None:
                return None
            self._answers.keep(question, answer)
        elif question != self._served and vtk_bridge.rank_and_size()[0] == 0:
            trained_model.save(answer.model, self.model_path())  # another time step lies there now
        self._served = question
        return answer

    def _next_pass(self, attempt: tuple, image) -> Answer | None:
        """Go on with the training, or begin it; an attempt that has failed is not made again."""
        if self._failure is not None and self._failure[0] == attempt:
            raise self._failure[1]
        communicator = Communicator(vtk_bridge.pipeline_communicator())
        try:
            if self._passes is None:
                self._run = TrainingRun(self, self._input_frame, communicator, self._surveys, attempt[0][1:])
                self._passes = self._run.passes()
                next(self._passes)  # wants the corner that is here now
            self._wanted = self._passes.send(image)
            return None
        except StopIteration as end:
            self._failure = None
            model = communicator.from_root(lambda: self._finish(end.value))
            return Answer(model, self._run.frame, self._run.job.grid.association)
        except Exception as error:
            error.shown = communicator.rank != 0  # rank 0 shows it for all
            self._failure = attempt, error.with_traceback(None)
            raise

    def _end_run(self, request) -> None:
        if self._passes is not None:
            self._passes.close()
        self._run = self._passes = self._wanted = None
        request.Remove(Pipeline.CONTINUE_EXECUTING())

    def _question(self, request, outputs) -> tuple:
        """What the answer depends on, as every rank can see it; equal questions have equal answers."""
        upstream = self.GetInputExecutive(0, 0)
        return (
            tuple(self.settings.values()),
            vtk_bridge.chosen_array(self),
            upstream.__this__,
            upstream.GetPipelineMTime(),
            vtk_bridge.requested_time(request, outputs),
        )

    # -- what the run asks of the filter -----------------------------------------------------

    def read_initial(self) -> bytes:
        """The bytes of the model to start from; b"" without one."""
        return trained_model.read_initial(self.settings["initial_model"], self.model_path())

    def arguments(self, job) -> dict:
        """Of `volume_passes`."""
        target = self.model_path()
        return {
            "path": target or None, "checkpoint_interval": self.settings["checkpoint_interval"],
            "on_progress": self._show, "on_warning": self.warn,
        }  # fmt: skip

    def known_model(self, job, survey) -> TrainedModel | None:
        """The model when it was trained before: by this filter, or in its file. Checks that a new one could be written."""
        target = self.model_path()
        key = job.key(survey.content)
        known = next((a.model for a in self._answers.values() if a.model.key == key and a.model.data), None)
        if known is not None:
            trained_model.save(known, target)
        else:
            known = trained_model.load_if_trained(target, key)
        if known is None and target:
            trained_model.check_target(target)
        return known

    def _show(self, state) -> bool:
        self.SetProgressText(state.message)
        self.UpdateProgress(min(max(state.fraction, 0.0), 1.0))
        pause = self.settings["report_progress"]
        if pause and (time.monotonic() - self._spoken >= pause or state.iteration == state.iterations):
            self._spoken = time.monotonic()
            sys.stdout.write(f"rank {vtk_bridge.rank_and_size()[0]}: {state.message}\n")  # one write: ranks do not mix
            sys.stdout.flush()
        return not self.GetAbortExecute()  # CheckAbort would empty the outputs

    def _finish(self, result) -> TrainedModel:
        """On rank 0: what all ranks are told of a finished training, or of a model that was there."""
        if isinstance(result, TrainedModel):
            return result
        return trained_model.describe(result, self._run.job, self.model_path())
