"""The filter that turns an array into a neural volume: reconstruction, history, feature grids."""

from __future__ import annotations

from dataclasses import replace

from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkImageData, vtkPolyData, vtkTable
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm

from apmgsrn_core import Communicator, DataError, content_hash

from . import trained_model, vtk_bridge
from .trained_model import Answer, Memory, TrainedModel, TrainingJob
from .training_settings import TrainingSettings
from .vtk_bridge import ImageFrame

OUTPUTS = (vtkImageData, vtkTable, vtkPolyData)


class TrainNeuralVolume(TrainingSettings):
    """`TrainNeuralVolume`: rank 0 trains, every rank fills the piece that is asked of it.

    RequestData runs far more often than anything changes (other ports, other pieces), so the
    answer to one set of settings and one state of the input is remembered; of the failures the
    last one, until a setting is touched.
    """

    def __init__(self):
        super().__init__(inputs=1, outputs=3)
        self._answers = Memory()  # question -> Answer
        self._failure = None  # (question, our modification time), the error that it ended with
        self._served = None  # the last question that was answered
        self._contents = Memory()  # state of an array -> hash of its content, so that it is read once
        self._volume = self._volume_stamp = self._values = self._values_stamp = None
        self._frame = ImageFrame()

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
        self._frame = ImageFrame.of_information(inputs[0].GetInformationObject(0))
        self._frame.promise(outputs.GetInformationObject(0))
        for port in (1, 2):
            vtk_bridge.promise_unstructured(outputs.GetInformationObject(port))
        self.about_data = vtk_bridge.describe_array(self, vtkDataObject.GetData(inputs[0], 0), self._frame)
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs) -> int:
        """Rank 0 asks for everything, the others for a single cell."""
        info = inputs[0].GetInformationObject(0)
        extent = ImageFrame.of_information(info).extent
        if vtk_bridge.rank_and_size()[0] != 0:
            extent = tuple(v for a, b in zip(extent[::2], extent[1::2]) for v in (a, min(a + 1, b)))
        vtk_bridge.request(info, extent)
        return 1

    def produce(self, request, inputs, outputs) -> None:
        answer = self._answer(request, inputs, outputs)
        model, self._frame = answer.model, answer.frame
        on_root = vtk_bridge.rank_and_size()[0] == 0
        volume = self._open(model)
        extent = vtk_bridge.requested_extent(outputs)
        image, table, mesh = (kind.GetData(outputs, port) for port, kind in enumerate(OUTPUTS))
        self._frame.place(image, extent)
        if self._frame.region(extent, answer.association).count:
            values = self._reconstruct(volume, model, extent, answer.association)
            vtk_bridge.fill_array(image, values, volume.arrays[0].name, answer.association)
        vtk_bridge.fill_table(table, model.history, with_rows=on_root)
        vtk_bridge.fill_boxes(mesh, volume.feature_grids() if on_root else [])
        for output in (image, table, mesh):
            vtk_bridge.tag_model(output, model.path)
        self.status = model.status

    def leave_empty(self, outputs) -> None:
        self._frame.place(vtkImageData.GetData(outputs, 0), vtk_bridge.requested_extent(outputs))
        for port in (1, 2):
            OUTPUTS[port].GetData(outputs, port).Initialize()

    def _open(self, model: TrainedModel):
        """The model as the file has it, ready to sample."""
        stamp = (model.key, self.settings["device"])
        if stamp != self._volume_stamp:
            from apmgsrn_core import NeuralVolume as Volume

            self._volume, self._volume_stamp = Volume.from_bytes(model.data, stamp[1], model.path), stamp
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

    def _answer(self, request, inputs, outputs) -> Answer:
        """The model that belongs to the settings and the input, found together with all ranks.

        Whether to talk to the other ranks is decided by what changes on all of them at once: the
        settings and the modification time of the pipeline above, never by this rank's data.
        """
        question = self._question(request, outputs)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answer_together((question, self.GetMTime()), inputs)
            self._answers.keep(question, answer)
        elif question != self._served and vtk_bridge.rank_and_size()[0] == 0:
            trained_model.save(answer.model, self.model_path())  # another time step lies there now
        self._served = question
        return answer

    def _answer_together(self, attempt: tuple, inputs) -> Answer:
        """Let rank 0 find the answer for all; an attempt that has failed is not made again."""
        if self._failure is not None and self._failure[0] == attempt:
            raise self._failure[1]
        communicator = Communicator(vtk_bridge.pipeline_communicator())
        try:
            answer = communicator.from_root(lambda: self._answer_on_root(inputs))
            if not answer.model.data:  # the other ranks remember it as well
                answer.model.data = self._remembered(answer.model.key).data
        except Exception as error:
            error.shown = communicator.rank != 0  # rank 0 shows it for all
            self._failure = attempt, error.with_traceback(None)
            raise
        self._failure = None
        return answer

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

    def _remembered(self, key: str) -> TrainedModel | None:
        known = (a.model for a in self._answers.values() if a.model.key == key)
        return next(known, None)

    # -- on rank 0 only --------------------------------------------------------------------

    def _answer_on_root(self, inputs) -> Answer:
        from apmgsrn_core import resolve_device  # here, so that a failure is told once for all ranks

        resolve_device(self.settings["device"])
        job, frame, stamp = self._read_job(vtkDataObject.GetData(inputs[0], 0), inputs[0].GetInformationObject(0))
        content = self._contents.get(stamp) or content_hash(job.values)
        self._contents.keep(stamp, content)
        key = job.key(content)
        target = self.model_path()
        known = self._remembered(key)
        if known is not None:
            model = replace(known)
            trained_model.save(model, target)
            model.data = b""  # not sent again
        else:
            model = trained_model.load_if_trained(target, key) or self._train(job, key, target)
        return Answer(model, frame, job.grid.association)

    def _read_job(self, image, info) -> tuple:
        """(what to train, where the image lies, the state of the array)."""
        if not isinstance(image, vtkImageData):
            found = "nothing" if image is None else image.GetClassName()
            raise DataError(f"input: expected image data (vtkImageData), found {found}; other kinds come later")
        frame = ImageFrame.of_image(image)
        frame.check_not_empty()
        whole = ImageFrame.of_information(info).extent
        if frame.extent != whole:
            raise DataError(f"input: expected the whole extent {whole}, found {frame.extent}")
        array, name, association = vtk_bridge.choose_array(image, *vtk_bridge.chosen_array(self))
        grid = frame.grid(association)
        values = vtk_bridge.read_values(array, grid)
        model, train = self.model_config(), self.train_config()
        time = vtk_bridge.data_time(image)
        initial = trained_model.read_initial(self.settings["initial_model"], self.model_path())
        job = TrainingJob(values, grid, name, model, train, self.settings["device"], time, initial)
        return job, frame, (array.GetMTime(), values.shape)

    def _train(self, job: TrainingJob, key: str, target: str) -> TrainedModel:
        if target:
            trained_model.check_target(target)

        def on_progress(state) -> bool:
            self.SetProgressText(state.message)
            self.UpdateProgress(min(max(state.fraction, 0.0), 1.0))
            return not self.GetAbortExecute()  # CheckAbort would empty the outputs

        result = job.run(key, on_progress, self.warn)
        data = result.to_bytes()
        last = {name: column[-1] for name, column in result.history.items() if len(column)}
        ratio = job.values.nbytes / len(data)
        model = TrainedModel(key, data, history=result.history)
        model.status = (
            f"trained ({result.stop_reason}): {last.get('psnr', 0):.2f} dB after {last.get('iteration', 0)}"
            f" iterations and {last.get('seconds', 0):.1f} s, {len(data)} bytes, ratio {ratio:.1f}"
        )
        trained_model.save(model, target)
        return model
