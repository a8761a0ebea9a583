"""Marching rays with the native library (`cpu/march.cpp`). Readable twin: `ray_march.march` with the modes of `ray_modes.py`."""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_float, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ApmgsrnError, MemoryShortage
from .threads import thread_count

MODES = ("composite", "maximum", "average")


class _Rays(Structure):
    _fields_ = [("count", c_int64)] + [(name, c_void_p) for name in ("rows", "start", "along", "first", "steps")]


class _Cells(Structure):
    _fields_ = [("counts", c_int32 * 3)] + [(name, c_void_p) for name in ("far", "lengths", "highest")]


class _Look(Structure):
    _fields_ = [
        ("mode", c_int32), ("column", c_int32), ("scale", c_float * 3), ("offset", c_float * 3), ("slopes", c_float * 9),
        ("table", c_void_p), ("rows", c_int32), ("table_first", c_float), ("rows_per_value", c_float), ("exponent", c_float),
        ("limit", c_float), ("directions", c_void_p), ("ambient", c_float), ("diffuse", c_float), ("specular", c_float),
        ("power", c_float),
    ]  # fmt: skip


class _Seen(Structure):
    _fields_ = [(name, c_void_p) for name in ("colour", "opacity", "depth", "sums")]


_EVALUATE = CFUNCTYPE(c_int, POINTER(c_float), c_int64, POINTER(c_float), POINTER(c_float))


class FieldMarch:
    """What marches rays through any `ray_field.RayField` on the CPU.

    Args:
        library: The native one.
    """

    def __init__(self, library, field):
        self._library, self._field = library, field
        self._column, self._numbers = 0, ([1.0] * 3, [0.0] * 3, np.eye(3).ravel().tolist())
        structures = (POINTER(kind) for kind in (_Rays, _Cells, _Look, _Seen))
        library.apm_march_field.argtypes = [_EVALUATE, c_int, *structures]
        library.apm_march_field.restype = c_int64

    def march(self, rays, cells, mode) -> int:
        """March rays to their ends into a mode; returns how many values and slopes were evaluated.

        Args:
            rays: A `ray_march.RayBatch` at its first samples.
            cells: A `macrocells.VisibleCells`; None: everything.
            mode: One whose `native` is in MODES.
        """
        if not len(rays):
            return 0
        everything = _everything() if cells is None else cells
        bundle = _Rays(len(rays), *(_of(t) for t in (rays.rows, rays.start, rays.along, rays.first, rays.count)))
        tables = (_of(t) for t in (everything.far, everything.lengths, everything.highest))
        lattice, look = _Cells((c_int32 * 3)(*everything.counts), *tables), self._look(mode)
        seen = _Seen(*(_of(tensor) for tensor in (mode.colour, mode.opacity, mode.depth, mode.sums)))
        evaluated = self._call(mode, byref(bundle), byref(lattice), byref(look), byref(seen))
        if evaluated < 0:
            raise MemoryShortage("native kernels: not enough memory to march rays; a smaller most_points needs less")
        return evaluated

    def _call(self, mode, *structures) -> int:
        caught = []

        def evaluate(points, count, values, slopes) -> int:
            try:
                self._evaluate(points, count, values, slopes)
            except BaseException as error:  # raised again below: it cannot pass through C
                caught.append(error)
            return len(caught)

        evaluated = self._library.apm_march_field(_EVALUATE(evaluate), thread_count(), *structures)
        if caught:
            raise caught[0]
        return evaluated

    def _evaluate(self, points, count: int, values, slopes) -> None:
        found = torch.from_numpy(np.ctypeslib.as_array(points, (count, 3)))
        if slopes:
            np.ctypeslib.as_array(slopes, (count, 3))[:] = self._field.gradients(found).numpy()
        else:
            np.ctypeslib.as_array(values, (count,))[:] = self._field.values(found).numpy()

    def _look(self, mode) -> _Look:
        look = _Look(MODES.index(mode.native), self._column)
        look.scale[:], look.offset[:], look.slopes[:] = self._numbers
        table, light = mode.table, mode.light
        look.table, look.rows, look.exponent, look.limit = _of(table.rows), len(table.rows), table.exponent, mode.limit
        look.table_first, look.rows_per_value = table.first, table.rows_per_value
        if light is not None:
            look.directions = _of(light.directions)
            look.ambient, look.diffuse, look.specular, look.power = light.numbers
        return look


class NativeMarch(FieldMarch):
    """The same through one array of a network, without a way through Python.

    Args:
        kernel: The `cpu.NativeKernel` of the network.
        column: Of the outputs.
        scale, offset: (3,) from box to normalised coordinates.
        slopes: (3, 3) d normalised / d world.
    """

    def __init__(self, kernel, network, column: int, scale: torch.Tensor, offset: torch.Tensor, slopes: torch.Tensor):
        self._kernel, self._network = kernel, network
        self._column, self._numbers = column, [numbers.reshape(-1).tolist() for numbers in (scale, offset, slopes)]
        kernel.library.apm_march.argtypes = [c_void_p, *(POINTER(kind) for kind in (_Rays, _Cells, _Look, _Seen))]
        kernel.library.apm_march.restype = c_int64

    def _call(self, mode, *structures) -> int:
        kernel = self._kernel if mode.light is None else self._kernel.exact
        prepared = kernel.prepare(self._network)
        return kernel.library.apm_march(prepared.handle, *structures)


class _Everything(NamedTuple):
    """One cell that can be seen, as `macrocells.VisibleCells`."""

    counts: tuple[int, int, int]
    far: torch.Tensor
    highest: torch.Tensor
    lengths: None


def _everything() -> _Everything:
    return _Everything((1, 1, 1), torch.zeros(1, dtype=torch.uint8), torch.full((1,), torch.inf), None)


def _of(tensor: torch.Tensor | None) -> int | None:
    """Address of the numbers of a contiguous tensor."""
    if tensor is not None and not tensor.is_contiguous():
        raise ApmgsrnError("native kernels: expected contiguous tensors of rays")
    return None if tensor is None else tensor.data_ptr()
