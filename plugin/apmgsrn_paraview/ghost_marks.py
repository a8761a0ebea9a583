"""VTK's marks on points and cells (`vtkGhostType`): whose they are, and which are not to be seen.

A point or cell may be another rank's as well (duplicate). A hidden one has no value; nor has a cell that a finer level
of AMR refines.
"""

from __future__ import annotations

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataSetAttributes

from .vtk_arrays import add_array, attributes, numbers_of

GHOSTS = vtkDataSetAttributes.GhostArrayName()
HIDDEN = {"point": vtkDataSetAttributes.HIDDENPOINT, "cell": vtkDataSetAttributes.HIDDENCELL}
WITHOUT_VALUE = {"point": HIDDEN["point"], "cell": HIDDEN["cell"] | vtkDataSetAttributes.REFINEDCELL}
DUPLICATE = vtkDataSetAttributes.DUPLICATEPOINT  # the same number for cells


def has_marks(data, association: str) -> bool:
    """Whether the points or cells of a data set could be marked."""
    return attributes(data, association).GetArray(GHOSTS) is not None


def without_value(data, association: str, duplicates: bool = False) -> np.ndarray | None:
    """(n,) bool: the points or cells that have no value; None when none is marked so.

    Args:
        duplicates: Whether those are left out too that another rank has as its own.
    """
    if not has_marks(data, association):
        return None
    bits = WITHOUT_VALUE[association] | (DUPLICATE if duplicates else 0)
    flags = (numbers_of(attributes(data, association).GetArray(GHOSTS)) & bits) != 0
    return flags if flags.any() else None


def hide_missing(image, valid: np.ndarray, association: str) -> None:
    """Hide the points or cells, [z, y, x], that have no value; ParaView then leaves them out. Nothing when all have one.

    The cells of hidden points are hidden too: surfaces and volumes are drawn by cells.
    """
    if valid.all():
        return
    _hide(image, ~valid, association)
    if association == "point" and not has_marks(image, "cell"):
        for axis in range(3):
            if valid.shape[axis] > 1:
                valid = np.take(valid, range(valid.shape[axis] - 1), axis) & np.take(valid, range(1, valid.shape[axis]), axis)
        _hide(image, ~valid, "cell")


def _hide(image, missing: np.ndarray, association: str) -> None:
    add_array(image, association, GHOSTS, np.where(missing, HIDDEN[association], 0).astype(np.uint8).ravel())
