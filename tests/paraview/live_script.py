"""Run by test_live_training.py as `pvpython live_script.py plugin.xml folder [port]`, with a port against a server, or by pvbatch.

Trains live until the end, with a pause, and once at one go.
"""

from paraview import simple

# fmt: off
import json
import sys
# fmt: on

TINY = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=200, BatchSize=500)


def status(trainer):
    trainer.UpdatePropertyInformation()
    return trainer.GetPropertyValue("Status")


def command(trainer, name):
    trainer.SMProxy.InvokeCommand(name)
    trainer.UpdatePipeline()
    return status(trainer)


def main(plugin, folder, port=None):
    if port is not None:
        simple.Connect("localhost", int(port))
    if not hasattr(simple, "TrainNeuralVolume"):  # it is there when PV_PLUGIN_CONFIG_FILE was set on both sides
        simple.LoadPlugin(plugin, remote=port is not None, ns=vars(simple))
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    wavelet.UpdatePipeline()
    settings = dict(Input=wavelet, Bricks=[3, 1, 1], Device="cpu", **TINY)
    live = simple.TrainNeuralVolume(Live=1, SliceTime=0.02, ModelFile=folder + "/live.apmgsrn", **settings)
    live.UpdatePipeline()
    report = {"statuses": [status(live)]}
    report["paused"] = command(live, "Pause")
    while report["statuses"][-1].startswith("live") and len(report["statuses"]) < 1000:
        report["statuses"].append(command(live, "Step"))
    report["status"] = status(live)
    report["cells"] = live.GetDataInformation().GetNumberOfCells()
    simple.TrainNeuralVolume(ModelFile=folder + "/at once.apmgsrn", **settings).UpdatePipeline()
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:])
