"""Run by test_render_remote.py as `pvpython render_client_script.py plugin.xml model folder [port]`: with a port against a server.

Shows a model in a view with a box, from two sides, at once and in passes, and keeps the pictures.
"""

from paraview import simple

# fmt: off
import json
import sys
# fmt: on


def status(renderer):
    renderer.UpdatePropertyInformation()
    return renderer.GetPropertyValue("Status"), renderer.GetPropertyValue("LastError")


def main(plugin, model, folder, port=None):
    simple._DisableFirstRenderCameraReset()
    if port is not None:
        simple.Connect("localhost", int(port))
    if not hasattr(simple, "RenderNeuralVolume"):  # it is there when PV_PLUGIN_CONFIG_FILE was set on both sides
        simple.LoadPlugin(plugin, remote=port is not None, ns=vars(simple))
    import apmgsrn

    view = simple.CreateView("RenderView", ViewSize=[120, 90], OrientationAxesVisibility=0, Background=[0, 0, 0])
    view.UseColorPaletteForBackground = view.UseFXAA = 0
    renderer = apmgsrn.show(view, simple.NeuralVolume(FileName=model))
    renderer.SetPropertyWithName("Device", "cpu")
    renderer.ScalarOpacityFunction.Points = [20, 0, 0.5, 0, 100, 1, 0.5, 0]
    box = simple.Show(simple.Box(Center=[4, 6, 12], XLength=2, YLength=2, ZLength=4), view)
    box.AmbientColor = box.DiffuseColor = [1, 0, 0]
    view.CameraPosition, view.CameraFocalPoint = [12, 20, 30], [3, 6, 9]
    report = {}
    simple.SaveScreenshot(folder + "/first.png", view)
    report["first"] = status(renderer)
    view.CameraPosition = [-12, 16, 26]
    simple.SaveScreenshot(folder + "/turned.png", view)
    report["turned"] = status(renderer)
    renderer.Refinement, renderer.PassTime = "In Passes", 0.01
    view.CameraPosition, report["passes"] = [12, 20, 30], 0
    while report["passes"] < 200:
        report["passes"] += 1
        renderer.SMProxy.InvokeCommand("NextPass")
        simple.Render(view)
        if ", pass " not in status(renderer)[0]:
            break
    simple.SaveScreenshot(folder + "/passes.png", view)
    with open(folder + "/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


main(*sys.argv[1:])
