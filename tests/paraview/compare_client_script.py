"""Run by test_compare_parallel.py as `pvpython compare_client_script.py plugin.xml port folder`, against a parallel server."""

from paraview import simple

# fmt: off
import json
import sys
# fmt: on


def information(proxy, name):
    proxy.UpdatePropertyInformation()
    return proxy.GetPropertyValue(name)


def main(plugin, port, folder):
    simple.Connect("localhost", int(port))
    if not hasattr(simple, "CompareNeuralVolume"):  # it is there when PV_PLUGIN_CONFIG_FILE was set on both sides
        simple.LoadPlugin(plugin, remote=True, ns=vars(simple))
    report = {}
    wavelet = simple.Wavelet(WholeExtent=[-8, 7, -5, 5, 2, 12])
    wavelet.UpdatePipeline()
    model = simple.NeuralVolume(FileName=folder + "/m.apmgsrn", Device="cpu")
    comparison = simple.CompareNeuralVolume(Input=wavelet, Model=model, Device="cpu")
    comparison.UpdatePipeline()
    report["compared"] = information(comparison, "Status")
    report["rows"] = comparison.GetDataInformation(1).GetNumberOfRows()
    plane = simple.Plane(Origin=[-3, 0, 3], Point1=[3, 0, 3], Point2=[-3, 0, 9], XResolution=20, YResolution=20)
    sampled = simple.SampleNeuralVolume(Input=plane, Model=model, Device="cpu", ComputeGradient=1)
    sampled.UpdatePipeline()
    report["sampled"] = information(sampled, "Status")
    report["arrays"] = sampled.PointData.keys()
    alone = simple.CompareNeuralVolume(Input=wavelet, Device="cpu")
    alone.UpdatePipeline()
    report["error"] = information(alone, "LastError")
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
