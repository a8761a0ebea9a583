"""PSNR at equal bytes: networks trained for bytes, placed networks, and codecs.

    python tests/bench/rate_distortion.py [--bytes 84000] [--ratios 100,300] [--methods compact,SPERR] [--json FILE] DATA ...

- compact: `TrainConfig.rate_bytes`, else default settings; placed: our own family in float16, in as many bytes; rounded: that
  family with TrainConfig(rounding=0.05), trained a second time with other numbers when the first file has not the bytes.
- SPERR (by PSNR), SZ3 (by error) and ZFP (by error or rate, the better one), at the setting whose bytes are nearest to the
  target from below. imagecodecs, which has them, is no dependency of the project; without it they are left out.

Targets are bytes of the whole file: `--bytes`, and the volume's own bytes over each of `--ratios`; those below 12 kB and those
within 5 % of another are left out. Codecs get values as float32; nothing that comes back is rounded to the type of the data.
Of a codec the bytes are its stream alone. PSNR, largest error (relative to the range) and SSIM are of the stored bytes read
back, at every value.

Seconds are wall time: `encode` of the training or encoding that is kept, without the search for it; `decode` of all values,
`points` of 1e5 scattered values, `region` of 64^3 values, each from the stored bytes, the fastest of three. A codec decodes all
for each. `load` is the mean load of the machine before and after.

Every result is written to the JSON file as soon as it is there and is not computed again; `--pictures` draws a PNG for each
volume beside it where matplotlib can be imported.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measurement import begin, numbers, parser, print_table, rows_before, words, write_json  # isort: skip (sets the path)

import numpy as np
from apmgsrn_core import ModelConfig, NeuralVolume, Region, TrainConfig, parameters_for, rate_bytes_for, train_volume
from apmgsrn_core.command_line.comparison import errors_of
from ours import warm_up
from volumes import Volume, load

METHODS = ["compact", "placed", "rounded", "SPERR", "SZ3", "ZFP"]
LEAST_BYTES, SAME_BYTES = 12_000, 0.05
ROUNDING, NUMBERS_A_BYTE, ALLOWED = 0.05, 1.6, 0.04  # of "rounded", whose file may be off by so much
POINTS, SIDE, ROUNDS = 100_000, 64, 3
SEARCH, NEAR = 16, 0.997  # encodings in a search; share of the target at which it ends
RESULTS = Path(__file__).parent / "results" / "rate_distortion.json"


@dataclass
class Stored:
    """A volume as bytes, the seconds to make them, and what gives values back: an `OpenNetwork` or an `OpenArray`."""

    data: bytes
    seconds: float
    setting: str
    opened: Callable[[bytes], Any]


class OpenNetwork:
    """Values of a model file."""

    def __init__(self, data: bytes, device: str):
        self._volume = NeuralVolume.from_bytes(data, device)

    def whole(self) -> np.ndarray:
        return self._volume.reconstruct()

    def points(self, index_xyz: np.ndarray) -> np.ndarray:
        return self._volume.sample_points(self._volume.grid.index_to_world(index_xyz))

    def region(self, region: Region) -> np.ndarray:
        return self._volume.sample_region(region)


class OpenArray:
    """Values of a decoded codec's stream."""

    def __init__(self, values: np.ndarray):
        self._values = values

    def whole(self) -> np.ndarray:
        """[z, y, x] float32."""
        return self._values

    def points(self, index_xyz: np.ndarray) -> np.ndarray:
        x, y, z = index_xyz.T
        return self._values[z, y, x]

    def region(self, region: Region) -> np.ndarray:
        return self._values[tuple(slice(a, b) for a, b in zip(region.start[::-1], region.stop[::-1]))].copy()


# -- networks ----------------------------------------------------------------------------------


def compact(volume: Volume, size: int, device: str) -> Stored:
    return trained(volume, None, TrainConfig(rate_bytes=rate_bytes_for(size, 1)), device)


def placed(volume: Volume, size: int, device: str) -> Stored:
    model = of_parameters(parameters_for(size, ModelConfig.preset("small"), 1, 1))
    return trained(volume, model, TrainConfig(rounding=0.0), device)


def rounded(volume: Volume, size: int, device: str) -> Stored:
    """What numbers take is known when they are trained: a second training has as many more as the first one left room for."""
    count = NUMBERS_A_BYTE * size
    found = trained(volume, of_parameters(count), TrainConfig(rounding=ROUNDING), device)
    if abs(len(found.data) / size - 1) > ALLOWED:
        count *= size / len(found.data)
        again = trained(volume, of_parameters(count), TrainConfig(rounding=ROUNDING), device)
        found = min(found, again, key=lambda stored: abs(len(stored.data) - size))
    return found


def of_parameters(count: float) -> ModelConfig:
    return ModelConfig.preset("small").with_parameters(round(count))


def trained(volume: Volume, model: ModelConfig | None, train: TrainConfig, device: str) -> Stored:
    start = time.perf_counter()
    result = train_volume(
        volume.values, volume.grid, model=model, train=train, device=device, bricks=(1, 1, 1), on_progress=lambda _: True
    )  # fmt: skip
    data = result.to_bytes()
    setting = f"{train.rate_bytes} rate_bytes" if model is None else f"{model.parameter_count()} numbers"
    return Stored(data, time.perf_counter() - start, setting, lambda found: OpenNetwork(found, device))


# -- codecs ------------------------------------------------------------------------------------


def codec(name: str, volume: Volume, size: int) -> Stored | None:
    """The largest stream that is not larger than `size`; of ZFP the better one of two modes. None when there is none."""
    codecs = importlib.import_module("imagecodecs")
    values = np.ascontiguousarray(volume.values, dtype=np.float32)
    span = float(values.max()) - float(values.min())
    ways = {  # of a number: stream; smallest and largest number, bytes rise with it
        "SPERR": [("psnr {:.2f}", lambda t: codecs.sperr_encode(values, t, mode="psnr", numthreads=1), 1, 120)],
        "SZ3": [("-log10(error) {:.3f}", lambda t: codecs.sz3_encode(values, mode="abs", abs=span * 10**-t), -0.5, 7)],
        "ZFP": [
            ("-log10(error) {:.3f}", lambda t: codecs.zfp_encode(values, span * 10**-t, mode="a", execution="serial"), -3, 7),
            ("rate {:.3f}", lambda t: codecs.zfp_encode(values, t, mode="r", execution="serial"), 0, 16),
        ],
    }[name]  # fmt: skip
    decode = {
        "SPERR": lambda data: codecs.sperr_decode(data, numthreads=1),
        "SZ3": lambda data: codecs.sz3_decode(data, values.shape, values.dtype),
        "ZFP": codecs.zfp_decode,
    }[name]

    def error(stored: Stored) -> float:
        return float(np.square(stored.opened(stored.data).whole() - values, dtype=np.float64).mean())

    found = [largest(way, size, lambda data: OpenArray(decode(data))) for way in ways]
    return min((stored for stored in found if stored is not None), key=error, default=None)


def largest(way: tuple, size: int, opened: Callable[[bytes], OpenArray]) -> Stored | None:
    """By bisection of the setting."""
    text, encode, low, high = way
    found = None
    for _ in range(SEARCH):
        middle = (low + high) / 2
        start = time.perf_counter()
        data = bytes(encode(middle))
        seconds = time.perf_counter() - start
        fits = len(data) <= size
        low, high = (middle, high) if fits else (low, middle)
        if fits and (found is None or len(data) >= len(found.data)):
            found = Stored(data, seconds, text.format(middle), opened)
        if found is not None and len(found.data) >= NEAR * size:
            break
    return found


# -- what is measured --------------------------------------------------------------------------


def measure(volume: Volume, size: int, method: str, device: str) -> dict:
    """A row; without figures when nothing is as small as that."""
    row = {"volume": volume.name, "target": size, "method": method}
    before = os.getloadavg()[0]
    networks = {"compact": compact, "placed": placed, "rounded": rounded}
    found = networks[method](volume, size, device) if method in networks else codec(method, volume, size)
    if found is None:
        return {**row, "bytes": None}
    return {
        **row, **figures(volume, found), "setting": found.setting, "load": round((before + os.getloadavg()[0]) / 2, 1)
    }  # fmt: skip


def figures(volume: Volume, found: Stored) -> dict:
    """What is measured of stored bytes that are read back."""
    generator = np.random.default_rng(0)
    dims = volume.grid.dims
    index = np.stack([generator.integers(0, n, POINTS) for n in dims], axis=1)
    first = [max(n - SIDE, 0) // 2 for n in dims]
    region = Region(first, [min(a + SIDE, n) for a, n in zip(first, dims)])
    errors = errors_of("", volume.values, found.opened(found.data).whole())
    span = float(volume.values.max()) - float(volume.values.min())
    return {
        "bytes": len(found.data), "ratio": round(volume.values.nbytes / len(found.data), 1),
        "psnr": round(errors["psnr"], 2), "max error": round(errors["max_error"] / span, 5), "ssim": round(errors["ssim"], 4),
        "encode": round(found.seconds, 2), "decode": fastest(lambda: found.opened(found.data).whole()),
        "points": fastest(lambda: found.opened(found.data).points(index)),
        "region": fastest(lambda: found.opened(found.data).region(region)),
    }  # fmt: skip


def fastest(action: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return round(min(taken), 4)


def targets(volume: Volume, options) -> list[int]:
    found = []
    for size in options.bytes + [round(volume.values.nbytes / ratio) for ratio in options.ratios]:
        if size >= LEAST_BYTES and all(abs(size / other - 1) > SAME_BYTES for other in found):
            found.append(size)
    return found


def draw(path: Path, name: str, rows: list[dict]) -> None:
    """PSNR over bytes of one volume."""
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        print(f"no pictures: {error}")
        return
    figure, axes = pyplot.subplots(figsize=(5, 3.6), layout="constrained")
    for method in METHODS:
        line = sorted((row["bytes"], row["psnr"]) for row in rows if row["method"] == method and row["bytes"])
        style = "-o" if method in METHODS[:3] else "--s"
        axes.plot(*zip(*line) if line else ((), ()), style, label=method, markersize=4, linewidth=1)
    axes.set(xscale="log", xlabel="bytes", ylabel="PSNR in dB", title=name)
    axes.grid(True, which="both", linewidth=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path.with_name(f"{path.stem}_{name.replace(':', '_by_')}.png"), dpi=90)
    pyplot.close(figure)


def arguments():
    made = parser(__doc__)
    made.add_argument("--bytes", type=numbers, default=[84_000], help="of files")
    made.add_argument("--ratios", type=numbers, default=[100, 300], help="bytes of the volume over those of a file")
    made.add_argument("--methods", type=words, default=METHODS, help=f"some of {','.join(METHODS)}")
    made.add_argument("--pictures", action="store_true", help="beside the JSON file")
    made.set_defaults(json=RESULTS)
    return made.parse_args()


def methods_of(options) -> tuple[list[str], str]:
    """Those that are wanted and can be imported; the version of the codecs."""
    try:
        there, version = METHODS, importlib.import_module("imagecodecs").__version__
    except ImportError as error:
        print(f"the codecs are left out: {error}")
        there, version = METHODS[:3], ""
    return [method for method in options.methods if method in there], version


def main() -> None:
    options = arguments()
    begin(options)
    warm_up(options.device)
    rows = rows_before(options)
    methods, version = methods_of(options)
    for volume in map(load, options.volumes):
        for size in targets(volume, options):
            for method in methods:
                key = (volume.name, size, method)
                if not any((row["volume"], row["target"], row["method"]) == key for row in rows):
                    rows.append(measure(volume, size, method, options.device))
                    print(rows[-1], flush=True)
                    write_json(options, rows, imagecodecs=version)
        own = [row for row in rows if row["volume"] == volume.name]
        print_table(own)
        if options.pictures:
            draw(options.json, volume.name, own)


if __name__ == "__main__":
    main()
