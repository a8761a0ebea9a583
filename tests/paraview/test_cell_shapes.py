"""Shape functions, sizes and positions of cells, against VTK's own cells one by one."""

import numpy as np
import pytest
from meshes import class_of_cells
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.vtkCommonCore import reference

from apmgsrn_paraview.cell_shapes import cell_sizes, draw_in_cells
from apmgsrn_paraview.cell_types import CELL_TYPES

NAMES = {kind: class_of_cells(kind)[3:] for kind in CELL_TYPES}
KINDS = pytest.mark.parametrize("kind", CELL_TYPES, ids=NAMES.get)
BOXES = (vtk.VTK_PIXEL, vtk.VTK_VOXEL)  # have no other form
FULL = [kind for kind, (shape, _) in CELL_TYPES.items() if shape.dimension]


def make_cell(kind, jitter=0.1, seed=0):
    """(VTK's cell with its nodes moved a little, corners (k, 3, 1) in the order of the shape, that order)."""
    shape, order = CELL_TYPES[kind]
    cell = vtk.vtkGenericCell()
    cell.SetCellType(kind)
    order = np.arange(len(shape.nodes)) if order is None else np.array(order)
    points = np.zeros((cell.GetNumberOfPoints(), 3))
    points[order, : shape.dimension] = shape.nodes
    if kind == vtk.VTK_PYRAMID:
        points[4] = (0.6, 0.4, 1.2)
    if kind not in BOXES:
        points += np.random.default_rng(seed).uniform(-jitter, jitter, points.shape)
    for i, point in enumerate(points):
        cell.GetPoints().SetPoint(i, point)
    return cell, points[order][:, :, None], order


def places(shape, count, seed=1):
    return shape.draw(count, np.random.default_rng(seed))


@KINDS
def test_weights_and_positions_are_those_of_vtk(kind):
    shape, _ = CELL_TYPES[kind]
    cell, corners, order = make_cell(kind)
    p = places(shape, 9)
    found = shape.weights(p)
    for column in range(9):
        position, weights = [0.0] * 3, [0.0] * cell.GetNumberOfPoints()
        cell.EvaluateLocation(reference(0), [*p[:, column], 0, 0, 0][:3], position, weights)
        ours = np.bincount(order, found[:, column], minlength=len(weights))
        np.testing.assert_allclose(ours, weights, atol=1e-13)
        np.testing.assert_allclose(found[:, column] @ corners[:, :, 0], position, atol=1e-13)


@KINDS
def test_centres_are_those_of_vtk(kind):
    centre = [0.0] * 3
    make_cell(kind)[0].GetParametricCenter(centre)
    shape = CELL_TYPES[kind][0]
    np.testing.assert_allclose(shape.centre, centre[: shape.dimension], atol=1e-6)


@KINDS
def test_slopes_are_differences_of_weights(kind):
    shape, _ = CELL_TYPES[kind]
    p, step = places(shape, 7), 1e-6
    for axis in range(shape.dimension):
        move = step * np.eye(shape.dimension)[:, axis, None]
        expected = (shape.weights(p + move) - shape.weights(p - move)) / (2 * step)
        np.testing.assert_allclose(shape.slopes(p)[:, axis], expected, atol=1e-8)


def fine_places(shape, n):
    """(p (d, m), sizes (m,)): the parametric cell cut into n^d little cubes, those with their middle in it, and their
    world sizes by differences: the readable twin of the shape's tangents."""
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / n] * shape.dimension)
    p = np.stack([a.ravel() for a in axes])
    return p[:, p[: shape.simplex].sum(axis=0) < 1]


def world_sizes(shape, corners, p):
    step, tangents = 1e-6, []
    for move in step * np.eye(shape.dimension):
        ahead, behind = (shape.weights(p + sign * move[:, None]).T @ corners[:, :, 0] for sign in (1, -1))
        tangents.append((ahead - behind) / (2 * step))
    t = np.stack(tangents, axis=1)
    return np.sqrt(np.abs(np.linalg.det(t @ t.transpose(0, 2, 1))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FULL, ids=NAMES.get)
def test_sizes_are_the_sums_of_little_pieces(kind):
    shape, _ = CELL_TYPES[kind]
    _, corners, _ = make_cell(kind)
    n = {1: 4000, 2: 300, 3: 60}[shape.dimension]
    expected = world_sizes(shape, corners, fine_places(shape, n)).sum() / n**shape.dimension
    assert cell_sizes(shape, corners)[0] == pytest.approx(expected, rel=0.02 if shape.simplex else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FULL, ids=NAMES.get)
def test_positions_are_uniform_in_the_world(kind):
    """Chi-square over the octants around the centre, in a cell that is much wider on one side than on the other."""
    shape, _ = CELL_TYPES[kind]
    _, corners, _ = make_cell(kind, jitter=0.02)
    if kind not in BOXES:
        corners = corners * (0.2 + corners[:, :1])
    count = 20_000
    p = draw_in_cells(shape, np.repeat(corners, count, axis=2), np.random.default_rng(3))
    middles = fine_places(shape, {1: 4000, 2: 400, 3: 60}[shape.dimension])
    sizes = world_sizes(shape, corners, middles)
    eighths = 2 ** np.arange(shape.dimension)
    expected = np.bincount(eighths @ (middles > shape.centre[:, None]), sizes)
    expected *= count / expected.sum()
    found = np.bincount(eighths @ (p > shape.centre[:, None]), minlength=len(expected))
    kept = expected > 0
    assert found[~kept].sum() == 0
    chi_square = ((found - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi_square < 40  # 7 degrees of freedom; uniform in the parametric cube gives hundreds
    if kind == vtk.VTK_HEXAHEDRON:
        even = np.full(8, count / 8)
        assert ((even - expected) ** 2 / expected).sum() > 500


def test_positions_in_flattened_cells():
    shape = CELL_TYPES[vtk.VTK_HEXAHEDRON][0]
    p = draw_in_cells(shape, np.zeros((8, 3, 5)), np.random.default_rng(0))
    assert ((p >= 0) & (p <= 1)).all()
    assert (cell_sizes(shape, np.zeros((8, 3, 5))) == 0).all()


@KINDS
def test_a_lattice_fills_the_cell(kind):
    """No place of the cell is farther than about half an interval away."""
    shape, _ = CELL_TYPES[kind]
    lattice = np.concatenate(list(shape.lattice([5] * shape.dimension, most=7)), axis=1)
    p = places(shape, 500)
    distance = np.abs(p[:, :, None] - lattice[:, None]).max(axis=0, initial=0).min(axis=1)
    assert (lattice >= 0).all() and (lattice[: shape.simplex].sum(axis=0) <= 1 + 1e-9).all()
    assert distance.max() <= (2 / 3 if shape.simplex > 1 else 1 / 2) / 5 + 1e-9
