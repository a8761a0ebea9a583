"""Python and its packages: which there are, in which versions, and whether one hides another of ParaView's."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
from difflib import get_close_matches
from pathlib import Path

from .. import __version__
from ..errors import one_line
from ..messages import VARIABLE, unknown_word
from .finding import NOTE, PROBLEM, ROOT, Finding, is_for_paraview, python_program, set_up_command, started_with
from .requirements import OPTIONAL, USES, specifier, wrong_version

AREA = "Python"
OF_PARAVIEW = {"numpy": "numpy", "vtkmodules": "vtk", "mpi4py": "mpi4py"}  # package -> what pip calls it
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
VARIABLES = (VARIABLE, "APMGSRN_KERNELS", "APMGSRN_CPU")


def python_findings() -> list[Finding]:
    """Python, this package and its environment variables."""
    found = [
        Finding(AREA, "Python", f"{platform.python_version()} ({python_program()})"),
        Finding(AREA, "system", platform.platform()),
        Finding(AREA, "apmgsrn", f"{__version__} in {ROOT}"),
    ]
    if problem := unknown_word():
        found.append(Finding(AREA, VARIABLE, problem, PROBLEM, f"export {VARIABLE}=info"))
    for name in sorted(os.environ):
        if name not in VARIABLES and (meant := get_close_matches(name, VARIABLES, 1, 0.8)):
            text = f"does nothing; {meant[0]} is meant?"
            found.append(Finding(AREA, name, text, NOTE, f"unset {name}"))
        elif name in VARIABLES and os.environ[name] and not (name == VARIABLE and problem):
            found.append(Finding(AREA, name, os.environ[name]))
    return found


def package_findings() -> list[Finding]:
    """numpy, what else is needed, and what some uses need."""
    found = [_needed(name) for name in ("numpy", "safetensors", "tqdm")]
    for name in (*OPTIONAL, "triton"):
        version = version_of(name)
        found.append(_there(name, version, folder_of(name)) if version else Finding(AREA, name, f"not there; {USES[name]}"))
    return found + doubled_findings()


def _there(name: str, version: str, folder) -> Finding:
    text, wrong = f"{version} in {folder}", wrong_version(name, version)
    return Finding(AREA, name, f"{text}; {wrong}", PROBLEM, install_command(name)) if wrong else Finding(AREA, name, text)


def _needed(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # of any kind: a broken package
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        text = "not there" if missing else f"cannot be imported: {one_line(error)}"
        return Finding(AREA, name, f"{text}{elsewhere(name)}", PROBLEM, how_to_get(name))
    return _there(name, getattr(module, "__version__", version_of(name)), Path(module.__file__).parent.parent)


def install_command(name: str) -> str:
    """By pip, into this Python."""
    return f"{python_program()} -m pip install '{specifier(name)}'"


def how_to_get(name: str) -> str:
    """What to type when a package that is needed cannot be imported: in a checkout by its own scripts, otherwise by pip.

    One that is broken is taken off the path where it hides another, and comes anew where it does not; that of a second numpy
    is not the broken one.
    """
    folders, venv = folders_with(name), ROOT / ".venv"
    own = venv / "lib" / VERSION / "site-packages"
    if folders:
        if second := doubled_findings():
            return second[0].fix
        if len(folders) > 1:
            return removal_command(folders[0], name)
        if folders[0] == own:
            return f"rm -r {shlex.quote(str(venv))} && {set_up_command('install')}"
        return f"{install_command(name)} --force-reinstall --no-deps"
    if not is_for_paraview():
        return install_command(name)
    return set_up_command("env") if (own / name).is_dir() else set_up_command("install", "env")


def elsewhere(name: str) -> str:
    """Where a package that cannot be imported is found, or that it is there for another Python; "" when it is neither."""
    if folders := folders_with(name):
        return f" (of {folders[0]})"
    lib = ROOT / ".venv" / "lib"
    others = [folder.parent.parent.name for folder in sorted(lib.glob(f"python3*/site-packages/{name}"))]
    return f"; {lib} has one for {others[0]}" if others and VERSION not in others else ""


def doubled_findings() -> list[Finding]:
    """A numpy, vtk or mpi4py that is found before ParaView's own: ParaView's Python fails with it, or crashes."""
    home = home_of_paraview()
    found = []
    for package, distribution in OF_PARAVIEW.items():
        folders = folders_with(package)
        if home is None or home not in folders or folders[0] == home:
            continue
        text = f"the one in {folders[0]} hides ParaView's own in {home}"
        found.append(Finding("ParaView", f"second {distribution}", text, PROBLEM, removal_command(folders[0], distribution)))
    return found


def home_of_paraview() -> Path | None:
    """The folder in which this Python finds ParaView's own packages; None when it finds none."""
    return next((folder for folder in folders_with("paraview") if (folder / "vtkmodules").is_dir()), None)


def folders_with(package: str) -> list[Path]:
    """Where on the path a package lies, in the order in which it is found."""
    folders = []
    for entry in sys.path:
        folder = Path(entry or os.curdir).resolve()
        there = (folder / package / "__init__.py").is_file() or (folder / f"{package}.py").is_file()
        if there and folder not in folders:
            folders.append(folder)
    return folders


def removal_command(folder: Path, distribution: str) -> str:
    """How a package leaves the path: by pip of the virtual environment in which it lies, or by PYTHONPATH."""
    venv = next((parent for parent in folder.parents if (parent / "pyvenv.cfg").is_file()), None)
    if venv is not None:
        return f"{shlex.quote(str(venv / 'bin' / 'python'))} -m pip uninstall {distribution}"
    entries = [entry for entry in (started_with("PYTHONPATH") or "").split(os.pathsep) if entry]
    rest = [entry for entry in entries if Path(entry).resolve() != folder]
    if len(rest) < len(entries):
        return f"export PYTHONPATH={shlex.quote(os.pathsep.join(rest))}" if rest else "unset PYTHONPATH"
    return f"{python_program()} -m pip uninstall {distribution}"


def version_of(name: str) -> str:
    """As the package manager knows it; "" when it does not."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def folder_of(name: str) -> str:
    """Where Python would find it."""
    spec = importlib.util.find_spec(name)
    return "a folder that is not on the path" if spec is None or not spec.origin else str(Path(spec.origin).parent.parent)
