"""VTK's own volume rendering of an array, as ParaView does it: runs in pvpython."""

from __future__ import annotations

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (the implementations)
import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkRenderer, vtkRenderWindow, vtkVolume, vtkWindowToImageFilter
from vtkmodules.vtkRenderingVolume import vtkGPUVolumeRayCastMapper  # noqa: F401  (made by its factory)


def rendered(values: np.ndarray, grid, camera, function, step: float) -> np.ndarray:
    """[h, w, 3] float of values [z, y, x], the row at the bottom first, before black."""
    image = vtkImageData()
    image.SetDimensions(grid.dims)
    image.SetOrigin(grid.origin)
    image.SetSpacing(grid.spacing)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values, np.float32).ravel(), deep=True))
    volume = _volume(image, function, step)
    renderer, window = vtkRenderer(), vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(camera.size)
    window.AddRenderer(renderer)
    renderer.AddVolume(volume)
    _take_camera(renderer, camera)
    window.Render()
    return pixels_of(window)


def pixels_of(window) -> np.ndarray:
    """[h, w, 3] float from 0 to 1 of what a vtkRenderWindow has rendered, the row at the bottom first."""
    taken = vtkWindowToImageFilter()
    taken.SetInput(window)
    taken.ReadFrontBufferOff()
    taken.ShouldRerenderOff()
    taken.Update()
    output = taken.GetOutput()
    width, height = output.GetDimensions()[:2]
    return vtk_to_numpy(output.GetPointData().GetScalars()).reshape(height, width, -1)[..., :3] / 255.0


def _volume(image, function, step: float):
    mapper = vtkGPUVolumeRayCastMapper()
    mapper.SetInputData(image)
    mapper.SetAutoAdjustSampleDistances(0)
    mapper.SetLockSampleDistanceToInputSpacing(0)
    mapper.SetUseJittering(0)
    mapper.SetSampleDistance(step)
    colours, opacities = vtkColorTransferFunction(), vtkPiecewiseFunction()
    for value, colour, opacity in zip(function.points, function.colours, function.opacities):
        colours.AddRGBPoint(value, *colour)
        opacities.AddPoint(value, opacity)
    volume = vtkVolume()
    volume.SetMapper(mapper)
    settings = volume.GetProperty()
    settings.SetColor(colours)
    settings.SetScalarOpacity(opacities)
    settings.SetScalarOpacityUnitDistance(function.unit_distance)
    settings.SetInterpolationTypeToLinear()
    settings.ShadeOff()
    return volume


def _take_camera(renderer, camera) -> None:
    renderer.SetBackground(0, 0, 0)
    eye = renderer.GetActiveCamera()
    eye.SetPosition(camera.position)
    eye.SetFocalPoint(camera.focal_point)
    eye.SetViewUp(camera.view_up)
    eye.SetViewAngle(camera.view_angle)
    renderer.ResetCameraClippingRange()
