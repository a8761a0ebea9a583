"""The native coder of a network's numbers against its readable twin: the same bytes, the same numbers, the same errors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core import LatticeConfig, ModelConfig
from apmgsrn_core.errors import ConfigError, ModelFileError
from apmgsrn_core.file import native_coding
from apmgsrn_core.file.lane_coding import CLASSES, LIMIT, NUMBER_LIMIT, LaneDecoder, LaneEncoder, class_of
from apmgsrn_core.file.native_coding import NativeLaneDecoder, NativeLaneEncoder, lane_decoder, lane_encoder
from apmgsrn_core.file.number_blocks import NumberBlock, number_blocks, tensor_shapes
from apmgsrn_core.file.time_coding import _code_numbers, pack_tensors, unpack_tensors
from apmgsrn_core.kernels import cpu_library

LIBRARY, WHY = cpu_library.load()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=WHY or "built")

TWINS = ("torch", "")  # of APMGSRN_KERNELS
CONFIGS = [
    ModelConfig(3, 1, (7, 8, 9), hidden_width=5, bias=True, output_components=3),
    ModelConfig(1, 1, (9, 7, 1), hidden_layers=0, linear_skip=True, output_components=1),
    ModelConfig(
        0, lattices=(LatticeConfig((9, 8, 7), 2), LatticeConfig((5, 3, 3), 1)), hidden_width=3, bias=True, output_components=1
    ),
]  # fmt: skip


def encoders(lanes):
    return LaneEncoder(lanes), NativeLaneEncoder(lanes, LIBRARY)


def decoders(data, lanes):
    return LaneDecoder(data, lanes), NativeLaneDecoder(data, lanes, LIBRARY)


def random_numbers(generator, block, scale):
    """(rows, lanes): smooth along the lattice, with some outliers."""
    q = generator.standard_t(1.5, (block.size // block.lanes, block.lanes)).cumsum(0) * scale
    return np.rint(q).clip(1 - NUMBER_LIMIT, NUMBER_LIMIT - 1).astype(np.int64)


def random_tensors(config, seed=0, scale=0.3):
    generator = np.random.default_rng(seed)
    return {n: (generator.standard_normal(s) * scale).astype(np.float32) for n, s in tensor_shapes(config).items()}


def steps_of(config, step):
    return tuple(np.full(1 if b.one_step else b.lanes, step) for b in number_blocks(config))


def in_both(monkeypatch, function):
    """What a function gives in both twins, which is the same; an error stands for its type and text."""
    found = []
    for word in TWINS:
        monkeypatch.setenv("APMGSRN_KERNELS", word)
        try:
            found.append(function())
        except (ModelFileError, ConfigError) as error:
            found.append((type(error), str(error)))
    first, second = found
    if isinstance(first, dict):
        assert all(first[n].tobytes() == second[n].tobytes() for n in first)
    else:
        assert first == second
    return second


def test_the_environment_chooses(monkeypatch):
    data = LaneEncoder(2).finish()
    for word, encoder, decoder in (("torch", LaneEncoder, LaneDecoder), ("", NativeLaneEncoder, NativeLaneDecoder)):
        monkeypatch.setenv("APMGSRN_KERNELS", word)
        assert (type(lane_encoder(2)), type(lane_decoder(data, 2))) == (encoder, decoder)


def test_without_the_library_the_readable_twin_codes(monkeypatch):
    monkeypatch.setenv("APMGSRN_KERNELS", "")
    monkeypatch.setattr(native_coding, "native_number_coding", lambda: None)
    assert type(lane_encoder(2)) is LaneEncoder and type(lane_decoder(LaneEncoder(2).finish(), 2)) is LaneDecoder


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), st.integers(1, 7),
    st.sampled_from([0.0, 0.4, 30.0, 1e5, 1e9]),
)  # fmt: skip
def test_blocks_come_back_in_both_twins_and_crosswise(seed, nodes, lanes, scale):
    """Two blocks and a row of fewer lanes, one after the other: what adapts goes on."""
    generator = np.random.default_rng(seed)
    blocks = [NumberBlock("a", 0, lanes, nodes), NumberBlock("b", 0, max(lanes - 2, 1), nodes[::-1])]
    weights = [generator.integers(-128, 128, 7), np.array([64, 64, -64, 64, -64, -64, 64])]
    numbers = [random_numbers(generator, block, scale) for block in blocks]
    classes, row = generator.integers(0, CLASSES, 1), generator.integers(1 - LIMIT, LIMIT, 1)
    data = []
    for coder in encoders(lanes):
        for block, weight, q in zip(blocks, weights, numbers):
            np.testing.assert_array_equal(_code_numbers(coder, block, weight, q), q)
            coder.row(classes, row)
        data.append(coder.finish())
    assert data[0] == data[1]
    for coder in decoders(data[0], lanes):
        for block, weight, q in zip(blocks, weights, numbers):
            np.testing.assert_array_equal(_code_numbers(coder, block, weight, None), q)
            np.testing.assert_array_equal(coder.row(classes), row)
        coder.finish()


@pytest.mark.parametrize("step, scale", [(0.01, 0.3), (1e-12, 0.3), (5.0, 0.3), (1e-12, 1e30), (1e30, 1e-30)])
@pytest.mark.parametrize("config", CONFIGS)
def test_networks_give_the_same_bytes(config, step, scale, monkeypatch):
    """Odd sizes, single lanes, blocks of one step, large numbers with plain bits; alone and as differences."""
    tensors, steps = random_tensors(config, scale=scale), steps_of(config, step)
    data = in_both(monkeypatch, lambda: pack_tensors(tensors, steps, config))
    before = in_both(monkeypatch, lambda: unpack_tensors(data, config))
    moved = {n: t + np.float32(0.01) * random_tensors(config, 1, scale)[n] for n, t in before.items()}
    delta = in_both(monkeypatch, lambda: pack_tensors(moved, steps, config, before))
    now = in_both(monkeypatch, lambda: unpack_tensors(delta, config, before))
    again = in_both(monkeypatch, lambda: pack_tensors(now, steps, config, before))
    assert isinstance(again, bytes) and all(np.isfinite(t).all() for t in now.values())


@pytest.mark.slow
@pytest.mark.parametrize("config", [replace(CONFIGS[0], grid_resolution=(3, 4, 5)), CONFIGS[1]])
def test_damaged_bytes_end_alike(config, monkeypatch):
    """A changed byte, two exchanged ones, the end cut off (with and without lengths that say so), at places all over."""
    data = pack_tensors(random_tensors(config), steps_of(config, 0.01), config)
    refused, texts = 0, set()
    places = sorted({*range(0, len(data), max(len(data) // 60, 1)), *range(1, 90, 3), len(data) - 1})
    for place in places:
        for bad in (
            data[:place],
            data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :],
            data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :],
            data[:place] + data[place + 1 : place + 2] + data[place : place + 1] + data[place + 2 :],
        ):
            found = in_both(monkeypatch, lambda: unpack_tensors(bad, config))
            if isinstance(found, dict):
                assert all(np.isfinite(t).all() for t in found.values())
            else:
                assert found[0] is ModelFileError
                refused, texts = refused + 1, texts | {found[1].split(": ", 1)[1][:40]}
    assert refused > len(places) and len(texts) >= 4


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 60), st.integers(1, 6), st.lists(st.integers(-128, 127), min_size=7, max_size=7))
def test_any_bytes_end_alike(noise, words, lanes, weights):
    """States, words and plain bits of noise: the same numbers or the same error."""
    body = noise.ljust(4 * lanes, b"\1")
    words = min(words, (len(body) - 4 * lanes) // 2)
    data = np.array([words, len(body) - 4 * lanes - 2 * words], "<u4").tobytes() + body
    block, found = NumberBlock("noise", 0, lanes, (3, 5, 7)), []
    for coder in decoders(data, lanes):
        try:
            found.append(_code_numbers(coder, block, np.array(weights), None).tolist())
        except ModelFileError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [NUMBER_LIMIT, -NUMBER_LIMIT, LIMIT - 1])
def test_numbers_beyond_the_limit_are_refused(number):
    block, weights = NumberBlock("one", 0, 1, (1, 1, 1)), np.zeros(7, np.int64)
    match = "one: expected whole numbers below 67108864"
    coder = LaneEncoder(1)
    coder.row(class_of(np.array([64])), np.array([number]))  # as the walk codes its first number
    for decoder, encoder in zip(decoders(coder.finish(), 1), encoders(1)):
        with pytest.raises(ModelFileError, match=match):
            _code_numbers(decoder, block, weights, None)
        with pytest.raises(ModelFileError, match=match):
            _code_numbers(encoder, block, weights, np.array([[number]]))


def test_what_the_native_coder_cannot_do_is_refused():
    block = NumberBlock("wide", 0, 3, (1, 1, 1))
    encoder, decoder = NativeLaneEncoder(2, LIBRARY), NativeLaneDecoder(LaneEncoder(2).finish(), 2, LIBRARY)
    for call in (
        lambda: encoder.row(np.zeros(3, np.int64), np.zeros(3, np.int64)),
        lambda: encoder.row(np.full(2, CLASSES), np.zeros(2, np.int64)),
        lambda: encoder.row(np.zeros(1, np.int64), np.array([LIMIT])),
        lambda: decoder.row(np.full(2, -1)),
        lambda: decoder.block(block, np.zeros(7, np.int64)),
    ):
        with pytest.raises(ConfigError, match="expected"):
            call()
