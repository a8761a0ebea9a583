"""The residual of a brick: what its network leaves of the data, coded so that a bound holds at every value."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..bricks.coordinates import BrickCoordinates
from ..data.array_spec import columns_of
from ..data.array_values import in_unit, normalised
from ..errors import ApmgsrnError
from ..file.manifest import ArrayInfo
from ..kernels import kernel_for
from ..kernels.readable import TorchKernel
from ..network.model import Network
from .block_coding import LARGEST, encode_block
from .bounded_kernel import BoundedKernel
from .error_bound import LEAST_TOLERANCE, SAFETY, left_for_coding
from .interpolation import STEP
from .residual_blocks import ResidualBlocks, block_slices, pack_blocks, threaded

CHECKED = 1 << 12  # points at which rounding is measured
SPARE = 0.5  # of a bound that must be left for coding beside a network


@dataclass(frozen=True)
class CodedResidual:
    """The bytes of a residual, and what is left with it.

    Attributes:
        data: For `ResidualBlocks`.
        errors: Of each array, mean squared over its values, relative to its (transformed) range.
        own_errors: The same in its own unit, relative to its own range.
        largest: Of each array, in its unit.
    """

    data: bytes
    errors: tuple[float, ...]
    own_errors: tuple[float, ...]
    largest: tuple[float, ...]


class BrickResidual:
    """Codes what networks leave of the values of one brick.

    Args:
        values: [z, y, x, component] of the brick in their own type; what is not finite is not bound.
        arrays: Whose components they are, with their ranges.
        bounds: Of each array in its unit; 0: none.
        coordinates, brick: Where the brick is.
    """

    def __init__(
        self, values: np.ndarray, arrays: Sequence[ArrayInfo], bounds: tuple[float, ...], coordinates: BrickCoordinates, brick: int
    ):
        self._values, self._arrays, self.bounds, self._coordinates = values, arrays, bounds, coordinates
        layout = coordinates.layout
        region, self._place = layout.trained(brick), layout.place(brick)
        self._positions = [np.arange(a, b, dtype=np.float64) for a, b in zip(region.start, region.stop)]
        self._shape = region.shape_zyx

    def code(self, network: Network, constant: bool = False) -> CodedResidual | None:
        """The residual of a network, checked.

        Args:
            network: As it is stored, on the CPU.
            constant: Whether it puts out one number everywhere, which all kernels do alike.

        Returns:
            None when a bound is too tight for what kernels make of the network.
        """
        axes = [torch.from_numpy(self._coordinates.along(a, part, self._positions[a])) for a, part in enumerate(self._place)]
        tolerance = 0.0 if constant else self._tolerance(network, axes)
        kernel = kernel_for(network)
        outputs = kernel.lattice(network, *axes).numpy()
        units, blocks = [], []
        for info, own, bound in zip(self._arrays, columns_of(self._arrays), self.bounds):
            for column in range(own.start, own.stop):
                unit = self._unit(info, column, bound, tolerance)
                if unit is None:
                    return None
                units.append(unit)
                if unit:
                    coded = self._blocks(outputs[..., column], self._values[..., column], info, unit)
                    if coded is None:
                        return None
                    blocks.append(coded)
        data = pack_blocks(units, blocks)
        residual = ResidualBlocks(data, self._shape, len(units))
        return self._checked(data, BoundedKernel(kernel, residual, self._arrays).lattice(network, *axes).numpy())

    @staticmethod
    def _tolerance(network: Network, axes: list[torch.Tensor]) -> float:
        """How far two kernels may be apart, of a scaled output: from what the rounding of float32 does to this network."""
        draw = torch.Generator().manual_seed(0)
        points = torch.stack([along[torch.randint(len(along), (CHECKED,), generator=draw)] for along in axes], dim=1)
        exact = TorchKernel().values(copy.deepcopy(network).double(), points.double())
        return max(LEAST_TOLERANCE, SAFETY * float((kernel_for(network).values(network, points) - exact).abs().max()))

    def _unit(self, info: ArrayInfo, column: int, bound: float, tolerance: float) -> float | None:
        """Of the numbers of a component, in the unit of its array; 0: it is not bound, None: the bound is too tight."""
        if not bound:
            return 0.0
        values = self._values[..., column]
        largest = max(float(np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape)).max()), *map(abs, info.range))
        left = left_for_coding(bound, info, largest, tolerance)
        if left <= (SPARE * bound if tolerance else 0.0):
            return None
        return 2 * left / (STEP + 1)

    def _blocks(self, outputs: np.ndarray, values: np.ndarray, info: ArrayInfo, unit: float) -> list[bytes] | None:
        def coded(place) -> bytes | None:
            there = np.isfinite(values[place])
            wanted = np.where(there, values[place], 0).astype(np.float64) - in_unit(outputs[place], info, np.dtype(np.float64))
            numbers = np.rint(np.where(there, wanted, 0) / unit)
            if np.abs(numbers).max() > LARGEST * STEP:
                return None
            return encode_block(numbers.astype(np.int64), None if there.all() else ~there)[0]

        found = threaded(coded, block_slices(self._shape))
        return None if None in found else found

    def _checked(self, data: bytes, outputs: np.ndarray) -> CodedResidual:
        """What is left when it is read. Raises ApmgsrnError when a bound does not hold."""
        errors, own_errors, largest = [], [], []
        for info, own, bound in zip(self._arrays, columns_of(self._arrays), self.bounds):
            values = self._values[..., own]
            there = np.isfinite(values)
            off = np.abs(in_unit(outputs[..., own], info, np.dtype(np.float32)).astype(np.float64) - np.where(there, values, 0))
            most = float(off[there].max(initial=0.0))
            if bound and most > bound:
                raise ApmgsrnError(f"array {info.name!r}: expected errors of at most {bound:.6g}, found {most:.6g}: please report this")
            scaled = normalised(np.where(there, values, info.range[0]), info) - outputs[..., own]
            errors.append(float(np.square(scaled[there]).mean()) if there.any() else 0.0)
            span = info.range[1] - info.range[0] or 1.0
            own_errors.append(float(np.square(off[there] / span).mean()) if there.any() else 0.0)
            largest.append(most)
        return CodedResidual(data, tuple(errors), tuple(own_errors), tuple(largest))
