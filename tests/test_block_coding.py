"""Blocks coded from coarse to fine: nothing is off by more than half a step, and the native coder is byte for byte its twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apmgsrn_core.errors import ModelFileError
from apmgsrn_core.kernels import cpu_library
from apmgsrn_core.residual.block_coding import LARGEST, decode_block, encode_block
from apmgsrn_core.residual.interpolation import STEP, phases

LIBRARY, WHY = cpu_library.load()
SHAPES = [(9, 8, 7), (1, 1, 1), (1, 17, 1), (16, 1, 33), (2, 3, 65), (24, 31, 9)]
KINDS = ("smooth", "noise", "sparse", "far", "zero", "jump")


def values_of(kind, shape, seed=0):
    """Whole numbers of units."""
    generator = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    smooth = np.sin(z / 5 + 0.3) * np.cos(y / 7) + np.sin(x / 9 + z / 11)
    noise = generator.normal(size=shape)
    found = {
        "smooth": 40 * smooth, "noise": 3 * noise, "sparse": 20 * noise * (generator.random(shape) < 0.02),
        "far": generator.uniform(-LARGEST, LARGEST, shape), "zero": 0 * noise, "jump": 90.0 * (z + y > x),
    }  # fmt: skip
    return np.rint(found[kind] * STEP).astype(np.int64)


@pytest.fixture(params=["torch", ""])
def twin(request, monkeypatch):
    """Both coders."""
    if not request.param and LIBRARY is None:
        pytest.skip(WHY)
    monkeypatch.setenv("APMGSRN_KERNELS", request.param)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_phases_are_all_points_once(shape):
    seen = np.zeros(shape, int)
    seen[0, 0, 0] = 1
    for phase in phases(shape):
        seen[phase.place] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_off_by_more_than_half_a_step(twin, shape, kind):
    values = values_of(kind, shape)
    data, decoded = encode_block(values)
    assert np.abs(decoded - values).max() <= STEP / 2
    assert (decode_block(data, shape) == decoded).all()



def test_what_is_near_zero_has_no_bytes(twin):
    values = values_of("noise", (9, 8, 7)) % (STEP // 2)
    assert encode_block(values)[0] == b""


def test_free_values_cost_little_and_the_others_are_held(twin):
    values = values_of("smooth", (24, 31, 9))
    free = np.zeros(values.shape, bool)
    free[:, 10:, :] = True
    values[free] = values_of("far", values.shape)[free]
    data, decoded = encode_block(values, free)
    assert np.abs(decoded - values)[~free].max() <= STEP / 2
    assert len(data) < 0.7 * len(encode_block(values_of("smooth", (24, 31, 9)))[0])


@pytest.mark.skipif(LIBRARY is None, reason=WHY or "built")
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40)), kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99), holes=st.booleans(),
)  # fmt: skip
def test_native_and_readable_give_the_same_bytes(shape, kind, seed, holes):
    values = values_of(kind, shape, seed)
    free = np.random.default_rng(seed).random(shape) < 0.3 if holes else None
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for word in ("torch", ""):
            patch.setenv("APMGSRN_KERNELS", word)
            found.append(encode_block(values, free))
            found.append((b"", decode_block(found[-1][0], shape)))
    assert found[0][0] == found[2][0]
    assert all((found[0][1] == decoded).all() for _, decoded in found)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), word=st.sampled_from(["torch", ""]))
def test_damage_is_an_error_or_other_numbers(seed, word):
    shape, generator = (9, 8, 17), np.random.default_rng(seed)
    data = bytearray(encode_block(values_of("noise", shape))[0])
    for _ in range(generator.integers(1, 4)):
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
    data = bytes(data[: generator.integers(1, len(data) + 1)]) if seed % 3 == 0 else bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APMGSRN_KERNELS", word)
        try:
            assert decode_block(data, shape).shape == shape
        except ModelFileError as error:
            assert "expected" in str(error) or "damaged" in str(error)


@pytest.mark.parametrize("kind, most", [("smooth", 1.3), ("sparse", 0.35), ("noise", 4.2)])
def test_it_takes_few_bits(twin, kind, most):
    """White noise of three steps has 2.05 + log2(3) = 3.6 bits a value at best."""
    values = values_of(kind, (32, 32, 32))
    assert 8 * len(encode_block(values)[0]) / values.size < most
