"""A macro for test_neural_rendering.py: a blue slice through the active source and a green box, both in plain colours."""

from paraview import simple


def show(source, colour):
    display = simple.Show(source, view, "GeometryRepresentation")
    display.ColorArrayName = [None, ""]
    display.AmbientColor = display.DiffuseColor = colour
    display.Ambient, display.Diffuse, display.Specular = 1, 0, 0


view, model = simple.GetActiveView(), simple.GetActiveSource()
view.UseColorPaletteForBackground, view.Background, view.OrientationAxesVisibility = 0, [0, 0, 0], 0
colours, opacities = simple.GetColorTransferFunction("ball"), simple.GetOpacityTransferFunction("ball")
colours.RGBPoints = [0, 1, 1, 1, 100, 1, 1, 1]
opacities.Points = [0, 0, 0.5, 0, 20, 0, 0.5, 0, 100, 0.6, 0.5, 0]
simple.Hide(model, view)
cut = simple.Slice(Input=model)
cut.SliceType.Origin, cut.SliceType.Normal = [0, 0, 0], [0, 1, 0]
show(cut, [0, 0, 1])
show(simple.Box(XLength=0.8, YLength=0.8, ZLength=0.4, Center=[-0.2, 0.3, -0.6]), [0, 1, 0])
view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = [1, 2.5, 4.5], [0, 0, 0], [0, 1, 0]
simple.SetActiveSource(model)
