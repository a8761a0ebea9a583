"""How finely the numbers of a network must be stored: rounding steps from what each does to the output.

To first order, rounding a number p to a step s adds s^2 / 12 * mean((d output / d p)^2) to the mean squared error. What is
added is counted relative to the error that the output has anyway, so that an array that is met well stays so beside one that
is not. For a given total the fewest bits are needed when every number adds the same (reverse water-filling), so that a block's
lane has step = sqrt(12 * share / (numbers of the network * mean over the lane of (d output / d p)^2 / error)). The PSNR falls
by 10 log10(1 + share), where `share` is the mean over the outputs (measured: to 0.03 dB up to share 0.5).

Source: Cover and Thomas 2006, Elements of Information Theory, section 10.3.3; the mean squared derivatives are estimated
with random signs, Hutchinson 1990, Communications in Statistics 19(2).
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from ..kernels import kernel_for
from ..network.model import Network, evaluate
from .number_blocks import network_tensors, number_blocks

LEAST_ERROR = 1e-12  # mean squared, relative to the range; float32 resolves no less
PASSES = 8
POINTS = 8192  # of a pass
TINY = 1e-30  # of the largest mean squared derivative: what has no effect


def mean_squared_slopes(network: Network, points: torch.Tensor, errors: tuple[float, ...] = ()) -> dict[str, np.ndarray]:
    """How much each number of a network does to its outputs.

    Args:
        network: Any, also frozen; not changed.
        points: (n, 3) normalised, spread over the volume; at most PASSES * POINTS of them are used.
        errors: Of each output, by which its squared slopes are divided; () divides by none.

    Returns:
        {name: float64 array as the tensor}, the mean over points and outputs of (d output / d number)^2 / error, estimated: of
        a single number to a factor of about 2, of a lane well.
    """
    network = copy.deepcopy(network).requires_grad_(True)
    kernel, device = kernel_for(network), network.features.device
    signs = torch.Generator().manual_seed(0)
    chunks = points.to(device).split(-(-min(len(points), PASSES * POINTS) // PASSES))[:PASSES]
    sums = {name: 0.0 for name in network_tensors(network)}
    count = 0
    say = torch.tensor([1 / math.sqrt(error) for error in errors] or [1.0])
    most = float(say.max())  # float32 holds what the kernel adds up
    say = (say / most).to(device)
    for chunk in chunks:
        outputs = evaluate([network], chunk).detach()
        sign = torch.randint(0, 2, outputs.shape, generator=signs).to(outputs) * 2 - 1
        kernel.backward(network, chunk, outputs - sign * say, torch.ones(len(chunk), 1, device=device), True)
        count += outputs.numel()
        for name, parameter in network_tensors(network).items():
            # the gradient of the mean of (output - target)^2 is 2 / outputs * sum(sign * slope)
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad  # of no placed grids there is none
            slopes = gradient.detach().double().cpu().numpy() * (outputs.numel() / 2)
            sums[name] = sums[name] + slopes**2
    return {name: total * (most**2 / max(count, 1)) for name, total in sums.items()}


def rounding_steps(
    network: Network, points: torch.Tensor, errors: tuple[float, ...], share: float, feature_step: float = 0.0
) -> tuple[np.ndarray, ...]:
    """The rounding steps of each block of `number_blocks(network.config)`, as `time_coding.pack_tensors` takes them.

    Args:
        network, points: See `mean_squared_slopes`.
        errors: Of each output, mean squared, relative to the range.
        share: What rounding may add, as a share of the errors.
        feature_step: Of all features, which were trained to be rounded so and have no part in `share`; 0: as the others.

    Returns:
        (lanes,) or (1,) float64 for each block.
    """
    slopes = mean_squared_slopes(network, points, tuple(max(error, LEAST_ERROR) for error in errors))
    sharing = [s for name, s in slopes.items() if not (feature_step and name == "features")]
    each = share / sum(s.size for s in sharing)
    least = TINY * max(s.max(initial=0.0) for s in sharing) or 1.0
    steps = []
    for block in number_blocks(network.config):
        if feature_step and block.name == "features":
            steps.append(np.full(1, feature_step))
            continue
        lanes = block.read(slopes[block.name])
        mean = lanes.mean(keepdims=True).reshape(1) if block.one_step else lanes.mean(0)
        steps.append(np.sqrt(12 * each / np.maximum(mean, least)))
        if block.name == "transforms":
            steps[-1] = np.minimum(steps[-1], _most_of_transforms(network))
    return tuple(steps)


def _most_of_transforms(network: Network) -> np.ndarray:
    """(grids,) steps up to which a rounded transform has an inverse, also of a grid without effect: half of its smallest
    singular value, for what rounding adds to a 3 x 3 matrix is not longer than 3 / 2 steps."""
    matrices = network.transforms.detach().cpu().double().numpy()[:, :, :3]
    return np.maximum(np.linalg.svd(matrices, compute_uv=False).min(axis=1) / 2, TINY)
