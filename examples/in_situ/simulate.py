"""Simulate the Taylor-Green vortex and train a neural volume of it while it runs.

    source plugin/env.sh
    mpirun -np 2 .venv/bin/python examples/in_situ/simulate.py     (ParaView's own Python; any number of ranks)

Every `--every` steps the flow goes to ParaView Catalyst, where `--script` trains that time step and appends it to
OUTPUT/flow.apmgsrn. Prints energy and enstrophy of each output and at the end what the training in situ has cost and saved.
`--restart` goes on from OUTPUT/state.npz, which is written at each output; without it, the same simulation finds its steps in
the model and trains only what is missing. Another simulation is refused in the folder of one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from catalyst_adaptor import CatalystAdaptor
from flow_image import raw_bytes
from flow_state import check_same, load_state, save_state
from mpi4py import MPI
from taylor_green import TaylorGreen

from apmgsrn_core import ModelFileError, read_header

HERE = Path(__file__).resolve().parent
MODEL, STATE, TABLE = "flow.apmgsrn", "state.npz", "energy.csv"  # in the folder of the output


class Clock:
    """Adds up the seconds of some work that all ranks do together. A rank on which it fails waits for nobody: it ends them all."""

    def __init__(self, communicator):
        self._communicator, self.seconds = communicator, 0.0

    def __enter__(self) -> None:
        self._communicator.Barrier()
        self._start = time.perf_counter()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._communicator.Barrier()
        self.seconds += time.perf_counter() - self._start


def main() -> int:
    options, communicator = parse_arguments(), MPI.COMM_WORLD
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        flow = TaylorGreen(options.points, options.reynolds, communicator)
        check_same(flow, options.time_step, options.output / STATE)
        if options.restart:
            load_state(flow, options.output / STATE)
    except (OSError, ValueError) as error:  # the same on all ranks
        tell(f"simulate: {error}", sys.stderr)
        return 2
    set_up_pipeline(options)
    clocks = {name: Clock(communicator) for name in ("start", "solver", "in_situ")}
    with clocks["start"]:
        catalyst, problem = start_catalyst(options.script)
    problems = list(filter(None, communicator.allgather(problem)))
    if problems:
        tell(f"simulate: ParaView Catalyst cannot be used here: {problems[0]}", sys.stderr)
        return 2
    outputs = [step for step in range(0, options.steps + 1, options.every) if step > flow.steps or not options.restart]
    missing = simulate(flow, catalyst, outputs, options, clocks)
    with clocks["in_situ"]:
        catalyst.finish()
    report(flow, options.output / MODEL, clocks)
    if missing:
        tell(f"simulate: {missing} of {len(outputs)} outputs are not in {options.output / MODEL}, see above", sys.stderr)
    return 1 if missing else 0


def start_catalyst(script: Path) -> tuple[CatalystAdaptor | None, str]:
    """The adaptor, or what stands in its way on this rank."""
    try:
        return CatalystAdaptor(script), ""
    except (ImportError, RuntimeError) as error:
        return None, str(error) or type(error).__name__


def simulate(flow: TaylorGreen, catalyst: CatalystAdaptor, outputs: list, options, clocks: dict) -> int:
    """Solve and hand over what the outputs' steps are; returns how many are not in the model in the end. A simulation does
    not stop for that."""
    model, missing = options.output / MODEL, 0
    tell(f"{'step':>6}{'time':>8}{'energy':>11}{'enstrophy':>11}{'solver s':>10}{'in situ s':>11}{'bytes':>10}")
    for number in outputs:
        with clocks["solver"]:
            while flow.steps < number:
                flow.step(options.time_step)
        with clocks["in_situ"]:
            catalyst.execute(flow)  # its errors are told, not raised
        missing += not is_stored(flow.communicator)
        note(flow, options.output / TABLE, afresh=number == 0)
        save_state(flow, options.time_step, options.output / STATE)
        row = f"{flow.steps:>6}{flow.time:>8.3f}{flow.energy():>11.6f}{flow.enstrophy():>11.6f}"
        tell(f"{row}{clocks['solver'].seconds:>10.2f}{clocks['in_situ'].seconds:>11.2f}{size_of(model):>10}")
    return missing


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=48, help="along each side (default: 48)")
    parser.add_argument("--reynolds", type=float, default=200.0, help="Reynolds number (default: 200)")
    parser.add_argument("--time-step", type=float, default=0.05, help="default: 0.05")
    parser.add_argument("--steps", type=int, default=200, help="the last one (default: 200)")
    parser.add_argument("--every", type=int, default=8, help="steps between two outputs (default: 8)")
    parser.add_argument("--output", type=Path, default=Path("in_situ_output"), help="folder (default: in_situ_output)")
    parser.add_argument("--restart", action="store_true", help="go on from the state in the folder")
    parser.add_argument("--script", type=Path, default=HERE / "pipeline.py", help="of Catalyst (default: pipeline.py)")
    parser.add_argument(
        "--iterations", type=int, nargs=2, default=(800, 300), metavar=("FIRST", "LATER"),
        help="of the training of the first time step and of each later one (default: 800 300)",
    )  # fmt: skip
    parser.add_argument("--bricks", type=int, default=2, help="along z, each with a network of its own (default: 2)")
    parser.add_argument("--grids", type=int, default=64, help="of a network (default: 64)")
    parser.add_argument("--pictures", action="store_true", help="draw each reconstruction; needs a screen")
    options = parser.parse_args()
    if options.every < 1 or options.steps < 0 or not options.time_step > 0:
        parser.error("expected --every from 1 on, --steps from 0 on, --time-step above 0")
    if not options.script.is_file():
        parser.error(f"--script: expected a file, found none at {options.script}")
    return options


def set_up_pipeline(options: argparse.Namespace) -> None:
    """The settings of pipeline.py, which is given no arguments."""
    os.environ["APMGSRN_MODEL"] = str((options.output / MODEL).resolve())
    os.environ["APMGSRN_ITERATIONS"] = " ".join(map(str, options.iterations))
    os.environ["APMGSRN_BRICKS"] = str(options.bricks)
    os.environ["APMGSRN_GRIDS"] = str(options.grids)
    os.environ["APMGSRN_PICTURES"] = str(options.output.resolve()) if options.pictures else ""


def tell(text: str, file=None) -> None:
    """Print, on one rank only."""
    if MPI.COMM_WORLD.rank == 0:
        print(text, file=file, flush=True)


def note(flow: TaylorGreen, path: Path, afresh: bool) -> None:
    """Add a line to the table of energies, or begin it."""
    line = f"{flow.steps},{flow.time!r},{flow.energy()!r},{flow.enstrophy()!r}\n"
    if flow.communicator.rank == 0:
        with open(path, "w" if afresh else "a", encoding="utf-8") as file:
            file.write(("step,time,energy,enstrophy\n" if afresh else "") + line)


def size_of(model: Path) -> int:
    return model.stat().st_size if model.exists() else 0


def is_stored(communicator) -> bool:
    """Whether the script has put the last output into the model, as rank 0 was told."""
    return communicator.bcast(os.environ.pop("APMGSRN_OUTCOME", "") == "stored")


def report(flow: TaylorGreen, model: Path, clocks: dict) -> None:
    """What the training has cost and saved, of all steps that are in the model."""
    try:
        steps = len(read_header(model).times or ())
    except ModelFileError:  # the script has said so
        steps = 0
    raw, size = steps * raw_bytes(flow.points), size_of(model)
    tell(f"ranks: {flow.communicator.size}")
    for name, clock in clocks.items():
        tell(f"{name}_seconds: {clock.seconds:.4g}")
    tell(f"overhead: {clocks['in_situ'].seconds / max(clocks['solver'].seconds, 1e-9):.4g}")
    tell(f"time_steps: {steps}")
    tell(f"raw_bytes: {raw}")
    tell(f"model_bytes: {size}")
    tell(f"ratio: {raw / max(size, 1):.1f}")
    tell(f"model: {model}")


if __name__ == "__main__":
    try:
        status = main()
    except Exception:  # one rank that ends alone would leave the others waiting
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)
    sys.exit(status)
