"""Run by test_failing_rank.py as `mpirun -np N pvbatch failing_rank_script.py plugin.xml folder FILTER`.

The source above the filter fails on the last rank, then on the first one, then nowhere; writes what was told to folder/report.json.
FILTER may be CompareTrained: Compare Neural Volume, whose model comes from a training that begins when it is asked.
"""

from paraview import servermanager, simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import os
import sys
# fmt: on

TRAINING = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=30, BatchSize=500)


def main(plugin, folder, name):
    for path in (plugin, os.path.join(os.path.dirname(os.path.abspath(__file__)), "failing_source.xml")):
        simple.LoadPlugin(path, remote=False, ns=vars(simple))
    size = servermanager.vtkProcessModule.GetProcessModule().GetNumberOfLocalPartitions()
    source = simple.FailingSource()
    settings = {"FileName": folder + "/m.apmgsrn"}
    if name == "TrainNeuralVolume":
        settings = {"TargetArray": ["POINTS", "RTData"], **TRAINING}
    elif name == "RenderNeuralVolume":
        source.Model, settings = settings["FileName"], {"ViewSize": [16, 12]}
    report = []
    if name == "CompareTrained":
        wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
        model = simple.TrainNeuralVolume(Input=wavelet, TargetArray=["POINTS", "RTData"], Device="cpu", Bricks=[2, 1, 1], **TRAINING)
        name, settings = "CompareNeuralVolume", {"Model": model}
    source.Fails = size - 1
    filter_ = getattr(simple, name)(Input=source, Device="cpu", **settings)
    for rank in (size - 1, 0, -1):
        source.Fails = rank
        for _ in range(2):
            filter_.UpdatePipeline()
        filter_.UpdatePropertyInformation()
        report.append({name: filter_.GetPropertyValue(name) for name in ("Status", "LastError")})
        print("REPORT", rank, report[-1], flush=True)
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
