"""The bits of rounded features: noise, slopes, scales; every path of the native kernel against the readable twin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import LatticeConfig, ModelConfig
from apmgsrn_core.kernels import cpu_library
from apmgsrn_core.kernels.cpu import NativeKernel
from apmgsrn_core.network.encoding import GridTable
from apmgsrn_core.network.feature_bits import add_bit_slopes, disturb, expected_bits, scales_around, seed_of

STEP = 0.25


def some(count, seed=0):
    """Features of a few steps, many of them near zero, and scales."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, generator=generator) * torch.rand(count, generator=generator) * 4 * STEP
    return features, torch.rand(count, generator=generator) * 3 + 0.05


def test_noise_is_uniform_and_of_its_seed():
    zero = torch.zeros(100_000)
    noise = disturb(zero, STEP, seed_of(0, 1)) / STEP
    assert -0.5 <= float(noise.min()) < -0.4999 and 0.4999 < float(noise.max()) < 0.5
    assert abs(float(noise.mean())) < 3e-3 and float(noise.var()) == pytest.approx(1 / 12, rel=0.01)
    counts = np.histogram(noise.numpy(), 20, (-0.5, 0.5))[0]
    assert abs(counts - 5000).max() < 350  # five standard deviations
    lagged = torch.corrcoef(torch.stack([noise[1:], noise[:-1]]))[0, 1]
    other = disturb(zero, STEP, seed_of(0, 2)) / STEP
    assert abs(float(lagged)) < 0.015 and abs(float(torch.corrcoef(torch.stack([noise, other]))[0, 1])) < 0.015
    assert torch.equal(disturb(zero, STEP, seed_of(0, 1)) / STEP, noise)


def test_without_a_seed_features_are_rounded():
    features, _ = some(1000)
    rounded = disturb(features, STEP, None) / STEP
    assert torch.equal(rounded, torch.round(rounded)) and float((rounded * STEP - features).abs().max()) <= STEP / 2


def bits(number, scale):
    """-log2 P of any number of steps, in float64 and by the distribution itself."""
    below, above = (0.5 * np.exp(-abs(x) / scale) for x in (number - 0.5, number + 0.5))
    low = below if number - 0.5 < 0 else 1 - below
    high = above if number + 0.5 < 0 else 1 - above
    return -math.log2(high - low)


@settings(max_examples=200, deadline=None)
@given(st.floats(-6, 6), st.floats(0.3, 5), st.floats(0.01, 4))
def test_slopes_are_those_of_the_bits(number, scale, step):
    h = 1e-4
    if abs(abs(number) - 0.5) < 2 * h or abs(number) < 2 * h:  # the kinks
        return
    gradient = torch.zeros(1)
    add_bit_slopes(gradient, torch.tensor([number * step]), torch.tensor([scale]), step, 2.0)
    expected = 2 * (bits(number + h, scale) - bits(number - h, scale)) / (2 * h * step)
    assert float(gradient) == pytest.approx(expected, rel=2e-3, abs=2e-3 / step)


def test_expected_bits_are_those_of_the_distribution():
    features, scales = some(500)
    scales += 0.3  # of smaller ones the bits are bounded
    numbers = np.rint(features.numpy() / STEP)
    expected = sum(bits(float(n), float(b)) for n, b in zip(numbers, scales) if abs(n) < 5)
    near = torch.from_numpy(np.abs(numbers) < 5)
    assert expected_bits(features[near], scales[near], STEP) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("resolution", [(9, 8, 7), (5, 1, 6)])
def test_scales_follow_the_surroundings(resolution):
    model = ModelConfig(2, 1, (3, 3, 3), lattices=(LatticeConfig(resolution, 2),)).with_components(1)
    table = GridTable.from_config(model)
    features = torch.zeros(table.feature_count)
    lattice = next(group for group in table.groups if not group.entry.placed)
    lattice.features(features)[0, 1, :, :, -1] = 8 * STEP  # the last plane of its second feature
    scales = scales_around(table, features, STEP)
    found = lattice.features(scales)[0]
    assert torch.equal(found[0], torch.full_like(found[0], 0.05))  # of the first feature: nothing
    far, near = found[1, :, :, 0], found[1, :, :, -1]
    assert float(near.min()) > 2 * float(far.max()) and float(far.min()) > 0.05  # its grid's mean is in it
    placed = next(group for group in table.groups if group.entry.placed)
    assert float(placed.features(scales).max()) == pytest.approx(0.05)


@pytest.mark.parametrize("path", cpu_library.paths())
@pytest.mark.parametrize("count", [1, 7, 16_383, 40_001])
@pytest.mark.parametrize("seed", [None, 0, 2**32 - 1])
def test_the_native_kernel_disturbs_alike(path, count, seed):
    features, _ = some(count)
    found, expected = NativeKernel(path=path).disturbed(features, STEP, seed), disturb(features, STEP, seed)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", cpu_library.paths())
def test_the_native_kernel_adds_the_same_slopes(path):
    features, scales = some(40_001)
    features[:5] = torch.tensor([0.0, -0.0, STEP / 2, -STEP / 2, 1e-20])
    found, expected = torch.ones(len(features)), torch.ones(len(features))
    NativeKernel(path=path).add_bit_slopes(found, features, scales, STEP, 0.3)
    add_bit_slopes(expected, features, scales, STEP, 0.3)
    torch.testing.assert_close(found[:2], torch.ones(2))
    different = (found - expected).abs() > 1e-4 * expected.abs() + 1e-4  # but at the kink, where a rounding decides
    assert not different[(features.abs() / STEP - 0.5).abs() > 1e-5].any()
