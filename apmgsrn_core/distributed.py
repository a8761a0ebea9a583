"""Ranks that work together. The only file that touches mpi4py, through the communicator it is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .errors import ApmgsrnError

WAIT_SECONDS = 0.01


class Communicator:
    """An mpi4py communicator, or a single process when None.

    A rank never fails alone: work -> every rank learns of an error -> every rank raises it.
    """

    def __init__(self, comm=None):
        self._comm = comm
        self.rank = 0 if comm is None else comm.Get_rank()
        self.size = 1 if comm is None else comm.Get_size()

    def from_root(self, work: Callable[[], Any]) -> Any:
        """Run `work` on rank 0; every rank returns its result or raises its error.

        The other ranks sleep while they wait, so that rank 0 has the cores.
        """
        if self.size == 1:
            return work()
        result = error = None
        if self.rank == 0:
            try:
                result = work()
            except Exception as caught:  # sent to the other ranks and raised below
                error = caught
        self._wait_politely()
        described = self._comm.bcast(_describe(error), root=0)
        if error is not None:
            raise error
        if described is not None:
            raise described
        return self._comm.bcast(result, root=0)

    def _wait_politely(self) -> None:
        """A barrier that does not spin."""
        request = self._comm.Ibarrier()
        while not request.Test():
            time.sleep(WAIT_SECONDS)


def _describe(error: Exception | None) -> Exception | None:
    """An error that can be sent: ours as it is, others by type and text."""
    if error is None or isinstance(error, ApmgsrnError):
        return error
    return ApmgsrnError(f"rank 0: {type(error).__name__}: {error}")
