"""Exact derivatives of a model's arrays on an output, beside the values."""

from __future__ import annotations

from collections.abc import Callable

from .data_leaves import add_array
from .point_positions import positions_of
from .point_sampler import DERIVED, PointSampler
from .point_values import evaluate


def add_derived(
    data, volume, settings: dict, fields: tuple, time: float | None, on_progress: Callable[[float], bool]
) -> None:
    """Add what the settings compute_gradient, ... ask for: of point arrays at the points, of cell arrays at the centres.

    Args:
        data: A data set that has its geometry.
        volume: The `NeuralVolume`.
        settings: Of the proxy; see `point_sampler.DERIVED` and `interpolate_time`.
        fields: Names of the arrays.
        time: As the pipeline asks for it.
        on_progress: Given the share done; what it raises ends the work.

    Raises:
        DataError: What only vectors have is wanted, and none is among the fields.
    """
    wanted = {name: settings[name] for name in DERIVED}
    if not any(wanted.values()):
        return
    beside = {"interpolate_time": settings["interpolate_time"], "arrays": fields, "sample_at": "point"}
    sampler = PointSampler(volume, {**wanted, **beside}, time)
    for array in volume.arrays:
        positions = positions_of(data, array.association)
        if array.name not in fields or not positions.count:
            continue
        values = evaluate(positions, lambda points: sampler.derived_at(points, array), lambda count: on_progress(0.0) or True)
        for name, derived in values.items():
            add_array(data, array.association, name, derived)
