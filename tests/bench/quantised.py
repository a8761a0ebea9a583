"""Bytes and PSNR of one trained network, stored as it is and rounded.

    python tests/bench/quantised.py [--models small,published] [--shares 0.01,0.0233,0.05] [--set seed=1] [--json FILE] DATA ...

Networks: the preset small with its own training, and "published small" with the published training. Small is trained twice with
one seed: plain, and pulled, where features shrink after each step as in a training for rounded numbers (`time_start.FeaturePull`).

The trained network is stored as float32, as float16, and with each share of its error that rounding may add. Bytes are of the
whole model file, one with nothing but this network; PSNR is of the file read back, at every value; `loss` is against the
float32 file. Of a pulled network the float32 file has what rounding by PULLED of the error left, which costs nothing.
"""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from pathlib import Path

from measurement import begin, parser, print_table, rows_before, settings, words, write_json  # isort: skip (sets the path)

import torch
from apmgsrn_core import ModelConfig, NeuralVolume, TrainConfig, psnr, train_volume
from apmgsrn_core.bricks.storage import store_network
from apmgsrn_core.bricks.training import CHECK_POINTS
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.file.model_writer import StoredBrick, pack_model
from apmgsrn_core.file.weights import describe_brick, describe_model
from apmgsrn_core.network.model import Network
from apmgsrn_core.rendering.stored_macrocells import pack_macrocells
from apmgsrn_core.training.sampler import Sampler
from volumes import Volume, load

MODELS = {"small": ("small", "kdtree"), "published": ("published small", "published")}  # preset, placement
SHARES = [0.01, 0.0233, 0.05]  # 0.04, 0.1, 0.21 dB
SAME = ("volume", "model", "pulled", "set", "stored")  # a row of all these is measured anew
PULLED = 1e-6
RESULTS = Path(__file__).parent / "results" / "quantised.json"


class Trained:
    """A network of some data, and files of it."""

    def __init__(self, volume: Volume, name: str, pulled: bool, chosen: dict, device: str):
        preset, placement = MODELS[name]
        model = replace(ModelConfig.preset(preset), storage="float32")
        train = TrainConfig(placement=placement, rounding=PULLED if pulled else 0.0, **chosen)
        quiet = {"on_progress": lambda _: True, "on_warning": lambda _: None}
        start = time.perf_counter()
        result = train_volume(volume.values, volume.grid, model=model, train=train, device=device, bricks=(1, 1, 1), **quiet)
        self.seconds = time.perf_counter() - start
        file = ModelFile(result.to_bytes())
        self._header, self._network, self._volume = file.header, result.volume.networks[0].cpu(), volume
        resolved = train.resolved(volume.grid)
        data = FieldData.of_arrays(volume.values, volume.grid, self._header.arrays)
        self._batch = Sampler(data, resolved, torch.Generator()).draw_uniform(CHECK_POINTS)
        self._train = resolved

    def file(self, storage: str, share: float) -> bytes:
        """The model file; with `share` 0 of numbers of the type `storage`."""
        header = self._header
        network = Network(replace(self._network.config, storage=storage))
        network.load_state_dict(self._network.state_dict())
        cells = functools.partial(pack_macrocells, grid=header.grid, arrays=header.arrays)
        stored = store_network(network, self._batch, share, None, None, lambda found, size: cells(found, size=size))
        model, train = network.config, replace(self._train, rounding=share)
        manifest = describe_model(header.grid, header.layout, header.arrays, header.manifest["times"], model, train, header.key)
        entry = describe_brick(stored.network, header.layout, 0, model)
        return pack_model(manifest, [StoredBrick.of_bytes(0, entry, stored.section, 0, stored.coder)])

    def psnr(self, data: bytes) -> float:
        """Of a file, at every value."""
        return psnr(self._volume.values, NeuralVolume.from_bytes(data, "cpu").reconstruct())


def measure(volume: Volume, name: str, pulled: bool, options) -> list[dict]:
    """A row for each way to store a network."""
    trained = Trained(volume, name, pulled, settings(options.set), options.device)
    ways = {"float32": ("float32", 0.0), "float16": ("float16", 0.0)}
    ways |= {f"{share:g}": ("float16", share) for share in options.shares}
    rows, first = [], None
    for stored, (storage, share) in ways.items():
        start = time.perf_counter()
        data = trained.file(storage, share)
        seconds = time.perf_counter() - start
        found = trained.psnr(data)
        first = first or (len(data), found)
        rows.append({
            "volume": volume.name, "model": name, "pulled": pulled, "set": ",".join(options.set), "stored": stored,
            "bytes": len(data), "smaller": round(first[0] / len(data), 2), "psnr": round(found, 3), "loss": round(first[1] - found, 3),
            "train": round(trained.seconds, 1), "store": round(seconds, 2),
        })  # fmt: skip
    return rows


def arguments():
    made = parser(__doc__)
    made.add_argument("--models", type=words, default=list(MODELS), help=f"some of {','.join(MODELS)}")
    made.add_argument("--ways", type=words, default=["plain", "pulled"], help="some of plain,pulled")
    made.add_argument("--shares", type=lambda text: [float(word) for word in words(text)], default=SHARES)
    made.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of TrainConfig")
    made.set_defaults(json=RESULTS)
    return made.parse_args()


def main() -> None:
    options = arguments()
    begin(options)
    rows = rows_before(options)
    for volume in map(load, options.volumes):
        for name in options.models:
            for way in options.ways if name == "small" else ["plain"]:
                new = measure(volume, name, way == "pulled", options)
                print_table(new)
                measured = [[row[column] for column in SAME] for row in new]
                rows = [row for row in rows if [row[column] for column in SAME] not in measured] + new
                write_json(options, rows)


if __name__ == "__main__":
    main()
