"""Triton: gradients of reading the grids, for features, transforms and points. Forward: `triton_encode.py`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..network.encoding import GridTable
from .triton_encode import HALF_MAX, axis_taps, launch_shape, local_positions, node_index, pick, saturate


@triton.jit
def add_transform_gradient(target, x, y, z, du, dv, dw):
    """Sum of d local (row) times (x, y, z, 1) (column) over the block, added to one (3, 4) gradient."""
    for row in tl.static_range(3):
        slope = pick(du, dv, dw, row)
        tl.atomic_add(target + row * 4, tl.sum(slope * x, axis=0), sem="relaxed")
        tl.atomic_add(target + row * 4 + 1, tl.sum(slope * y, axis=0), sem="relaxed")
        tl.atomic_add(target + row * 4 + 2, tl.sum(slope * z, axis=0), sem="relaxed")
        tl.atomic_add(target + row * 4 + 3, tl.sum(slope, axis=0), sem="relaxed")


@triton.jit
def add_point_gradient(target, row, x, y, z, du, dv, dw, mask, PLACED: tl.constexpr, QUADRATIC: tl.constexpr):
    """d local -> d point, added to (BLOCK, 3). Beyond the domain a lattice is constant.

    On its border too when read linearly, as `grid_sample` has it.
    """
    if PLACED:
        dx = tl.load(row) * du + tl.load(row + 4) * dv + tl.load(row + 8) * dw
        dy = tl.load(row + 1) * du + tl.load(row + 5) * dv + tl.load(row + 9) * dw
        dz = tl.load(row + 2) * du + tl.load(row + 6) * dv + tl.load(row + 10) * dw
    elif QUADRATIC:
        dx = tl.where(tl.abs(x) <= 1, du, 0.0)
        dy = tl.where(tl.abs(y) <= 1, dv, 0.0)
        dz = tl.where(tl.abs(z) <= 1, dw, 0.0)
    else:
        dx = tl.where(tl.abs(x) < 1, du, 0.0)
        dy = tl.where(tl.abs(y) < 1, dv, 0.0)
        dz = tl.where(tl.abs(z) < 1, dw, 0.0)
    tl.atomic_add(target, dx, mask=mask, sem="relaxed")
    tl.atomic_add(target + 1, dy, mask=mask, sem="relaxed")
    tl.atomic_add(target + 2, dz, mask=mask, sem="relaxed")


@triton.jit
def guarded(gradient, nonfinite, HALF: tl.constexpr):
    """A tile in float32. With HALF: entries beyond the half range are clamped, NaN becomes 0; both are counted."""
    gradient = gradient.to(tl.float32)
    if HALF:
        good = tl.abs(gradient) < HALF_MAX  # false for NaN
        bad = tl.sum(tl.sum((1 - good.to(tl.int32)), axis=1), axis=0)
        if bad > 0:
            tl.atomic_add(nonfinite, bad, sem="relaxed")
        gradient = tl.where(gradient == gradient, saturate(gradient, HALF), 0.0)
    return gradient


@triton.jit(do_not_specialize=["rx", "ry", "rz"])
def encode_backward_kernel(
    features, transforms, points, gradient, scale, nonfinite, to_features, to_transforms, to_points, n, rx, ry, rz,
    F: tl.constexpr, FP: tl.constexpr, PLACED: tl.constexpr, QUADRATIC: tl.constexpr, HALF: tl.constexpr,
    FEATURES: tl.constexpr, TRANSFORMS: tl.constexpr, POINTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add scale * gradient[g * F + f, p] to the gradients of features, transforms (g, 3, 4), points (n, 3)."""
    blocks = tl.cdiv(n, BLOCK)
    grid = tl.program_id(0) // blocks
    p = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    alive = p < n
    x = tl.load(points + 3 * p, mask=alive, other=0.0)
    y = tl.load(points + 3 * p + 1, mask=alive, other=0.0)
    z = tl.load(points + 3 * p + 2, mask=alive, other=0.0)
    f = tl.arange(0, FP)
    shown = (f < F)[:, None] & alive[None, :]
    column = (grid * F + f).to(tl.int64)
    g = tl.load(gradient + column[:, None] * n + p[None, :], mask=shown, other=0.0)
    g = guarded(g, nonfinite, HALF) * tl.load(scale)
    u, v, w = local_positions(transforms, grid, x, y, z, PLACED)
    first_x, x0, x1, x2, dx0, dx1, dx2 = axis_taps(u, rx, PLACED, QUADRATIC)
    first_y, y0, y1, y2, dy0, dy1, dy2 = axis_taps(v, ry, PLACED, QUADRATIC)
    first_z, z0, z1, z2, dz0, dz1, dz2 = axis_taps(w, rz, PLACED, QUADRATIC)
    size = rx * ry * rz
    start = grid.to(tl.int64) * (size * F) + (f * size)[:, None]
    SLOPES: tl.constexpr = POINTS or (TRANSFORMS and PLACED)
    du, dv, dw = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    WIDTH: tl.constexpr = 3 if QUADRATIC else 2
    for k in tl.static_range(WIDTH):
        for j in tl.static_range(WIDTH):
            line = (node_index(first_z, k, rz) * ry + node_index(first_y, j, ry)) * rx
            wz, wy = pick(z0, z1, z2, k), pick(y0, y1, y2, j)
            for i in tl.static_range(WIDTH):
                wx = pick(x0, x1, x2, i)
                index = line + node_index(first_x, i, rx)
                weight = wz * wy * wx
                if FEATURES:
                    mask = shown & (weight != 0.0)[None, :]
                    tl.atomic_add(to_features + start + index[None, :], g * weight[None, :], mask=mask, sem="relaxed")
                if SLOPES:
                    along = tl.sum(tl.load(features + start + index[None, :], mask=shown, other=0.0) * g, axis=0)
                    du += along * pick(dx0, dx1, dx2, i) * wy * wz
                    dv += along * pick(dy0, dy1, dy2, j) * wx * wz
                    dw += along * pick(dz0, dz1, dz2, k) * wx * wy
    if TRANSFORMS and PLACED:
        add_transform_gradient(to_transforms + grid * 12, x, y, z, du, dv, dw)
    if POINTS:
        row = transforms + grid * 12
        add_point_gradient(to_points + 3 * p, row, x, y, z, du, dv, dw, alive, PLACED, QUADRATIC)


def encode_backward(
    table: GridTable, features, transforms, points, gradient, scale, nonfinite,
    to_features=None, to_transforms=None, to_points=None,
) -> None:  # fmt: skip
    """Add scale * gradient (columns, n) to the float32 targets that are given, each shaped as what it is for.

    Args:
        scale: One float32 on the device.
        nonfinite: One int32 on the device: counts entries of float16 gradients that were saturated or not finite.
    """
    n = len(points)
    for group in table.groups if n else ():
        placed = group.entry.placed
        if to_features is None and to_points is None and not placed:
            continue
        grid, constants = launch_shape(group.entry, n, group.count)
        encode_backward_kernel[grid](
            features[group.block], transforms[group.transforms] if placed else points, points, gradient[group.columns],
            scale, nonfinite, features if to_features is None else to_features[group.block],
            to_transforms[group.transforms] if placed and to_transforms is not None else points,
            points if to_points is None else to_points, n, *group.entry.resolution,
            HALF=gradient.dtype == torch.float16, FEATURES=to_features is not None,
            TRANSFORMS=to_transforms is not None, POINTS=to_points is not None, **constants,
        )  # fmt: skip
