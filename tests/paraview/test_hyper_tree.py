"""The tree of refined cells as a vtkHyperTreeGrid, and what ParaView's filters make of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_image, make_source, output
from paraview import simple
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkHyperTreeGrid, vtkHyperTreeGridNonOrientedGeometryCursor
from vtkmodules.vtkFiltersCore import vtkMassProperties, vtkTriangleFilter
from vtkmodules.vtkIOImage import vtkPNGReader

from apmgsrn_core import Grid, refine
from apmgsrn_paraview.hyper_tree import fill_hyper_tree_grid, hyper_tree_grid

RADIUS = 10.0
GRIDS = {
    "points": Grid((9, 8, 7), origin=(1, 2, 3), spacing=(0.5, 1, 2)),
    "cells": Grid((8, 7, 10), spacing=(0.5, -2.0, 1.5), association="cell"),
    "stretched": Grid((5, 4, 6), axes=((0, 1, 3, 7, 8), (4, 3, 1, 0), (0, 1, 2, 4, 8, 16))),
    "flat along x": Grid((1, 17, 20), origin=(7, 0, 0)),
    "flat along y": Grid((33, 1, 20), origin=(0, 7, 0)),
    "flat along z": Grid((33, 18, 1), origin=(0, 0, 7)),
    "line along x": Grid((100, 1, 1), origin=(0, 7, 8)),
    "line along y": Grid((1, 100, 1), origin=(7, 0, 8)),
    "line along z": Grid((1, 1, 100), origin=(7, 8, 0)),
}


class Waves:
    """A volume of two arrays, one with a front; `empty` says where there is no data."""

    arrays = (SimpleNamespace(name="f"), SimpleNamespace(name="v"))

    def __init__(self, grid, empty=None):
        self.grid, self.empty = grid, empty

    def sample_points(self, points_xyz, field=None, time=None, between=False):
        low, high = np.reshape(self.grid.bounds, (3, 2)).T
        where = (points_xyz - low) / np.where(high > low, high - low, 1.0)
        values = np.tanh(20 * (where.sum(axis=1) - 0.6)) if field == "f" else np.sin(5 * where)
        if self.empty is not None:
            values[self.empty(points_xyz)] = np.nan
        return values.astype(np.float32)


class Ball(Waves):
    """The distance to a point in the middle, which is no polynomial."""

    arrays = (SimpleNamespace(name="f"),)

    def sample_points(self, points_xyz, field=None, time=None, between=False):
        middle = np.mean(np.reshape(self.grid.bounds, (3, 2)), axis=1)
        return np.tanh((np.linalg.norm(points_xyz - middle, axis=1) - RADIUS) / 3).astype(np.float32)


def cells_of(grid):
    """{index: bounds} of the leaves that VTK shows."""
    found, cursor = {}, vtkHyperTreeGridNonOrientedGeometryCursor()

    def walk():
        if cursor.IsMasked():
            return
        if cursor.IsLeaf():
            bounds = [0.0] * 6
            cursor.GetBounds(bounds)
            found[cursor.GetGlobalNodeIndex()] = bounds
            return
        for child in range(cursor.GetNumberOfChildren()):
            cursor.ToChild(child)
            walk()
            cursor.ToParent()

    for root in range(grid.GetMaxNumberOfTrees()):
        grid.InitializeNonOrientedGeometryCursor(cursor, root)
        walk()
    return found


def assert_same_cells(grid, tree):
    """VTK shows the tree's leaves with data, each with its box and its values."""
    cells = cells_of(grid)
    assert sorted(cells) == tree.leaves[~tree.masked[tree.leaves]].tolist()
    leaves, bounds = np.array(list(cells), dtype=int), np.array(list(cells.values())).reshape(-1, 3, 2)
    expected = np.stack(tree.boxes(leaves), axis=2)
    np.testing.assert_allclose(bounds, expected, rtol=0, atol=1e-12 * np.abs(expected).max(initial=1.0))
    for name, values in tree.values.items():
        np.testing.assert_array_equal(vtk_to_numpy(grid.GetCellData().GetArray(name)), values)


@pytest.mark.parametrize("budget", [1, 700])
@pytest.mark.parametrize("name", GRIDS)
def test_vtk_has_the_cells_of_the_tree(name, budget):
    tree = refine(Waves(GRIDS[name]), budget=budget)
    grid = hyper_tree_grid(tree)
    assert grid.GetDimension() == len(tree.axes)
    assert grid.GetNumberOfLeaves() == len(tree.leaves) and grid.GetNumberOfCells() == len(tree.level)
    assert grid.GetNumberOfLevels() == tree.level.max() + 1
    np.testing.assert_allclose(grid.GetBounds(), GRIDS[name].bounds, atol=1e-9)
    assert_same_cells(grid, tree)


@pytest.mark.parametrize("name", ["points", "flat along y", "line along z"])
def test_cells_without_data_are_masked(name):
    axis = np.argmax(GRIDS[name].dims)
    tree = refine(Waves(GRIDS[name], empty=lambda p: p[:, axis] > 3.7), budget=700)
    assert tree.masked.any() and not tree.masked.all()
    grid = hyper_tree_grid(tree)
    assert_same_cells(grid, tree)
    assert np.isfinite(grid.GetCellData().GetArray("f").GetRange()).all()


def test_a_tree_without_data_shows_nothing():
    tree = refine(Waves(GRIDS["points"], empty=lambda p: p[:, 0] > -1), budget=700)
    assert cells_of(hyper_tree_grid(tree)) == {}


def test_an_object_can_be_filled_again():
    grid = vtkHyperTreeGrid()
    fill_hyper_tree_grid(grid, refine(Waves(GRIDS["points"], empty=lambda p: p[:, 0] > 3), budget=500))
    tree = refine(Waves(GRIDS["flat along z"]), budget=300, arrays=["v"])
    fill_hyper_tree_grid(grid, tree)
    assert not grid.HasMask() and grid.GetCellData().GetNumberOfArrays() == 1
    assert_same_cells(grid, tree)


def test_the_first_array_is_the_active_one():
    tree = refine(Waves(GRIDS["points"]), budget=300, arrays=["v", "f"])
    assert hyper_tree_grid(tree).GetCellData().GetScalars().GetName() == "v"


# -- ParaView's filters ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def ball():
    """(volume, its tree) of a ball in a box of odd size."""
    volume = Ball(Grid((33, 31, 29)))
    return volume, refine(volume, budget=30_000)


def area_of(mesh):
    triangles, measure = vtkTriangleFilter(), vtkMassProperties()
    triangles.SetInputData(mesh)
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    measure.SetInputConnection(triangles.GetOutputPort())
    measure.Update()
    return measure.GetSurfaceArea()


def contour(source, association, value=0.0):
    surface = simple.Contour(Input=source, ContourBy=[association, "f"], Isosurfaces=[value])
    surface.UpdatePipeline()
    return output(surface)


def test_a_contour_has_the_area_of_that_of_a_uniform_grid(ball):
    volume, tree = ball
    axes = [np.arange(n, dtype=np.float64) for n in volume.grid.dims]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    values = volume.sample_points(np.stack([x.ravel(), y.ravel(), z.ravel()], 1)).reshape(x.shape)
    uniform = area_of(contour(make_image(values), "POINTS"))
    adaptive = area_of(contour(make_source(hyper_tree_grid(tree)), "CELLS"))
    assert uniform == pytest.approx(4 * np.pi * RADIUS**2, rel=0.02)
    assert adaptive == pytest.approx(uniform, rel=0.02)


def test_a_contour_stops_where_there_is_no_data():
    volume = Waves(Grid((33, 31, 29)), empty=lambda p: np.linalg.norm(p - [6, 6, 6], axis=1) > 5.3)
    tree = refine(volume, budget=5000)
    mesh = contour(make_source(hyper_tree_grid(tree)), "CELLS")
    assert mesh.GetNumberOfCells() > 100
    where = vtk_to_numpy(mesh.GetPoints().GetData())
    assert np.linalg.norm(where - [6, 6, 6], axis=1).max() < 6


def test_a_contour_of_scattered_data():
    grid = Grid((33, 31, 29))
    present = np.random.default_rng(3).random(grid.dims) < 0.3
    tree = refine(Waves(grid, empty=lambda p: ~present[tuple(np.rint(p).astype(int).T)]), budget=3000)
    assert tree.masked.any() and not tree.masked.all()
    mesh = contour(make_source(hyper_tree_grid(tree)), "CELLS")  # would end the program at a masked cell with children
    assert mesh.GetNumberOfCells() > 0


def test_a_slice_cuts_the_whole_box_and_has_the_values(ball):
    _, tree = ball
    slice_ = simple.Slice(Input=make_source(hyper_tree_grid(tree)))
    slice_.HyperTreeGridSlicer.Origin, slice_.HyperTreeGridSlicer.Normal = [0, 0, 13.3], [0, 0, 1]
    slice_.UpdatePipeline()
    mesh = output(slice_)
    assert area_of(mesh) == pytest.approx(32 * 30, rel=1e-5)
    bounds = np.array([mesh.GetCell(i).GetBounds() for i in range(mesh.GetNumberOfCells())]).reshape(-1, 3, 2)
    expected = tree.sample_points(bounds.mean(axis=2), "f")
    np.testing.assert_array_equal(vtk_to_numpy(mesh.GetCellData().GetArray("f")), expected)


def test_it_can_be_saved_and_read_again(ball, tmp_path):
    _, tree = ball
    path = str(tmp_path / "ball.htg")
    simple.SaveData(path, proxy=make_source(hyper_tree_grid(tree)))
    reader = simple.OpenDataFile(path)
    reader.UpdatePipeline()
    assert output(reader).GetNumberOfLeaves() == len(tree.leaves)
    assert_same_cells(output(reader), tree)


def test_it_is_drawn(ball, tmp_path):
    _, tree = ball
    view = simple.CreateRenderView(ViewSize=[200, 150], Background=[1, 1, 1])
    display = simple.Show(make_source(hyper_tree_grid(tree)), view)
    simple.ColorBy(display, ("CELLS", "f"))
    display.RescaleTransferFunctionToDataRange(True)
    points = simple.GetColorTransferFunction("f").RGBPoints
    assert (points[0], points[-4]) == pytest.approx((np.tanh(-RADIUS / 3), 1.0), abs=0.01)
    simple.ResetCamera(view)
    path = str(tmp_path / "ball.png")
    simple.SaveScreenshot(path, view, OverrideColorPalette="WhiteBackground")
    reader = vtkPNGReader()
    reader.SetFileName(path)
    reader.Update()
    pixels = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars())
    assert (pixels < 250).any(axis=1).mean() > 0.2
    simple.Delete(view)
