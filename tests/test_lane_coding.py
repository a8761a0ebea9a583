"""Whole numbers in lanes to bytes and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core.errors import ModelFileError
from apmgsrn_core.file.lane_coding import (
    CLASSES, HEADER, LIMIT, LOWEST, MAGNITUDES, PRECISION, SMALL, SMALL_BITS, Frequencies, LaneDecoder, LaneEncoder, bit_length, class_of,
)  # fmt: skip


def encoded(rows, classes, lanes):
    coder = LaneEncoder(lanes)
    for of_row, numbers in zip(classes, rows):
        coder.row(of_row, numbers)
    return coder.finish()


def decoded(data, classes, lanes):
    coder = LaneDecoder(data, lanes)
    rows = [coder.row(of_row) for of_row in classes]
    coder.finish()
    return rows


def readable_rows(data, classes, lanes):
    """The decoder, one number at a time in Python's integers."""
    words, plain = HEADER.unpack_from(data)
    states = [int(s) for s in np.frombuffer(data, "<u4", lanes, HEADER.size)]
    stream = iter(np.frombuffer(data, "<u2", words, HEADER.size + 4 * lanes).tolist())
    bits = iter(np.unpackbits(np.frombuffer(data[len(data) - plain :], np.uint8)).tolist())
    frequencies, rows = Frequencies(), []
    for of_row in classes:
        tokens, bounds = [], frequencies.look(of_row)
        for lane, limits in enumerate(bounds.tolist()):
            slot = states[lane] % 2**PRECISION
            token = max(t for t, low in enumerate(limits) if low <= slot)
            state = (limits[token + 1] - limits[token]) * (states[lane] // 2**PRECISION) + slot - limits[token]
            states[lane] = state if state >= LOWEST else state * 2**16 + next(stream)
            tokens.append(token)
        numbers = []
        for token in tokens:
            value = token
            if token >= SMALL:
                value = 2 + (token - SMALL) % 2
                for _ in range((token - SMALL) // 2 + SMALL_BITS - 2):
                    value = 2 * value + next(bits)
            numbers.append((value + 1) // 2 if value % 2 else -(value // 2))
        frequencies.learn(of_row, np.array(tokens))
        rows.append(numbers)
    return rows


def random_rows(seed, lanes=7, rows=9, scale=40.0):
    """Rows of different length, wide numbers among small ones, classes of all kinds."""
    generator = np.random.default_rng(seed)
    lengths = [lanes, *generator.integers(1, lanes + 1, rows - 1)]
    numbers = [np.rint(generator.standard_t(1, n) * scale).clip(1 - LIMIT, LIMIT - 1).astype(np.int64) for n in lengths]
    return numbers, [generator.integers(0, CLASSES, n) for n in lengths]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.1, 30.0, 1e8]))
def test_numbers_come_back(seed, lanes, rows, scale):
    numbers, classes = random_rows(seed, lanes, rows, scale)
    data = encoded(numbers, classes, lanes)
    assert data == encoded(numbers, classes, lanes)
    for found, expected in zip(decoded(data, classes, lanes), numbers):
        np.testing.assert_array_equal(found, expected)


def test_the_largest_numbers_come_back():
    numbers = [np.array([LIMIT - 1, 1 - LIMIT, 0, SMALL // 2, -SMALL // 2, 1, -1])]
    classes = [np.zeros(7, np.int64)]
    np.testing.assert_array_equal(decoded(encoded(numbers, classes, 7), classes, 7), numbers)


@pytest.mark.parametrize("seed", range(4))
def test_the_readable_decoder_reads_the_same(seed):
    numbers, classes = random_rows(seed)
    found = readable_rows(encoded(numbers, classes, 7), classes, 7)
    assert found == [row.tolist() for row in numbers]


def test_bytes_are_near_the_entropy():
    generator = np.random.default_rng(0)
    numbers = np.rint(generator.laplace(0, 4, (200, 64))).astype(np.int64)
    classes = np.broadcast_to(class_of(np.full(64, 64)), numbers.shape)
    share = np.unique(numbers, return_counts=True)[1] / numbers.size
    entropy = -(share * np.log2(share)).sum() * numbers.size / 8
    assert entropy < len(encoded(numbers, classes, 64)) < 1.05 * entropy


def test_zeros_take_almost_nothing():
    numbers, classes = np.zeros((1000, 8), np.int64), np.zeros((1000, 8), np.int64)
    assert len(encoded(numbers, classes, 8)) < 80


def test_bit_length_and_classes():
    numbers = np.array([0, 1, 2, 3, 4, 31, 32, 2**30 - 1, 2**30])
    assert bit_length(numbers).tolist() == [n.bit_length() for n in numbers.tolist()]
    classes = class_of(np.arange(0, 1 << 21, 97))
    assert (np.diff(classes) >= 0).all() and classes[0] == 0 and classes[-1] == MAGNITUDES - 1


def test_frequencies_fill_the_range_and_leave_nothing_out():
    frequencies = Frequencies()
    for seed in range(5):
        generator = np.random.default_rng(seed)
        frequencies.learn(generator.integers(0, CLASSES, 99), generator.integers(0, 84, 99))
        bounds = frequencies.look(np.arange(CLASSES))
        assert (np.diff(bounds) >= 1).all()
        assert (bounds[:, 0] == 0).all() and (bounds[:, -1] == 2**PRECISION).all()


@pytest.mark.parametrize("change", ["short", "long", "empty", "header", "lanes"])
def test_wrong_lengths_are_refused(change):
    numbers, classes = random_rows(1)
    data = encoded(numbers, classes, 7)
    bad = {
        "short": data[:-1], "long": data + b"\0", "empty": b"", "header": b"\xff" * 8 + data[8:],
        "lanes": data[: HEADER.size + 4 * 6],
    }[change]  # fmt: skip
    with pytest.raises(ModelFileError, match="expected"):
        LaneDecoder(bad, 7)


def test_any_changed_byte_is_an_error_or_other_numbers():
    numbers, classes = random_rows(2)
    data = encoded(numbers, classes, 7)
    refused = 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        try:
            found = decoded(changed, classes, 7)
            assert any((f != n).any() for f, n in zip(found, numbers)) or place == len(data) - 1  # padding
        except ModelFileError:
            refused += 1
    assert refused > len(data) // 2
