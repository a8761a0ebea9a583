"""Options that several commands have, and options made of the fields of a configuration."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields

from ..errors import DataError, FieldError

KINDS = {
    "int": {"type": int, "metavar": "N"}, "float": {"type": float, "metavar": "V"}, "str": {"metavar": "WORD"},
    "float | None": {"type": float, "metavar": "V"},
    "bool": {"action": argparse.BooleanOptionalAction}, "bool | None": {"action": argparse.BooleanOptionalAction},
    "tuple[int, int, int]": {"type": int, "nargs": 3, "metavar": ("X", "Y", "Z")},
    "tuple[float, ...]": {"type": float, "nargs": "+", "metavar": "V"},
}  # fmt: skip


def add_config_arguments(parser: argparse.ArgumentParser, title: str, config: type, left_out: tuple[str, ...] = ()) -> None:
    """An option for each field of a configuration, named and explained as the field; None where it is not given."""
    group, told = parser.add_argument_group(title), explanations(config)
    for field in fields(config):
        if field.name in left_out:
            continue
        default = _default_text(field)
        kind = KINDS[field.type]
        help_text = told[field.name] + (f" (default: {default})" if default else "")
        group.add_argument(option(field.name), dest=field.name, default=None, help=help_text.replace("%", "%%"), **kind)


def given_fields(options: argparse.Namespace, config: type) -> dict:
    """{field: value} of the options that were given."""
    found = {field.name: getattr(options, field.name, None) for field in fields(config)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if value is not None}


def explanations(config: type) -> dict[str, str]:
    """{field: what the docstring's list of arguments says of it}."""
    text = re.split(r"\n(?:Args|Raises):\n", inspect.cleandoc(config.__doc__))[1]  # from Python 3.13 on it is clean already
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", text, re.M)
    return {name: " ".join(words.split()) for names, words in entries for name in names.split(", ")}


def option(name: str) -> str:
    """What a field is called on the command line."""
    return "--" + name.replace("_", "-")


def _default_text(field: Field) -> str:
    if field.default in (MISSING, None, "", ()):
        return ""
    return " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)


# -- a volume that is opened ------------------------------------------------------------------------


def add_model_arguments(
    parser: argparse.ArgumentParser, array: str = "the array (default: the first one)", between: bool = True
) -> None:
    """What is opened, and where it is evaluated."""
    parser.add_argument("model", metavar="MODEL", help="a model file, or a *.network.json that describes a PyTorch network")
    group = parser.add_argument_group("the model")
    if array:
        group.add_argument("--array", metavar="NAME", help=array)
    group.add_argument("--time", type=float, metavar="T",
                       help="the time step: the last one that is not later (default: the first)")  # fmt: skip
    if between:
        group.add_argument("--between", action="store_true", help="interpolate between two time steps")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    group.add_argument("--precision", default="auto", help="auto, full or fast (default: auto)")
    group.add_argument("--network-alone", action="store_true",
                       help="leave out what keeps the error bounds of a model: what its networks say")  # fmt: skip
    group.add_argument("--trust", action="store_true",
                       help="I trust the files of this network: they may run code. Model files never do")  # fmt: skip


def opened(options: argparse.Namespace):
    """The volume of the options."""
    from ..sampling.volume_opening import open_volume

    volume = open_volume(options.model, options.device, options.trust, options.precision, not options.network_alone)
    _check_time(options.time, volume.times)
    return volume


def _check_time(time: float | None, times: tuple[float, ...]) -> None:
    """Raise DataError for a time before all steps, or of a model that has none."""
    if time is not None and (not times or time < times[0]):
        expected = f"at least {readable_number(times[0])}, the first time step" if times else "none, of a model without time steps"
        raise DataError(f"--time: expected {expected}, found {readable_number(time)}")


def array_of(volume, name: str | None):
    """The ArrayInfo of an array, the first one when None. Raises FieldError."""
    names = [info.name for info in volume.arrays]
    if name is not None and name not in names:
        raise FieldError(f"no array {name!r}; there are {', '.join(names)}")
    return volume.arrays[names.index(name) if name is not None else 0]


def add_quiet_argument(parser: argparse.ArgumentParser) -> None:
    """Whether progress is shown."""
    parser.add_argument("--quiet", action="store_true", help="show no progress (it is shown on terminals alone)")


class progress:
    """A bar on a terminal for callbacks that are given the share done; `progress(what, quiet)` is a context."""

    def __init__(self, what: str, quiet: bool):
        self._what, self._quiet, self._bar = what, quiet, None

    def __enter__(self) -> Callable[[float], bool]:
        from tqdm import tqdm

        hidden = True if self._quiet else None  # None: unless on a terminal
        self._bar = tqdm(
            total=1.0, desc=self._what, disable=hidden, file=sys.stderr,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        )  # fmt: skip
        return self._show

    def __exit__(self, *_) -> None:
        self._bar.close()

    def _show(self, share: float) -> bool:
        self._bar.update(max(min(share, 1.0) - self._bar.n, 0.0))
        return True


def checked_output(path: str, *endings: str) -> str:
    """The ending of a path; DataError when it is another than these, before work is done for it."""
    from ..file.model_writer import check_writable

    found = next((ending for ending in endings if path.lower().endswith(ending)), None)
    if found is None:
        raise DataError(f"{path}: expected a file that ends in {' or '.join(endings)}")
    check_writable(path)
    return found


def readable_number(value: float) -> str:
    """A number in a table."""
    return f"{value:.6g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Columns under their names, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join(lines)

