"""Exact derivatives of a model's arrays on an output, beside the values."""

from __future__ import annotations

from collections.abc import Callable

from apmgsrn_core import RefinementTree

from .point_positions import Positions, positions_of
from .point_sampler import DERIVED, PointSampler
from .point_values import Values, evaluate
from .vtk_arrays import add_array


class DerivedArrays:
    """What the settings compute_gradient, ... of a proxy ask for.

    Args:
        volume: The `NeuralVolume`.
        settings: Of the proxy; see `point_sampler.DERIVED` and `interpolate_time`.
        fields: Names of the arrays.
        time: As the pipeline asks for it.
        on_progress: Given the share done; what it raises ends the work.

    Raises:
        DataError: What only vectors have is wanted, and none is among the fields.
    """

    def __init__(
        self, volume, settings: dict, fields: tuple, time: float | None, on_progress: Callable[[float], bool]
    ):  # fmt: skip
        wanted = {name: settings[name] for name in DERIVED}
        beside = {"interpolate_time": settings["interpolate_time"], "arrays": fields, "sample_at": "point"}
        self._arrays = [array for array in volume.arrays if array.name in fields] if any(wanted.values()) else []
        self._sampler = PointSampler(volume, {**wanted, **beside}, time)
        self._on_progress = on_progress

    def add_to(self, data) -> None:
        """Add them to a data set that has its geometry: of point arrays at the points, of cell arrays at the centres."""
        for array in self._arrays:
            positions = positions_of(data, array.association)
            for name, derived in self._at(positions, array).items() if positions.count else ():
                add_array(data, array.association, name, derived)

    def added_to_tree(self, tree: RefinementTree) -> RefinementTree:
        """The tree with them: of the leaves at their centres, of the cells that were split the means of their children."""
        centres = tree.centres(tree.leaves)
        for array in self._arrays:
            positions = Positions(len(centres), lambda first, last: centres[first:last])
            for name, derived in self._at(positions, array).items():
                tree = tree.with_leaf_values(name, derived)
        return tree

    def _at(self, positions: Positions, array) -> Values:
        """{name: values} of what is derived from one array."""
        sample = self._sampler.derived_at
        return evaluate(positions, lambda points: sample(points, array), lambda count: self._on_progress(0.0) or True)
