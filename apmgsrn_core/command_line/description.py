"""info: tells what a model file says about itself; its networks are not read, unless they keep error bounds."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np

from ..device import require_torch
from ..file.manifest import Header
from ..file.model_file import ModelFile
from ..grid import IDENTITY
from ..sampling.volume_opening import open_header
from .arguments import readable_number, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the form."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or a *.network.json")
    parser.add_argument("--json", action="store_true", help="the whole manifest as JSON, with the file's size")


def run(options: argparse.Namespace) -> None:
    """Print it."""
    header = open_header(options.model)
    if options.json:
        print(json.dumps({"file": options.model, "bytes": header.byte_count, **header.manifest}, indent=1, sort_keys=True))
        return
    print("\n".join(f"{name + ':':<14}{text}" for name, text in _lines(options.model, header)))
    print(_arrays(header))
    for title, config in (("network", header.manifest.get("model")), ("training", header.manifest.get("training"))):
        if config:
            print(f"\n{title}:")
            print("\n".join(f"  {name:<24}{_plain(value)}" for name, value in config.items()))


def _lines(path: str, header: Header) -> list[tuple[str, str]]:
    """(name, text) of what there is once."""
    grid, layout, manifest = header.grid, header.layout, header.manifest
    values = math.prod(grid.value_dims)
    size = sum(a.components * np.dtype(a.dtype).itemsize for a in header.arrays) * values * max(len(header.times), 1)
    lines = [
        ("file", path),
        ("size", f"{header.byte_count} bytes; the data has {size}, {size / max(header.byte_count, 1):.1f} times as many"),
        ("points", " x ".join(map(str, grid.dims))),
        ("values", f"{' x '.join(map(str, grid.value_dims))} on {grid.association}s"),
        ("origin", _plain(grid.origin)),
        ("spacing", _plain(grid.spacing) + (" on the average (stretched)" if grid.axes else "")),
    ]
    if grid.direction != IDENTITY:
        lines.append(("direction", "; ".join(_plain(row) for row in grid.direction)))
    lines.append(("bounds", _plain(grid.bounds)))
    lines.append(("bricks", f"{' x '.join(map(str, layout.counts))}, ghosts {layout.ghosts}, overlap {layout.overlap}"))
    times = f"{len(header.times)}: {_some(header.times)}" if header.times else "none"
    lines += [("time steps", times), ("mask", header.mask or "none"), ("key", header.key or "none")]
    coders = sorted({section["coder"] for section in manifest.get("sections", [])})
    lines += [("coders", ", ".join(coders))] if coders else []
    lines += [("requires", ", ".join(manifest["requires"]) or "nothing")] if "requires" in manifest else []
    return lines + ([("residual", _shares(path))] if header.bounded else [])


def _shares(path: str) -> str:
    """What networks and residuals take, of all time steps together."""
    from ..residual.shares import Shares

    require_torch()
    return str(Shares.of_file(ModelFile(path)))


def _arrays(header: Header) -> str:
    """A table of the arrays, with the range and the largest error bound over all steps."""
    rows = []
    for number, array in enumerate(header.arrays):
        low, high = (choose(r[number][end] for r in header.ranges) for end, choose in enumerate((min, max)))
        transform = array.transform.kind + (f" {array.transform.scale:g}" if array.transform.kind == "asinh" else "")
        bound = max(bounds[number] for bounds in header.bounds)
        rows.append([
            array.name, str(array.components), array.dtype, array.association, readable_number(low), readable_number(high),
            transform, array.unit or "-", readable_number(bound) if bound else "-",
        ])  # fmt: skip
    head = ["array", "components", "type", "on", "minimum", "maximum", "transform", "unit", "error bound"]
    shown = len(head) if header.bounded else -1
    return "\n" + table(head[:shown], [row[:shown] for row in rows])


def _some(numbers) -> str:
    """All of a few numbers, the ends of many."""
    texts = [readable_number(n) for n in numbers]
    return " ".join(texts if len(texts) <= 8 else [*texts[:4], "...", texts[-1]])


def _plain(value) -> str:
    """A value of a configuration or a tuple of numbers."""
    if isinstance(value, (list, tuple)):
        return " ".join(_plain(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(v)}" for name, v in value.items())
    return readable_number(value) if isinstance(value, float) else "automatic" if value is None else str(value)
