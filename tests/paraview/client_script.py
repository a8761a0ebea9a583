"""Run by test_parallel.py as `pvpython client_script.py plugin.xml port folder`, against a parallel server."""

from paraview import simple

# fmt: off
import json
import sys
# fmt: on

TINY = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, Iterations=30, BatchSize=500)


def main(plugin, port, folder):
    simple.Connect("localhost", int(port))
    if not hasattr(simple, "TrainNeuralVolume"):  # it is there when PV_PLUGIN_CONFIG_FILE was set on both sides
        simple.LoadPlugin(plugin, remote=True, ns=vars(simple))
    report = {}
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    wavelet.UpdatePipeline()
    trainer = simple.TrainNeuralVolume(Input=wavelet, **TINY)
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    report["status"] = trainer.GetPropertyValue("Status")
    report["devices"] = list(trainer.GetProperty("Device").Available)
    contour = simple.Contour(Input=trainer, ContourBy=["POINTS", "RTData"], Isosurfaces=[150])
    contour.UpdatePipeline()
    report["contour"] = contour.GetDataInformation().GetNumberOfCells()
    report["cells"] = trainer.GetDataInformation().GetNumberOfCells()
    report["rows"] = trainer.GetDataInformation(1).GetNumberOfRows()
    trainer.Bricks = [2, 1, 2]
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    report["bricks"] = trainer.GetPropertyValue("Status")
    report["brick_rows"] = trainer.GetDataInformation(1).GetNumberOfRows()
    simple.SaveData(folder + "/saved.apmgsrn", proxy=trainer)
    reader = simple.OpenDataFile(folder + "/saved.apmgsrn")
    reader.UpdatePipeline()
    report["reader"] = reader.GetDataInformation().GetNumberOfCells()
    trainer.ModelFile = "/no/such/folder/m.apmgsrn"
    trainer.Seed = 1
    trainer.UpdatePipeline()
    trainer.UpdatePropertyInformation()
    report["error"] = trainer.GetPropertyValue("LastError")
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
