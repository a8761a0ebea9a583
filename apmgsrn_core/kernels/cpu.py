"""The native CPU kernels (`cpu/`), called through ctypes. Readable twin: `readable.py`."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import c_double, c_int32, c_uint32, c_void_p

import torch

from ..errors import ApmgsrnError, ConfigError, MemoryShortage
from .cpu_library import GradientsStructure, GridStructure, ModelStructure, chosen_path, load
from .threads import thread_count

MOST_NODES = 2**31 // 8  # of a grid: indices are 32 bits
MOST_LAYERS = 20


class _Shape:
    """The C description of a network's shape, and pointers to its numbers."""

    def __init__(self, network):
        entries = network.table.entries
        self.grids = (GridStructure * len(entries))()
        transform = 0
        for grid, entry in zip(self.grids, entries):
            grid.resolution[:] = entry.resolution
            grid.features, grid.quadratic = entry.features, entry.interpolation == "quadratic"
            grid.transform = transform if entry.placed else -1
            transform += entry.placed
        layers = network.layers
        widths = [network.table.columns, *(layer.out_features for layer in layers)]
        self.widths = (c_int32 * len(widths))(*widths)
        self.weights, self.biases = (c_void_p * len(layers))(), (c_void_p * len(layers))()
        self.model = ModelStructure(len(entries), len(layers), self.grids, self.widths)

    def point(self, network) -> ModelStructure:
        """The description with the network's numbers as they are now."""
        model = self.model
        model.features, model.transforms = _address(network.features), _address(network.transforms)
        for l, layer in enumerate(network.layers):
            self.weights[l] = _address(layer.weight)
            self.biases[l] = None if layer.bias is None else _address(layer.bias)
        model.weights, model.biases = self.weights, self.biases
        model.skip = None if network.skip is None else _address(network.skip.weight)
        return model


def _address(tensor: torch.Tensor) -> int:
    """Of the numbers of a contiguous float32 CPU tensor."""
    if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ApmgsrnError(f"native kernels: expected contiguous float32 on the CPU, found {tensor.dtype} on {tensor.device}")
    return tensor.data_ptr()


class _Prepared:
    """A network in the kernels' own layout; taken up again whenever its numbers have changed."""

    def __init__(self, network, path: str, fast: bool, threads: int):
        self.library, _ = load()
        self.shape = _Shape(network)
        self.parameters = list(network.named_parameters())
        self.stamp = self._stamp()
        self.kept: dict[str, torch.Tensor] = {}  # memory of gradients
        self.handle = self.library.apm_prepare(self.shape.point(network), path.encode(), fast, threads)
        if not self.handle:
            raise MemoryShortage("native kernels: not enough memory to prepare the network")
        weakref.finalize(self, self.library.apm_release, self.handle)

    def update(self, network) -> None:
        """Take up the numbers anew; those of a frozen network only when they have changed. (What a fused optimiser
        changes does not show in the version of a tensor.)"""
        stamp = self._stamp()
        if stamp != self.stamp or network.features.requires_grad:
            _check(self.library.apm_update(self.handle, self.shape.point(network)))
            self.stamp = stamp

    def _stamp(self) -> tuple:
        return tuple((p.data_ptr(), p._version) for _, p in self.parameters)

    def gradients(self, network, with_transforms: bool) -> GradientsStructure:
        """The C structure of the parameters' own `.grad`, which are made where they are missing."""
        for name, parameter in self.parameters:
            if name == "transforms" and not with_transforms:
                parameter.grad = None
            elif parameter.grad is None:
                parameter.grad = self.kept.setdefault(name, torch.empty_like(parameter)).detach()
        return _gradient_arguments(network, {name: p.grad for name, p in self.parameters})


def _check(status: int) -> None:
    if status != 0:
        raise MemoryShortage("native kernels: not enough memory for this pass; smaller batches need less")


class NativeKernel:
    """Fused kernels on the CPU; see `readable.TorchKernel` for the contract.

    Args:
        precision: "full": fp32 (outputs within 1e-5 of the range of the twin's, gradients within 1e-4 relative);
            "fast": the decoder's hidden layers in bf16 with fp32 sums where the processor has AMX (about 5e-4 of the
            range, a noise floor near 67 dB), fp32 elsewhere.
        path: A name from `paths`; None for APMGSRN_CPU or the best.
    """

    def __init__(self, precision: str = "full", path: str | None = None):
        self.library, why = load()
        if self.library is None:
            raise ConfigError(why)
        self.fast = precision == "fast"
        self.path = chosen_path(path)
        self.name = f"native {'avx512' if self.path == 'amx' and not self.fast else self.path}"
        self._prepared: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self.exact = NativeKernel("full", path) if self.fast else self

    def supports(self, network) -> str:
        """ "" when this network can be evaluated, else why not."""
        if network.features.dtype != torch.float32:
            return f"{network.features.dtype} numbers"
        if len(network.layers) > MOST_LAYERS:
            return f"{len(network.layers)} layers (at most {MOST_LAYERS})"
        most = max(entry.size // entry.features for entry in network.table.entries)
        return f"a grid of {most} nodes (at most {MOST_NODES})" if most > MOST_NODES else ""

    def prepare(self, network) -> _Prepared:
        """The network in the kernels' own layout."""
        threads = thread_count()
        known = self._prepared.get(network)
        if known is None or known[0] != threads:
            known = threads, _Prepared(network, self.path, self.fast, threads)
            self._prepared[network] = known
        else:
            known[1].update(network)
        return known[1]

    def values(self, network, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) -> (n, outputs), without gradients."""
        prepared, points = self.prepare(network), points.detach().contiguous()
        result = points.new_empty(len(points), network.layers[-1].out_features)
        _check(self.library.apm_values(prepared.handle, _address(points), len(points), _address(result)))
        return result

    def lattice(self, network, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Three axes of coordinates -> (nz, ny, nx, outputs), without gradients."""
        prepared, axes = self.prepare(network), [a.contiguous() for a in (x, y, z)]
        result = x.new_empty(len(z), len(y), len(x), network.layers[-1].out_features)
        sizes = [v for a in axes for v in (_address(a), len(a))]
        _check(self.library.apm_lattice(prepared.handle, *sizes, _address(result)))
        return result

    def derivatives(self, network, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3) -> (n, outputs) and (n, outputs, 3) d value / d point."""
        if self.fast:  # the sign of a hidden neuron turns with the rounding, and with it the slope
            return self.exact.derivatives(network, points)
        prepared, points = self.prepare(network), points.detach().contiguous()
        values = points.new_empty(len(points), network.layers[-1].out_features)
        slopes = points.new_empty(*values.shape, 3)
        _check(
            self.library.apm_derivatives(prepared.handle, _address(points), len(points), _address(values), _address(slopes))
        )
        return values, slopes

    def loss(self, network, points, targets, weights, transform_gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted squared error, connected to autograd, and the squared error of each point (n,)."""
        return _Loss.apply(self, network, points, targets, weights, transform_gradient, *_parameters(network))

    def backward(self, network, points, targets, weights, transform_gradient: bool) -> torch.Tensor:
        """The gradients of `loss`, straight into the parameters' `.grad`; returns the squared error of each point."""
        prepared = self.prepare(network)
        arguments = prepared.gradients(network, transform_gradient)
        squared_error = points.new_empty(len(points))
        numbers = _address(points), _address(targets), _address(weights), len(points)
        _check(self.library.apm_loss(prepared.handle, *numbers, arguments, _address(squared_error)))
        prepared.stamp = None  # a step follows, of which the tensors' versions may say nothing
        return squared_error

    def adam(self, values, gradient, mean, square, step: int, rate: float, beta_1: float, beta_2: float, epsilon: float):
        """One step of Adam in place, see `optimizer.adam_step`."""
        addresses = (_address(t) for t in (values, gradient, mean, square))
        self.library.apm_adam(*addresses, values.numel(), step, rate, beta_1, beta_2, epsilon, thread_count())

    def disturbed(self, features, step: float, seed: int | None) -> torch.Tensor:
        """See `feature_bits.disturb`."""
        result = torch.empty_like(features)
        number = None if seed is None else ctypes.byref(c_uint32(seed))
        _check(
            self.library.apm_disturb(
                _address(features), _address(result), features.numel(), step, number, self.path.encode(), thread_count()
            )
        )
        return result

    def add_bit_slopes(self, gradient, features, scales, step: float, weight: float) -> None:
        """In place, see `feature_bits.add_bit_slopes`."""
        addresses = (_address(t) for t in (gradient, features, scales))
        arguments = features.numel(), step, weight, self.path.encode(), thread_count()
        _check(self.library.apm_add_bit_slopes(*addresses, *arguments))

    def density_loss(self, transforms, points: torch.Tensor, squared_error: torch.Tensor) -> torch.Tensor:
        """The published density loss, connected to autograd."""
        return _DensityLoss.apply(transforms, points, squared_error, self.library, self.path)


def _parameters(network) -> tuple[torch.Tensor, ...]:
    return tuple(network.parameters())


def _gradient_buffers(network, with_transforms: bool) -> tuple[dict, GradientsStructure]:
    """Empty gradients by parameter name, and the C structure that points to them."""
    gradients = {
        name: torch.empty_like(p) for name, p in network.named_parameters() if with_transforms or name != "transforms"
    }
    return gradients, _gradient_arguments(network, gradients)


def _gradient_arguments(network, gradients: dict) -> GradientsStructure:
    """The C structure that points to gradients by parameter name; a missing one is not wanted."""

    def address(name: str) -> int | None:
        return None if gradients.get(name) is None else _address(gradients[name])

    layers = range(len(network.layers))
    weights = (c_void_p * len(layers))(*(address(f"layers.{l}.weight") for l in layers))
    biases = (c_void_p * len(layers))(*(address(f"layers.{l}.bias") for l in layers))
    return GradientsStructure(address("features"), address("transforms"), weights, biases, address("skip.weight"))


class _Loss(torch.autograd.Function):
    """Value and gradients in one pass: the gradients wait for `backward`."""

    @staticmethod
    def forward(ctx, kernel, network, points, targets, weights, transform_gradient, *parameters):
        prepared = kernel.prepare(network)
        gradients, arguments = _gradient_buffers(network, transform_gradient)
        points, targets, weights = points.contiguous(), targets.contiguous(), weights.contiguous()
        squared_error = points.new_empty(len(points))
        _check(
            kernel.library.apm_loss(
                prepared.handle, _address(points), _address(targets), _address(weights), len(points), arguments,
                _address(squared_error),
            )
        )  # fmt: skip
        prepared.stamp = None
        names = [name for name, _ in network.named_parameters()]
        ctx.gradients = [gradients.get(name) for name in names]
        ctx.mark_non_differentiable(squared_error)
        return (squared_error * weights[:, 0]).mean(), squared_error

    @staticmethod
    def backward(ctx, slope, _):
        unit = float(slope) == 1.0
        scaled = [g if g is None or unit else g * slope for g in ctx.gradients]
        return None, None, None, None, None, None, *scaled


class _DensityLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, transforms, points, squared_error, library, path):
        gradient, loss = torch.empty_like(transforms), c_double()
        _check(
            library.apm_density(
                _address(transforms), len(transforms), _address(points), _address(squared_error.detach()), len(points),
                path.encode(), thread_count(), _address(gradient), ctypes.byref(loss),
            )
        )  # fmt: skip
        ctx.gradient = gradient
        return transforms.new_tensor(loss.value)

    @staticmethod
    def backward(ctx, slope):
        return ctx.gradient * slope, None, None, None, None
