"""VTK's cell types as shapes: linear and quadratic ones; all others are cut into simplices (`mesh_cells.py`)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from vtkmodules import vtkCommonDataModel as vtk

from .cell_shapes import CellShape

# Pairs of corners between which the nodes of quadratic cells lie, in VTK's order.
TRIANGLE_EDGES = ((0, 1), (1, 2), (2, 0))
QUAD_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0))
TETRA_EDGES = TRIANGLE_EDGES + ((0, 3), (1, 3), (2, 3))
WEDGE_EDGES = TRIANGLE_EDGES + ((3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5))
HEXAHEDRON_EDGES = QUAD_EDGES + ((4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
HEXAHEDRON_FACES = ((0, 3, 7, 4), (1, 2, 6, 5), (0, 1, 5, 4), (3, 2, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7), tuple(range(8)))

CORNERS = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], float)
PRISM = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)], float)
SIMPLEX = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], float)


def _powers(dimension: int, highest: int, wanted) -> np.ndarray:
    """(k, d) exponents from 0 to the highest on each axis, those that are wanted."""
    return np.array([e for e in itertools.product(range(highest + 1), repeat=dimension) if wanted(e)])


def _serendipity(exponents) -> bool:
    """At most one axis is quadratic."""
    return sum(e == 2 for e in exponents) <= 1


def _cube(dimension: int, between=(), wanted=lambda e: True) -> CellShape:
    corners = CORNERS[: 2**dimension, :dimension]
    nodes = _with_middles(corners, between)
    return CellShape(nodes, _powers(dimension, 2 if between else 1, wanted), 0, corners.mean(axis=0))


def _simplex(dimension: int, edges=()) -> CellShape:
    corners, order = SIMPLEX[: dimension + 1, :dimension], 2 if edges else 1
    exponents = _powers(dimension, order, lambda e: sum(e) <= order)
    return CellShape(_with_middles(corners, edges), exponents, dimension, corners.mean(axis=0))


def _wedge(edges=()) -> CellShape:
    order = 2 if edges else 1
    exponents = _powers(3, order, lambda e: e[0] + e[1] <= order and (e[2] < 2 or e[0] + e[1] < 2))
    return CellShape(_with_middles(PRISM, edges), exponents, 2, PRISM.mean(axis=0))


def _with_middles(corners: np.ndarray, between) -> np.ndarray:
    return np.concatenate([corners, *(corners[list(ends)].mean(axis=0)[None] for ends in between)])


VERTEX = CellShape(np.zeros((1, 0)), np.zeros((1, 0), int), 0, np.zeros(0))
LINE, QUAD, HEXAHEDRON = _cube(1), _cube(2), _cube(3)
TRIANGLE, TETRA = _simplex(2), _simplex(3)
# VTK's pyramid is a hexahedron whose upper corners are one point.
PYRAMID = replace(HEXAHEDRON, centre=np.array([0.4, 0.4, 0.2]))

# type -> (shape, the type's nodes in the order of the shape; None: the same)
CELL_TYPES = {
    vtk.VTK_VERTEX: (VERTEX, None),
    vtk.VTK_LINE: (LINE, None),
    vtk.VTK_TRIANGLE: (TRIANGLE, None),
    vtk.VTK_PIXEL: (QUAD, (0, 1, 3, 2)),
    vtk.VTK_QUAD: (QUAD, None),
    vtk.VTK_TETRA: (TETRA, None),
    vtk.VTK_VOXEL: (HEXAHEDRON, (0, 1, 3, 2, 4, 5, 7, 6)),
    vtk.VTK_HEXAHEDRON: (HEXAHEDRON, None),
    vtk.VTK_WEDGE: (_wedge(), None),
    vtk.VTK_PYRAMID: (PYRAMID, (0, 1, 2, 3, 4, 4, 4, 4)),
    vtk.VTK_QUADRATIC_EDGE: (_cube(1, ((0, 1),)), None),
    vtk.VTK_QUADRATIC_TRIANGLE: (_simplex(2, TRIANGLE_EDGES), None),
    vtk.VTK_QUADRATIC_QUAD: (_cube(2, QUAD_EDGES, _serendipity), None),
    vtk.VTK_BIQUADRATIC_QUAD: (_cube(2, (*QUAD_EDGES, (0, 1, 2, 3))), None),
    vtk.VTK_QUADRATIC_TETRA: (_simplex(3, TETRA_EDGES), None),
    vtk.VTK_QUADRATIC_WEDGE: (_wedge(WEDGE_EDGES), None),
    vtk.VTK_QUADRATIC_HEXAHEDRON: (_cube(3, HEXAHEDRON_EDGES, _serendipity), None),
    vtk.VTK_TRIQUADRATIC_HEXAHEDRON: (_cube(3, HEXAHEDRON_EDGES + HEXAHEDRON_FACES), None),
}
