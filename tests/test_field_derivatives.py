"""Divergence, vorticity, Q-criterion: against loops, against VTK's own filter, and of a trained model against its field."""

import numpy as np
import pytest

from apmgsrn_core import BrickLayout, DataError, Grid, ModelConfig, train_volume
from apmgsrn_core.sampling.field_derivatives import divergence, q_criterion, vorticity
from volumes import tiny

RANDOM = np.random.default_rng(0).normal(size=(9, 3, 3))
LEVI_CIVITA = np.zeros((3, 3, 3))
for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    LEVI_CIVITA[i, j, k], LEVI_CIVITA[i, k, j] = 1, -1


def test_they_follow_from_their_definitions():
    for n, j in enumerate(RANDOM):
        curl = [sum(LEVI_CIVITA[i, a, b] * j[b, a] for a in range(3) for b in range(3)) for i in range(3)]
        rotation, strain = (j - j.T) / 2, (j + j.T) / 2
        np.testing.assert_allclose(vorticity(RANDOM)[n], curl)
        np.testing.assert_allclose(divergence(RANDOM)[n], j[0, 0] + j[1, 1] + j[2, 2])
        np.testing.assert_allclose(q_criterion(RANDOM)[n], ((rotation**2).sum() - (strain**2).sum()) / 2)


def test_a_rotation_has_twice_its_angular_velocity_and_no_divergence():
    axis = np.array([1.0, -2.0, 0.5])
    jacobian = np.cross(axis, np.eye(3)).T[None]  # of axis x position
    np.testing.assert_allclose(vorticity(jacobian), [2 * axis])
    np.testing.assert_allclose(divergence(jacobian), 0)
    np.testing.assert_allclose(q_criterion(jacobian), axis @ axis)
    strain = np.diag([1.0, 1.0, -2.0])[None]
    assert q_criterion(strain) == -3 and not vorticity(strain).any()


def test_float32_is_computed_in_float64_and_nan_stays():
    jacobian = RANDOM.astype(np.float32)
    jacobian[3, 0, 0] = np.nan
    for function in (divergence, vorticity, q_criterion):
        found = function(jacobian)
        assert found.dtype == np.float64 and len(found) == 9
        np.testing.assert_array_equal(found, function(jacobian.astype(np.float64)))
        assert (np.isnan(found).reshape(9, -1).any(1) == (np.arange(9) == 3)).all() or function is vorticity


@pytest.mark.parametrize("function", [divergence, vorticity, q_criterion])
@pytest.mark.parametrize("shape", [(9, 3), (9, 2, 3), (3, 3), (9, 1, 3)], ids=str)
def test_another_shape_is_an_error(function, shape):
    with pytest.raises(DataError, match=r"expected shape \(n, 3, 3\).*found " + str(shape).replace("(", r"\(")[:-1]):
        function(np.zeros(shape))


def test_the_conventions_are_those_of_vtk():
    pytest.importorskip("vtkmodules", reason="needs ParaView's Python")
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersGeneral import vtkGradientFilter

    jacobian = RANDOM[0]
    image = vtkImageData()
    image.SetDimensions(4, 5, 3)
    image.SetSpacing(0.5, 2.0, 1.5)
    points = np.array([image.GetPoint(n) for n in range(image.GetNumberOfPoints())])
    array = numpy_to_vtk(points @ jacobian.T, deep=True)  # a linear field: differences are exact
    array.SetName("u")
    image.GetPointData().AddArray(array)
    gradient = vtkGradientFilter()
    gradient.SetInputData(image)
    gradient.SetInputScalars(0, "u")
    gradient.ComputeVorticityOn()
    gradient.ComputeDivergenceOn()
    gradient.ComputeQCriterionOn()
    gradient.Update()
    found = gradient.GetOutput().GetPointData()
    expected = {
        "Gradients": jacobian.reshape(1, 9), "Vorticity": vorticity(jacobian[None]),
        "Divergence": divergence(jacobian[None]), "Q-criterion": q_criterion(jacobian[None]),
    }  # fmt: skip
    for name, one in expected.items():
        numbers = vtk_to_numpy(found.GetArray(name))
        np.testing.assert_allclose(numbers, np.broadcast_to(one, numbers.shape), atol=1e-12, err_msg=name)


def flow(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A flow with divergence and vorticity: (n, 3), and its Jacobian (n, 3, 3)."""
    x, y, z = points.T
    u = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y) + 0.5 * z, 0.3 * np.sin(z + x)], axis=1)
    none, half = np.zeros(len(x)), np.full(len(x), 0.5)
    rows = [
        [np.cos(x) * np.cos(y), -np.sin(x) * np.sin(y), none],
        [np.sin(x) * np.sin(y), -np.cos(x) * np.cos(y), half],
        [0.3 * np.cos(z + x), none, 0.3 * np.cos(z + x)],
    ]
    return u, np.moveaxis(np.array(rows), 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("counts, nodes", [((1, 1, 1), (10, 10, 10)), ((2, 1, 1), (7, 10, 10))], ids=str)
def test_a_trained_flow_has_the_derivatives_of_the_flow(counts, nodes):
    length = np.array([2 * np.pi, np.pi, 3.0])
    grid = Grid((17, 16, 15), (-1, 2, 0.5), tuple(length / (16, 15, 14)))
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.dims[::-1]), indexing="ij")
    values = flow(grid.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)))[0].reshape(*x.shape, 3)
    model = ModelConfig(
        number_of_grids=0, lattices=({"resolution": nodes, "features": 4},), hidden_layers=0,
        interpolation="quadratic", bias=True, storage="float32",
    )  # fmt: skip
    more = {"train": tiny(iterations=1000, batch_size=2048), "on_progress": lambda state: True}
    volume = train_volume(values, grid, model=model, bricks=BrickLayout(grid.dims, counts, ghosts=1), **more).volume
    points = grid.index_to_world(np.random.default_rng(1).uniform(0, np.array(grid.dims) - 1, (2000, 3)))
    found, expected = volume.sample_derivatives(points)[1], flow(points)[1]
    for function in (divergence, vorticity, q_criterion):
        error, size = function(found) - function(expected), function(expected).std()
        assert np.sqrt((error**2).mean()) < 0.1 * size
