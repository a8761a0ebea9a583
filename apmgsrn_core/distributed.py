"""Ranks that work together. The only file that touches mpi4py, through the communicator it is given."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from .errors import ApmgsrnError, TorchError

FIRST_WAIT, LONGEST_WAIT = 1e-4, 0.01  # seconds between two looks at what a rank waits for
MESSAGE_BYTES = 1 << 30  # of one message; MPI counts in 32 bits
STOP_TAG, PART_TAG = 4711, 4712


class Communicator:
    """An mpi4py communicator, or a single process when None.

    A rank never fails alone: work -> every rank learns of an error -> every rank raises it. Ranks that wait sleep, so
    that the working ones have the cores. All methods but `request_stop` and `stop_requested` are collective.

    Attributes:
        rank, size: Of this process.
        bytes_sent: By `exchange`, to other ranks.
    """

    def __init__(self, comm=None):
        self._comm = comm
        self.rank = 0 if comm is None else comm.Get_rank()
        self.size = 1 if comm is None else comm.Get_size()
        self.bytes_sent = 0
        self._stopped = False
        self._stops: list = []  # requests whose memory must stay until they are done

    def from_root(self, work: Callable[[], Any]) -> Any:
        """Run `work` on rank 0; every rank returns its result or raises its error."""
        result = self.together(work if self.rank == 0 else lambda: None)
        return result if self.size == 1 else self._comm.bcast(result, root=0)

    def together(self, work: Callable[[], Any]) -> Any:
        """Run `work` on every rank; each returns its own result, or all raise the error of the first rank that failed."""
        if self.size == 1:
            return work()
        result = error = None
        try:
            result = work()
        except Exception as caught:  # told to the other ranks and raised below
            error = caught
        except BaseException:
            self.everywhere(ApmgsrnError(f"rank {self.rank} was interrupted"))
            raise
        errors = self.everywhere(_describe(error, self.rank))
        first = next((e for e in errors if e is not None), None)
        if first is not None:
            raise first from error
        return result

    def everywhere(self, value) -> list:
        """The values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        self._wait_politely()
        return self._comm.allgather(value)

    def exchange(self, outgoing: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
        """Send arrays to ranks: `outgoing[r]` goes to rank r; returns what came from each rank, in order.

        What a rank has for itself is handed over as it is. Memory that one rank lacks is an error on all.
        """
        if self.size == 1:
            return [outgoing[0]]
        outgoing = self.together(lambda: [[np.ascontiguousarray(a) for a in arrays] for arrays in outgoing])
        self._wait_politely()
        described = self._comm.alltoall([[(a.shape, a.dtype.str) for a in arrays] for arrays in outgoing])
        incoming = self.together(lambda: [[np.empty(shape, np.dtype(kind)) for shape, kind in arrays] for arrays in described])
        requests = []
        for other in range(self.size):
            if other == self.rank:
                continue
            requests += [self._comm.Irecv(part, other, PART_TAG) for a in incoming[other] for part in _messages(a)]
            requests += [self._comm.Isend(part, other, PART_TAG) for a in outgoing[other] for part in _messages(a)]
            self.bytes_sent += sum(a.nbytes for a in outgoing[other])
        for request in requests:
            _wait(request)
        incoming[self.rank] = outgoing[self.rank]
        return incoming

    @cached_property
    def neighbours(self) -> tuple[int, int]:
        """(place of this rank among those of its computer, how many those are)."""
        names = self.everywhere(socket.gethostname())
        mine = [rank for rank, name in enumerate(names) if name == names[self.rank]]
        return mine.index(self.rank), len(mine)

    # -- not collective ----------------------------------------------------------------------

    def request_stop(self) -> None:
        """Let `stop_requested` be true on every rank, soon."""
        if not self._stopped:
            self._stopped = True
            others = (other for other in range(self.size) if other != self.rank)
            self._stops = [self._comm.isend(None, other, STOP_TAG) for other in others]

    def stop_requested(self) -> bool:
        """Whether a rank has requested a stop since the last `forget_stop`."""
        if not self._stopped and self.size > 1:
            self._stopped = bool(self._comm.iprobe(tag=STOP_TAG))
        return self._stopped

    def forget_stop(self) -> None:
        """Begin anew (collective): what was requested before does not count any more."""
        self.everywhere(None)
        while self.size > 1 and self._comm.iprobe(tag=STOP_TAG):
            self._comm.recv(tag=STOP_TAG)
        self.everywhere(None)
        self._stopped = False

    def _wait_politely(self) -> None:
        """A barrier that does not spin."""
        _wait(self._comm.Ibarrier())


def _wait(request) -> None:
    """Until a request is done, asleep most of the time."""
    pause = FIRST_WAIT
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_WAIT)


def _messages(array: np.ndarray) -> list[np.ndarray]:
    """The bytes of an array in parts that MPI can send."""
    flat = array.reshape(-1).view(np.uint8)
    return [flat[first : first + MESSAGE_BYTES] for first in range(0, flat.size, MESSAGE_BYTES)]


def _describe(error: Exception | None, rank: int) -> Exception | None:
    """An error that can be sent, with its rank: ours by class, others by type and text."""
    if error is None:
        return None
    if isinstance(error, ApmgsrnError):
        described = type(error)(str(error))
        described.args = (f"{error}" if rank == 0 else f"rank {rank}: {error}",)
        if isinstance(error, TorchError):
            described.problem = error.problem
        return described
    return ApmgsrnError(f"rank {rank}: {type(error).__name__}: {error}")
