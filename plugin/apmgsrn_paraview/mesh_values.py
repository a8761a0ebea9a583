"""Values of the chosen arrays at points and inside of cells of one leaf of a mesh."""

from __future__ import annotations

import numpy as np

from .mesh_arrays import MeshArray, leaf_values
from .mesh_cells import CellGroup, MeshCells, chunks


class ArrayValues:
    """The chosen arrays of one leaf."""

    def __init__(self, mesh: MeshCells, arrays: list[MeshArray]):
        self.arrays = [(array.association, leaf_values(mesh.leaf, array)) for array in arrays]
        self._finite = all(_all_finite(values) for _, values in self.arrays)

    def at_points(self, ids: np.ndarray) -> np.ndarray:
        """(n, C) values of point arrays."""
        return np.concatenate([values[ids].astype(np.float64) for _, values in self.arrays], axis=1)

    def in_cells(self, cells: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n, C) values inside of cells: ids (n,), nodes (n, k), weights (k, n); a cell array has the cell's value."""
        parts = [
            np.einsum("kn,nkc->nc", weights, values[nodes].astype(np.float64))
            if association == "point"
            else values[cells].astype(np.float64)
            for association, values in self.arrays
        ]
        return np.concatenate(parts, axis=1)

    def finite(self, group: CellGroup) -> np.ndarray:
        """(m,) bool: the cells of a group in which all values are finite."""
        found = np.ones(len(group.cells), dtype=bool)
        for part, nodes in chunks(group) if not self._finite else ():
            for association, values in self.arrays:
                known = values[nodes] if association == "point" else values[group.cells[part], None]
                found[part] &= np.isfinite(known).all(axis=(1, 2))
        return found


def _all_finite(values: np.ndarray) -> bool:
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
