"""The computer: processor, threads, memory, the folder of temporary files, the screen."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from .finding import NOTE, PROBLEM, Finding, HostProgram, is_for_paraview, set_up_command, started_with

AREA = "computer"
SCREEN = 'xvfb-run -a -s "-screen 0 1600x1000x24 -noreset"'
ANOTHER_FOLDER = "export TMPDIR=FOLDER   # one with room that you may write to"
LEAST_MEMORY, LEAST_DISK = 1 << 30, 1 << 28  # bytes


def computer_findings(host: HostProgram | None) -> list[Finding]:
    """What a training needs of it."""
    return [_processor(), _threads(), _waiting(host), _memory(), _temporary_folder()]


def _processor() -> Finding:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    model = re.search(r"(?m)^model name\s*: (.*)$", text)
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = f"{mine} of {os.cpu_count()} cores for this process"
    return Finding(AREA, "processor", f"{model[1] if model else platform.machine()}; {cores}")


def _threads() -> Finding:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    torch = sys.modules.get("torch")
    text = f"torch uses {torch.get_num_threads()}" if torch and hasattr(torch, "get_num_threads") else "torch is not loaded"
    return Finding(AREA, "threads", f"{text}; OMP_NUM_THREADS is {wanted or 'not set'}")


def _waiting(host: HostProgram | None) -> Finding:
    """Threads that spin while they wait take the cores from others."""
    asked, name = (started_with("OMP_WAIT_POLICY") or "").upper(), "OMP_WAIT_POLICY"
    if asked == "PASSIVE":
        return Finding(AREA, name, asked)
    if not asked and host is None:
        return Finding(AREA, name, "not set; PASSIVE is set before torch is loaded")
    text = f"{asked or 'not set'}: threads spin while they wait; training is slow while other programs run"
    fix = f"export {name}=PASSIVE"
    if host is not None:
        fix = f"{set_up_command('env') if is_for_paraview() else fix} && {host.program}"
    return Finding(AREA, name, text, PROBLEM if asked == "ACTIVE" else NOTE, fix)


def _memory() -> Finding:
    try:
        text = Path("/proc/meminfo").read_text()
        total, free = (int(re.search(rf"{name}:\s*(\d+) kB", text)[1]) << 10 for name in ("MemTotal", "MemAvailable"))
    except (OSError, TypeError):
        return Finding(AREA, "memory", "not known on this system")
    line = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if free >= LEAST_MEMORY:
        return Finding(AREA, "memory", line)
    return Finding(AREA, "memory", f"{line}: torch alone takes 0.3 GiB", NOTE, "ps aux --sort=-rss | head   # what takes it")


def _temporary_folder() -> Finding:
    """Where models are kept that have no file of their own."""
    try:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(AREA, "temporary files", f"there is no folder for them: {error}", PROBLEM, ANOTHER_FOLDER)
    line = f"{folder}, {free / 2**30:.1f} GiB free"
    if free >= LEAST_DISK:
        return Finding(AREA, "temporary files", line)
    return Finding(AREA, "temporary files", line, PROBLEM, ANOTHER_FOLDER)


def screen_finding(version: str) -> Finding:
    """Whether ParaView can draw here.

    Args:
        version: Of ParaView; from 6 on it draws without a screen.
    """
    area, display = "ParaView", os.environ.get("DISPLAY", "")
    if not display:
        if os.name == "nt" or sys.platform == "darwin" or int(version.split(".")[0] or 0) >= 6:
            return Finding(area, "screen", "none needed")
        text, level = "DISPLAY is not set: every Render crashes, all else works", NOTE
    elif _answers(display):
        return Finding(area, "screen", f"DISPLAY={display}")
    else:
        text, level = f"DISPLAY={display}, where nothing answers: ParaView ends at once, or at the first Render", PROBLEM
    return Finding(area, "screen", text, level, f"{SCREEN} pvpython SCRIPT")


def _answers(display: str) -> bool:
    """Whether an X server takes connections there."""
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    path = f"/tmp/.X11-unix/X{number}"
    local = [path, f"\0{path}"] if host in ("", "unix") else []
    for address in [*local, (host or "localhost", 6000 + int(number))]:
        kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(kind, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(address)
                return True
            except OSError:
                continue
    return False
