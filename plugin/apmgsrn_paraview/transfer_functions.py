"""The colour map and the opacities of a proxy: ParaView's own functions, as the core has them."""

from __future__ import annotations

import math
import weakref

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkPiecewiseFunction
from vtkmodules.vtkRenderingCore import vtkColorTransferFunction

import apmgsrn_core as core

COLOURS = 256  # samples of a colour map with curved or logarithmic parts, about
LOGARITHMIC = 1  # VTK_CTF_LOG10
BELOW = 1 - 1e-9  # the share of an interval that is as good as its end, before a step


class TransferFunctions:
    """Of a proxy: the functions that a script gives it, watched so that an edited function marks the proxy modified."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._functions = {}  # "colours", "opacities" -> (VTK object, number of the observer)
        self._made = self._made_of = None

    def SetLookupTable(self, function) -> None:
        self._watch("colours", function)

    def SetScalarOpacityFunction(self, function) -> None:
        self._watch("opacities", function)

    def _watch(self, side: str, function) -> None:
        function = function or None  # from a state 0 comes for none
        old, observer = self._functions.get(side, (None, 0))
        if function is old:
            return
        if old is not None:
            old.RemoveObserver(observer)
        proxy = weakref.ref(self)

        def note(_, __):
            if proxy() is not None:
                proxy().Modified()

        observer = function.AddObserver("ModifiedEvent", note) if function is not None else 0
        self._functions[side] = function, observer
        self.Modified()

    def transfer_function(self, low: float, high: float, unit_distance: float):
        """What the two functions describe.

        Args:
            low, high: The range of the values; a function that was not given rises over it, from cool to warm colours
                and from nothing to opaque.
            unit_distance: The length that the opacities are of, in the world's unit.

        Returns:
            An `apmgsrn_core.TransferFunction`.

        Raises:
            ConfigError: A function has no points, or the unit distance is not positive.
        """
        made_of = self.function_key(), low, high, unit_distance
        if made_of != self._made_of:  # an equal one is the same object: what a renderer knows of it stays
            colours, opacities = self._function("colours"), self._function("opacities")
            self._made = core.TransferFunction.from_points(
                colour_points(cool_to_warm(low, high) if colours is None else colours),
                opacity_points(ramp(low, high) if opacities is None else opacities),
                unit_distance,
            )
            self._made_of = made_of
        return self._made

    def function_key(self) -> tuple:
        """Equal for equal functions."""
        colours, opacities = self._function("colours"), self._function("opacities")
        return (
            None if colours is None else tuple(colour_points(colours)),
            None if opacities is None else tuple(opacity_points(opacities)),
        )

    def _function(self, side: str):
        return self._functions.get(side, (None, 0))[0]


def cool_to_warm(low: float, high: float) -> vtkColorTransferFunction:
    """ParaView's usual colours over a range."""
    function = vtkColorTransferFunction()
    function.SetColorSpaceToDiverging()
    function.AddRGBPoint(low, 0.231, 0.298, 0.753)
    function.AddRGBPoint(high, 0.706, 0.016, 0.149)
    return function


def ramp(low: float, high: float) -> vtkPiecewiseFunction:
    """Opacities from nothing to opaque over a range."""
    function = vtkPiecewiseFunction()
    function.AddPoint(low, 0.0)
    function.AddPoint(high, 1.0)
    return function


def colour_points(function) -> list[float]:
    """x, red, green, blue of points between which a vtkColorTransferFunction is as good as linear.

    Volume rendering in ParaView takes the colours before they are made discrete, and so does this.
    """
    nodes, node = [], [0.0] * 6
    for number in range(function.GetSize()):
        function.GetNodeValue(number, node)
        nodes.append((node[0], node[4] == 0.5 and node[5] == 0.0))
    straight = function.GetColorSpace() == 0 and function.GetScale() != LOGARITHMIC and all(even for _, even in nodes)
    places = [x for x, _ in nodes]
    if not straight:
        places = _between(places, function.GetScale() == LOGARITHMIC)
    colour, points = [0.0] * 3, []
    for x in places:
        vtkColorTransferFunction.GetColor(function, x, colour)  # a subclass would give a discrete one
        points += [x, *(min(max(share, 0.0), 1.0) for share in colour)]
    return points


def _between(places: list, logarithmic: bool) -> list:
    """The places with others between them, as far apart as the function's scale is."""
    more = max(math.ceil(COLOURS / max(len(places) - 1, 1)), 2)
    shares = np.append(np.arange(more) / more, BELOW)
    result = []
    for a, b in zip(places[:-1], places[1:]):
        result += (a * (b / a) ** shares if logarithmic and a > 0 else a + (b - a) * shares).tolist()
    return result + places[-1:]


def opacity_points(function) -> list[float]:
    """x, opacity, midpoint, sharpness of each point of a vtkPiecewiseFunction."""
    points, node = [], [0.0] * 4
    for number in range(function.GetSize()):
        function.GetNodeValue(number, node)
        points += node
    return points
