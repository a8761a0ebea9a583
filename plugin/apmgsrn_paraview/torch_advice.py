"""What to type when ParaView's Python has no torch; it depends on how this ParaView was installed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import paraview

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = '"torch>=2.4,<3" safetensors tqdm'


@dataclass(frozen=True)
class Surroundings:
    """Where the plugin finds itself.

    Attributes:
        paraview, python: Their versions, (major, minor).
        prefix, base_prefix: Python's; they differ in a virtual environment (`paraview --venv`).
        root: Folder that has plugin/ and, after plugin/install.sh, .venv.
        windows: Whether this is Windows.
    """

    paraview: tuple
    python: tuple
    prefix: Path
    base_prefix: Path
    root: Path = ROOT
    windows: bool = False

    @classmethod
    def here(cls) -> Surroundings:
        version = tuple(int(part) for part in paraview.__version__.split(".")[:2])
        return cls(version, sys.version_info[:2], Path(sys.prefix), Path(sys.base_prefix), ROOT, os.name == "nt")


def torch_advice(place: Surroundings | None = None) -> str:
    """One sentence with the commands that give this ParaView torch."""
    place = place or Surroundings.here()
    python = f"python{place.python[0]}.{place.python[1]}"
    environment = place.root / "plugin" / "env.sh"
    if place.prefix != place.base_prefix:
        program = place.prefix.joinpath(*(("Scripts", "python") if place.windows else ("bin", "python")))
        return f'Type:  "{program}" -m pip install {PACKAGES}  and start ParaView again with  --venv "{place.prefix}"'
    if (place.root / ".venv" / "lib" / python / "site-packages" / "torch").is_dir():
        return f'ParaView was started without it. End it and type:  source "{environment}" && paraview'
    if (place.base_prefix / "bin" / python).exists():  # the system's, as of Debian's ParaView
        install = place.root / "plugin" / "install.sh"
        return f'End ParaView and type:  bash "{install}" && source "{environment}" && paraview'
    return "This ParaView has a Python of its own. End it and type:  " + _with_own_python(place, python)


def _with_own_python(place: Surroundings, python: str) -> str:
    """The commands for Kitware's binaries: an environment of the same Python, made by one of the system."""
    if place.windows:
        folder, packages = r"%USERPROFILE%\apmgsrn-torch", "Lib\\site-packages"
        make = f'py -{python[6:]} -m venv "{folder}" && "{folder}\\Scripts\\python" -m pip install {PACKAGES}'
        by_path = f'set "PYTHONPATH={folder}\\{packages};%PYTHONPATH%" && paraview'
    else:
        folder, packages = "$HOME/apmgsrn-torch", f"lib/{python}/site-packages"
        make = f'{python} -m venv "{folder}" && "{folder}/bin/python" -m pip install {PACKAGES}'
        by_path = f'PYTHONPATH="{folder}/{packages}:$PYTHONPATH" paraview'
    return f"{make} && " + (f'paraview --venv "{folder}"' if place.paraview >= (5, 13) else by_path)
