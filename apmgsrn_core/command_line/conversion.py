"""convert: makes a model file of a model that the published APMGSRN code has saved.

The folder holds options.json and model.ckpt.tar, or those of the parts of an ensemble. Nothing of it is executed."""

from __future__ import annotations

import argparse

from ..file.model_writer import write_bytes
from ..network.model_config import STORAGE_BYTES
from .arguments import checked_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what it does not tell."""
    parser.add_argument("folder", metavar="FOLDER", help="as the published code saves it, SavedModels/NAME")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="the model file, *.apmgsrn")
    parser.add_argument("--array", default="", metavar="NAME", help="what the array is called (default: as the data file)")
    parser.add_argument("--storage", choices=tuple(STORAGE_BYTES), default="float32", help="of the weights (default: float32)")
    for name, default in (("--spacing", (1, 1, 1)), ("--origin", (0, 0, 0))):
        parser.add_argument(name, nargs=3, type=float, default=default, metavar=("X", "Y", "Z"),
                            help=f"of the data, which the folder does not tell (default: {' '.join(map(str, default))})")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Convert and write."""
    from .. import convert_reference

    checked_output(options.output, ".apmgsrn")
    data = convert_reference(
        options.folder, options.storage, options.array, tuple(options.spacing), tuple(options.origin)
    )  # fmt: skip
    write_bytes(options.output, data)
    print(f"{options.output}: {len(data)} bytes")
