"""The table of Compare Neural Volume: one row for each array, and for each brick of a model with several."""

from __future__ import annotations

import math

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkStringArray

from apmgsrn_core import ErrorSums

COLUMNS = {
    "array": str, "association": str, "time": float, "brick": int, "psnr": float, "ssim": float, "max_error": float,
    "rmse": float, "relative_l2": float, "values_compared": int, "values_left_out": int,
}  # fmt: skip
WHOLE = -1  # in the column brick


def rows_of(array: str, association: str, time: float | None, sums: ErrorSums, ssim: float) -> list[dict]:
    """The rows of one array.

    Args:
        array, association: Of the data.
        time: Of the data, or None.
        sums: A part for each brick, and one for what is outside of the model.
        ssim: Of the whole; NaN where it cannot be had.
    """
    about = {"array": array, "association": association, "time": math.nan if time is None else time}
    rows = [{**about, "brick": WHOLE, "ssim": ssim, **_figures(sums.whole(), 0)}]
    bricks = len(sums.compared) - 1
    if bricks > 1:
        rows += [{**about, "brick": brick, "ssim": math.nan, **_figures(sums, brick)} for brick in range(bricks)]
    return rows


def _figures(sums: ErrorSums, part: int) -> dict:
    names = ("psnr", "max_error", "rmse", "relative_l2")
    figures = {name: float(getattr(sums, name)[part]) for name in names}
    counts = {"values_compared": int(sums.compared[part]), "values_left_out": int(sums.left_out[part])}
    return {**figures, **counts}


def fill_errors(table, rows: list[dict]) -> None:
    """Set the columns of a vtkTable; without rows they are there, and empty."""
    table.Initialize()
    for name, kind in COLUMNS.items():
        values = [row[name] for row in rows]
        column = _texts(values) if kind is str else _numbers(values, np.int64 if kind is int else np.float64)
        column.SetName(name)
        table.AddColumn(column)


def _texts(values: list):
    column = vtkStringArray()
    for value in values:
        column.InsertNextValue(value)
    return column


def _numbers(values: list, kind):
    return numpy_to_vtk(np.array(values, dtype=kind), deep=1)
