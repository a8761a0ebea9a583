"""All that is looked at, as data, as text and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from .. import __version__
from .computer import computer_findings
from .finding import NOTE, OK, PROBLEM, Finding, HostProgram
from .packages import package_findings, python_findings
from .parallel import mpi_findings
from .paraview_program import paraview_findings
from .torch_build import torch_findings


def examine_installation(host: HostProgram | None = None) -> list[Finding]:
    """Look at everything; a part that fails itself is a problem among the others.

    Args:
        host: The program of ParaView that runs this; None: plain Python, which asks `pvpython` and `mpirun` on the path.
    """
    found = _guarded("Python", python_findings) + _guarded("Python", package_findings)
    found += _guarded("torch", lambda: torch_findings(host))
    if "torch" in sys.modules and not any(f.area == "torch" and f.name == "torch" and f.level == PROBLEM for f in found):
        found += _guarded("kernels", _kernels)
    found += _guarded("computer", lambda: computer_findings(host))
    found += _guarded("ParaView", lambda: paraview_findings(host))
    return _merged(found + _guarded("MPI", lambda: mpi_findings(host)))


def _kernels() -> list[Finding]:
    from .kernel_choice import kernel_findings

    return kernel_findings()


def _guarded(area: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a part finds; when it fails, that."""
    try:
        return look()
    except Exception as error:  # of any kind: the other parts are wanted all the same
        text = f"could not be examined: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return [Finding(area, "examination", text, PROBLEM, "python -m apmgsrn_core doctor --json   # and report this")]


def _merged(found: list[Finding]) -> list[Finding]:
    """Each problem once: plain Python and pvpython may meet the same one."""
    kept: dict[tuple, Finding] = {}
    for finding in found:
        kept.setdefault((finding.area, finding.name) if finding.level == PROBLEM else (finding,), finding)
    return list(kept.values())


def findings_as_text(found: list[Finding]) -> str:
    """A line each below the headings of their areas, then what is to be done."""
    width = max(len(f.name) for f in found)
    lines = []
    for area in dict.fromkeys(f.area for f in found):
        lines.append(area)
        for f in (f for f in found if f.area == area):
            mark = {PROBLEM: "PROBLEM", NOTE: "note", OK: ""}[f.level]
            lines.append(f"  {mark:<8}{f.name:<{width}}  {f.value}")
            if f.fix:
                lines.append(f"  {'':<8}{'':<{width}}  -> {f.fix}")
    return "\n".join([*lines, "", summary(found)])


def findings_as_narrow_text(found: list[Finding]) -> str:
    """For a narrow panel: the summary, then what is wrong, then all else."""
    lines = [summary(found)]
    for level in (PROBLEM, NOTE, OK):
        for f in (f for f in found if f.level == level):
            lines.append(f"{'' if level == OK else level.upper() + ': '}{f.name}: {f.value}" + (f" -> {f.fix}" if f.fix else ""))
    return "\n".join(lines)


def summary(found: list[Finding]) -> str:
    """One line."""
    problems, notes = (sum(f.level == level for f in found) for level in (PROBLEM, NOTE))
    counts = [f"{n} {word}{'s' * (n != 1)}" for n, word in ((problems, "problem"), (notes, "note"))]
    return f"apmgsrn {__version__}: {', '.join(counts)}"


def findings_as_json(found: list[Finding]) -> str:
    """The same for programs."""
    return json.dumps({"apmgsrn": __version__, "findings": [vars(f) for f in found]}, indent=1)
