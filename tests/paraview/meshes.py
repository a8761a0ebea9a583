"""Small meshes for the tests, with fields that are known everywhere."""

from __future__ import annotations

import numpy as np
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkIdList, vtkPoints
from vtkmodules.vtkFiltersCore import vtkCellCenters

from apmgsrn_paraview.mesh_points import point_positions

FROM_VTK_9_6 = hasattr(vtk, "vtkCellTypeUtilities")
SLOPE = np.array([1.0, -2.0, 0.5])


def amr_grid(data, level, index):
    """A grid of AMR data."""
    return data.GetDataSetAsCartesianGrid(level, index) if FROM_VTK_9_6 else data.GetDataSet(level, index)


def class_of_cells(kind):
    """VTK's class of a cell type; vtkCellTypes has it under another name from VTK 9.6 on."""
    return vtk.vtkGenericCell.InstantiateCell(kind).GetClassName()


def linear(positions):
    """A field that all cells interpolate exactly."""
    return positions @ SLOPE + 4.0


def add(data, name, values, association="point"):
    """Give a data set an array; returns the data set."""
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=1)
    array.SetName(name)
    (data.GetPointData() if association == "point" else data.GetCellData()).AddArray(array)
    return data


def positions_of(data):
    return point_positions(data)(np.arange(data.GetNumberOfPoints()))


def with_fields(data):
    """`f` linear on the points, `v` three linear ones as float32, `id` the number of the cell."""
    points = positions_of(data)
    add(data, "f", linear(points))
    add(data, "v", np.stack([linear(points), points[:, 0], points[:, 2]], axis=1).astype(np.float32))
    return add(data, "id", np.arange(data.GetNumberOfCells()), "cell")


def image(dims=(9, 8, 7), origin=(0, 0, 0), spacing=(1, 1, 1), direction=None, kind=vtk.vtkImageData, first=(0, 0, 0)):
    data = kind()
    data.SetExtent([v for a, n in zip(first, dims) for v in (a, a + n - 1)])
    data.SetOrigin(origin)
    data.SetSpacing(spacing)
    if direction is not None:
        data.SetDirectionMatrix(direction)
    return data


def rectilinear(x, y, z):
    data = vtk.vtkRectilinearGrid()
    data.SetDimensions(len(x), len(y), len(z))
    for setter, axis in ((data.SetXCoordinates, x), (data.SetYCoordinates, y), (data.SetZCoordinates, z)):
        setter(numpy_to_vtk(np.asarray(axis, dtype=np.float64), deep=1))
    return data


def structured(positions, dims):
    """A structured grid; positions (n, 3) with x varying fastest."""
    data = vtk.vtkStructuredGrid()
    data.SetDimensions(dims)
    data.SetPoints(points_of(positions))
    return data


def annulus(dims=(9, 33, 7), inner=1.0, outer=2.0, angle=2 * np.pi):
    """A curvilinear ring, or a part of one, around the z axis: radius, angle, height."""
    z, angle, radius = np.meshgrid(
        np.linspace(0, 1, dims[2]), np.linspace(0, angle, dims[1]), np.linspace(inner, outer, dims[0]), indexing="ij"
    )
    rows = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)
    return structured(rows.reshape(-1, 3), dims)


def points_of(positions):
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(positions, dtype=np.float64), deep=1))
    return points


def unstructured(positions, cells):
    """A mesh of [(VTK's cell type, point ids), ...]."""
    data = vtk.vtkUnstructuredGrid()
    data.SetPoints(points_of(positions))
    data.Allocate(len(cells))
    for kind, ids in cells:
        data.InsertNextCell(kind, len(ids), list(map(int, ids)))
    return data


def hexahedra(dims=(9, 8, 7), jitter=0.2, seed=0):
    """A mesh of hexahedra over [0, n - 1]^3, whose inner points are moved."""
    lattice = image(dims)
    positions = positions_of(lattice)
    inner = ((positions > 0) & (positions < np.array(dims) - 1)).all(axis=1)
    positions[inner] += np.random.default_rng(seed).uniform(-jitter, jitter, (inner.sum(), 3))
    corner = positions_of(lattice).astype(int)
    corner = corner[(corner < np.array(dims) - 1).all(axis=1)]
    steps = np.array([1, dims[0], dims[0] * dims[1]])
    ids = (corner @ steps)[:, None] + np.array([0, 1, steps[1] + 1, steps[1]] + [0, 1, steps[1] + 1, steps[1]])
    ids[:, 4:] += steps[2]
    return unstructured(positions, [(vtk.VTK_HEXAHEDRON, row) for row in ids])


def polyhedra(dims=(4, 3, 3)):
    """The cells of `hexahedra` as polyhedra, which list their faces."""
    source, data = hexahedra(dims), vtk.vtkUnstructuredGrid()
    data.SetPoints(source.GetPoints())
    for cell in range(source.GetNumberOfCells()):
        stream = vtkIdList()
        stream.InsertNextId(6)
        for face in range(6):
            ids = source.GetCell(cell).GetFace(face).GetPointIds()
            for number in (4, *(ids.GetId(i) for i in range(4))):
                stream.InsertNextId(number)
        data.InsertNextCell(vtk.VTK_POLYHEDRON, stream)
    return data


def polygons(positions, verts=(), lines=(), polys=(), strips=()):
    data = vtk.vtkPolyData()
    data.SetPoints(points_of(positions))
    for setter, cells in (
        (data.SetVerts, verts), (data.SetLines, lines), (data.SetPolys, polys), (data.SetStrips, strips)
    ):  # fmt: skip
        array = vtk.vtkCellArray()
        for ids in cells:
            array.InsertNextCell(len(ids), list(ids))
        setter(array)
    return data


def multiblock(*blocks, names=()):
    data = vtk.vtkMultiBlockDataSet()
    for i, block in enumerate(blocks):
        data.SetBlock(i, block)
        if i < len(names):
            data.GetMetaData(i).Set(vtk.vtkCompositeDataSet.NAME(), names[i])
    return data


def amr(overlapping=True):
    """8^3 cells of size 1 over [0, 8]^3, and two finer grids: [2, 5]^3 in cells of 1/2, and [4, 5]^3 in cells of 1/4."""
    data = vtk.vtkOverlappingAMR() if overlapping else vtk.vtkNonOverlappingAMR()
    data.Initialize(*(([1, 1, 1],) if FROM_VTK_9_6 else (3, [1, 1, 1])))
    if overlapping:
        data.SetGridDescription(vtk.VTK_XYZ_GRID)
        data.SetOrigin((0, 0, 0))
    for level, (start, cells) in enumerate(((0, 8), (2, 6), (4, 4))):
        size = 0.5**level
        grid = image((cells + 1,) * 3, (start,) * 3, (size,) * 3, kind=vtk.vtkUniformGrid)
        add(grid, "level", np.full(cells**3, level), "cell")
        if overlapping:
            data.SetSpacing(level, (size,) * 3)
            data.SetRefinementRatio(level, 2)
            first = int(start / size)
            data.SetAMRBox(level, 0, vtk.vtkAMRBox([first] * 3, [first + cells - 1] * 3))
        data.SetDataSet(level, 0, with_fields(grid))
    return data


def ghosts(data, association, marked, bit):
    """Mark cells or points by VTK's ghost array."""
    size = data.GetNumberOfPoints() if association == "point" else data.GetNumberOfCells()
    flags = np.zeros(size, dtype=np.uint8)
    flags[marked] = bit
    return add(data, vtk.vtkDataSetAttributes.GhostArrayName(), flags, association)


def centres(data):
    """(cells, 3) centres by vtkCellCenters."""
    found = vtkCellCenters()
    found.SetInputData(data)
    found.Update()
    return positions_of(found.GetOutput())
