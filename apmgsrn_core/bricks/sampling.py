"""Evaluating the networks of many bricks and blending them: at scattered points, and on lattices of points.

Positions are those of `brick_layout.py`: value coordinates, in float64. What comes out are the networks' outputs in float32,
not yet in the unit of an array.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from ..brick_layout import BrickLayout
from ..data.boxes import layered
from ..kernels.memory import halves, in_parts
from ..network.model import Network
from .coordinates import TILE_XYZ, AxisPart, BrickCoordinates, axis_parts, contributions
from .networks import BrickNetworks, HeldNetwork, in_order

PIECE = 1 << 21  # scattered points whose bricks are found together, each of which is then evaluated once
CHUNK = 1 << 18  # points in a call of a kernel on a CPU
CHUNK_OF_GPU = 1 << 22

Run = tuple[int, int, int]  # brick, first and last + 1 of its points
Read = Callable[[HeldNetwork, torch.Tensor], torch.Tensor]  # a network and points (m, 3) in it -> m rows of numbers


class BrickSampler:
    """The bricks of a layout as one function of the position.

    Args:
        layout: Of the bricks.
        networks: One for each device; a brick is evaluated on one of them, always the same. Several work at the same
            time, each in its own thread, and give the same numbers as one.
    """

    def __init__(self, layout: BrickLayout, networks: Sequence[BrickNetworks]):
        self.layout, self.networks = layout, tuple(networks)
        self._devices = [kept.device for kept in self.networks]
        self.coordinates = BrickCoordinates(layout)

    def device_of(self, brick: int) -> int:
        """The number of the device of a brick: neighbours along an axis are on different ones."""
        return sum(self.layout.place(brick)) % len(self.networks)

    def network(self, brick: int) -> Network:
        """The network of a brick, on its device."""
        return self.networks[self.device_of(brick)].get(brick).network

    def at_points(self, positions: np.ndarray, columns: slice) -> np.ndarray:
        """Some of the outputs at scattered points: (n, 3) positions -> (n, columns); beyond the domain the border's."""
        values = np.empty((len(positions), columns.stop - columns.start), dtype=np.float32)
        for first in range(0, len(positions), PIECE):
            part = slice(first, first + PIECE)
            values[part] = self._at_piece(positions[part], columns)
        return values

    def _at_piece(self, positions: np.ndarray, columns: slice) -> np.ndarray:
        def read(held: HeldNetwork, points: torch.Tensor) -> torch.Tensor:
            return held.kernel.values(held.network, points)[:, columns]

        if self.layout.count == 1:
            return self.in_bricks(positions, None, read)
        rows, bricks, weights = contributions(self.layout, positions)
        values = self.in_bricks(positions[rows], bricks, read)
        return summed((column * weights for column in values.T), rows, len(positions))

    def in_bricks(
        self, positions: np.ndarray, bricks: np.ndarray | None, read: Read, most: int | None = None
    ) -> np.ndarray:
        """What is read of the networks at positions, each in one brick.

        Args:
            positions: (m, 3).
            bricks: (m,) the brick of each, in rising order; None when there is one brick.
            read: Called on a brick's device with at most `most` of its points, normalised; gives a row for each.
            most: None: as many as a call of a kernel takes.

        Returns:
            (m, ...) what `read` gave, in the order of the positions.
        """
        points = self.coordinates.of_points(positions, 0 if bricks is None else bricks)
        dealt: dict[int, list[Run]] = {}
        for run in _runs(bricks) if len(points) and bricks is not None else [(0, 0, len(points))]:
            dealt.setdefault(self.device_of(run[0]), []).append(run)
        tasks = [(d, lambda d=d, runs=runs: self._read(d, points, runs, read, most)) for d, runs in dealt.items()]
        results = list(in_order(tasks, self._devices))
        if len(results) == 1:
            return results[0]
        values = np.empty((len(positions), *results[0].shape[1:]), dtype=np.float32)
        for runs, found in zip(dealt.values(), results):
            done = 0
            for _, first, last in runs:
                values[first:last] = found[done : done + last - first]
                done += last - first
        return values

    def _read(self, device: int, points: torch.Tensor, runs: list[Run], read: Read, most: int | None) -> np.ndarray:
        """What is read at runs of points one after the other, on one of the devices."""
        sizes = [last - first for _, first, last in runs]
        mine = points if sum(sizes) == len(points) else torch.cat([points[first:last] for _, first, last in runs])
        parts = []
        for (brick, _, _), run in zip(runs, mine.to(self._devices[device]).split(sizes)):
            held = self.networks[device].get(brick)
            for part in run.split(most or _chunk(run.device)):
                parts += in_parts(lambda p, held=held: read(held, p), part, len(part), halves, _of_brick(brick, part.device))
        return torch.cat(parts).cpu().numpy()

    def on_lattice(
        self, axes: Sequence[np.ndarray], columns: slice, on_done: Callable[[float], None] | None = None
    ) -> np.ndarray:
        """Some of the outputs at all combinations of positions along x, y and z.

        Args:
            axes: Three lists of positions, each in rising or falling order and none empty.
            columns: Which outputs.
            on_done: Called with the share done after each part; what it raises ends the work.

        Returns:
            [z, y, x, column] float32.
        """
        home = self._devices[0] if len(self._devices) == 1 else torch.device("cpu")
        block = torch.zeros(*map(len, axes[::-1]), columns.stop - columns.start, device=home)
        boxes = self._boxes(axes)
        tasks = ((d, lambda d=d, box=box: self._on_box(d, box, columns, home)) for d, box in boxes)
        target = _numbers(block)
        total, done = sum(len(z) * len(y) * len(x) for _, (z, y, x) in boxes), 0
        for (_, box), found in zip(boxes, in_order(tasks, self._devices)):
            for parts, values in found:
                target[tuple(part.run for part in parts)] += values
            done += len(box[0]) * len(box[1]) * len(box[2])
            if on_done is not None:
                on_done(done / total)
        return block.cpu().numpy()

    def _boxes(self, axes: Sequence[np.ndarray]) -> list[tuple[int, tuple[AxisPart, ...]]]:
        """(device, parts along z, y, x) of all that is evaluated for a lattice, each at most a chunk of one brick."""
        along = [axis_parts(self.coordinates, axis, positions) for axis, positions in enumerate(axes)]
        boxes = []
        for parts in itertools.product(*along[::-1]):
            device = self.device_of(self.layout.number(*(part.part for part in parts[::-1])))
            where = self._devices[device]
            tiled = where.type == "cpu" and self.layout.count > 1
            pieces = [part.split(n) if tiled else [part] for part, n in zip(parts, TILE_XYZ[::-1])]
            for z, y, x in itertools.product(*pieces):
                chunks = layered((len(z), len(y), len(x)), _chunk(where))
                boxes += [(device, (z[k], y[j], x[i])) for k, j, i in chunks]
        return boxes

    def _on_box(self, device: int, box: tuple[AxisPart, ...], columns: slice, home: torch.device) -> list[tuple]:
        """(box, weighted outputs [z, y, x, column] of one brick in it, at home); several where memory is short."""
        brick, where = self.layout.number(*(part.part for part in box[::-1])), self._devices[device]
        held = self.networks[device].get(brick)

        def work(part: tuple[AxisPart, ...]) -> tuple:
            return part, _numbers(self._weighted(held, part, columns, where).to(home))

        return in_parts(work, box, _points_in(box), _halved_box, _of_brick(brick, where))

    def _weighted(self, held: HeldNetwork, box: tuple[AxisPart, ...], columns: slice, where: torch.device) -> torch.Tensor:
        values = _on_lattice(held, [part.points.to(where) for part in box[::-1]])[..., columns]
        numbers = _numbers(values)
        for axis, part in enumerate(box):
            if part.weights is not None:
                numbers *= _numbers(part.weights.to(where)).reshape([-1 if a == axis else 1 for a in range(4)])
        return values


def _on_lattice(held: HeldNetwork, axes: list[torch.Tensor]) -> torch.Tensor:
    """`kernel.lattice`; `kernel.values` for a plane across x on a CPU, where a row of one point costs as much as 16."""
    if len(axes[0]) > 1 or axes[0].device.type != "cpu":
        return held.kernel.lattice(held.network, *axes)
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    points = torch.stack((x, y, z), dim=-1)
    return held.kernel.values(held.network, points.view(-1, 3)).view(*points.shape[:3], -1)


def _numbers(tensor: torch.Tensor):
    """The same numbers as an array where they are on the CPU: small sums are quicker in numpy, without threads."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _of_brick(brick: int, device: torch.device) -> str:
    return f"brick {brick} on {device}"


def _points_in(box: tuple[AxisPart, ...]) -> int:
    return math.prod(map(len, box))


def _halved_box(box: tuple[AxisPart, ...]) -> list[tuple[tuple[AxisPart, ...], int]]:
    """Two halves along its longest axis, and their points."""
    axis = max(range(3), key=lambda axis: len(box[axis]))
    part, middle = box[axis], len(box[axis]) // 2
    parts = [(*box[:axis], part[half], *box[axis + 1 :]) for half in (slice(0, middle), slice(middle, len(part)))]
    return [(half, _points_in(half)) for half in parts]


def _chunk(device: torch.device) -> int:
    """Points in a call of a kernel."""
    return CHUNK if device.type == "cpu" else CHUNK_OF_GPU


def _runs(bricks: np.ndarray) -> list[Run]:
    """Where each brick begins and ends among bricks (m,) in rising order."""
    firsts = np.flatnonzero(np.diff(bricks, prepend=-1))
    return list(zip(bricks[firsts].tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(bricks)]))


def summed(columns: Iterable[np.ndarray], rows: np.ndarray, count: int) -> np.ndarray:
    """Columns of numbers, each (m,), summed over equal rows (m,), always in one order -> (count, columns) float32."""
    sums = [np.bincount(rows, column, minlength=count).astype(np.float32) for column in columns]
    return np.stack(sums, axis=1)
