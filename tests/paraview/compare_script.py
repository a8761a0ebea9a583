"""Run by test_compare_parallel.py as `mpirun -np N pvbatch compare_script.py plugin.xml folder`, and once in one process.

Compares folder/m.apmgsrn with data of several kinds and samples it; writes what it saw to folder/report.json.
"""

from paraview import simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import sys
# fmt: on


def own_rows(filter_):
    """The rows that rank 0 has, which runs this script."""
    found = filter_.GetClientSideObject().GetOutputDataObject(1)
    columns = [found.GetColumn(i) for i in range(found.GetNumberOfColumns())]
    return [{c.GetName(): c.GetValue(row) for c in columns} for row in range(found.GetNumberOfRows())]


def told(filter_):
    filter_.UpdatePropertyInformation()
    return filter_.GetPropertyValue("Status")


def inputs():
    """{name: a source whose data lies on all ranks, or on one}"""
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    simple.UpdatePipeline(proxy=wavelet)
    on_one = simple.Slice(Input=wavelet)
    on_one.SliceType.Origin, on_one.SliceType.Normal = [0, 0, 3.3], [0, 0, 1]
    across = simple.Slice(Input=wavelet)
    across.SliceType.Origin, across.SliceType.Normal = [0, 0.3, 7], [0, 1, 0.1]
    mesh = simple.AppendDatasets(Input=wavelet)  # cells that do not depend on the pieces
    return {
        "image": wavelet, "cells": simple.PointDatatoCellData(Input=wavelet), "slice": on_one, "across": across,
        "mesh": mesh, "spread": simple.RedistributeDataSet(Input=mesh),
        "spread cells": simple.RedistributeDataSet(Input=simple.PointDatatoCellData(Input=mesh)),
        "blocks": simple.GroupDatasets(Input=[wavelet, across]),
    }  # fmt: skip


def compare(folder, report):
    for name, source in inputs().items():
        filter_ = simple.CompareNeuralVolume(Input=source, FileName=folder + "/m.apmgsrn", Device="cpu")
        filter_.UpdatePipeline()
        report["compared"][name] = own_rows(filter_)
        gradient = simple.Gradient(Input=filter_, ScalarArray=["POINTS", "RTData_error"]) if name == "image" else filter_
        gradient.UpdatePipeline()  # asks for ghosts
        report["again"][name] = own_rows(filter_)
        if name == "image":
            part = simple.ExtractSubset(Input=filter_, VOI=[0, 3, 0, 3, 3, 4])
            part.UpdatePipeline()
            report["part"] = part.GetDataInformation().GetNumberOfPoints()
            report["rows"] = filter_.GetDataInformation(1).GetNumberOfRows()
        report["told"][name] = told(filter_)


def fail(folder, report):
    """Errors arrive on all ranks, and the next good setting works again."""
    filter_ = simple.CompareNeuralVolume(Input=simple.Wavelet(), FileName="/no/such/model", Device="cpu")
    filter_.UpdatePipeline()
    filter_.UpdatePipeline()
    report["error"] = told(filter_)
    filter_.FileName = folder + "/m.apmgsrn"
    filter_.UpdatePipeline()
    report["after"] = told(filter_)


def sample(folder, report):
    for name, source in inputs().items():
        side = "Cell Centers" if "cells" in name else "Points"
        filter_ = simple.SampleNeuralVolume(Input=source, FileName=folder + "/m.apmgsrn", Device="cpu", PassInputArrays=0)
        filter_.UpdatePipeline()
        valid = simple.Threshold(Input=filter_, Scalars=["POINTS", "vtkValidPointMask"], LowerThreshold=1, UpperThreshold=1)
        valid.UpdatePipeline()
        report["valid"][name] = valid.GetDataInformation().GetNumberOfPoints()
        report["range"][name] = filter_.GetDataInformation().GetPointDataInformation().GetArrayInformation(
            "RTData"
        ).GetComponentRange(0)  # fmt: skip


# All but the last rank lack an array, and of the second input the points as well.
LESS = """
from vtkmodules.vtkParallelCore import vtkMultiProcessController
controller = vtkMultiProcessController.GetGlobalController()
data = self.GetOutputDataObject(0)
data.ShallowCopy(self.GetInputDataObject(0, 0))
if controller.GetLocalProcessId() + 1 < controller.GetNumberOfProcesses():
    data.GetPointData().RemoveArray("RTData")
    {more}
"""


def names(folder, report):
    """What rank 0 calls the arrays. (A programmable filter takes the name `inputs` away.)"""
    mesh = inputs()["mesh"]
    for name, more in (("less", ""), ("empty", "data.Initialize()")):
        source = simple.ProgrammableFilter(Input=mesh, Script=LESS.format(more=more))
        filter_ = simple.SampleNeuralVolume(Input=source, FileName=folder + "/m.apmgsrn", Device="cpu", ComputeGradient=1)
        found = []
        for passed in (1, 0, 1):
            filter_.PassInputArrays = passed
            filter_.UpdatePipeline()
            data = filter_.GetClientSideObject().GetOutputDataObject(0).GetPointData()
            found.append([data.GetArrayName(i) for i in range(data.GetNumberOfArrays())])
        report["names"][name] = found


def main(plugin, folder):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    report = {"compared": {}, "again": {}, "told": {}, "valid": {}, "range": {}, "names": {}}
    compare(folder, report)
    fail(folder, report)
    sample(folder, report)
    names(folder, report)
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:3])
