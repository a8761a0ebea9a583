"""Triton: the ReLU MLP over encoded features, and the way back through it (of the weights: `triton_outer.py`).

Tiles are (neurons, points): a product is weights @ points, so that nothing is transposed between layers. Weights are
packed first: padded to powers of two (zeros change nothing) and, in "fast", rounded to float16. Products accumulate in
float32; in float16 everything that is stored saturates at +-65504 instead of overflowing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .triton_encode import saturate
from .triton_encode_backward import guarded

MOST_WIDTH_HALF, MOST_WIDTH, MOST_OUTPUTS = 128, 64, 64  # wider ones do not fit into the registers


@dataclass(frozen=True)
class PackedDecoder:
    """Padded weights of one decoder.

    Attributes:
        first: (H, KP), H the padded width, KP the padded columns.
        hidden: (hidden layers - 1, H, H).
        last: (CP, H), CP the padded outputs.
        skip: (CP, KP), or None.
        biases: (hidden layers * H + CP,) float32, or None.
        columns, outputs, layers: Not padded; `layers` are the hidden ones.
    """

    first: torch.Tensor
    hidden: torch.Tensor
    last: torch.Tensor
    skip: torch.Tensor | None
    biases: torch.Tensor | None
    columns: int
    outputs: int
    layers: int

    @property
    def half(self) -> bool:
        """Whether products are of float16."""
        return self.first.dtype == torch.float16

    @property
    def constants(self) -> dict:
        """Of the kernels. Blocks of points so small that registers (and 64 KiB of shared memory) are enough."""
        height, wide = self.first.shape
        return {
            "KP": wide, "KB": min(wide, 32), "H": height, "CP": len(self.last), "LAYERS": self.layers,
            "SKIP": self.skip is not None, "HALF": self.half, "BLOCK": 64 if self.half else 32,
            "num_warps": 8 if height >= 64 else 4, "num_stages": 2 if height <= 64 else 1,
        }  # fmt: skip

    def blocks(self, n: int) -> tuple[int]:
        """Launch grid for n points."""
        return (triton.cdiv(n, self.constants["BLOCK"]),)


def unsupported(network, half: bool) -> str:
    """Why the kernels here cannot do this decoder, "" when they can."""
    widest = MOST_WIDTH_HALF if half else MOST_WIDTH
    shapes = [tuple(layer.weight.shape) for layer in network.layers]
    if len(shapes) == 1:
        return "no hidden layer"
    if shapes[0][0] > widest:
        return f"hidden width {shapes[0][0]}, more than {widest}"
    if shapes[-1][0] > MOST_OUTPUTS:
        return f"{shapes[-1][0]} outputs, more than {MOST_OUTPUTS}"
    return ""


def padded(count: int) -> int:
    """A power of two, at least 16: the least that `tl.dot` takes."""
    return max(16, triton.next_power_of_2(count))


def pack(weights: list[torch.Tensor], biases: list[torch.Tensor], skip: torch.Tensor | None, dtype) -> PackedDecoder:
    """Copy weights (outputs, inputs) of all layers, first to last, biases ([] without) and skip into padded ones."""
    width, columns = weights[0].shape
    outputs, layers = len(weights[-1]), len(weights) - 1
    height, out = padded(width), padded(outputs)
    wide = 16 if columns <= 16 else triton.cdiv(columns, 32) * 32
    new = lambda *shape: torch.zeros(shape, dtype=dtype, device=weights[0].device)  # noqa: E731
    first, hidden, last = new(height, wide), new(max(layers - 1, 1), height, height), new(out, height)
    first[:width, :columns] = weights[0]
    for i, weight in enumerate(weights[1:-1]):
        hidden[i, :width, :width] = weight
    last[:outputs, :width] = weights[-1]
    packed_skip = packed_biases = None
    if skip is not None:
        packed_skip = new(out, wide)
        packed_skip[:outputs, :columns] = skip
    if biases:
        packed_biases = torch.zeros(layers * height + out, device=weights[0].device)
        for i, bias in enumerate(biases):
            packed_biases[i * height : i * height + len(bias)] = bias
    return PackedDecoder(first, hidden, last, packed_skip, packed_biases, columns, outputs, layers)


@triton.jit
def activated(total, HALF: tl.constexpr, dtype: tl.constexpr):
    """ReLU in the type of the weights."""
    return saturate(tl.maximum(total, 0.0), HALF).to(dtype)


@triton.jit
def hidden_to_values(
    total, direct, hidden, last, biases, activations, values, p, n, outputs,
    H: tl.constexpr, CP: tl.constexpr, LAYERS: tl.constexpr, BIAS: tl.constexpr, STORE: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """From the first layer's products (H, BLOCK) and the skip's (CP, BLOCK) to values (n, outputs)."""
    row, c = tl.arange(0, H), tl.arange(0, CP)
    alive = p < n
    place = row[:, None].to(tl.int64) * n + p[None, :]
    if BIAS:
        total += tl.load(biases + row)[:, None]
    h = activated(total, HALF, last.dtype.element_ty)
    if STORE:
        tl.store(activations + place, h, mask=alive[None, :])
    for layer in range(1, LAYERS):
        weight = tl.load(hidden + (layer - 1) * H * H + row[:, None] * H + row[None, :])
        total = tl.dot(weight, h, input_precision="ieee")
        if BIAS:
            total += tl.load(biases + layer * H + row)[:, None]
        h = activated(total, HALF, last.dtype.element_ty)
        if STORE:
            place = (layer * H + row)[:, None].to(tl.int64) * n + p[None, :]
            tl.store(activations + place, h, mask=alive[None, :])
    direct += tl.dot(tl.load(last + c[:, None] * H + row[None, :]), h, input_precision="ieee")
    if BIAS:
        direct += tl.load(biases + LAYERS * H + c)[:, None]
    target = values + p[None, :].to(tl.int64) * outputs + c[:, None]
    tl.store(target, direct, mask=(c < outputs)[:, None] & alive[None, :])


@triton.jit
def decoder_kernel(
    encoded, first, hidden, last, skip, biases, activations, values, n, columns, outputs,
    KP: tl.constexpr, KB: tl.constexpr, H: tl.constexpr, CP: tl.constexpr, LAYERS: tl.constexpr,
    BIAS: tl.constexpr, SKIP: tl.constexpr, STORE: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """encoded (columns, n) -> values (n, outputs), and activations (LAYERS, H, n) when STORE."""
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row, c = tl.arange(0, H), tl.arange(0, CP)
    total = tl.zeros([H, BLOCK], tl.float32)
    direct = tl.zeros([CP, BLOCK], tl.float32)
    for start in range(0, KP, KB):
        k = start + tl.arange(0, KB)
        mask = (k < columns)[:, None] & (p < n)[None, :]
        tile = tl.load(encoded + k[:, None].to(tl.int64) * n + p[None, :], mask=mask, other=0.0)
        total = tl.dot(tl.load(first + row[:, None] * KP + k[None, :]), tile, total, input_precision="ieee")
        if SKIP:
            direct = tl.dot(tl.load(skip + c[:, None] * KP + k[None, :]), tile, direct, input_precision="ieee")
    hidden_to_values(
        total, direct, hidden, last, biases, activations, values, p, n, outputs, H, CP, LAYERS, BIAS, STORE, HALF
    )


@triton.jit
def decoder_backward_kernel(
    to_values, first, hidden, last, skip, activations, to_hidden, to_encoded, nonfinite, n, columns, outputs,
    KP: tl.constexpr, KB: tl.constexpr, H: tl.constexpr, CP: tl.constexpr, LAYERS: tl.constexpr,
    SKIP: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of values (n, outputs) -> of products of the layers, to_hidden (LAYERS, H, n), and encoded (columns, n).

    Zero where a layer's ReLU is.
    """
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    alive = p < n
    row, c = tl.arange(0, H), tl.arange(0, CP)
    place = row[:, None].to(tl.int64) * n + p[None, :]
    dtype: tl.constexpr = last.dtype.element_ty
    source = to_values + p[None, :].to(tl.int64) * outputs + c[:, None]
    g_out = tl.load(source, mask=(c < outputs)[:, None] & alive[None, :], other=0.0)
    g_out = guarded(g_out, nonfinite, HALF).to(dtype)
    g = tl.dot(tl.load(last + c[None, :] * H + row[:, None]), g_out, input_precision="ieee")
    for step in range(1, LAYERS):
        layer = LAYERS - step
        above = (layer * H + row)[:, None].to(tl.int64) * n + p[None, :]
        h = tl.load(activations + above, mask=alive[None, :], other=0.0)
        part = saturate(tl.where(h > 0, g, 0.0), HALF).to(dtype)
        tl.store(to_hidden + above, part, mask=alive[None, :])
        weight = tl.load(hidden + (layer - 1) * H * H + row[None, :] * H + row[:, None])  # transposed
        g = tl.dot(weight, part, input_precision="ieee")
    h = tl.load(activations + place, mask=alive[None, :], other=0.0)
    part = saturate(tl.where(h > 0, g, 0.0), HALF).to(dtype)
    tl.store(to_hidden + place, part, mask=alive[None, :])
    for start in range(0, KP, KB):
        k = start + tl.arange(0, KB)
        result = tl.dot(tl.load(first + row[None, :] * KP + k[:, None]), part, input_precision="ieee")
        if SKIP:
            result = tl.dot(tl.load(skip + c[None, :] * KP + k[:, None]), g_out, result, input_precision="ieee")
        target = to_encoded + k[:, None].to(tl.int64) * n + p[None, :]
        tl.store(target, saturate(result, HALF).to(dtype), mask=(k < columns)[:, None] & alive[None, :])


def decode(packed: PackedDecoder, encoded: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(columns, n), typed as the weights -> values (n, outputs) float32 and, to keep, activations (layers, H, n)."""
    n = encoded.shape[1]
    values = torch.empty(n, packed.outputs, device=encoded.device)
    activations = encoded.new_empty(packed.layers, len(packed.first), n) if keep else None
    if n:
        unused = packed.last
        decoder_kernel[packed.blocks(n)](
            encoded, packed.first, packed.hidden, packed.last, unused if packed.skip is None else packed.skip,
            unused if packed.biases is None else packed.biases, activations if keep else unused, values,
            n, packed.columns, packed.outputs, BIAS=packed.biases is not None, STORE=keep, **packed.constants,
        )  # fmt: skip
    return values, activations


def decode_backward(packed: PackedDecoder, activations, to_values, nonfinite) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of values (n, outputs) float32 -> of products of the layers (layers, H, n) and encoded (columns, n)."""
    n = len(to_values)
    to_hidden = torch.empty_like(activations)
    to_encoded = activations.new_empty(packed.columns, n)
    decoder_backward_kernel[packed.blocks(n)](
        to_values, packed.first, packed.hidden, packed.last, packed.last if packed.skip is None else packed.skip,
        activations, to_hidden, to_encoded, nonfinite, n, packed.columns, packed.outputs, **packed.constants,
    )  # fmt: skip
    return to_hidden, to_encoded
