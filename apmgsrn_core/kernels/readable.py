"""The kernels in readable torch, on any device: the twin that every other kernel is compared with."""

from __future__ import annotations

import torch

from ..network.encoding import density_loss, feature_density, to_local
from ..network.feature_bits import add_bit_slopes, disturb
from ..training.optimizer import adam_step

BLOCK_ZYX = (16, 16, 32)  # points evaluated at a time, as a box, so that far grids can be skipped
SLOPE_POINTS = 1 << 12  # points whose slopes are found at a time: autograd keeps up to 200 kB for each


class TorchKernel:
    """What a kernel does for a network; all tensors are on the network's device."""

    name = "torch"

    def supports(self, network) -> str:
        """ "" when this network can be evaluated, else why not."""
        return ""

    @torch.no_grad()
    def values(self, network, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) normalised points -> (n, outputs), without gradients."""
        parts = [network.forward_near(block) for block in points.split(16 * 16 * 32)]
        return torch.cat(parts) if parts else points.new_empty(0, network.layers[-1].out_features)

    @torch.no_grad()
    def lattice(self, network, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Three axes of normalised coordinates -> (nz, ny, nx, outputs), without gradients."""
        result = x.new_empty(len(z), len(y), len(x), network.layers[-1].out_features)
        for k in range(0, len(z), BLOCK_ZYX[0]):
            for j in range(0, len(y), BLOCK_ZYX[1]):
                for i in range(0, len(x), BLOCK_ZYX[2]):
                    axes = z[k : k + BLOCK_ZYX[0]], y[j : j + BLOCK_ZYX[1]], x[i : i + BLOCK_ZYX[2]]
                    mesh = torch.meshgrid(*axes, indexing="ij")
                    points = torch.stack(mesh[::-1], dim=-1)
                    block = network.forward_near(points.reshape(-1, 3)).reshape(*points.shape[:3], -1)
                    result[k : k + BLOCK_ZYX[0], j : j + BLOCK_ZYX[1], i : i + BLOCK_ZYX[2]] = block
        return result

    def derivatives(self, network, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3) -> values (n, outputs) and slopes (n, outputs, 3), d value / d normalised coordinate."""
        parts = [self._derivatives(network, part) for part in points.split(SLOPE_POINTS)]
        return tuple(torch.cat(tensors) for tensors in zip(*parts))

    @staticmethod
    def _derivatives(network, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            values = network(points)
            slopes = [
                torch.autograd.grad(values[:, c].sum(), points, retain_graph=True, materialize_grads=True)[0]
                for c in range(values.shape[1])
            ]
        return values.detach(), torch.stack(slopes, dim=1)

    def loss(
        self, network, points: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, transform_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch.

        Args:
            network: Trained.
            points: (n, 3).
            targets: (n, outputs).
            weights: (n, 1).
            transform_gradient: Whether the loss has a gradient in the transforms.

        Returns:
            Scalar: mean of weight * squared error, connected to autograd; and (n,) the squared error of each point, a mean
            over outputs.
        """
        error = ((network(points, transform_gradient) - targets) ** 2).mean(dim=1)
        return (error * weights[:, 0]).mean(), error.detach()

    def backward(self, network, points, targets, weights, transform_gradient: bool) -> torch.Tensor:
        """The gradients of `loss` as the parameters' `.grad`; returns the squared error of each point (n,)."""
        loss, squared_error = self.loss(network, points, targets, weights, transform_gradient)
        for parameter in network.parameters():
            parameter.grad = None
        loss.backward()
        return squared_error

    @staticmethod
    def adam(values, gradient, mean, square, step: int, rate: float, beta_1: float, beta_2: float, epsilon: float) -> None:
        """One step of Adam in place, see `optimizer.adam_step`."""
        adam_step(values, gradient, mean, square, step, rate, beta_1, beta_2, epsilon)

    @staticmethod
    def disturbed(features: torch.Tensor, step: float, seed: int | None) -> torch.Tensor:
        """See `feature_bits.disturb`."""
        return disturb(features, step, seed)

    @staticmethod
    def add_bit_slopes(gradient, features, scales, step: float, weight: float) -> None:
        """In place, see `feature_bits.add_bit_slopes`."""
        add_bit_slopes(gradient, features, scales, step, weight)

    def density_loss(self, transforms: torch.Tensor, points: torch.Tensor, squared_error: torch.Tensor) -> torch.Tensor:
        """The published placement loss of points (n, 3) with squared errors (n,), connected to autograd."""
        return density_loss(feature_density(transforms, to_local(transforms, points)), squared_error)
