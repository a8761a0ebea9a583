"""Time series: one model of all steps against a model of each step.

    python tests/bench/time_series.py [--rounding SHARE ...] [--json FILE] STEP_0.vti STEP_1.vti ...

- `own`: a model of each step, as it is trained alone (small preset, normal effort, float16), and what else a series must be
  compared with: the same rounded, with a quarter of the training steps, and with so few numbers that they take the series' bytes.
- `series`: what `train_series` makes of the steps by itself, with each SHARE of the error that rounding may add, and with fewer
  training steps.

PSNR is that of what is read from the models, at every value, over the range of the whole series; of all steps from the mean of
the squared errors. `kinds`: K, a step that stands for itself; d, differences to the one before. Bytes are those of the model
files. Seconds are the processor's, of the whole training, without reading the data; `time` and `bytes` relative to the first row.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from measurement import parser, print_machine, print_table, write_json  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import Grid, ModelConfig, NeuralVolume, TrainConfig, train_series, train_volume
from apmgsrn_core.file.model_file import ModelFile
from ours import warm_up
from volumes import load


@dataclass
class Measured:
    """Of one way to store a series: squared errors and bytes of each step, seconds of all."""

    name: str
    numbers: int
    iterations: int
    share: float
    kinds: str
    errors: list[float]
    sizes: list[int]
    seconds: float

    def row(self, data: str, first: "Measured") -> dict:
        return {
            "data": data, "scheme": self.name, "numbers": self.numbers, "steps": self.iterations, "share": self.share,
            "psnr": round(decibels(np.mean(self.errors)), 2), "of steps": " ".join(f"{decibels(e):.1f}" for e in self.errors),
            "kinds": self.kinds, "kB": round(sum(self.sizes) / 1e3, 1),
            "kB of steps": " ".join(f"{s / 1e3:.0f}" for s in self.sizes), "seconds": round(self.seconds, 1),
            "bytes": round(sum(self.sizes) / sum(first.sizes), 3), "time": round(self.seconds / first.seconds, 3),
        }  # fmt: skip


class Series:
    """The data of all steps."""

    def __init__(self, paths: list[str]):
        self.volumes = [load(path) for path in paths]
        self.grid: Grid = self.volumes[0].grid
        self.components = sum(self.volumes[0].values.shape[3:]) or 1
        self.span = max(float(v.values.max()) for v in self.volumes) - min(float(v.values.min()) for v in self.volumes)

    def error(self, volume: NeuralVolume, step: int, time: float | None) -> float:
        """Mean squared, relative to the range of the series, at every value."""
        values = self.volumes[step].values
        found = volume.sample_region(time=time).reshape(values.shape)
        return float(np.square((found.astype(np.float64) - values) / self.span).mean())


def own(series: Series, name: str, model: ModelConfig, train: TrainConfig, device: str) -> Measured:
    """A model of each step."""
    errors, sizes, seconds = [], [], 0.0
    for step, volume in enumerate(series.volumes):
        begin = time.process_time()
        result = train_volume(volume.values, series.grid, model=model, train=train, device=device, on_progress=lambda state: True)
        seconds += time.process_time() - begin
        errors.append(series.error(result.volume, step, None))
        sizes.append(len(result.to_bytes()))
    chosen = result.volume.header.manifest["training"]
    numbers = model.parameter_count(series.components)
    return Measured(name, numbers, chosen["iterations"], chosen["rounding"], "K" * len(sizes), errors, sizes, seconds)


def together(series: Series, name: str, train: TrainConfig, device: str) -> Measured:
    """One model of all steps."""
    begin = time.process_time()
    steps = ((float(number), volume.values) for number, volume in enumerate(series.volumes))
    *_, last = train_series(steps, series.grid, train=train, device=device, on_progress=lambda state: True)
    seconds = time.process_time() - begin
    model = last.to_bytes()
    manifest, volume = ModelFile(model).header.manifest, last.volume
    errors = [series.error(volume, step, float(step)) for step in range(len(series.volumes))]
    sizes = [section["length"] for section in manifest["sections"]]
    sizes[0] += len(model) - sum(sizes)  # what the file has beside its sections
    chosen = manifest["training"]
    numbers = ModelConfig.from_dict(manifest["model"]).parameter_count(series.components)
    kinds = "".join("d" if section["coder"] == "delta" else "K" for section in manifest["sections"])
    return Measured(name, numbers, chosen["iterations"], chosen["rounding"], kinds, errors, sizes, seconds)


def decibels(error: float) -> float:
    return -10 * math.log10(error)


def measure(series: Series, shares: list[float], device: str) -> list[Measured]:
    small = ModelConfig.preset("small")
    rows = [own(series, "own", small, TrainConfig(rounding=0.0), device)]
    rows.append(own(series, "own, rounded", small, TrainConfig(rounding=0.1), device))
    quarter = TrainConfig(iterations=rows[0].iterations // 4, rounding=0.0)
    rows.append(own(series, "own, quarter of the steps", small, quarter, device))
    rows += [together(series, "series", TrainConfig(rounding=share), device) for share in shares]
    rows.append(together(series, "series, 0.3 of the steps", TrainConfig(series_steps=0.3), device))
    numbers = round(small.parameter_count() * sum(rows[3].sizes) / sum(rows[0].sizes))
    rows.append(own(series, "own, bytes of the first series", ModelConfig.of_size(numbers), TrainConfig(rounding=0.0), device))
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounding", nargs="*", type=float, default=[0.2], metavar="SHARE")
    options = made.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    print_machine(options.device)
    warm_up(options.device)
    series = Series(options.volumes)
    rows = measure(series, options.rounding, options.device)
    lines = [row.row(series.volumes[0].name, rows[0]) for row in rows]
    print_table(lines)
    write_json(options, lines)


if __name__ == "__main__":
    main()
