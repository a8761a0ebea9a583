"""Our side of the benchmarks: kernels to choose from, a trained network to measure, the published training step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from measurement import Spans  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import ApmgsrnError, Grid, ModelConfig, NeuralVolume, TrainConfig, psnr, train_volume
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.kernels import choose
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.sampler import Sampler
from volumes import Volume

PATHS = ("amx", "avx512", "avx2", "portable")
SLAB = 16  # layers of a volume evaluated at a time


@dataclass(frozen=True)
class Variant:
    """A kernel under the name of its row."""

    name: str
    kernel: Any


def variants(kernels: list[str], paths: list[str], device: str) -> list[Variant]:
    """The kernels that this machine has; of the others it prints why not.

    On the CPU "native" is one row for each path; AMX computes with bfloat16, so its row has precision "fast", the
    others have "full". On a GPU it is one row for each precision.
    """
    wanted = []
    for kernel in kernels:
        if kernel == "torch":
            wanted.append(("torch", "torch", "full", None))
        elif torch.device(device).type == "cpu":
            precisions = ["fast" if path == "amx" else "full" for path in paths]
            wanted += [(f"native {path}", "native", p, path) for path, p in zip(paths, precisions)]
        else:
            wanted += [(f"native {precision}", "native", precision, None) for precision in ("full", "fast")]
    found = []
    for name, force, precision, path in wanted:
        try:
            kernel = choose(torch.device(device), precision=precision, force=force, path=path)
            found.append(Variant(name, kernel))
        except ApmgsrnError as error:
            print(f"{name} is left out: {error}")
    return found


def warm_up(device: str) -> None:
    """A few steps of a small training, so that the first one measured does not pay for what starts once."""
    values = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)
    config = TrainConfig(iterations=5)
    quiet = {"on_progress": lambda _: True, "on_warning": lambda _: None}
    train_volume(values, Grid((16, 16, 16)), train=config, device=device, **quiet)


def trained_network(volume: Volume, model: ModelConfig, how: str, steps: int, device: str) -> Network:
    """A network whose grids stand where a training has put them.

    Args:
        volume: What it is trained on.
        model: Its shape; not used with a file.
        how: A model file, or a placement: "kdtree" and "random" with their other settings at the defaults, "published"
            with the density loss from the first step on.
        steps: Of that training.
        device: Where it is trained and stays.
    """
    if how.endswith(".apmgsrn"):
        network = NeuralVolume.open(how, device).networks[0]
    else:
        moving = {"transform_start": 0.0, "batch_size": 5_000} if how == "published" else {}
        config = TrainConfig(placement=how, iterations=steps, **moving)
        trained = train_volume(
            volume.values, volume.grid, model=model, train=config, device=device, on_progress=lambda _: True
        )
        network = trained.volume.networks[0]
    return network.requires_grad_(True).train()


class PublishedStep:
    """One step of the published training, as our trainer does it, at a chosen kernel.

    Args:
        kernel: From `variants`.
        network: Trained in place.
        volume: What it is trained on.
        batch: Points of a step.
        device: Of the network.
    """

    def __init__(self, kernel, network: Network, volume: Volume, batch: int, device: str):
        data = FieldData(volume.values, volume.grid)
        config = TrainConfig(placement="published", batch_size=batch).resolved(volume.grid)
        self._sampler = Sampler(data, config, torch.Generator().manual_seed(0))
        self._kernel, self._network, self._device = kernel, network, torch.device(device)
        adam = {"betas": (config.beta_1, config.beta_2), "eps": config.epsilon}
        fitted = [p for name, p in network.named_parameters() if name != "transforms"]
        self._fitting = torch.optim.Adam(fitted, config.learning_rate, fused=True, **adam)
        self._moving = torch.optim.Adam([network.transforms], config.transform_learning_rate, **adam)
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._moving, start_factor=1.0, end_factor=0.5)

    def step(self, density: bool, span: Callable = lambda label: nullcontext()) -> torch.Tensor:
        """Do it, with the density loss or without; the loss, (), relative to the range squared."""
        network, kernel = self._network, self._kernel
        with span("sampling"):
            batch = self._sampler.draw().to(self._device)
        with span("optimizers"):
            self._fitting.zero_grad(set_to_none=True)
        with span("forward"):
            loss, squared_error = kernel.loss(network, batch.points, batch.targets, batch.weights, False)
        with span("backward"):
            loss.backward()
        if density:
            with span("density loss"):
                self._moving.zero_grad(set_to_none=True)
                kernel.density_loss(network.transforms, batch.points, squared_error).backward()
            with span("optimizers"):
                self._moving.step()
                self._schedule.step()
        with span("optimizers"):
            self._fitting.step()
        return loss.detach()

    def parts(self, density: bool) -> dict[str, float]:
        """{part: ms} of one step."""
        spans = Spans(self._device)
        with spans("total"):
            self.step(density, spans)
        total = spans.ms.pop("total")
        return {**spans.ms, "rest": total - sum(spans.ms.values())}


def axes(shape_zyx: tuple[int, int, int], device: str) -> list[torch.Tensor]:
    """Normalised coordinates of a lattice along x, y, z."""
    sizes = shape_zyx[::-1]
    return [torch.linspace(-1, 1, n, device=device) if n > 1 else torch.zeros(1, device=device) for n in sizes]


def network_psnr(kernel, network: Network, volume: Volume) -> float:
    """PSNR in dB at every value of a volume [z, y, x]."""
    low, high = float(volume.values.min()), float(volume.values.max())
    x, y, z = axes(volume.values.shape, str(network.features.device))
    with torch.no_grad():
        slabs = [kernel.lattice(network, x, y, part).cpu() for part in z.split(SLAB)]
    values = torch.cat([slab.reshape(-1, len(y), len(x)) for slab in slabs]).numpy().astype(np.float64)
    return psnr(volume.values, values * (high - low) + low)
