"""What is known of the arrays that are to be trained before they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apmgsrn_core import ApmgsrnError, Grid

from .array_choice import ArrayChoice
from .data_leaves import leaves_of
from .image_frame import ImageFrame


@dataclass(frozen=True)
class DataDescription:
    """The chosen arrays on the whole frame.

    Attributes:
        components: Of all arrays together.
        bytes: Of all arrays in their own types; 0: not known.
        grid: The lattice of their values, of the points where they sit on both sides; None: a mesh, whose lattice is chosen
            when it is trained.
    """

    components: int
    bytes: int
    grid: Grid | None


def describe_data(data, frame: ImageFrame, choice: ArrayChoice) -> DataDescription | None:
    """Describe the chosen arrays of an input.

    Args:
        data: What is at the input: a part of a lattice will do.
        frame: Of the whole input; an empty one of a mesh.
        choice: The arrays.

    Returns:
        None while there are none that could be trained.
    """
    try:
        leaf = next((leaf for leaf in leaves_of(data) if leaf.GetNumberOfPoints()), None) if data is not None else None
        if leaf is None:
            return None
        arrays = choice.of_data_set(leaf)
        components = sum(array.GetNumberOfComponents() for array, _, _ in arrays)
        if min(frame.dims) < 1:
            return DataDescription(components, 0, None)
        grids = {association: frame.grid(association) for _, _, association in arrays}
    except ApmgsrnError:  # told when it is trained
        return None
    size = sum(
        math.prod(grids[association].value_dims) * array.GetNumberOfComponents() * array.GetDataTypeSize()
        for array, _, association in arrays
    )
    return DataDescription(components, size, grids["point"] if len(grids) > 1 else next(iter(grids.values())))
