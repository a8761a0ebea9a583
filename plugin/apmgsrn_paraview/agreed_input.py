"""Whether the pipelines above have given their data on all ranks, agreed before the ranks of a filter wait for each other."""

from __future__ import annotations

from functools import cached_property

from apmgsrn_core import Communicator, DataError

from . import vtk_bridge
from .trained_model import Memory


class AgreedInput:
    """Of a proxy whose ranks talk to each other in RequestData.

    VTK does not ask a rank for data when the pipeline above fails there; the other ranks would wait for it for ever. So the
    inputs are updated, and the ranks agree, in the request before, RequestUpdateExtent, which all ranks get. Whether to talk is
    decided by what changes on all of them at once, see `TrainNeuralVolume`. In a single process nothing is done.
    """

    @cached_property
    def _agreements(self) -> Memory:
        """question -> (our modification time, the error or None)"""
        return Memory()

    def agree_on_input(self, question: tuple, ports: list, outputs) -> None:
        """Update the inputs as they are asked, once for each question, and once more when a setting was touched after a failure.

        A rank whose input has failed, which is asked no more, is left with empty outputs and the error.
        """
        rank, size = vtk_bridge.rank_and_size()
        if size < 2:
            return
        known = self._agreements.get(question)
        if known is not None and (known[1] is None or known[0] == self.GetMTime()):
            return
        mine = all([self._updates(port) for port in ports])  # each of them: what is above may talk to the other ranks as well
        given = Communicator(vtk_bridge.pipeline_communicator()).everywhere(mine)
        error = None
        if not all(given):
            failed = f"the pipeline above has failed on rank {given.index(False)}"
            error = DataError(f"input: expected data on all ranks, found that {failed}")
            error.shown = rank != 0  # rank 0 shows it for all, once
        self._agreements.keep(question, (self.GetMTime(), error))
        if not mine:
            self.fail(error)
            self.leave_empty(outputs)

    def check_input(self, question: tuple) -> None:
        """Raise DataError, on every rank that gets here, when the pipelines above have failed on one."""
        _, error = self._agreements.get(question, (0, None)) if vtk_bridge.rank_and_size()[1] > 1 else (0, None)
        if error is not None:
            raise error

    def _updates(self, port: int) -> bool:
        return bool(self.GetInputExecutive(port, 0).Update(self.GetInputConnection(port, 0).GetIndex()))
