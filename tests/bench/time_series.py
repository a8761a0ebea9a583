"""Time series: networks of their own against networks that are rounded, and that start from the step before.

    python tests/bench/time_series.py [--series NUMBERS:STEPS:BATCH:SHARE ...] [--json FILE] STEP_0.vti STEP_1.vti ...

- `own`: one network a step as it is trained alone (small preset, normal effort, float16), and what else a series must be
  compared with: the same ones rounded, with a quarter of the training steps, and smaller ones that take as many bytes.
- `series`: each step from the decoded one before where that explains it (`time_start.py`), else a key frame; rounded so that
  SHARE of its error is added, and coded as differences (`time_coding.py`). NUMBERS in a network, STEPS of BATCH points.

PSNR is that of what is decoded, at every value, over the range of the whole series; of the series from the mean of the squared
errors. Seconds are the processor's, for training, rounding and coding, without reading; `time` and `bytes` relative to the first row.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace

from measurement import parser, print_machine, print_table, write_json  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import Grid, ModelConfig, TrainConfig
from apmgsrn_core.field_data import FieldData
from apmgsrn_core.kernels import kernel_for
from apmgsrn_core.model import Network
from apmgsrn_core.number_blocks import network_tensors
from apmgsrn_core.placement import start_transforms
from apmgsrn_core.rounding import PASSES, POINTS, rounding_steps
from apmgsrn_core.sampler import Sampler
from apmgsrn_core.schedule import make_schedule
from apmgsrn_core.time_coding import pack_tensors, unpack_tensors
from apmgsrn_core.time_start import FeaturePull, starts_from_before
from apmgsrn_core.training_step import make_step
from apmgsrn_core.weights import pack_section, round_to_stored
from ours import warm_up
from volumes import load

KEY_EVERY = 16  # steps


@dataclass(frozen=True)
class Scheme:
    """How a series is trained and stored; `steps` of each network, 0: the automatic number."""

    name: str
    numbers: int = 77_000
    steps: int = 0
    batch: int = 5000
    share: float = 0.0  # 0: float16, not rounded
    chained: bool = False


class Series:
    """The data of all steps, scaled to one range."""

    def __init__(self, paths: list[str]):
        volumes = [load(path) for path in paths]
        self.grid: Grid = volumes[0].grid
        low, high = min(float(v.values.min()) for v in volumes), max(float(v.values.max()) for v in volumes)
        self.steps = [FieldData(v.values, self.grid, v.name, (low, high)) for v in volumes]
        self.name = volumes[0].name
        self.axes = [
            torch.from_numpy(self.grid.value_to_normalised(a, np.arange(n)).astype(np.float32))
            for a, n in enumerate(self.grid.value_dims)
        ]

    def error(self, network: Network, step: int) -> float:
        """Mean squared, relative to the range, at every value."""
        data = self.steps[step]
        with torch.no_grad():
            found = kernel_for(network, "full").lattice(network, *self.axes).numpy()
        return float(np.square(found.astype(np.float64) - data.normalised(data.values)).mean())


def train(network: Network, sampler: Sampler, config: TrainConfig, pull: FeaturePull | None) -> float:
    """One training in place; returns the mean squared error on values drawn apart."""
    step = make_step(network, config)
    schedule = make_schedule(step, config)
    for iteration in range(config.iterations):
        progress, rate = iteration / config.iterations, step.groups[0].rate
        batch = sampler.draw()
        squared_error = step.run(batch, config.transform_start <= progress < config.transform_stop, progress)
        if pull is not None:
            pull.step(rate)
        sampler.report(iteration, batch, squared_error)
        schedule.step((iteration + 1) / config.iterations, step.last_loss, step.settled)
    return step.loss()


def start(series: Series, step: int, scheme: Scheme, config: TrainConfig, before: Network | None, sampler: Sampler):
    """(network before the first training step, whether it is that of the step before)."""
    data = series.steps[step]
    if scheme.chained and before is not None and step % KEY_EVERY and starts_from_before(before, sampler):
        return copy.deepcopy(before).requires_grad_(True), True
    generator = torch.Generator().manual_seed(step)
    model = ModelConfig.of_size(scheme.numbers).fitted_to(series.grid).with_components(data.components)
    network = Network(model, generator)
    with torch.no_grad():
        network.transforms.copy_(start_transforms(data, model, config, generator))
    return network, False


def arrays(network: Network) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in network_tensors(network).items()}


def store(network: Network, sampler: Sampler, error: float, share: float, before: Network | None) -> tuple[Network, bytes]:
    """(the network as it is decoded, its section)."""
    if not share:
        return round_to_stored(network), pack_section(network)
    steps = rounding_steps(network, sampler.draw_uniform(PASSES * POINTS).points, error, share)
    reference = None if before is None else arrays(before)
    section = pack_tensors(arrays(network), steps, network.config, reference)
    decoded = copy.deepcopy(network).requires_grad_(False)
    for name, values in unpack_tensors(section, network.config, reference).items():
        network_tensors(decoded)[name].copy_(torch.from_numpy(values))
    return decoded, section


def measure(series: Series, scheme: Scheme, also_rounded: float = 0.0) -> list[dict]:
    """The row of a scheme, and with `also_rounded` that of the same networks rounded with this share."""
    own = {"batch_size": scheme.batch, **({"iterations": scheme.steps} if scheme.steps else {})}
    config = replace(TrainConfig(), **own).resolved(series.grid)
    kinds, sections, errors, rounded, rounded_errors = "", [], [], [], []
    before, seconds = None, 0.0
    for step, data in enumerate(series.steps):
        begin = time.process_time()
        sampler = Sampler(data, config, torch.Generator().manual_seed(step))
        network, warm = start(series, step, scheme, config, before, sampler)
        pull = FeaturePull(network.features, before.features if warm else None) if scheme.chained else None
        error = train(network, sampler, config, pull)
        before, section = store(network, sampler, error, scheme.share, before if warm else None)
        seconds += time.process_time() - begin
        kinds += "d" if warm else "K"
        sections.append(len(section))
        errors.append(series.error(before, step))
        if also_rounded:
            decoded, section = store(network, sampler, error, also_rounded, None)
            rounded.append(len(section))
            rounded_errors.append(series.error(decoded, step))
    rows = [row(series, scheme, config, kinds, sections, errors, seconds)]
    if also_rounded:
        named = replace(scheme, name=f"{scheme.name}, rounded", share=also_rounded)
        rows.append(row(series, named, config, kinds, rounded, rounded_errors, seconds))
    return rows


def row(series: Series, scheme: Scheme, config: TrainConfig, kinds: str, sections: list[int], errors: list[float], seconds: float) -> dict:
    return {
        "data": series.name, "scheme": scheme.name, "numbers": scheme.numbers, "steps": config.iterations,
        "batch": config.batch_size, "share": scheme.share, "psnr": round(decibels(sum(errors) / len(errors)), 2),
        "of steps": " ".join(f"{decibels(e):.1f}" for e in errors), "kinds": kinds, "kB": round(sum(sections) / 1e3, 1),
        "kB of steps": " ".join(f"{s / 1e3:.0f}" for s in sections), "seconds": round(seconds, 1),
    }  # fmt: skip


def decibels(error: float) -> float:
    return -10 * math.log10(error)


def scheme_of(text: str) -> Scheme:
    """NUMBERS:STEPS:BATCH:SHARE."""
    numbers, steps, batch, share = text.split(":")
    return Scheme("series", int(numbers), int(steps), int(batch), float(share), chained=True)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--series", nargs="*", default=["150000:1000:5000:0.2"], metavar="NUMBERS:STEPS:BATCH:SHARE")
    made.add_argument("--share", type=float, default=0.05, help="of the own networks that are rounded too")
    options = made.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    print_machine(options.device)
    warm_up(options.device)
    series = Series(options.volumes)
    rows = measure(series, Scheme("own"), options.share)
    rows += measure(series, Scheme("own, quarter of the steps", steps=rows[0]["steps"] // 4))
    rows += [line for text in options.series for line in measure(series, scheme_of(text))]
    same = round(77_000 * min(line["kB"] for line in rows[3:] or rows) / rows[0]["kB"])
    rows += measure(series, Scheme("own, bytes of the smallest series", numbers=same))
    for line in rows:
        line["bytes"], line["time"] = (round(line[k] / rows[0][k], 3) for k in ("kB", "seconds"))
    print_table(rows)
    write_json(options, rows)


if __name__ == "__main__":
    main()
