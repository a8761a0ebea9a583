"""PSNR and SSIM against their definitions."""

import numpy as np
import pytest

from apmgsrn_core import DataError, psnr, ssim

RNG = np.random.default_rng(0)


def test_psnr_by_hand():
    reference = np.zeros((2, 2, 2))
    reference[0, 0, 0] = 10
    assert psnr(reference, reference + 1) == pytest.approx(20.0)
    assert psnr(reference, reference) == np.inf


def test_psnr_of_integers_does_not_wrap():
    reference = np.array([[[0, 255]]], dtype=np.uint8)
    assert psnr(reference, np.array([[[1, 254]]], dtype=np.uint8)) == pytest.approx(20 * np.log10(255))


def test_psnr_leaves_holes_out_and_counts_components():
    reference = RNG.random((20, 5, 4, 3))
    values = reference + 0.01
    holes = reference.copy()
    holes[3, 2] = np.nan
    span = np.nanmax(holes) - np.nanmin(holes)
    assert psnr(holes, values) == pytest.approx(20 * np.log10(span / 0.01))
    assert np.isnan(psnr(np.full((1, 1, 1), np.nan), np.zeros((1, 1, 1))))


def ssim_by_loops(x, y, window=7):
    span, scores = x.max() - x.min(), []
    w = [min(window, n) for n in x.shape]
    for k in np.ndindex(*(n - s + 1 for n, s in zip(x.shape, w))):
        box = tuple(slice(a, a + s) for a, s in zip(k, w))
        a, b = x[box].ravel(), y[box].ravel()
        covariance = np.cov(a, b)
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        scores.append(
            (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
            / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2))
        )  # fmt: skip
    return np.mean(scores)


@pytest.mark.parametrize("shape", [(9, 8, 7), (10, 3, 1)])
def test_ssim_is_the_mean_over_windows(shape):
    x = RNG.random(shape)
    y = x + 0.1 * RNG.random(shape)
    assert ssim(x, y) == pytest.approx(ssim_by_loops(x, y), rel=1e-9)
    assert ssim(x, x) == pytest.approx(1.0)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_ssim_does_not_depend_on_the_unit(unit):
    reference = np.random.default_rng(0).normal(size=(9, 8, 7))
    values = reference + 0.1
    assert ssim(reference * unit, values * unit) == pytest.approx(ssim(reference, values), rel=1e-9)


def test_wrong_shapes_are_named():
    with pytest.raises(DataError, match="one shape"):
        psnr(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match="finite"):
        ssim(np.full((8, 8, 8), np.nan), np.zeros((8, 8, 8)))
