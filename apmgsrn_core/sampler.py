"""Which points a training step sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .config import TrainConfig
from .field_data import FieldData

ERROR_DECAY = 0.98  # of the running error of a block, per step
CHECK_SEED = 20240101  # of the values on which a PSNR is measured


@dataclass(frozen=True)
class Batch:
    """Points (n, 3) normalised float32, targets (n, components) in [0, 1], weights (n, 1), block of each point (n,).

    A target that is not finite has weight 0 and value 0.
    """

    points: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    blocks: np.ndarray

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.points.to(device), self.targets.to(device), self.weights.to(device), self.blocks)


class Sampler:
    """Draws batches, uniformly and where the error is large, so that the weighted loss is unbiased.

    A position is drawn in the unit cube: uniformly, or (a share `importance_fraction` of the batch, once
    `importance_start` is reached) in a block b of a lattice of blocks with probability p_b ~ sqrt(mean squared error
    of the block). Each point's loss is divided by its density (1 - f) + f * p_b * blocks, so that the expectation is
    the mean over the volume whatever p is.

    Args:
        data: What is trained.
        config: Resolved.
        generator: A CPU generator.
    """

    def __init__(self, data: FieldData, config: TrainConfig, generator: torch.Generator):
        self._data = data
        self._config = config
        self._generator = generator
        self._blocks = np.array([min(config.importance_blocks, n) for n in data.dims])
        count = int(self._blocks.prod())
        self._error = np.zeros(count)
        self._seen = np.zeros(count)
        self._probability: np.ndarray | None = None

    def draw(self) -> Batch:
        """The next batch."""
        count = self._config.batch_size
        unit = torch.rand(count, 3, generator=self._generator, dtype=torch.float64).numpy()
        if self._probability is not None:
            self._move_to_blocks(unit[: int(count * self._config.importance_fraction)])
        cells = np.minimum((unit * self._blocks).astype(np.int64), self._blocks - 1)
        blocks = (cells[:, 2] * self._blocks[1] + cells[:, 1]) * self._blocks[0] + cells[:, 0]
        place = self._interpolated if self._config.positions == "continuous" else self._at_values
        return self._batch(*place(unit), self._weights(blocks), blocks)

    def draw_uniform(self, count: int) -> Batch:
        """`count` of the data's own values, drawn apart from the batches: always the same ones."""
        generator = torch.Generator().manual_seed(CHECK_SEED)
        unit = torch.rand(count, 3, generator=generator, dtype=torch.float64).numpy()
        return self._batch(*self._at_values(unit), np.ones(count), np.zeros(count, dtype=np.int64))

    def _batch(self, points: np.ndarray, targets: np.ndarray, weights: np.ndarray, blocks: np.ndarray) -> Batch:
        bad = ~np.isfinite(targets).all(axis=1)
        if bad.any():
            targets[bad], weights[bad] = 0.0, 0.0
        arrays = (points.astype(np.float32), targets, weights.astype(np.float32)[:, None])
        return Batch(*(torch.from_numpy(a) for a in arrays), blocks)

    def report(self, iteration: int, batch: Batch, squared_error: np.ndarray) -> None:
        """Learn where the error is large: (n,) mean squared error of each point of the batch."""
        config = self._config
        if not config.importance_fraction or iteration < config.importance_start // 2:
            return
        valid = batch.weights[:, 0].numpy() > 0
        size = len(self._error)
        self._error = self._error * ERROR_DECAY + np.bincount(batch.blocks[valid], squared_error[valid], size)
        self._seen = self._seen * ERROR_DECAY + np.bincount(batch.blocks[valid], minlength=size)
        if iteration >= config.importance_start and iteration % config.importance_refresh == 0:
            root = np.sqrt(self._error / (self._seen + 1e-9) + 1e-12)
            self._probability = root / root.sum()

    def _move_to_blocks(self, unit: np.ndarray) -> None:
        """Move uniform positions, in place, into blocks drawn by their probability."""
        draw = torch.rand(len(unit), generator=self._generator, dtype=torch.float64).numpy()
        block = np.searchsorted(np.cumsum(self._probability), draw).clip(0, len(self._probability) - 1)
        bx, by, _ = self._blocks
        corner = np.stack([block % bx, block // bx % by, block // (bx * by)], axis=1)
        unit[:] = (corner + unit) / self._blocks

    def _weights(self, blocks: np.ndarray) -> np.ndarray:
        if self._probability is None:
            return np.ones(len(blocks))
        drawn = int(len(blocks) * self._config.importance_fraction) / len(blocks)
        return 1.0 / ((1.0 - drawn) + drawn * self._probability[blocks] * len(self._probability))

    def _at_values(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The data's own points."""
        dims = np.array(self._data.dims)
        index = np.minimum((unit * dims).astype(np.int64), dims - 1)
        points = np.stack([self._data.grid.value_to_normalised(a, index[:, a]) for a in range(3)], axis=1)
        return points, self._data.take(*index.T)

    def _interpolated(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Any position between the first and the last value, its target interpolated trilinearly."""
        last = np.array(self._data.dims) - 1
        position = unit * last
        low = np.minimum(position.astype(np.int64), np.maximum(last - 1, 0))
        high = np.minimum(low + 1, last)
        fraction = position - low
        targets = 0.0
        for corner in range(8):
            upper = np.array([corner & 1, corner >> 1 & 1, corner >> 2 & 1], dtype=bool)
            weight = np.where(upper, fraction, 1.0 - fraction).prod(axis=1)[:, None]
            values = self._data.take(*np.where(upper, high, low).T)
            targets = targets + np.where(weight > 0, weight * values, 0.0)
        points = np.stack([self._data.grid.value_to_normalised(a, position[:, a]) for a in range(3)], axis=1)
        return points, targets.astype(np.float32)
