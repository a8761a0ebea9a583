"""The networks of a model's bricks: read when needed, kept as long as there is room, on one or several devices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ..file.manifest import ArrayInfo
from ..kernels import kernel_for
from ..kernels.memory import is_short, shortage
from ..kernels.threads import thread_count
from ..network.model import Network
from ..residual.bounded_kernel import BoundedKernel
from ..residual.residual_blocks import ResidualBlocks

MOST_BYTES = 2 << 30  # of the networks on one device and what kernels keep for them
ROW_BYTES = 4 * 256  # one number a point, of the points that a CPU kernel computes at a time
AHEAD = 3  # tasks that wait for their turn on each of several devices


@dataclass(frozen=True)
class HeldNetwork:
    """A network on its device, the kernel that evaluates it, and the memory of both in bytes."""

    network: Network
    kernel: object
    byte_count: int


class BrickNetworks:
    """The networks of bricks on one device. Of those kept the least recently used one goes first.

    Threads may share it.

    Args:
        read: brick -> its network, a new one at each call (it is moved to the device) or one that is there already.
        device: Where the networks are kept.
        precision: Of the kernels, see `kernels.choose`.
        most_bytes: That those kept may take; the last one used is kept in any case. None: MOST_BYTES.
        read_residual: brick -> what its network leaves of the data, or None; None: there are none.
        arrays: That the networks put out; needed with residuals.
    """

    def __init__(
        self, read: Callable[[int], Network], device, precision: str = "full", most_bytes: int | None = None,
        read_residual: Callable[[int], ResidualBlocks | None] | None = None, arrays: Sequence[ArrayInfo] = (),
    ):  # fmt: skip
        self.device = torch.device(device)
        self._read, self._precision = read, precision
        self._most_bytes = MOST_BYTES if most_bytes is None else most_bytes
        self._read_residual, self._arrays = read_residual, arrays
        self._held: OrderedDict[int, HeldNetwork] = OrderedDict()
        self._in_use = threading.Lock()
        self.byte_count = 0

    def __len__(self) -> int:
        """Networks kept."""
        return len(self._held)

    def get(self, brick: int) -> HeldNetwork:
        """The network of a brick, read unless it is kept. Raises what `read` does."""
        with self._in_use:
            held = self._held.pop(brick, None)
            if held is None:
                held = self._new(brick)
                self.byte_count += held.byte_count
            self._held[brick] = held
            while self.byte_count > self._most_bytes and len(self._held) > 1:
                self.byte_count -= self._held.popitem(last=False)[1].byte_count
            return held

    def _new(self, brick: int) -> HeldNetwork:
        """A network that is not kept; where memory is short for it, those kept go first."""
        try:
            return self._hold(brick, self._read(brick).to(self.device))
        except Exception as error:
            if not is_short(error):
                raise
            short = error
        if not self._held:
            raise shortage(short, f"brick {brick}: expected memory for its network on {self.device}")
        self._held.clear()
        self.byte_count = 0
        return self._new(brick)

    def _hold(self, brick: int, network: Network) -> HeldNetwork:
        byte_count = 4 * sum(p.numel() for p in network.parameters())
        if self.device.type == "cpu":  # the native kernel has the numbers once more, and rows that each thread works in
            widths = [network.table.columns, *(layer.out_features for layer in network.layers)]
            byte_count += byte_count + thread_count() * ROW_BYTES * (2 * widths[0] + 3 * sum(widths[1:]))
        kernel = kernel_for(network, self._precision)
        residual = None if self._read_residual is None else self._read_residual(brick)
        if residual is None:
            return HeldNetwork(network, kernel, byte_count)
        return HeldNetwork(network, BoundedKernel(kernel, residual, self._arrays), byte_count + residual.byte_count)


Task = tuple[int, Callable[[], object]]  # the number of its device, and the work


def in_order(tasks: Iterable[Task], devices: Sequence) -> Iterator:
    """Do tasks, those of each of several devices in a thread of its own, and yield their results in the tasks' order.

    A few tasks are begun before the results of earlier ones are taken. When one fails, or the caller takes no more,
    those that were not begun are dropped.
    """
    if len(devices) == 1:
        yield from (work() for _, work in tasks)
        return
    workers = [ThreadPoolExecutor(1) for _ in devices]
    try:
        waiting = []
        for device, work in tasks:
            waiting.append(workers[device].submit(work))
            if len(waiting) > AHEAD * len(devices):
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
    finally:
        for worker in workers:
            worker.shutdown(cancel_futures=True)
