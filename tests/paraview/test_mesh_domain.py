"""Where meshes have data: bounds, lattices and masks, against VTK's own search for cells."""

import itertools

import meshes
import numpy as np
import pytest
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersCore import vtkProbeFilter

from apmgsrn_core import DataError
from apmgsrn_paraview.mesh_domain import mesh_bounds, mesh_mask, suggest_dims

ATTRIBUTES = vtk.vtkDataSetAttributes


def box_positions(bounds, counts):
    """[z, y, x, 3] the middles of counts (x, y, z) boxes."""
    axes = [low + (high - low) * (np.arange(n) + 0.5) / n for low, high, n in zip(bounds[::2], bounds[1::2], counts)]
    return np.stack(np.meshgrid(*axes[::-1], indexing="ij")[::-1], axis=-1)


def inside(data, bounds, counts):
    """[z, y, x] bool: whether the middle of a box is in a cell, as vtkProbeFilter finds it."""
    size = [(high - low) / n for low, high, n in zip(bounds[::2], bounds[1::2], counts)]
    places = meshes.image(counts, [low + s / 2 for low, s in zip(bounds[::2], size)], size)
    probe = vtkProbeFilter()
    probe.SetInputData(places)
    probe.SetSourceData(data)
    probe.Update()
    return vtk_to_numpy(probe.GetOutput().GetPointData().GetArray("vtkValidPointMask")).reshape(counts[::-1]) > 0


def searched_mask(data, bounds, dims, n, grown=0):
    """The readable twin: voxels of which one of n^3 places (or a place so many places beyond its faces) is in a cell."""
    voxels = [d - 1 for d in dims]
    found = inside(data, bounds, [v * n for v in voxels])
    fine = np.pad(found, grown)
    for axis in range(3):
        fine = sum(np.roll(fine, shift, axis) for shift in range(-grown, grown + 1)) > 0
    middle = slice(grown, -grown or None)
    parts = fine[middle, middle, middle].reshape(voxels[2], n, voxels[1], n, voxels[0], n)
    return parts.any(axis=(1, 3, 5))


def full(data):
    return mesh_mask(data, mesh_bounds(data), suggest_dims(data))


# ---- bounds and lattices --------------------------------------------------------------------------------


def test_bounds_are_those_of_the_cells_that_count():
    data = meshes.hexahedra((9, 8, 7))
    assert mesh_bounds(data) == pytest.approx((0, 8, 0, 7, 0, 6))
    last = [i for i, centre in enumerate(meshes.centres(data)) if centre[0] > 6.9]
    meshes.ghosts(data, "cell", last, ATTRIBUTES.HIDDENCELL)
    assert mesh_bounds(data)[1] == pytest.approx(7, abs=0.21)
    assert mesh_bounds(meshes.multiblock(data, meshes.image((2, 2, 2), (20, 0, 0))))[1] == 21


def test_bounds_without_stray_points():
    data = meshes.polygons([(0, 0, 0), (1, 0, 0), (0, 2, 0), (50, 50, 50)], polys=[(0, 1, 2)])
    assert mesh_bounds(data) == (0, 1, 0, 2, 0, 0)
    assert mesh_bounds(meshes.polygons([(0, 0, 0), (1, 3, 5)])) == (0, 1, 0, 3, 0, 5)


def test_bounds_of_nothing():
    hidden = meshes.ghosts(meshes.image(), "cell", slice(None), ATTRIBUTES.HIDDENCELL)
    for data in (hidden, meshes.multiblock(), vtk.vtkPolyData()):
        with pytest.raises(DataError, match="input: expected cells or points at finite places, found none"):
            mesh_bounds(data)
        with pytest.raises(DataError, match="found none"):
            suggest_dims(data)


def test_dims_of_a_lattice_are_its_own():
    assert suggest_dims(meshes.image((9, 8, 7), (1, 2, 3), (0.1, 10, 3))) == (9, 8, 7)
    assert suggest_dims(meshes.hexahedra((9, 8, 7), jitter=0)) == (9, 8, 7)
    assert suggest_dims(meshes.image((9, 1, 7))) == (9, 1, 7)
    assert suggest_dims(meshes.image((1, 1, 9))) == (1, 1, 9)
    assert suggest_dims(meshes.image((1, 1, 1))) == (1, 1, 1)


def test_dims_resolve_three_quarters_of_the_cells():
    x = np.concatenate([np.linspace(0, 1, 9), np.linspace(2, 24, 23)])  # 8 cells of 1/8, 23 of 1
    data = meshes.rectilinear(x, np.linspace(0, 1, 3), np.linspace(0, 1, 3))
    assert suggest_dims(data)[0] in (24 * 8 + 1, 25)
    assert suggest_dims(data)[1:] == (3, 3)


@pytest.mark.parametrize("limit", [1, 8, 100, 5000])
def test_dims_keep_the_limit(limit):
    dims = suggest_dims(meshes.image((41, 21, 11)), limit)
    assert np.prod(dims) <= max(limit, 8) and min(dims) >= 2
    if limit == 5000:
        assert np.prod(dims) > 2500
        assert dims[0] / dims[1] == pytest.approx(2, rel=0.2) and dims[1] / dims[2] == pytest.approx(2, rel=0.2)


def test_dims_of_an_amr_and_of_points():
    assert suggest_dims(meshes.amr()) == (17, 17, 17)  # a quarter of the 763 cells has 1/2 or less
    cloud = meshes.polygons(np.random.default_rng(0).uniform(size=(8000, 3)))
    assert all(10 <= n <= 13 for n in suggest_dims(cloud))


# ---- masks ------------------------------------------------------------------------------------------------


VOLUMES = {
    "hexahedra": meshes.hexahedra,
    "annulus": meshes.annulus,
    "tetrahedra": lambda: meshes.unstructured(
        np.random.default_rng(1).uniform(size=(12, 3)), [(vtk.VTK_TETRA, range(i, i + 4)) for i in range(9)]
    ),
    "wedges and pyramids": lambda: meshes.unstructured(
        np.random.default_rng(0).uniform(0, 0.1, (11, 3))
        + [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (3, 0, 0), (4, 0, 0), (4, 1, 0), (3, 1, 0), (3.5, 0, 2)],
        [(vtk.VTK_WEDGE, range(6)), (vtk.VTK_PYRAMID, range(6, 11))],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dims", [(8, 9, 7), (14, 13, 12), (3, 2, 4)])
@pytest.mark.parametrize("kind", VOLUMES)
def test_a_mask_is_what_a_search_finds(kind, dims):
    """All voxels of which a place on 2^3 is in a cell are set, and none that is farther than a tenth of a voxel from the mesh."""
    data = VOLUMES[kind]()
    low, high = np.reshape(mesh_bounds(data), (3, 2)).T
    bounds = tuple(np.stack([low - 0.13, high + 0.21], axis=1).ravel())
    found = mesh_mask(data, bounds, dims)
    assert found.shape == tuple(n - 1 for n in dims[::-1])
    must = searched_mask(data, bounds, dims, 2)
    assert (found | ~must).all() and must.any()
    size = (np.array(bounds[1::2]) - np.array(bounds[::2])) / (np.array(dims) - 1)
    points = ((meshes.positions_of(data) - bounds[::2]) / size).astype(int)
    may = searched_mask(data, bounds, dims, 10, grown=1)
    may[tuple(points.T[::-1])] = True
    assert (found & ~may).sum() <= 0.005 * found.sum()  # points of cells that are sharper than that


def test_a_hole_that_the_lattice_sees_exactly():
    """Hidden cells, missing values and gaps whose borders are the lattice's: the mask is that of the cells, bit for bit."""
    expected = np.random.default_rng(2).random((6, 7, 8)) > 0.4
    bounds, dims = (0, 8, 0, 7, 0, 6), (9, 8, 7)
    hidden = meshes.ghosts(meshes.image(), "cell", np.flatnonzero(~expected.ravel()), ATTRIBUTES.HIDDENCELL)
    assert np.array_equal(mesh_mask(hidden, bounds, dims), expected)
    values = np.where(expected, 1.0, np.nan).ravel()
    holes = meshes.add(meshes.image(), "f", values, "cell")
    assert np.array_equal(mesh_mask(holes, bounds, dims, [("f", "cell")]), expected)
    assert mesh_mask(holes, bounds, dims).all()
    blocks = [meshes.image((2, 2, 2), place[::-1]) for place in np.argwhere(expected).tolist()]
    assert np.array_equal(mesh_mask(meshes.multiblock(*blocks), bounds, dims), expected)
    finer = expected.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.array_equal(mesh_mask(hidden, bounds, (17, 15, 13)), finer)


def test_a_missing_point_takes_the_cells_around_it():
    values = np.zeros(9 * 8 * 7)
    values[4 + 9 * (3 + 8 * 2)] = np.inf
    found = mesh_mask(meshes.add(meshes.image(), "f", values), (0, 8, 0, 7, 0, 6), (9, 8, 7), [("f", "point")])
    expected = np.ones((6, 7, 8), dtype=bool)
    expected[1:3, 2:4, 3:5] = False
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("dims", [(9, 9, 9), (33, 33, 33), (4, 6, 5)])
def test_an_amr_covers_its_box(dims):
    assert mesh_mask(meshes.amr(), (0, 8) * 3, dims).all()


def test_an_amr_with_a_hole_in_its_finest_level():
    """Covered coarse cells do not fill the hole."""
    data = meshes.amr()
    finest = meshes.amr_grid(data, 2, 0)
    meshes.ghosts(finest, "cell", [0], ATTRIBUTES.HIDDENCELL)
    found = mesh_mask(data, (0, 8) * 3, (33, 33, 33))
    assert not found[16, 16, 16] and found.sum() == 32**3 - 1


def test_an_annulus_has_its_hole():
    data = meshes.annulus((5, 65, 4))
    found = mesh_mask(data, (-2, 2, -2, 2, 0, 1), (81, 81, 3))
    places = box_positions((-2, 2, -2, 2, 0, 1), (80, 80, 2))
    radius = np.hypot(places[..., 0], places[..., 1])
    assert found[(radius > 1.04) & (radius < 1.96)].all()
    assert not found[(radius < 0.95) | (radius > 2.05)].any()


def test_cells_far_larger_and_far_smaller_than_voxels():
    assert mesh_mask(meshes.image((2, 2, 2)), (0, 1) * 3, (61, 50, 41)).all()
    assert mesh_mask(meshes.image((41, 42, 43)), (0, 40, 0, 41, 0, 42), (2, 3, 2)).all()
    thin = meshes.image((2, 2, 2), (0.5, 0.5, 0.5), (1e-3, 1e-3, 1e-3))
    found = mesh_mask(thin, (0, 10, 0, 10, 0, 10), (11, 11, 11))
    assert found.sum() == 1 and found[0, 0, 0]


def test_a_surface_meets_every_voxel_that_it_crosses():
    """Against many places on triangles far larger than a voxel."""
    corners = np.random.default_rng(4).uniform(0, 1, (9, 3))
    triangles = [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    found = mesh_mask(meshes.polygons(corners, polys=triangles), (0, 1) * 3, (18, 17, 16))
    weights = np.random.default_rng(5).dirichlet((1, 1, 1), 200_000)
    hits = np.zeros(found.shape, dtype=int)
    for ids in triangles:
        x, y, z = (weights @ corners[list(ids)] * [17, 16, 15]).astype(int).T
        np.add.at(hits, (z, y, x), 1)
    assert found[hits > np.median(hits[hits > 0]) / 5].all()
    assert (found & (hits == 0)).sum() <= 0.01 * found.sum()


def test_lines_and_points():
    line = meshes.polygons([(0.1, 0.1, 0.1), (9.9, 0.1, 0.1)], lines=[(0, 1)])
    found = mesh_mask(line, (0, 10, 0, 10, 0, 10), (11, 11, 11))
    assert found[0, 0].all() and found.sum() == 10
    cloud = [(0.5, 0.5, 0.5), (2.5, 0.5, 1.5), (-3, 0, 0)]
    for data in (meshes.polygons(cloud), meshes.polygons(cloud, verts=[(0,), (1,), (2,)])):
        found = mesh_mask(data, (0, 3, 0, 3, 0, 3), (4, 4, 4))
        assert np.argwhere(found).tolist() == [[0, 0, 0], [1, 0, 2]]
    meshes.add(data, "f", [np.nan, 1.0, 2.0])
    assert mesh_mask(data, (0, 3, 0, 3, 0, 3), (4, 4, 4), [("f", "point")]).sum() == 1


@pytest.mark.parametrize("axis", range(3))
def test_a_flat_axis_has_one_layer(axis):
    dims = [9, 8, 7]
    dims[axis] = 1
    data = meshes.ghosts(meshes.image(dims), "cell", [0], ATTRIBUTES.HIDDENCELL)
    found = mesh_mask(data, mesh_bounds(data), suggest_dims(data))
    assert found.shape == tuple(max(n - 1, 1) for n in dims[::-1])
    assert not found[0, 0, 0] and found.sum() == found.size - 1


def test_a_mask_of_a_part_of_the_mesh():
    data = meshes.image((9, 9, 9))
    assert mesh_mask(data, (-4, 4, 0, 8, 0, 8), (9, 9, 9)).sum() == 4 * 64
    assert not mesh_mask(data, (20, 24, 0, 8, 0, 8), (5, 5, 5)).any()


@pytest.mark.parametrize("kind", ["quadratic", "polyhedra", "polygon"])
def test_other_cells_meet_voxels(kind):
    if kind == "polyhedra":
        assert full(meshes.polyhedra((4, 3, 3))).all()
    elif kind == "polygon":
        corners = [(0, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 0), (1, 2, 0), (0, 2, 0)]  # an L
        found = mesh_mask(meshes.polygons(corners, polys=[range(6)]), (0, 2, 0, 2, 0, 0), (3, 3, 1))
        assert found.tolist() == [[[True, True], [True, False]]]
    else:
        shape = np.array(list(itertools.product((0, 1), repeat=3)))[:, ::-1].astype(float)
        order = [0, 1, 3, 2, 4, 5, 7, 6]
        middles = [(0.5, 0, 0), (1, 0.5, 0), (0.5, 1, 0), (0, 0.5, 0), (0.5, 0, 1), (1, 0.5, 1), (0.5, 1, 1), (0, 0.5, 1),
                   (0, 0, 0.5), (1, 0, 0.5), (1, 1, 0.5), (0, 1, 0.5)]  # fmt: skip
        positions = np.concatenate([shape[order], middles])
        data = meshes.unstructured(positions, [(vtk.VTK_QUADRATIC_HEXAHEDRON, range(20))])
        assert mesh_mask(data, (0, 2, 0, 1, 0, 1), (5, 4, 3)).sum() == 2 * 3 * 2


@pytest.mark.parametrize("bounds", [(0, 1), (1, 0, 0, 1, 0, 1), (0, np.nan, 0, 1, 0, 1)])
def test_bad_bounds(bounds):
    with pytest.raises(DataError, match="mask: expected the bounds x min <= x max, ..., found"):
        mesh_mask(meshes.image(), bounds, (4, 4, 4))


@pytest.mark.parametrize("dims", [(4, 4), (0, 4, 4), (4, 4, 2.5)])
def test_bad_dims(dims):
    with pytest.raises(DataError, match="mask: expected the dims to be three positive integers, found"):
        mesh_mask(meshes.image(), (0, 1, 0, 1, 0, 1), dims)


def test_bounds_that_are_far_too_small():
    with pytest.raises(DataError, match="mask: expected bounds about as large as the mesh, found cells of"):
        mesh_mask(meshes.image((2, 2, 2)), (0, 1e-3, 0, 1e-3, 0, 1e-3), (4, 4, 4))
