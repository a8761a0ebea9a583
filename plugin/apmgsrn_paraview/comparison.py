"""Comparing a model with the data that the ranks have: the figures, all ranks together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from apmgsrn_core import (
    Communicator,
    DataError,
    ErrorSums,
    FieldError,
    Region,
    bricks_of_points,
    held_by_lower,
    is_step,
    ssim_of_pieces,
)

from .data_leaves import count_of, leaves_of, names_of, numbered_leaves
from .error_table import rows_of
from .mesh_leaves import covered_by_finer
from .piece_ownership import Lattice, counted, extent_of
from .point_positions import positions_of
from .point_values import Values
from .vtk_arrays import attributes, numbers_of

SIDES = ("point", "cell")
BRICKS = ""  # what the numbers of the bricks are called among the values
NOWHERE = Region((0, 0, 0), (0, 0, 0))


@dataclass(frozen=True)
class Pair:
    """An array that the model and the data have; the data's association counts."""

    name: str
    association: str
    components: int


def arrays_in(data) -> dict:
    """{(name, association): components} of the numeric arrays of all leaves. Raises DataError when they differ."""
    found: dict = {}
    for leaf in leaves_of(data):
        for association in SIDES:
            for name in names_of(leaf, association):
                array = attributes(leaf, association).GetArray(name)
                if array is not None:
                    merge_arrays(found, {(name, association): array.GetNumberOfComponents()})
    return found


def merge_arrays(found: dict, more: dict) -> None:
    """Add what `arrays_in` gave elsewhere. Raises DataError when the components of an array differ."""
    for (name, association), components in more.items():
        if found.setdefault((name, association), components) != components:
            raise DataError(
                f"{association} array {name!r}: expected {found[name, association]} components everywhere,"
                f" found {components}"
            )


def shared_arrays(arrays: list, present: dict, all_wanted: bool) -> list[Pair]:
    """The arrays that a model and the data have, by name; where the data has it on both sides, on the model's.

    Args:
        arrays: ArrayInfo of the model.
        present: What `arrays_in` gives.
        all_wanted: Whether each of the arrays must be there.

    Raises:
        FieldError: One is missing, or all are; DataError: an array has other components.
    """
    pairs, missing = [], []
    for array in arrays:
        sides = sorted(SIDES, key=lambda side: side != array.association)
        side = next((side for side in sides if (array.name, side) in present), None)
        if side is None:
            missing.append(array.name)
        elif present[array.name, side] != array.components:
            raise DataError(
                f"{side} array {array.name!r}: expected {array.components} components, as in the model,"
                f" found {present[array.name, side]}"
            )
        else:
            pairs.append(Pair(array.name, side, array.components))
    if missing and (all_wanted or not pairs):
        listed = ", ".join(sorted(f"{name} ({side})" for name, side in present)) or "no arrays"
        raise FieldError(f"Arrays: expected {', '.join(missing)}, as in the model, in the data, found {listed}")
    return pairs


def time_in_model(time: float | None, times: tuple) -> None:
    """Raise DataError when the data's time is none of a model's times; data or a model without time fit any."""
    if time is None or not times or is_step(times, time):
        return
    raise DataError(f"time of the data: expected one of {', '.join(f'{t:g}' for t in times)}, which the model has, found {time:g}")


def pairs_of(leaf, pairs: list[Pair], association: str) -> list[Pair]:
    """Those that a leaf has on one side; not every leaf has each array."""
    side = attributes(leaf, association)
    return [p for p in pairs if p.association == association and side.GetArray(p.name) is not None]


@dataclass
class Comparison:
    """One model and one state of the data. Its methods are collective; of the data each rank has its own piece.

    Args:
        volume: The `NeuralVolume`, opened on every rank.
        communicator: The ranks.
        evaluate: (positions, function of points) -> what it gives at all of them.
        data: This rank's piece.
        time: Of the data, the same on all ranks; None when it has none.
        with_ssim: Whether the structural similarity is wanted.

    Attributes:
        values: What `reconstruct` gave, by (modification time of the leaf, association).
    """

    volume: object
    communicator: Communicator
    evaluate: Callable
    data: object
    time: float | None
    with_ssim: bool
    values: dict = field(default_factory=dict)

    def rows(self, pairs: list[Pair]) -> list[dict]:
        """Those of the table, the same on every rank."""
        communicator = self.communicator
        extents = communicator.everywhere(extent_of(self.data))
        elsewhere = self._elsewhere(pairs, extents)
        sums, lattices = communicator.together(lambda: self._sums(pairs, extents, elsewhere))
        gathered = communicator.everywhere(sums)
        rows = []
        for pair in pairs:
            merged = ErrorSums(self.volume.layout.count + 1)
            for other in gathered:
                merged.merge(other[pair])
            similarity = self._ssim(pair, merged.whole(), lattices[pair.association])
            rows += rows_of(pair.name, pair.association, self.time, merged, similarity)
        return rows

    def _elsewhere(self, pairs: list[Pair], extents: list) -> dict:
        """{number of a leaf: (n,) bool, its points that count with a lower rank}; {} where the extents tell (collective).

        Not all meshes have marks of ghosts on the points where their pieces meet.
        """
        communicator = self.communicator
        if communicator.size == 1 or extents[communicator.rank] is not None:
            return {}

        def find() -> tuple[dict, dict]:
            leaves = {n: leaf for n, leaf in numbered_leaves(self.data).items() if pairs_of(leaf, pairs, "point")}
            seen = {n: self._counted(n, leaf, "point", extents)[0] for n, leaf in leaves.items()}
            return seen, {n: positions_of(leaf, "point").all()[seen[n]] for n, leaf in leaves.items()}

        seen, places = communicator.together(find)
        held, found = held_by_lower(places, communicator), {}
        for number, flags in seen.items():
            found[number] = np.zeros(len(flags), dtype=bool)
            found[number][flags] = held[number]
        return found

    def _sums(self, pairs: list[Pair], extents: list, elsewhere: dict) -> tuple[dict, dict]:
        """({pair: ErrorSums}, {association: Lattice of a structured piece or None}) of this rank's piece."""
        parts = self.volume.layout.count + 1
        sums, lattices = {pair: ErrorSums(parts) for pair in pairs}, dict.fromkeys(SIDES)
        for number, leaf in numbered_leaves(self.data).items():
            for association in SIDES:
                here = pairs_of(leaf, pairs, association)
                if not here:
                    continue
                flags, lattices[association] = self._counted(number, leaf, association, extents)
                if association == "point" and number in elsewhere:
                    flags &= ~elsewhere[number]
                values = self.reconstruct(leaf, here, association)
                bricks = values[BRICKS][flags] if BRICKS in values else 0
                for pair in here:
                    reference = numbers_of(attributes(leaf, association).GetArray(pair.name))
                    sums[pair].add(reference[flags], values[pair.name][flags], bricks)
        return sums, lattices

    def _counted(self, number: int, leaf, association: str, extents: list) -> tuple[np.ndarray, Lattice | None]:
        """`counted` of one of the leaves."""
        return counted(leaf, association, extents, self.communicator.rank, self._covered.get(number))

    @cached_property
    def _covered(self) -> dict:
        return covered_by_finer(self.data)

    def reconstruct(self, leaf, pairs: list[Pair], association: str) -> Values:
        """{name: values of the model} at the points or cells of a leaf; not collective."""
        key = leaf.GetMTime(), association
        if key not in self.values:

            def sample(points: np.ndarray) -> Values:
                values = {pair.name: self.volume.sample_points(points, pair.name, self.time) for pair in pairs}
                if self.volume.layout.count > 1:
                    values[BRICKS] = bricks_of_points(points, self.volume.grid, self.volume.layout)
                return values

            self.values[key] = self.evaluate(positions_of(leaf, association), sample)
        return self.values[key]

    def keep(self, keys: set) -> None:
        """Forget the values of all but some (modification time, association)."""
        self.values = {key: self.values[key] for key in self.values.keys() & keys}

    def _ssim(self, pair: Pair, whole: ErrorSums, lattice: Lattice | None) -> float:
        """Of a whole structured volume, the mean over the components; NaN where it cannot be had."""
        if not self.with_ssim or whole.left_out[0] or not whole.compared[0]:
            return math.nan
        empty = not any(count_of(leaf, pair.association) for leaf in leaves_of(self.data))
        states = self.communicator.everywhere((lattice, empty))
        there = [other for other, _ in states if other is not None]
        if not there or not all(idle or (other is not None and other.own is not None) for other, idle in states):
            return math.nan
        lattice = lattice or Lattice(NOWHERE, NOWHERE, there[0].dims)
        data, model = self._volumes(pair, lattice)
        scores = [
            ssim_of_pieces(
                data[..., c], model[..., c], lattice.held, lattice.own, lattice.dims, float(whole.span[0]), self.communicator
            )
            for c in range(pair.components)
        ]
        return float(np.mean(scores))

    def _volumes(self, pair: Pair, lattice: Lattice) -> list[np.ndarray]:
        """Data and reconstruction of this rank's piece, [z, y, x, component]."""
        shape = (*lattice.held.shape_zyx, pair.components)
        if not lattice.held.count:
            return [np.zeros(shape, np.float32)] * 2
        leaf = leaves_of(self.data)[0]
        data = numbers_of(attributes(leaf, pair.association).GetArray(pair.name))
        return [data.reshape(shape), self.values[leaf.GetMTime(), pair.association][pair.name].reshape(shape)]
