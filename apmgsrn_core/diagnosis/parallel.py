"""Several ranks: mpi4py, the MPI that it was built for, and the one that `mpirun` belongs to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from ..device import world_from_environment
from .finding import NOTE, PROBLEM, Finding, HostProgram, python_path, python_program
from .packages import folder_of, version_of

AREA = "MPI"
ASK = "import mpi4py\nmpi4py.rc.initialize = False\nfrom mpi4py import MPI\nprint(MPI.Get_library_version())"
KINDS = {
    "open mpi": "Open MPI", "openrte": "Open MPI", "intel": "Intel MPI", "mvapich": "MVAPICH", "mpich": "MPICH",
    "hydra": "MPICH",
}  # fmt: skip
LAUNCHED = re.compile(r"(OMPI|PMI|PMIX|MV2|MPI|HYDRA)_")
SECONDS = 30


def mpi_findings(host: HostProgram | None) -> list[Finding]:
    """What of it is there; inside ParaView no program is started."""
    found = []
    if host is not None:
        found.append(_ranks(host))
    version, library = version_of("mpi4py"), _library(host)
    if not version:
        return [*found, Finding(AREA, "mpi4py", "not there; only several ranks need it")]
    if library.startswith("failed"):
        fix = f"{python_program()} -m pip install --force-reinstall --no-binary=mpi4py mpi4py"
        if "dist-packages" in folder_of("mpi4py"):  # Debian's
            fix = "sudo apt-get install --reinstall python3-mpi4py"
        return [*found, Finding(AREA, "mpi4py", f"{version}, {library}", PROBLEM, fix)]
    found.append(Finding(AREA, "mpi4py", f"{version}, for {library}" if library else f"{version}, not loaded"))
    return found if host is not None else [*found, _launcher(library)]


def _ranks(host: HostProgram) -> Finding:
    """Whether ParaView has the ranks that the launcher has started."""
    rank, launched = world_from_environment()
    text = f"{host.ranks}, this is {rank}"
    if launched == host.ranks:
        return Finding(AREA, "ranks", text)
    text = f"{host.program} has {host.ranks}, its launcher started {launched}: each works alone"
    if host.program in ("paraview", "pvpython"):
        return Finding(AREA, "ranks", text, PROBLEM, f"mpirun -np {launched} pvbatch SCRIPT   # {host.program} is one process")
    return Finding(AREA, "ranks", text, PROBLEM, f"ldd $(which {host.program}) | grep mpi   # use the mpirun of that MPI")


def _library(host: HostProgram | None) -> str:
    """The MPI of mpi4py: asked where it is loaded, else by another Python, which does not begin with MPI; "" unknown."""
    loaded = sys.modules.get("mpi4py.MPI")
    if loaded is not None:
        return loaded.Get_library_version().splitlines()[0].strip(" \0")
    if host is not None or not version_of("mpi4py"):
        return ""
    environment = {name: value for name, value in os.environ.items() if not LAUNCHED.match(name)}
    return _answer_of([python_path(), "-c", ASK], environment)


def _answer_of(command: list[str], environment: dict | None = None) -> str:
    """The first line that a program prints; "failed: ..." when it does not end well."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed: {' '.join(str(error).split())}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return f"failed: {last}"
    return (done.stdout.strip().splitlines() or [""])[0].strip(" \0")


def _launcher(library: str) -> Finding:
    """`mpirun` on the path, and whether it fits."""
    program = shutil.which("mpirun") or shutil.which("mpiexec")
    if program is None:
        return Finding(AREA, "mpirun", "not there; only several ranks need it")
    told = _answer_of([program, "--version"])
    mine, theirs = kind_of(library), kind_of(told)
    if mine and theirs and mine != theirs:
        text = f"{program} is of {theirs}, mpi4py is for {mine}: every rank would be alone"
        return Finding(AREA, "mpirun", text, PROBLEM, f"sudo update-alternatives --config mpirun   # the one of {mine}")
    return Finding(AREA, "mpirun", f"{told} ({program})", NOTE if told.startswith("failed") else "ok")


def kind_of(text: str) -> str:
    """Which MPI a line of text is about; "" unknown."""
    return next((name for word, name in KINDS.items() if word in text.lower()), "")
