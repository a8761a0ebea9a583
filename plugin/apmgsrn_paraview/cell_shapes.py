"""Shape functions of cells, as VTK has them, for many cells of one shape at once.

The shape functions of a cell are the polynomials of a space (spanned by monomials r^a s^b t^c) that are 1 at one node and
0 at the others. So a shape is its nodes' parametric coordinates and its exponents; linear and quadratic cells are alike.
Numbers lie with the cells or positions as the last axis, which numpy is fastest at, and sums are einsum's, which
do not depend on the number of threads: p (d, n) parametric coordinates, weights (k, n), slopes (k, d, n), corners (k, 3, n).

Source: Zienkiewicz, Taylor and Zhu 2013, The Finite Element Method, chapter 6; node order: VTK's file formats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Iterator

import numpy as np

DRAWS = 64  # rounds of rejection; a pyramid, the worst, accepts a third in each


@dataclass(frozen=True, eq=False)
class CellShape:
    """A kind of cell.

    Args:
        nodes: (k, d) parametric coordinates in [0, 1]; d is 0 for a vertex to 3 for a volume.
        exponents: (k, d) of the monomials.
        simplex: How many of the parametric axes, from the first, form a simplex (0: a cube, 2 of 3: a wedge).
        centre: (d,) the parametric centre.
    """

    nodes: np.ndarray
    exponents: np.ndarray
    simplex: int
    centre: np.ndarray

    @property
    def dimension(self) -> int:
        return self.nodes.shape[1]

    @cached_property
    def affine(self) -> bool:
        """Whether the Jacobian is the same everywhere in a cell."""
        return bool((self.exponents.sum(axis=1) <= 1).all())

    @cached_property
    def quadrature(self) -> tuple:
        """(p (d, q), weights (q,)) of a Gauss rule that is exact for the volume: on a cube, collapsed to a simplex.

        Source: Stroud 1971, Approximate calculation of multiple integrals, chapter 2 (conical products).
        """
        if self.affine:
            return self.centre[:, None], np.array([1 / math.factorial(self.simplex)])
        points, weights = np.polynomial.legendre.leggauss(int(self.exponents.max()) + 1 + (self.simplex > 0))
        grid = np.stack([a.ravel() for a in np.meshgrid(*[(points + 1) / 2] * self.dimension)])
        product = np.prod(np.meshgrid(*[weights / 2] * self.dimension), axis=0).ravel()
        for axis in range(1, self.simplex):
            left = 1 - grid[:axis].sum(axis=0)
            grid[axis] *= left
            product = product * left
        return grid, product

    def weights(self, p: np.ndarray) -> np.ndarray:
        """p (d, n) -> (k, n) what each node counts there."""
        return np.einsum("jk,jn->kn", self._coefficients, _monomials(self.exponents, p))

    def slopes(self, p: np.ndarray) -> np.ndarray:
        """p (d, n) -> (k, d, n) derivatives of the weights."""
        found = np.empty((*self.nodes.shape, p.shape[1]))
        for axis in range(self.dimension):
            lower = self.exponents.copy()
            lower[:, axis] = np.maximum(lower[:, axis] - 1, 0)
            factors = self.exponents[:, axis, None] * self._coefficients
            found[:, axis] = np.einsum("jk,jn->kn", factors, _monomials(lower, p))
        return found

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """(d, count) parametric coordinates, uniform in the parametric cell."""
        p = random.random((self.dimension, count))
        if self.simplex:  # the gaps between sorted numbers are uniform in a simplex
            p[: self.simplex] = np.diff(np.sort(p[: self.simplex], axis=0), axis=0, prepend=0.0)
        return p

    def lattice(self, intervals, most: int = 16_384) -> Iterator[np.ndarray]:
        """(d, up to `most`) parametric coordinates that fill the cell: the middles of so many intervals along each axis,
        on the axes of a simplex their ends."""
        if not self.dimension:
            yield np.zeros((0, 1))
            return
        first = [0.0 if axis < self.simplex else 0.5 for axis in range(self.dimension)]
        counts = [int(n) + (axis < self.simplex) for axis, n in enumerate(intervals)]
        for start in range(0, math.prod(counts), most):
            index = np.unravel_index(np.arange(start, min(start + most, math.prod(counts))), counts)
            p = np.stack([(i + f) / n for i, f, n in zip(index, first, intervals)])
            yield p[:, p[: self.simplex].sum(axis=0) <= 1 + 1e-9]

    def tangents(self, p: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """d world / d p of each cell at the same (d, q) places: corners (k, 3, n) -> (q, d, 3, n)."""
        slopes = self.slopes(p).transpose(2, 1, 0).reshape(-1, len(self.nodes))
        flat = np.einsum("qk,kn->qn", slopes, corners.reshape(len(corners), -1))
        return flat.reshape(p.shape[1], self.dimension, 3, -1)

    @cached_property
    def _coefficients(self) -> np.ndarray:
        """(k, k): column j holds the coefficients of the shape function of node j."""
        return np.linalg.inv(_monomials(self.exponents, self.nodes.T).T)


def cell_sizes(shape: CellShape, corners: np.ndarray) -> np.ndarray:
    """Volume, area or length of cells (not vertices): corners (k, 3, n) -> (n,), in the unit of length to the power of
    the dimension."""
    p, weights = shape.quadrature
    return np.einsum("q,qn->n", weights, _stretch(shape.tangents(p, corners)))


def draw_in_cells(shape: CellShape, corners: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Uniform in volume, one position in each cell: corners (k, 3, n) -> (d, n) parametric coordinates.

    Uniform parametric coordinates are kept with a probability that goes with the volume at them (rejection), since the
    Jacobian of a cell that is no parallelepiped changes within it.
    """
    p = shape.draw(corners.shape[2], random)
    if shape.affine:
        return p
    known = np.concatenate([shape.nodes.T, shape.quadrature[0]], axis=1)
    bound = _stretch(shape.tangents(known, corners)).max(axis=0)
    left = np.arange(p.shape[1])
    for _ in range(DRAWS):
        tangents = np.einsum("kdn,kxn->dxn", shape.slopes(p[:, left]), corners[:, :, left])
        left = left[random.random(len(left)) * bound[left] > _stretch(tangents)]
        if not len(left):
            break
        p[:, left] = shape.draw(len(left), random)
    return p


def _stretch(tangents: np.ndarray) -> np.ndarray:
    """World volume (area, length) per parametric volume: tangents (..., d, 3, n) -> (..., n)."""
    dimension = tangents.shape[-3]
    t = np.moveaxis(tangents, (-3, -2), (0, 1))
    normal = _cross(t[0], t[1]) if dimension > 1 else t[0]
    return np.abs(np.einsum("x...,x...->...", normal, t[2])) if dimension == 3 else np.sqrt((normal**2).sum(axis=0))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _monomials(exponents: np.ndarray, p: np.ndarray) -> np.ndarray:
    """exponents (k, d), p (d, n) -> (k, n) products of powers."""
    values = np.ones((len(exponents), p.shape[1]))
    for axis, coordinate in enumerate(p):
        powers = (None, coordinate, coordinate * coordinate)
        for row, exponent in enumerate(exponents[:, axis]):
            if exponent:
                values[row] *= powers[exponent]
    return values
