"""The bits that features take when they are rounded: what rounding is while they are learned, and how the bits change with them.

- A feature f is stored as the whole number q = round(f / s), s the rounding step. -log2 P(q) bits, P of a Laplace distribution of
  some scale b: P(q) = F(q + 1/2) - F(q - 1/2) with the cumulative distribution F(x) = 1 - exp(-x / b) / 2 for x >= 0.
- While they are learned, noise s * u stands for rounding, u uniform in [-1/2, 1/2): the bits then have slopes everywhere.

Source: Balle, Laparra and Simoncelli 2017 (ICLR, arXiv:1611.01704), equations 9 to 13. The noise: `lowbias32` of the index and a
seed (C. Wellons 2018, "Prospecting for hash functions"), the upper 24 bits.
"""

from __future__ import annotations

import math

import numpy as np
import torch

WORD = 0xFFFFFFFF
AROUND = 0.7  # of a feature's scale: that of the 27 nodes around; the rest is that of its grid
LEAST_SCALE = 0.05
LEAST_PROBABILITY = 1e-9


def hashed(number: torch.Tensor) -> torch.Tensor:
    """lowbias32 of whole numbers (int64, below 2^32)."""
    number = (number ^ number >> 16) * 0x7FEB352D & WORD
    number = (number ^ number >> 15) * 0x846CA68B & WORD
    return number ^ number >> 16


def seed_of(seed: int, step: int) -> int:
    """Of the noise of a step."""
    return int(hashed(torch.tensor((seed * 0x9E3779B1 + step * 0x85EBCA6B) & WORD)))


def disturb(features: torch.Tensor, step: float, seed: int | None) -> torch.Tensor:
    """Features (n,) as the network sees them: with noise of a seed, or with None rounded."""
    if seed is None:
        return torch.round(features / step) * step
    index = torch.arange(features.numel(), device=features.device)
    uniform = (hashed(index + seed & WORD) >> 8).to(features.dtype) * 2.0**-24
    return features + step * (uniform - 0.5)


def add_bit_slopes(gradient: torch.Tensor, features: torch.Tensor, scales: torch.Tensor, step: float, weight: float) -> None:
    """Add weight * d bits / d feature in place, all (n,); scales are in rounding steps."""
    number, inverse = features / step, 1 / scales
    size = number.abs()
    low, high = torch.exp(-(size + 0.5) * inverse), torch.exp((size - 0.5).clamp(max=0.0) * inverse)
    within = 0.5 * inverse * (high - low) / (1 - 0.5 * (low + high)).clamp(min=LEAST_PROBABILITY)
    slope = torch.where(size < 0.5, within, inverse)  # beyond, the probability falls as the density does
    gradient.add_(slope * torch.sign(number), alpha=weight / (step * math.log(2)))


def expected_bits(features: torch.Tensor, scales: torch.Tensor, step: float) -> float:
    """Of rounded features (n,)."""
    number, inverse = torch.round(features / step).abs(), 1 / scales
    beyond = 0.5 * (torch.exp(-(number - 0.5) * inverse) - torch.exp(-(number + 0.5) * inverse))
    probability = torch.where(number < 0.5, 1 - torch.exp(-0.5 * inverse), beyond)
    bits = -torch.log2(probability.clamp(min=LEAST_PROBABILITY))
    return float(bits.numpy().sum(dtype=np.float64) if bits.device.type == "cpu" else bits.double().sum())


def scales_around(table, features: torch.Tensor, step: float) -> torch.Tensor:
    """(n,) scale of each feature, in rounding steps: a mean of the sizes of those around it and in its grid.

    Args:
        table: The network's `GridTable`.
    """
    scales = torch.empty_like(features)
    for group in table.groups:
        size = (group.features(features) / step).abs()
        around = _sums_around(size) / _sums_around(torch.ones_like(size[:1, :1]))
        scale = AROUND * around + (1 - AROUND) * _means(size) + LEAST_SCALE
        scales[group.block] = scale.reshape(-1)
    return scales


def _means(values: torch.Tensor) -> torch.Tensor:
    """(n, c, 1, 1, 1) of (n, c, z, y, x). On a CPU by numpy: torch adds up in as many parts as it has threads, and so the last bits of a
    model would depend on them."""
    if values.device.type != "cpu":
        return values.mean((2, 3, 4), keepdim=True)
    return torch.from_numpy(values.numpy().mean((2, 3, 4), keepdims=True))


def _sums_around(values: torch.Tensor) -> torch.Tensor:
    """(n, c, z, y, x): of the up to 27 nodes around each."""
    for axis in (2, 3, 4):
        sums, inner = values.clone(), values.shape[axis] - 1
        sums.narrow(axis, 1, inner).add_(values.narrow(axis, 0, inner))
        sums.narrow(axis, 0, inner).add_(values.narrow(axis, 1, inner))
        values = sums
    return values
