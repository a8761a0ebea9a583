"""The Triton kernels as autograd functions. Nothing here waits for the device."""

from __future__ import annotations

import torch

from . import triton_decoder
from .triton_encode import encode
from .triton_encode_backward import encode_backward
from .triton_outer import add_outer

GRADIENT_SCALE = 256.0  # of gradients on their way through a float16 decoder; a power of two


class Encoding(torch.autograd.Function):
    """encoded (columns, n) float32, differentiable in points (n, 3), features and transforms (m, 3, 4)."""

    @staticmethod
    def forward(ctx, nonfinite, table, points, features, transforms):
        """See `triton_encode.encode`; `nonfinite` counts, as in `encode_backward`."""
        ctx.nonfinite, ctx.table = nonfinite, table
        ctx.save_for_backward(points, features, transforms)
        return encode(table, features, transforms, points)

    @staticmethod
    def backward(ctx, gradient):
        """Only of what needs it."""
        inputs = ctx.saved_tensors
        targets = [torch.zeros_like(t) if need else None for t, need in zip(inputs, ctx.needs_input_grad[2:])]
        points, features, transforms = inputs
        to_points, to_features, to_transforms = targets
        encode_backward(
            ctx.table, features, transforms, points, gradient.contiguous(), gradient.new_ones(()), ctx.nonfinite,
            to_features, to_transforms, to_points,
        )  # fmt: skip
        return None, None, *targets


class WeightedError(torch.autograd.Function):
    """(loss, squared error (n,)) of a network, differentiable in features, transforms and the decoder's parameters."""

    @staticmethod
    def forward(ctx, kernel, network, points, targets, weights, features, transforms, *parameters):
        """n is at least 1; see `TritonKernel.loss`. `parameters`: of the layers in order, then of the skip."""
        encoded = encode(network.table, features, transforms, points, kernel.dtype)
        packed = kernel.packed(network)
        values, activations = triton_decoder.decode(packed, encoded, keep=True)
        difference = values - targets
        error = (difference * difference).mean(dim=1)
        loss = (error * weights[:, 0]).mean()
        ctx.table, ctx.packed = network.table, packed
        ctx.biased, ctx.skips = packed.biases is not None, packed.skip is not None
        ctx.nonfinite = kernel.counter(points.device)
        ctx.save_for_backward(points, features, transforms, encoded, activations, difference * weights, *parameters)
        ctx.mark_non_differentiable(error)
        return loss, error

    @staticmethod
    def backward(ctx, to_loss, _):
        """Of all that is asked for; the loss's factor 2 / (n * components) comes in at the end, in float32."""
        points, features, transforms, encoded, activations, residual, *parameters = ctx.saved_tensors
        scaled = GRADIENT_SCALE if encoded.dtype == torch.float16 else 1.0
        factor = (to_loss * (2.0 / (residual.numel() * scaled))).reshape(1)
        to_values = residual * scaled
        to_hidden, to_encoded = triton_decoder.decode_backward(ctx.packed, activations, to_values, ctx.nonfinite)
        gradients = [torch.zeros_like(p) for p in parameters]
        step = 2 if ctx.biased else 1
        layers = ctx.packed.layers
        for layer in range(layers + 1):
            last = layer == layers
            left, right = to_values if last else to_hidden[layer], activations[layer - 1] if layer else encoded
            to_bias = gradients[layer * step + 1] if ctx.biased else None
            add_outer(left, right, last, factor, ctx.nonfinite, gradients[layer * step], to_bias)
        if ctx.skips:
            add_outer(to_values, encoded, True, factor, ctx.nonfinite, gradients[-1])
        needs_features, needs_transforms = ctx.needs_input_grad[5:7]
        to_features = torch.zeros_like(features) if needs_features else None
        to_transforms = torch.zeros_like(transforms) if needs_transforms else None
        encode_backward(
            ctx.table, features, transforms, points, to_encoded, factor, ctx.nonfinite, to_features, to_transforms
        )
        return None, None, None, None, None, to_features, to_transforms, *gradients
