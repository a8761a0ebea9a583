"""One training in bricks and what the benchmarks of bricks measure of it."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from measurement import parser, print_machine  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import BrickLayout, ModelConfig, TrainConfig, TrainingResult, psnr, train_volume
from ours import warm_up
from volumes import Volume

TAYLOR_GREEN = Path(__file__).parents[2] / "examples/data/tgv_re800_t9_vortmag_128.vti"
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}


def brick_parser(description: str, data: bool = True) -> argparse.ArgumentParser:
    """The parser of a command; its data are the Taylor-Green volume unless others are named."""
    made = parser(description, data)
    if data:
        made.set_defaults(volumes=[str(TAYLOR_GREEN)])
    return made


def begin(options: argparse.Namespace) -> None:
    """Threads, a line about the machine, and what starts only once."""
    if options.threads:
        torch.set_num_threads(options.threads)
    print_machine(options.device)
    warm_up(options.device)


@dataclass(frozen=True)
class Run:
    """A training and its reconstruction [z, y, x] float32."""

    result: TrainingResult
    seconds: float
    reconstruction: np.ndarray
    psnr: float

    @property
    def steps(self) -> int:
        """Of all bricks together."""
        history = self.result.history
        return int(sum(history["iteration"][history["brick"] == b].max() for b in set(history["brick"].tolist())))


def trained(
    volume: Volume, bricks: tuple[int, int, int] | BrickLayout, parameters: int, train: TrainConfig, device: str
) -> Run:
    """Train a volume with so many parameters in all bricks together, and reconstruct it from what is stored."""
    start = time.perf_counter()
    result = train_volume(
        volume.values, volume.grid, model=ModelConfig.preset("small"), train=train, bricks=bricks,
        parameters=parameters, device=device, **QUIET,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    values = result.volume.reconstruct()
    return Run(result, seconds, values, psnr(volume.values, values))
