"""Entropy coding of whole numbers in lanes: many numbers at once, each lane with a state of its own.

Numbers come in rows; the i-th of a row belongs to lane i. Each has a class, known to both sides, that says how large it
probably is; the frequencies of a class adapt to what was coded. `LaneEncoder` and `LaneDecoder` are called with the same
rows and classes in the same order, so that what computes the classes is written once for both. `native_coding.py` has
their fast twins.

A number is a token, coded with the frequencies of its class, and for large ones some plain bits:
zigzag v = 2|n| - (n > 0); v < 32 is its own token, beyond it the bit length and the second bit make the token.

Source: range asymmetric numeral systems (Duda 2013, arXiv:1311.2540), with one state a lane as in Giesen 2014
(arXiv:1402.3392); tokens as the hybrid integers of JPEG XL (ISO/IEC 18181-1, annex C). Integers only: the same everywhere.
"""

from __future__ import annotations

import struct

import numpy as np

from ..errors import ModelFileError

MAGNITUDES = 28  # classes of numbers by how large they probably are
CHOICE_CLASS, FLAG_CLASS = 28, 29  # of what is no size: choices, and flags by the flag before (two); they begin as small numbers
CLASSES = 31
SMALL, SMALL_BITS = 32, 6  # numbers below are tokens; the bit length of the first that is not
TOKENS = SMALL + 2 * (31 - SMALL_BITS + 1)
LIMIT = 1 << 30  # of |n|, exclusive
NUMBER_LIMIT = 1 << 26  # of the whole numbers of a network, exclusive; what is coded is their distance to a prediction
PRECISION = 14  # bits of a frequency
LOWEST = 1 << 16  # of a state: below, 16 more bits are read
SEEN = 32  # what one number adds to its count
PRIOR = 16 * SEEN  # of all counts of a class at the start, about
HEADER = struct.Struct("<II")  # words of 16 bits, bytes of plain bits


def bit_length(numbers: np.ndarray) -> np.ndarray:
    """Bits of whole numbers from 0 to 2^52; 0 for 0."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def class_of(magnitude: np.ndarray) -> np.ndarray:
    """The class of numbers that are about so large, in sixteenths (int64, from 0 on): two for each doubling."""
    capped = np.minimum(magnitude, 1 << 20)
    return np.clip(bit_length(capped * capped) - 2, 0, MAGNITUDES - 1)


def too_large(name: str) -> ModelFileError:
    """What is wrong with a block of numbers beyond NUMBER_LIMIT."""
    return ModelFileError(f"coded network: {name}: expected whole numbers below {NUMBER_LIMIT}, found larger ones")


class Frequencies:
    """Adaptive frequencies of the tokens of each class: `counts`, (CLASSES, TOKENS) int64."""

    def __init__(self):
        token = np.arange(TOKENS, dtype=np.int64)
        exponent = np.maximum(token - SMALL, 0) // 2 + SMALL_BITS - 2
        width = np.where(token < SMALL, 1, 1 << exponent)
        value = np.where(token < SMALL, token, (2 + token % 2) << exponent)  # the first that has this token
        scale = (1 << np.arange(CLASSES, dtype=np.int64)[:, None] % MAGNITUDES // 2) + 4
        ratio = 16 + np.minimum((value + 1) // 2 * 256 // scale, 4096)  # sixteenths
        share = np.where(ratio > 4096, 0, (np.minimum(width, 1 << 20) << 36) // ratio**3)  # falls with the third power
        self.counts = share * PRIOR // share.sum(1, keepdims=True)
        self._spread()

    def look(self, classes: np.ndarray) -> np.ndarray:
        """(lanes, TOKENS + 1) bounds of the tokens in [0, 2^PRECISION], for each class."""
        return self._bounds[classes]

    def learn(self, classes: np.ndarray, tokens: np.ndarray) -> None:
        """Count the tokens of a row."""
        np.add.at(self.counts, (classes, tokens), SEEN)
        self._spread()

    def _spread(self) -> None:
        total = self.counts.sum(1, keepdims=True)
        frequencies = 1 + self.counts * ((1 << PRECISION) - TOKENS) // total
        most = frequencies.argmax(1)
        frequencies[np.arange(CLASSES), most] += (1 << PRECISION) - frequencies.sum(1)
        self._bounds = np.zeros((CLASSES, TOKENS + 1), np.int64)
        np.cumsum(frequencies, axis=1, out=self._bounds[:, 1:])


def joined(states: np.ndarray, words: list[np.ndarray], plain: bytes) -> bytes:
    """What an encoder gives: header, states, words and plain bits."""
    words = b"".join(part.astype("<u2").tobytes() for part in words)
    return HEADER.pack(len(words) // 2, len(plain)) + states.astype("<u4").tobytes() + words + plain


class LaneEncoder:
    """Collects rows; `finish` gives the bytes."""

    def __init__(self, lanes: int):
        self._lanes, self._frequencies = lanes, Frequencies()
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []  # first slot and frequency of each token
        self._plain: list[tuple[np.ndarray, np.ndarray]] = []  # bits and how many

    def row(self, classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Code the numbers (n,) of the first n lanes, |number| < LIMIT; returns them."""
        value = 2 * np.abs(numbers) - (numbers > 0)
        bits = bit_length(value)
        large = value >= SMALL
        token = np.where(large, SMALL + 2 * (bits - SMALL_BITS) + (value >> np.maximum(bits - 2, 0) & 1), value)
        bounds, lane = self._frequencies.look(classes), np.arange(len(token))
        first = bounds[lane, token]
        frequency = bounds[lane, token + 1] - first
        self._rows.append((first.astype(np.uint16), frequency.astype(np.uint16)))  # both fit: it may be millions of numbers
        if large.any():
            self._plain.append((value[large], bits[large] - 2))
        self._frequencies.learn(classes, token)
        return numbers

    def finish(self) -> bytes:
        """Header, states, words and plain bits. The last row is coded first, since states are last in, first out."""
        states = np.full(self._lanes, LOWEST, np.int64)
        words = []
        for first, frequency in ((a.astype(np.int64), b.astype(np.int64)) for a, b in reversed(self._rows)):
            state = states[: len(first)]
            full = state >= frequency << (32 - PRECISION)
            words.append(state[full] & 0xFFFF)
            state = np.where(full, state >> 16, state)
            states[: len(first)] = (state // frequency << PRECISION) + first + state % frequency
        return joined(states, words[::-1], self._plain_bytes())

    def _plain_bytes(self) -> bytes:
        if not self._plain:
            return b""
        value, count = (np.concatenate(part) for part in zip(*self._plain))
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        bits = np.repeat(value, count) >> (np.repeat(count, count) - 1 - place) & 1
        return np.packbits(bits.astype(np.uint8)).tobytes()


class LaneDecoder:
    """Reads what LaneEncoder wrote.

    Raises:
        ModelFileError: The length of the bytes is not what they say, or there are too few for the lanes.
    """

    def __init__(self, data: bytes, lanes: int):
        least = HEADER.size + 4 * lanes
        if len(data) < least:
            raise ModelFileError(f"coded numbers: expected at least {least} bytes for {lanes} lanes, found {len(data)}")
        words, plain = HEADER.unpack_from(data)
        if len(data) != least + 2 * words + plain:
            raise ModelFileError(f"coded numbers: expected {least + 2 * words + plain} bytes, found {len(data)}")
        self._frequencies = Frequencies()
        self._states = np.frombuffer(data, "<u4", lanes, HEADER.size).astype(np.int64)
        self._words = np.frombuffer(data, "<u2", words, least)
        self._plain = np.frombuffer(data[least + 2 * words :] + bytes(8), np.uint8)
        self._plain_bits, self._word, self._bit = 8 * plain, 0, 0

    def row(self, classes: np.ndarray, numbers: None = None) -> np.ndarray:
        """(n,) int64, the next number of each of the first n lanes. Raises ModelFileError."""
        bounds, lane = self._frequencies.look(classes), np.arange(len(classes))
        state = self._states[: len(classes)]
        slot = state & ((1 << PRECISION) - 1)
        token = (bounds[:, 1:] <= slot[:, None]).sum(1)
        first = bounds[lane, token]
        state = (bounds[lane, token + 1] - first) * (state >> PRECISION) + slot - first
        empty = state < LOWEST
        last = self._word + int(empty.sum())
        if last > len(self._words):
            raise self._no_words()
        state[empty] = state[empty] << 16 | self._words[self._word : last]
        self._states[: len(classes)], self._word = state, last
        self._frequencies.learn(classes, token)
        value = self._with_plain_bits(token)
        return np.where(value & 1, value + 1 >> 1, -(value >> 1))

    def _with_plain_bits(self, token: np.ndarray) -> np.ndarray:
        large = np.flatnonzero(token >= SMALL)
        if not len(large):
            return token
        count = (token[large] - SMALL) // 2 + SMALL_BITS - 2
        offset = self._bit + np.cumsum(count) - count
        self._bit += int(count.sum())
        if self._bit > self._plain_bits:
            raise self._no_plain_bits()
        window = np.zeros(len(large), np.int64)
        for byte in range(5):  # 32 bits from any bit on
            window = window << 8 | self._plain[(offset >> 3) + byte]
        plain = window >> (40 - (offset & 7) - count) & (1 << count) - 1
        value = token.copy()
        value[large] = (2 + (token[large] - SMALL) % 2) << count | plain
        return value

    def _no_words(self) -> ModelFileError:
        return ModelFileError(f"coded numbers: expected more than {len(self._words)} words")

    def _no_plain_bits(self) -> ModelFileError:
        return ModelFileError(f"coded numbers: expected more than {self._plain_bits} plain bits")

    def finish(self) -> None:
        """ModelFileError unless all has been read, up to the padding, and the states are those that the encoder began with."""
        if self._word != len(self._words) or self._bit <= self._plain_bits - 8:
            raise ModelFileError("coded numbers: expected to end here, found more")
        if (self._states != LOWEST).any():
            raise ModelFileError("coded numbers: damaged: the states do not end where they began")
