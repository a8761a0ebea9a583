"""Triton: grids and MLP in one kernel, for values only: nothing between points and values goes to memory.

A program holds a block of points; it reads KB columns at a time into a tile (columns, points) and multiplies it into
the first layer. Linear grids of any mix of shapes stand in one tile: what a column reads comes from a small table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ..network.encoding import GridTable
from .triton_decoder import PackedDecoder, hidden_to_values
from .triton_encode import axis_taps, clamp_unit, node_index, pick, saturate

MOST_COLUMNS, MOST_LAYERS, MOST_OUTPUTS = 256, 3, 16
TILE = 16  # columns at a time


@dataclass(frozen=True)
class ColumnTable:
    """What each column reads.

    Attributes:
        starts: (KP,) int64, where its values begin in the flat features.
        shapes: (4, KP) int32: resolution x, y, z and the index of the transform, -1 for a lattice.
    """

    starts: torch.Tensor
    shapes: torch.Tensor

    @classmethod
    def of(cls, table: GridTable, device: torch.device) -> "ColumnTable":
        """Padded to a multiple of TILE columns, as `pack` pads them or less."""
        starts, shapes, start, transform = [], [], 0, 0
        for entry in table.entries:
            for feature in range(entry.features):
                starts.append(start + feature * (entry.size // entry.features))
                shapes.append((*entry.resolution, transform if entry.placed else -1))
            start, transform = start + entry.size, transform + entry.placed
        more = -len(starts) % TILE
        columns = torch.tensor(shapes + [(1, 1, 1, -1)] * more, dtype=torch.int32).t().contiguous()
        return cls(torch.tensor(starts + [0] * more).to(device), columns.to(device))


def unsupported(network) -> str:
    """Why the kernel here cannot do this network (that the two kernels can), "" when it can."""
    table = network.table
    if table.columns > MOST_COLUMNS:
        return f"{table.columns} columns, more than {MOST_COLUMNS}"
    if len(network.layers) - 1 > MOST_LAYERS:
        return f"{len(network.layers) - 1} hidden layers, more than {MOST_LAYERS}"
    if len(network.layers[-1].weight) > MOST_OUTPUTS:
        return f"{len(network.layers[-1].weight)} outputs, more than {MOST_OUTPUTS}"
    if any(entry.interpolation != "linear" for entry in table.entries):
        return "quadratic interpolation"  # 27 taps of a tile: spills, and half a minute to compile
    return ""


@triton.jit
def local_axis(transforms, transform, placed, x, y, z, point, AXIS: tl.constexpr):
    """(KB, BLOCK) local coordinates along one axis; `point` is the normalised one along it."""
    row = transforms + transform * 12 + AXIS * 4
    a = tl.load(row, mask=placed, other=0.0)[:, None]
    b = tl.load(row + 1, mask=placed, other=0.0)[:, None]
    c = tl.load(row + 2, mask=placed, other=0.0)[:, None]
    t = tl.load(row + 3, mask=placed, other=0.0)[:, None]
    moved = a * x[None, :] + b * y[None, :] + c * z[None, :] + t
    return tl.where(placed[:, None], moved, clamp_unit(point)[None, :])


@triton.jit
def encoded_tile(
    features, transforms, starts, shapes, k, columns, x, y, z, alive,
    KP: tl.constexpr, KB: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """(KB, BLOCK) encoded features of columns k at the points."""
    rx = tl.load(shapes + k)[:, None]
    ry = tl.load(shapes + KP + k)[:, None]
    rz = tl.load(shapes + 2 * KP + k)[:, None]
    transform = tl.load(shapes + 3 * KP + k)
    placed = transform >= 0
    wide = placed[:, None].to(tl.int32)
    u = local_axis(transforms, transform, placed, x, y, z, x, 0)
    v = local_axis(transforms, transform, placed, x, y, z, y, 1)
    w = local_axis(transforms, transform, placed, x, y, z, z, 2)
    first_x, x0, x1, _, _, _, _ = axis_taps(u, rx, wide, False)
    first_y, y0, y1, _, _, _, _ = axis_taps(v, ry, wide, False)
    first_z, z0, z1, _, _, _, _ = axis_taps(w, rz, wide, False)
    shown = (k < columns)[:, None] & alive[None, :]
    base = features + tl.load(starts + k)[:, None]
    result = tl.zeros([KB, BLOCK], tl.float32)
    for c in tl.static_range(2):
        for b in tl.static_range(2):
            line = (node_index(first_z, c, rz) * ry + node_index(first_y, b, ry)) * rx
            weight_zy = pick(z0, z1, z1, c) * pick(y0, y1, y1, b)
            for a in tl.static_range(2):
                weight = weight_zy * pick(x0, x1, x1, a)
                index = line + node_index(first_x, a, rx)
                result += tl.load(base + index, mask=shown & (weight != 0.0), other=0.0) * weight
    return result


@triton.jit
def network_kernel(
    features, transforms, starts, shapes, points, first, hidden, last, skip, biases, values, n, columns, outputs,
    KT: tl.constexpr, KP: tl.constexpr, KB: tl.constexpr, H: tl.constexpr, CP: tl.constexpr, LAYERS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """points (n, 3) -> values (n, outputs). KT: columns of the table, KP: of the packed weights."""
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    alive = p < n
    at = points + 3 * p.to(tl.int64)
    x = tl.load(at, mask=alive, other=0.0)
    y = tl.load(at + 1, mask=alive, other=0.0)
    z = tl.load(at + 2, mask=alive, other=0.0)
    row, c = tl.arange(0, H), tl.arange(0, CP)
    total = tl.zeros([H, BLOCK], tl.float32)
    direct = tl.zeros([CP, BLOCK], tl.float32)
    for start in range(0, KT, KB):
        k = start + tl.arange(0, KB)
        tile = encoded_tile(
            features, transforms, starts, shapes, k, columns, x, y, z, alive, KT, KB, BLOCK
        )
        tile = saturate(tile, HALF).to(first.dtype.element_ty)
        total = tl.dot(tl.load(first + row[:, None] * KP + k[None, :]), tile, total, input_precision="ieee")
        if SKIP:
            direct = tl.dot(tl.load(skip + c[:, None] * KP + k[None, :]), tile, direct, input_precision="ieee")
    hidden_to_values(
        total, direct, hidden, last, biases, values, values, p, n, outputs, H, CP, LAYERS, BIAS, False, HALF
    )


def evaluate(columns: ColumnTable, packed: PackedDecoder, features, transforms, points) -> torch.Tensor:
    """(n, outputs) float32 at points (n, 3). No autograd."""
    n = len(points)
    values = torch.empty(n, packed.outputs, device=points.device)
    if n:
        unused = packed.last
        constants = {**packed.constants, "KB": TILE, "num_warps": 8, "num_stages": 1}
        network_kernel[packed.blocks(n)](
            features, transforms if len(transforms) else points, columns.starts, columns.shapes, points,
            packed.first, packed.hidden, packed.last, unused if packed.skip is None else packed.skip,
            unused if packed.biases is None else packed.biases, values, n, packed.columns, packed.outputs,
            KT=len(columns.starts), BIAS=packed.biases is not None, **constants,
        )  # fmt: skip
    return values
