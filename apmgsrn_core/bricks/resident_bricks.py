"""Which part of a volume is on the device, and how the rest comes there in turn."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..data.field_data import FieldData
from ..errors import ConfigError

MOST_BRICK_BYTES = 1 << 21  # of a streamed brick: what a copy between two steps may take
LEAST_SLOTS = 8  # bricks that are resident at least
ROUNDS = 2  # times that everything should come by in a training
LEAST_SWAPS = 1 / 8  # bricks replaced in a step, at least
LEAST_STEPS = 4  # that a brick is resident
UNSIGNED = {"uint16": "int16", "uint32": "int32", "uint64": "int64"}  # torch reads them by their signed twins


class ResidentBricks:
    """Bricks of a volume in slots on the device, replaced one after the other.

    A brick holds its own values and one more on each axis, where there is one, for positions between two bricks.

    Args:
        data: The volume, on the host.
        continuous: Whether a brick's size counts positions (between values) or values.
        iterations: Steps planned: how fast bricks are replaced.
        seed: Of the order.
        device: Of the slots.
        budget_bytes: Of the slots together; None: no limit.

    Attributes:
        parts: Bricks along x, y, z.
        smallest: Values along x, y, z of the smallest brick.
        count: All bricks.
        resident: Slots that are drawn from.
        slots: (resident,) int64, brick in each slot.
        sizes: (count,) float64, share of each brick in the volume (their sum is 1).
        is_resident: (count,) bool.
        correction: () float64, resident share of the volume over its mean: the weight of a uniform draw.

    Raises:
        ConfigError: The budget is too small.
    """

    def __init__(self, data: FieldData, continuous: bool, iterations: int, seed: int, device, budget_bytes: int | None):
        self._data, self._device = data, torch.device(device)
        dtype = data.values.dtype
        self._host_type = np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
        self.parts = self._cut(budget_bytes)
        self.count = math.prod(self.parts)
        self._edges = [np.linspace(0, n, p + 1).astype(np.int64) for n, p in zip(data.dims, self.parts)]
        self._brick_shape = self._largest(self.parts)
        self.smallest = tuple(int(np.diff(e).min()) for e in self._edges)
        spare = self.count > 1
        self.resident = 1 if not spare else min(budget_bytes // self._bytes(self.parts) - 1, self.count - 1)
        order = np.random.default_rng(seed).permutation(self.count)
        self._queue = [int(b) for b in order]
        self._active = list(range(self.resident))  # slot of the store behind each index of `slots`
        self._spare = self.resident
        self._oldest, self._next, self._step = 0, self.resident % self.count, 0
        wanted = ROUNDS * (self.count - self.resident) / max(iterations, 1)
        self._rate = min(max(LEAST_SWAPS, wanted), self.resident / LEAST_STEPS) if spare else 0.0
        self._make_tables(continuous)
        self._make_store(spare)

    @property
    def steps_between(self) -> int:
        """Steps between two replacements, at least 1."""
        return max(1, int(1 / self._rate)) if self._rate else 2**31

    def advance(self, steps: int) -> bool:
        """So many steps further; True when the resident bricks have changed."""
        due = int((self._step + steps) * self._rate) - int(self._step * self._rate)
        self._step += steps
        for _ in range(due):
            self._swap()
        return due > 0

    @property
    def budget_bytes(self) -> int | None:
        """The least budget that cuts the volume like this; None: one brick holds it all."""
        return self._store.nbytes if self.count > 1 else None

    def state(self) -> dict:
        """For a checkpoint: how far the round is. The values are not in it."""
        return {"step": self._step, "oldest": self._oldest, "next": self._next, "bricks": list(self._bricks)}

    def restore(self, state: dict) -> None:
        """Go on from a `state` of the same volume, seed and cut. Waits for the device."""
        self._step = state["step"]
        if self.count == 1:
            return
        self._oldest, self._next = state["oldest"], state["next"]
        if self._copied is not None:
            self._copied.synchronize()  # the staging memory is free
        self._bring_in(list(state["bricks"]))

    def box(self, slot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First value and extent, in what sizes count, of the bricks in slots (n,): (n, 3) float64 each."""
        brick = self.slots[slot]
        return self._first[brick], self._extent[brick]

    def take(self, slot: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """(n, components) float32 values at indices (n, 3) (x, y, z) in the bricks of slots (n,).

        0 and 1 are the data's range; NaN where the data is not finite.
        """
        x, y, z = index.unbind(1)
        depth, height, width = self._brick_shape
        flat = ((self._place[slot] * depth + z) * height + y) * width + x
        scaled = self._doubles(self._store.view(-1, self._data.components)[flat]) - self._data.minimum
        scaled = scaled / self._data.span if self._data.span else scaled * 0.0
        return torch.where(torch.isfinite(scaled), scaled, torch.nan).float()

    def _doubles(self, values: torch.Tensor) -> torch.Tensor:
        """In float64, rounded once; unsigned numbers come as their signed twins."""
        if self._host_type.name not in UNSIGNED:
            return values.double()
        if self._host_type.itemsize < 8:
            return (values.long() & (2 ** (8 * self._host_type.itemsize) - 1)).double()
        return (values >> 32 & 0xFFFFFFFF).double() * 2.0**32 + (values & 0xFFFFFFFF).double()

    def _bytes(self, parts: tuple[int, ...]) -> int:
        return math.prod(self._largest(parts)) * self._data.components * self._host_type.itemsize

    def _largest(self, parts: tuple[int, ...]) -> tuple[int, int, int]:
        """Values along z, y, x of a slot."""
        return tuple(-(-n // p) + (p > 1) for n, p in zip(self._data.dims, parts))[::-1]

    def _cut(self, budget: int | None) -> tuple[int, int, int]:
        """Bricks along x, y, z: one when all fits, else as few as the limits allow."""
        parts = (1, 1, 1)
        if budget is None or self._bytes(parts) <= budget:
            return parts
        while (LEAST_SLOTS + 1) * self._bytes(parts) > budget or self._bytes(parts) > MOST_BRICK_BYTES:
            extents = [n / p for n, p in zip(self._data.dims, parts)]
            axis = int(np.argmax(extents))
            if extents[axis] < 4:
                least = (LEAST_SLOTS + 1) * self._bytes(parts)
                bricks = f"{LEAST_SLOTS + 1} bricks"
                raise ConfigError(f"budget_bytes: expected at least {least} for {bricks}, found {budget}")
            parts = tuple(p + (a == axis) for a, p in enumerate(parts))
        return parts

    def _make_tables(self, continuous: bool) -> None:
        """First value, extent and size of each brick, x fastest."""
        first, extent = [], []
        for edges, n in zip(self._edges, self._data.dims):
            stops = np.minimum(edges[1:], n - 1) if continuous and n > 1 else edges[1:]
            first.append(edges[:-1])
            extent.append(stops - edges[:-1])
        first, extent = (
            np.stack([a.ravel() for a in np.meshgrid(*axes[::-1], indexing="ij")][::-1], axis=1)
            for axes in (first, extent)
        )
        place = lambda array: torch.from_numpy(array.astype(np.float64)).to(self._device)  # noqa: E731
        self._first, self._extent = place(first), place(extent)
        sizes = extent.prod(axis=1).astype(np.float64)
        self._host_sizes = sizes / sizes.sum()
        self.sizes = place(self._host_sizes)

    def _make_store(self, spare: bool) -> None:
        """Fill the slots."""
        name = self._host_type.name
        dtype = getattr(torch, UNSIGNED.get(name, name))
        shape = (*self._brick_shape, self._data.components)
        self._store = torch.empty((self.resident + spare, *shape), dtype=dtype, device=self._device)
        on_cuda = self._device.type == "cuda"
        self._staging = torch.empty(shape if spare else (0,), dtype=dtype, pin_memory=on_cuda and spare)
        self._stream = torch.cuda.Stream(self._device) if on_cuda and spare else None
        self._copied = torch.cuda.Event() if self._stream else None
        if self._stream is not None:
            self._store.record_stream(self._stream)
        self._bricks = self._queue[: self.resident]
        self.slots = torch.tensor(self._bricks, device=self._device)
        self._place = torch.arange(self.resident, device=self._device)
        self.is_resident = torch.ones(self.count, dtype=torch.bool, device=self._device)
        self.correction = torch.ones((), dtype=torch.float64, device=self._device)
        if spare:
            self._bring_in(self._bricks)
        else:
            for z, slab in self._data.slabs():
                self._store[0, z : z + len(slab)].copy_(torch.from_numpy(self._native(slab)))

    def _bring_in(self, bricks: list[int]) -> None:
        """Fill the slots with these bricks and begin to copy the next one. Waits for the device."""
        self._bricks = bricks
        for slot, brick in zip(self._active, bricks):
            self._fill(self._staging.numpy(), brick)
            self._store[slot].copy_(self._staging)
        self.slots.copy_(torch.tensor(bricks))
        self.is_resident.zero_()
        self.is_resident[self.slots] = True
        self._correct()
        self._begin_copy()

    def _native(self, values: np.ndarray) -> np.ndarray:
        """A contiguous copy that torch can read."""
        copy = np.array(values, dtype=self._host_type, order="C")
        return copy.view(UNSIGNED.get(copy.dtype.name, copy.dtype.name))

    def _fill(self, target: np.ndarray, brick: int) -> None:
        """Copy a brick and its overlap to the start of each axis of the target [z, y, x, component]."""
        px, py, _ = self.parts
        ranges = []
        for edges, index, n in zip(self._edges, (brick % px, brick // px % py, brick // (px * py)), self._data.dims):
            ranges.append(slice(int(edges[index]), min(int(edges[index + 1]) + 1, n)))
        source = self._data.values[ranges[2], ranges[1], ranges[0]]
        depth, height, width = source.shape[:3]
        target.view(self._host_type)[:depth, :height, :width] = source

    def _begin_copy(self) -> None:
        """Start bringing the next brick into the spare slot, beside the steps."""
        if self._copied is not None:
            self._copied.synchronize()  # the staging memory is free again: long ago, unless the host is far ahead
        self._fill(self._staging.numpy(), self._queue[self._next])
        if self._stream is None:
            self._store[self._spare].copy_(self._staging)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))  # who reads the spare slot has finished
        with torch.cuda.stream(self._stream):
            self._store[self._spare].copy_(self._staging, non_blocking=True)
            self._copied.record(self._stream)

    def _swap(self) -> None:
        """The brick in the spare slot takes the place of the oldest one."""
        if self._copied is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied)
        index, old, new = self._oldest, self._bricks[self._oldest], self._queue[self._next]
        self._bricks[index] = new
        self._active[index], self._spare = self._spare, self._active[index]
        self.slots[index].fill_(new)
        self._place[index].fill_(self._active[index])
        self.is_resident[old].fill_(False)
        self.is_resident[new].fill_(True)
        self._oldest = (index + 1) % self.resident
        self._next = (self._next + 1) % self.count
        self._correct()
        self._begin_copy()

    def _correct(self) -> None:
        share = self._host_sizes[self._bricks].sum() / (self.resident * self._host_sizes.mean())
        self.correction.fill_(float(share))
