"""Run by test_train_any_data.py as `[mpirun -np N] pvbatch any_data_script.py plugin.xml folder what`.

Trains on data that the ranks have in pieces, and leaves the models, what each rank had, and what was told, in the folder.
"""

from paraview import simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import os
import sys
# fmt: on

TINY = dict(
    Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=300, BatchSize=1000, Device="cpu",
    MeshSamples=8000,
)  # fmt: skip
# Boxes of hexahedra beside each other along x, each on one rank; of a rank without a box all blocks are missing.
BLOCKS = """
import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkImageData
from vtkmodules.vtkFiltersCore import vtkAppendFilter
from vtkmodules.vtkParallelCore import vtkMultiProcessController
controller = vtkMultiProcessController.GetGlobalController()
rank, size = controller.GetLocalProcessId(), controller.GetNumberOfProcesses()
output = self.GetOutputDataObject(0)
output.SetNumberOfBlocks(3)
for number, name in enumerate(("left", "middle", "right")):
    output.GetMetaData(number).Set(vtkCompositeDataSet.NAME(), name)
    if number % size != rank:
        continue
    box = vtkImageData()
    box.SetDimensions(7, 8, 9)
    box.SetOrigin(6 * number, 0, 0)
    append = vtkAppendFilter()
    append.AddInputData(box)
    append.Update()
    mesh = append.GetOutput()
    places = np.array([mesh.GetPoint(i) for i in range(mesh.GetNumberOfPoints())])
    values = (places @ [1.0, -2.0, 0.5]).astype("float32" if number else "float64")
    array = numpy_to_vtk(values, deep=1)
    array.SetName("g" if {renames} == number else "f")
    mesh.GetPointData().AddArray(array)
    output.SetBlock(number, mesh)
"""
# What a rank has of the data and of the reconstruction.
SEEN = """
import json
from vtkmodules.vtkParallelCore import vtkMultiProcessController
from apmgsrn_paraview.data_leaves import leaves_of, names_of
controller = vtkMultiProcessController.GetGlobalController()
seen = []
for port in range(2):
    leaves = leaves_of(self.GetInputDataObject(0, port))
    names = sorted({{name for leaf in leaves for name in names_of(leaf, "point")}})
    points, cells = ([getattr(leaf, kind)() for leaf in leaves] for kind in ("GetNumberOfPoints", "GetNumberOfCells"))
    seen.append([points, cells, names])  # this script's `sum` is VTK's
with open({path!r} + "." + str(controller.GetLocalProcessId()), "w") as file:
    json.dump(seen, file)
"""


def blocks(renames=-1):
    script = BLOCKS.format(renames=renames)
    source = simple.ProgrammableSource(OutputDataSetType="vtkMultiblockDataSet", Script=script)
    if renames < 0:
        source.UpdatePipeline()  # so that its arrays are offered
    return source


def trained(source, path, **more):
    simple.SetActiveSource(source)  # the default of TargetArray comes from there
    trainer = simple.TrainNeuralVolume(Input=source, ModelFile=path, **{**TINY, **more})
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    return trainer


def told(trainer):
    return {name: trainer.GetPropertyValue(name) for name in ("Status", "LastError")}


def sources(folder):
    """{name: (source, more settings)}"""
    wavelet = simple.Wavelet(WholeExtent=[-6, 6, -5, 5, -4, 6])
    values = simple.Calculator(Input=wavelet, Function="coordsX - 2*coordsY + 0.5*coordsZ", ResultArrayName="f")
    cells = simple.PointDatatoCellData(Input=values, PassPointData=1, ProcessAllArrays=0, PointDataArraytoprocess=["RTData"])
    several = {"SeveralArrays": 1, "PointArrays": ["f"], "CellArrays": ["RTData"]}
    return {
        "mesh": (simple.Tetrahedralize(Input=values), {"TargetArray": ["POINTS", "f"]}),
        "blocks": (blocks(), {"TargetArray": ["POINTS", "f"], "Bricks": [2, 1, 1]}),
        "both sides": (cells, several),
        "rectilinear": (
            simple.OpenDataFile(os.path.join(folder, "..", "input.vtr")), {"TargetArray": ["POINTS", "f"], "Bricks": [2, 2, 1]},
        ),
    }


def models(folder):
    report = {}
    for name, (source, more) in sources(folder).items():
        path = os.path.join(folder, name + ".apmgsrn")
        trainer = trained(source, path, **more)
        again = trained(source, path, **more)
        look = simple.ProgrammableFilter(
            Input=[source, trainer], OutputDataSetType="vtkTable", Script=SEEN.format(path=os.path.join(folder, name))
        )
        look.UpdatePipeline()
        contour = simple.Contour(Input=trainer, ContourBy=["POINTS", "f"], Isosurfaces=[0.0])
        area = simple.IntegrateVariables(Input=contour)
        area.UpdatePipeline()
        report[name] = {
            **told(trainer), "again": told(again)["Status"], "bounds": trainer.GetDataInformation().GetBounds(),
            "area": area.CellData["Area"].GetRange()[1],
        }  # fmt: skip
    return report


def errors(folder):
    """What one rank lacks, what all ranks refuse, and after it what is well."""
    size = simple.servermanager.vtkProcessModule.GetProcessModule().GetNumberOfLocalPartitions()
    path, target = os.path.join(folder, "e.apmgsrn"), {"TargetArray": ["POINTS", "f"]}
    found = {
        "missing": told(trained(blocks(renames=size - 1), path, **target)),
        "negative": told(trained(blocks(), path, **target, MeshSamples=-1)),
        "empty": told(trained(simple.ProgrammableSource(OutputDataSetType="vtkUnstructuredGrid", Script="pass"), path, **target)),
    }
    return {**found, "good": told(trained(blocks(), path, **target))}


def main(plugin, folder, what):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    report = {"models": models, "errors": errors}[what](folder)
    with open(os.path.join(folder, what + ".json"), "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
