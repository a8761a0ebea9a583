"""Batches by the native library: values of the data at random positions. Readable twin: `Sampler.gather`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_uint64, c_void_p

import numpy as np

from .cpu_library import load
from .threads import thread_count

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
MOST_COMPONENTS = 1024


class _Array(Structure):
    _fields_ = [
        ("values", c_void_p), ("type", c_int32), ("components", c_int32), ("dims", c_int64 * 3),
        ("strides", c_int64 * 4), ("minimum", c_double), ("span", c_double),
    ]  # fmt: skip


class _Draw(Structure):
    _fields_ = [
        ("blocks", c_int32 * 3), ("continuous", c_int32), ("picked", c_int64), ("picks", c_void_p),
        ("cumulative", c_void_p), ("probability", c_void_p),
    ]  # fmt: skip


class NativeBatches:
    """Gathers batches of one array.

    Args:
        data: A FieldData; `supports` says whether its type is known here.
        blocks: Of the error map along x, y, z.
        continuous: Any position, interpolated, instead of the data's own values.
    """

    def __init__(self, data, blocks, continuous: bool):
        self._library = load()[0]
        self._library.apm_draw.argtypes = [POINTER(_Array), POINTER(_Draw), *[c_void_p] * 1, c_int64, *[c_void_p] * 4, ctypes.c_int]
        self._library.apm_draw.restype = None
        self._library.apm_random.argtypes = [c_uint64, c_uint64, c_int64, c_void_p, ctypes.c_int]
        self._library.apm_random.restype = None
        self._values = data.values
        strides = [data.values.strides[a] for a in (2, 1, 0, 3)]
        self._array = _Array(
            data.values.ctypes.data, TYPES.index(data.values.dtype.name), data.components, (c_int64 * 3)(*data.dims),
            (c_int64 * 4)(*strides), data.minimum, data.span,
        )  # fmt: skip
        self._draw = _Draw((c_int32 * 3)(*map(int, blocks)), continuous)

    @staticmethod
    def supports(data) -> bool:
        """Whether the library reads values of this type."""
        native = data.values.dtype.isnative and data.values.dtype.name in TYPES
        return native and data.components <= MOST_COMPONENTS

    def random(self, seed: int, first: int, count: int) -> np.ndarray:
        """See `sampler.random_numbers`."""
        numbers = np.empty(count)
        self._library.apm_random(seed, first, count, numbers.ctypes.data, thread_count())
        return numbers

    def gather(self, unit: np.ndarray, picks: np.ndarray | None, cumulative, probability):
        """See `Sampler.gather`."""
        n, draw = len(unit), self._draw
        points, targets = np.empty((n, 3), np.float32), np.empty((n, self._array.components), np.float32)
        weights, blocks = np.empty((n, 1), np.float32), np.empty(n, np.int64)
        draw.picked = 0 if picks is None else len(picks)
        draw.picks = None if picks is None else picks.ctypes.data
        draw.cumulative = None if picks is None else cumulative.ctypes.data
        draw.probability = None if picks is None else probability.ctypes.data
        self._library.apm_draw(
            self._array, draw, unit.ctypes.data, n, points.ctypes.data, targets.ctypes.data, weights.ctypes.data,
            blocks.ctypes.data, thread_count(),
        )  # fmt: skip
        return points, targets, weights, blocks
