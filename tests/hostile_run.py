"""The fuzz test's cases: `python tests/hostile_run.py FIRST COUNT` runs them, and tells how to repeat one that fails.

A case is a number: it chooses a seed, one of its files and the change (`mutations.py`), and what a user would do with the
files is tried (`hostile_probe.py`). Right is: the values of the unchanged file, other values where checksums were made right
again, or an ApmgsrnError. Cases run in a child process, so that a crash, a hang or an end for want of memory is found and
named. `--write` keeps what came out in `tests/bench/results/hostile_files.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = Path(__file__)
RESULT = HERE / "bench" / "results" / "hostile_files.json"
SECONDS = 60  # of a case, beyond which it hangs
ADDRESSES = 1 << 30  # bytes that may be asked for in a case, whether they are used or not
FREE = 48 << 20  # bytes that any case may take
EXPANSION = 4096  # bytes in memory for a byte of the files, as `file/model_file.py` says


def chosen(number: int, seeds: Path, folder: Path) -> tuple[str, str, bool, int]:
    """Put the files of a case into a folder; returns (kind, what was changed, whether blindly, bytes of all files)."""
    from mutations import mutated

    draw = random.Random(number)
    seed = draw.choice(sorted(path for path in seeds.iterdir() if path.is_dir()))
    shutil.copytree(seed, folder)
    file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    data, blind = mutated(file.read_bytes(), file.suffix, draw)
    file.write_bytes(data)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return seed.name.split()[0], f"{seed.name}/{file.relative_to(folder)}{' blindly' if blind else ''}", blind, size


def peak_bytes(reset: bool = False) -> int:
    """The most memory that this process had since the last reset; 0 where the system does not tell."""
    with suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


def mapped_bytes() -> int:
    """The addresses that this process has."""
    return _status("VmSize")


def _status(name: str) -> int:
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
    return 0


def tried(number: int, seeds: Path, work: Path, right: dict[str, str]) -> dict:
    """Run a case; what came of it, `defect` where that is not allowed."""
    from hostile_probe import probe

    from apmgsrn_core import ApmgsrnError

    folder = work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    kind, what, blind, size = chosen(number, seeds, folder)
    before, begin = peak_bytes(reset=True), time.monotonic()
    outcome, defect = "values", ""
    try:
        found = probe(kind, folder)
        name = what.split("/")[0]
        same = found == right[name]
        outcome = "the same values" if same else "other values"
        if kind == "model" and blind and not same:
            defect = "other values in spite of the checksums"
    except ApmgsrnError as error:
        outcome = type(error).__name__
        if "\n" in str(error):
            defect = f"a message of several lines: {str(error)[:300]!r}"
    except Exception as error:  # of any kind: that is what is looked for
        outcome = defect = f"{type(error).__name__}: {str(error)[:200]}"
        defect += "\n" + "".join(traceback.format_exc().splitlines(keepends=True)[-7:])
    seconds, taken = time.monotonic() - begin, max(peak_bytes() - before, 0)
    if not defect and taken > FREE + EXPANSION * size:
        defect = f"took {taken} bytes for files of {size}"
    return {"case": number, "what": what, "outcome": outcome.split(":")[0], "defect": defect, "seconds": seconds, "bytes": taken}


def child(first: int, stop: int, seeds: Path) -> None:
    """Run cases one after the other; a line of JSON before and after each."""
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    import torch
    from hostile_probe import probe

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as work:
        right = {}
        for seed in sorted(path for path in seeds.iterdir() if path.is_dir()):
            shutil.copytree(seed, Path(work) / "case")
            right[seed.name] = probe(seed.name.split()[0], Path(work) / "case")
            shutil.rmtree(Path(work) / "case")
        if mapped := mapped_bytes():  # where the system tells
            resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESSES, mapped + ADDRESSES))
        for number in range(first, stop):
            print(json.dumps({"begin": number}), flush=True)
            print(json.dumps(tried(number, seeds, Path(work), right)), flush=True)


def run_cases(first: int, count: int, seeds: Path) -> list[dict]:
    """What came of each case; a child that dies or hangs is replaced by another one behind the case."""
    results, stop = [], first + count
    while first < stop:
        command = [sys.executable, "-X", "faulthandler", str(PROGRAM), "--child", str(seeds), str(first), str(stop - first)]
        with tempfile.TemporaryFile("w+") as errors:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
                found, case = _watched(process)
            errors.seek(0)
            tail = errors.read()[-1500:]
        results += found
        if process.returncode == 0:
            break
        if case is None:
            raise RuntimeError(f"expected cases from {first} on, found a child that ended with {process.returncode}: {tail}")
        results.append({
            "case": case, "what": "", "outcome": "end of the process", "seconds": 0.0, "bytes": 0,
            "defect": f"the process ended with {process.returncode} (-9: no answer within {SECONDS} s)\n{tail}",
        })  # fmt: skip
        first = case + 1
    return results


def _watched(process: subprocess.Popen) -> tuple[list[dict], int | None]:
    """(results, the case that was begun and not ended); a process that hangs is killed."""
    results, case, timer = [], None, None
    for line in process.stdout:
        if timer is not None:
            timer.cancel()
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        told = json.loads(line)
        case = told.get("begin")
        if case is None:
            results.append(told)
    process.wait()
    if timer is not None:
        timer.cancel()
    return results, case


def defects(results: list[dict]) -> list[str]:
    """What is wrong, each with how to repeat it."""
    return [f"case {r['case']} ({r['what']}): {r['defect']}" for r in results if r["defect"]]


def summary(results: list[dict]) -> dict:
    """Of many cases, for the record."""
    kinds: dict[str, Counter] = {}
    for result in results:
        kinds.setdefault(result["what"].split("/")[0] or "unknown", Counter())[result["outcome"]] += 1
    return {
        "cases": len(results), "defects": defects(results), "outcomes": dict(Counter(r["outcome"] for r in results).most_common()),
        "most_bytes": max(r["bytes"] for r in results), "most_seconds": round(max(r["seconds"] for r in results), 2),
        "by_seed": {name: dict(counts.most_common()) for name, counts in sorted(kinds.items())},
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--child", type=Path, help="run the cases in this process, with the seeds of this folder")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.child:
        return child(options.first, options.first + options.count, options.child)
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    from hostile_seeds import write_seeds

    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        results = run_cases(options.first, options.count, Path(folder))
    told = summary(results)
    print("\n\n".join(told["defects"]), json.dumps({**told, "defects": len(told["defects"])}, indent=1), sep="\n")
    if options.write:
        RESULT.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
