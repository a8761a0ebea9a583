"""Small real files of every kind that is read, for the fuzz test: `write_seeds` makes a folder of each."""

from __future__ import annotations

import base64
import json
import lzma
import zlib
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from reference_folders import ReferencePart, extents_of
from volumes import tiny, wave

from apmgsrn_core import ArraySpec, Grid, ModelConfig, train_samples, train_series, train_volume
from apmgsrn_core.baselines.siren import Siren
from apmgsrn_core.command_line.image_data_file import image_data_text
from apmgsrn_core.foreign.network_writer import save_network
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.training.checkpoint import Checkpoint

MODEL = ModelConfig(3, 2, (3, 4, 5), hidden_width=8)
LATTICES = ModelConfig.of_bytes(4000, (9, 8, 7))
QUIET = {"device": "cpu", "on_progress": lambda state: True, "on_warning": lambda line: None}
TRAINING = {"model": MODEL, "train": tiny(iterations=6, rounding=0.0), "bricks": (2, 1, 1), **QUIET}


def _trained(values, grid, model=MODEL, rounding=0.0, **settings) -> bytes:
    own = {name: settings.pop(name) for name in ("error_bound", "rate_bytes") if name in settings}
    train = tiny(iterations=6, rounding=rounding, **own)
    return train_volume(values, grid, model=model, train=train, **QUIET, **settings).to_bytes()


def _holes() -> tuple[np.ndarray, Grid]:
    values, grid = wave((9, 8, 7))
    values[2:4, 3:, :2] = np.nan
    return values, grid


def _arrays() -> bytes:
    vectors, grid = wave((9, 8, 7), components=3)
    values = np.concatenate([vectors, np.exp(vectors[..., :1] / 20)], axis=3)
    return _trained(values, grid, arrays=(ArraySpec("v", 3), ArraySpec("w", 1, transform="log")))


def _series() -> bytes:
    steps = ((float(t), wave((9, 8, 7))[0] * (1 + 0.01 * t)) for t in range(3))
    train = tiny(iterations=20)
    return list(train_series(steps, Grid((9, 8, 7)), model=MODEL, train=train, **QUIET))[-1].to_bytes()


def _stretched() -> bytes:
    values, _ = wave((9, 8, 7))
    grid = Grid.stretched([np.cumsum(np.linspace(0.3, 0.7, n)).tolist() for n in (9, 8, 7)])
    return _trained(values, grid, ModelConfig(3, 2, (3, 4, 5), hidden_width=8, storage="float32"))


def _mesh() -> bytes:
    grid = Grid((9, 8, 7))
    points = np.random.default_rng(0).random((600, 3)) * (np.array(grid.dims) - 1)
    values = np.stack([points[:, 0], points[:, 1] ** 2], axis=1)
    covered = np.random.default_rng(1).random((12, 14, 16)) < 0.7
    arrays = (ArraySpec("t", 1, "float32", "cell"), ArraySpec("p", 1, "float64", "point"))
    train = tiny(iterations=6, rounding=0.0)
    return train_samples(points, values, grid, arrays=arrays, covered=covered, model=MODEL, train=train, **QUIET).to_bytes()


def models() -> dict[str, bytes]:
    """Model files by what is special about them."""
    values, grid = wave((9, 8, 7), spacing=(0.5, 1, 2), dtype="int16")
    cells, cell_grid = wave((10, 9, 8), association="cell")
    large, large_grid = wave((33, 32, 31))
    return {
        "float16": _trained(values, grid, unit="kg/m^3"), "float32": _stretched(),
        "rounded": _trained(values, grid, rounding=0.1), "compact": _trained(values, grid, LATTICES, 0.1, rate_bytes=4000),
        "bricks": _trained(*_holes(), rounding=0.1, bricks=(2, 2, 1)),
        "cells": _trained(cells, cell_grid, bricks=(1, 2, 1)), "series": _series(), "mask": _trained(*_holes()),
        "residual": _trained(*_holes(), LATTICES, 0.1, error_bound=0.02, bricks=(2, 1, 1)), "arrays": _arrays(),
        "mesh": _mesh(),
        "macrocells": _trained(large, large_grid, ModelConfig(2, 2, (16, 16, 16)), rounding=0.1, bricks=(2, 1, 1)),
    }  # fmt: skip


def images() -> dict[str, bytes]:
    """.vti files in the encodings that are read."""
    values, grid = wave((5, 4, 3))
    inline = image_data_text({"a": values, "v": np.stack([values] * 3, axis=3)}, grid)
    plain = " ".join(map(str, values.ravel().tolist()))
    raw = values.astype("<f4").tobytes()
    blocks = [zlib.compress(raw[i : i + 64]) for i in range(0, len(raw), 64)]
    packed = [lzma.compress(raw)]
    head = np.array([len(blocks), 64, len(raw) % 64, *map(len, blocks)], "<u4").tobytes()
    packed_head = np.array([1, len(raw), 0, len(packed[0])], "<u4").tobytes()
    coded = base64.b64encode(packed_head) + base64.b64encode(packed[0])
    halves = "".join(
        _piece(f"{a} {b} 0 3 0 2", 'format="ascii"', " ".join(map(str, values[:, :, a : b + 1].ravel()))) for a, b in ((0, 2), (2, 4))
    )
    appended = b'<AppendedData encoding="raw">_'
    raw_tail, zipped = np.uint32(len(raw)).tobytes() + raw, head + b"".join(blocks)
    return {
        "inline": inline, "ascii": _image(_piece("0 4 0 3 0 2", 'format="ascii"', plain)), "pieces": _image(halves),
        "lzma": _image(_piece("0 4 0 3 0 2", 'format="binary"', coded.decode()), "vtkLZMADataCompressor"),
        "appended": _image(_piece("0 4 0 3 0 2", 'format="appended" offset="0"', ""), tail=appended + raw_tail),
        "blocks": _image(_piece("0 4 0 3 0 2", 'format="appended" offset="0"', ""), "vtkZLibDataCompressor", appended + zipped),
    }  # fmt: skip


def _piece(extent: str, form: str, text: str) -> str:
    array = f'<DataArray type="Float32" Name="a" NumberOfComponents="1" {form}>{text}</DataArray>'
    return f'<Piece Extent="{extent}"><PointData>{array}</PointData></Piece>'


def _image(pieces: str, compressor: str = "", tail: bytes = b"") -> bytes:
    packed = f' compressor="{compressor}"' if compressor else ""
    head = f'<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt32"{packed}>'
    place = '<ImageData WholeExtent="0 4 0 3 0 2" Origin="0 0 0" Spacing="1 1 1">'
    return f"{head}{place}{pieces}</ImageData>".encode() + (tail + b"</AppendedData>" if tail else b"") + b"</VTKFile>"


def rasters() -> dict[str, dict[str, bytes]]:
    """NRRD and .npy files, one of them with its data in another file."""
    values = np.arange(60, dtype="<f4").reshape(3, 4, 5)
    head = "NRRD0005\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\nspace directions: (1,0,0) (0,2,0)"
    head += " (0,0,3)\nspace origin: (1,2,3)\nendian: little\nencoding: "
    raw = values.tobytes()
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    saved = np.lib.format.header_data_from_array_1_0(values)
    text = repr(saved).ljust(117) + "\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + raw
    return {
        "raw": {"a.nrrd": f"{head}raw\n\n".encode() + raw},
        "gzip": {"a.nrrd": f"{head}gzip\n\n".encode() + packer.compress(raw) + packer.flush()},
        "detached": {"a.nhdr": f"{head}raw\ndata file: b.dat\n\n".encode(), "b.dat": raw},
        "array": {"a.npy": npy},
    }  # fmt: skip


class _Cut(Exception):
    """Ends a training where it stands."""


def _interrupt(folder: Path) -> None:
    """Leave the folder of a training that was cut off in its second brick."""
    values, grid = wave((9, 8, 7))
    original = Checkpoint.save

    def save(self, state: dict) -> None:
        original(self, state)
        if self.path.name == "brick-1.state":
            raise _Cut

    with mock.patch.object(Checkpoint, "save", save), suppress(_Cut):
        train_volume(values, grid, path=folder / "m.apmgsrn", checkpoint_interval=1e-9, **TRAINING)


def write_seeds(folder: Path) -> None:
    """One folder for each seed, `KIND NAME`, with its files."""
    torch.manual_seed(0)
    known = models()
    found = {f"model {name}": {"m.apmgsrn": data} for name, data in known.items()}
    found |= {"append series": {"m.apmgsrn": known["series"]}, "initial float16": {"m.apmgsrn": known["float16"]}}
    found |= {f"volume {name}": {"a.vti": data} for name, data in images().items()}
    found |= {f"volume {name}": files for name, files in rasters().items()}
    colours = [{"Name": "c", "RGBPoints": [0, 0, 0, 0, 1, 1, 1, 1], "Points": [0, 0, 0.5, 0, 1, 1, 0.5, 0]}]
    found["colours map"] = {"c.json": json.dumps(colours).encode()}
    found["points csv"] = {"p.csv": b"x,y,z\n1,2,3\n0.5,1e3,-2\n"}
    for name, files in found.items():
        (folder / name).mkdir(parents=True)
        for file, data in files.items():
            (folder / name / file).write_bytes(data)
    ReferencePart(shape=(3, 4, 5), width=8).save(folder / "reference single", (7, 8, 9))
    _write_ensemble(folder / "reference ensemble")
    (folder / "network siren").mkdir()
    info = ArrayInfo("wave", "point", 1, "float32", (0.0, 2.0))
    save_network(folder / "network siren" / "n.network.json", Siren(1, 8, 1), Grid((5, 4, 3)), (info,))
    (folder / "training cut").mkdir()
    _interrupt(folder / "training cut")


def _write_ensemble(folder: Path) -> None:
    shape, counts = (7, 8, 9), (1, 1, 2)
    for x in range(2):
        extents = ",".join(map(str, extents_of(shape, counts, (0, 0, x))))
        part = ReferencePart(x, grids=2, shape=(3, 3, 3), width=8)
        part.save(folder / f"part{x}", shape, extents=extents, grid_index=f"0,0,{x}")
    options = {**part.options, "ensemble": True, "ensemble_grid": list(counts), "full_shape": list(shape)}
    (folder / "options.json").write_text(json.dumps(options))
