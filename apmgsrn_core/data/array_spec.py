"""The arrays that are trained together, before anything is known of their values."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError
from ..validation import check
from .value_transform import CHOICES

MOST_COMPONENTS = 1024


@dataclass(frozen=True)
class ArraySpec:
    """One array.

    Args:
        name: Unique among the arrays of a model.
        components: Of one value.
        dtype: Numpy's name of its own type.
        association: "point" or "cell".
        unit: Stored.
        transform: "auto", "identity", "log" or "asinh"; see `value_transform.py`.
    """

    name: str
    components: int = 1
    dtype: str = "float32"
    association: str = "point"
    unit: str = ""
    transform: str = "auto"

    def __post_init__(self):
        check(1 <= self.components <= MOST_COMPONENTS, f"array {self.name!r}", "1 to 1024 components", self.components)
        check(self.association in ("point", "cell"), f"array {self.name!r}", "'point' or 'cell'", self.association)
        check(self.transform in CHOICES, "value transform", f"one of {CHOICES}", self.transform)


def columns_of(arrays) -> list[slice]:
    """Which components, of all arrays one after the other, are those of each; of specs or infos."""
    firsts, columns = 0, []
    for array in arrays:
        columns.append(slice(firsts, firsts + array.components))
        firsts += array.components
    return columns


def check_arrays(arrays: tuple[ArraySpec, ...]) -> None:
    """Raise DataError when there is no array, or two of one name: arrays of a model are asked for by name."""
    if not arrays:
        raise DataError("arrays: expected at least one, found none")
    names = [array.name for array in arrays]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"arrays: expected names that differ, found {twice!r} twice")
