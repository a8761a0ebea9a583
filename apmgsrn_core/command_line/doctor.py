"""doctor: looks at this installation and says what is wrong with it, and what to type.

Versions, devices, the kernels in use and why, a self-test of them, ParaView and its plugin, MPI, memory. The exit status is 1
when there is a problem. Put its output into the report of a problem."""

from __future__ import annotations

import argparse

from ..diagnosis.examination import findings_as_json, findings_as_text, examine_installation
from ..diagnosis.finding import PROBLEM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form."""
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Print it; 1 when there is a problem."""
    found = examine_installation()
    print(findings_as_json(found) if options.json else findings_as_text(found))
    return int(any(f.level == PROBLEM for f in found))
