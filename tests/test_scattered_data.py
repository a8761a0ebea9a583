"""Scattered samples: all of them in the order of a tree, and what cannot be samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DIMS, cloud

from apmgsrn_core.data import scattered_data
from apmgsrn_core import DataError
from apmgsrn_core.data.scattered_data import ScatteredData, node_starts, tree_order


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 900), st.integers(0, 99), st.sets(st.integers(0, 2)), st.integers(1, 4))
def test_all_samples_stay_and_nodes_are_apart(count, seed, flat, components):
    positions, targets = cloud(count, components, seed, flat)
    if seed % 2:
        positions = np.round(positions * 3) / 3  # ties
    data = ScatteredData(positions, targets, DIMS)
    given = np.concatenate([positions, targets], axis=1).astype("float32")
    assert np.array_equal(given[np.lexsort(given.T)], data.samples[np.lexsort(data.samples.T)])
    assert len(data) == count and data.components == components and data.missing == 0
    for level in range(data.depth):
        starts = node_starts(count, level + 1)
        assert np.diff(starts).min() >= scattered_data.LEAF_SAMPLES
        for first, middle, last in zip(starts[::2], starts[1::2], starts[2::2]):
            left, right = data.positions[first:middle], data.positions[middle:last]
            assert (left.max(axis=0) <= right.min(axis=0)).any()


def test_nodes_together_are_nodes_one_by_one(monkeypatch):
    positions, _ = cloud(5003)
    monkeypatch.setattr(scattered_data, "CHUNK_SAMPLES", 1000)
    monkeypatch.setattr(scattered_data, "LOOPED_NODES", 0)
    together = tree_order(positions, (3, 2, 1), 7)
    monkeypatch.setattr(scattered_data, "LOOPED_NODES", 1000)
    alone = tree_order(positions, (3, 2, 1), 7)
    for first, last in zip(node_starts(5003, 7)[:-1], node_starts(5003, 7)[1:]):
        assert set(together[first:last]) == set(alone[first:last])


def test_nodes_are_split_where_the_brick_is_long():
    positions, targets = cloud(4000)
    data = ScatteredData(positions, targets, DIMS, extents=(1, 100, 1))
    bounds = [np.ptp(data.positions[a:b], axis=0) for a, b in zip(node_starts(4000, 5)[:-1], node_starts(4000, 5)[1:])]
    assert np.max(bounds, axis=0)[1] < 0.15 and np.min(bounds, axis=0)[[0, 2]].min() > 1.5


def test_samples_that_are_not_finite_are_left_out():
    positions, targets = cloud(100, 2)
    targets[3, 1], targets[5, 0], positions[7, 2] = np.nan, np.inf, np.nan
    positions[8] = 1.2  # the outer half of a border cell
    data = ScatteredData(positions, targets, DIMS)
    assert (len(data), data.missing) == (97, 3)
    assert np.isfinite(data.samples).all() and np.abs(data.positions).max() == 1


@pytest.mark.parametrize(
    "positions, targets, dims, extents, words",
    [
        (np.zeros((9, 2)), np.zeros(9), DIMS, None, r"positions of 'T': expected shape \(n, 3\), found \(9, 2\)"),
        (np.zeros((9, 3)), np.zeros(8), DIMS, None, r"targets of 'T': expected shape \(9, C\), found \(8, 1\)"),
        (np.zeros((9, 3)), np.zeros((9, 0)), DIMS, None, "targets of 'T'"),
        (np.zeros((9, 3)), np.array(["a"] * 9), DIMS, None, "targets of 'T': expected numbers"),
        (np.zeros((9, 3)), np.array([1.0] + [np.nan] * 8), DIMS, None, "at least 2 finite samples, found 1 of 9"),
        (np.full((9, 3), 40.0), np.zeros(9), DIMS, None, r"normalised positions in \[-1, 1\], found 40"),
        (np.zeros((9, 3)), np.zeros(9), (9, 9), None, "dims of 'T': expected 3 whole numbers from 1"),
        (np.zeros((9, 3)), np.zeros(9), (9, 0, 9), None, "dims of 'T'"),
        (np.zeros((9, 3)), np.zeros(9), DIMS, (1, np.nan, 1), "extents of 'T': expected 3 numbers from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_samples_is_told(positions, targets, dims, extents, words):
    with pytest.raises(DataError, match=words):
        ScatteredData(positions, targets, dims, "T", extents)


def test_the_span_is_zero_only_for_equal_targets():
    positions, _ = cloud(50)
    assert ScatteredData(positions, np.full((50, 2), [0.3, 0.7]), DIMS).span == 0
    assert ScatteredData(positions, np.stack([np.zeros(50), np.arange(50) / 49], axis=1), DIMS).span == 1
