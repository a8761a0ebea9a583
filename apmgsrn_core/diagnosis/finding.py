"""One thing that was looked at, and what is known of the program in which this runs."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

OK, NOTE, PROBLEM = "ok", "note", "problem"
ROOT = Path(__file__).resolve().parents[2]  # has plugin/, in a checkout and where it is installed for ParaView


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        area: What it belongs to, a heading.
        name: What was looked at.
        value: What was found.
        level: "ok", "note" (works, but may surprise) or "problem".
        fix: The command to type; a problem always has one.
    """

    area: str
    name: str
    value: str
    level: str = OK
    fix: str = ""


@dataclass(frozen=True)
class HostProgram:
    """The program that runs this Python, when it is one of ParaView's.

    Attributes:
        program: Its name.
        paraview, vtk: Their versions.
        ranks: That work together.
        torch_advice: What to type when torch is missing.
    """

    program: str
    paraview: str
    vtk: str
    ranks: int = 1
    torch_advice: str = ""


def python_path() -> str:
    """This Python as a program; inside ParaView `sys.executable` is another one, or none."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))


def python_program() -> str:
    """The same for a shell."""
    return shlex.quote(python_path())


def started_with(name: str) -> str | None:
    """An environment variable as the user has set it, before this program changed it; None when it was not set."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:  # not Linux
        return os.environ.get(name)
    head = f"{name}=".encode()
    return next((os.fsdecode(entry[len(head) :]) for entry in entries if entry.startswith(head)), None)


def set_up_command(*steps: str) -> str:
    """Commands of this folder's plugin/, one after the other: "install", "env"."""
    words = {"install": "bash", "env": "source"}
    return " && ".join(f"{words[step]} {shlex.quote(f'{ROOT}/plugin/{step}.sh')}" for step in steps)


def is_for_paraview() -> bool:
    """Whether this package lies beside the plugin, and not alone in a Python."""
    return (ROOT / "plugin" / "env.sh").is_file()
