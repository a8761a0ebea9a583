"""Evaluating a foreign network: the methods of a kernel (`kernels/readable.py`) for any callable of points."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import DataError, one_line
from ..kernels.memory import is_of_accelerator, is_short
from .network_description import NetworkDescription

STEP = 2.0**-7  # of central differences in [-1, 1], at most: smaller ones lose digits of float32
AUTOGRAD, DIFFERENCES = "autograd", "central differences"


class ForeignKernel:
    """What is asked of a network, in its outputs as the sampler wants them: 0 and 1 being the range of an array.

    Args:
        description: Of the network.
        device: Where it is evaluated.
        precision: "full", or "fast": half precision by `torch.autocast` on a GPU.

    Attributes:
        method: Where derivatives come from, AUTOGRAD or DIFFERENCES; set by `probe`.
    """

    name = "foreign"

    def __init__(self, description: NetworkDescription, device: torch.device, precision: str):
        self._name, self._components = description.name, description.components
        self._most, self._wanted = description.most_points, description.derivatives
        self._half = precision == "fast" and device.type == "cuda"
        self._device, self._scaling = device, _scaling(description, device)
        self._steps = [min(1.0 / (n - 1), STEP) if n > 1 else 0.0 for n in description.grid.value_dims]
        self.method = DIFFERENCES

    def probe(self, network: Callable) -> None:
        """Try the network at two points and choose how derivatives are found.

        Raises:
            DataError: It fails, gives another shape, or has no autograd where that is demanded.
        """
        points = torch.tensor([[-0.5, 0.25, 0.1], [0.3, -0.7, 0.6]], device=self._device)
        with torch.no_grad():
            self._outputs(network, points)
        if self._wanted != "differences" and self._has_autograd(network, points):
            self.method = AUTOGRAD
        elif self._wanted == "autograd":
            raise DataError(f"{self._name}: expected a network with autograd, as it says, found outputs without gradients")

    def values(self, network: Callable, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) normalised points -> (n, outputs), without gradients."""
        with torch.no_grad():
            parts = [self._outputs(network, part) for part in points.split(self._most)] if len(points) else []
        return torch.cat(parts) if parts else points.new_empty(0, self._components)

    def lattice(self, network: Callable, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Three axes of normalised coordinates -> (nz, ny, nx, outputs), without gradients."""
        result = x.new_empty(len(z), len(y), len(x), self._components)
        layers = max(self._most // max(len(y) * len(x), 1), 1)
        for first in range(0, len(z), layers):
            mesh = torch.meshgrid(z[first : first + layers], y, x, indexing="ij")
            points = torch.stack(mesh[::-1], dim=-1).reshape(-1, 3)
            result[first : first + layers] = self.values(network, points).reshape(*mesh[0].shape, -1)
        return result

    def derivatives(self, network: Callable, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3) -> values (n, outputs) and slopes (n, outputs, 3), d value / d normalised coordinate."""
        find = self._exact if self.method == AUTOGRAD else self._differences
        parts = [find(network, part) for part in points.split(max(self._most // 4, 1))]
        return tuple(torch.cat(tensors) for tensors in zip(*parts))

    def _exact(self, network: Callable, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            values = self._outputs(network, points)
            slopes = [
                torch.autograd.grad(column.sum(), points, retain_graph=True, materialize_grads=True)[0]
                for column in values.unbind(1)
            ]
        return values.detach(), torch.stack(slopes, dim=1)

    def _differences(self, network: Callable, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Central differences; one-sided ones on the border of the domain."""
        slopes = points.new_zeros(len(points), self._components, 3)
        for axis, step in enumerate(self._steps):
            if not step:
                continue
            low, high = points.clone(), points.clone()
            low[:, axis] = (low[:, axis] - step).clamp_min(-1.0)
            high[:, axis] = (high[:, axis] + step).clamp_max(1.0)
            change = self.values(network, high) - self.values(network, low)
            slopes[:, :, axis] = change / (high - low)[:, axis : axis + 1]
        return self.values(network, points), slopes

    def _has_autograd(self, network: Callable, points: torch.Tensor) -> bool:
        try:
            points = points.clone().requires_grad_(True)
            with torch.enable_grad():
                outputs = self._outputs(network, points)
                return outputs.requires_grad and torch.autograd.grad(outputs.sum(), points, allow_unused=True)[0] is not None
        except (RuntimeError, DataError) as error:  # it has been evaluated without gradients: it is these that it lacks
            if is_short(error) or is_of_accelerator(error):
                raise
            return False

    def _outputs(self, network: Callable, points: torch.Tensor) -> torch.Tensor:
        """(m, 3) -> (m, outputs) float32, normalised. Raises DataError, and what is raised where memory is short or a GPU fails."""
        try:
            with torch.autocast(self._device.type, torch.float16, enabled=self._half):
                found = network(points)
        except Exception as error:  # of any kind: it is foreign
            if is_short(error) or is_of_accelerator(error):
                raise
            raise DataError(
                f"{self._name}: expected a network that takes {tuple(points.shape)} float32 points on {points.device}, found"
                f" that it fails: {one_line(error)}"
            ) from error
        expected, shape = (len(points), self._components), getattr(found, "shape", None)
        if not isinstance(found, torch.Tensor) or tuple(shape) != expected or not found.is_floating_point():
            what = f"{tuple(shape)} {found.dtype}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise DataError(f"{self._name}: expected a network that gives {expected} floating-point numbers, found {what}")
        if self._scaling is None:
            return found.float()
        low, span = self._scaling
        return ((found.double() - low) / span).float()


def _scaling(description: NetworkDescription, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(lowest, length) of the range of each output, float64; None when outputs are normalised already."""
    if description.outputs == "normalised":
        return None
    ranges = [array.range for array in description.arrays for _ in range(array.components)]
    ends = torch.tensor(ranges, dtype=torch.float64, device=device)
    return ends[:, 0], ends[:, 1] - ends[:, 0]
