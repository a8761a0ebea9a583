"""The filter that evaluates a model at the points or cells of any data set."""

from __future__ import annotations

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from apmgsrn_core import ApmgsrnError, Communicator

from . import vtk_bridge
from .data_leaves import count_of, drop_arrays, leaves_of, names_of, pass_on
from .model_filter import DATA, MODEL, ModelFilter
from .model_input import no_model
from .point_positions import positions_of
from .point_sampler import MASKS, PointSampler
from .proxy import setting
from .trained_model import Memory
from .vtk_arrays import add_array, attributes


class SampleNeuralVolume(ModelFilter):
    """`SampleNeuralVolume`: the input with the model's arrays at its points or cell centres.

    Each rank evaluates its own piece. The ranks agree only on which names the input has taken, so that an array is called
    the same on all of them; whether to talk is decided by what changes on all of them at once, see `TrainNeuralVolume`.
    On a failure the input is passed on as it is.
    """

    SetSampleAt = setting("sample_at", "point", ("point", "cell"))
    SetPassInputArrays = setting("pass_input_arrays", True)
    SetInterpolateTime = setting("interpolate_time", False)
    SetComputeGradient = setting("compute_gradient", False)
    SetComputeDivergence = setting("compute_divergence", False)
    SetComputeVorticity = setting("compute_vorticity", False)
    SetComputeQCriterion = setting("compute_q_criterion", False)

    def __init__(self):
        super().__init__(outputs=1)
        self._taken = Memory()  # state of the input -> names of its arrays

    def FillOutputPortInformation(self, port, info):
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkDataObject")
        return 1

    def RequestInformation(self, request, inputs, outputs) -> int:
        """A static input gets the times of the model."""
        info = outputs.GetInformationObject(0)
        info.Set(vtkAlgorithm.CAN_HANDLE_PIECE_REQUEST(), 1)
        if not _has_times(inputs):
            vtk_bridge.promise_times(info, self._model_times(inputs))
        return 1

    def _model_times(self, inputs) -> tuple:
        """The times of the model as far as they are known before there is data."""
        if self.settings["file_name"]:
            try:
                return self.model.header(self.model_path(inputs)).times
            except ApmgsrnError:  # told when data is asked for
                return ()
        upstream = inputs[MODEL].GetInformationObject(0)
        steps = upstream.Get(Pipeline.TIME_STEPS()) if upstream is not None else None
        return tuple(steps or ())

    def produce(self, request, inputs, outputs) -> None:
        self.check_input(self.state_above(request, outputs))
        source = vtkDataObject.GetData(inputs[DATA], 0)
        target = vtkDataObject.GetData(outputs, 0)
        taken = self._taken_names(source, request, outputs)
        leaves = [own for _, own in pass_on(source, target)]
        association = self.settings["sample_at"]
        places = sum(count_of(leaf, association) for leaf in leaves)
        path = self.model_path(inputs)
        if not path:
            if places or vtk_bridge.rank_and_size()[1] == 1:
                raise no_model()
            self.status = "nothing to sample"  # of several ranks one without a piece may lack the field data too
            return
        volume = self.open_volume(path)
        own_time = vtk_bridge.data_time(source) if _has_times(inputs) else None
        wanted = vtk_bridge.requested_time(request, outputs) if own_time is None else own_time
        sampler = PointSampler(volume, self.settings, wanted)
        if not self.settings["pass_input_arrays"]:
            for leaf in leaves:
                drop_arrays(leaf)
        names = sampler.names_beside(taken)
        self.begin("sampling the neural volume", places)
        inside = sum(self._sample_leaf(leaf, sampler, names) for leaf in leaves)
        time = sampler.time_of_values if own_time is None else own_time
        if time is not None:
            target.GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), time)
        vtk_bridge.tag_model(target, path)
        rank, size = vtk_bridge.rank_and_size()
        where = f" on rank {rank} of {size}" if size > 1 else ""
        self.status = f"{inside} of {places} {association}s have values{where}"

    def _taken_names(self, source, request, outputs) -> set:
        """Names of the input's arrays on any rank, less when they are not passed on."""
        if not self.settings["pass_input_arrays"]:
            return set()
        association = self.settings["sample_at"]
        question = association, *self.state_above(request, outputs)
        taken = self._taken.get(question)
        if taken is None:
            mine = {name for leaf in leaves_of(source) for name in names_of(leaf, association)}
            taken = set().union(*Communicator(vtk_bridge.pipeline_communicator()).everywhere(mine))
            self._taken.keep(question, taken)
        return taken

    def _sample_leaf(self, leaf, sampler: PointSampler, names: dict) -> int:
        """Add the arrays to a leaf; returns how many places have values."""
        association = self.settings["sample_at"]
        values = self.evaluate(positions_of(leaf, association), sampler)
        mask = values.pop(MASKS[association])
        for name, array in values.items():
            add_array(leaf, association, names[name], array)
        add_array(leaf, association, MASKS[association], mask)
        attributes(leaf, association).SetActiveScalars(names[next(iter(values))])
        return int(np.count_nonzero(mask))

    def leave_empty(self, outputs) -> None:
        pass_on(self.GetInputDataObject(DATA, 0), vtkDataObject.GetData(outputs, 0))


def _has_times(inputs) -> bool:
    """Whether the data has times. (The time of data without them may be the one at which it was computed.)"""
    return bool(inputs[DATA].GetInformationObject(0).Has(Pipeline.TIME_STEPS()))
