"""Which arrays of an input are trained, and what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apmgsrn_core import ArraySpec, DataError, FieldError

from . import vtk_bridge


@dataclass(frozen=True)
class ArrayChoice:
    """What the user has chosen.

    Args:
        name, association: The one array, see `vtk_bridge.choose_array`.
        several: The chosen arrays as (name, "point" or "cell"); (): the one.
        transform: Of the values, for all arrays: "auto", "identity", "log" or "asinh".
    """

    name: str | None
    association: str | None
    several: tuple[tuple[str, str], ...] = ()
    transform: str = "auto"

    def of_data_set(self, data) -> list[tuple]:
        """(vtkDataArray, name, association) of the chosen arrays. Raises FieldError when one is not there."""
        if not self.several:
            return [vtk_bridge.choose_array(data, self.name, self.association)]
        return [vtk_bridge.choose_array(data, *chosen) for chosen in self.several]

    def among(self, available: list) -> list[tuple[str, str]]:
        """(name, association) of the chosen ones, `available` being what all parts of a mesh have; without a name the first.

        Whether a part lacks one is seen where they are looked up. Raises FieldError when none is named and there is none.
        """
        if self.several:
            return list(self.several)
        names = [(array.name, array.association) for array in available]
        found = next((n for n in names if self._matches(*n)), None)
        if found is None and not self.name:
            raise FieldError("TargetArray: expected an array with numbers and a name that all parts of the input have, found none")
        return [found or (self.name, self.association or "point")]

    def _matches(self, name: str, association: str) -> bool:
        return self.name in (None, "", name) and self.association in (None, association)

    def specs(self, arrays: list[tuple]) -> tuple[ArraySpec, ...]:
        """Of (name, association, components, numpy type). Raises DataError for a type that is not numeric."""
        for name, _, _, dtype in arrays:
            if dtype.kind not in "iuf":
                raise DataError(f"array {name!r}: expected an integer or floating-point type, found {dtype}")
        return tuple(
            ArraySpec(name, components, dtype.name, association, transform=self.transform)
            for name, association, components, dtype in arrays
        )


def common_type(specs: tuple[ArraySpec, ...], holes: bool = False) -> np.dtype:
    """The type that holds the values of all arrays, and NaN where there are holes."""
    kinds = [np.dtype(spec.dtype) for spec in specs]
    return np.result_type(*kinds, *([np.float32] if holes else []))
