"""The coder of `block_coding.py` in the CPU kernels' library, byte for byte the same."""

from __future__ import annotations

import math
from ctypes import byref, c_int64

import numpy as np

from ..errors import ModelFileError
from ..file.lane_coding import LOWEST, Frequencies, LaneDecoder, joined
from ..file.native_coding import DONE, MOST_PLAIN, NO_MEMORY, NO_PLAIN_BITS, NO_WORDS
from ..kernels.cpu_library import BlockStructure, LanesStructure

MORE = 64  # numbers and rows of a block beside one for each of its points and cells, of which there are at most as many
CHOICES = 21

Shape = tuple[int, int, int]


class _Block:
    """A block's arrays, and the structure that points to them."""

    def __init__(self, shape: Shape):
        self.choices = np.zeros(CHOICES, np.int64)
        self.numbers, self.known = np.empty(shape, np.int64), np.empty(shape, np.int64)
        self.rows = np.zeros(2 * math.prod(shape) + MORE, np.int32)
        self.structure = BlockStructure(
            (c_int64 * 3)(*shape), self.choices.ctypes.data, self.numbers.ctypes.data, self.known.ctypes.data,
            self.rows.ctypes.data,
        )  # fmt: skip


def quantise(library, values: np.ndarray, free: np.ndarray | None) -> _Block:
    """`block_coding.quantised`."""
    block = _Block(values.shape)
    values = np.ascontiguousarray(values, np.int64)
    free = None if free is None else np.ascontiguousarray(free, np.uint8)
    library.apm_quantise_block(byref(block.structure), values.ctypes.data, None if free is None else free.ctypes.data)
    return block


def encode(library, block: _Block, lanes: int) -> bytes:
    """What the coder of so many lanes gives. Raises MemoryError."""
    room = 2 * block.numbers.size + MORE
    counts, slots = Frequencies().counts, np.empty(room, np.uint32)
    plain = np.zeros((MOST_PLAIN * room >> 3) + 1, np.uint8)
    state = LanesStructure(
        counts.ctypes.data, slots.ctypes.data, None, None, 0, 0, plain.ctypes.data, 8 * len(plain), 0
    )  # fmt: skip
    if library.apm_code_block(byref(state), lanes, byref(block.structure)) != DONE:
        raise MemoryError("numbers to code: no memory")
    rows, states = int(np.flatnonzero(block.rows)[-1]) + 1, np.full(lanes, LOWEST, np.int64)
    total = int(block.rows[:rows].sum())
    words = np.empty(total, np.uint16)
    count = library.apm_words_of_rows(slots.ctypes.data, block.rows.ctypes.data, rows, states.ctypes.data, words.ctypes.data)
    return joined(states, [words[total - count :]], plain[: state.bit + 7 >> 3].tobytes())


class NativeBlockDecoder(LaneDecoder):
    """Reads one block."""

    def block(self, library, shape: Shape) -> np.ndarray:
        """[z, y, x] int64. Raises ModelFileError."""
        block = _Block(shape)
        state = LanesStructure(
            self._frequencies.counts.ctypes.data, None, self._states.ctypes.data, self._words.ctypes.data, len(self._words),
            0, self._plain.ctypes.data, self._plain_bits, 0,
        )  # fmt: skip
        status = library.apm_code_block(byref(state), len(self._states), byref(block.structure))
        if status == NO_WORDS:
            raise self._no_words()
        if status == NO_PLAIN_BITS:
            raise self._no_plain_bits()
        if status == NO_MEMORY:
            raise MemoryError("residual: no memory")
        if status != DONE:
            raise ModelFileError("residual: damaged: expected numbers as they are written, found others")
        self._word, self._bit = state.word, state.bit
        return block.known
