"""Batches of scattered samples: the statistics of `sampler.Sampler` on any device, without a wait for it in any step.

The blocks of the error map are nodes of the data's k-d tree, all with about equally many samples: where the samples are
dense, as in the refined levels of an AMR mesh, blocks are small.
"""

from __future__ import annotations

import torch

from ..data.scattered_data import ScatteredData
from .device_sampler import MOST_POINTS_AHEAD, MOST_STEPS_AHEAD, DeviceBatch
from .sampler import CHECK_SEED, ERROR_DECAY, ERROR_POWER
from .train_config import TrainConfig

PICKS = 1 << 16  # parts of the probability that blocks get; those without one are drawn with the uniform share only


class ScatteredSampler:
    """Draws batches, uniformly and where the error is large, so that the weighted loss is unbiased over the samples.

    A sample is drawn uniformly, or (a share f = `importance_fraction` of the batch, once `importance_start` is reached) in a block
    b with probability p_b ~ size_b * (mean squared error of the block)^ERROR_POWER. Each sample's loss is divided by its
    density (1 - f) + f * p_b / size_b, sizes being shares of all samples. The batches of a few steps are drawn together; the
    error map lags behind by so much.

    Args:
        data: What is trained; on a CPU its memory is used, another device gets a copy.
        config: Resolved. Of `importance_blocks`, the cube is the number of blocks, at most that of the tree's leaves.
        seed: Of all that is drawn; the same on the same kind of device gives the same batches.
        device: Where the batches are.
    """

    def __init__(self, data: ScatteredData, config: TrainConfig, seed: int, device):
        self._device, self._config = torch.device(device), config
        self._samples = torch.from_numpy(data.samples).to(self._device)
        self._count = len(data)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._level = min(data.depth, (config.importance_blocks**3).bit_length() - 1)
        self._error, self._seen = (self._new_map() for _ in range(2))
        self._root = self._new_map() + 1.0
        self._importance = False
        self._map_blocks()
        self._ahead: list[DeviceBatch] = []
        self._steps_ahead = max(1, min(MOST_STEPS_AHEAD, MOST_POINTS_AHEAD // config.batch_size))

    def draw(self) -> DeviceBatch:
        """The next batch."""
        if not self._ahead:
            self._ahead = self._drawn(self._steps_ahead)[::-1]
        return self._ahead.pop()

    def _drawn(self, steps: int) -> list[DeviceBatch]:
        """Batches of several steps at once: so the host launches little in each."""
        size = self._config.batch_size
        moved = int(size * self._config.importance_fraction) if self._importance else 0
        rows = torch.randint(self._count, (steps, size - moved), generator=self._generator, device=self._device)
        blocks = self._blocks_of(rows)
        if moved:
            pairs = zip((rows, blocks), self._in_blocks(steps, moved))
            rows, blocks = (torch.cat(pair, dim=1) for pair in pairs)
        rows, blocks = rows.view(-1), blocks.view(-1)
        share = moved / size
        weights = 1.0 / ((1.0 - share) + share * self._density[blocks]) if moved else torch.ones_like(rows)
        return [DeviceBatch(*batch) for batch in zip(*(t.split(size) for t in self._gather(rows, weights, blocks)))]

    def _gather(self, rows: torch.Tensor, weights: torch.Tensor, blocks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What a batch holds, of these rows."""
        samples = self._samples.index_select(0, rows)
        return samples[:, :3].contiguous(), samples[:, 3:].contiguous(), weights.float()[:, None], blocks

    def _in_blocks(self, steps: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(steps, count) rows and their blocks: blocks by their probability, rows uniform in them.

        The i-th pick of a step falls into the i-th of `count` equal parts of the probability: less noise than with picks that
        do not know of each other, and neighbours in a batch are neighbours in memory.
        """
        options = {"generator": self._generator, "device": self._device, "dtype": torch.float64}
        picks = (torch.arange(count, device=self._device) + torch.rand(steps, count, **options)) * (PICKS / count)
        block = self._picks[picks.long().clamp_(max=PICKS - 1)]
        start, stop = block * self._count >> self._level, (block + 1) * self._count >> self._level
        inside = (torch.rand(steps, count, **options) * (stop - start)).long()
        return torch.minimum(start + inside, stop - 1), block

    def _blocks_of(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) the largest block whose first row is not after the row."""
        return (((rows + 1) << self._level) - 1) // self._count

    def draw_uniform(self, count: int) -> DeviceBatch:
        """`count` samples drawn apart from the batches, always the same ones; all of them when there are no more."""
        if count < self._count:
            generator = torch.Generator().manual_seed(CHECK_SEED)
            rows = torch.randint(self._count, (count,), generator=generator).to(self._device)
        else:
            rows = torch.arange(self._count, device=self._device)
        return DeviceBatch(*self._gather(rows, torch.ones_like(rows), self._blocks_of(rows)))

    def report(self, iteration: int, batch: DeviceBatch, squared_error: torch.Tensor) -> None:
        """Learn where the error is large: (n,) mean squared error of each sample of the batch."""
        config = self._config
        if not config.importance_fraction or iteration < config.importance_start // 2:
            return
        squared_error = squared_error.to(self._device, torch.float64).nan_to_num(0.0, 0.0, 0.0)  # of a step that is taken back later
        self._error.mul_(ERROR_DECAY).index_add_(0, batch.blocks, squared_error)
        self._seen.mul_(ERROR_DECAY).index_add_(0, batch.blocks, torch.ones_like(squared_error))
        if iteration >= config.importance_start and iteration % config.importance_refresh == 0:
            self._root = (self._error / (self._seen + 1e-9) + 1e-12) ** ERROR_POWER
            self._importance = True
            self._map_blocks()

    def state(self) -> dict:
        """For a checkpoint, on the device; batches that are drawn ahead are in it."""
        return {
            "generator": self._generator.get_state(), "error": self._error, "seen": self._seen, "root": self._root,
            "importance": self._importance, "ahead": {str(i): dict(vars(b)) for i, b in enumerate(self._ahead)},
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state` of the same data, settings and kind of device."""
        self._generator.set_state(state["generator"])
        for name in ("error", "seen", "root"):
            setattr(self, f"_{name}", state[name].to(self._device, copy=True))
        self._importance = state["importance"]
        self._map_blocks()
        batches = ({k: t.to(self._device, copy=True) for k, t in b.items()} for b in state["ahead"].values())
        self._ahead = [DeviceBatch(**batch) for batch in batches]

    def _new_map(self) -> torch.Tensor:
        return torch.zeros(1 << self._level, dtype=torch.float64, device=self._device)

    def _map_blocks(self) -> None:
        """Probabilities of the blocks, in whole PICKS-ths, and how much more likely than uniform their samples are.

        Looking a block up in a table of PICKS entries is several times faster than searching the cumulated probabilities.
        """
        blocks = torch.arange(len(self._root) + 1, device=self._device)
        size = ((blocks[1:] * self._count >> self._level) - (blocks[:-1] * self._count >> self._level)).double()
        wanted = (size * self._root).cumsum(0)
        last = (wanted / wanted[-1] * PICKS).round().long()
        picks = last - torch.nn.functional.pad(last[:-1], (1, 0))
        self._picks = torch.repeat_interleave(blocks[:-1], picks, output_size=PICKS)
        self._density = picks / size * (self._count / PICKS)
