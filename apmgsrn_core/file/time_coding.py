"""The section coders "rounded" and "delta": the numbers of a network, rounded, alone or as differences to the time step before.

- A number of lane l in a block (`number_blocks.py`) is stored as a whole number q; what is read is
  float32(base + q * step_l), computed in float64. The base is the same number of the reference (the DEcoded step before), or 0.
- step = (4 + e mod 4) * 2^(e div 4) with a whole number e: four steps a doubling, and the product is exact.
- Section: byte VERSION; for each block 1 byte (1: has a reference), 7 int8 (weights of the neighbours in 64ths), int16 e of the
  block; the bytes of `lane_coding.py`. There, block by block: e of each lane minus that of the block (a row), then q minus
  what its neighbours predict, in rows (one for each node, x fastest).
- The neighbours of a node are those at -1 along x, y, xy, z, xz, yz, xyz; where there is none, 0.
- All of it is computed in whole numbers on both sides. The same numbers give the same bytes.
"""

from __future__ import annotations

import struct

import numpy as np

from ..errors import ConfigError, ModelFileError
from ..network.model_config import ModelConfig
from .lane_coding import NUMBER_LIMIT, LaneDecoder, LaneEncoder, class_of, too_large
from .native_coding import MOST_NUMBERS, lane_decoder, lane_encoder
from .number_blocks import NumberBlock, number_blocks, tensor_shapes

VERSION = 1
BLOCK = struct.Struct("<?7bh")
STEP_CODES = (-400, 440)  # of e, both included: steps from 3e-30 to 9e33
FINEST = 1 << 22  # steps that the largest number or difference of a lane has at most
NUMBERS_A_BYTE = 1092  # at most: the surest token takes 0.0073 bits
MOST_FITTED = 1 << 20  # numbers of a block, about, in every so many lanes, from which its weights are found
NEIGHBOURS = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)][1:]  # -1 along z, y, x

Tensors = dict[str, np.ndarray]


def pack_tensors(
    tensors: Tensors, steps: tuple[np.ndarray, ...], config: ModelConfig, reference: Tensors | None = None
) -> bytes:
    """Round and code the tensors of a network; `unpack_tensors` gives the rounded ones.

    Args:
        tensors: {name: float array} as `number_blocks.tensor_shapes` says.
        steps: Of each block of `number_blocks(config)`, (lanes,) or (1,): the rounding steps that are wanted, > 0. The
            nearest step of the format is taken.
        config: Of the network, with `output_components` set.
        reference: What `unpack_tensors` gave for the step before, of the same config; None: a key frame.

    Raises:
        ConfigError: A tensor or step does not fit, or is not finite.
    """
    _check(tensors, config, "tensors")
    if reference is not None:
        _check(reference, config, "reference")
    blocks = number_blocks(config)
    if len(steps) != len(blocks):
        raise ConfigError(f"steps: expected {len(blocks)}, one for each block, found {len(steps)}")
    if sum(b.size for b in blocks) > MOST_NUMBERS:
        raise ConfigError(f"network to round: expected at most {MOST_NUMBERS} numbers, found {sum(b.size for b in blocks)}")
    coder = lane_encoder(max(b.lanes for b in blocks))
    heads = []
    for block, wanted in zip(blocks, steps):
        values = block.read(np.asarray(tensors[block.name], np.float64))
        base = None if reference is None else block.read(reference[block.name].astype(np.float64))
        largest = np.abs(values) if base is None else np.maximum(np.abs(values), np.abs(values - base))
        codes = _step_codes(block, np.asarray(wanted, np.float64), largest)
        heads.append(_encode_block(coder, block, values, base, codes))
    return bytes([VERSION]) + b"".join(heads) + coder.finish()


def unpack_tensors(data: bytes, config: ModelConfig, reference: Tensors | None = None) -> Tensors:
    """The tensors that a section holds.

    Args:
        data: From `pack_tensors`.
        config: Of the network, with `output_components` set.
        reference: The decoded tensors of the step before; None for a key frame.

    Returns:
        {name: float32 array}.

    Raises:
        ModelFileError: The bytes are damaged, or need a reference and there is none.
    """
    blocks, shapes = number_blocks(config), tensor_shapes(config)
    begin = 1 + BLOCK.size * len(blocks)
    if len(data) < begin or data[0] != VERSION:
        found = f"version {data[0]}" if data else "none"
        raise ModelFileError(f"coded network: expected version {VERSION} and at least {begin} bytes, found {found}, {len(data)}")
    numbers = sum(b.size for b in blocks)
    most = min(NUMBERS_A_BYTE * len(data), MOST_NUMBERS)
    if numbers > most:  # before memory is asked for them
        raise ModelFileError(f"coded network: expected at most {most} numbers in {len(data)} bytes, found {numbers}")
    coder = lane_decoder(data[begin:], max(b.lanes for b in blocks))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for index, block in enumerate(blocks):
        has_base, *weights, code = BLOCK.unpack_from(data, 1 + BLOCK.size * index)
        if has_base and reference is None:
            raise ModelFileError(f"coded network: {block.name}: expected the time step before, found none")
        codes = _code_steps(coder, block, code, None)
        q = _code_numbers(coder, block, np.array(weights, np.int64), None)
        base = block.read(reference[block.name].astype(np.float64)) if has_base else 0.0
        block.write(tensors[block.name], _values(base, q, codes, block.name))
    coder.finish()
    return tensors


def takes_reference(data: bytes, config: ModelConfig) -> bool:
    """Whether some block of what `pack_tensors` gave needs the step before."""
    return any(BLOCK.unpack_from(data, 1 + BLOCK.size * block)[0] for block in range(len(number_blocks(config))))


def _encode_block(coder: LaneEncoder, block: NumberBlock, values, base, codes: np.ndarray) -> bytes:
    """Code a block, with a reference where that is cheaper; returns its head."""
    sizes = _step_sizes(codes)
    options = []
    for has_base in (False,) if base is None else (False, True):
        q = np.rint((values - base if has_base else values) / sizes).astype(np.int64)
        some = q[:, :: max(block.size // MOST_FITTED, 1)]
        weights = _fitted_weights(block, some)
        options.append((_cost(_rest(block, some, weights)), has_base, weights, q))
    _, has_base, weights, q = min(options, key=lambda option: option[0])
    middle = int(np.sort(codes)[len(codes) // 2])
    _code_steps(coder, block, middle, codes - middle)
    _code_numbers(coder, block, weights, q)
    return BLOCK.pack(has_base, *weights.tolist(), middle)


def _code_steps(coder: LaneEncoder | LaneDecoder, block: NumberBlock, middle: int, offsets: np.ndarray | None) -> np.ndarray:
    """(lanes,) or (1,) codes of a block's steps."""
    if block.one_step:
        codes = np.array([middle])
    else:
        codes = middle + coder.row(class_of(np.full(block.lanes, 32)), offsets)
    low, high = STEP_CODES
    if codes.min() < low or codes.max() > high:
        raise ModelFileError(
            f"coded network: {block.name}: expected step codes from {low} to {high}, found {codes.min()} to {codes.max()}"
        )
    return codes


def _code_numbers(
    coder: LaneEncoder | LaneDecoder, block: NumberBlock, weights: np.ndarray, q: np.ndarray | None
) -> np.ndarray:
    """(rows, lanes) whole numbers of a block, coded (given) or decoded (None): one walk for both.

    What is expected of the size of a number: the mean of its three nearest neighbours' sizes and, twice, of the lane's so far.
    """
    if hasattr(coder, "block"):  # native: the same walk
        return coder.block(block, weights, q)
    shape = tuple(n + 1 for n in block.nodes)
    known = np.zeros((*shape, block.lanes), np.int64).reshape(-1, block.lanes)
    size = np.zeros_like(known)
    cells = np.arange(len(known)).reshape(shape)[1:, 1:, 1:].reshape(-1)
    offsets = np.array([np.ravel_multi_index(n, shape) for n in NEIGHBOURS])
    nearest = offsets[[0, 1, 3]]
    there = 2 + np.stack(np.meshgrid(*(np.arange(n) > 0 for n in block.nodes), indexing="ij")).sum(0).reshape(-1)
    total, count = np.zeros(block.lanes, np.int64), 2
    for row, cell in enumerate(cells):
        start = 16 * int(total.sum()) // max(block.lanes * row, 1) if row else 64
        mean = (16 * total + 2 * start) // count
        expected = (16 * size[cell - nearest].sum(0) + 2 * mean) // there[row]
        predicted = weights @ known[cell - offsets] + 32 >> 6
        rest = coder.row(class_of(expected), None if q is None else q[row] - predicted)
        known[cell], size[cell] = predicted + rest, np.abs(rest)
        if np.abs(known[cell]).max() >= NUMBER_LIMIT:
            raise too_large(block.name)
        total, count = total + size[cell], count + 1
    return known[cells]


def _rest(block: NumberBlock, q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What the neighbours do not predict of (rows, lanes) whole numbers."""
    predicted = np.full(q.shape, 32, np.int64)
    for view, weight in zip(_neighbours(block, q), weights):
        predicted.reshape(view.shape)[...] += view * weight
    return q - (predicted >> 6)


def _neighbours(block: NumberBlock, q: np.ndarray) -> list[np.ndarray]:
    """The numbers of the nodes before, seven views (z, y, x, lanes) of one array."""
    z, y, x = block.nodes
    padded = np.zeros((z + 1, y + 1, x + 1, q.shape[1]), q.dtype)
    padded[1:, 1:, 1:] = q.reshape(z, y, x, -1)
    return [padded[1 - a : 1 - a + z, 1 - b : 1 - b + y, 1 - c : 1 - c + x] for a, b, c in NEIGHBOURS]


def _fitted_weights(block: NumberBlock, q: np.ndarray) -> np.ndarray:
    """(7,) int64 weights in 64ths, least squares over lanes of equal say; zeros for what has no neighbours."""
    if min(block.nodes) < 2:
        return np.zeros(7, np.int64)
    say = 1.0 / (np.sqrt((q.astype(np.float64) ** 2).mean(0)) + 0.1)
    scaled = q * say
    near, own = _neighbours(block, scaled), scaled.reshape(*block.nodes, -1)
    products = np.array([[np.vdot(a, b) for b in near] for a in near])
    weights = np.linalg.lstsq(products, np.array([np.vdot(a, own) for a in near]), rcond=None)[0]
    return np.clip(np.rint(64 * weights), -128, 127).astype(np.int64)


def _cost(rest: np.ndarray) -> float:
    """About how many bits some numbers take, but for a constant."""
    return float(np.log2(1.0 + np.abs(rest).mean(0)).sum())


def _step_codes(block: NumberBlock, wanted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(lanes,) or (1,) codes of the steps nearest to those wanted, none so fine that numbers of these sizes grow too large."""
    lanes = 1 if block.one_step else block.lanes
    if wanted.shape not in ((lanes,), (1,)) or not (np.isfinite(wanted) & (wanted > 0)).all():
        raise ConfigError(f"steps of {block.name}: expected {lanes} finite numbers above 0, found {wanted}")
    largest = sizes.max(keepdims=True).reshape(1) if block.one_step else sizes.max(0)
    mantissa, exponent = np.frexp(np.maximum(wanted, largest / FINEST))  # mantissa in [1/2, 1)
    quarter = np.rint(mantissa * 8).astype(np.int64) - 4  # 0 to 4
    return np.clip(4 * (exponent.astype(np.int64) - 3) + quarter, *STEP_CODES)


def _step_sizes(codes: np.ndarray) -> np.ndarray:
    return np.ldexp((4 + (codes & 3)).astype(np.float64), (codes >> 2).astype(np.int32))


def _values(base, q: np.ndarray, codes: np.ndarray, name: str) -> np.ndarray:
    values = base + q * _step_sizes(codes)
    if not np.abs(values).max() <= np.finfo(np.float32).max:
        raise ModelFileError(f"coded network: {name}: expected finite float32 numbers, found {np.abs(values).max():.3g}")
    return values.astype(np.float32)


def _check(tensors: Tensors, config: ModelConfig, what: str) -> None:
    """ConfigError unless the tensors are those of the config and finite."""
    shapes = tensor_shapes(config)
    if set(tensors) != set(shapes):
        raise ConfigError(f"{what}: expected {sorted(shapes)}, found {sorted(tensors)}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape or not np.isfinite(tensors[name]).all():
            raise ConfigError(f"{what}: {name!r}: expected finite numbers of shape {shape}, found {tensors[name].shape}")
