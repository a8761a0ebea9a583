"""Errors of a reconstruction as sums over blocks of values that merge: of bricks, of data sets, of ranks."""

from __future__ import annotations

import numpy as np

from ..brick_layout import BrickLayout
from ..data.pieces import Pieces
from ..distributed import Communicator
from ..errors import DataError
from ..grid import Grid, Region
from .metrics import SLAB, SSIM_WINDOW, similarities

BLOCK = 1 << 18  # values summed at a time


class ErrorSums:
    """What is known of the errors of some values, each of which is counted with one part (brick) of the whole.

    A value is what one point or cell has, with all its components; it is compared where all of them are finite, in the
    data and in the reconstruction, and otherwise left out.

    Attributes:
        compared, left_out: (parts,) int64 values.
        squared_error, squared_reference: (parts,) float64 sums over the components of the compared values.
        max_error: (parts,) float64 largest error; of vectors the largest magnitude of the difference. NaN of none.
        low, high: (parts,) float64 range of the data over all components.
        components: Of a value; 0 before there is one.
    """

    def __init__(self, parts: int = 1):
        self.compared, self.left_out = np.zeros(parts, dtype=np.int64), np.zeros(parts, dtype=np.int64)
        self.squared_error, self.squared_reference = np.zeros(parts), np.zeros(parts)
        self.max_error = np.full(parts, np.nan)
        self.low, self.high = np.full(parts, np.inf), np.full(parts, -np.inf)
        self.components = 0

    def add(self, reference: np.ndarray, values: np.ndarray, part: np.ndarray | int = 0) -> None:
        """Count some values.

        Args:
            reference: (n,) or (n, components), the data.
            values: Of the same shape, the reconstruction.
            part: (n,) int, the part of each, or of all.

        Raises:
            DataError: The shapes differ, or the components from those before.
        """
        if reference.shape != values.shape or reference.ndim not in (1, 2):
            raise DataError(f"expected two arrays of one shape, found {reference.shape} and {values.shape}")
        components = reference.shape[1] if reference.ndim == 2 else 1
        if self.components not in (0, components):
            raise DataError(f"expected values of {self.components} components, found {components}")
        self.components = components
        for first in range(0, len(reference), BLOCK):
            block = slice(first, first + BLOCK)
            expected = reference[block].reshape(-1, components).astype(np.float64)
            found = values[block].reshape(-1, components).astype(np.float64)
            self._add_block(expected, found, part if np.ndim(part) == 0 else part[block])

    def _add_block(self, expected: np.ndarray, found: np.ndarray, part) -> None:
        finite = np.isfinite(expected).all(axis=1) & np.isfinite(found).all(axis=1)
        part = np.broadcast_to(part, len(finite))
        parts = len(self.compared)
        self.left_out += np.bincount(part[~finite], minlength=parts)
        order = np.flatnonzero(finite)
        order = order[np.argsort(part[order], kind="stable")] if parts > 1 else order
        present, firsts = np.unique(part[order], return_index=True)
        if not len(present):
            return
        expected, found = expected[order], found[order]
        errors = np.square(found - expected).sum(axis=1)
        self.compared[present] += np.diff(firsts, append=len(order))
        self.squared_error[present] += np.add.reduceat(errors, firsts)
        self.squared_reference[present] += np.add.reduceat(np.square(expected).sum(axis=1), firsts)
        largest = np.sqrt(np.maximum.reduceat(errors, firsts))
        self.max_error[present] = np.fmax(self.max_error[present], largest)
        self.low[present] = np.minimum(self.low[present], np.minimum.reduceat(expected.min(axis=1), firsts))
        self.high[present] = np.maximum(self.high[present], np.maximum.reduceat(expected.max(axis=1), firsts))

    def merge(self, other: "ErrorSums") -> None:
        """Count what another one has counted, part by part. Raises DataError when parts or components differ."""
        alike = 0 in (self.components, other.components) or self.components == other.components
        if not alike or len(self.compared) != len(other.compared):
            raise DataError(
                f"expected {len(self.compared)} parts of {self.components} components,"
                f" found {len(other.compared)} of {other.components}"
            )
        self.components = self.components or other.components
        self.compared += other.compared
        self.left_out += other.left_out
        self.squared_error += other.squared_error
        self.squared_reference += other.squared_reference
        self.max_error = np.fmax(self.max_error, other.max_error)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    def whole(self) -> "ErrorSums":
        """All parts as one."""
        total = ErrorSums()
        total.components = self.components
        for name in ("compared", "left_out", "squared_error", "squared_reference"):
            getattr(total, name)[0] = getattr(self, name).sum()
        total.max_error[0] = np.fmax.reduce(self.max_error)
        total.low[0], total.high[0] = self.low.min(), self.high.max()
        return total

    # -- what follows from the sums ----------------------------------------------------------

    @property
    def span(self) -> np.ndarray:
        """(parts,) maximum minus minimum of the compared data; NaN of none."""
        return np.where(self.compared > 0, self.high - self.low, np.nan)

    @property
    def rmse(self) -> np.ndarray:
        """(parts,) root of the mean square error of a component; NaN of none."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squared_error / (self.compared * max(self.components, 1)))

    @property
    def psnr(self) -> np.ndarray:
        """(parts,) dB as `metrics.psnr` has them: infinite when equal, -infinite where the data is constant, NaN of none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 20 * np.log10(self.span / self.rmse)
        return np.where((self.compared > 0) & (self.squared_error == 0), np.inf, decibels)

    @property
    def relative_l2(self) -> np.ndarray:
        """(parts,) norm of the error over the norm of the data; infinite where only the data is 0, NaN of none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt(self.squared_error / self.squared_reference)
        return np.where((self.compared > 0) & (self.squared_error == 0), 0.0, ratio)


def bricks_of_points(points_xyz: np.ndarray, grid: Grid, layout: BrickLayout) -> np.ndarray:
    """(n, 3) world positions -> (n,) number of the brick that each is in; the number of bricks outside of the domain."""
    index = grid.world_to_index(points_xyz)
    inside = grid.contains_index(index)
    first = [0.5 if grid.association == "cell" and n > 1 else 0.0 for n in grid.dims]
    return np.where(inside, layout.owner(np.where(inside[:, None], index, 0.0) - first), layout.count)


# -- structural similarity of a volume that lies on several ranks ----------------------------------


def ssim_of_pieces(
    reference: np.ndarray, values: np.ndarray, held: Region, own: Region, dims, span: float, communicator: Communicator
) -> float:
    """`metrics.ssim` of a volume whose values lie on the ranks (collective).

    What the windows at the border of a piece need beyond it travels between the ranks.

    Args:
        reference, values: [z, y, x]: this rank's piece of the data and of the reconstruction, finite.
        held: Where the piece is in the whole.
        own: Its values that are counted with this rank: each value of the whole with exactly one.
        dims: Values of the whole along x, y, z.
        span: Maximum minus minimum of the whole data.

    Returns:
        The mean over all windows; NaN when the ranks together do not have each window once.
    """
    widths = [min(SSIM_WINDOW, n) for n in dims]
    stop = [max(min(b, n - w + 1), a) for a, b, n, w in zip(own.start, own.stop, dims, widths)]
    corners = Region(own.start, stop)
    needed = Region(own.start, [b + w - 1 for b, w in zip(stop, widths)]) if corners.count else None
    fetched = [Pieces(array, held, communicator).fetch(needed) for array in (reference, values)]
    complete = needed is not None and not any(isinstance(array, Exception) for array in fetched)
    sums = communicator.together(lambda: _ssim_sum(*fetched, span) if complete else (0.0, 0))
    total, count = np.sum(communicator.everywhere(sums), axis=0)
    windows = np.prod([n - w + 1 for n, w in zip(dims, widths)])
    return float(total / count) if count == windows else float("nan")


def _ssim_sum(reference: np.ndarray, values: np.ndarray, span: float) -> tuple[float, int]:
    """Sum over the windows inside of a block, and their number; some layers at a time."""
    total, count, window = 0.0, 0, min(SSIM_WINDOW, len(reference))
    for first in range(0, len(reference) - window + 1, SLAB):
        layers = slice(first, first + SLAB + window - 1)
        block = similarities(reference[layers].astype(np.float64), values[layers].astype(np.float64), span)
        total, count = total + float(block.sum()), count + block.size
    return total, count
