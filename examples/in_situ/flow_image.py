"""A rank's slab of a flow as VTK has it: image data with velocity and vorticity at its points.

The flow has N points along each side and repeats; the image has N + 1, from 0 to 2 pi with both ends, so that its cells fill
the box. Neighbouring ranks share a plane of points: each adds the first plane of the next one, the last one that of the first.
"""

from __future__ import annotations

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData

ARRAYS = ("velocity", "vorticity_magnitude")
COMPONENTS = 4  # of both together
BYTES_OF_A_NUMBER = 4


def whole_extent(points: int) -> tuple:
    """Of the points of the image: first and last along x, y, z."""
    return (0, points, 0, points, 0, points)


def raw_bytes(points: int) -> int:
    """What the arrays of one time step take."""
    return (points + 1) ** 3 * COMPONENTS * BYTES_OF_A_NUMBER


def flow_image(flow) -> vtkImageData:
    """This rank's part of the image (all ranks together)."""
    first, stop = flow.planes
    image = vtkImageData()
    image.SetExtent(0, flow.points, 0, flow.points, first, stop)
    image.SetSpacing((2 * np.pi / flow.points,) * 3)
    velocity, vorticity = flow.velocity(), flow.vorticity()
    magnitude = np.sqrt((vorticity**2).sum(axis=0, keepdims=True))
    values = _closed(np.concatenate([velocity, magnitude]), flow.communicator)
    for name, components in zip(ARRAYS, (values[:3], values[3:])):
        table = np.moveaxis(components, 0, -1).reshape(-1, len(components))  # x runs fastest, as in VTK
        array = numpy_to_vtk(np.ascontiguousarray(table, dtype=np.float32), deep=1)
        array.SetName(name)
        image.GetPointData().AddArray(array)
    return image


def _closed(fields: np.ndarray, communicator) -> np.ndarray:
    """Fields [c, z, y, x] with the plane that follows them, and the first line and column again at the end."""
    plane = np.ascontiguousarray(fields[:, :1])
    if communicator is not None and communicator.Get_size() > 1:
        rank, size = communicator.Get_rank(), communicator.Get_size()
        plane = communicator.sendrecv(plane, dest=(rank - 1) % size, source=(rank + 1) % size)
    return np.pad(np.concatenate([fields, plane], axis=1), ((0, 0), (0, 0), (0, 1), (0, 1)), mode="wrap")
