"""Triton: read all grids at points.

Contract of `encoding.encode`, transposed: encoded is (columns, n), so that neighbouring points are neighbours.
One launch for each group of equal grids; a program reads one grid at one block of points, blocks of one grid run next
to each other, so that the grid stays in the cache. Weights along an axis vanish at nodes that do not exist, which is
the zero padding; a global lattice clamps the position instead. Gradients: `triton_encode_backward.py`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..network.encoding import GridTable

HALF_MAX = tl.constexpr(65504.0)


@triton.jit
def saturate(value, HALF: tl.constexpr):
    """Clamp to the half range when HALF; NaN stays NaN."""
    if HALF:
        value = tl.where(value > HALF_MAX, HALF_MAX, tl.where(value < -HALF_MAX, -HALF_MAX, value))
    return value


@triton.jit
def pick(low, middle, high, WHICH: tl.constexpr):
    """One of three by a constant."""
    if WHICH == 0:
        result = low
    elif WHICH == 1:
        result = middle
    else:
        result = high
    return result


@triton.jit
def clamp_unit(position):
    """Into [-1, 1]."""
    return tl.minimum(tl.maximum(position, -1.0), 1.0)


@triton.jit
def node_scale(resolution, placed, QUADRATIC: tl.constexpr):
    """(scale, shift) of node = (position + 1) * scale + shift; a lattice read by quadratics reaches half a node on."""
    scale = 0.5 * (resolution - 1.0)
    shift = scale * 0.0
    if QUADRATIC:
        shift = tl.where(resolution > 1, 0.5 * (1.0 - placed), 0.0)
        scale = scale - shift
    return scale, shift


@triton.jit
def axis_taps(position, resolution, placed, QUADRATIC: tl.constexpr):
    """Nodes and weights along one axis: positions of any shape -> (first node, 3 weights, 3 slopes) of that shape.

    Linear reads the first two. A node that does not exist weighs nothing. Slopes are d weight / d position.
    """
    scale, shift = node_scale(resolution, placed, QUADRATIC)
    node = tl.minimum(tl.maximum((position + 1.0) * scale + shift, -3.0), resolution + 2.0)
    if QUADRATIC:
        centre = tl.floor(node + 0.5)
        t = node - centre
        first = centre.to(tl.int32) - 1
        low, high = 0.5 * (0.5 - t) * (0.5 - t), 0.5 * (0.5 + t) * (0.5 + t)
        middle = tl.where(resolution == 1, 1.0, 0.75 - t * t)
        d_low, d_middle, d_high = (t - 0.5) * scale, -2.0 * t * scale, (t + 0.5) * scale
    else:
        left = tl.floor(node)
        t = node - left
        first = left.to(tl.int32)
        low, middle, high = 1.0 - t, t, t * 0.0
        d_low, d_middle, d_high = t * 0.0 - scale, t * 0.0 + scale, t * 0.0
    has_low = (first >= 0) & (first < resolution)
    has_middle = (first >= -1) & (first < resolution - 1)
    has_high = (first >= -2) & (first < resolution - 2)
    low, d_low = tl.where(has_low, low, 0.0), tl.where(has_low, d_low, 0.0)
    middle, d_middle = tl.where(has_middle, middle, 0.0), tl.where(has_middle, d_middle, 0.0)
    high, d_high = tl.where(has_high, high, 0.0), tl.where(has_high, d_high, 0.0)
    return first, low, middle, high, d_low, d_middle, d_high


@triton.jit
def node_index(first, STEP: tl.constexpr, resolution):
    """Index of a tap along an axis, inside the grid in any case."""
    return tl.minimum(tl.maximum(first + STEP, 0), resolution - 1)


@triton.jit
def local_positions(transforms, grid, x, y, z, PLACED: tl.constexpr):
    """Normalised -> local coordinates of one grid; lattices clamp to the domain."""
    if PLACED:
        row = transforms + grid * 12
        u = tl.load(row) * x + tl.load(row + 1) * y + tl.load(row + 2) * z + tl.load(row + 3)
        v = tl.load(row + 4) * x + tl.load(row + 5) * y + tl.load(row + 6) * z + tl.load(row + 7)
        w = tl.load(row + 8) * x + tl.load(row + 9) * y + tl.load(row + 10) * z + tl.load(row + 11)
    else:
        u, v, w = clamp_unit(x), clamp_unit(y), clamp_unit(z)
    return u, v, w


@triton.jit(do_not_specialize=["rx", "ry", "rz"])
def encode_kernel(
    features, transforms, points, encoded, n, rx, ry, rz,
    F: tl.constexpr, FP: tl.constexpr, PLACED: tl.constexpr, QUADRATIC: tl.constexpr, HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """encoded[g * F + f, p] for all grids g of a group; a program has one g and BLOCK points. FP: F padded."""
    blocks = tl.cdiv(n, BLOCK)
    grid = tl.program_id(0) // blocks
    p = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    alive = p < n
    x = tl.load(points + 3 * p, mask=alive, other=0.0)
    y = tl.load(points + 3 * p + 1, mask=alive, other=0.0)
    z = tl.load(points + 3 * p + 2, mask=alive, other=0.0)
    u, v, w = local_positions(transforms, grid, x, y, z, PLACED)
    first_x, x0, x1, x2, _, _, _ = axis_taps(u, rx, PLACED, QUADRATIC)
    first_y, y0, y1, y2, _, _, _ = axis_taps(v, ry, PLACED, QUADRATIC)
    first_z, z0, z1, z2, _, _, _ = axis_taps(w, rz, PLACED, QUADRATIC)
    f = tl.arange(0, FP)
    size = rx * ry * rz
    rows = features + grid.to(tl.int64) * (size * F) + (f * size)[:, None]
    result = tl.zeros([FP, BLOCK], tl.float32)
    WIDTH: tl.constexpr = 3 if QUADRATIC else 2
    for k in tl.static_range(WIDTH):
        for j in tl.static_range(WIDTH):
            line = (node_index(first_z, k, rz) * ry + node_index(first_y, j, ry)) * rx
            weight_zy = pick(z0, z1, z2, k) * pick(y0, y1, y2, j)
            for i in tl.static_range(WIDTH):
                weight = weight_zy * pick(x0, x1, x2, i)
                index = line + node_index(first_x, i, rx)
                mask = (f < F)[:, None] & (alive & (weight != 0.0))[None, :]
                result += tl.load(rows + index[None, :], mask=mask, other=0.0) * weight[None, :]
    column = (grid * F + f).to(tl.int64)
    target = encoded + column[:, None] * n + p[None, :]
    result = saturate(result, HALF).to(encoded.dtype.element_ty)
    tl.store(target, result, mask=(f < F)[:, None] & alive[None, :])


def launch_shape(entry, n: int, count: int) -> tuple[tuple[int], dict]:
    """Launch grid and constants of a group."""
    padded = triton.next_power_of_2(entry.features)
    block = min(max(256 // padded, 16), 128)
    constants = {
        "F": entry.features, "FP": padded, "PLACED": int(entry.placed),
        "QUADRATIC": entry.interpolation == "quadratic", "BLOCK": block,
    }  # fmt: skip
    return (triton.cdiv(n, block) * count,), constants


def encode(table: GridTable, features, transforms, points, dtype=torch.float32) -> torch.Tensor:
    """(table.columns, n) of points (n, 3), in float32 or (saturating) float16. No autograd."""
    n = len(points)
    encoded = torch.empty(table.columns, n, dtype=dtype, device=points.device)
    for group in table.groups if n else ():
        grid, constants = launch_shape(group.entry, n, group.count)
        encode_kernel[grid](
            features[group.block], transforms[group.transforms] if group.entry.placed else points, points,
            encoded[group.columns], n, *group.entry.resolution, HALF=dtype == torch.float16, **constants,
        )  # fmt: skip
    return encoded
