"""A picture as a mesh: quads with colours, at the depths where its rays end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import VTK_DOUBLE, VTK_ID_TYPE, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray

COLOURS = "rgba"
SHIFTS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def fill_billboard(mesh, picture, camera, bounds: tuple) -> int:
    """Fill a vtkPolyData with a picture: a vertex for each pixel that shows something and for each of its neighbours.

    From the camera the mesh looks as the picture does, pixel by pixel, and other objects hide it or are hidden
    where they are in front of its depth or behind.

    Args:
        mesh: The vtkPolyData; gets the point array `rgba` of unsigned bytes, straight alpha.
        picture: `rgba` (h, w, 4) from 0 to 1 and `depth` (h, w) along the view direction, the row at the bottom first;
            NaN where a ray met nothing.
        camera: The `apmgsrn_core.Camera` that it was made with, of any size.
        bounds: Of the model. Two quads without area or colour in its corners let the view find the model where
            the picture is empty.

    Returns:
        The number of pixels that show something.
    """
    mesh.Initialize()
    count = int(((picture.rgba[..., 3] > 0) & np.isfinite(picture.depth)).sum())
    rgba, depth, camera = _widened(picture.rgba, picture.depth, camera)
    seen = (rgba[..., 3] > 0) & np.isfinite(depth)
    rgba, depth = _with_margin(rgba, depth, seen)
    quads, used = _quads(seen)
    numbers = np.cumsum(used.ravel()) - 1
    corners = np.reshape(bounds, (3, 2)).T
    points = np.concatenate([_positions(depth, np.flatnonzero(used), camera), corners])
    colours = np.concatenate([rgba[used], np.zeros((2, 4))])
    ends = len(points) - np.repeat([2, 1], 4).reshape(2, 4)
    _set(mesh, points, np.concatenate([numbers[quads], ends]), np.rint(255 * colours.clip(0, 1)).astype(np.uint8))
    return count


def _widened(rgba: np.ndarray, depth: np.ndarray, camera) -> tuple[np.ndarray, np.ndarray, object]:
    """The picture with a frame of one more pixel, and the camera that sees it all: quads reach from centre to centre of pixels,
    without the frame half a pixel would be missing at the border of the view."""
    height = depth.shape[0]
    grown = (height + 2) / height
    angle = math.degrees(2 * math.atan(math.tan(math.radians(camera.view_angle) / 2) * grown))
    scale = None if camera.parallel_scale is None else camera.parallel_scale * grown
    camera = replace(camera, view_angle=angle, parallel_scale=scale)
    return np.pad(rgba, ((1, 1), (1, 1), (0, 0)), "edge"), np.pad(depth, 1, "edge"), camera


def _with_margin(rgba: np.ndarray, depth: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels beside those that are seen get the mean colour and depth of these, and no opacity."""
    height, width = seen.shape
    there, near = np.pad(seen, 1), np.zeros(seen.shape, dtype=bool)
    for dy, dx in SHIFTS:
        near |= there[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    row, column = np.nonzero(near & ~seen)
    total, count = np.zeros((len(row), 4)), np.zeros(len(row))
    for dy, dx in SHIFTS:
        use = np.flatnonzero(there[row + dy + 1, column + dx + 1])
        at = row[use] + dy, column[use] + dx
        total[use, :3] += rgba[..., :3][at]
        total[use, 3] += depth[at]
        count[use] += 1
    total /= count[:, None]
    rgba, depth = rgba.copy(), depth.copy()
    rgba[row, column, :3], rgba[row, column, 3], depth[row, column] = total[:, :3], 0.0, total[:, 3]
    return rgba, depth


def _quads(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) flat pixel numbers of the quads with a seen corner, and which pixels they use (h, w)."""
    width = seen.shape[1]
    some = seen[:-1, :-1] | seen[:-1, 1:] | seen[1:, 1:] | seen[1:, :-1]
    row, column = np.nonzero(some)
    first = row * width + column
    quads = np.stack([first, first + 1, first + width + 1, first + width], axis=1)
    used = np.zeros(seen.shape, dtype=bool)
    used.ravel()[quads.ravel()] = True
    return quads, used


def _positions(depth: np.ndarray, pixels: np.ndarray, camera) -> np.ndarray:
    """(n, 3) world positions of pixels at their depths."""
    camera = replace(camera, size=depth.shape[::-1])
    origins, directions = camera.rays(pixels)
    start = camera.depth_of(origins)
    rate = camera.depth_of(origins + directions) - start
    return origins + directions * ((depth.ravel()[pixels] - start) / rate)[:, None]


def _set(mesh, points: np.ndarray, quads: np.ndarray, colours: np.ndarray) -> None:
    """Give a mesh its points, quads and colours."""
    places, cells = vtkPoints(), vtkCellArray()
    places.SetDataType(VTK_DOUBLE)
    places.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=1))
    offsets = np.arange(0, quads.size + 1, 4, dtype=np.int64)
    cells.SetData(*(numpy_to_vtk(n, deep=1, array_type=VTK_ID_TYPE) for n in (offsets, quads.ravel().astype(np.int64))))
    array = numpy_to_vtk(np.ascontiguousarray(colours), deep=1)
    array.SetName(COLOURS)
    mesh.SetPoints(places)
    mesh.SetPolys(cells)
    mesh.GetPointData().SetScalars(array)
