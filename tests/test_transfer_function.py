"""Transfer functions: properties, and VTK's curves computed point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apmgsrn_core import ConfigError, Grid
from apmgsrn_core.rendering.transfer_function import TransferFunction, usual_unit_distance

RGB = [0, 0, 0, 1, 5, 1, 1, 1, 10, 1, 0, 0]


def vtk_curve(x: float, nodes: list[tuple[float, float, float, float]]) -> float:
    """vtkPiecewiseFunction::GetTable for one value, with its names."""
    if x <= nodes[0][0]:
        return nodes[0][1]
    if x > nodes[-1][0]:
        return nodes[-1][1]
    (x1, y1, middle, sharp), (x2, y2, _, _) = next(p for p in zip(nodes, nodes[1:]) if x <= p[1][0])
    middle = min(max(middle, 0.00001), 0.99999)
    s = (x - x1) / (x2 - x1)
    s = 0.5 * s / middle if s < middle else 0.5 + 0.5 * (s - middle) / (1 - middle)
    if sharp > 0.99:
        return y1 if s < 0.5 else y2
    if sharp < 0.01:
        return (1 - s) * y1 + s * y2
    if s < 0.5:
        s = 0.5 * (s * 2) ** (1 + 10 * sharp)
    elif s > 0.5:
        s = 1 - 0.5 * ((1 - s) * 2) ** (1 + 10 * sharp)
    h1, h2, h3, h4 = 2 * s**3 - 3 * s**2 + 1, -2 * s**3 + 3 * s**2, s**3 - 2 * s**2 + s, s**3 - s**2
    tangent = (1 - sharp) * (y2 - y1)
    y = h1 * y1 + h2 * y2 + h3 * tangent + h4 * tangent
    return min(max(y, min(y1, y2)), max(y1, y2))


@pytest.mark.parametrize("middle", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sharp", [0.0, 0.05, 0.3, 0.9, 1.0])
def test_midpoint_and_sharpness_are_those_of_vtk(middle, sharp):
    nodes = [(0.0, 0.1, middle, sharp), (4.0, 0.9, middle, sharp), (10.0, 0.2, 0.5, 0.0)]
    function = TransferFunction.from_points(RGB, np.ravel(nodes))
    values = np.linspace(-1, 11, 778)
    expected = np.array([vtk_curve(x, nodes) for x in values])
    found = function.opacities_at(values)
    steep = sharp > 0.99 or middle in (0.0, 1.0)  # a step may be at one of two neighbouring values
    off = np.abs(found - expected) > 0.01
    assert off.sum() <= (2 if steep else 0)


def test_colours_are_linear_between_points_and_constant_beyond():
    function = TransferFunction.from_points(RGB, [0, 0, 0.5, 0, 7, 1, 0.5, 0])
    values = np.array([-3, 0, 2.5, 5, 7.5, 10, 99])
    expected = np.array([np.interp(values, [0, 5, 10], c) for c in ([0, 1, 1], [0, 1, 0], [1, 1, 0])]).T
    assert np.allclose(function.colours_at(values), expected)
    assert np.allclose(function.opacities_at(values), np.clip(values / 7, 0, 1))


def test_nan_is_transparent_and_black():
    function = TransferFunction([0, 1], [[1, 1, 1]] * 2, [1, 1])
    assert function.opacities_at([np.nan]) == 0
    assert (function.colours_at([np.nan]) == 0).all()


@pytest.mark.parametrize("pieces", [1, 7, 8])
def test_the_correction_of_opacities_does_not_depend_on_the_pieces(pieces):
    function = TransferFunction([0, 1], np.zeros((2, 3)), [0, 1], unit_distance=0.3)
    opacities = np.array([0, 0.2, 0.99, 1])
    once, often = function.corrected(opacities, 0.7), function.corrected(opacities, 0.7 / pieces)
    assert np.allclose(1 - once, (1 - often) ** pieces)
    assert np.allclose(function.corrected(opacities, 0.3), opacities)


@pytest.mark.parametrize("points", [1, 2, 7, 8, 9, 33])
def test_the_range_of_opacities_is_that_of_many_values(points):
    generator = np.random.default_rng(points)
    function = TransferFunction(np.sort(generator.uniform(0, 1, points)), np.zeros((points, 3)), generator.uniform(0, 1, points))
    ends = np.sort(generator.uniform(-0.2, 1.2, (200, 2)), axis=1)
    least, most = function.opacity_range(*ends.T)
    many = function.opacities_at(np.linspace(*ends.T, 4001))
    assert (least <= many.min(axis=0) + 1e-12).all() and (most >= many.max(axis=0) - 1e-12).all()
    points, opacities = function.points, function.opacities
    inside = [np.append(function.opacities_at(e), opacities[(points >= e[0]) & (points <= e[1])]) for e in ends]
    assert np.allclose(least, [i.min() for i in inside]) and np.allclose(most, [i.max() for i in inside])


def test_the_usual_unit_distance_is_about_that_of_a_cell():
    assert usual_unit_distance(Grid((9, 9, 9), spacing=(2.0, 2.0, 2.0))) == pytest.approx(2 * 3**0.5)
    assert usual_unit_distance(Grid((5, 4, 1))) == pytest.approx(5 / 12 ** (1 / 3))
    assert usual_unit_distance(Grid((1, 1, 1))) == 1.0


@pytest.mark.parametrize(
    "arguments, named",
    [
        (([1, 0], np.zeros((2, 3)), [0, 0]), "rising"), (([], np.zeros((0, 3)), []), "points"),
        (([0, math.nan], np.zeros((2, 3)), [0, 0]), "finite"), (([0, 1], np.zeros((3, 3)), [0, 0]), "colours"),
        (([0, 1], np.zeros((2, 3)), [0, 1.5]), "opacities"), (([0, 1], np.zeros((2, 3)), [0, 1], 0), "unit_distance"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(arguments, named):
    with pytest.raises(ConfigError, match=named):
        TransferFunction(*arguments)


def test_lists_of_other_lengths_are_named():
    with pytest.raises(ConfigError, match="RGB points"):
        TransferFunction.from_points([0, 1, 1], [0, 0, 0.5, 0])
    with pytest.raises(ConfigError, match="opacity points"):
        TransferFunction.from_points(RGB, [])
