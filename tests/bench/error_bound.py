"""Bytes within an error bound: our models and codecs, each value of which is within it.

    python tests/bench/error_bound.py [--bounds 0.1,0.01,0.001] [--methods model,SPERR,SZ3,ZFP] [--json FILE] DATA ...

Bounds are relative to the range. `model`: TrainConfig(error_bound=...), all else by itself, in one brick; `network` is the share of
its file that is not residual. Codecs at that bound as an absolute error, from imagecodecs (no dependency of the project; without it
they are left out); of a codec the bytes are its stream alone. `to SPERR` is bytes over those of SPERR at the same bound. Largest
error, PSNR and seconds are measured as in `rate_distortion.py`, with the stored bytes read back.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path

from measurement import begin, parser, print_table, rows_before, words, write_json  # isort: skip (sets the path)

import numpy as np
from apmgsrn_core import ModelFile, TrainConfig, train_volume
from ours import warm_up
from rate_distortion import OpenArray, OpenNetwork, Stored, figures
from volumes import Volume, load

METHODS = ["model", "SPERR", "SZ3", "ZFP"]
RESULTS = Path(__file__).parent / "results" / "error_bound.json"


def model(volume: Volume, bound: float, device: str) -> Stored:
    start = time.perf_counter()
    result = train_volume(
        volume.values, volume.grid, train=TrainConfig(error_bound=bound), device=device, bricks=(1, 1, 1), on_progress=lambda _: True
    )
    data = result.to_bytes()
    return Stored(data, time.perf_counter() - start, "", lambda found: OpenNetwork(found, device))


def codec(name: str, volume: Volume, bound: float) -> Stored:
    codecs = importlib.import_module("imagecodecs")
    values = np.ascontiguousarray(volume.values, dtype=np.float32)
    most = bound * (float(values.max()) - float(values.min()))
    encode = {
        "SPERR": lambda: codecs.sperr_encode(values, most, mode="pwe", numthreads=1),
        "SZ3": lambda: codecs.sz3_encode(values, mode="abs", abs=most),
        "ZFP": lambda: codecs.zfp_encode(values, most, mode="a", execution="serial"),
    }[name]
    decode = {
        "SPERR": lambda data: codecs.sperr_decode(data, numthreads=1),
        "SZ3": lambda data: codecs.sz3_decode(data, values.shape, values.dtype),
        "ZFP": codecs.zfp_decode,
    }[name]
    start = time.perf_counter()
    data = bytes(encode())
    return Stored(data, time.perf_counter() - start, "", lambda found: OpenArray(decode(found)))


def measure(volume: Volume, bound: float, method: str, device: str, rows: list[dict]) -> dict:
    before = os.getloadavg()[0]
    found = model(volume, bound, device) if method == "model" else codec(method, volume, bound)
    row = {"volume": volume.name, "bound": bound, "method": method, **figures(volume, found)}
    if method == "model":
        residual = len(ModelFile(found.data).read_section(0, 0)["residual"])
        row["network"] = round(1 - residual / len(found.data), 3)
    row["load"] = round((before + os.getloadavg()[0]) / 2, 1)
    sperr = next((r["bytes"] for r in [*rows, row] if (r["volume"], r["bound"], r["method"]) == (volume.name, bound, "SPERR")), None)
    return {**row, "to SPERR": round(row["bytes"] / sperr, 3)} if sperr else row


def arguments():
    made = parser(__doc__)
    made.add_argument("--bounds", type=words, default=["0.1", "0.01", "0.001"], help="relative to the range")
    made.add_argument("--methods", type=words, default=["SPERR", "SZ3", "ZFP", "model"], help=f"some of {','.join(METHODS)}")
    made.set_defaults(json=RESULTS)
    return made.parse_args()


def main() -> None:
    options = arguments()
    begin(options)
    warm_up(options.device)
    rows = rows_before(options)
    try:
        version = importlib.import_module("imagecodecs").__version__
    except ImportError as error:
        print(f"the codecs are left out: {error}")
        version, options.methods = "", ["model"]
    for volume in map(load, options.volumes):
        for bound in map(float, options.bounds):
            for method in options.methods:
                if not any((r["volume"], r["bound"], r["method"]) == (volume.name, bound, method) for r in rows):
                    rows.append(measure(volume, bound, method, options.device, rows))
                    print(rows[-1], flush=True)
                    write_json(options, rows, imagecodecs=version)
        print_table([row for row in rows if row["volume"] == volume.name])


if __name__ == "__main__":
    main()
