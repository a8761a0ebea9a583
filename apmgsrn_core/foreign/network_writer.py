"""Saving a torch network with its description, as `open_volume` opens it."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path

import torch
from torch import nn

from ..errors import ConfigError
from ..file.manifest import ArrayInfo
from ..file.model_writer import write_bytes
from ..grid import Grid
from ..validation import check
from .network_description import DERIVATIVES, ENDING, FORMAT, OUTPUTS, VERSION, description_of

KINDS = {"class": ".safetensors", "torchscript": ".torchscript.pt", "export": ".pt2"}
SAMPLE = 8  # points that a program is recorded with


def save_network(
    path: str | os.PathLike,
    network: nn.Module,
    grid: Grid,
    arrays: tuple[ArrayInfo, ...],
    kind: str = "class",
    outputs: str = "normalised",
    derivatives: str = "auto",
    arguments: dict | None = None,
    code: str | os.PathLike | None = None,
) -> Path:
    """Write NAME.network.json and, beside it, what it names.

    Args:
        path: Of the description; must end in ".network.json".
        network: (n, 3) -> (n, components), see `network_description.py`.
        grid: Where its values are.
        arrays: What it gives, in order, as `BaselineResult.arrays`.
        kind: "class" (weights in safetensors), "torchscript" (traced) or "export" (torch.export).
        outputs: "normalised" or "unit".
        derivatives: "auto", "autograd" or "differences".
        arguments: Of the constructor, for "class"; None: the network's own `arguments`.
        code: The Python file that defines the class, copied beside the description; None: the class is imported.

    Returns:
        The path.

    Raises:
        ConfigError: A setting is not allowed. ModelFileError: it cannot be written.
    """
    path = Path(path)
    check(path.name.lower().endswith(ENDING), "path", f"a name that ends in {ENDING!r}", str(path))
    check(kind in KINDS, "kind", f"one of {tuple(KINDS)}", kind)
    check(outputs in OUTPUTS, "outputs", f"one of {OUTPUTS}", outputs)
    check(derivatives in DERIVATIVES, "derivatives", f"one of {DERIVATIVES}", derivatives)
    if kind != "class" and (arguments is not None or code is not None):
        raise ConfigError(f"arguments and code: expected none of a network of kind {kind!r}, which needs no class")
    file = path.with_name(path.name[: -len(ENDING)] + KINDS[kind])
    entry = {"kind": kind, "file": file.name}
    if kind == "class":
        entry.update(_class_entry(network, arguments, code))
    places = grid.to_dict()
    places.pop("axes" if grid.axes is None else "direction", None)
    places.pop("bounds")
    data = {
        "format": FORMAT, "version": VERSION, "network": entry, "grid": places, "arrays": [a.to_dict() for a in arrays],
        "outputs": outputs, "derivatives": derivatives,
    }  # fmt: skip
    description_of(data, str(path), path.parent)
    {"class": _save_weights, "torchscript": _save_torchscript, "export": _save_export}[kind](network, file)
    if code is not None and Path(code).resolve() != (path.parent / Path(code).name).resolve():
        write_bytes(path.parent / Path(code).name, Path(code).read_bytes())
    write_bytes(path, json.dumps(data, indent=1).encode())
    return path


def _class_entry(network: nn.Module, arguments: dict | None, code) -> dict:
    """What a description says of a class."""
    kind = type(network)
    found = getattr(network, "arguments", None) if arguments is None else arguments
    if not isinstance(found, dict):
        raise ConfigError(f"arguments: expected those that {kind.__name__} was made with, by name, found {found!r}")
    if code is not None:
        return {"class": kind.__qualname__, "arguments": found, "code": Path(code).name}
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ConfigError(
            f"class {kind.__qualname__}: expected one that can be imported, or the Python file that defines it as code, found"
            f" it in {kind.__module__!r}"
        )
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "arguments": found}


def _save_weights(network: nn.Module, file: Path) -> None:
    from safetensors.torch import save

    write_bytes(file, save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}))


def _save_torchscript(network: nn.Module, file: Path) -> None:
    with warnings.catch_warnings():  # torch advises torch.export instead
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(network, _sample(network)), buffer)
    write_bytes(file, buffer.getvalue())


def _save_export(network: nn.Module, file: Path) -> None:
    points = torch.export.Dim("points", min=1, max=1 << 40)  # without a maximum torch 2.6 refuses some networks
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(network, (_sample(network),), dynamic_shapes=({0: points},)), buffer)
    write_bytes(file, buffer.getvalue())


def _sample(network: nn.Module) -> torch.Tensor:
    """(SAMPLE, 3) points where the network is."""
    tensor = next(network.parameters(), torch.zeros(()))
    return torch.rand(SAMPLE, 3, generator=torch.Generator().manual_seed(0)).to(tensor.device) * 2 - 1
