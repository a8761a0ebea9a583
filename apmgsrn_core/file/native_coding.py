"""The coders of `lane_coding.py` in the CPU kernels' library, byte for byte the same, and the choice between the two.

Beside rows they code a whole block of numbers at once, `block`: `time_coding._code_numbers` in C++.
"""

from __future__ import annotations

from ctypes import c_int8, c_int64

import numpy as np

from ..errors import ConfigError
from ..kernels import native_number_coding
from ..kernels.cpu_library import LanesStructure, LatticeStructure
from .lane_coding import CLASSES, LIMIT, LOWEST, Frequencies, LaneDecoder, LaneEncoder, joined, too_large
from .number_blocks import NumberBlock

DONE, NO_WORDS, NO_PLAIN_BITS, TOO_LARGE, NO_MEMORY = range(5)  # `ApmCoding`
MOST_PLAIN = 29  # plain bits of a number
MOST_NUMBERS = 1 << 28  # of a network; the sums of a block stay in 64 bits


def lane_encoder(lanes: int) -> LaneEncoder:
    """A `LaneEncoder`, native where the library is there and APMGSRN_KERNELS is not "torch"."""
    library = native_number_coding()
    return LaneEncoder(lanes) if library is None else NativeLaneEncoder(lanes, library)


def lane_decoder(data: bytes, lanes: int) -> LaneDecoder:
    """A `LaneDecoder`, native where the library is there and APMGSRN_KERNELS is not "torch". Raises ModelFileError."""
    library = native_number_coding()
    return LaneDecoder(data, lanes) if library is None else NativeLaneDecoder(data, lanes, library)


class NativeLaneEncoder(LaneEncoder):
    """See LaneEncoder.

    Raises:
        ConfigError: Classes, numbers or lanes that there cannot be.
    """

    def __init__(self, lanes: int, library):
        self._library, self._lanes, self._frequencies = library, lanes, Frequencies()
        self._slots: list[np.ndarray] = []  # (rows, lanes) of each call
        self._plain, self._bit = np.zeros(0, np.uint8), 0

    def row(self, classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """See LaneEncoder.row."""
        classes, rows = np.ascontiguousarray(classes, np.int64), np.array(numbers, np.int64)[None]
        state = self._state(rows)
        status = self._library.apm_code_row(state, classes.ctypes.data, len(classes), rows.ctypes.data)
        if status == TOO_LARGE:
            raise ConfigError(f"numbers to code: expected classes below {CLASSES} and numbers below {LIMIT}, found larger ones")
        self._keep(state, status)
        return numbers

    def block(self, block: NumberBlock, weights: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Code (rows, lanes) whole numbers as `time_coding._code_numbers` does; returns them. Raises ModelFileError too."""
        rows = np.ascontiguousarray(numbers, np.int64)
        state = self._state(rows)
        status = self._library.apm_code_lattice(state, _lattice(block, weights), rows.ctypes.data)
        if status == TOO_LARGE:
            raise too_large(block.name)
        self._keep(state, status)
        return numbers

    def _state(self, rows: np.ndarray) -> LanesStructure:
        """Room for what (rows, lanes) numbers become."""
        _check_lanes(rows.shape[1], self._lanes)
        self._slots.append(np.empty(rows.shape, np.uint32))
        used = self._plain[: self._bit + 7 >> 3]
        self._plain = np.zeros(len(used) + (MOST_PLAIN * rows.size >> 3) + 1, np.uint8)
        self._plain[: len(used)] = used
        return LanesStructure(
            self._frequencies.counts.ctypes.data, self._slots[-1].ctypes.data, None, None, 0, 0, self._plain.ctypes.data,
            8 * len(self._plain), self._bit,
        )  # fmt: skip

    def _keep(self, state: LanesStructure, status: int) -> None:
        if status != DONE:
            raise MemoryError("numbers to code: no memory")
        self._bit = state.bit

    def finish(self) -> bytes:
        """See LaneEncoder.finish."""
        states, words = np.full(self._lanes, LOWEST, np.int64), []
        for slots in reversed(self._slots):
            room = np.empty(slots.size, np.uint16)
            count = self._library.apm_words_of(slots.ctypes.data, *slots.shape, states.ctypes.data, room.ctypes.data)
            words.append(room[slots.size - count :])
        return joined(states, words[::-1], self._plain[: self._bit + 7 >> 3].tobytes())


class NativeLaneDecoder(LaneDecoder):
    """See LaneDecoder."""

    def __init__(self, data: bytes, lanes: int, library):
        super().__init__(data, lanes)
        self._library = library

    def row(self, classes: np.ndarray, numbers: None = None) -> np.ndarray:
        """See LaneDecoder.row. Raises ConfigError for classes or lanes that there cannot be."""
        _check_lanes(len(classes), len(self._states))
        classes, row = np.ascontiguousarray(classes, np.int64), np.empty(len(classes), np.int64)
        state = self._state()
        status = self._library.apm_code_row(state, classes.ctypes.data, len(classes), row.ctypes.data)
        if status == TOO_LARGE:
            raise ConfigError(f"numbers to decode: expected classes below {CLASSES}, found {classes.min()} to {classes.max()}")
        self._keep(state, status)
        return row

    def block(self, block: NumberBlock, weights: np.ndarray, numbers: None = None) -> np.ndarray:
        """(rows, lanes) whole numbers of a block, as `time_coding._code_numbers` decodes them. Raises ModelFileError."""
        _check_lanes(block.lanes, len(self._states))
        rows = np.empty((block.size // block.lanes, block.lanes), np.int64)
        state = self._state()
        status = self._library.apm_code_lattice(state, _lattice(block, weights), rows.ctypes.data)
        if status == TOO_LARGE:
            raise too_large(block.name)
        self._keep(state, status)
        return rows

    def _state(self) -> LanesStructure:
        return LanesStructure(
            self._frequencies.counts.ctypes.data, None, self._states.ctypes.data, self._words.ctypes.data, len(self._words),
            self._word, self._plain.ctypes.data, self._plain_bits, self._bit,
        )  # fmt: skip

    def _keep(self, state: LanesStructure, status: int) -> None:
        if status == NO_WORDS:
            raise self._no_words()
        if status == NO_PLAIN_BITS:
            raise self._no_plain_bits()
        if status != DONE:
            raise MemoryError("coded numbers: no memory")
        self._word, self._bit = state.word, state.bit


def _lattice(block: NumberBlock, weights: np.ndarray) -> LatticeStructure:
    return LatticeStructure((c_int64 * 3)(*block.nodes), block.lanes, (c_int8 * 7)(*weights.tolist()))


def _check_lanes(found: int, lanes: int) -> None:
    if found > lanes:
        raise ConfigError(f"lanes of the coder: expected at most {lanes}, found {found}")
