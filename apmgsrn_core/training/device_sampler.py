"""Batches drawn on the device: the statistics of `sampler.Sampler` without a wait for the device in any step.

The volume is cut into bricks. What fits into the memory budget is one brick and stays. Otherwise as many bricks as fit
are resident (`resident_bricks`), batches come from those, and every few steps the oldest gives way to the next one, in
a fixed random order. Within one residency the training sees only a part of the volume, the same for a while: steps
near each other are correlated, and a batch says nothing about the other bricks. Over a whole round every value is
equally likely; weights make up for bricks of unequal sizes, so that the expectation over the rounds is the mean over
the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..bricks.resident_bricks import ResidentBricks
from ..data.field_data import FieldData
from ..errors import ConfigError
from .sampler import ERROR_DECAY, ERROR_POWER, Sampler
from .train_config import TrainConfig

FREE_MEMORY_SHARE = 0.5  # of a CUDA device, for the data
RESTORED_MEMORY_SHARE = 0.8  # the same, when a checkpoint says which part of the data it must hold
MOST_STEPS_AHEAD = 16  # drawn at once; so far the error map lags behind
MOST_POINTS_AHEAD = 1 << 18


@dataclass(frozen=True)
class DeviceBatch:
    """`sampler.Batch` with everything on the device.

    Points (n, 3) normalised float32, targets (n, components), weights (n, 1), error block of each point (n,) int64.
    """

    points: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    blocks: torch.Tensor

    def to(self, device: torch.device) -> "DeviceBatch":
        """The same batch on a device; itself where it is there already."""
        return self if self.points.device == device else DeviceBatch(*(t.to(device) for t in vars(self).values()))


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that are free, those that torch only keeps for later included: a brick is trained alike whatever was
    trained before it."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class DeviceSampler:
    """Draws batches, uniformly and where the error is large, so that the weighted loss is unbiased.

    The error map has blocks inside of each brick; with one brick they are those of `Sampler`. A share f of the batch is
    drawn in a block with probability ~ size * (mean squared error)^ERROR_POWER, among the resident ones. The batches of a few
    steps are drawn together.

    Args:
        data: What is trained; stays on the host, a copy of all or a part of it goes to the device in its own type.
        config: Resolved.
        seed: Of all that is drawn; the same on the same kind of device gives the same batches.
        device: Where the batches are.
        budget_bytes: Memory for the data on the device; None: half of what is free on a CUDA device, all on a CPU.

    Raises:
        ConfigError: The budget is too small for even the smallest bricks.
    """

    def __init__(self, data: FieldData, config: TrainConfig, seed: int, device, budget_bytes: int | None = None):
        self._device = torch.device(device)
        self._data, self._config = data, config
        self._seed = seed
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._last = torch.tensor(data.dims, dtype=torch.float64, device=self._device) - 1
        if budget_bytes is None and self._device.type == "cuda":
            budget_bytes = int(free_memory(self._device) * FREE_MEMORY_SHARE)
        self._set_up(budget_bytes)

    def _set_up(self, budget_bytes: int | None) -> None:
        """Cut the volume into bricks, of which nothing is known."""
        data, config = self._data, self._config
        continuous = config.positions == "continuous"
        self.bricks = ResidentBricks(data, continuous, config.iterations, self._seed, self._device, budget_bytes)
        parts, smallest = self.bricks.parts, self.bricks.smallest
        self._blocks = [max(1, min(config.importance_blocks // p, n)) for p, n in zip(parts, smallest)]
        self._per_brick = self._blocks[0] * self._blocks[1] * self._blocks[2]
        count = self.bricks.count * self._per_brick
        new = lambda value: torch.full((count,), value, dtype=torch.float64, device=self._device)  # noqa: E731
        self._error, self._seen, self._root = new(0.0), new(0.0), new(1.0)
        self._blocks_xyz = torch.tensor(self._blocks, dtype=torch.float64, device=self._device)
        self._importance = False
        self._map_resident()
        self._ahead: list[DeviceBatch] = []
        most = min(MOST_STEPS_AHEAD, MOST_POINTS_AHEAD // config.batch_size, self.bricks.steps_between)
        self._steps_ahead = max(1, most)

    def draw(self) -> DeviceBatch:
        """The next batch. Brings in the next brick first when one is due."""
        if not self._ahead:
            if self.bricks.advance(self._steps_ahead):
                self._map_resident()
            self._ahead = self._drawn(self._steps_ahead)[::-1]
        return self._ahead.pop()

    def _drawn(self, steps: int) -> list[DeviceBatch]:
        """Batches of several steps at once: so the host launches little in each."""
        count = self._config.batch_size
        moved = int(count * self._config.importance_fraction) if self._importance else 0
        slot, unit, block = self._uniform(steps * (count - moved))
        weights = self.bricks.correction.expand(steps * count)
        if moved:
            parts = zip(self._in_blocks(steps * moved), (slot, unit, block))
            slot, unit, block = (
                torch.cat([t.view(steps, -1, *t.shape[1:]) for t in pair], dim=1).flatten(0, 1) for pair in parts
            )
            share = moved / count
            weights = weights / ((1.0 - share) + share * self._density[slot * self._per_brick + block])
        place = self._interpolated if self._config.positions == "continuous" else self._at_values
        points, targets = place(slot, unit)
        good = torch.isfinite(targets).all(dim=1, keepdim=True)
        weights = torch.where(good[:, 0], weights, 0.0).float()[:, None]
        blocks = self.bricks.slots[slot] * self._per_brick + block
        tensors = (points, torch.where(good, targets, 0.0), weights, blocks)
        return [DeviceBatch(*batch) for batch in zip(*(t.split(count) for t in tensors))]

    def _uniform(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Slots (n,), positions in their bricks (n, 3) in [0, 1) and blocks there (n,), uniform in what is resident."""
        slot = torch.searchsorted(self._cumulative_size, self._random(count)).clamp_(max=self.bricks.resident - 1)
        unit = self._random(count, 3)
        cell = torch.minimum((unit * self._blocks_xyz).long(), self._blocks_xyz.long() - 1)
        return slot, unit, (cell[:, 2] * self._blocks[1] + cell[:, 1]) * self._blocks[0] + cell[:, 0]

    def _in_blocks(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same, in blocks by their probability."""
        picked = torch.searchsorted(self._cumulative, self._random(count)).clamp_(max=len(self._cumulative) - 1)
        block = picked % self._per_brick
        bx, by, _ = self._blocks
        corner = torch.stack((block % bx, block // bx % by, block // (bx * by)), dim=1)
        return picked // self._per_brick, (corner + self._random(count, 3)) / self._blocks_xyz, block

    def draw_uniform(self, count: int) -> DeviceBatch:
        """`count` of the whole data's own values, always the same ones and those of `Sampler`; from the host."""
        batch = Sampler(self._data, self._config, torch.Generator()).draw_uniform(count)
        blocks = torch.zeros(count, dtype=torch.int64, device=self._device)
        return DeviceBatch(*(t.to(self._device) for t in (batch.points, batch.targets, batch.weights)), blocks)

    def report(self, iteration: int, batch: DeviceBatch, squared_error: torch.Tensor) -> None:
        """Learn where the error is large: (n,) mean squared error of each point of the batch, on the device.

        What is not resident keeps what was learnt of it.
        """
        config = self._config
        if not config.importance_fraction or iteration < config.importance_start // 2:
            return
        valid = batch.weights[:, 0] > 0
        decay = torch.where(self.bricks.is_resident, ERROR_DECAY, 1.0).double().repeat_interleave(self._per_brick)
        self._error.mul_(decay).index_add_(0, batch.blocks, torch.where(valid, squared_error.double(), 0.0))
        self._seen.mul_(decay).index_add_(0, batch.blocks, valid.double())
        if iteration >= config.importance_start and iteration % config.importance_refresh == 0:
            self._root = (self._error / (self._seen + 1e-9) + 1e-12) ** ERROR_POWER
            self._importance = True
            self._map_resident()

    def state(self) -> dict:
        """For a checkpoint, on the device; batches that are drawn ahead are in it."""
        return {
            "generator": self._generator.get_state(), "budget_bytes": self.bricks.budget_bytes,
            "bricks": self.bricks.state(), "error": self._error, "seen": self._seen, "root": self._root,
            "importance": self._importance, "ahead": {str(i): dict(vars(b)) for i, b in enumerate(self._ahead)},
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state` of the same data, settings, seed and kind of device, with the bricks that it had.

        Raises:
            ConfigError: The device has no room for them any more; nothing is changed.
        """
        if state["budget_bytes"] != self.bricks.budget_bytes:
            self._check_room(state["budget_bytes"])
            del self.bricks  # its memory, before more is asked for
            self._set_up(state["budget_bytes"])
        self.bricks.restore(state["bricks"])
        self._generator.set_state(state["generator"])
        for name in ("error", "seen", "root"):
            setattr(self, f"_{name}", state[name].to(self._device, copy=True))
        self._importance = state["importance"]
        self._map_resident()
        batches = ({k: t.to(self._device, copy=True) for k, t in b.items()} for b in state["ahead"].values())
        self._ahead = [DeviceBatch(**batch) for batch in batches]

    def _check_room(self, budget_bytes: int | None) -> None:
        """ConfigError when a CUDA device has not so much memory left; None: for all."""
        if self._device.type != "cuda":
            return
        needed = self._data.values.nbytes if budget_bytes is None else budget_bytes
        free = free_memory(self._device)
        if needed > free * RESTORED_MEMORY_SHARE:
            raise ConfigError(f"memory of {self._device}: expected {needed} bytes for the data, found {free} free")

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self._generator, dtype=torch.float64, device=self._device)

    def _map_resident(self) -> None:
        """Probabilities of the resident bricks, and of the blocks in them."""
        size = self.bricks.sizes[self.bricks.slots]
        size = size / size.sum()
        self._cumulative_size = size.cumsum(0)
        root = self._root.view(-1, self._per_brick)[self.bricks.slots]
        block_size = (size / self._per_brick)[:, None]
        probability = block_size * root
        self._density = (root / probability.sum()).reshape(-1)  # probability / size, relative to uniform
        self._cumulative = (probability / probability.sum()).reshape(-1).cumsum(0)

    def _at_values(self, slot: torch.Tensor, unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The data's own points: slots (n,), positions in their bricks (n, 3) in [0, 1)."""
        first, extent = self.bricks.box(slot)
        index = torch.minimum((unit * extent).long(), (extent - 1).long())
        return self._normalised(first + index), self.bricks.take(slot, index)

    def _interpolated(self, slot: torch.Tensor, unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Any position in the bricks, its target interpolated trilinearly."""
        first, extent = self.bricks.box(slot)
        position = unit * extent
        last = self._last - first  # the volume's, counted in this brick
        low = torch.minimum(position.long(), (torch.minimum(extent, last) - 1).clamp(min=0).long())
        high = torch.minimum(low + 1, last.long())
        fraction = position - low
        targets = 0.0
        for corner in range(8):
            upper = [bool(corner >> axis & 1) for axis in range(3)]
            sides = [(fraction if up else 1.0 - fraction)[:, axis] for axis, up in enumerate(upper)]
            weight = (sides[0] * sides[1] * sides[2])[:, None]
            index = torch.stack([(high if up else low)[:, axis] for axis, up in enumerate(upper)], dim=1)
            targets = targets + torch.where(weight > 0, weight * self.bricks.take(slot, index), 0.0)
        return self._normalised(first + position), targets.float()

    def _normalised(self, position: torch.Tensor) -> torch.Tensor:
        """Positions counted in values, (n, 3) -> normalised float32; 0 on an axis with one value."""
        scale = torch.where(self._last > 0, 2.0 / self._last.clamp(min=1), 0.0)
        return (position * scale - (self._last > 0).double()).float()
