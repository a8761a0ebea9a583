"""Ranks in one process, for tests: each is a thread."""

from __future__ import annotations

import threading

from apmgsrn_core import Communicator


class ThreadCommunicator(Communicator):
    """One of several ranks that exchange by shared memory."""

    def __init__(self, rank: int, slots: list, barrier: threading.Barrier):
        super().__init__()
        self.rank, self.size, self._slots, self._barrier = rank, len(slots), slots, barrier

    def everywhere(self, value) -> list:
        self._slots[self.rank] = value
        self._barrier.wait()
        values = list(self._slots)
        self._barrier.wait()
        return values

    def from_root(self, work):
        return self.everywhere(self.together(work if self.rank == 0 else lambda: None))[0]

    def stop_requested(self) -> bool:
        return False  # no test stops these ranks

    def forget_stop(self) -> None:
        self.everywhere(None)

    def exchange(self, outgoing: list) -> list:
        return [lists[self.rank] for lists in self.everywhere(outgoing)]


def on_ranks(size: int, work) -> list:
    """[work(communicator) of each rank]; a rank that fails ends the others."""
    results, slots, barrier = [None] * size, [None] * size, threading.Barrier(size, timeout=20)

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(rank, slots, barrier))
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
