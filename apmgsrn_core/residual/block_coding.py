"""A block of whole numbers as bytes, from coarse to fine: quantised to steps, so that nothing is off by more than half a step.

- A value is what is predicted (`interpolation.py`) plus q steps with a whole number q. The first point is predicted as 0.
- Bytes: byte log2 of the lanes, then those of `lane_coding.py`: for each of the three finest levels the numbers of the weights
  that are used in its seven phases; the first point's q; for each cell of 8^3 points whether it has a q that is not 0; and the
  q of the points in such cells, phase by phase in rows of so many lanes, x fastest.
- A block whose numbers are all 0 has no bytes.
- The native twin in `kernels/cpu/block_coding.cpp` gives and reads the same bytes.
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelFileError
from ..file.lane_coding import CHOICE_CLASS, FLAG_CLASS, LaneDecoder, LaneEncoder, bit_length, class_of
from ..kernels import native_number_coding
from . import native_blocks
from .interpolation import ODD, STEP, WEIGHTS, Nearby, expected_size, phases

CELL = 8  # points of a cell along each axis
CHOSEN_LEVELS = 3
FIRST_CLASS = 16  # of the first point
MOST_LANES = 7  # log2
LARGEST = 1 << 25  # of |q|; values are at most so many steps
FINEST_COST = 1 << 13  # sixteenths of a step beyond which a distance costs no more

Shape = tuple[int, int, int]


def encode_block(values: np.ndarray, free: np.ndarray | None = None) -> tuple[bytes, np.ndarray]:
    """Code a block.

    Args:
        values: [z, y, x] int64 in units, of which a step has STEP; |value| at most LARGEST * STEP.
        free: bool [z, y, x], True where any value will do; None: nowhere.

    Returns:
        (the bytes, what `decode_block` gives: off by at most STEP / 2 where not free).
    """
    library = native_number_coding()
    if library is not None:
        block = native_blocks.quantise(library, values, free)
        numbers, choices, decoded = block.numbers, block.choices, block.known
    else:
        numbers, choices, decoded = quantised(values, free)
    if not numbers.any():
        return b"", decoded
    lanes = lanes_for(np.count_nonzero(numbers))
    if library is not None:
        return bytes([lanes]) + native_blocks.encode(library, block, 1 << lanes), decoded
    coder = LaneEncoder(1 << lanes)
    _walk(coder, 1 << lanes, values.shape, numbers, choices)
    return bytes([lanes]) + coder.finish(), decoded


def decode_block(data: bytes, shape: Shape) -> np.ndarray:
    """[z, y, x] int64 in units. Raises ModelFileError when the bytes are damaged."""
    if not data:
        return np.zeros(shape, np.int64)
    if data[0] > MOST_LANES:
        raise ModelFileError(f"residual: expected at most 2^{MOST_LANES} lanes, found 2^{data[0]}")
    library = native_number_coding()
    if library is not None:
        coder = native_blocks.NativeBlockDecoder(data[1:], 1 << data[0])
        values = coder.block(library, shape)
    else:
        coder = LaneDecoder(data[1:], 1 << data[0])
        values = _walk(coder, 1 << data[0], shape)
    coder.finish()
    return values


def quantised(values: np.ndarray, free: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers q of a block, the weights used (CHOSEN_LEVELS, 7), finest level first, and the values that they stand for."""
    known, numbers = np.zeros(values.shape, np.int64), np.zeros(values.shape, np.int64)
    choices = np.zeros((CHOSEN_LEVELS, len(ODD)), np.int64)
    fixed = np.ones(values.shape, bool) if free is None else ~free
    numbers[0, 0, 0] = _steps(values[0, 0, 0]) * fixed[0, 0, 0]
    known[0, 0, 0] = numbers[0, 0, 0] * STEP
    for phase in phases(values.shape):
        wanted, given, nearby = values[phase.place], fixed[phase.place], Nearby.of(known, phase)
        choice = 0
        if phase.level < CHOSEN_LEVELS:
            costs = [_cost((wanted - nearby.predicted(c))[given]) for c in range(len(WEIGHTS))]
            choice = choices[phase.level, ODD.index(phase.odd)] = int(np.argmin(costs))
        predicted = nearby.predicted(choice)
        numbers[phase.place] = np.where(given, _steps(wanted - predicted), 0)
        known[phase.place] = predicted + numbers[phase.place] * STEP
    return numbers, choices, known


def lanes_for(count: int) -> int:
    """log2 of the lanes for so many numbers that are not 0: each lane costs two bytes, few are slow."""
    return min(max(int(count).bit_length() - 8, 2), MOST_LANES)


def _steps(distance: np.ndarray) -> np.ndarray:
    return (distance + STEP // 2) // STEP


def _cost(distance: np.ndarray) -> int:
    """About four times the bits of some distances, but for a constant."""
    sixteenths = np.minimum(np.abs(distance) * 16 // STEP, FINEST_COST - 8) + 8
    return int(bit_length(sixteenths**4).sum())


def _active_cells(numbers: np.ndarray) -> np.ndarray:
    """bool [z, y, x] of the cells of a block: those with a number that is not 0."""
    padded = np.pad(numbers != 0, [(0, -n % CELL) for n in numbers.shape])
    z, y, x = (n // CELL for n in padded.shape)
    return padded.reshape(z, CELL, y, CELL, x, CELL).any((1, 3, 5))


def _in_cells(active: np.ndarray, shape: Shape) -> np.ndarray:
    """bool [z, y, x] of the points in active cells."""
    for axis in range(3):
        active = active.repeat(CELL, axis)
    return active[tuple(slice(0, n) for n in shape)]


def _walk(
    coder: LaneEncoder | LaneDecoder, lanes: int, shape: Shape, numbers: np.ndarray | None = None,
    choices: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Code a block (numbers and choices given) or decode it (None): one walk for both. Returns the values."""

    def row(classes: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        parts = (slice(first, first + lanes) for first in range(0, len(classes), lanes))
        return np.concatenate([coder.row(classes[part], None if given is None else given[part]) for part in parts])

    def scalar(of_class: int, given) -> int:
        return int(row(np.array([of_class]), None if given is None else np.array([given]))[0])

    used = [row(np.full(len(ODD), CHOICE_CLASS), None if choices is None else choices[level]) for level in range(CHOSEN_LEVELS)]
    if min(map(np.min, used)) < 0 or max(map(np.max, used)) >= len(WEIGHTS):
        raise ModelFileError("residual: expected the numbers of weights, found others")
    known, found = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    found[0, 0, 0] = scalar(FIRST_CLASS, None if numbers is None else numbers[0, 0, 0])
    known[0, 0, 0] = found[0, 0, 0] * STEP
    active = _code_cells(row, shape, None if numbers is None else _active_cells(numbers))
    coded = _in_cells(active, shape)
    for phase in phases(shape):
        nearby = Nearby.of(known, phase)
        rows = coded[phase.place]
        if rows.any():
            classes = class_of(expected_size(found, phase, nearby)[rows])
            part = np.zeros(phase.shape, np.int64)
            part[rows] = row(classes, None if numbers is None else numbers[phase.place][rows])
            found[phase.place] = part
        choice = used[phase.level][ODD.index(phase.odd)] if phase.level < CHOSEN_LEVELS else 0
        known[phase.place] = values = nearby.predicted(choice) + found[phase.place] * STEP
        if np.abs(values).max() > 2 * LARGEST * STEP:
            raise ModelFileError(f"residual: expected values of at most {LARGEST} steps, found larger ones")
    return known


def _code_cells(row, shape: Shape, given: np.ndarray | None) -> np.ndarray:
    """bool [z, y, x] of the cells, layer by layer; what a cell is depends on the one below."""
    cells = tuple(-(-n // CELL) for n in shape)
    active = np.zeros(cells, np.int64)
    for z in range(cells[0]):
        below = active[z - 1] if z else np.zeros(cells[1:], np.int64)
        layer = row(FLAG_CLASS + below.reshape(-1), None if given is None else given[z].reshape(-1).astype(np.int64))
        if layer.min() < 0 or layer.max() > 1:
            raise ModelFileError("residual: expected 0 or 1 for a cell, found other numbers")
        active[z] = layer.reshape(cells[1:])
    return active.astype(bool)
