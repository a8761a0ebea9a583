"""Samples of every kind of mesh: exact values, uniform places, nothing from cells that do not count."""

import os
from pathlib import Path

import meshes
import numpy as np
import pytest
from conftest import ROOT, output, simple
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.vtkCommonCore import mutable, vtkSOADataArrayTemplate
from vtkmodules.vtkFiltersAMR import vtkAMRGaussianPulseSource
from vtkmodules.vtkFiltersSources import vtkCellTypeSource, vtkSphereSource

from apmgsrn_core import DataError
from apmgsrn_paraview.mesh_samples import MeshSize, mesh_size, sample_mesh

DATA = Path(os.environ.get("APMGSRN_TEST_DATA", ROOT.parent / "shared" / "data")) / "formats"
TURNED = (0, -1, 0, 1, 0, 0, 0, 0, 1)
POINTS, CELLS = [("f", "point"), ("v", "point")], [("id", "cell")]
ATTRIBUTES = vtk.vtkDataSetAttributes


def stretched(dims=(9, 8, 7)):
    return meshes.rectilinear(*(np.linspace(0.5, 2, n) ** 3 for n in dims))


def explicit():
    """A vtkExplicitStructuredGrid: hexahedra that are listed, a class that is handled by no code of its own."""
    data = vtk.vtkExplicitStructuredGrid()
    data.SetExtent(0, 2, 0, 2, 0, 1)
    source = meshes.hexahedra((3, 3, 2))
    data.SetPoints(source.GetPoints())
    data.SetCells(source.GetCells())
    return data


def sphere():
    source = vtkSphereSource()
    source.SetThetaResolution(9)
    source.SetPhiResolution(7)
    source.Update()
    return source.GetOutput()


def cells_of_type(kind):
    source = vtkCellTypeSource()
    source.SetCellType(kind)
    source.SetBlocksDimensions(3, 3, 2)
    source.SetOutputPrecision(1)
    source.Update()
    return source.GetOutput()


MESHES = {
    "image": meshes.image,
    "image off the origin, turned": lambda: meshes.image((5, 7, 9), (1, 2, 3), (0.5, 1, 2), TURNED, first=(-2, 3, 7)),
    "image, flat": lambda: meshes.image((9, 1, 7), spacing=(1, 1, 2)),
    "image, a line": lambda: meshes.image((1, 1, 9)),
    "rectilinear": stretched,
    "rectilinear, flat": lambda: stretched((9, 8, 1)),
    "structured": lambda: meshes.annulus(angle=5),
    "structured, a surface": lambda: meshes.annulus((8, 33, 1), angle=5),
    "hexahedra": meshes.hexahedra,
    "polyhedra": meshes.polyhedra,
    "explicit": explicit,
    "sphere": sphere,
    "polygons of all kinds": lambda: meshes.polygons(
        np.random.default_rng(0).permutation(meshes.positions_of(meshes.annulus((5, 9, 1), angle=5))),
        verts=[(0,), (1, 2)], lines=[(3, 4), (5, 6, 7)], polys=[(8, 9, 10), (11, 12, 13, 14)], strips=[(20, 21, 22, 23)],
    ),
    "a pentagon": lambda: meshes.polygons(
        [(np.cos(a), np.sin(a), a - a) for a in np.arange(5) * 1.2566370614359172], polys=[range(5)]
    ),
    **{
        f"cells of {meshes.class_of_cells(kind)}": lambda kind=kind: cells_of_type(kind)
        for kind in (
            vtk.VTK_TETRA, vtk.VTK_WEDGE, vtk.VTK_PYRAMID, vtk.VTK_VOXEL, vtk.VTK_QUADRATIC_TETRA, vtk.VTK_PENTAGONAL_PRISM,
            vtk.VTK_HEXAGONAL_PRISM, vtk.VTK_TRIQUADRATIC_HEXAHEDRON, vtk.VTK_LAGRANGE_HEXAHEDRON,
            vtk.VTK_QUADRATIC_PYRAMID, vtk.VTK_TRIANGLE, vtk.VTK_PIXEL, vtk.VTK_POLY_LINE, vtk.VTK_CUBIC_LINE,
        )
    },
}  # fmt: skip
ANY_MESH = pytest.mark.parametrize("kind", MESHES)


def rows(positions):
    """Positions as a set that can be compared."""
    return {tuple(row) for row in np.round(positions, 9).tolist()}


@ANY_MESH
def test_linear_fields_are_exact(kind):
    """The own points once each, the places inside of cells: in both the values are those of the field at the position."""
    data = meshes.with_fields(MESHES[kind]())
    samples = sample_mesh(data, POINTS, 5000)
    assert samples.positions.shape == (5000, 3) and samples.values.shape == (5000, 4)
    x, y, z = samples.positions.T
    np.testing.assert_allclose(samples.values[:, 0], meshes.linear(samples.positions), atol=1e-12, rtol=1e-12)
    expected = np.stack([meshes.linear(samples.positions), x, z], axis=1)
    np.testing.assert_allclose(samples.values[:, 1:], expected, atol=1e-5, rtol=1e-6)
    own = samples.positions[samples.exact]
    used = np.unique([i for c in range(data.GetNumberOfCells()) for i in point_ids(data, c)])
    assert len(own) == len(used) and rows(own) == rows(meshes.positions_of(data)[used])
    low, high = np.reshape(data.GetBounds(), (3, 2)).T
    assert (samples.positions >= low - 1e-9).all() and (samples.positions <= high + 1e-9).all()


def point_ids(data, cell):
    ids = data.GetCell(cell).GetPointIds()
    return [ids.GetId(i) for i in range(ids.GetNumberOfIds())]


@ANY_MESH
def test_places_lie_in_the_cell_whose_value_they_have(kind):
    data = meshes.with_fields(MESHES[kind]())
    samples = sample_mesh(data, CELLS, max(2 * data.GetNumberOfCells(), 400))
    assert samples.exact.sum() == data.GetNumberOfCells()
    assert sorted(samples.values[samples.exact, 0]) == list(range(data.GetNumberOfCells()))
    size = np.linalg.norm(np.diff(np.reshape(data.GetBounds(), (3, 2)), axis=1))
    curved = "Quadratic" in kind or "Lagrange" in kind or "Cubic" in kind
    for row in np.random.default_rng(0).permutation(len(samples.values))[:60]:
        cell, away = data.GetCell(int(samples.values[row, 0])), distance(data, samples, row)
        assert away <= (1e-2 if curved else 1e-5) * size, (cell.GetClassName(), away)


def distance(data, samples, row):
    """From a sample to its cell, as VTK has it; to the cell's bounds where VTK cannot tell."""
    cell = data.GetCell(int(samples.values[row, 0]))
    if isinstance(data, vtk.vtkImageData):  # VTK's voxels know no direction matrix
        found = data.FindCell(samples.positions[row], None, -1, 1e-9, mutable(0), [0.0] * 3, [0.0] * 8)
        return 0.0 if found == samples.values[row, 0] else np.inf
    closest, squared, weights = [0.0] * 3, mutable(0.0), [0.0] * cell.GetNumberOfPoints()
    status = cell.EvaluatePosition(samples.positions[row], closest, mutable(0), [0.0] * 3, squared, weights)
    if status < 0 or cell.GetNumberOfPoints() < 2:
        low, high = np.reshape(cell.GetBounds(), (3, 2)).T
        return np.maximum(np.maximum(low - samples.positions[row], samples.positions[row] - high), 0).max()
    return 0.0 if status else np.sqrt(squared.get())


def test_own_centres_are_those_of_vtk():
    for kind in ("hexahedra", "structured", "cells of vtkPyramid", "cells of vtkWedge", "image off the origin, turned"):
        data = meshes.with_fields(MESHES[kind]())
        samples = sample_mesh(data, CELLS, 2 * data.GetNumberOfCells())
        np.testing.assert_allclose(samples.positions[samples.exact], meshes.centres(data), atol=1e-6)


def test_values_inside_are_those_of_vtks_cells():
    """Against vtkCell's own interpolation of a rough field, one sample at a time."""
    data = meshes.with_fields(meshes.hexahedra((4, 4, 4), jitter=0.3))
    rough = np.random.default_rng(5).normal(size=data.GetNumberOfPoints())
    meshes.add(data, "rough", rough)
    samples = sample_mesh(data, [("rough", "point"), ("id", "cell")], 300)
    for position, (value, cell) in zip(samples.positions, samples.values):
        cell, weights = data.GetCell(int(cell)), [0.0] * 8
        inside = cell.EvaluatePosition(position, [0.0] * 3, mutable(0), [0.0] * 3, mutable(0.0), weights)
        ids = [cell.GetPointId(i) for i in range(8)]
        assert inside == 1 and value == pytest.approx(np.dot(weights, rough[ids]), abs=1e-6)


def test_coordinates_that_lie_apart_in_memory():
    data, apart = meshes.hexahedra((4, 3, 3)), vtkSOADataArrayTemplate["float64"]()
    apart.SetNumberOfComponents(3)
    apart.SetNumberOfTuples(data.GetNumberOfPoints())
    for i, position in enumerate(meshes.positions_of(data)):
        apart.SetTuple3(i, *position)
    data.GetPoints().SetData(apart)
    samples = sample_mesh(meshes.with_fields(data), POINTS, 200)
    assert not data.GetPoints().GetData().HasStandardMemoryLayout()
    np.testing.assert_allclose(samples.values[:, 0], meshes.linear(samples.positions), atol=1e-12)


# ---- where the places are --------------------------------------------------------------------------


def two_sizes(fine=10):
    """[0, 2] x [0, 1] x [0, 1]: one big cell on the left, fine^3 small ones on the right."""
    small = meshes.image((fine + 1,) * 3, (1, 0, 0), (1 / fine,) * 3)
    return meshes.multiblock(meshes.with_fields(meshes.image((2, 2, 2))), meshes.with_fields(small))


def test_half_by_volume_and_half_by_cell():
    samples = sample_mesh(two_sizes(), CELLS, 8000)
    inside = samples.positions[~samples.exact]
    assert samples.exact.sum() == 1001 and len(samples.values) == 8000
    by_volume = (8000 - 1001) // 2
    left = (inside[:by_volume, 0] < 1).sum()
    assert abs(left - by_volume / 2) <= 1
    big = (inside[by_volume:, 0] < 1).sum()
    assert big in (3, 4)  # 1 of 1001 cells


def test_uniform_in_volume():
    """Chi-square over boxes of equal volume, in a mesh whose cells are 60 times as large on one side as on the other."""
    data = meshes.with_fields(meshes.rectilinear(*[np.linspace(0, 1, 12) ** 2] * 3))
    samples = sample_mesh(data, POINTS, 40_000)
    by_volume = samples.positions[~samples.exact][: (40_000 - samples.exact.sum()) // 2]
    counts, _ = np.histogramdd(by_volume, bins=[3, 3, 3], range=[(0, 1)] * 3)
    expected = len(by_volume) / 27
    assert ((counts - expected) ** 2 / expected).sum() < 45  # 26 degrees of freedom, p = 0.01


def test_volume_is_that_of_the_highest_dimension():
    data = meshes.hexahedra((3, 3, 3))
    data.InsertNextCell(vtk.VTK_QUAD, 4, [0, 1, 4, 3])
    data.InsertNextCell(vtk.VTK_VERTEX, 1, [0])
    samples = sample_mesh(meshes.with_fields(data), CELLS, 2000)
    inside = samples.values[~samples.exact, 0]
    by_volume = (2000 - 10) // 2
    assert (inside[:by_volume] < 8).all()
    assert (inside[by_volume:] == 8).sum() == pytest.approx((len(inside) - by_volume) / 9, abs=1)
    assert (inside != 9).all()  # a vertex has no inside


def test_fewer_than_the_mesh_has():
    data = meshes.with_fields(meshes.image())
    samples = sample_mesh(data, POINTS, 100)
    assert len(samples.values) == 100 and samples.exact.sum() == 50
    assert len(rows(samples.positions[samples.exact])) == 50
    assert rows(samples.positions[samples.exact]) < rows(meshes.positions_of(data))


def test_the_seed_decides():
    data = meshes.multiblock(*(meshes.with_fields(MESHES[k]()) for k in ("hexahedra", "polyhedra")))
    first, same, other = (sample_mesh(data, POINTS, 999, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.positions, same.positions) and np.array_equal(first.values, same.values)
    assert not np.array_equal(first.positions, other.positions)


# ---- pieces of a mesh --------------------------------------------------------------------------------------


def test_pieces_give_what_the_whole_gives():
    """Samples of pieces, each with its share, are spread as those of the whole: a volume that is cut, a surface, nothing."""
    left, right = two_sizes().GetBlock(0), two_sizes().GetBlock(1)
    pieces = [left, right, meshes.with_fields(meshes.image((8, 7, 1), (20, 0, 0))), vtk.vtkMultiBlockDataSet()]
    sizes = [mesh_size(piece, CELLS) for piece in pieces]
    whole = MeshSize.of_pieces(sizes)
    assert whole == mesh_size(meshes.multiblock(*pieces[:3]), CELLS)
    assert (whole.own, whole.cells, whole.dimension) == (1001 + pieces[2].GetNumberOfCells(),) * 2 + (3,)
    assert whole.volume == pytest.approx(2) and sizes[2].dimension == 2 and sizes[3] == MeshSize()
    found = [sample_mesh(piece, CELLS, 9000, i, whole) for i, piece in enumerate(pieces[:3])]
    together = sample_mesh(meshes.multiblock(*pieces[:3]), CELLS, 9000)
    assert sum(len(samples.values) for samples in found) == pytest.approx(9000, abs=3)
    assert sum(samples.exact.sum() for samples in found) == together.exact.sum()
    in_left = together.positions[:, 0] < 1
    assert len(found[0].values) == pytest.approx((9000 - whole.own) / 4, abs=10)
    assert in_left.sum() == pytest.approx(len(found[0].values), abs=3)


# ---- point clouds, several associations, missing values ----------------------------------------------


@pytest.mark.parametrize("with_vertices", [False, True])
def test_a_point_cloud(with_vertices):
    positions = np.random.default_rng(0).normal(size=(50, 3))
    data = meshes.polygons(positions, verts=[(i,) for i in range(50)] if with_vertices else ())
    samples = sample_mesh(meshes.with_fields(data), POINTS, 200)
    assert samples.exact.all() and rows(samples.positions) == rows(positions) and len(samples.values) == 50
    assert sample_mesh(data, POINTS, 20).exact.sum() == 20


def test_a_cloud_and_a_mesh():
    cloud = meshes.with_fields(meshes.polygons(np.full((3, 3), 20.0) + np.eye(3)))
    samples = sample_mesh(meshes.multiblock(cloud, meshes.with_fields(meshes.image())), POINTS, 2000)
    assert len(samples.values) == 2000 and (samples.positions[:, 0] > 10).sum() == 3


def test_points_that_no_cell_has_are_left_out():
    data = meshes.polygons(np.eye(4)[:, :3], polys=[(0, 1, 2)])
    samples = sample_mesh(meshes.with_fields(data), POINTS, 50)
    assert samples.exact.sum() == 3 and len(samples.values) == 50


def test_point_and_cell_arrays_together():
    data = meshes.with_fields(meshes.hexahedra())
    samples = sample_mesh(data, [("id", "cell"), ("f", "point")], 2000)
    np.testing.assert_allclose(samples.values[:, 1], meshes.linear(samples.positions), rtol=1e-12, atol=1e-12)
    assert samples.exact.sum() == data.GetNumberOfCells() and len(samples.values) == 2000
    np.testing.assert_allclose(samples.positions[samples.exact], meshes.centres(data), atol=1e-9)


def test_values_that_are_missing():
    """Own values that are not finite come back as NaN; nothing is drawn inside of the cells around them."""
    data = meshes.with_fields(meshes.image((9, 9, 9)))
    values = meshes.linear(meshes.positions_of(data))
    values[[0, 364]] = np.nan, np.inf  # a corner, and the middle (4, 4, 4)
    meshes.add(data, "holes", values)
    samples = sample_mesh(data, [("v", "point"), ("holes", "point")], 5000)
    missing = np.isnan(samples.values).any(axis=1)
    assert missing.sum() == 2 and samples.exact[missing].all() and not np.isinf(samples.values).any()
    inside = samples.positions[~samples.exact]
    assert len(samples.values) == 5000 and not (inside < 1).all(axis=1).any()
    assert not (np.abs(inside - 4) < 1).all(axis=1).any()


# ---- cells that do not count ---------------------------------------------------------------------------


@pytest.mark.parametrize("bit", ["DUPLICATECELL", "REFINEDCELL", "HIDDENCELL"])
@pytest.mark.parametrize("kind", ["image", "rectilinear", "structured", "hexahedra", "sphere", "polyhedra"])
def test_ghost_cells(kind, bit):
    data = meshes.with_fields(MESHES[kind]())
    left_out = np.arange(0, data.GetNumberOfCells(), 3)
    meshes.ghosts(data, "cell", left_out, getattr(ATTRIBUTES, bit))
    of_cells, of_points = (sample_mesh(data, arrays, 3000) for arrays in (CELLS, POINTS + CELLS))
    for samples in (of_cells, of_points):
        assert not np.isin(samples.values[:, -1], left_out).any()
        assert samples.exact.sum() == data.GetNumberOfCells() - len(left_out)
    kept = np.setdiff1d(np.arange(data.GetNumberOfCells()), left_out)
    used = np.unique([i for c in kept for i in point_ids(data, int(c))])
    own = sample_mesh(data, POINTS, 9000)
    assert own.exact.sum() == len(used)


def test_other_bits_count():
    data = meshes.ghosts(meshes.with_fields(meshes.image()), "cell", [0, 1], ATTRIBUTES.EXTERIORCELL)
    assert sample_mesh(data, CELLS, 3000).exact.sum() == data.GetNumberOfCells()


@pytest.mark.parametrize("kind", ["image", "structured", "hexahedra"])
def test_ghost_points(kind):
    data = meshes.with_fields(MESHES[kind]())
    meshes.ghosts(data, "point", [0, 5], ATTRIBUTES.DUPLICATEPOINT)
    samples = sample_mesh(data, POINTS, 9000)
    assert samples.exact.sum() == data.GetNumberOfPoints() - 2  # another rank has them; the cells are ours
    assert sample_mesh(data, CELLS, 9000).exact.sum() == data.GetNumberOfCells()


@pytest.mark.parametrize("kind", ["image", "structured", "hexahedra"])
def test_hidden_points_hide_their_cells(kind):
    data = meshes.with_fields(MESHES[kind]())
    hidden = 2 + 9 * (2 + 8 * 2) if kind != "structured" else 2 + 9 * (2 + 33 * 2)
    meshes.ghosts(data, "point", [hidden], ATTRIBUTES.HIDDENPOINT)
    assert sample_mesh(data, CELLS, 9000).exact.sum() == data.GetNumberOfCells() - 8
    assert sample_mesh(data, POINTS, 9000).exact.sum() == data.GetNumberOfPoints() - 1


def test_blanked_uniform_grids():
    data = meshes.with_fields(meshes.image(kind=vtk.vtkUniformGrid))
    data.BlankCell(3)
    data.BlankPoint(2 + 9 * (2 + 8 * 2))
    visible = [i for i in range(data.GetNumberOfCells()) if data.IsCellVisible(i)]
    samples = sample_mesh(data, CELLS, 3000)
    assert len(visible) == data.GetNumberOfCells() - 9
    assert sorted(samples.values[samples.exact, 0]) == visible


def test_nothing_left():
    data = meshes.with_fields(meshes.image())
    meshes.ghosts(data, "cell", slice(None), ATTRIBUTES.DUPLICATECELL)
    samples = sample_mesh(data, POINTS, 3000)
    assert samples.positions.shape == (0, 3) and samples.values.shape == (0, 4) and samples.exact.shape == (0,)


def level_at(positions):
    """The finest level of `meshes.amr` that has each position."""
    in_1 = ((positions > 2) & (positions < 5)).all(axis=1)
    in_2 = ((positions > 4) & (positions < 5)).all(axis=1)
    return in_1.astype(int) + in_2


@pytest.mark.parametrize("known", ["nothing", "ghost arrays"])
def test_only_the_finest_level_of_an_amr(known):
    data = meshes.amr()
    if known == "ghost arrays":
        vtk.vtkAMRUtilities.BlankCells(data)
        assert meshes.amr_grid(data, 0, 0).GetCellGhostArray() is not None
    samples = sample_mesh(data, [("level", "cell"), ("f", "point")], 5000)
    assert np.array_equal(samples.values[:, 0], level_at(samples.positions))
    np.testing.assert_allclose(samples.values[:, 1], meshes.linear(samples.positions), rtol=1e-12)
    assert samples.exact.sum() == 8**3 - 3**3 + 6**3 - 2**3 + 4**3
    by_volume = samples.values[~samples.exact, 0][: (5000 - samples.exact.sum()) // 2]
    for level, share in enumerate(((512 - 27) / 512, (27 - 1) / 512, 1 / 512)):
        assert (by_volume == level).mean() == pytest.approx(share, abs=1e-3)
    if known == "nothing":
        assert meshes.amr_grid(data, 0, 0).GetCellGhostArray() is None  # the input is as it was


def test_levels_that_do_not_overlap_all_count():
    assert sample_mesh(meshes.amr(overlapping=False), CELLS, 9000).exact.sum() == 8**3 + 6**3 + 4**3


@pytest.mark.parametrize("dimension", [2, 3])
def test_an_amr_source_of_vtk(dimension):
    source = vtkAMRGaussianPulseSource()
    source.SetDimension(dimension)
    source.Update()
    data = source.GetOutput()
    ghosts = [meshes.amr_grid(data, level, i).GetCellGhostArray() for level, i in ((0, 0), (1, 0), (1, 1))]
    visible = sum(array.GetNumberOfTuples() - np.count_nonzero(np.asarray(array)) for array in ghosts)
    name = "Gaussian-Pulse"
    assert sample_mesh(data, [(name, "cell")], 9000).exact.sum() == visible
    for level, i in ((0, 0), (1, 0), (1, 1)):  # and the same without what VTK knows
        meshes.amr_grid(data, level, i).GetCellData().RemoveArray(ATTRIBUTES.GhostArrayName())
    assert sample_mesh(data, [(name, "cell")], 9000).exact.sum() == visible


# ---- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_that_is_none(count):
    with pytest.raises(DataError, match=f"samples: expected a positive number, found {count}"):
        sample_mesh(meshes.with_fields(meshes.image()), POINTS, count)


@pytest.mark.parametrize("polys", [[(0, 1, 2)], []], ids=["a triangle", "a cloud"])
def test_coordinates_that_are_not_finite(polys):
    positions = np.eye(3)
    positions[1, 1] = np.nan
    data = meshes.add(meshes.polygons(positions, polys=polys), "f", np.zeros(3))
    with pytest.raises(DataError, match="input: expected finite coordinates, found"):
        sample_mesh(data, [("f", "point")], 20)


def test_an_array_that_is_missing():
    with pytest.raises(DataError, match="expected the point array 'g', found point arrays: f, v"):
        sample_mesh(meshes.with_fields(meshes.image()), [("g", "point")], 20)


# ---- files of others -------------------------------------------------------------------------------------


def read(reader, name, option="FileName", **settings):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there; APMGSRN_TEST_DATA names the folder of the development volumes")
    proxy = getattr(simple, reader)(**{option: [str(path)]}, **settings)
    proxy.UpdatePipeline()
    return output(proxy)


def test_disk_out_ref():
    data = read("ExodusIIReader", "disk_out_ref.ex2")
    samples = sample_mesh(data, [("Temp", "point"), ("V", "point")], 50_000)
    assert samples.values.shape == (50_000, 4) and samples.exact.sum() == 8499
    assert samples.values[:, 0].min() == pytest.approx(293.15, abs=0.1)
    assert samples.values[:, 0].max() == pytest.approx(913.15, abs=0.1)
    inside = samples.positions[~samples.exact]
    assert np.hypot(inside[:, 0], inside[:, 1]).max() <= 5.75 + 1e-6


def test_enzo_moving7():
    data = read("EnzoReader", "enzo_moving7/moving7_0010.hierarchy", "FileNames", CellArrayStatus=["Density"])
    samples = sample_mesh(data, [("Density", "cell")], 50_000)
    grids = list(parts_of(data))
    visible = sum(np.count_nonzero(np.asarray(grid.GetCellGhostArray()) == 0) for grid in grids)
    assert len(grids) > 1 and samples.exact.sum() == visible and np.isfinite(samples.values).all()


def parts_of(data):
    iterator = data.NewIterator()
    iterator.InitTraversal()
    while not iterator.IsDoneWithTraversal():
        yield iterator.GetCurrentDataObject()
        iterator.GoToNextItem()


def test_carotid():
    data = read("LegacyVTKReader", "carotid.vtk", "FileNames")
    samples = sample_mesh(data, [("scalars", "point"), ("vectors", "point")], 400_000)
    assert samples.exact.sum() == 76 * 49 * 45 and samples.values.shape == (400_000, 4)
    assert (samples.values[:, 0].min(), samples.values[:, 0].max()) == data.GetPointData().GetArray("scalars").GetRange()
