"""Marching rays with the native library (`cpu/march.cpp`). Readable twin: `ray_march.march` with the modes of `ray_modes.py`."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_float, c_int32, c_int64, c_void_p

import numpy as np
import torch

from ..errors import ApmgsrnError

MODES = ("composite", "maximum", "average")
EVERYTHING = torch.zeros(1, dtype=torch.uint8)  # one cell that can be seen


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


class NativeMarch:
    """What pictures of one array of a network are made with.

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

    def march(self, rays, cells, mode) -> int:
        """March rays to their ends into a mode; returns how many values and slopes were evaluated.

        Args:
            rays: A `ray_march.RayBatch` at its first samples.
            cells: A `macrocells.VisibleCells`; None: everything.
            mode: One whose `native` is in MODES.
        """
        count, one = len(rays), cells is None
        bundle = _Rays(count, *(_of(t) for t in (rays.rows, rays.start, rays.along, rays.first, rays.count)))
        far, lengths, highest = (EVERYTHING, None, None) if one else (cells.far, cells.lengths, cells.highest)
        lattice = _Cells((c_int32 * 3)(*((1, 1, 1) if one else cells.counts)), _of(far), _of(lengths), _of(highest))
        if one and mode.native == "maximum":
            highest = torch.full((1,), np.inf)
            lattice.highest = _of(highest)
        look = self._look(mode)
        seen = _Seen(*(_of(tensor) for tensor in (mode.colour, mode.opacity, mode.depth, mode.sums)))
        kernel = self._kernel if mode.light is None else self._kernel.exact
        prepared = kernel.prepare(self._network)
        evaluated = kernel.library.apm_march(prepared.handle, byref(bundle), byref(lattice), byref(look), byref(seen))
        if evaluated < 0:
            raise ApmgsrnError("native kernels: not enough memory to march rays; a smaller most_points needs less")
        return evaluated

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


def _of(tensor: torch.Tensor | None) -> int | None:
    """Address of the numbers of a contiguous tensor."""
    if tensor is not None and not tensor.is_contiguous():
        raise ApmgsrnError("native kernels: expected contiguous tensors of rays")
    return None if tensor is None else tensor.data_ptr()
