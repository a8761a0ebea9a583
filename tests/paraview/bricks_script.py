"""Run by test_bricks.py as `[mpirun -np N] pvbatch bricks_script.py plugin.xml folder what`.

Trains in bricks from sources of several kinds and leaves the models, and what was seen, in the folder.
"""

from paraview import servermanager, simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import os
import sys
# fmt: on

TINY = dict(
    Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=30, BatchSize=500, Device="cpu"
)  # fmt: skip
# A source with fixed pieces: whatever it is asked for, each rank has its slab along y, with a shared plane.
PIECES = """
import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkParallelCore import vtkMultiProcessController
controller = vtkMultiProcessController.GetGlobalController()
rank, size = controller.GetLocalProcessId(), controller.GetNumberOfProcesses()
if {fails} == rank:
    raise RuntimeError("the simulation has gone")
nx, ny, nz, cells = {dims}
low, high = rank * (ny - 1) // size, (rank + 1) * (ny - 1) // size
output = self.GetImageDataOutput()
output.SetExtent(0, nx - 1, low, high, 0, nz - 1)
z, y, x = np.mgrid[0:nz - cells, low:high + 1 - cells, 0:nx - cells]
values = (x * x + 7 * y * x + z * y * y).astype(np.int16)
array = numpy_to_vtk(values.ravel(), deep=1)
array.SetName("g" if {renames} == rank else "f")
(output.GetCellData() if cells else output.GetPointData()).AddArray(array)
"""
PIECES_INFORMATION = """
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm, vtkStreamingDemandDrivenPipeline as Pipeline
info = self.GetOutputInformation(0)
nx, ny, nz, cells = {dims}
info.Set(Pipeline.WHOLE_EXTENT(), (0, nx - 1, 0, ny - 1, 0, nz - 1), 6)
info.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)
"""


def failing_later(requests):
    """A source that obeys, and fails from some request on."""
    script = """
import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
self.requests = getattr(self, "requests", 0) + 1
extent = self.GetOutputInformation(0).Get(Pipeline.UPDATE_EXTENT())
if self.requests > {requests}:
    raise RuntimeError("the disk has gone")
output = self.GetImageDataOutput()
output.SetExtent(extent)
array = numpy_to_vtk(np.arange(output.GetNumberOfPoints(), dtype=np.float32), deep=1)
array.SetName("f")
output.GetPointData().AddArray(array)
"""
    return simple.ProgrammableSource(
        OutputDataSetType="vtkImageData", Script=script.format(requests=requests),
        ScriptRequestInformation=PIECES_INFORMATION.format(dims=(17, 13, 11, 0)),
    )  # fmt: skip


def fixed_pieces(dims, cells=0, fails=-1, renames=-1):
    numbers = (*dims, cells)
    source = simple.ProgrammableSource(
        OutputDataSetType="vtkImageData", Script=PIECES.format(dims=numbers, fails=fails, renames=renames),
        ScriptRequestInformation=PIECES_INFORMATION.format(dims=numbers),
    )  # fmt: skip
    if fails < 0 and renames < 0:
        source.UpdatePipeline()  # so that its array is offered
    return source


def trained(source, path, bricks, **more):
    simple.SetActiveSource(source)  # the default of TargetArray comes from there
    trainer = simple.TrainNeuralVolume(Input=source, ModelFile=path, Bricks=bricks, **{**TINY, **more})
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    return trainer


def status(trainer):
    return {name: trainer.GetPropertyValue(name) for name in ("Status", "LastError")}


def sources(folder):
    """{name: (source, bricks, more settings)}"""
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    shown = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12], Center=[1, 0, 5])
    shown.UpdatePipeline()
    cells = simple.PointDatatoCellData(Input=wavelet)
    reader = simple.OpenDataFile(os.path.join(folder, "..", "input.vti"))
    return {
        "wavelet": (wavelet, [2, 2, 1], {}),
        "shown": (shown, [3, 1, 2], {}),
        "cells": (cells, [2, 3, 1], {}),
        "calculator": (simple.Calculator(Input=wavelet, Function="RTData*2"), [1, 2, 2], {}),
        "reader": (reader, [2, 1, 2], {}),
        "one": (wavelet, [1, 1, 1], {}),
        "automatic": (wavelet, [0, 0, 0], {"Parameters": 9000}),
        "pieces": (fixed_pieces((17, 13, 11)), [2, 2, 2], {}),
        "piece cells": (fixed_pieces((17, 14, 11), cells=1), [3, 1, 1], {}),
        "filtered pieces": (simple.Calculator(Input=fixed_pieces((9, 17, 8)), Function="f+1"), [1, 3, 1], {}),
    }


def models(folder):
    report = {}
    for name, (source, bricks, more) in sources(folder).items():
        path = os.path.join(folder, name + ".apmgsrn")
        trainer = trained(source, path, bricks, **more)
        again = trained(source, path, bricks, **more)
        volume = simple.NeuralVolume(FileName=path)
        volume.UpdatePipeline()
        report[name] = {
            **status(trainer), "again": status(again)["Status"], "cells": cells(trainer), "sampled": cells(volume),
            "rows": trainer.GetDataInformation(1).GetNumberOfRows(), "boxes": cells(trainer, 2) // 6,
        }  # fmt: skip
        simple.SaveData(os.path.join(folder, name + ".pvti"), proxy=trainer, DataMode="Ascii")
    return report


def cells(proxy, port=0):
    return proxy.GetDataInformation(port).GetNumberOfCells()


def errors(folder):
    """A source that fails on the last rank, a wrong array, bricks that cannot be; then all is well again."""
    size = servermanager.vtkProcessModule.GetProcessModule().GetNumberOfLocalPartitions()
    path = os.path.join(folder, "e.apmgsrn")
    failing = trained(fixed_pieces((17, 13, 11), fails=size - 1), path, [2, 2, 1], TargetArray=["POINTS", "f"])
    nameless = trained(fixed_pieces((17, 13, 11), renames=size - 1), path, [2, 2, 1], TargetArray=["POINTS", "f"])
    late = trained(failing_later(3), path, [2, 2, 1], TargetArray=["POINTS", "f"])
    impossible = trained(simple.Wavelet(WholeExtent=[0, 7, 0, 8, 0, 9]), path, [8, 1, 1])
    good = trained(simple.Wavelet(WholeExtent=[0, 7, 0, 8, 0, 9]), path, [2, 1, 1])
    return {"failing": status(failing), "nameless": status(nameless), "late": status(late), "impossible": status(impossible), "good": status(good)}


def memory(folder):
    """Peak memory of each rank while a volume is trained in one and in many bricks, in MiB above that before."""
    report = {}
    for name, bricks in (("warm-up", [4, 4, 4]), ("bricks", [4, 4, 4]), ("bricks", [4, 4, 4]), ("whole", [1, 1, 1])):
        n = 63 if name == "warm-up" else 255  # the same work on less: what libraries keep from their first use on is there then
        source = simple.Wavelet(WholeExtent=[0, n, 0, n, 0, n])
        for rank in ranks():
            with open(f"/proc/{rank}/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
        before = peaks()
        trainer = trained(source, "", bricks, OutputReconstruction=0, Seed=1 + len(report))
        more = [after - early for after, early in zip(peaks(), before)]
        report[name] = list(map(min, more, report.get(name, more)))  # of two the lesser one: threads that wait hold more now and then
        report[name + " status"] = status(trainer)
        simple.Delete(trainer)
        simple.Delete(source)
    return report


def ranks():
    """Process numbers of all ranks: this one and those that the same mpirun has started."""
    mine = process_status(os.getpid())
    everyone = (int(name) for name in os.listdir("/proc") if name.isdigit())
    alike = ("Name", "PPid")
    return sorted(pid for pid in everyone if all(process_status(pid).get(key) == mine[key] for key in alike))


def process_status(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            return dict(line.strip().split(":\t", 1) for line in file if ":\t" in line.strip())
    except OSError:
        return {}


def peaks():
    return [int(process_status(pid)["VmHWM"].split()[0]) / 1024 for pid in ranks()]


def resume(folder):
    """Long enough to be killed."""
    source = simple.Wavelet(WholeExtent=[-20, 20, -20, 20, -20, 20])
    trainer = trained(
        source, os.path.join(folder, "r.apmgsrn"), [2, 2, 1], Iterations=700, BatchSize=4000, CheckpointInterval=0.1,
        ReportProgress=0.2,
    )  # fmt: skip
    return status(trainer)


def main(plugin, folder, what):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    report = {"models": models, "errors": errors, "memory": memory, "resume": resume}[what](folder)
    with open(os.path.join(folder, what + ".json"), "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
