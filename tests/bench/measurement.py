"""What the benchmarks share: paired timing, the machine's description, tables and JSON.

Times of different programs on a shared machine say little, so what is compared is run in turns in one process
(A, B, A, B, ...), and ratios are taken round by round: a neighbour that slows one round slows both sides of its ratio.

Import this module before `apmgsrn_core`: it puts the project's root on the path.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import apmgsrn_core  # noqa: E402  (before torch: it sets how torch's threads wait)
import numpy as np  # noqa: E402
import torch  # noqa: E402

CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
ENVIRONMENT = ("APMGSRN_KERNELS", "APMGSRN_CPU", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def now(device: str | torch.device = "cpu") -> float:
    """Seconds, after everything queued on the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def paired(
    actions: dict[str, Callable[[], object]], rounds: int, device: str = "cpu", repeat: int = 1, warm_up: int = 1
) -> dict[str, list[float]]:
    """Run the actions in turns, each `repeat` times: {name: seconds of one in each round}.

    The first `warm_up` rounds do not count.
    """
    seconds = {name: [] for name in actions}
    for turn in range(-warm_up, rounds):
        for name, action in actions.items():
            start = now(device)
            for _ in range(repeat):
                action()
            if turn >= 0:
                seconds[name].append((now(device) - start) / repeat)
    return seconds


def steps_in_turn(device: str) -> int:
    """Training steps of one turn: on a GPU several, so that it need not wait for the CPU after each."""
    return 10 if torch.device(device).type == "cuda" else 1


def ratio(slow: list[float], fast: list[float]) -> tuple[float, float, float]:
    """(median, smallest, largest) of slow / fast, round by round."""
    ratios = [a / b for a, b in zip(slow, fast)]
    return statistics.median(ratios), min(ratios), max(ratios)


class Spans:
    """Adds up milliseconds by label: `with spans("backward"): ...`."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.ms: dict[str, float] = defaultdict(float)
        self.device = device

    @contextmanager
    def __call__(self, label: str):
        start = now(self.device)
        yield
        self.ms[label] += (now(self.device) - start) * 1e3

    def timed(self, function: Callable, label: str) -> Callable:
        """The function, with its time added to a label."""

        def wrapper(*arguments, **keywords):
            with self(label):
                return function(*arguments, **keywords)

        return wrapper


def median_parts(measures: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, float]]:
    """{name: {part: median ms}} of measures run in turns, after a round that does not count."""
    taken = {name: [] for name in measures}
    for turn in range(-1, rounds):
        for name, measure in measures.items():
            parts = measure()
            if turn >= 0:
                taken[name].append(parts)
    return {
        name: {label: statistics.median(parts[label] for parts in rows) for label in rows[0]}
        for name, rows in taken.items()
    }


def machine(device: str = "cpu") -> dict:
    """Where a benchmark ran."""
    model, flags = _processor()
    found = {
        "cpu": model,
        "flags": [f for f in CPU_FLAGS if f in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "apmgsrn_core": apmgsrn_core.__version__,
        "system": platform.platform(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found


def begin(options: argparse.Namespace) -> None:
    """Set the threads that `parser` took, and print the machine."""
    if options.threads:
        torch.set_num_threads(options.threads)
    print_machine(options.device)


def print_machine(device: str) -> None:
    """One line."""
    found = machine(device)
    where = found.get("gpu", f"{found['cpu']} ({', '.join(found['flags'])})")
    threads = f"{found['torch_threads']} threads of torch {found['torch']}"
    print(f"{where}; {found['cores']} cores, {threads}, load {found['load']}")


def _processor() -> tuple[str, set[str]]:
    """(model name, flags); where there is no /proc/cpuinfo, what Python knows and no flags."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = dict(reversed([part.strip() for part in line.split(":", 1)][::-1]) for line in lines if ":" in line)
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, set(fields.get("flags", "").split())


def parser(description: str, data: bool = True) -> argparse.ArgumentParser:
    """A parser with the arguments that all benchmarks have."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    if data:
        made.add_argument(
            "volumes", nargs="*", default=["synthetic"], metavar="DATA",
            help="a .vti or .npy file, or 'synthetic'; ':2' behind it mean-pools 2^3 values",
        )  # fmt: skip
    made.add_argument("--reference", type=Path, metavar="PATH", help="a checkout of skywolf829/APMGSRN")
    made.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    made.add_argument("--threads", type=int, default=0, help="torch's threads; 0 leaves its own number")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows and the machine's description")
    return made


def words(text: str) -> list[str]:
    """'a,b' -> ['a', 'b'], for argparse."""
    return [word for word in text.split(",") if word]


def numbers(text: str) -> list[int]:
    """'1,2' -> [1, 2], for argparse."""
    return [int(word) for word in words(text)]


def settings(pairs: list[str]) -> dict:
    """['a=1', 'b=x'] -> {'a': 1, 'b': 'x'}: values are JSON where they can be read as such."""
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value  # a bare word
    return found


def print_table(rows: list[dict]) -> None:
    """Columns are the rows' keys in the order of their first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths)), flush=True)


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)):
        return f"{_cell(value[0])} ({_cell(value[1])} to {_cell(value[2])})"  # a middle and its spread
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_before(options: argparse.Namespace) -> list[dict]:
    """Those that `write_json` wrote before, which need not be measured again."""
    return json.loads(options.json.read_text())["rows"] if options.json and options.json.exists() else []


def write_json(options: argparse.Namespace, rows: list[dict], **more) -> None:
    """The rows, the command line and the machine, to `--json`; nothing without it."""
    if options.json is None:
        return
    plain = {key: value for key, value in vars(options).items() if key not in ("json", "reference")}
    plain["volumes"] = [Path(name).name for name in getattr(options, "volumes", [])]
    document = {"benchmark": Path(sys.argv[0]).name, "machine": machine(options.device), "options": plain, **more}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**document, "rows": rows}, indent=1) + "\n")
