"""Which points a training step sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..data.field_data import FieldData
from ..kernels import native_batches
from .checkpoint import check_alike
from .train_config import TrainConfig

ERROR_DECAY = 0.98  # of the running error of a block, per step
ERROR_POWER = 0.75  # of a block's error, in the probability of the block
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


def random_numbers(seed: int, first: int, count: int) -> np.ndarray:
    """Random numbers first, first + 1, ... of a seed, (count,) float64, uniform in [0, 1).

    Source: splitmix64 (Steele, Lea and Flood 2014, OOPSLA, figure 14); its upper 53 bits.
    """
    index = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    z = np.uint64(seed) + index * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((z ^ z >> np.uint64(31)) >> np.uint64(11)) * 2.0**-53


class Sampler:
    """Draws batches, uniformly and where the error is large, so that the weighted loss is unbiased.

    A position is drawn in the unit cube: uniformly, or (a share `importance_fraction` of the batch, once
    `importance_start` is reached) in a block b of a lattice of blocks with probability p_b ~ (mean squared error
    of the block)^ERROR_POWER. Each point's loss is divided by its density (1 - f) + f * p_b * blocks, so that the
    expectation is the mean over the volume whatever p is.

    Args:
        data: What is trained.
        config: Resolved.
        generator: A CPU generator, which gives the seed.
    """

    def __init__(self, data: FieldData, config: TrainConfig, generator: torch.Generator):
        self._data = data
        self._config = config
        self._seed = int(torch.randint(2**63 - 1, (), generator=generator))
        self._drawn = 0  # random numbers so far
        self._blocks = np.array([min(config.importance_blocks, n) for n in data.dims])
        count = int(self._blocks.prod())
        self._error = np.zeros(count)
        self._seen = np.zeros(count)
        self._probability: np.ndarray | None = None
        self._cumulative: np.ndarray | None = None
        self._native = native_batches(data, self._blocks, config.positions == "continuous")

    def draw(self) -> Batch:
        """The next batch."""
        count = self._config.batch_size
        unit, picks = self._random(count, 3), None
        if self._probability is not None:
            picks = self._random(int(count * self._config.importance_fraction))
        gather = self._native.gather if self._native else self.gather
        points, targets, weights, blocks = gather(unit, picks, self._cumulative, self._probability)
        return Batch(torch.from_numpy(points), torch.from_numpy(targets), torch.from_numpy(weights), blocks)

    def _random(self, *shape: int) -> np.ndarray:
        random, count = self._native.random if self._native else random_numbers, math.prod(shape)
        numbers = random(self._seed, self._drawn, count)
        self._drawn += count
        return numbers.reshape(shape)

    def gather(self, unit: np.ndarray, picks: np.ndarray | None, cumulative, probability):
        """The batch at given positions, readable.

        Args:
            unit: (n, 3) float64 positions in the unit cube; changed.
            picks: (k,) float64 in [0, 1): the first k positions move to blocks drawn with them. None: none moves.
            cumulative, probability: Of the blocks.

        Returns:
            points (n, 3), targets (n, components), weights (n, 1), all float32, and the block of each point (n,) int64.
        """
        if picks is not None:
            self._move_to_blocks(unit[: len(picks)], picks, cumulative)
        cells = np.minimum((unit * self._blocks).astype(np.int64), self._blocks - 1)
        blocks = (cells[:, 2] * self._blocks[1] + cells[:, 1]) * self._blocks[0] + cells[:, 0]
        weights = np.ones(len(unit))
        if picks is not None:
            share = len(picks) / len(unit)
            weights = 1.0 / ((1.0 - share) + share * probability[blocks] * len(probability))
        place = self._interpolated if self._config.positions == "continuous" else self._at_values
        points, targets = place(unit)
        bad = ~np.isfinite(targets).all(axis=1)
        targets[bad], weights[bad] = 0.0, 0.0
        return points.astype(np.float32), targets, weights.astype(np.float32)[:, None], blocks

    def draw_uniform(self, count: int) -> Batch:
        """`count` of the data's own values, drawn apart from the batches: always the same ones."""
        generator = torch.Generator().manual_seed(CHECK_SEED)
        unit = torch.rand(count, 3, generator=generator, dtype=torch.float64).numpy()
        points, targets = self._at_values(unit)
        weights = np.isfinite(targets).all(axis=1, keepdims=True)
        arrays = points.astype(np.float32), np.where(weights, targets, 0.0).astype(np.float32), weights.astype(np.float32)
        return Batch(*(torch.from_numpy(a) for a in arrays), np.zeros(count, dtype=np.int64))

    def report(self, iteration: int, batch: Batch, squared_error: torch.Tensor) -> None:
        """Learn where the error is large: (n,) mean squared error of each point of the batch."""
        config = self._config
        if not config.importance_fraction or iteration < config.importance_start // 2:
            return
        valid = batch.weights[:, 0].numpy() > 0
        squared_error, size = squared_error.cpu().numpy(), len(self._error)
        self._error = self._error * ERROR_DECAY + np.bincount(batch.blocks[valid], squared_error[valid], size)
        self._seen = self._seen * ERROR_DECAY + np.bincount(batch.blocks[valid], minlength=size)
        if iteration >= config.importance_start and iteration % config.importance_refresh == 0:
            wanted = (self._error / (self._seen + 1e-9) + 1e-12) ** ERROR_POWER
            self._probability = wanted / wanted.sum()
            self._cumulative = np.cumsum(self._probability)

    def state(self) -> dict:
        """For a checkpoint."""
        return {
            "seed": self._seed, "drawn": self._drawn, "error": self._error, "seen": self._seen,
            "probability": self._probability,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state` of the same data and settings. ConfigError: it is of others; nothing is changed."""
        probability = state.get("probability") if isinstance(state, dict) else None
        like = {**self.state(), "probability": None if probability is None else self._error}
        check_alike(state, like, "state of a sampler")
        self._seed, self._drawn = state["seed"], state["drawn"]
        self._error, self._seen = state["error"].copy(), state["seen"].copy()
        started = state["probability"] is not None
        self._probability = state["probability"].copy() if started else None
        self._cumulative = np.cumsum(self._probability) if started else None

    def _move_to_blocks(self, unit: np.ndarray, picks: np.ndarray, cumulative: np.ndarray) -> None:
        """Move positions, in place, into the blocks that the picks fall on."""
        block = np.searchsorted(cumulative, picks).clip(0, len(cumulative) - 1)
        bx, by, _ = self._blocks
        corner = np.stack([block % bx, block // bx % by, block // (bx * by)], axis=1)
        unit[:] = (corner + unit) / self._blocks

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
