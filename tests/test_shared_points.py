"""Points that several ranks have are left with one of them."""

import numpy as np
import pytest
from thread_ranks import on_ranks

from apmgsrn_core import Communicator, held_by_lower

RNG = np.random.default_rng(5)


def lattice(dims=(9, 8, 7)):
    return np.stack(np.meshgrid(*map(np.arange, dims), indexing="ij"), -1).reshape(-1, 3) * 0.1 - 0.3


def pieces(size, points):
    """Slabs along x that have the points of their border in common, in any order."""
    edges = np.quantile(points[:, 0], np.linspace(0, 1, size + 1), method="nearest")
    slabs = [points[(points[:, 0] >= a) & (points[:, 0] <= b)] for a, b in zip(edges, edges[1:])]
    return [RNG.permutation(slab) for slab in slabs]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_each_point_is_left_with_one_rank(size):
    points = lattice()
    parts = pieces(size, points)
    assert sum(map(len, parts)) > len(points) or size == 1
    held = on_ranks(size, lambda ranks: held_by_lower({7: parts[ranks.rank]}, ranks)[7])
    kept = np.concatenate([part[~gone] for part, gone in zip(parts, held)])
    assert len(kept) == len(points)
    np.testing.assert_array_equal(np.unique(kept, axis=0), np.unique(points, axis=0))
    assert not held[0].any()


def test_against_all_pairs():
    parts = [RNG.integers(0, 4, (40, 3)).astype(float) for _ in range(3)]
    held = on_ranks(3, lambda ranks: held_by_lower({0: parts[ranks.rank]}, ranks)[0])
    for rank, part in enumerate(parts):
        lower = {tuple(p) for other in parts[:rank] for p in other}
        assert held[rank].tolist() == [tuple(p) in lower for p in part]


def test_data_sets_are_not_mixed_and_may_be_missing():
    points = lattice((3, 3, 3))
    places = [{0: points, 1: points[:5]}, {1: points, 2: points}, {2: points[3:], 5: points[:0]}]
    held = on_ranks(3, lambda ranks: held_by_lower(places[ranks.rank], ranks))
    assert {n: int(h.sum()) for n, h in held[1].items()} == {1: 5, 2: 0}
    assert {n: int(h.sum()) for n, h in held[2].items()} == {2: 24, 5: 0}


def test_zeros_of_both_signs_are_the_same_point():
    places = [{0: np.array([[0.0, -0.0, 1.0]])}, {0: np.array([[-0.0, 0.0, 1.0], [0.0, 0.0, np.nextafter(1.0, 2.0)]])}]
    held = on_ranks(2, lambda ranks: held_by_lower(places[ranks.rank], ranks)[0])
    assert held[1].tolist() == [True, False]


def test_nothing_at_all():
    assert held_by_lower({}, Communicator()) == {}
    assert on_ranks(2, lambda ranks: held_by_lower({}, ranks)) == [{}, {}]
