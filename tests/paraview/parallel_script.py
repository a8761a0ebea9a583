"""Run by test_parallel.py as `mpirun -np N pvbatch parallel_script.py plugin.xml folder`, and once in one process.

Trains, saves, opens, contours and slices; writes what it saw to folder/report.json and folder/*.pvti.
"""

from paraview import servermanager, simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import sys
# fmt: on

TINY = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=30, BatchSize=500)


def cells(proxy, port=0):
    """Of all ranks together."""
    return proxy.GetDataInformation(port).GetNumberOfCells()


def count_trainings():
    from apmgsrn_core.training import volume_training

    done, plan = [], volume_training.plan_bricks
    volume_training.plan_bricks = lambda job, survey: done.append(job) or plan(job, survey)
    return done


def area(surface):
    """Of all ranks together, without what two ranks both have."""
    total = simple.IntegrateVariables(Input=surface)
    total.UpdatePipeline()
    return servermanager.Fetch(total).GetCellData().GetArray("Area").GetValue(0)


def downstream(source, report, name):
    contour = simple.Contour(Input=source, ContourBy=["POINTS", "RTData"], Isosurfaces=[150])
    slice_ = simple.Slice(Input=source)
    slice_.SliceType.Origin, slice_.SliceType.Normal = [0, 0.3, 7], [0, 1, 0.1]  # goes through both ranks
    gradient = simple.Gradient(Input=source, ScalarArray=["POINTS", "RTData"])  # asks for ghosts
    gradient.UpdatePipeline()
    report[name] = [area(contour), area(slice_), cells(gradient)]


def train(folder, report, trainings):
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    wavelet.UpdatePipeline()
    trainer = simple.TrainNeuralVolume(Input=wavelet, ModelFile=folder + "/m.apmgsrn", **TINY)
    trainer.UpdatePipeline()
    downstream(trainer, report, "trainer")
    for port in (1, 2):
        simple.OutputPort(trainer, port).UpdatePipeline()
    trainer.UpdatePropertyInformation()
    report["status"] = trainer.GetPropertyValue("Status")
    report["rows"] = trainer.GetDataInformation(1).GetNumberOfRows()
    report["boxes"] = cells(trainer, 2)
    trainer.Seed = 1
    trainer.UpdatePipeline()
    trainer.Seed = 0
    trainer.UpdatePipeline()
    report["trainings"] = len(trainings)
    simple.SaveData(folder + "/reconstruction.pvti", proxy=trainer, DataMode="Ascii")
    simple.SaveData(folder + "/saved.apmgsrn", proxy=trainer)
    fail(trainer, report)


def fail(trainer, report):
    """Errors arrive on all ranks, and the next good setting works again."""
    trainer.Device = "abacus"
    trainer.UpdatePipeline()
    trainer.Seed = 2
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    report["error"] = trainer.GetPropertyValue("LastError")
    trainer.Device, trainer.Seed = "cpu", 0
    trainer.UpdatePipeline()
    report["cells_after_error"] = cells(trainer)


def sample(folder, report):
    source = simple.NeuralVolume(FileName=folder + "/saved.apmgsrn", Scale=2)
    source.UpdatePipeline()
    downstream(source, report, "source")
    simple.SaveData(folder + "/fine.pvti", proxy=source, DataMode="Ascii")
    reader = simple.OpenDataFile(folder + "/saved.apmgsrn")
    reader.UpdatePipeline()
    report["reader"] = cells(reader)


def main(plugin, folder):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    report = {}
    train(folder, report, count_trainings())
    sample(folder, report)
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:3])
