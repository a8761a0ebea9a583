"""What a model gives at points: the values of its arrays, their derivatives, and where there are any."""

from __future__ import annotations

import numpy as np

import apmgsrn_core as core
from apmgsrn_core import DataError

from .model_input import chosen_arrays
from .point_values import Values

MASKS = {"point": "vtkValidPointMask", "cell": "vtkValidCellMask"}
# setting -> what it adds, as ParaView's Gradient filter calls it; all but the first are those of vectors
DERIVED = {
    "compute_gradient": "Gradient", "compute_divergence": "Divergence",
    "compute_vorticity": "Vorticity", "compute_q_criterion": "Q Criterion",
}  # fmt: skip


class PointSampler:
    """A function of points.

    Args:
        volume: The `NeuralVolume`.
        settings: Of the filter.
        time: Of the data; None: the first one of the model.

    Raises:
        FieldError: A chosen array is not in the model.
        DataError: What only vectors have is wanted, and none is chosen.
    """

    def __init__(self, volume, settings: dict, time: float | None):
        self._volume, self._time, self._between = volume, time, settings["interpolate_time"]
        self._association = settings["sample_at"]
        self._arrays = chosen_arrays(volume.arrays, settings["arrays"])
        self._derived = [text for setting, text in DERIVED.items() if settings[setting]]
        of_vectors = [text for text in self._derived if text != "Gradient"]
        if of_vectors and not any(array.components == 3 for array in self._arrays):
            listed = ", ".join(f"{array.name} ({array.components})" for array in self._arrays)
            raise DataError(f"{' and '.join(of_vectors)}: expected an array of 3 components, found {listed}")

    def __call__(self, points: np.ndarray) -> Values:
        """(n, 3) world coordinates -> {name: float32 values}, NaN where there are none, and the mask (n,) of 0 and 1."""
        values: Values = {}
        for array in self._arrays:
            if self._derived_of(array):
                values[array.name], jacobian = self._differentiated(points, array)
                for text in self._derived_of(array):
                    values[self._name(array, text)] = _derived(text, jacobian).astype(np.float32)
            else:
                values[array.name] = self._volume.sample_points(points, array.name, self._time, self._between)
        found = [np.isfinite(v).all(axis=tuple(range(1, v.ndim))) for v in values.values()]
        values[MASKS[self._association]] = np.logical_and.reduce(found).astype(np.uint8)
        return values

    def derived_at(self, points: np.ndarray, array) -> Values:
        """(n, 3) world coordinates -> {name: float32} of what is derived from one array; {} when nothing is."""
        wanted = self._derived_of(array)
        if not wanted:
            return {}
        _, jacobian = self._differentiated(points, array)
        return {self._name(array, text): _derived(text, jacobian).astype(np.float32) for text in wanted}

    @property
    def time_of_values(self) -> float | None:
        """The time that the values belong to; None when the model has none."""
        times = self._volume.times
        if not times:
            return None
        step = self._volume.step_at(self._time)
        later = self._between and self._time is not None
        return min(max(self._time, times[step]), times[-1]) if later else times[step]

    def names_beside(self, taken: set) -> dict:
        """{name: what it is called in the output}: an array that the input has keeps its name, ours gets another."""
        taken, names = set(taken), {}
        for array in self._arrays:
            for name in (array.name, *(self._name(array, text) for text in self._derived_of(array))):
                names[name] = _free(name, taken)
                taken.add(names[name])
        return names

    def _derived_of(self, array) -> list[str]:
        return [text for text in self._derived if text == "Gradient" or array.components == 3]

    def _name(self, array, text: str) -> str:
        """Of what is derived from an array: its name stands before it unless it is clear without."""
        alone = len(self._arrays) == 1 and array.name not in DERIVED.values()
        return text if alone else f"{array.name}_{text}"

    def _differentiated(self, points: np.ndarray, array) -> tuple[np.ndarray, np.ndarray]:
        """Values (n,) or (n, components) and Jacobians (n, components, 3)."""
        values, jacobian = self._volume.sample_derivatives(points, array.name, self._time, self._between)
        return values[:, 0] if array.components == 1 else values, jacobian


def _derived(text: str, jacobian: np.ndarray) -> np.ndarray:
    """What a text of DERIVED stands for, (n,) or (n, numbers); a gradient has d/dx, d/dy, d/dz of each component."""
    if text == "Gradient":
        return jacobian.reshape(len(jacobian), 3 * jacobian.shape[1])
    return {"Divergence": core.divergence, "Vorticity": core.vorticity, "Q Criterion": core.q_criterion}[text](jacobian)


def _free(name: str, taken: set) -> str:
    """A name that is not taken: itself, name_reconstruction, name_reconstruction_2, ..."""
    if name not in taken:
        return name
    name = candidate = f"{name}_reconstruction"
    number = 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
