"""Run by test_level_of_detail.py as `pvbatch follow_script.py plugin.xml model folder [port]`, on one and on two ranks.

With a port it is a client (pvpython) of a server that runs there. Follows a view and reports what is given of it.
"""

from paraview import servermanager, simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import sys
# fmt: on


def area(surface):
    """Of all ranks together, without what two ranks both have."""
    total = simple.IntegrateVariables(Input=surface)
    total.UpdatePipeline()
    values = servermanager.Fetch(total).GetCellData().GetArray("Area")
    simple.Delete(total)
    return values.GetValue(0)


def main(plugin, model, folder, port=None):
    if port:
        simple.Connect("localhost", int(port))
    if not hasattr(simple, "NeuralVolume"):
        simple.LoadPlugin(plugin, remote=bool(port), ns=vars(simple))
    import apmgsrn

    view = simple.CreateView("RenderView", ViewSize=[160, 120], OrientationAxesVisibility=0, Background=[0, 0, 0])
    source = simple.NeuralVolume(FileName=model, Scale=8, Budget=60_000, CoarseBudget=3000)
    source.SetPropertyWithName("Device", "cpu")
    contour = simple.Contour(Input=source, ContourBy=["POINTS", "RTData"], Isosurfaces=[50])
    apmgsrn.follow(view, source)
    simple.Hide(source, view)
    simple.Show(contour, view)
    report = {}
    looks = {"far": ([20, 25, 60], "Auto"), "near": ([2, 3, 24], "Auto"), "coarse": ([2, 3, 24], "Coarse")}
    for name, (position, detail) in looks.items():
        view.CameraPosition, view.CameraFocalPoint, source.Detail = position, [0, 0, 7], detail
        simple.Render(view)
        simple.SaveScreenshot(f"{folder}/{name}.png", view)
        found = source.GetDataInformation()
        report[name] = {"bounds": list(found.GetBounds()), "cells": found.GetNumberOfCells(), "area": area(contour)}
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:5])
