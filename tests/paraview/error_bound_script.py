"""Run by test_error_bound.py as `[mpirun -np N] pvbatch error_bound_script.py plugin.xml folder`.

Trains in bricks within an error bound, and leaves the model and what each rank shows of it in the folder.
"""

from paraview import simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import os
import sys
# fmt: on


def main(plugin, folder):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    path = os.path.join(folder, "m.apmgsrn")
    trained = simple.TrainNeuralVolume(
        Input=simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12]), Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4],
        HiddenWidth=16, Iterations=30, BatchSize=500, Device="cpu", Bricks=[2, 2, 1], ErrorBound=1.0, ErrorBoundMode="Absolute",
        ModelFile=path,
    )  # fmt: skip
    trained.UpdatePipeline()
    trained.UpdatePropertyInformation()
    volume = simple.NeuralVolume(FileName=path)
    for name, proxy in (("trained", trained), ("sampled", volume)):
        simple.SaveData(os.path.join(folder, name + ".pvti"), proxy=proxy, DataMode="Binary")
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump({name: trained.GetPropertyValue(name) for name in ("Status", "LastError")}, file)


main(*sys.argv[1:3])
