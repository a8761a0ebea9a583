"""The error of cells refined where a model has detail, against uniform cells, as many of them.

    python tests/bench/adaptive_output.py [--budgets 10000,100000] [--contour 0.5] [--json FILE] [DATA ...]

A model of each volume is trained in draft quality. `refined` are the leaves of `apmgsrn_core.refine`, `uniform` a
lattice of at most as many cells, in proportion to the grid's; both hold means of the model over 2 positions along each
axis. `centres` are the same leaves with the model's values at their centres.

Errors are root mean squares over the positions of the data's values, relative to the standard deviation of the data:
of the cells against the model, and against the data; `model` is the model's own against the data. `gain` is uniform
over refined, against the model. `as uniform` is how many uniform cells have the error of the refined ones, by the
power law between the budgets (beyond them: of the nearest two), over the refined cells. Seconds are of `refine`, and of
the vtkHyperTreeGrid where Python has VTK.

`--contour SHARE`: the area of the contour at this share of the data's range: of the model's values at the data's
positions, of the uniform cells' values at their centres, and of the refined cells; needs VTK.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

from measurement import begin, now, numbers, parser, print_table, write_json  # isort: skip

import numpy as np
from apmgsrn_core import Grid, NeuralVolume, RefinementTree, TrainConfig, psnr, refine, train_volume
from ours import warm_up
from volumes import Volume, load

PIECE = 1 << 20  # positions looked at together


def arguments():
    made = parser(__doc__)
    made.add_argument("--budgets", type=numbers, default=[10_000, 30_000, 100_000, 300_000], help="cells")
    made.add_argument("--contour", type=float, help="share of the data's range whose contour is measured")
    return made.parse_args()


class UniformCells:
    """Cells of one size over a volume: at most `budget`, with the model's means."""

    def __init__(self, volume: NeuralVolume, budget: int):
        cells = np.array(volume.grid.dims) - 1
        counts = np.maximum(cells * (budget / cells.prod()) ** (1 / 3), 1).astype(int)
        self.count, self._counts, self._grid = int(counts.prod()), counts, volume.grid
        self.spacing = tuple(np.array(volume.grid.spacing) * cells / counts)
        half = tuple(s / 2 for s in self.spacing)
        fine = volume.sample_region(grid=Grid(tuple(2 * counts + 1), volume.grid.origin, half, association="cell"))
        x, y, z = counts
        self.values = fine.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))

    def sample_points(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n,) values of the cells that hold positions (n, 3)."""
        share = self._grid.world_to_index(points_xyz) / (np.array(self._grid.dims) - 1)
        x, y, z = np.clip((share * self._counts).astype(int), 0, self._counts - 1).T
        return self.values[z, y, x]


def on_lattice(sample, grid: Grid) -> np.ndarray:
    """values[z, y, x] of a function of positions (n, 3), on the points of a grid."""
    result = np.empty(math.prod(grid.dims), dtype=np.float32)
    for first in range(0, len(result), PIECE):
        rows = np.arange(first, min(first + PIECE, len(result)))
        index = np.stack(np.unravel_index(rows, grid.dims[::-1])[::-1], axis=1)
        result[first : first + PIECE] = sample(grid.index_to_world(index))
    return result.reshape(grid.dims[::-1])


def relative_error(found: np.ndarray, expected: np.ndarray, scale: float) -> float:
    return float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2)) / scale)


def measure(volume: Volume, options) -> list[dict]:
    """The rows of one volume."""
    start = now(options.device)
    result = train_volume(
        volume.values, volume.grid, name="f", train=TrainConfig(quality="draft"), device=options.device,
        on_progress=lambda _: True,
    )  # fmt: skip
    model = result.volume
    values = model.reconstruct()
    seconds = now(options.device) - start
    print(f"{volume.name}: trained in {seconds:.1f} s, PSNR {psnr(volume.values, values):.2f} dB", flush=True)
    rows = [compare(volume, model, values, budget, options) for budget in options.budgets]
    for row in rows:
        row["as uniform"] = cells_for(row["refined"], rows) / row["leaves"]
    return rows


def compare(volume: Volume, model: NeuralVolume, values: np.ndarray, budget: int, options) -> dict:
    """The row of one budget; `values` are the model's at the data's positions."""
    start = now(options.device)
    tree = refine(model, budget=budget)
    seconds = now(options.device) - start
    cells = UniformCells(model, budget)
    middle = np.mean(tree.boxes(np.arange(len(tree.level))), axis=0)
    at_centres = replace(tree, values={"f": model.sample_points(middle)})
    data, scale = volume.values.astype(np.float32), float(volume.values.std())
    uniform = on_lattice(cells.sample_points, volume.grid)
    refined, centres = (
        on_lattice(lambda points, t=t: t.sample_points(points, "f"), volume.grid) for t in (tree, at_centres)
    )
    error = relative_error(uniform, values, scale), relative_error(refined, values, scale)
    return {
        "volume": volume.name, "leaves": len(tree.leaves), "levels": int(tree.level.max()) + 1,
        "uniform cells": cells.count, "uniform": error[0], "refined": error[1],
        "centres": relative_error(centres, values, scale), "gain": error[0] / error[1],
        "uniform, data": relative_error(uniform, data, scale), "refined, data": relative_error(refined, data, scale),
        "model": relative_error(values, data, scale), "s": round(seconds, 2),
        **in_vtk(tree, cells, values, volume, options),
    }  # fmt: skip


def cells_for(error: float, rows: list[dict]) -> float:
    """Uniform cells that have an error, by the power law through two of the rows."""
    if len(rows) < 2:
        return math.nan
    cells, errors = (np.log([row[name] for row in rows]) for name in ("uniform cells", "uniform"))
    first = int(np.clip(np.searchsorted(-errors, -math.log(error)) - 1, 0, len(rows) - 2))
    slope = (cells[first + 1] - cells[first]) / (errors[first + 1] - errors[first])
    return float(np.exp(cells[first] + slope * (math.log(error) - errors[first])))


def in_vtk(tree: RefinementTree, cells: UniformCells, values: np.ndarray, volume: Volume, options) -> dict:
    """Seconds to build the vtkHyperTreeGrid, and the areas of contours; nothing without VTK."""
    try:
        from vtkmodules.vtkCommonDataModel import vtkDataObject
        from vtkmodules.vtkFiltersHyperTree import vtkHyperTreeGridContour
    except ImportError:
        if options.contour is not None:
            raise
        return {}
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugin"))
    from apmgsrn_paraview.hyper_tree import hyper_tree_grid

    start = now()
    grid = hyper_tree_grid(tree)
    found = {"s in VTK": round(now() - start, 3)}
    if options.contour is not None:
        low, high = float(volume.values.min()), float(volume.values.max())
        level = low + options.contour * (high - low)
        contour = vtkHyperTreeGridContour()
        contour.SetInputArrayToProcess(0, 0, 0, vtkDataObject.FIELD_ASSOCIATION_CELLS, "f")
        contour.SetInputData(grid)
        found["area"] = area_of_image(values, volume.grid.spacing, level)
        found["area, uniform"] = area_of_image(cells.values, cells.spacing, level)
        found["area, refined"] = area_of(contour, level)
    return found


def area_of_image(values: np.ndarray, spacing, level: float) -> float:
    """The contour's area of values[z, y, x] on the points of a lattice."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkContourFilter

    image, contour = vtkImageData(), vtkContourFilter()
    image.SetDimensions(values.shape[::-1])
    image.SetSpacing(spacing)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=1))
    contour.SetInputData(image)
    return area_of(contour, level)


def area_of(contour, level: float) -> float:
    """The area of what a contour filter gives at a value."""
    from vtkmodules.vtkFiltersCore import vtkMassProperties, vtkTriangleFilter

    contour.SetValue(0, level)
    triangles, measure = vtkTriangleFilter(), vtkMassProperties()
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.SetInputConnection(contour.GetOutputPort())
    triangles.Update()
    if triangles.GetOutput().GetNumberOfCells() == 0:
        return 0.0
    measure.SetInputConnection(triangles.GetOutputPort())
    measure.Update()
    return measure.GetSurfaceArea()


def main() -> None:
    options = arguments()
    begin(options)
    warm_up(options.device)
    rows = []
    for volume in map(load, options.volumes):
        taken = measure(volume, options)
        rows += taken
        print_table(taken)
    write_json(options, rows)


if __name__ == "__main__":
    main()
