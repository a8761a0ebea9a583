"""The decoders of coded numbers on arbitrary and on damaged bytes: values or a ModelFileError, the same from both twins."""

import random

import numpy as np
import pytest
from hostile_run import peak_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import blind

from apmgsrn_core import ConfigError, ModelConfig, ModelFileError
from apmgsrn_core.data.mask import pack_mask, unpack_mask
from apmgsrn_core.file import time_coding
from apmgsrn_core.file.lane_coding import CLASSES, NUMBER_LIMIT
from apmgsrn_core.file.native_coding import lane_decoder, lane_encoder
from apmgsrn_core.file.number_blocks import number_blocks, tensor_shapes
from apmgsrn_core.file.time_coding import MOST_NUMBERS, NUMBERS_A_BYTE, pack_tensors, unpack_tensors
from apmgsrn_core.kernels import cpu_library
from apmgsrn_core.rendering.macrocells import Macrocells
from apmgsrn_core.residual.block_coding import decode_block, encode_block
from apmgsrn_core.residual.residual_blocks import ResidualBlocks, pack_blocks

LIBRARY, WHY = cpu_library.load()
TWINS = pytest.mark.skipif(LIBRARY is None, reason=WHY or "built")
CONFIG = ModelConfig(3, 2, (3, 4, 5), hidden_width=8, output_components=1, bias=True, linear_skip=True)
SHAPE = (9, 8, 17)
OFTEN = settings(max_examples=60, deadline=None)


def damaged(data: bytes):
    """Bytes at random, or some that were right, changed by a few blind steps."""
    changed = st.integers(0, 2**32).map(lambda seed: blind(data, random.Random(seed)))
    return st.one_of(changed, changed, st.binary(max_size=400), st.just(data))


def verdict(work):
    """What a decoder gives, or the message of its error."""
    try:
        return work()
    except ModelFileError as error:
        return str(error)


def verdicts(work):
    """Of the readable and of the native decoder."""
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for word in ("torch", ""):
            patch.setenv("APMGSRN_KERNELS", word)
            found.append(verdict(work))
    return found


def same(found) -> bool:
    """Whether both failed, or gave equal numbers."""
    one, other = found
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str)
    return all(np.array_equal(a, b) for a, b in zip(one, other))


def noise() -> np.ndarray:
    """Values of a block of a residual."""
    return np.random.default_rng(0).integers(-9000, 9000, SHAPE)


def cells() -> Macrocells:
    """Ranges from 0 on."""
    high = np.random.default_rng(0).uniform(0, 1, (7, 8, 9)).astype(np.float32)
    return Macrocells(np.zeros_like(high), high)


def rows_and_classes():
    generator = np.random.default_rng(0)
    classes = [generator.integers(0, CLASSES, n) for n in (7, 3, 7, 5, 1, 7)]
    return [np.rint(generator.standard_t(1, len(c)) * 40).astype(np.int64) for c in classes], classes


def coded_rows() -> bytes:
    rows, classes = rows_and_classes()
    coder = lane_encoder(7)
    for numbers, of_row in zip(rows, classes):
        coder.row(of_row, numbers)
    return coder.finish()


def coded_tensors(scale: float = 1.0, reference=None) -> bytes:
    generator = np.random.default_rng(1)
    tensors = {name: generator.normal(0, scale, shape).astype(np.float32) for name, shape in tensor_shapes(CONFIG).items()}
    steps = tuple(np.full(1 if b.one_step else b.lanes, 0.01) for b in number_blocks(CONFIG))
    return pack_tensors(tensors, steps, CONFIG, reference)


@TWINS
@OFTEN
@given(damaged(coded_rows()), st.integers(1, 9))
def test_lanes(data, lanes):
    _, classes = rows_and_classes()

    def work():
        coder = lane_decoder(data, lanes)
        rows = [coder.row(of_row[:lanes]) for of_row in classes]
        coder.finish()
        return rows

    assert same(verdicts(work))


@TWINS
@OFTEN
@given(damaged(encode_block(noise())[0]), st.tuples(*[st.integers(1, 20)] * 3))
def test_blocks_of_a_residual(data, other):
    for shape in (SHAPE, other):
        found = verdicts(lambda: [decode_block(data, shape)])  # noqa: B023
        assert same(found) and (isinstance(found[0], str) or found[0][0].shape == shape)


@TWINS
@OFTEN
@given(damaged(coded_tensors()))
def test_numbers_of_a_network(data):
    found = verdicts(lambda: list(unpack_tensors(data, CONFIG).values()))
    assert same(found)
    if not isinstance(found[0], str):
        assert [t.shape for t in found[0]] == list(tensor_shapes(CONFIG).values()) and all(np.isfinite(t).all() for t in found[0])


@TWINS
@OFTEN
@given(st.data())
def test_differences_to_a_step_before(data):
    reference = unpack_tensors(coded_tensors(), CONFIG)
    changed = data.draw(damaged(coded_tensors(1.0, reference)))
    found = verdicts(lambda: list(unpack_tensors(changed, CONFIG, reference).values()))
    assert same(found) and (isinstance(found[0], str) or all(np.isfinite(t).all() for t in found[0]))


@OFTEN
@given(damaged(pack_blocks([0.5, 0.0], [[encode_block(noise())[0]]])), st.integers(1, 200))
def test_residuals(data, length):
    def work():
        residual = ResidualBlocks(data, (9, 8, length), 2)
        return [residual.on_lattice(c, [np.arange(n) for n in residual.shape]) for c in range(2)]

    found = verdict(work)
    assert isinstance(found, str) or all(values.shape == (9, 8, length) for values in found)


@OFTEN
@given(damaged(pack_mask(np.random.default_rng(0).random((2, 7, 8, 9)) < 0.4).tobytes()), st.tuples(*[st.integers(1, 30)] * 3))
def test_masks(data, other):
    for shape in ((7, 8, 9), other):
        found = verdict(lambda: [unpack_mask(np.frombuffer(data, np.uint8), 2, shape, "mask")])  # noqa: B023
        assert isinstance(found, str) or (found[0].shape == (2, *shape) and found[0].dtype == bool)


@OFTEN
@given(damaged(cells().to_bytes()))
def test_macrocells(data):
    found = verdict(lambda: [Macrocells.from_bytes(data, "cells")])
    if not isinstance(found, str):
        filled = found[0].low <= found[0].high
        assert not np.isnan(found[0].low).any() and np.isfinite(found[0].low[filled]).all()


# ---- the limits that `file/model_file.py` tells ---------------------------------------------------------


def zeros(numbers: int):
    """(config, bytes) of a network of about so many numbers, all zero: the most that a byte can stand for."""
    config = ModelConfig(1, 1, (128, 128, max(numbers >> 14, 1)), hidden_layers=0, output_components=1)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(config).items()}
    steps = tuple(np.full(1 if b.one_step else b.lanes, 1.0) for b in number_blocks(config))
    return config, pack_tensors(tensors, steps, config)


@TWINS
def test_what_the_surest_numbers_take():
    """A byte stands for at most NUMBERS_A_BYTE numbers, each of which takes at most 48 bytes while it is decoded."""
    config, data = zeros(1 << 21)
    count = config.parameter_count()
    assert 0.25 * NUMBERS_A_BYTE < count / len(data) < NUMBERS_A_BYTE
    before = peak_bytes(reset=True)
    assert not any(tensor.any() for tensor in unpack_tensors(data, config).values())
    assert peak_bytes() - before < 48 * count


def test_more_numbers_than_the_bytes_hold_are_refused(monkeypatch):
    config, data = zeros(1 << 16)
    large = ModelConfig(1, 1, (4096, 4096, 4096), hidden_layers=0, output_components=1)
    with pytest.raises(ModelFileError, match=f"at most {NUMBERS_A_BYTE * len(data)} numbers"):
        unpack_tensors(data, large)
    with pytest.raises(ModelFileError, match=f"at most {MOST_NUMBERS} numbers"):
        unpack_tensors(data + bytes(MOST_NUMBERS // NUMBERS_A_BYTE), large)
    monkeypatch.setattr(time_coding, "MOST_NUMBERS", 1000)
    with pytest.raises(ConfigError, match="network to round: expected at most 1000 numbers"):
        zeros(1 << 16)


@pytest.mark.parametrize("word", ["torch", ""])
def test_numbers_at_the_limit(monkeypatch, word):
    """Differences add up along a lattice: the sum is refused where it leaves what the format allows."""
    monkeypatch.setenv("APMGSRN_KERNELS", word)
    block = next(b for b in number_blocks(CONFIG) if b.name == "features")
    coder = lane_encoder(block.lanes)
    numbers = np.zeros((block.size // block.lanes, block.lanes), np.int64)
    numbers[0] = NUMBER_LIMIT - 1
    weights = np.array([127] * 7)
    time_coding._code_numbers(coder, block, np.zeros(7, np.int64), numbers)
    data = coder.finish()
    assert (time_coding._code_numbers(lane_decoder(data, block.lanes), block, np.zeros(7, np.int64), None) == numbers).all()
    with pytest.raises(ModelFileError):
        time_coding._code_numbers(lane_decoder(data, block.lanes), block, weights, None)


@pytest.mark.parametrize("code", [-32768, -401, 441, 32767])
def test_a_step_that_there_cannot_be(code):
    """Of a bias, whose step is told in the head of its block alone."""
    index = [b.one_step for b in number_blocks(CONFIG)].index(True)
    data = bytearray(coded_tensors())
    time_coding.BLOCK.pack_into(data, 1 + time_coding.BLOCK.size * index, False, *[0] * 7, code)
    with pytest.raises(ModelFileError, match=f"step codes from -400 to 440, found {code}"):
        unpack_tensors(bytes(data), CONFIG)
