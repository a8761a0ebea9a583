"""Triton: products of all points with themselves, which are the gradients of weights."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .triton_decoder import padded
from .triton_encode import saturate

MOST_SPLITS = 64  # of the points over programs


@triton.jit
def guarded_sum(total, nonfinite, HALF: tl.constexpr):
    """Sums in float32; with HALF those that are not finite become 0 and are counted."""
    if HALF:
        good = tl.abs(total) < float("inf")
        bad = tl.sum(tl.sum((1 - good.to(tl.int32)), axis=1), axis=0)
        if bad > 0:
            tl.atomic_add(nonfinite, bad, sem="relaxed")
        total = tl.where(good, total, 0.0)
    return total


@triton.jit
def outer_kernel(
    left, right, to_weight, to_bias, scale, nonfinite, n, rows, columns, left_row, left_point, span,
    BIAS: tl.constexpr, HALF: tl.constexpr, RB: tl.constexpr, CB: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """to_weight (rows, columns) += scale * left @ right.T over `span` points; to_bias (rows,) += scale * sum of left.

    left[r, p] lies at r * left_row + p * left_point, right is (columns, n).
    """
    r = tl.program_id(0) * RB + tl.arange(0, RB)
    k = tl.program_id(1) * CB + tl.arange(0, CB)
    total = tl.zeros([RB, CB], tl.float32)
    sums = tl.zeros([RB, BLOCK], tl.float32)
    begin = tl.program_id(2) * span
    for start in range(begin, tl.minimum(begin + span, n), BLOCK):
        p = (start + tl.arange(0, BLOCK)).to(tl.int64)
        a_place = left + r[:, None].to(tl.int64) * left_row + p[None, :] * left_point
        a = tl.load(a_place, mask=(r < rows)[:, None] & (p < n)[None, :], other=0.0)
        b_place = right + k[:, None].to(tl.int64) * n + p[None, :]
        b = tl.load(b_place, mask=(k < columns)[:, None] & (p < n)[None, :], other=0.0)
        if HALF:
            a = tl.where(a == a, saturate(a, HALF), 0.0)
        a = a.to(right.dtype.element_ty)
        total = tl.dot(a, tl.trans(b), total, input_precision="ieee")
        if BIAS:
            sums += a.to(tl.float32)
    factor = tl.load(scale)
    total = guarded_sum(total, nonfinite, HALF) * factor
    mask = (r < rows)[:, None] & (k < columns)[None, :]
    tl.atomic_add(to_weight + r[:, None] * columns + k[None, :], total, mask=mask, sem="relaxed")
    if BIAS:
        if tl.program_id(1) == 0:
            sums = guarded_sum(sums, nonfinite, HALF)
            tl.atomic_add(to_bias + r, tl.sum(sums, axis=1) * factor, mask=r < rows, sem="relaxed")


def add_outer(left, right, points_first: bool, scale, nonfinite, to_weight, to_bias=None) -> None:
    """to_weight (rows, columns) += scale * left @ right.T, to_bias (rows,) += scale * sum of left, all float32.

    Args:
        left: (rows or more, n), or (n, rows) when `points_first`.
        right: (columns or more, n), in the type of the products.
    """
    n = right.shape[-1]
    rows, columns = to_weight.shape
    half = right.dtype == torch.float16
    block, tile_rows, tile_columns = 64 if half else 32, min(padded(rows), 64), min(padded(columns), 64)
    span = triton.cdiv(triton.cdiv(n, MOST_SPLITS), block) * block
    grid = (triton.cdiv(rows, tile_rows), triton.cdiv(columns, tile_columns), triton.cdiv(n, span))
    stride_row, stride_point = (1, rows) if points_first else (n, 1)
    outer_kernel[grid](
        left, right, to_weight, to_weight if to_bias is None else to_bias, scale, nonfinite, n, rows, columns,
        stride_row, stride_point, span, BIAS=to_bias is not None, HALF=half, RB=tile_rows, CB=tile_columns, BLOCK=block,
        num_warps=8, num_stages=2,
    )  # fmt: skip
