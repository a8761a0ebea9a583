"""Run by test_render_neural_volume.py as `pvbatch render_script.py plugin.xml model folder`, on one and on two ranks.

Renders a model in a view beside a box, in whole and in passes, and keeps the pictures.
"""

from paraview import simple  # first: a script that ends earlier leaves the other ranks waiting

# fmt: off
import json
import sys
# fmt: on


def status(renderer):
    renderer.UpdatePropertyInformation()
    return renderer.GetPropertyValue("Status"), renderer.GetPropertyValue("LastError")


def main(plugin, model, folder):
    simple.LoadPlugin(plugin, remote=False, ns=vars(simple))
    import apmgsrn

    view = simple.CreateView("RenderView", ViewSize=[120, 90], OrientationAxesVisibility=0, Background=[0, 0, 0])
    view.UseColorPaletteForBackground = 0
    renderer = apmgsrn.show(view, model)
    renderer.SetPropertyWithName("Device", "cpu")
    view.CameraPosition, view.CameraFocalPoint = [12, 20, 30], [3, 6, 9]
    report = {}
    for mode in ("Composite", "Isosurface", "Maximum"):
        renderer.Mode = mode
        simple.SaveScreenshot(f"{folder}/{mode}.png", view)
        report[mode] = [*status(renderer), renderer.GetDataInformation().GetNumberOfCells()]
    renderer.Mode, renderer.Refinement, renderer.PassTime = "Composite", "In Passes", 0.01
    passes = 0
    while passes < 200:
        passes += 1
        renderer.SMProxy.InvokeCommand("NextPass")
        renderer.UpdatePipeline()
        if ", pass " not in status(renderer)[0]:
            break
    report["passes"] = passes
    simple.SaveScreenshot(f"{folder}/passes.png", view)
    renderer.SetPropertyWithName("Array", "nothing")
    renderer.UpdatePipeline()
    report["error"] = status(renderer)[1]
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:4])
