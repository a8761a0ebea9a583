"""The GPU kernel: Triton reads the grids and runs the decoder. Importing this needs triton.

What is not written here (gradients by autograd, the plain Adam) is that of `readable.TorchKernel`.

"full" computes in float32. "fast" feeds float16 to the tensor cores and accumulates in float32; the gradients of the
decoder are scaled by a constant on their way, so that they do not vanish in float16. Half overflow cannot poison a
training: what is stored in float16 saturates at +-65504, and NaN in a gradient becomes 0. Both are counted in
`nonfinite` where gradients enter the decoder and where they leave it, and non-finite sums for the weights too.
"""

from __future__ import annotations

import functools
import math
import os
import weakref

import torch

from ..errors import ConfigError
from ..network.encoding import density_loss, to_local
from . import triton_decoder, triton_fused
from .readable import TorchKernel
from .triton_autograd import Encoding, WeightedError
from .triton_encode import encode

PRECISIONS = ("full", "fast")
SCRATCH_BYTES = 1 << 28  # of the encoded features of one chunk
MOST_POINTS = 1 << 22  # of a chunk


def on_its_device(method):
    """Launch what a method launches on the device of its network, whichever is the current one."""

    @functools.wraps(method)
    def launched(self, network, *arguments, **named):
        with torch.cuda.device_of(network.features):
            return method(self, network, *arguments, **named)

    return launched


class TritonKernel(TorchKernel):
    """Evaluates and differentiates networks on a CUDA device (or, with TRITON_INTERPRET=1, slowly on the CPU).

    Networks whose decoder is too wide for the kernels here (`triton_decoder.unsupported`) read their grids with Triton
    and decode with torch in float32.

    Args:
        precision: "full" or "fast".

    Attributes:
        nonfinite: (1,) int32 on the device of the last `loss`: gradient entries that were saturated or not finite there
            since this object exists ("fast" only). Reading it waits for the device.

    Raises:
        ConfigError: Another precision.
    """

    def __init__(self, precision: str = "full"):
        if precision not in PRECISIONS:
            raise ConfigError(f"precision: expected one of {PRECISIONS}, found {precision!r}")
        self._precision = precision
        self.dtype = torch.float16 if precision == "fast" else torch.float32
        self.nonfinite = torch.zeros(1, dtype=torch.int32)
        self._counters = {self.nonfinite.device: self.nonfinite}
        self._columns: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        """For logs and the manifest."""
        return f"triton {self._precision}"

    def supports(self, network) -> str:
        """"" when it can do this network where it is, else the reason."""
        device = network.features.device
        if device.type != "cuda" and not (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
            return f"triton needs a CUDA device, the network is on {device}"
        if network.features.dtype != torch.float32:
            return f"triton needs float32 parameters, found {network.features.dtype}"
        largest = max(entry.size for entry in network.table.entries)
        return f"a grid of {largest} numbers, more than 2^31 - 1" if largest >= 2**31 else ""

    @torch.no_grad()
    @on_its_device
    def values(self, network, points: torch.Tensor) -> torch.Tensor:
        """(n, components) at points (n, 3) float32 on the network's device. No autograd."""
        reader = self._reader(network)
        result = points.new_empty(len(points), len(network.layers[-1].weight))
        for chunk, target in zip(points.split(self._chunk(network)), result.split(self._chunk(network))):
            target.copy_(reader(chunk.contiguous()))
        return result

    @torch.no_grad()
    @on_its_device
    def lattice(self, network, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(nz, ny, nx, components) at all combinations of three lists of normalised coordinates.

        Beside the result it needs memory for one chunk.
        """
        reader, chunk = self._reader(network), self._chunk(network)
        nx, ny, nz = len(x), len(y), len(z)
        result = x.new_empty(nz * ny * nx, len(network.layers[-1].weight))
        for start in range(0, len(result), chunk):
            index = torch.arange(start, min(start + chunk, len(result)), device=x.device)
            points = torch.stack((x[index % nx], y[index // nx % ny], z[index // (nx * ny)]), dim=1)
            result[start : start + chunk] = reader(points)
        return result.view(nz, ny, nx, -1)

    @on_its_device
    def derivatives(self, network, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values (n, components) and their slopes (n, components, 3). The grids by Triton, the decoder by torch."""
        results = [self._derivatives(network, part) for part in points.split(_scratch_points(network))]
        return tuple(torch.cat(parts) for parts in zip(*results))

    @on_its_device
    def loss(self, network, points, targets, weights, transform_gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted mean squared error, and the squared error of each point.

        Nothing here waits for the device, so that it can be captured in a CUDA graph (after one call outside).

        Args:
            points, targets, weights: (n, 3), (n, components), (n, 1), float32 on the network's device.
            transform_gradient: Whether the gradient reaches the transforms.

        Returns:
            (scalar, connected to autograd; (n,) detached).
        """
        points = points.contiguous()
        self.nonfinite = self.counter(points.device)
        if not self._decoded_by_torch(network) and len(points):
            transforms = network.transforms if transform_gradient else network.transforms.detach()
            layers = [*network.layers, *([] if network.skip is None else [network.skip])]
            parameters = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
            return WeightedError.apply(
                self, network, points, targets, weights, network.features, transforms, *parameters
            )
        encoded = self._encoded(network, points, transform_gradient, network.features)
        error = ((network.decode(encoded.t()) - targets) ** 2).mean(dim=1)
        return (error * weights[:, 0]).sum() / max(len(points), 1), error.detach()

    def density_loss(self, transforms, points, squared_error) -> torch.Tensor:
        """`encoding.density_loss` at points (n, 3) with errors (n,), connected to the transforms (m, 3, 4).

        A twin of `encoding.feature_density`, with a determinant that a CUDA graph can hold.
        """
        fourth = to_local(transforms, points).square().square()
        twentieth = fourth.square().square() * fourth
        coefficients = _determinants(transforms[:, :, :3]) / (2.0 * math.pi) ** 1.5
        density = torch.matmul(coefficients, torch.exp(-0.5 * twentieth.sum(dim=2)))
        return density_loss(density, squared_error)

    def _decoded_by_torch(self, network) -> bool:
        return bool(triton_decoder.unsupported(network, self.dtype == torch.float16))

    def _chunk(self, network) -> int:
        """Points at a time."""
        fused = not (self._decoded_by_torch(network) or triton_fused.unsupported(network))
        return MOST_POINTS if fused else _scratch_points(network)

    def _reader(self, network):
        """A function from points (n, 3), contiguous, to values; what it needs is made once."""
        features, transforms = network.features.detach(), network.transforms.detach()
        if self._decoded_by_torch(network):
            return lambda points: network.decode(encode(network.table, features, transforms, points).t())
        packed = self.packed(network)
        if triton_fused.unsupported(network):
            return lambda points: triton_decoder.decode(
                packed, encode(network.table, features, transforms, points, self.dtype), keep=False
            )[0]
        columns = self._columns.get(network)
        if columns is None or columns.starts.device != features.device:
            columns = self._columns[network] = triton_fused.ColumnTable.of(network.table, features.device)
        return lambda points: triton_fused.evaluate(columns, packed, features, transforms, points)

    def counter(self, device: torch.device) -> torch.Tensor:
        """(1,) int32, the `nonfinite` of a device; made at its first use, which no graph may capture."""
        if device not in self._counters:
            self._counters[device] = torch.zeros(1, dtype=torch.int32, device=device)
        return self._counters[device]

    def packed(self, network):
        """The decoder's weights as the kernels take them."""
        biases = [layer.bias.detach() for layer in network.layers if layer.bias is not None]
        weights = [layer.weight.detach() for layer in network.layers]
        skip = None if network.skip is None else network.skip.weight.detach()
        return triton_decoder.pack(weights, biases, skip, self.dtype)

    def _encoded(self, network, points, transform_gradient: bool, features) -> torch.Tensor:
        """(columns, n) float32, connected to autograd."""
        transforms = network.transforms if transform_gradient else network.transforms.detach()
        return Encoding.apply(self.counter(points.device), network.table, points, features, transforms)

    def _derivatives(self, network, points):
        points = points.detach().contiguous().requires_grad_(True)
        with torch.enable_grad():
            values = network.decode(self._encoded(network, points, False, network.features.detach()).t())
            count = values.shape[1]
            slopes = [
                torch.autograd.grad(values[:, c].sum(), points, retain_graph=c < count - 1)[0] for c in range(count)
            ]
        return values.detach(), torch.stack(slopes, dim=1)


def _scratch_points(network) -> int:
    """Points whose encoded features and layers fit into SCRATCH_BYTES."""
    widest = max(network.table.columns, *(len(layer.weight) for layer in network.layers))
    return min(max(SCRATCH_BYTES // (4 * widest), 1), MOST_POINTS)


def _determinants(matrices: torch.Tensor) -> torch.Tensor:
    """(m, 3, 3) -> (m,), without a library call."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(1) for row in matrices.unbind(1))
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
