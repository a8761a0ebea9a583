"""Train a volume brick by brick, on as many ranks as were started, and print what came out.

    source plugin/env.sh
    mpirun -np 4 pvbatch examples/train_bricks.py [FILE] [--array NAME] --bricks 2 2 2 --model volume.apmgsrn

(pvpython instead of `mpirun -np 4 pvbatch`: one process.) No rank holds the whole volume: each reads the brick that it
trains, and the reconstruction is left out; open the model with Neural Volume to sample it. Without a time budget the
model is the same on any number of ranks.

After a kill or a time limit run the same command again: finished bricks and checkpoints lie in MODEL.training/ beside the
model, and the training goes on from them, on any number of ranks. Once the model is there, nothing is trained and the
table has no PSNR.

`--dry-run` reads no values and trains nothing: it prints the bricks and what each of `--ranks N` would have.
"""

from paraview import servermanager, simple  # first: a script that ends earlier leaves the other ranks waiting

# isort: split
import argparse
import importlib.util
import math
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "examples/data/tgv_re800_t9_vortmag_128.vti"
RANKS = servermanager.vtkProcessModule.GetProcessModule().GetNumberOfLocalPartitions()
PRESETS = ("small", "compact", "medium", "large", "published-small", "published-medium", "published-large")
STARTED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # how many processes a launcher says it started
LINES_OF_RANKS = 64  # that a dry run prints


def main() -> None:
    options = parse_arguments()
    check_ranks()
    load_plugin()
    source = open_data(options.data)
    side = side_of(source, options.array)
    if options.dry_run:
        show_plan(source, side, options)
        return
    start = time.perf_counter()
    history, status = train(source, side, options)
    show_result(options.model, history, status, time.perf_counter() - start)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=SAMPLE, help="image data (default: the sample)")
    parser.add_argument("--array", default="", help="point or cell array (default: the file's first)")
    parser.add_argument("--bricks", type=int, nargs=3, default=(0, 0, 0), metavar=("NX", "NY", "NZ"), help="0: automatic")
    parser.add_argument("--preset", choices=PRESETS, default="small", help="network of a brick, on the average")
    parser.add_argument("--parameters", type=int, default=0, help="of all bricks together (default: as the preset says)")
    parser.add_argument("--quality", choices=("draft", "normal", "best"), default="normal")
    parser.add_argument("--iterations", type=int, default=0, help="of each brick (default: by size and quality)")
    parser.add_argument("--time-budget", type=float, default=0.0, metavar="SECONDS", help="for all bricks together")
    parser.add_argument("--model", type=Path, default=Path("volume.apmgsrn"), help="output (default: volume.apmgsrn)")
    parser.add_argument("--device", default="auto", help="auto (a rank's share of the GPUs), cpu, cuda:0, ...")
    parser.add_argument("--checkpoint-interval", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--report", type=float, default=10.0, metavar="SECONDS", help="between two lines of a rank")
    parser.add_argument("--dry-run", action="store_true", help="show the bricks, train nothing")
    parser.add_argument("--ranks", type=int, default=RANKS, help="of the dry run (default: those there are)")
    options = parser.parse_args()
    options.preset = options.preset.replace("-", " ")
    if min(options.bricks) < 0 or options.ranks < 1:
        parser.error("--bricks takes numbers from 0 on, --ranks from 1 on")
    return options


def fail(message: str) -> NoReturn:
    sys.exit("train_bricks: " + " ".join(message.split()))


def check_ranks() -> None:
    """Processes that do not know of each other would each train everything, into the same file."""
    started = max(int(os.environ[name]) if os.environ.get(name, "").isdigit() else 1 for name in STARTED)
    if RANKS == 1 and started > 1:
        fail(
            f"{started} processes were started, but each of them is alone: start pvbatch with the mpirun, or the "
            "--mpi of srun, that belongs to ParaView's MPI"
        )


def load_plugin() -> None:
    """Unless it is there, as after `source plugin/env.sh`. The Python files must be found by every rank."""
    if importlib.util.find_spec("apmgsrn_paraview") is None:  # ParaView would end without a readable word
        fail("the plugin's Python files are not found: `source plugin/env.sh` first")
    if not hasattr(simple, "TrainNeuralVolume"):
        simple.LoadPlugin(str(ROOT / "xml/apmgsrn.xml"), remote=False, ns=vars(simple))


def open_data(path: Path):
    """The reader of a file; only its head is read."""
    if not path.is_file():
        fail(f"{path}: no such file")
    try:
        source = simple.OpenDataFile(str(path))
    except RuntimeError as error:
        fail(f"{path}: {error}")
    if source is None:
        fail(f"{path}: ParaView has no reader for it")
    source.UpdatePipelineInformation()
    return source


def side_of(source, array: str) -> str:
    """Whether an array is among the "POINTS" or the "CELLS", as the reader says; a wrong name is told by the filter."""
    cells = getattr(source, "CellArrayStatus", None) or ()
    points = getattr(source, "PointArrayStatus", None) or ()
    return "CELLS" if (array in cells if array else cells and not points) else "POINTS"


# -- training ------------------------------------------------------------------------------


def train(source, side: str, options: argparse.Namespace) -> tuple:
    """(history as a table, status) of the training, or of the model that was there."""
    trainer = simple.TrainNeuralVolume(Input=source)
    if options.array:
        trainer.TargetArray = [side, options.array]
    trainer.Bricks, trainer.Parameters = options.bricks, options.parameters
    trainer.Preset, trainer.Quality = options.preset.title(), options.quality.title()
    trainer.Iterations, trainer.TimeBudget = options.iterations, options.time_budget
    trainer.ModelFile, trainer.Device = str(options.model), options.device
    trainer.CheckpointInterval, trainer.ReportProgress = options.checkpoint_interval, options.report
    trainer.OutputReconstruction = 0  # nobody asks for all values
    simple.OutputPort(trainer, 1).UpdatePipeline()  # trains; errors of the pipeline are no exceptions
    trainer.UpdatePropertyInformation()
    error, status = (trainer.GetPropertyValue(name) for name in ("LastError", "Status"))
    if error or not options.model.is_file():
        fail(f"training failed: {error or status}")
    return servermanager.Fetch(trainer, idx=1), status


def show_result(path: Path, history, status: str, seconds: float) -> None:
    """One line for each brick, then the whole."""
    import numpy as np

    from apmgsrn_core import read_header
    from apmgsrn_core.file.weights import brick_config

    header = read_header(path)
    layout, components = header.layout, sum(array.components for array in header.arrays)
    last = last_rows(history)
    error = 0.0
    print(f"{'brick':>6}  {'place':<12}{'values':>12}{'parameters':>12}{'iterations':>12}{'PSNR dB':>9}{'seconds':>9}")
    for brick in range(layout.count):
        place = " ".join(map(str, layout.place(brick)))
        parameters = brick_config(header.manifest, brick).parameter_count(components)
        line = f"{brick:>6}  {place:<12}{layout.trained(brick).count:>12}{parameters:>12}"
        if brick in last:
            iteration, took, psnr = last[brick]
            error += layout.owned(brick).count * 10 ** (-psnr / 10)
            line += f"{iteration:>12}{psnr:>9.2f}{took:>9.1f}"
        else:
            line += f"{'-':>12}{'-':>9}{'-':>9}"
        print(line)
    size = header.grid.region.count * sum(a.components * np.dtype(a.dtype).itemsize for a in header.arrays)
    print(f"status: {status}")
    if last:
        print(f"psnr_db: {-10 * math.log10(error / header.grid.region.count) if error else math.inf:.2f}")
    print(f"model_bytes: {header.byte_count}")
    print(f"ratio: {size / header.byte_count:.1f}")
    print(f"wall_seconds: {seconds:.1f}")
    print(f"ranks: {RANKS}")
    print(f"model: {path}", flush=True)


def last_rows(history) -> dict:
    """{brick: (iteration, seconds, psnr)} of the last row of each brick; none of a model that was there already."""
    columns = [history.GetColumnByName(name) for name in ("brick", "iteration", "seconds", "psnr")]
    rows = (tuple(column.GetValue(row) for column in columns) for row in range(history.GetNumberOfRows()))
    return {brick: rest for brick, *rest in rows}


# -- dry run -------------------------------------------------------------------------------


def show_plan(source, side: str, options: argparse.Namespace) -> None:
    """The bricks, and how they are spread over the ranks; a rank with little memory would choose smaller ones."""
    from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

    from apmgsrn_core import COMPACT_BYTES, ApmgsrnError, BrickLayout, ModelConfig, lattices_for

    information, whole = source.GetClientSideObject().GetOutputInformation(0), Pipeline.WHOLE_EXTENT()
    if not information.Has(whole):
        fail(f"{options.data}: expected image data, found no extent")
    extent = information.Get(whole)
    dims = tuple(high - low + 1 for low, high in zip(extent[::2], extent[1::2]))
    if side == "CELLS":
        dims = tuple(max(n - 1, 1) for n in dims)
    compact = options.preset == "compact"
    model = ModelConfig.preset("small" if compact else options.preset)
    least = -(-options.parameters // model.parameter_count())
    try:
        layout = BrickLayout.automatic(dims, options.bricks, least_bricks=least)
    except ApmgsrnError as error:
        fail(str(error))
    if compact:
        model = lattices_for(COMPACT_BYTES * layout.count, layout, 1)
    largest = max((layout.trained(brick) for brick in range(layout.count)), key=lambda region: region.count)
    parameters = options.parameters or layout.count * model.parameter_count()
    owners = layout.ranks(options.ranks).tolist()
    print(f"values: {' x '.join(map(str, dims))} ({side.lower()})")
    print(f"bricks: {' x '.join(map(str, layout.counts))} = {layout.count}, the largest of {largest.count} values")
    print(f"parameters: {parameters}, {parameters // layout.count} in a brick on the average, for one component")
    print(f"ranks: {options.ranks}, with one device each {-(-layout.count // options.ranks)} bricks one after the other")
    for rank in range(min(options.ranks, LINES_OF_RANKS)):
        mine = [brick for brick, owner in enumerate(owners) if owner == rank]
        print(f"rank {rank}: looks at {len(mine)} bricks, {sum(layout.trained(b).count for b in mine)} values")
    if options.ranks > LINES_OF_RANKS:
        print(f"... and {options.ranks - LINES_OF_RANKS} more ranks")
    print("which rank trains which brick is decided after that look: the costliest first", flush=True)


main()
